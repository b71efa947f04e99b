"""Before a call starts: the product's own limiter and breaker, or what the plan had instead of them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from gsvrd.errors import ErrorKind
from gsvrd.policy.breaker import Breaker
from gsvrd.policy.limiter import APILimiter, APILimits, Call, DayUse, Decision, Go, Instant, Lane, Wait
from gsvrd.policy.retry import Answer, RetryStrategy, Verdict

PATIENCE_S = 10.0
"""As `daemon.permits`: a longer wait ends the attempt."""
OUTAGE_S = 30.0
"""As `daemon.attempts`."""
_DAY = DayUse(0, False, 0.0)


class Doors(Protocol):
    """May it start, and what becomes of it."""

    patience_s: float
    """A longer wait gives the task back; with inf it is waited on the worker."""

    def ask(self, task: int, now: float) -> Decision:
        """Books nothing."""
        ...

    def start(self, permit: int, task: int, now: float) -> None:
        """The call starts."""
        ...

    def accept(self, permit: int, task: int, now: float) -> None:
        """It was answered."""
        ...

    def refuse(self, permit: int, task: int, delay_s: float, now: float) -> float | None:
        """429. For how long the worker sleeps on it; None when the task comes again by itself."""
        ...

    def fail(self, permit: int, task: int, spent: int, now: float) -> Verdict:
        """503, or nothing for too long."""
        ...

    def rate(self) -> float | None:
        """Calls a minute."""
        ...


@dataclass(slots=True)
class OwnDoors:
    """The product's."""

    told_rate: float
    rng: Random
    patience_s: float = PATIENCE_S
    limiter: APILimiter = field(init=False)
    breaker: Breaker = field(default_factory=Breaker)
    strategy: RetryStrategy = field(default_factory=RetryStrategy)

    def __post_init__(self) -> None:
        self.limiter = APILimiter(APILimits(max_concurrent=1000, requests_per_minute=self.told_rate))

    def ask(self, task: int, now: float) -> Decision:
        at = Instant(now, now)
        decision = self.breaker.ask(at)
        return self.limiter.ask(_call(task), _DAY, at) if isinstance(decision, Go) else decision

    def start(self, permit: int, task: int, now: float) -> None:
        self.limiter.start(permit, _call(task), Instant(now, now))
        self.breaker.start(task)

    def accept(self, permit: int, task: int, now: float) -> None:
        self.limiter.accept(permit, Instant(now, now))
        self.breaker.succeed(task)

    def refuse(self, permit: int, task: int, delay_s: float, now: float) -> float | None:
        self.limiter.cool_down(permit, delay_s, Instant(now, now))
        self.breaker.succeed(task)
        return None

    def fail(self, permit: int, task: int, spent: int, now: float) -> Verdict:
        self.limiter.release(permit)
        self.breaker.fail(task, Instant(now, now), self.rng.random())
        if not self.breaker.charges:
            return Verdict(Answer.GIVE_BACK, OUTAGE_S * (0.5 + self.rng.random()))
        return self.strategy.judge(ErrorKind.SERVER, spent=spent, deaths=0, chance=self.rng.random())

    def rate(self) -> float | None:
        learned = [meter.rate for (lane, _, _), meter in self.limiter._meters.items() if lane is Lane.GENERATE]
        rate = min([self.told_rate, *learned])
        return None if rate == math.inf else rate


@dataclass(slots=True)
class PlanDoors:
    """The plan's: a bucket of a minute's calls that starts full, and workers that sleep between a few tries."""

    told_rate: float
    rng: Random
    patience_s: float = math.inf
    _tokens: float = field(init=False)
    _at: float = 0.0
    _tries: dict[int, int] = field(default_factory=dict)
    _failed: deque[bool] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._tokens = self.told_rate

    def ask(self, task: int, now: float) -> Decision:
        if self.told_rate == math.inf:
            return Go()
        self._tokens = min(self.told_rate, self._tokens + (now - self._at) * self.told_rate / 60.0)
        self._at = now
        lacking = 1.0 - self._tokens
        return Go() if lacking <= 1e-9 else Wait(now + lacking * 60.0 / self.told_rate, "bucket")

    def start(self, permit: int, task: int, now: float) -> None:
        self._tokens -= 1.0

    def accept(self, permit: int, task: int, now: float) -> None:
        self._tries.pop(task, None)

    def refuse(self, permit: int, task: int, delay_s: float, now: float) -> float | None:
        tries = self._tries[task] = self._tries.get(task, 0) + 1
        return 10.0 * 2.0**tries * self.rng.uniform(0.5, 1.5)

    def fail(self, permit: int, task: int, spent: int, now: float) -> Verdict:
        if spent >= 3:
            return Verdict(Answer.GIVE_UP)
        return Verdict(Answer.RETRY, 2.0 * 2.0**spent * self.rng.uniform(0.5, 1.5))

    def rate(self) -> float | None:
        return self.told_rate if self.told_rate < math.inf else None


def _call(task: int) -> Call:
    return Call(task, 1, Lane.GENERATE, "project", "model")
