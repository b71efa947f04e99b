"""The real daemon with work of a benchmark in its workers: `python -m benchmarks.daemon HOME MAKER`, or `running`."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import measure
from gsvrd import logs
from gsvrd.config.load import load
from gsvrd.daemon.beginning import DATABASE
from gsvrd.daemon.run import WorkMaker, run

_START_S = 60.0
_READY = b'"ready"'


@dataclass(frozen=True, slots=True)
class Daemon:
    """One that runs."""

    home: Path
    pid: int

    def count(self, where: str) -> int:
        """How many tasks are so."""
        with closing(sqlite3.connect(f"file:{self.home}/state/{DATABASE}?mode=ro", uri=True, timeout=30)) as conn:
            (found,) = conn.execute(f"SELECT count(*) FROM tasks WHERE {where}").fetchone()
        return int(found)

    def await_archived(self, count: int, timeout_s: float) -> None:
        """Until so many sources lie in the archive, their reports in place."""
        measure.await_that(lambda: self.count("home = 'archive'") >= count, timeout_s, every_s=0.05)


@contextmanager
def running(
    home: Path, maker: str, *, before: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Iterator[Daemon]:
    """A daemon on `home`, ready; drained at the end. `before` are words of a command to run it under.

    It has two workers, unless `environ` says something else.
    """
    log = home / "log"
    command = [*before, sys.executable, "-m", "benchmarks.daemon", str(home), maker]
    settings = {"GSVRD_WORKERS__MIN": "2", "GSVRD_WORKERS__MAX": "2"} if environ is None else environ
    starts = log.read_bytes().count(_READY) if log.exists() else 0
    with log.open("ab") as sink:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=sink)
    try:
        measure.await_that(lambda: log.read_bytes().count(_READY) > starts or process.poll() is not None, _START_S)
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        pid = _child_of(process.pid) if before else process.pid
        daemon = Daemon(home, pid)
        family = 5 if environ is None else 4  # trackers, fork server, workers
        measure.await_that(lambda: len(measure.with_descendants([pid])) >= family, _START_S)
        yield daemon
        os.kill(pid, signal.SIGTERM)
        process.wait(_START_S)
    finally:
        for survivor in measure.with_descendants([process.pid]):
            measure.kill(survivor)
        process.wait()


def _child_of(pid: int) -> int:
    (child,) = measure.children(pid)
    return child


def main() -> None:
    """Be the daemon."""
    home, maker = Path(sys.argv[1]), sys.argv[2]
    read = partial(load, home, None, os.environ)
    logs.setup("info", "json", process="gsvrd")
    run(read(), read, work=WorkMaker(maker) if ":" in maker else WorkMaker())


if __name__ == "__main__":
    main()
