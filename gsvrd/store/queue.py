"""TaskQueue: one statement a transition, one transaction a turn.

The daemon's loop calls the transition methods while it works; each appends to a journal in memory. `commit()` writes the
journal in one `BEGIN IMMEDIATE`, so under load one fsync serves many tasks and alone each change is durable at once.
Every statement is guarded by id, state and attempt: when no row answers, somebody else was first (an operator's cancel,
say), and the statement's `on_lost` is called after the commit.

A task may be handed to a worker before its claim is committed. That is safe: until the commit nothing it does has an
effect outside its own temporary directory, and if the daemon dies there the row is simply still pending.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from operator import attrgetter, itemgetter

import msgspec

from gsvrd.clock import Clock
from gsvrd.crashpoints import reach_any
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import REMOTE_STAGE, Home, NewTask, OutcomeKind, Priorities, Task, TaskState
from gsvrd.store.schema import HELD, STRANDED

OnLost = Callable[[], None]
OnDone = Callable[[], None]
OnRow = Callable[[int], None]
May = Callable[[Task, Task], bool]
"""Whether a task may start, and the first in line, which may be the same."""

_TASK_COLUMNS = (
    "id, path, name, dev, ino, size, mtime_ns, attempt, spent, deaths, priority, created_at, report, home, batch, "
    "options, key, url"
)

_ANALYSES_MOST, _PRUNE_EVERY = 2000, 100
"""About so many are remembered, at 20 to 50 KB each; looked after so many tasks."""
# A file that is known already may have another name by now.
_ADD = """
INSERT INTO tasks
    (path, name, dev, ino, size, mtime_ns, state, priority, rank, created_at, change, changed_at, changed_by, why, batch,
     options, url)
VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, 'add', ?, ?, ?, ?, ?, ?)
ON CONFLICT (ino, size, mtime_ns) WHERE home IN ('inbox', 'kept')
    DO UPDATE SET path = excluded.path, name = excluded.name, dev = excluded.dev
    WHERE path <> excluded.path OR dev <> excluded.dev
"""
_ADD_ELSEWHERE = """
INSERT OR IGNORE INTO tasks
    (path, name, dev, ino, size, mtime_ns, home, state, priority, rank, created_at, change, changed_at, changed_by, why,
     batch, options, url)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, iif(?1 = x'', 'link', 'elsewhere'), 'pending', ?7, ?8, ?9, 'add', ?10, ?11, ?12, ?13, ?14,
    ?15)
"""
# A folder is refused once, though its size and time change with what is in it.
_REFUSE = """
INSERT OR IGNORE INTO tasks
    (path, name, dev, ino, size, mtime_ns, state, priority, rank, created_at, change, changed_at, changed_by, why,
     outcome, error)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, 'failed', 0, 0, ?7, 'refuse', ?8, ?9, ?10, 'failed', ?11
WHERE NOT EXISTS (
    SELECT 1 FROM tasks WHERE home IN ('inbox', 'kept') AND ino = ?4 AND path = ?1 AND state = 'failed' AND change = 'refuse'
)
"""
_CLAIM = """
UPDATE tasks SET state = 'running', attempt = attempt + 1, worker = ?, outcome = NULL, error = NULL,
    change = 'claim', changed_at = ?, changed_by = ?, why = ''
WHERE id = ? AND state = 'pending' AND attempt = ?
"""
_COMPLETE = """
UPDATE tasks SET state = 'completed', outcome = 'succeeded', error = NULL, sha256 = coalesce(?, sha256), worker = NULL,
    change = 'complete', changed_at = ?, changed_by = ?, why = ?
WHERE id = ? AND state = 'running' AND attempt = ?
"""
_FAIL = """
UPDATE tasks SET state = 'failed', outcome = ?, error = ?, sha256 = coalesce(?, sha256), spent = spent + 1,
    deaths = deaths + ?, report = NULL, worker = NULL, owes_record = home = 'elsewhere',
    change = 'fail', changed_at = ?, changed_by = ?, why = ?
WHERE id = ? AND state = 'running' AND attempt = ?
"""
_RETRY = """
UPDATE tasks SET state = 'pending', outcome = ?, error = ?, spent = spent + 1, deaths = deaths + ?,
    priority = ?, rank = created_at + ? * ?, due_at = ?, worker = NULL,
    change = 'retry', changed_at = ?, changed_by = ?, why = ?
WHERE id = ? AND state = 'running' AND attempt = ?
"""
_RELEASE = """
UPDATE tasks SET state = 'pending', outcome = ?, error = ?, due_at = ?, report = iif(?, NULL, report), worker = NULL,
    change = 'release', changed_at = ?, changed_by = ?, why = ?
WHERE id = ? AND state = 'running' AND attempt = ?
"""
_CANCEL = """
UPDATE tasks SET state = 'cancelled', outcome = iif(state = 'running', 'cancelled', outcome), due_at = NULL,
    worker = NULL, change = 'cancel', changed_at = ?, changed_by = ?, why = ?
WHERE id = ? AND state IN ('pending', 'running')
"""
_REQUEUE = """
UPDATE tasks SET state = 'pending', outcome = NULL, error = NULL, spent = 0, deaths = 0, due_at = NULL, owes_record = 0,
    change = 'requeue', changed_at = ?, changed_by = ?, why = ?
