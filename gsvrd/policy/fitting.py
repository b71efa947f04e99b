"""Fitting: how many workers memory keeps busy. The admission decides about tasks; here idle workers are seen beside it.

Tasks that meet their cap have worked for nothing: where that happens often, fewer at a time get more done.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCKED_S = 120.0
"""So long tasks have to wait for memory before it counts."""
MEAN_S = 600.0
FREE_S = 600.0
"""So long none may have waited before it counts no more."""


@dataclass(slots=True)
class Fitting:
    """See the module."""

    busy: float | None = None
    """Workers, on average, while tasks wait for memory."""
    failing: float = 0.0
    """The share of attempts that meet their cap."""
    since: float | None = None
    """When tasks began to wait."""
    last: float | None = None
    """When one waited last."""

    def read(self, blocked: bool, busy: int, ended: int, failed: int, tick_s: float, now: float) -> None:
        """A reading."""
        for is_failure in (0.0,) * ended + (1.0,) * failed:
            self.failing += 0.05 * (is_failure - self.failing)
        if blocked:
            self.since, self.last = now if self.since is None else self.since, now
            self.busy = busy if self.busy is None else self.busy + min(1.0, tick_s / MEAN_S) * (busy - self.busy)
        elif self.last is not None and now - self.last > FREE_S:
            self.busy = self.since = self.last = None

    def cap(self, now: float) -> float | None:
        """Workers that memory keeps busy, with one to spare."""
        if self.busy is None or self.since is None or now - self.since < BLOCKED_S:
            return None
        return self.busy * (1.0 - self.failing) + 1.0
