"""What an operator does to a batch: pause, resume, cancel. Called by `gsvrctl`, with the daemon up or down.

Pausing sets the reason for which the batch is held; the database's triggers take its tasks out of the line. Cancelling is
the queue's own guarded statement for each task, some hundred in a transaction, so that the daemon never waits long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gsvrd.clock import SystemClock
from gsvrd.errors import StateError
from gsvrd.store.courses import Course, Courses
from gsvrd.store.opening import open_database
from gsvrd.store.operating import ACTOR
from gsvrd.store.queue import TaskQueue
from gsvrd.store.schema import SCHEMA_VERSION
from gsvrd.store.tracing import Problem

PAUSED = "paused by gsvrctl"
_BEFORE = "; before that: "
"""What follows was the reason before the pause, and is so again after it."""
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Deed:
    """What became of a wish. `problem` is None when it was done, or would have been."""

    after: Course
    """With `dry_run`, as it was."""
    problem: Problem | None = None
    note: str = ""
    tasks: int = 0
    """How many were cancelled, or would be."""


class Steering:
    """An open database and what may be done to the batches in it."""

    def __init__(self, conn: sqlite3.Connection, *, dry_run: bool) -> None:
        """With `dry_run` nothing is written."""
        self.courses = Courses(conn)
        self._queue = TaskQueue(conn, SystemClock(), actor=ACTOR)
        self._dry_run = dry_run

    def pause(self, batch: Course) -> Deed:
        """Start nothing more of it."""
        if batch.hold.startswith(PAUSED):
            return Deed(batch, note="it was paused already")
        return self._hold(batch, f"{PAUSED}{_BEFORE}{batch.hold}" if batch.hold else PAUSED, "")

    def resume(self, batch: Course) -> Deed:
        """Start its tasks again. What held it before a pause holds it again; asked once more, that goes, too."""
        if not batch.hold:
            return Deed(batch, note="it was not paused")
        _, _, before = batch.hold.partition(_BEFORE) if batch.hold.startswith(PAUSED) else ("", "", "")
        note = f"it is held as before: {before}" if before else ""
        if not before and not batch.hold.startswith(PAUSED):
            note = f"it was held, and may be again: {batch.hold}"
        return self._hold(batch, before, note)

    def cancel(self, batch: Course) -> Deed:
        """Cancel all of it that waits or runs."""
        live = self.courses.live(batch.number)
        if not live:
            return Deed(
                batch, Problem(batch.state.value.lower(), "nothing of it waits or runs", "See `gsvrctl batches`.")
            )
        if self._dry_run:
            return Deed(batch, tasks=len(live))
        lost: list[int] = []
        for first in range(0, len(live), _AT_ONCE):
            part = live[first : first + _AT_ONCE]
            for task in part:
                self._queue.cancel(task, f"cancelled by gsvrctl, with its batch {batch.name}", _noting(lost, task))
            if problem := self._commit():
                return Deed(self._again(batch), problem, tasks=first - len(lost))
        return Deed(self._again(batch), tasks=len(live) - len(lost))

    def _hold(self, batch: Course, why: str, note: str) -> Deed:
        if self._dry_run:
            return Deed(batch, note=note)
        self._queue.hold_batch(batch.number, why)
        problem = self._commit()
        return Deed(self._again(batch), problem, note)

    def _commit(self) -> Problem | None:
        try:
            self._queue.commit()
        except sqlite3.OperationalError as error:
            return Problem("busy", f"the database did not take it: {error}", "Try again.")
        return None

    def _again(self, batch: Course) -> Course:
        return self.courses.one(batch.number) or batch


@contextmanager
def steering(path: Path, *, dry_run: bool) -> Iterator[Steering]:
    """Open the database at `path` for its block. Raises `StateError`: no database, damaged, or not of this version."""
    with closing(open_database(path, create=False)) as conn:
        version = conn.execute("PRAGMA user_version").fetchone()[0]
        if version < SCHEMA_VERSION:
            hint = "Start this gsvrd once; it brings it up to date."
            raise StateError(f"the database {path} is of the older version {version}", hint)
        yield Steering(conn, dry_run=dry_run)


def _noting(lost: list[int], task: int) -> Callable[[], None]:
    return lambda: lost.append(task)
