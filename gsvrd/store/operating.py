"""What an operator does to tasks: cancel, and try again. Called by `gsvrctl`, with the daemon up or down.

Each task is one guarded statement in a transaction of its own, the queue's as the daemon's loop uses it, so that nothing
here can hold up or surprise the loop: whoever comes second finds the row changed and says so. Rings no bell and touches
no file; where a file must be there, it is only looked at.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gsvrd.clock import SystemClock
from gsvrd.errors import StateError
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue
from gsvrd.store.reading import Row
from gsvrd.store.schema import SCHEMA_VERSION
from gsvrd.store.tracing import MOST, Problem, Tracing, cancel_problem, retry_problem

ACTOR = "gsvrctl"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one wish. `problem` is None when it was done, or would have been."""

    asked: str
    task: Row | None
    """As it was before."""
    problem: Problem | None = None
    matches: tuple[Row, ...] = ()
    """The tasks that may be meant, newest first, where the word means several."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """A transition with its own words."""

    judge: Callable[[Row], Problem | None]
    carry_out: Callable[[TaskQueue, int, Callable[[], None]], None]


def _cancel(queue: TaskQueue, task: int, on_lost: Callable[[], None]) -> None:
    queue.cancel(task, "cancelled by gsvrctl", on_lost)


def _requeue(queue: TaskQueue, task: int, on_lost: Callable[[], None]) -> None:
    queue.requeue(task, "tried again by gsvrctl", on_lost)


_CANCEL = _Wish(cancel_problem, _cancel)
_RETRY = _Wish(retry_problem, _requeue)


class Operator:
    """An open database and what may be done to it."""

    def __init__(self, db: sqlite3.Connection, *, dry_run: bool) -> None:
        """With `dry_run` nothing is written."""
        self._db = db
        self._tracing = Tracing(db)
        self._dry_run = dry_run

    def cancel(self, words: Iterable[str]) -> list[Answer]:
        """Cancel pending and running tasks, each named by a number, a name or the end of a name."""
        return self._all(_CANCEL, words)

    def retry(self, words: Iterable[str]) -> list[Answer]:
        """Put failed and cancelled tasks back in line, as if they had never been tried."""
        return self._all(_RETRY, words)

    def retry_failed(self, kind: str | None) -> list[Answer]:
        """Put all failed tasks back in line that can be tried again, or those that failed with one kind of error."""
        failed = [task for task in self._tracing.failed() if kind is None or _kind(task) == kind]
        return [self._one(_RETRY, str(task["id"]), task) for task in failed]

    def _all(self, wish: _Wish, words: Iterable[str]) -> list[Answer]:
        answers: dict[object, Answer] = {}
        for word in words:
            meant = self._meant(wish, word)
            if len(meant) == 1:
                if meant[0]["id"] not in answers:  # else named twice
                    answers[meant[0]["id"]] = self._one(wish, word, meant[0])
            else:
                answers[word] = _unclear(word, meant)
        return list(answers.values())

    def _meant(self, wish: _Wish, word: str) -> list[Row]:
        """Of several tasks of one and the same file name the newest is meant if it is the only one it could be."""
        found = self._tracing.named(word)
        possible = [task for task in found if wish.judge(task) is None] if len(found) > 1 else []
        is_one_name = len({task["name"] for task in found}) == 1
        return possible if is_one_name and len(possible) == 1 and possible[0] is found[0] else found

    def _one(self, wish: _Wish, word: str, task: Row) -> Answer:
        problem = wish.judge(task)
        if problem is None and not self._dry_run:
            problem = self._carry_out(wish, task)
        return Answer(word, task, problem)

    def _carry_out(self, wish: _Wish, task: Row) -> Problem | None:
        queue = TaskQueue(self._db, SystemClock(), actor=ACTOR)
        lost: list[int] = []
        wish.carry_out(queue, task["id"], lambda: lost.append(task["id"]))
        try:
            queue.commit()
        except sqlite3.OperationalError as error:
            return Problem("busy", f"the database did not take it: {error}", "Try again.")
        if not lost:
            return None
        # Somebody was first: what it is now says why not.
        now = self._tracing.task(task["id"]) or task
        return wish.judge(now) or Problem("changed", "it changed at that moment", "Try again.")


@contextmanager
def operator(path: Path, *, dry_run: bool) -> Iterator[Operator]:
    """Open the database at `path` for its block. Raises `StateError`: no database, damaged, or not of this version."""
    with closing(open_database(path, create=False)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version < SCHEMA_VERSION:
            hint = "Start this gsvrd once; it brings it up to date."
            raise StateError(f"the database {path} is of the older version {version}", hint)
        yield Operator(db, dry_run=dry_run)


def _unclear(word: str, found: list[Row]) -> Answer:
    if not found:
        return Answer(word, None, Problem("unknown", "there is no such task", "See `gsvrctl list`."))
    problem = Problem("ambiguous", f"{len(found)} tasks may be meant", "Name it by its number.")
    return Answer(word, None, problem, tuple(found[:MOST]))


def _kind(task: Row) -> str:
    error = msgspec.json.decode(task["error"]) if task["error"] else {}
    return str(error.get("kind", ""))
