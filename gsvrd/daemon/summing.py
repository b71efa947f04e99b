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
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from gsvrd.clock import Clock
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.pacing import Pacer
from gsvrd.store.resting import ended_since, is_open

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
    """Decides when; `summaries` knows how."""

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
    _failures: int = 0
    _pacer: Pacer = field(init=False)

    def __post_init__(self) -> None:
        """Its own pauses."""
        self._pacer = Pacer(self.clock, self.later, self._begin, PAUSE_RATIO)

    def prepare(self) -> None:
        """At start: before the first summary, what summaries need is loaded in the thread."""
        self._pacer.prepare(self.filing, _load)

    def restore(self, since: object) -> None:
        """At start, after the recovery: what a daemon that died has not summed up. `since` is `SUMMED_UNTIL`'s value."""
        self.remember(TROUBLE, None)
        self._until = float(since) if isinstance(since, int | float) else 0.0
        self.filing.submit(partial(_ended_since, self.database, self._until), self._restored, lambda _: None)

    def _restored(self, batches: list[int]) -> None:
        for batch in batches:
            self._due.setdefault(batch, self._until + SLACK_S)
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
        if not self._at_rest or not self._pacer.admits():
            return
        batch = next(iter(self._at_rest))
        del self._at_rest[batch]
        since = self._due.pop(batch)  # what ends from now on may not be in it
        done = partial(self._ended, batch, since, self.clock.wall())
        self.filing.submit(
            partial(_attempt, self.database, self.reports, batch, self.language),
            done,
            lambda error: done(str(error)),
        )

    def _ended(self, batch: int, since: float, wall: float, ending: Path | str | None) -> None:
        if isinstance(ending, str):
            self._failed(batch, since, ending)
            return
        seconds = round(self._pacer.rest(), 3)
        if self._failures:
            self._failures = 0
            self.remember(TROUBLE, None)
        until = min(self._due.values(), default=wall) - SLACK_S
        if not 0 <= until - self._until <= SLACK_S:  # also when the clock went back
            self._until = until
            self.remember(SUMMED_UNTIL, until)
        self.on_rest(batch)
        if ending is not None:
            log.info("batch_summed_up", batch=batch, summary=str(ending), seconds=seconds)
        self._begin()

    def _failed(self, batch: int, since: float, why: str) -> None:
        pause_s = min(AFTER_FAILURE_MOST_S, AFTER_FAILURE_S * 2.0**self._failures)
        self._failures += 1
        self._pacer.rest(pause_s)
        self._due[batch] = since
        self.remember(TROUBLE, {"at": self.clock.wall(), "batch": batch, "reason": why})
        log.error("summary_failed", batch=batch, error=why, again_in_s=pause_s)
        self._ask(batch)  # behind the others: they may be better off


def _attempt(database: Path, reports: Path, batch: int, language: str) -> Path | str | None:
    """In the thread: see `summaries.attempt`."""
    from gsvrd.daemon.summaries import attempt

    return attempt(database, reports, batch, language)


def _load() -> None:
    """In the thread, once: what `_attempt` needs."""
    import gsvrd.daemon.summaries  # noqa: F401 (it is there from now on)


def _ended_since(database: Path, wall: float) -> list[int]:
    """In the thread: it may be a long walk."""
    try:
        with closing(sqlite3.connect(database, timeout=10.0)) as conn:
            return ended_since(conn, wall)
    except sqlite3.Error as error:  # the next ending of each batch makes up for it
        log.error("summaries_not_restored", error=str(error))
        return []
