"""Who may call now: Google's limits for each project and model. `service` asks before it generates.

A minute is any 60 seconds, a day is one of Los Angeles. Whether Google counts in rolling or in fixed minutes is not
published; rolling is the stricter of the two. Refused calls use nothing up.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from . import refusals
from .meter import MINUTE_S, pacific_day
from .refusals import Refusal
from .rules import Limits

DAILY_DELAY = "38s"
"""Daily refusals were seen with a delay of this size; it is of no use to the caller."""


@dataclass
class _Lane:
    admitted: deque[tuple[float, int]] = field(default_factory=deque)
    day: str = ""
    today: int = 0


class Quotas:
    """The counters. Not thread-safe: the service's lock is held."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], _Lane] = {}

    def admit(self, limits: Limits, project: str, model: str, *, now: float, tokens: int, inside: int) -> None:
        """Count one call of `tokens`, or raise `Refusal`; `inside` is how many are at work, this one included."""
        lane = self._lanes.setdefault((project, model), _Lane())
        while lane.admitted and lane.admitted[0][0] <= now - MINUTE_S:
            lane.admitted.popleft()
        if lane.day != pacific_day(now):
            lane.day, lane.today = pacific_day(now), 0
        refusal = _refusal(limits, lane, model, now, tokens, inside)
        if refusal:
            raise refusal
        lane.admitted.append((now, tokens))
        lane.today += 1


def _refusal(limits: Limits, lane: _Lane, model: str, now: float, tokens: int, inside: int) -> Refusal | None:
    if limits.requests_per_day is not None and lane.today >= limits.requests_per_day:
        return refusals.over_quota(refusals.PER_DAY, model, limits.requests_per_day, DAILY_DELAY)
    if limits.requests_per_minute is not None and len(lane.admitted) >= limits.requests_per_minute:
        delay = _delay(lane.admitted[0][0] + MINUTE_S - now) if lane.admitted else "60s"
        return refusals.over_quota(refusals.PER_MINUTE, model, limits.requests_per_minute, delay)
    if limits.tokens_per_minute is not None and _used(lane) + tokens > limits.tokens_per_minute:
        delay = _delay(_until_room(lane, limits.tokens_per_minute - tokens, now))
        return refusals.over_quota(refusals.TOKENS_PER_MINUTE, model, limits.tokens_per_minute, delay)
    if limits.concurrent is not None and inside > limits.concurrent:
        return refusals.over_quota(refusals.CONCURRENT, model, limits.concurrent, "1s")
    return None


def _used(lane: _Lane) -> int:
    return sum(tokens for _, tokens in lane.admitted)


def _until_room(lane: _Lane, allowed: int, now: float) -> float:
    """Seconds until what was admitted has shrunk to `allowed`; a whole minute when it never will."""
    used = _used(lane)
    for at, tokens in lane.admitted:
        used -= tokens
        if used <= allowed:
            return at + MINUTE_S - now
    return MINUTE_S


def _delay(seconds: float) -> str:
    """Rounded up to a millisecond: who waits so long is let in."""
    return f"{math.ceil(seconds * 1000) / 1000:.3f}s"
