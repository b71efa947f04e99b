"""Is the service up? A circuit breaker, and how well retries have done after each kind of error.

The daemon asks the breaker before a call and reports how calls ended; while it is not closed, failures are the service's
and no attempt is charged. Both parts keep monotonic times in memory and save plain data that survives a restart. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from gsvrd.policy.limiter import Decision, Go, Instant, Wait

IN_A_ROW = 5
LAST, SHARE = 10, 0.5
OPEN_FIRST_S, OPEN_MOST_S, SPREAD = 30.0, 300.0, 0.2

ALPHA, MIDDLE, HOPELESS = 0.1, 0.5, 0.1
HALF_LIFE_S = 600.0

RETRIES_SHARE, RETRIES_A_MINUTE = 0.1, 1.0
RETRIES_LEAST, RETRIES_MOST = 3.0, 20.0
"""What there is at the start, and what is saved up at the most."""
_TINY = 1e-9


class Phase(StrEnum):
    """Where the breaker stands."""

    CLOSED = "closed"
    """Calls pass."""
    OPEN = "open"
    """None does, for a while."""
    HALF_OPEN = "half_open"
    """One does, to see."""


class SavedBreaker(msgspec.Struct, frozen=True):
    """A breaker at rest: plain data."""

    phase: Phase
    recent: list[bool]
    openings: int
    reopens_in_s: float
    wall: float


@dataclass(slots=True)
class Breaker:
    """For one service. A task has at most one call under way."""

    phase: Phase = Phase.CLOSED
    _recent: list[bool] = field(default_factory=list)
    """How the last calls ended, the newest last; True is a success."""
    _openings: int = 0
    """In a row, without a call that passed between."""
    _until: float = 0.0
    _calls: dict[int, int] = field(default_factory=dict)
    """Task to the era its call started in: what was sent before an outage says nothing after it."""
    _era: int = 0
    _probe: int | None = None

    @property
    def charges(self) -> bool:
        """Whether a failed attempt counts against its task."""
        return self.phase is Phase.CLOSED

    def ask(self, now: Instant) -> Decision:
        """Whether a call may start."""
        if self.phase is Phase.CLOSED:
            return Go()
        if now.monotonic < self._until:
            return Wait(self._until, "the service fails again and again")
        return Go() if self._probe is None else Wait(None, "one call tries whether the service is back")

    def start(self, task: int) -> None:
        """The task's call starts, after `ask` said go and so did every other door."""
        if self.phase is not Phase.CLOSED:
            self.phase, self._probe = Phase.HALF_OPEN, task
        self._calls[task] = self._era

    def succeed(self, task: int) -> None:
        """The service answered: also a refusal of the request itself is an answer."""
        if not self._counts(task):
            return
        if self.phase is Phase.HALF_OPEN:
            self.phase, self._recent, self._openings, self._probe = Phase.CLOSED, [], 0, None
            self._era += 1
        self._recent = [*self._recent, True][-LAST:]

    def fail(self, task: int, now: Instant, chance: float) -> None:
        """The call failed in a way that passes: 5xx, reset, timeout. `chance` in [0, 1) spreads the pause."""
        if not self._counts(task):
            return
        self._recent = [*self._recent, False][-LAST:]
        in_a_row = len(self._recent) >= IN_A_ROW and not any(self._recent[-IN_A_ROW:])
        share = len(self._recent) == LAST and self._recent.count(False) >= SHARE * LAST
        if in_a_row or share or self.phase is Phase.HALF_OPEN:
            pause_s = min(OPEN_MOST_S, OPEN_FIRST_S * 2.0 ** min(self._openings, 10))
            self._until = now.monotonic + pause_s * (1.0 + SPREAD * (2.0 * chance - 1.0))
            self.phase, self._openings, self._probe = Phase.OPEN, self._openings + 1, None
            self._era += 1

    def abandon(self, task: int) -> None:
        """The call ended without telling anything: cancelled, or its worker died. Unknown tasks are ignored."""
        self._calls.pop(task, None)
        if self._probe == task:
            self._probe = None

    def _counts(self, task: int) -> bool:
        return self._calls.pop(task, None) == self._era

    def save(self, now: Instant) -> SavedBreaker:
        """As plain data; calls under way are forgotten, as they end with this process."""
        return SavedBreaker(self.phase, self._recent, self._openings, max(0.0, self._until - now.monotonic), now.wall)

    @classmethod
    def restore(cls, saved: object, now: Instant) -> Breaker:
        """From `save`, decoded JSON or not; a closed one from anything else."""
        try:
            was = msgspec.convert(saved, SavedBreaker, from_attributes=True)
        except msgspec.ValidationError:
            return cls()
        phase = Phase.CLOSED if was.phase is Phase.CLOSED else Phase.OPEN
        left_s = min(OPEN_MOST_S * (1.0 + SPREAD), was.reopens_in_s - max(0.0, now.wall - was.wall))
        return cls(phase, list(was.recent), was.openings, now.monotonic + left_s)


