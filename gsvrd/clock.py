"""Time as a seam: every component that needs the time is given a `Clock`; nobody calls `time` directly.

Wall time (UTC epoch seconds) is for rows and people; monotonic time is for deadlines, since the wall clock may jump.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def wall(self) -> float:
        """UTC epoch seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump, since an arbitrary start."""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> float:
        """UTC epoch seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()


@dataclass
class ManualClock:
    """A clock that stands until it is moved; for tests and simulations."""

    now: float = 1_000_000.0

    def wall(self) -> float:
        """UTC epoch seconds."""
        return self.now

    def monotonic(self) -> float:
        """The same figure: this clock never jumps."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now += seconds
