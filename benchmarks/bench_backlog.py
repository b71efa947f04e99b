"""What a claim and a completion cost behind a long queue and after a long history: `python -m benchmarks.bench_backlog
[--quick]`.

In each turn one video comes in, the next in line is claimed, and it is completed, in one transaction of the real queue;
so the queue stays as long as it is, and what was read ahead is read anew. Beside it the schema of the first plan: one
table, one index, and the most urgent task looked for at each claim. CPU time is counted, and there is no fsync: it would
be most of every figure and the same in all. Then the real daemon is started on a long history, and the moment taken at
which the first work begins.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from benchmarks import measure
from benchmarks.daemon import running
from benchmarks.noop import STARTS
from gsvrd.clock import SystemClock
from gsvrd.daemon.beginning import DATABASE
from gsvrd.intake.identity import Identity
from gsvrd.model import NewTask, Priorities
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue

_SIZES = (1_000, 10_000, 100_000, 1_000_000)
_WAITING_AFTER_HISTORY = 1_000
_TURNS, _PLANNED_TURNS = 2_000, 5
_ROUNDS = 5
_PLANNED_INDEXES = ("status, created_at", "created_at")
_PLANNED_HEADS = tuple(f"one table, index on ({on})" for on in _PLANNED_INDEXES)
Turn = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Line:
    """How many tasks wait, and how many are done."""

    pending: int
    completed: int

    @property
    def title(self) -> str:
        """For the table."""
        return f"{self.pending:,} wait" + (f", {self.completed:,} are done" if self.completed else "")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="up to 100,000 tasks: to see that it works")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a directory on the disk to be measured")
    options = parser.parse_args()
    sizes = _SIZES[:3] if options.quick else _SIZES
    lines = [Line(size, 0) for size in sizes] + [Line(_WAITING_AFTER_HISTORY, sizes[-1])]
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name:
        measure.print_facts(Path(name))
        _claims(lines, Path(name))
        _starts(Path(name))


# -- claim and completion ------------------------------------------------------------------------------------------------


def _claims(lines: list[Line], folder: Path) -> None:
    ours = {line: _ours(line, folder / "ours.db") for line in lines}
    planned = [{line: _planned(line, on, folder / "planned.db") for line in lines} for on in _PLANNED_INDEXES]
    base = statistics.median(ours[lines[1]])
    rows = [
        (
            line.title,
            measure.spread(ours[line]),
            f"{statistics.median(ours[line]) / base:.2f} x",
            *(measure.spread(by_line[line]) for by_line in planned),
        )
        for line in lines
    ]
    heads = ("tasks", "gsvrd, CPU µs a turn: median (least-most)", "beside 10,000 that wait", *_PLANNED_HEADS)
    measure.print_table(heads, [*rows, ("goal", "", "<= 1.30 x", "", "")])


def _ours(line: Line, path: Path) -> list[float]:
    """CPU µs a turn, round by round."""
    db = open_database(path, create=True)
    _fill(db, line)
    db.execute("PRAGMA synchronous = OFF")
    queue = TaskQueue(db, SystemClock(), Priorities())
    try:
        return _timed(partial(_turn, queue, random.Random(1)), _TURNS)
    finally:
        db.close()
        _remove(path)


def _turn(queue: TaskQueue, chance: random.Random, number: int) -> None:
    queue.add(NewTask(b"/inbox/new", "new", 1, -number, chance.choice((10, 10**9)), 1))
    task = queue.ready()
    if task is None:
        raise RuntimeError("nothing waits")
    queue.complete(task.id, queue.claim(task, 1))
    queue.commit()


def _fill(conn: sqlite3.Connection, line: Line) -> None:
    """Rows as the daemon leaves them, of several priorities; each completed one with its attempt and its events."""
    chance, now = random.Random(1), time.time()
    done = ((number, chance.random() * 1e6) for number in range(1, line.completed + 1))
    waiting = ((number + line.completed, chance.choice((-5, 0, 5))) for number in range(1, line.pending + 1))
    with conn:
        conn.executemany(_DONE, ((i, b"/archive/%d.mp4" % i, f"{i}.mp4", i, now - age, f"{i}.md") for i, age in done))
        conn.execute(
            "INSERT INTO attempts (task, number, started_at, ended_at, outcome)"
            " SELECT id, 1, changed_at, changed_at, 'succeeded' FROM tasks WHERE state = 'completed'"
        )
        conn.execute(
            "INSERT INTO events (task, at, actor, change, state, attempt, why)"
            " SELECT id, changed_at, 'daemon', what, state, 1, '' FROM tasks,"
            " (SELECT 'claim' AS what UNION SELECT 'complete') WHERE tasks.state = 'completed'"
        )
        conn.executemany(
            _WAITING,
            ((i, b"/inbox/%d.mp4" % i, f"{i}.mp4", i, priority, now + 60 * priority) for i, priority in waiting),
        )
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_DONE = """
INSERT INTO tasks (id, path, name, dev, ino, size, mtime_ns, home, state, attempt, spent, priority, rank, created_at,
    report, outcome, change, changed_at, changed_by)
