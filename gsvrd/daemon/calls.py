"""Calls under way: how long each attempt's calls took and waited for leave, and how many were under way beside them.

Kept by `permits`, read by `workforce`. Uploads are not counted: they wait for the line and not for the service.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WINDOW_S = 120.0
"""Over which the share of calls that failed for load is told."""
_MOST = 2000

Attempt = tuple[int, int]
"""Task and number."""


@dataclass(slots=True)
class CallFigures:
    """Of one attempt; seconds."""

    waited_s: float = 0.0
    api_s: float = 0.0
    calls: int = 0
    beside: float = 0.0
    """Call seconds of all attempts while its own were under way."""

    @property
    def mean_beside(self) -> float:
        """How many were under way on average while its own were, itself included."""
        return max(1.0, self.beside / self.api_s) if self.api_s > 0 else 1.0


@dataclass(slots=True)
class CallMeter:
    """Times are monotonic seconds."""

    _figures: dict[Attempt, CallFigures] = field(default_factory=dict)
    _asked: dict[Attempt, float] = field(default_factory=dict)
    _open: dict[int, tuple[Attempt, float, float]] = field(default_factory=dict)
    """Permit to its attempt, when it began, and `_sum` then."""
    _sum: float = 0.0
    """Call seconds of all attempts so far."""
    _at: float = 0.0
    _ends: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=_MOST))
    """When calls ended, and whether they failed for load."""

    def asked(self, attempt: Attempt, now: float) -> None:
        """An attempt wants to call."""
        self._asked[attempt] = now

    def answered(self, attempt: Attempt, now: float) -> None:
        """It was told whether it may."""
        began = self._asked.pop(attempt, now)
        self._of(attempt).waited_s += max(0.0, now - began)

    def began(self, permit: int, attempt: Attempt, now: float) -> None:
        """Its call is under way."""
        self._move(now)
        self._open[permit] = (attempt, now, self._sum)

    def ended(self, permit: int, now: float, *, for_load: bool | None) -> None:
        """The call is over; `for_load`: the service refused or dropped it for want of room. None: nobody knows."""
        self._move(now)
        found = self._open.pop(permit, None)
        if found is None:
            return
        attempt, began, before = found
        figures = self._of(attempt)
        figures.api_s += max(0.0, now - began)
        figures.beside += self._sum - before
        figures.calls += 1
        if for_load is not None:
            self._ends.append((now, for_load))

    def take(self, attempt: Attempt) -> CallFigures:
        """What there is of an attempt that has ended; it is forgotten."""
        self._asked.pop(attempt, None)
        return self._figures.pop(attempt, CallFigures())

    def load_errors(self, now: float) -> float | None:
        """Of the calls that ended of late the share that failed for load; None when none did."""
        late = [for_load for at, for_load in self._ends if now - WINDOW_S <= at <= now]
        return sum(late) / len(late) if late else None

    def _of(self, attempt: Attempt) -> CallFigures:
        return self._figures.setdefault(attempt, CallFigures())

    def _move(self, now: float) -> None:
        self._sum += max(0.0, now - self._at) * len(self._open)
        self._at = now
