"""Chores: what ended tasks left at a service is taken away by a worker in between.

Called by the loop: `dispatch` before tasks are handed out, `hear` with what a worker says of a chore. A chore is an
assignment whose number is the negative of its task's. It is no attempt: it spends nothing, one runs at a time, and after
one that failed nothing is tried for a while. A file that stays in spite of all expires at the service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gsvrd.clock import Clock
from gsvrd.model import REMOTE_STAGE
from gsvrd.pool.base import Pool
from gsvrd.pool.messages import Assign, Died, Event, Failed, Finished, Snoozed
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.chores")

TIMEOUT_S = 90.0
"""For one chore, the start of its client included."""
PAUSE_S, PAUSE_MOST_S = 60.0, 3600.0
"""After a chore that failed; it doubles with each further one in a row."""


@dataclass(slots=True)
class Chores:
    """See the module."""

    queue: TaskQueue
    pool: Pool
    clock: Clock
    after_commit: Callable[[Callable[[], None]], None]
    later: Callable[[float, Callable[[], None]], None]
    _task: int = 0
    """Whose leftovers a worker takes away; 0 while nobody does."""
    _last: int = 0
    _failures: int = 0
    _not_before: float = 0.0

    def dispatch(self) -> None:
        """Hand one to a free worker, if there is one to do and none under way."""
        if self._task or self.clock.monotonic() < self._not_before or not self.pool.free():
            return
        found = self.queue.leftover(self._last)
        if found is not None:
            self._task, kept = found
            self._last = self._task
            what = {REMOTE_STAGE: kept}
            self.pool.assign(Assign(-self._task, attempt=0, is_chore=True, kept=what, timeout_s=TIMEOUT_S))

    def hear(self, event: Event) -> None:
        """Take what a worker says of one."""
        match event:
            case Finished():
                self._failures = 0
                self.queue.tidied(self._task)
                log.info("leftovers_removed", task=self._task)
            case Failed(error=error) | Died(error=error):
                self._failed(error.message)
            case Snoozed(reason=reason):
                self._failed(reason)
            case _:
                return
        self.after_commit(self._next)

    def _failed(self, why: str) -> None:
        pause_s = min(PAUSE_MOST_S, PAUSE_S * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        self._not_before = self.clock.monotonic() + pause_s
        log.warning("leftovers_stay", task=self._task, error=why, again_in_s=pause_s)
        self.later(pause_s, _wake)

    def _next(self) -> None:
        # Only now does the database know: sooner the same one would be found again.
        self._task = 0
        self.later(0.0, _wake)


def _wake() -> None:
    """Nothing but a turn of the loop, which dispatches."""