VALUES (?1, ?2, ?3, 1, ?4, 1000, 1, 'archive', 'completed', 1, 1, 0, ?5, ?5, ?6, 'succeeded', 'complete', ?5, 'daemon')
"""
_WAITING = """
INSERT INTO tasks (id, path, name, dev, ino, size, mtime_ns, state, priority, rank, created_at, change, changed_at,
    changed_by)
VALUES (?1, ?2, ?3, 1, ?4, 1000, 1, 'pending', ?5, ?6, ?6, 'add', ?6, 'daemon')
"""


def _planned(line: Line, on: str, path: Path) -> list[float]:
    """The same by the plan: no partial index, no rank."""
    chance = random.Random(1)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute(
            "CREATE TABLE tasks (task_id INTEGER PRIMARY KEY, input TEXT, status TEXT, priority INTEGER,"
            " created_at REAL, started_at REAL, completed_at REAL, result TEXT)"
        )
        conn.execute(f"CREATE INDEX planned ON tasks({on})")
        conn.execute("BEGIN")
        states = (("completed",) * line.completed, ("pending",) * line.pending)
        rows = ((state, chance.choice((-5, 0, 5)), chance.random()) for part in states for state in part)
        conn.executemany("INSERT INTO tasks (status, priority, created_at) VALUES (?, ?, ?)", rows)
        conn.execute("COMMIT")
        taken = _timed(partial(_planned_turn, conn), _PLANNED_TURNS)
    _remove(path)
    return taken


def _planned_turn(conn: sqlite3.Connection, number: int) -> None:
    conn.execute("BEGIN IMMEDIATE")
    conn.execute("INSERT INTO tasks (status, priority, created_at) VALUES ('pending', 0, ?)", (number,))
    (task,) = conn.execute(
        "SELECT task_id FROM tasks WHERE status = 'pending' ORDER BY priority DESC, created_at LIMIT 1"
    ).fetchone()
    conn.execute("UPDATE tasks SET status = 'running' WHERE task_id = ?", (task,))
    conn.execute("UPDATE tasks SET status = 'completed', completed_at = ? WHERE task_id = ?", (number, task))
    conn.execute("COMMIT")


def _timed(turn: Turn, turns: int) -> list[float]:
    """CPU µs a turn in each of a few rounds; a first one warms up."""
    taken, numbers = [], iter(range(1, turns * (_ROUNDS + 1) + 1))
    for _ in range(_ROUNDS + 1):
        began = time.process_time()
        for _ in range(turns):
            turn(next(numbers))
        taken.append((time.process_time() - began) / turns * 1e6)
    return taken[1:]


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


# -- the start -----------------------------------------------------------------------------------------------------------


def _starts(folder: Path) -> None:
    empty = _start(folder / "empty", Line(1, 0))
    full = _start(folder / "full", Line(1_000, 100_000))
    heads = ("start of the daemon, ms since its process began", "1 waits", "1,000 wait, 100,000 are done", "goal")
    rows = [(what, f"{empty[what]:,.0f}", f"{full[what]:,.0f}", goal) for what, goal in _MOMENTS]
    measure.print_table(heads, rows)


_MOMENTS = (("imports done, first log line", ""), ("ready", ""), ("the first work begins", "1,000"))


def _start(home: Path, line: Line) -> dict[str, float]:
    """The moments of a start on such a database, the sources of what waits being there."""
    home.mkdir()
    with running(home, "benchmarks.noop:make_noted_report"):
        pass  # makes the directories and the database, and warms the disk's cache
    _lay_out(home, line)
    (home / "log").unlink()
    began_wall, began = time.time(), time.monotonic_ns()
    with running(home, "benchmarks.noop:make_noted_report") as daemon:
        starts = home / "state" / STARTS
        measure.await_that(lambda: starts.exists() and b"\n" in starts.read_bytes(), 60)
        daemon.await_archived(line.pending + line.completed, 120)
    first = int(starts.read_text().split("\n", 1)[0].rsplit(" ", 1)[1])
    events = [json.loads(text) for text in (home / "log").read_text().splitlines() if text.startswith("{")]
    told = {event["event"]: _wall(event) for event in reversed(events)}
    moments = (min(map(_wall, events)) - began_wall, told["ready"] - began_wall, (first - began) / 1e9)
    return {what: moment * 1000 for (what, _), moment in zip(_MOMENTS, moments, strict=True)}


def _wall(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def _lay_out(home: Path, line: Line) -> None:
    with closing(open_database(home / "state" / DATABASE, create=True)) as db:
        _fill(db, Line(0, line.completed))
        queue = TaskQueue(db, SystemClock())
        for new in _sources(home / "inbox", line.pending):
            queue.add(new)
        queue.commit()


def _sources(inbox: Path, count: int) -> Iterable[NewTask]:
    for number in range(count):
        path = inbox / f"{number}.mp4"
        path.write_bytes(b"not really a video\n")
        known = Identity.of(os.lstat(path))
        yield NewTask(os.fsencode(path), path.name, known.dev, known.ino, known.size, known.mtime_ns)


if __name__ == "__main__":
    main()
