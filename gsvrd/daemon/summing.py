"""Summing: when a batch is summed up, and that it is.

Driven by the loop. A batch is *due* from the first of its tasks that ends until its summary is written, and that is done
when none of its tasks waits or runs any more: each ending asks for that with one step into an index. What is slow, reading
the facts and writing the files, is done in a thread of its own on a connection of its own, and gets no more than a twentieth
of the time: a batch that trickles in is not summed up after each video. What became due is found again after a crash, by a
wall time before which nothing is due. A summary that fails is logged, shown and tried again, and stops nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog

from gsvrd.clock import Clock
from gsvrd.daemon.filing import Filing
from gsvrd.model import TaskState
from gsvrd.policy.results import BatchFacts, Lesson, TaskFacts, reckon
from gsvrd.reports.glance import glance
from gsvrd.reports.summary import LOOSE
from gsvrd.reports.summary_files import write_summary
from gsvrd.store.results import collect, ended_since, is_open, open_results

log = structlog.get_logger("gsvrd.summing")

TROUBLE = "summaries"
"""The service row that says why the last summary failed; null once one has succeeded."""
SUMMED_UNTIL = "summed_until"
"""The service row with the wall time before which no ending waits for its summary."""
SLACK_S = 60.0
"""A row has the time at which its change was noted; it is committed, and heard of here, a little later. And more often than
this the time is not stored: what is summed up twice gives the same bytes."""
PAUSE_RATIO = 19.0
"""After a summary, so many times as long as it took none is made."""
AFTER_FAILURE_S, AFTER_FAILURE_MOST_S = 60.0, 3600.0


@dataclass(slots=True)
class Summing:
    """Decides when; `store.results` and `reports.summary_files` know how."""

    conn: sqlite3.Connection
    """The loop's."""
    database: Path
    reports: Path
    language: str
    """Of reports for which nothing else was said."""
    filing: Filing
    """One of its own: reports must not wait for a summary."""
    clock: Clock
    later: Callable[[float, Callable[[], None]], None]
    remember: Callable[[str, object], None]
    """Stores a service row, with the turn's transaction."""
    on_rest: Callable[[int], None] = lambda batch: None
    """Told after a batch was summed up."""
    _due: dict[int, float] = field(default_factory=dict)
    """Since when (wall time) an ending of a batch is in no summary."""
    _at_rest: dict[int, None] = field(default_factory=dict)
    """Due batches of which nothing waits or runs, in the order in which they came to rest."""
    _until: float = 0.0
    """What is stored as `SUMMED_UNTIL`."""
    _not_before: float = 0.0
    _failures: int = 0
    _is_busy: bool = False
    _is_waiting: bool = False

    def restore(self, since: object) -> None:
        """At start, after the recovery: what a daemon that died has not summed up. `since` is `SUMMED_UNTIL`'s value."""
        self.remember(TROUBLE, None)
        self._until = float(since) if isinstance(since, int | float) else 0.0
        try:
            self._due.update(dict.fromkeys(ended_since(self.conn, self._until), self._until + SLACK_S))
        except sqlite3.Error as error:  # the next ending of each batch makes up for it
            log.error("summaries_not_restored", error=str(error))
        self.look_again()

    def note_ended(self, batch: int | None) -> None:
        """A task of the batch has ended, and that is committed."""
        if batch is not None:
            self._due.setdefault(batch, self.clock.wall())
            self._ask(batch)

    def look_again(self) -> None:
        """Another process has written: it may have cancelled the last task of a batch, or put one back in line."""
        for batch in list(self._due):
            self._ask(batch)

    def collect(self) -> bool:
        """Hear how a summary ended; once a turn, and before it waits. True when one did."""
        return self.filing.collect()

    def close(self) -> None:
        """At the end: let the summary under way be finished; others are written after the next start."""
        self.filing.close()
        self.filing.collect()

    def _ask(self, batch: int) -> None:
        try:
            is_at_rest = not is_open(self.conn, batch)
        except sqlite3.Error as error:
            log.error("batch_not_looked_at", batch=batch, error=str(error))
            return
        if is_at_rest:
            self._at_rest[batch] = None
            self._begin()
        else:
            self._at_rest.pop(batch, None)

    def _begin(self) -> None:
        """Now, or when the summary under way has ended, or when the pause is over."""
        if not self._at_rest or self._is_busy or self._is_waiting:
            return
        wait_s = self._not_before - self.clock.monotonic()
        if wait_s > 0:
            self._is_waiting = True
            self.later(wait_s, self._pause_is_over)
            return
        batch = next(iter(self._at_rest))
        del self._at_rest[batch]
        since = self._due.pop(batch)  # what ends from now on may not be in it
        self._is_busy = True
        began, wall = self.clock.monotonic(), self.clock.wall()
        done = partial(self._ended, batch, since, began, wall)
        self.filing.submit(
            partial(_attempt, self.database, self.reports, batch, self.language),
            done,
            lambda error: done(str(error)),
        )

    def _pause_is_over(self) -> None:
        self._is_waiting = False
        self._begin()

    def _ended(self, batch: int, since: float, began: float, wall: float, ending: Path | str | None) -> None:
        self._is_busy = False
        now = self.clock.monotonic()
        if isinstance(ending, str):
            self._failed(batch, since, now, ending)
            return
        self._not_before = now + PAUSE_RATIO * (now - began)
        if self._failures:
            self._failures = 0
            self.remember(TROUBLE, None)
        until = min(self._due.values(), default=wall) - SLACK_S
        if not 0 <= until - self._until <= SLACK_S:  # also when the clock went back
            self._until = until
            self.remember(SUMMED_UNTIL, until)
        self.on_rest(batch)
        if ending is not None:
            log.info("batch_summed_up", batch=batch, summary=str(ending), seconds=round(now - began, 3))
        self._begin()

    def _failed(self, batch: int, since: float, now: float, why: str) -> None:
        pause_s = min(AFTER_FAILURE_MOST_S, AFTER_FAILURE_S * 2.0**self._failures)
        self._failures += 1
        self._not_before = now + pause_s
        self._due[batch] = since
        self.remember(TROUBLE, {"at": self.clock.wall(), "batch": batch, "reason": why})
        log.error("summary_failed", batch=batch, error=why, again_in_s=pause_s)
        self._ask(batch)  # behind the others: they may be better off


def _attempt(database: Path, reports: Path, batch: int, language: str) -> Path | str | None:
    """In the thread: where the summary is, why there is none, or None when there is nothing to tell."""
    try:
        with open_results(database) as conn:
            facts = collect(conn, batch, language)
        if facts is None or not _is_worth_it(facts):
            return None
        return write_summary(
            reports, reckon(replace(facts, tasks=tuple(_filled(task, reports) for task in facts.tasks)))
        )
    except (OSError, sqlite3.Error) as error:
        return str(error)
    except Exception as error:  # a fault in an extra must not end the daemon, which would meet it again at each start
        log.exception("summary_fault", batch=batch)
        return f"{type(error).__name__}: {error}"


def _is_worth_it(facts: BatchFacts) -> bool:
    """Something came out of it; and of one loose video its report or failure record says it all."""
    if not any(task.state in (TaskState.COMPLETED, TaskState.FAILED) for task in facts.tasks):
        return False
    return facts.kind != LOOSE or len(facts.tasks) > 1


def _filled(task: TaskFacts, reports: Path) -> TaskFacts:
    """What the report says, where the analysis is no longer on record."""
    if task.report and task.lesson == Lesson():
        return replace(task, lesson=glance(reports, task.report))
    return task