WHERE id = ? AND state IN ('failed', 'cancelled')
"""
_ABANDONED = """
UPDATE tasks SET state = 'pending', outcome = 'died', error = ?, due_at = NULL, worker = NULL,
    change = 'release', changed_at = ?, changed_by = ?, why = 'the daemon ended while this ran'
WHERE state = 'running'
"""
# A cancelled task keeps the name of its report, until somebody has seen to it that no such report is in place.
_WITHDRAWN = "UPDATE tasks SET report = NULL WHERE id = ? AND state = 'cancelled'"
# An operator who tries poison again means all of it.
_FORGIVE = """
UPDATE tasks SET deaths = 0
WHERE deaths > 0 AND sha256 = (SELECT sha256 FROM tasks WHERE id = ? AND state IN ('failed', 'cancelled'))
"""
_KNOW = "UPDATE tasks SET sha256 = ? WHERE id = ? AND state = 'running' AND attempt = ?"
_SET_OPTIONS = "UPDATE tasks SET options = ? WHERE id = ? AND state = 'pending'"
# The new batch may be held, or the old one may have been.
_ASK_FOR = f"""
UPDATE tasks SET batch = ?1, options = ?2, priority = priority + ?3, rank = rank + ?4,
    due_at = CASE WHEN (SELECT hold FROM batches WHERE id = ?1) <> '' THEN {HELD}
        WHEN due_at = {HELD} THEN NULL ELSE due_at END
WHERE path = ?5 AND home = 'inbox' AND state = 'pending'
"""  # noqa: S608 (a constant)
# Each by the index that keeps it unique.
_MET = """
SELECT state, ifnull(reused, ifnull(report, '')) FROM tasks WHERE batch = ? AND ino = ? AND size = ? AND mtime_ns = ?
"""
_MET_ELSEWHERE = f"{_MET} AND home = 'elsewhere'"
_MET_LINK = f"{_MET} AND home = 'link'"
_TAKEN_AWAY = """
SELECT name, state, ifnull(reused, ifnull(report, '')) FROM tasks
WHERE batch = ? AND home IN ('archive', 'failed', 'gone') AND state <> 'cancelled' ORDER BY id
"""
_EXPECT = "INSERT OR REPLACE INTO expected (path, batch, options) VALUES (?, ?, ?)"
_EXPECT_NO_MORE = "DELETE FROM expected WHERE path = ?"
# Whoever holds a batch for one reason leaves alone what another has held for another.
_SUSPEND = """
UPDATE batches SET hold = ?1 WHERE id = ?2 AND hold <> ?1 AND (hold = '' OR substr(hold, 1, length(?3)) = ?3)
"""
_LET_GO = "UPDATE batches SET hold = ?1 WHERE id = ?2 AND substr(hold, 1, length(?3)) = ?3"
_REST_SAYS = """
SELECT b.name, t.options FROM batches b JOIN tasks t ON t.batch = b.id WHERE b.id = ? ORDER BY t.id DESC LIMIT 1
"""
_SECOND_CHANCE = """
SELECT id, options FROM tasks
WHERE batch = ? AND state = 'failed' AND change = 'fail' AND home IN ('failed', 'elsewhere', 'link')
    AND NOT EXISTS (SELECT 1 FROM events e WHERE e.task = tasks.id AND e.change = 'requeue' AND e.actor = 'daemon')
"""
_WANT = "UPDATE tasks SET key = ? WHERE id = ? AND state = 'running' AND attempt = ?"
_REUSE = "UPDATE tasks SET reused = ?, report = NULL WHERE id = ? AND state = 'running' AND attempt = ?"
_KNOWN = """
SELECT a.result, t.report FROM analyses a LEFT JOIN tasks t ON t.id = a.task AND t.state = 'completed' WHERE a.key = ?
"""
# Only what was found out with the key that the task has now: options may have changed between two attempts.
_REMEMBER = """
INSERT INTO analyses (key, task, made_at, result)
SELECT t.key, t.id, ?, s.result FROM tasks t JOIN stages s ON s.task = t.id AND s.stage = 'analyze'
WHERE t.id = ? AND t.state = 'completed' AND t.key IS NOT NULL
ON CONFLICT (key) DO UPDATE SET task = excluded.task, made_at = excluded.made_at, result = excluded.result
"""
_FORGET_ANALYSES = f"""
DELETE FROM analyses WHERE made_at < (SELECT made_at FROM analyses ORDER BY made_at DESC LIMIT 1 OFFSET {_ANALYSES_MOST})
"""  # noqa: S608 (a constant)
_BATCH = "INSERT INTO batches (id, name, kind, created_at) VALUES (?, ?, ?, ?)"
_HOLD = "UPDATE batches SET hold = ? WHERE id = ? AND hold <> ?"
_FREE = "UPDATE batches SET hold = '' WHERE substr(hold, 1, length(?)) = ?"
_WAKE = "UPDATE tasks SET due_at = NULL WHERE id = ? AND state = 'pending' AND due_at < ?"
_HURRY = f"UPDATE tasks SET due_at = NULL WHERE state = 'pending' AND change = 'release' AND due_at < {HELD}"  # noqa: S608
_PROMOTE = "UPDATE tasks SET due_at = NULL WHERE state = 'pending' AND due_at <= ?"
_ADVANCE = "UPDATE tasks SET due_at = due_at - ? WHERE state = 'pending' AND due_at < ?"
_RESERVE = "UPDATE tasks SET report = ?, reused = NULL WHERE id = ? AND state = 'running' AND attempt = ?"
_MOVED = "UPDATE tasks SET home = ?, path = coalesce(?, path), owes_record = 0 WHERE id = ?"
_LEAVE_BATCH = "UPDATE tasks SET batch = NULL WHERE id = ? AND state = 'cancelled' AND home = 'gone'"
_PROGRESS = "UPDATE attempts SET stage = ?, fraction = ? WHERE task = ? AND number = ? AND ended_at IS NULL"
_KEEP = """
INSERT INTO stages (task, stage, attempt, made_at, result)
SELECT id, ?, attempt, ?, ? FROM tasks WHERE id = ? AND state = 'running' AND attempt = ?
ON CONFLICT (task, stage) DO UPDATE SET attempt = excluded.attempt, made_at = excluded.made_at, result = excluded.result
"""
_FORGET = """
DELETE FROM stages WHERE task = ?1 AND stage = ?3
    AND EXISTS (SELECT 1 FROM tasks WHERE id = ?1 AND state = 'running' AND attempt = ?2)
