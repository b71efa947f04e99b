"""A pacer: gives work that may be dear no more than its share of the time. Used by whatever a thread does for the loop.

It only counts; the work itself is begun and heard of by its owner, who asks `admits` before and calls `rest` after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gsvrd.clock import Clock
from gsvrd.daemon.filing import Filing


@dataclass(slots=True)
class Pacer:
    """One piece of work at a time, and a pause after each."""

    clock: Clock
    later: Callable[[float, Callable[[], None]], None]
    begin: Callable[[], None]
    """Called when a pause is over in which somebody has asked."""
    ratio: float
    """After the work there is a pause of so many times as long as it took."""
    least_s: float = 0.0
    """Between two beginnings."""
    _load: Callable[[], None] | None = None
    _began: float = 0.0
    _not_before: float = 0.0
    _is_busy: bool = False
    _is_waiting: bool = False

    def prepare(self, filing: Filing, load: Callable[[], object]) -> None:
        """Have `load` called in the thread before the first work, once: it takes long, and no pause follows from it."""
        self._load = lambda: filing.submit(load, self._loaded, self._loaded)

    def _loaded(self, _: object) -> None:
        self._is_busy = False
        self.begin()

    def admits(self) -> bool:
        """Whether the work may begin now, and then it counts as begun; else `begin` is called when it may."""
        if self._is_busy or self._is_waiting:
            return False
        if self._load is not None:
            load, self._load = self._load, None
            self._is_busy = True
            load()
            return False
        wait_s = self._not_before - self.clock.monotonic()
        if wait_s > 0:
            self._is_waiting = True
            self.later(wait_s, self._pause_is_over)
            return False
        self._is_busy, self._began = True, self.clock.monotonic()
        return True

    def rest(self, at_least_s: float = 0.0) -> float:
        """The work has ended: begin the pause. Returns the seconds it took."""
        now = self.clock.monotonic()
        took_s = now - self._began
        self._is_busy = False
        self._not_before = max(self._began + self.least_s, now + max(at_least_s, self.ratio * took_s))
        return took_s

    def _pause_is_over(self) -> None:
        self._is_waiting = False
        self.begin()