class SavedBudget(msgspec.Struct, frozen=True):
    """What a budget held, and the wall time it is of."""

    left: float
    wall: float


@dataclass(slots=True)
class RetryBudget:
    """How much of what the service is asked may be asked again: a tenth of the calls, and one a minute besides.

    When a service is slow to fail, retries of everything would be most of its load and keep it down. Who finds the budget
    empty waits in the queue, and no attempt is charged. It is kept over a restart as of the last time somebody asked: what
    calls have brought in since is lost, a tenth of a retry each.
    """

    _left: float = RETRIES_LEAST
    _at: float | None = None

    def called(self) -> None:
        """A call has ended, however."""
        self._left = min(RETRIES_MOST, self._left + RETRIES_SHARE)

    def take(self, now: Instant) -> float:
        """Ask for one retry: 0, and it is taken; else the seconds after which there may be one."""
        passed = max(0.0, now.monotonic - (now.monotonic if self._at is None else self._at))
        self._at = now.monotonic
        self._left = min(RETRIES_MOST, self._left + passed * RETRIES_A_MINUTE / 60.0)
        if self._left >= 1.0 - _TINY:
            self._left -= 1.0
            return 0.0
        return (1.0 - self._left) * 60.0 / RETRIES_A_MINUTE

    def save(self, now: Instant) -> SavedBudget:
        """As plain data."""
        return SavedBudget(self._left, now.wall)

    @classmethod
    def restore(cls, saved: object, now: Instant) -> RetryBudget:
        """From `save`, decoded JSON or not; a new one from anything else."""
        try:
            was = msgspec.convert(saved, SavedBudget, from_attributes=True)
        except msgspec.ValidationError:
            return cls()
        left = min(RETRIES_MOST, max(0.0, was.left))
        return cls(left, now.monotonic - max(0.0, now.wall - was.wall))


class SavedRate(msgspec.Struct, frozen=True):
    """A success rate and the wall time it is of."""

    rate: float
    wall: float


@dataclass(slots=True)
class SuccessRates:
    """For each kind of passing error: the share of tries after it that succeeded, a moving average.

    It drifts back to the middle with time, so that no kind is given up for ever after one bad night.
    """

    _rates: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Kind to rate and monotonic time."""

    def note(self, kind: str, *, succeeded: bool, charged: bool, now: Instant) -> None:
        """A try after an error of `kind` has ended; with `charged` unset (see `Breaker.charges`) it is ignored."""
        if charged:
            rate = self.rate(kind, now)
            self._rates[kind] = (rate + ALPHA * (float(succeeded) - rate), now.monotonic)

    def rate(self, kind: str, now: Instant) -> float:
        """Between 0 and 1."""
        rate, at = self._rates.get(kind, (MIDDLE, now.monotonic))
        return MIDDLE + (rate - MIDDLE) * math.exp2(-max(0.0, now.monotonic - at) / HALF_LIFE_S)

    def is_hopeless(self, kind: str, now: Instant) -> bool:
        """Whether another try after `kind` is given up early."""
        return self.rate(kind, now) < HOPELESS

    def save(self, now: Instant) -> dict[str, SavedRate]:
        """As plain data."""
        return {kind: SavedRate(self.rate(kind, now), now.wall) for kind in self._rates}

    @classmethod
    def restore(cls, saved: object, now: Instant) -> SuccessRates:
        """From `save`, decoded JSON or not; without a memory from anything else."""
        try:
            was = msgspec.convert(saved, dict[str, SavedRate], from_attributes=True)
        except msgspec.ValidationError:
            return cls()
        return cls({kind: (one.rate, now.monotonic - max(0.0, now.wall - one.wall)) for kind, one in was.items()})
