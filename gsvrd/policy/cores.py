"""Cores: how many processors we really get, with a quota, an affinity and neighbours.

What nobody uses is ours as well; when our workers wait for their turn, we have exactly what we use. Only when a neighbour
takes the rest cannot be seen what a larger share of ours would be: then one more is claimed now and then, and if that only
makes us wait, less often.
"""

from __future__ import annotations

from dataclasses import dataclass

WAITS, WAITS_NOT = 0.15, 0.05
"""Shares of the time in which workers wait for a processor: too many of them, and room for more."""
NEWEST = 0.5
CLAIM_FIRST_S, CLAIM_LAST_S = 120.0, 900.0


@dataclass(frozen=True, slots=True)
class Load:
    """One complete reading: cores, and the share of waiting."""

    own: float
    other: float
    allowed: float
    host: float
    wait: float


@dataclass(slots=True)
class Cores:
    """See the module. None before the first reading."""

    ours: float | None = None
    claim_s: float = CLAIM_FIRST_S
    claimed_at: float | None = None

    def read(self, load: Load, busy: bool, now: float) -> None:
        """A reading; `busy`: every worker has a task."""
        free = max(0.0, min(load.allowed - load.own, load.host - load.own - load.other))
        seen = load.own if load.wait > WAITS else load.own + free
        self.ours = seen if self.ours is None else self.ours + NEWEST * (seen - self.ours)
        if busy and load.wait < WAITS_NOT and free < 0.5 and load.allowed - load.own > 0.5:
            self._claim(now)
        elif load.wait > WAITS and self.claimed_at is not None and now - self.claimed_at < self.claim_s:
            self.claim_s = min(CLAIM_LAST_S, 2.0 * self.claim_s)

    def _claim(self, now: float) -> None:
        if self.claimed_at is None or now - self.claimed_at >= self.claim_s:
            self.claimed_at = now
        if now - self.claimed_at < CLAIM_FIRST_S / 2 and self.ours is not None:
            self.ours += NEWEST
