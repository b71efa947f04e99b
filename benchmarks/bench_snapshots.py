"""How long the loop is kept while a large database is copied under load: `python -m benchmarks.bench_snapshots [--quick]`.

The real daemon on a database with 100,000 finished and 1,000 pending tasks; files are dropped all the while. Once without
snapshots, once with one as often as it takes them. A turn is what the loop does between two waits, its commit and the wait
for more to commit included; the time of each is noted in the daemon (`_TimedSupervisor`), as is when copies were made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

from benchmarks import measure
from gsvrd import logs
from gsvrd.config.load import load
from gsvrd.daemon import run as daemon
from gsvrd.daemon.beginning import DATABASE
from gsvrd.daemon.supervisor import Supervisor
from gsvrd.store.checkpoints import Checkpoint, CheckpointManager
from gsvrd.store.opening import open_database

_GOAL_MS = 50.0
_FIRST_GOAL_S = 1.0
_PENDING = 1_000
_NEVER = {"GSVRD_CHECKPOINT__INTERVAL": "30d", "GSVRD_CHECKPOINT__EVERY_TASKS": "1000000"}
_OFTEN = {"GSVRD_CHECKPOINT__INTERVAL": "1s", "GSVRD_CHECKPOINT__EVERY_TASKS": "10"}
_TIMES = "times.json"
_Span = tuple[int, int]
"""Monotonic nanoseconds."""

_ADD = """
WITH RECURSIVE numbers(n) AS (SELECT ? UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
INSERT INTO tasks (path, name, dev, ino, size, mtime_ns, home, state, attempt, priority, rank, created_at, due_at, report,
    sha256, change, changed_at, changed_by)
SELECT CAST('/gone/' || n AS BLOB), 'term/lecture-' || n || '.mp4', 1, n, 1000000, n, ?, ?, ?, 40, n, n, ?,
    iif(?, 'term/lecture-' || n || '.md', NULL), hex(randomblob(32)), 'add', n, 'bench'
FROM numbers
"""
_LATER = 8e9
"""The pending ones wait for a time, so that the daemon's work is the files that are dropped."""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="10,000 rows and 6 seconds each: to see that it works")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--rate", type=float, default=30.0, help="files a second")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a directory on the disk to be measured")
    parser.add_argument("--daemon", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.daemon:
        _be_daemon(options.daemon)
        return
    rows, seconds = (10_000, 6.0) if options.quick else (options.rows, options.seconds)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name:
        folder = Path(name)
        measure.print_facts(folder)
        results = [_run(folder / title, rows, seconds, options.rate, environ) for title, environ in _CASES.items()]
    measure.print_table(_HEADS, results)
    print(f"goal: no turn above {_GOAL_MS:g} ms; start to first dispatch under {_FIRST_GOAL_S:g} s")


_CASES = {"without": _NEVER, "with": _OFTEN}
_HEADS = (
    "snapshots",
    "made",
    "each took",
    "turns",
    "p50 ms",
    "p99 ms",
    "most ms",
    "most ms while copying",
    "start to ready s",
)


def _run(home: Path, rows: int, seconds: float, rate: float, environ: dict[str, str]) -> Sequence[str]:
    (home / "state").mkdir(parents=True)
    _seed(home / "state" / DATABASE, rows)
    with _running(home, environ) as ready_s:
        _drop(home / "inbox", seconds, rate)
    noted = json.loads((home / _TIMES).read_text())
    turns, copies = noted["turns"], noted["copies"]
    taken = [(end - begin) / 1e6 for begin, end in turns]
    during = [
        (end - begin) / 1e6 for begin, end in turns if any(begin < last and first < end for first, last in copies)
    ]
    return (
        home.name,
        str(len(copies)),
        measure.spread([(last - first) / 1e6 for first, last in copies], "{:,.0f} ms"),
        str(len(taken)),
        *(f"{measure.quantile(taken, share):.2f}" for share in (0.5, 0.99)),
        f"{max(taken):.1f}",
        f"{max(during):.1f}" if during else "-",
        f"{ready_s:.2f}",
    )


def _seed(path: Path, rows: int) -> None:
    with closing(open_database(path, create=True)) as conn:
        conn.execute("PRAGMA synchronous = OFF")
        with conn:
            conn.execute(_ADD, (1, rows, "archive", "completed", 1, None, 1))
            conn.execute(_ADD, (rows + 1, rows + _PENDING, "gone", "pending", 0, _LATER, 0))


@contextmanager
def _running(home: Path, environ: dict[str, str]) -> Iterator[float]:
    command = [sys.executable, "-m", "benchmarks.bench_snapshots", "--daemon", str(home)]
    log = home / "log"
    with log.open("wb") as sink:
        began = time.monotonic()
        process = subprocess.Popen(command, env={**os.environ, "GSVRD_WORKERS__MAX": "2", **environ}, stderr=sink)
    try:
        measure.await_that(lambda: b'"ready"' in log.read_bytes() or process.poll() is not None, 60)
        yield time.monotonic() - began
        process.terminate()
        process.wait(60)
    finally:
        for survivor in measure.with_descendants([process.pid]):
            measure.kill(survivor)
        process.wait()


def _drop(inbox: Path, seconds: float, rate: float) -> None:
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        (inbox / f"{number:06}.mp4").write_bytes(b"not really a video\n" * 50)
        number += 1
        time.sleep(1 / rate)


# -- in the daemon -------------------------------------------------------------------------------------------------------


class _TimedSupervisor(Supervisor):
    """Notes when each turn began and ended."""

    def run(self) -> None:
        self.turns: list[_Span] = []
        self._began = 0
        super().run()

    def _wait(self) -> None:
        if self._began:
            self.turns.append((self._began, time.monotonic_ns()))
        super()._wait()
        self._began = time.monotonic_ns()

    def _finish(self) -> None:
        times = {"turns": self.turns, "copies": _TimedManager.copies}
        (Path(os.fsdecode(self.inbox)).parent / _TIMES).write_text(json.dumps(times))
        super()._finish()


class _TimedManager(CheckpointManager):
    """Notes when copies were made."""

    copies: list[_Span] = []  # noqa: RUF012 (of all instances: there is one)

    def create(self, reason: str, *, routine: bool = False) -> Checkpoint:
        began = time.monotonic_ns()
        made = super().create(reason, routine=routine)
        self.copies.append((began, time.monotonic_ns()))
        return made


def _be_daemon(home: Path) -> None:
    logs.setup("info", "json", process="gsvrd")
    read = partial(load, home, None, os.environ)
    with patch.multiple(daemon, Supervisor=_TimedSupervisor, CheckpointManager=_TimedManager):
        daemon.run(read(), read, work=daemon.WorkMaker("benchmarks.noop:make_report", ()))


if __name__ == "__main__":
    main()