"""
_HAS_ENDED = "(SELECT state FROM tasks WHERE id = stages.task) NOT IN ('pending', 'running')"
# What lies at a service has to be taken away first; `tidied` deletes its row.
_FORGET_STAGES = f"DELETE FROM stages WHERE task = ? AND stage <> '{REMOTE_STAGE}'"  # noqa: S608 (a constant)
_FORGET_ENDED_STAGES = f"DELETE FROM stages WHERE stage <> '{REMOTE_STAGE}' AND {_HAS_ENDED}"  # noqa: S608
_LEFTOVER = f"""
SELECT task, result FROM stages WHERE stage = '{REMOTE_STAGE}' AND {_HAS_ENDED} ORDER BY task <= ?, task LIMIT 1
"""  # noqa: S608
_TIDIED = f"DELETE FROM stages WHERE task = ? AND stage = '{REMOTE_STAGE}' AND {_HAS_ENDED}"  # noqa: S608
_SET = """
INSERT INTO service (key, value, changed_at) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at
"""

_values = attrgetter("path", "name", "dev", "ino", "size", "mtime_ns")
"""The first columns of a new row. `dataclasses.astuple` copies each value: it costs as much as the insertion itself."""

_WINDOW_MIN, _WINDOW_MAX = 8, 512
LOOK_AHEAD = 40
"""So many tasks in line are looked at for one that may start, when the first may not."""


@dataclass(slots=True)
class _Window:
    """The next tasks in line, read ahead; thrown away whenever the order may have changed."""

    tasks: deque[Task] = field(default_factory=deque)
    handed: set[int] = field(default_factory=set)
    """Given out in this turn, claim not committed yet."""
    stale: bool = True
    exhausted: bool = False
    refused: bool = False
    """None of the first ones may start now."""


@dataclass(frozen=True, slots=True)
class Stranded:
    """An ended task whose source was not taken away."""

    task: Task
    state: TaskState
    sha256: str
    error: ErrorFacts | None


@dataclass(frozen=True, slots=True)
class Rest:
    """A batch of which nothing waits or runs."""

    name: str
    counts: dict[str, int]
    """Tasks by state."""
    ended_at: float
    options: str
    """Of its newest task."""
    failed: list[tuple[int, str]]
    """Number and options of failed tasks that this program has not tried again by itself, and whose file is there."""


class TaskQueue:
    """The durable queue, owned by one thread of one process.

    Transition methods take the figures of the attempt they are about; they do not touch the disk. Only `commit`, `ready`
    and the reading methods do, and may raise `sqlite3.Error`; a failed commit keeps the journal for the next try.
    """

    def __init__(
        self, conn: sqlite3.Connection, clock: Clock, priorities: Priorities | None = None, actor: str = "daemon"
    ) -> None:
        self._conn = conn
        self._clock = clock
        self.priorities = priorities or Priorities()
        self._actor = actor
        self._journal: list[tuple[str, tuple[object, ...], OnLost | None, OnRow | None]] = []
        self._window = _Window()
        self._left_out: frozenset[int] = frozenset()
        self._data_version = 0
        self._next_due: float | None = None
        self._due_known = False
        self._reserved: set[str] = set()
        self._staged: set[int] = set()
        """Tasks with rows in `stages`, as far as this process had to do with them."""
        self._remote: set[int] = set()
        """Those of them that have left something at a service."""
        self._has_leftovers = True
        """Whether a task may have ended so, since somebody last looked."""
        self._leaves = False
        """The same, once the journal is committed."""

    # -- reading -----------------------------------------------------------------------------------------------------

    def ready(self, may: May | None = None) -> Task | None:
        """The next task in line, to be claimed in this turn; None when nothing waits for a worker.

        `may` is asked whether a task may start, with the first in line; of the first 40 the first is given that may.
        """
        window = self._window
        window.refused = False
        if not window.tasks and not (window.exhausted and not window.stale):
            self._read_ahead()
        if not window.tasks:
            return None
        index = 0 if may is None else self._first_that(may)
        if index is None:
            window.refused = True
            return None
        task = window.tasks[index]
        del window.tasks[index]
        window.handed.add(task.id)
        return task

    def _first_that(self, may: May) -> int | None:
        window, seen = self._window, 0
        while True:
            head = window.tasks[0]
            for index, task in enumerate(islice(window.tasks, seen, LOOK_AHEAD), seen):
                if may(task, head):
                    return index
            seen = len(window.tasks)
            if seen >= LOOK_AHEAD or window.exhausted:
                return None
            self._read_ahead(LOOK_AHEAD)

    def leave_out(self, batches: frozenset[int]) -> None:
        """`ready` gives no task of these batches."""
        if batches != self._left_out:
            self._left_out = batches
            self._window.tasks.clear()
            self._window.stale = True

    def _read_ahead(self, least: int = _WINDOW_MIN) -> None:
        window = self._window
        handed = len(window.handed)
        limit = min(_WINDOW_MAX, max(least, 2 * handed))
        rows = self._conn.execute(
            f"SELECT {_TASK_COLUMNS} FROM tasks WHERE state = 'pending' AND due_at IS NULL"  # noqa: S608 (constants)
            f"{_but(self._left_out)} ORDER BY rank, id LIMIT ?",
            (limit + handed,),
        ).fetchall()
        window.tasks = deque(Task(*row) for row in rows if row[0] not in window.handed)
        window.exhausted = len(rows) < limit + handed
        window.stale = False

    @property
    def is_unread(self) -> bool:
        """Whether `ready` may know of more than it has said: worth a call when a worker is free."""
        window = self._window
        return window.stale or (not window.refused and (bool(window.tasks) or not window.exhausted))

    def in_line(self, most: int) -> list[tuple[int, str, int]]:
        """What could start now, at the most so many tasks: batch (0 is none), options, and how many are alike."""
        rows = self._conn.execute(
            "SELECT ifnull(batch, 0) AS batch, options, count(*) FROM (SELECT batch, options FROM tasks"  # noqa: S608
            f" WHERE state = 'pending' AND due_at IS NULL{_but(self._left_out)} ORDER BY rank, id LIMIT ?)"
            " GROUP BY 1, 2",
            (most,),
        )
        return list(rows)

    def next_due(self) -> float | None:
        """Wall time at which the next waiting task becomes ready; None when none waits."""
        if not self._due_known:
            self._next_due = self._conn.execute(
                "SELECT min(due_at) FROM tasks WHERE state = 'pending' AND due_at IS NOT NULL AND due_at < ?", (HELD,)
            ).fetchone()[0]
            self._due_known = True
        return self._next_due

    def look(self) -> bool:
        """True when another process has committed since the last look: the order in line may be another one."""
        version = self._conn.execute("PRAGMA data_version").fetchone()[0]
        changed = bool(version != self._data_version)
        if changed:
            self._data_version = version
            self._has_leftovers = True
            self._forget_window()
        return changed

    def kept(self, task: int) -> dict[str, bytes]:
        """Results of the finished stages of `task`, as JSON, by stage."""
        stages = dict(self._conn.execute("SELECT stage, result FROM stages WHERE task = ?", (task,)).fetchall())
        if stages:
            self._staged.add(task)
        if REMOTE_STAGE in stages:
            self._remote.add(task)
        return stages

    def kept_everywhere(self, stage: str) -> list[bytes]:
        """The results of `stage` that unfinished tasks keep, as JSON."""
        rows = self._conn.execute(
            f"SELECT result FROM stages WHERE stage = ? AND NOT {_HAS_ENDED}",  # noqa: S608 (a constant)
            (stage,),
        ).fetchall()
        return [row[0] for row in rows]

    def contents_running(self) -> list[str]:
        """SHA-256 of what running tasks study, as far as it is known; at start, of those a dead daemon had in hand."""
        rows = self._conn.execute("SELECT sha256 FROM tasks WHERE state = 'running' AND sha256 IS NOT NULL").fetchall()
        return [row[0] for row in rows]

    def leftover(self, after: int) -> tuple[int, bytes] | None:
        """An ended task that has left something at a service, the next one after number `after`, and what it kept."""
        if not self._has_leftovers:
            return None
        row = self._conn.execute(_LEFTOVER, (after,)).fetchone()
        self._has_leftovers = row is not None
        return row and (int(row[0]), bytes(row[1]))

    def still_running(self, task: int, attempt: int) -> bool:
        """Whether this attempt is the current one, as far as the disk knows."""
        row = self._conn.execute(
            "SELECT 1 FROM tasks WHERE id = ? AND state = 'running' AND attempt = ?", (task, attempt)
        ).fetchone()
        return row is not None

    def place_of(self, task: int) -> tuple[bytes, Home]:
        """Where the source of a task was seen last, and whose folder that is."""
        path, home = self._conn.execute("SELECT path, home FROM tasks WHERE id = ?", (task,)).fetchone()
        return bytes(path), Home(home)

    def deaths_of(self, task: int, sha256: str = "") -> int:
        """How many workers the content of a task has felled, whatever its files were called."""
        row = self._conn.execute("SELECT sha256, deaths FROM tasks WHERE id = ?", (task,)).fetchone()
        content = sha256 or row[0]
        if not content:
            return int(row[1])
        of_content = "SELECT coalesce(sum(deaths), 0) FROM tasks WHERE sha256 = ? AND deaths > 0 AND id <> ?"
        return int(row[1]) + int(self._conn.execute(of_content, (content, task)).fetchone()[0])

    def withdrawals(self) -> list[Task]:
        """Cancelled tasks of which nobody knows whether a report is in place."""
        rows = self._conn.execute(
            f"SELECT {_TASK_COLUMNS} FROM tasks WHERE state = 'cancelled' AND report IS NOT NULL"  # noqa: S608 (a constant)
        ).fetchall()
        return [Task(*row) for row in rows]

    def batches(self) -> list[tuple[int, str, str, str]]:
        """Number, kind and name of every batch, oldest first, and why it is held."""
        return list(self._conn.execute("SELECT id, kind, name, hold FROM batches ORDER BY id"))

    def name_taken(self, report: str) -> bool:
        """Whether another task has this report name, in the database or in the journal."""
        if report in self._reserved:
            return True
        return self._conn.execute("SELECT 1 FROM tasks WHERE report = ?", (report,)).fetchone() is not None

    def stranded(self) -> list[Stranded]:
        """Ended tasks whose source is not where it belongs: a crash came before the move."""
        rows = self._conn.execute(
            f"SELECT state, sha256, error, {_TASK_COLUMNS} FROM tasks WHERE {STRANDED}"  # noqa: S608 (constants)
        ).fetchall()
        return [
            Stranded(Task(*row[3:]), TaskState(row[0]), row[1] or "", _facts(row[2]) if row[2] else None)
            for row in rows
        ]

    def pending_of(self, batch: int) -> list[Task]:
        """Tasks of a batch that wait."""
        rows = self._conn.execute(
            f"SELECT {_TASK_COLUMNS} FROM tasks WHERE batch = ? AND state = 'pending'",  # noqa: S608 (a constant)
            (batch,),
        ).fetchall()
        return [Task(*row) for row in rows]

    def rest_of(self, batch: int) -> Rest | None:
        """How a batch stands of which nothing waits or runs; None when something does, or nothing ever did."""
        rows = self._conn.execute(
            "SELECT state, count(*), max(changed_at) FROM tasks WHERE batch = ? GROUP BY state", (batch,)
        ).fetchall()
        counts = {state: number for state, number, _ in rows}
        if not counts or TaskState.PENDING in counts or TaskState.RUNNING in counts:
            return None
        name, options = self._conn.execute(_REST_SAYS, (batch,)).fetchone()
        failed = self._conn.execute(_SECOND_CHANCE, (batch,)).fetchall()
        return Rest(name, counts, max(row[2] for row in rows), options, failed)

    def is_live(self, task: int) -> bool:
        """Whether a task is pending or running."""
        row = self._conn.execute("SELECT state FROM tasks WHERE id = ?", (task,)).fetchone()
        return row is not None and row[0] in (TaskState.PENDING, TaskState.RUNNING)

    def failed_below(self, folder: bytes) -> list[tuple[int, bytes, tuple[int, int, int, int]]]:
        """Failed tasks whose source was moved to failed/ and whose path is below `folder` all the same.

        Number, path, and device, inode, size and time of the file.
        """
        rows = self._conn.execute(
            "SELECT id, path, dev, ino, size, mtime_ns FROM tasks"
            " WHERE state = 'failed' AND home = 'failed' AND substr(path, 1, ?) = ?",
            (len(folder) + 1, folder + b"/"),
        )
        return [(row[0], bytes(row[1]), row[2:]) for row in rows]

    def running(self) -> list[Task]:
        """Tasks in state running; at start, those of a daemon that died."""
        rows = self._conn.execute(
            f"SELECT {_TASK_COLUMNS} FROM tasks WHERE state = 'running'"  # noqa: S608 (a constant)
        ).fetchall()
        return [Task(*row) for row in rows]

    def waiting(self) -> list[Task]:
        """Tasks in state pending, whatever they wait for."""
        rows = self._conn.execute(
            f"SELECT {_TASK_COLUMNS} FROM tasks WHERE state = 'pending'"  # noqa: S608 (a constant)
        ).fetchall()
        return [Task(*row) for row in rows]

    def service(self, key: str) -> object:
        """What was stored under `key` by `set_service`; None when nothing was."""
        row = self._conn.execute("SELECT value FROM service WHERE key = ?", (key,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    # -- transitions -------------------------------------------------------------------------------------------------

    def add(
        self,
        new: NewTask,
        why: str = "",
        batch: int | None = None,
        options: str = "{}",
        points: int = 0,
        *,
        elsewhere: bool = False,
    ) -> None:
        """A settled video enters; if its file is queued already, only its name is brought up to date.

        `points` are added to the priority its size gives it; `elsewhere`: it lies outside the inbox and stays there, or is a
        link that is no file at all.
        """
        now = self._clock.wall()
        priority = self.priorities.priority(new.size) + points
        rank = self.priorities.rank(priority, now)
        values = (*_values(new), priority, rank, now, now, self._actor, why, batch, options, new.url or None)
        self._note(_ADD_ELSEWHERE if elsewhere else _ADD, values)

    def refuse(self, new: NewTask, error: ErrorFacts, on_row: OnRow) -> None:
        """Something that can never be a video is put on record as failed; `on_row` gets its number if it is new."""
        now = self._clock.wall()
        self._note(_REFUSE, (*_values(new), now, now, self._actor, error.message, _json(error)), on_row=on_row)

    def claim(self, task: Task, worker: int, on_lost: OnLost | None = None) -> int:
        """A worker gets it; returns the number of the attempt."""
        self._note(_CLAIM, (worker, self._clock.wall(), self._actor, task.id, task.attempt), on_lost)
        return task.attempt + 1

    def complete(
        self,
        task: int,
        attempt: int,
        sha256: str = "",
        why: str = "",
        on_lost: OnLost | None = None,
        on_done: OnDone | None = None,
    ) -> None:
        """Its report is in place; `on_done` is called once that is on record."""
        values = (sha256 or None, self._clock.wall(), self._actor, why, task, attempt)
        self._note(_COMPLETE, values, on_lost, _whichever(on_done))
        if task in self._staged:
            self._note(_REMEMBER, (self._clock.wall(), task))
            if task % _PRUNE_EVERY == 0:
                self._note(_FORGET_ANALYSES, ())
        self._forget_stages(task)

    def fail(
        self,
        task: int,
        attempt: int,
        outcome: OutcomeKind,
        error: ErrorFacts,
        sha256: str = "",
        *,
        death: bool = False,
        on_done: OnDone | None = None,
    ) -> None:
        """Given up for good; `on_done` is called once that is on record, and not when somebody else was first."""
        now = self._clock.wall()
        values = (outcome, _json(error), sha256 or None, int(death), now, self._actor, error.message, task, attempt)
        self._note(_FAIL, values, on_row=_whichever(on_done))
        self._forget_stages(task)

    def retry(
        self, task: Task, attempt: int, outcome: OutcomeKind, error: ErrorFacts, delay_s: float, *, death: bool = False
    ) -> None:
        """The attempt is spent; another may start after `delay_s`."""
        now = self._clock.wall()
        priority = task.priority + self.priorities.retry_penalty
        why = f"{error.message}; next try in {delay_s:.0f} s"
        values = (outcome, _json(error), int(death), priority, priority, self.priorities.ageing_s)
        self._note(_RETRY, (*values, now + delay_s if delay_s > 0 else None, now, self._actor, why, task.id, attempt))

    def release(
        self,
        task: int,
        attempt: int,
        why: str,
        outcome: OutcomeKind = OutcomeKind.RELEASED,
        delay_s: float = 0.0,
        error: ErrorFacts | None = None,
        *,
        drop_name: bool = False,
    ) -> None:
        """Given back: shutdown, quota, trouble of the machine. The attempt does not count."""
        now = self._clock.wall()
        due = now + delay_s if delay_s > 0 else None
        facts = _json(error) if error else None
        self._note(_RELEASE, (outcome, facts, due, drop_name, now, self._actor, why, task, attempt))

    def cancel(self, task: int, why: str, on_lost: OnLost | None = None) -> None:
        """No longer wanted; the attempt number moves on with the next claim, so a late result is dropped."""
        self._note(_CANCEL, (self._clock.wall(), self._actor, why, task), on_lost)
        self._staged.add(task)  # by whichever process
        self._forget_stages(task)

    def supersede(self, task: int, why: str) -> None:
        """Another file has taken the place of its source: it is cancelled, and no video of its batch any more."""
        self.cancel(task, why)
        self.moved(task, Home.GONE)
        self._note(_LEAVE_BATCH, (task,))

    def requeue(self, task: int, why: str, on_lost: OnLost | None = None) -> None:
        """An operator tries again, from the start; what the content did to workers is forgotten."""
        self._note(_FORGIVE, (task,))
        self._note(_REQUEUE, (self._clock.wall(), self._actor, why, task), on_lost)

    def recover(self) -> None:
        """At start: what still says running belongs to a daemon that died, and is given back with that on record."""
        error = ErrorFacts(ErrorKind.CRASHED, "the daemon ended while this ran")
        self._note(_ABANDONED, (_json(error), self._clock.wall(), self._actor))
        self._note(_FORGET_ENDED_STAGES, ())
        self._note(_FORGET_ANALYSES, ())

    # -- what goes with an attempt -----------------------------------------------------------------------------------

    def keep(self, task: int, attempt: int, stage: str, result: bytes) -> None:
        """A finished stage of the current attempt is stored."""
        self._staged.add(task)
        if stage == REMOTE_STAGE:
            self._remote.add(task)
        self._note(_KEEP, (stage, self._clock.wall(), result, task, attempt))

    def forget(self, task: int, attempt: int, stage: str) -> None:
        """A stage's result is of no use any more."""
        if stage == REMOTE_STAGE:
            self._remote.discard(task)
        self._note(_FORGET, (task, attempt, stage))

    def tidied(self, task: int) -> None:
        """Nothing of an ended task lies at a service any more."""
        self._note(_TIDIED, (task,))

    def _forget_stages(self, task: int) -> None:
        if task in self._staged:
            self._staged.discard(task)
            self._leaves |= task in self._remote
            self._remote.discard(task)
            self._note(_FORGET_STAGES, (task,))

    def progress(self, task: int, attempt: int, stage: str, fraction: float) -> None:
        """How far an attempt is, for people."""
        self._note(_PROGRESS, (stage, round(fraction, 3), task, attempt))

    def reserve(self, task: int, attempt: int, report: str) -> None:
        """The report of this task gets this name, for good."""
        self._reserved.add(report)
        self._note(_RESERVE, (report, task, attempt))

    def moved(self, task: int, home: Home, path: bytes | None = None) -> None:
        """Its source file lies elsewhere now, at `path` if that is known; the same identity may enter again."""
        self._note(_MOVED, (home, path, task))

    def know(self, task: int, attempt: int, sha256: str) -> None:
        """The content of the current attempt's source."""
        self._note(_KNOW, (sha256, task, attempt))

    def want(self, task: int, attempt: int, key: str) -> None:
        """The current attempt is about to find out what `key` stands for."""
        self._note(_WANT, (key, task, attempt))

    def analysis_of(self, key: str) -> tuple[bytes, str | None] | None:
        """What was found out before, as JSON, and the name of the report made of it, if its task still has one."""
        row = self._conn.execute(_KNOWN, (key,)).fetchone()
        return None if row is None else (bytes(row[0]), row[1])

    def reuse(self, task: int, attempt: int, report: str) -> None:
        """The current attempt makes no report of its own: there is this one of the same content."""
        self._note(_REUSE, (report, task, attempt))

    def set_options(self, task: int, options: str) -> None:
        """What was said for a task that waits, anew."""
        self._note(_SET_OPTIONS, (options, task))
        self._keep_back(task)

    def _keep_back(self, task: int) -> None:
        """Not to be handed out before what was just noted is written."""
        self._window.handed.add(task)
        self._window.tasks.clear()
        self._window.stale = True

    def ask_for(self, path: bytes, batch: int, options: str, points: int) -> bool:
        """A manifest names this file of the inbox: one that waits gets batch, options and points.

        False when it is neither waiting nor still to come: it is being studied, or done.
        """
        row = self._conn.execute(
            "SELECT id, state FROM tasks WHERE path = ? AND home = 'inbox' ORDER BY id DESC LIMIT 1", (path,)
        ).fetchone()
        if row is not None and row[1] != TaskState.PENDING:
            return False
        self._note(_EXPECT, (path, batch, options))
        # Its own row may still be in the journal, before this.
        self._note(_ASK_FOR, (batch, options, points, points * self.priorities.ageing_s, path))
        if row is not None:
            self._keep_back(row[0])
        return True

    def met_before(self, batch: int, new: NewTask) -> tuple[str, str] | None:
        """State and report of the same link, or the same file outside the inbox, in a batch; None when it is new there."""
        sql = _MET_ELSEWHERE if new.path else _MET_LINK
        row = self._conn.execute(sql, (batch, new.ino, new.size, new.mtime_ns)).fetchone()
        return None if row is None else (row[0], row[1])

    def taken_away(self, batch: int) -> dict[str, tuple[str, str]]:
        """State and report of tasks of a batch whose files have left the inbox since, by name."""
        return {name: (state, report) for name, state, report in self._conn.execute(_TAKEN_AWAY, (batch,))}

    def expect(self, path: bytes, batch: int, options: str) -> None:
        """A manifest names a file outside the inbox: it is queued once it has settled."""
        self._note(_EXPECT, (path, batch, options))

    def expected(self) -> dict[bytes, tuple[int, str]]:
        """Batch and options of files that a manifest has named and that have not come yet, by path."""
        rows = self._conn.execute("SELECT path, batch, options FROM expected").fetchall()
        return {bytes(path): (batch, options) for path, batch, options in rows}

    def expect_no_more(self, path: bytes) -> None:
        """It has come."""
        self._note(_EXPECT_NO_MORE, (path,))

    def suspend_batch(self, number: int, why: str, kind: str) -> None:
        """Hold a batch unless it is held for something else; `kind` is how reasons of this kind begin."""
        self._note(_SUSPEND, (why, number, kind))

    def let_go(self, number: int, kind: str, why: str = "") -> None:
        """Let a batch go that is held for a reason that begins so, or hold it for another from now on."""
        self._note(_LET_GO, (why, number, kind))

    def knows(self, new: NewTask) -> bool:
        """Whether this very file is queued, whatever has become of its task."""
        row = self._conn.execute(
            "SELECT 1 FROM tasks WHERE ino = ? AND size = ? AND mtime_ns = ? AND home IN ('inbox', 'kept')",
            (new.ino, new.size, new.mtime_ns),
        ).fetchone()
        return row is not None

    def withdrawn(self, task: int) -> None:
        """There is no report of this cancelled task; its name is free."""
        self._note(_WITHDRAWN, (task,))

    def add_batch(self, number: int, name: str, kind: str) -> None:
        """A new batch, whose number the caller has chosen."""
        self._note(_BATCH, (number, name, kind, self._clock.wall()))

    def hold_batch(self, number: int, why: str) -> None:
        """Start no task of the batch, for this reason; with an empty one, start them again."""
        self._note(_HOLD, (why, number, why))

    def free_batches(self, why: str) -> None:
        """Start the tasks again of all batches whose reason begins so."""
        self._note(_FREE, (why, why))

    def wake(self, task: int) -> None:
        """What a task has waited for has come."""
        self._note(_WAKE, (task, HELD))

    def hurry(self) -> None:
        """What was given back for a while may come again at once: somebody has mended something."""
        self._note(_HURRY, ())

    def set_service(self, key: str, value: object) -> None:
        """Store a small fact about the service, for `gsvrctl` and the next start."""
        self._note(_SET, (key, msgspec.json.encode(value).decode(), self._clock.wall()))

    # -- the transaction ---------------------------------------------------------------------------------------------

    def _note(
        self, sql: str, values: tuple[object, ...], on_lost: OnLost | None = None, on_row: OnRow | None = None
    ) -> None:
        self._journal.append((sql, values, on_lost, on_row))

    def note(self, sql: str, values: tuple[object, ...]) -> None:
        """A statement of the ledger's, for the same transaction."""
        self._note(sql, values)

    @property
    def journalled(self) -> int:
        """How many statements wait for `commit`."""
        return len(self._journal)

    def clock_went_back(self, by_s: float) -> None:
        """The wall clock was set back: what waits for a time must not wait for so much longer."""
        self._note(_ADVANCE, (by_s, HELD))

    def promote(self) -> None:
        """Let tasks whose time has come join the line."""
        due = self.next_due()
        if due is not None and due <= (now := self._clock.wall()):
            self._note(_PROMOTE, (now,))

    def commit(self) -> None:
        """Write the journal in one durable transaction, then the callbacks: `on_lost` where no row answered.

        Raises `sqlite3.Error` with nothing written; the journal is kept and the next commit tries it again.
        """
        if not self._journal:
            return
        calls: list[Callable[[], None]] = []
        cursor = self._conn.cursor()
        execute = cursor.execute
        try:
            execute("BEGIN IMMEDIATE")
            for sql, values, on_lost, on_row in self._journal:
                execute(sql, values)
                if on_lost is not None and cursor.rowcount == 0:
                    calls.append(on_lost)
                elif on_row is not None and cursor.rowcount:
                    calls.append(partial(on_row, cursor.lastrowid or 0))
            self._reach(_UNCOMMITTED)
            execute("COMMIT")
        except sqlite3.Error:
            if self._conn.in_transaction:
                execute("ROLLBACK")
            raise
        self._reach(_COMMITTED)
        self._after_commit()
        for call in calls:
            call()

    def _reach(self, points: Mapping[str, str]) -> None:
        reach_any(points, map(itemgetter(0), self._journal))

    def _after_commit(self) -> None:
        reordered = not _REORDERING.isdisjoint(map(itemgetter(0), self._journal))
        self._journal.clear()
        self._reserved.clear()
        self._has_leftovers |= self._leaves
        self._leaves = False
        self._window.handed.clear()
        if reordered:
            self._forget_window()

    def _forget_window(self) -> None:
        self._window.tasks.clear()
        self._window.stale = True
        self._due_known = False


