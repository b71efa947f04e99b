"""Snapshots: when the state database is copied while the daemon works.

Every `interval_s`, if anything was written since, or after `every_tasks` completed tasks, whichever comes first; but the
copying gets no more than a twentieth of the time, so that a large database under load is copied less often and not all
the time. The copy is made in a thread of its own, the loop only begins it and hears how it ended. Driven by the
supervisor; a snapshot that fails is logged and shown, and stops nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from gsvrd.clock import Clock
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.pacing import Pacer
from gsvrd.errors import StateError
from gsvrd.store.checkpoints import Checkpoint, CheckpointManager

log = structlog.get_logger("gsvrd.snapshots")

TROUBLE = "snapshots"
"""The service row that says why the last snapshot failed; null once one has succeeded."""
PAUSE_RATIO = 19.0
"""After a copy, so many times as long as it took nothing is copied."""
AFTER_FAILURE_S = 60.0
"""And so long after one that failed."""


@dataclass(frozen=True, slots=True)
class Often:
    """How often, and how many are kept."""

    interval_s: float
    every_tasks: int
    keep: int


@dataclass(slots=True)
class Snapshots:
    """Decides when; `manager` knows how."""

    manager: CheckpointManager
    often: Often
    filing: Filing
    """One of its own: reports must not wait for a copy."""
    clock: Clock
    later: Callable[[float, Callable[[], None]], None]
    remember: Callable[[str, object], None]
    """Stores a service row, with the turn's transaction."""
    _completed: int = 0
    _why: str = ""
    """Why there should be one; empty when there need not."""
    _copied: object = None
    """What the database looked like before the last good copy began."""
    _is_in_trouble: bool = False
    _pacer: Pacer = field(init=False)

    def __post_init__(self) -> None:
        """Its own pauses."""
        self._pacer = Pacer(self.clock, self.later, self._begin, PAUSE_RATIO)

    def start(self) -> None:
        """The loop begins."""
        self.remember(TROUBLE, None)
        self.later(self.often.interval_s, self.tick)

    def tick(self) -> None:
        """The interval is over; called again by itself after the next one."""
        self.later(self.often.interval_s, self.tick)
        if self.manager.stamp() != self._copied:
            self._want("interval")

    def note_completed(self) -> None:
        """A task was completed, and that is committed."""
        self._completed += 1
        if self._completed >= self.often.every_tasks:
            self._want("tasks")

    def collect(self) -> bool:
        """Hear how a copy ended; once a turn, and before it waits. True when one did."""
        return self.filing.collect()

    def close(self) -> None:
        """At the end: let the copy under way be finished."""
        self.filing.close()
        self.filing.collect()

    def _want(self, why: str) -> None:
        self._why = self._why or why
        self._begin()

    def _begin(self) -> None:
        """Now, or when the copy under way has ended, or when the pause is over."""
        if not self._why or not self._pacer.admits():
            return
        why, self._why, self._completed = self._why, "", 0
        stamp, keep = self.manager.stamp(), self.often.keep
        self.filing.submit(
            lambda: attempt(self.manager, why, keep),
            lambda ending: self._ended(ending, stamp),
            lambda error: self._ended(str(error), stamp),
        )

    def _ended(self, ending: Checkpoint | str, stamp: object) -> None:
        if isinstance(ending, str):
            self._pacer.rest(AFTER_FAILURE_S)
            self._is_in_trouble = True
            self.remember(TROUBLE, {"at": self.clock.wall(), "reason": ending})
            log.error("snapshot_failed", error=ending)
            return
        seconds = round(self._pacer.rest(), 3)
        self._copied = stamp
        if self._is_in_trouble:
            self._is_in_trouble = False
            self.remember(TROUBLE, None)
        log.info("snapshot_made", name=ending.name, reason=ending.reason, seconds=seconds)
        self._begin()  # tasks that ended meanwhile may be enough for the next one


def attempt(manager: CheckpointManager, why: str, keep: int) -> Checkpoint | str:
    """In a thread: a snapshot of the routine, or why there is none."""
    try:
        made = manager.create(why, routine=True)
        manager.prune(keep)
    except (StateError, sqlite3.Error, OSError) as error:
        return str(error)
    return made