_REORDERING = frozenset(
    {
        *(
            _ADD,
            _ADD_ELSEWHERE,
            _RETRY,
            _RELEASE,
            _CANCEL,
            _REQUEUE,
            _ABANDONED,
            _PROMOTE,
            _HOLD,
            _FREE,
            _SUSPEND,
            _LET_GO,
        ),
        *(_HURRY, _ADVANCE, _WAKE, _ASK_FOR, _SET_OPTIONS),
    }
)
"""Statements after which the line may be another one."""

_UNCOMMITTED = {
    _CLAIM: "claim.uncommitted",
    _COMPLETE: "complete.uncommitted",
    _FAIL: "fail.uncommitted",
    _RELEASE: "release.uncommitted",
    _MOVED: "moved.uncommitted",
    _ABANDONED: "abandon.uncommitted",
}
"""Crash points of the transaction that has such a statement in it: all is written, nothing is durable."""
_COMMITTED = {
    _ADD: "add.committed",
    _CLAIM: "claim.committed",
    _KEEP: "keep.committed",
    _RESERVE: "reserve.committed",
    _COMPLETE: "complete.committed",
    _FAIL: "fail.committed",
    _RETRY: "retry.committed",
    _RELEASE: "release.committed",
    _MOVED: "moved.committed",
    _ABANDONED: "abandon.committed",
}
"""And those right after it."""


def _but(batches: frozenset[int]) -> str:
    """Numbers of ours, and only there when there are any: the plain statement is the one that is prepared once."""
    return f" AND ifnull(batch, 0) NOT IN ({', '.join(map(str, sorted(batches)))})" if batches else ""


def _whichever(on_done: OnDone | None) -> OnRow | None:
    """Called for the row of an UPDATE, whose number is known."""
    return None if on_done is None else lambda _: on_done()


def _json(error: ErrorFacts) -> str:
    return msgspec.json.encode(error).decode()


def _facts(text: str) -> ErrorFacts:
    return msgspec.json.decode(text, type=ErrorFacts)
