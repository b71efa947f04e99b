"""APILimiter: may this call start now? One instance in the daemon decides for all workers.

The daemon asks when a worker wants to call the service, tells what was started and how that ended, and at start hands over
the ledger's figures, so limits hold over restarts. Nothing here calls, waits or reads a clock. Asking books nothing, so a
call that another door refuses has used up nothing. Rates are counted as the service does, per project and model, in an
exact log of what was started (a token bucket that starts full lets twice its rate through in its first minute).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

MARGIN_S = 1.0  # what the network and the service's clock may make of our times
WINDOW_S = 60.0 + MARGIN_S
SPACING = 0.4
"""Calls are at least so much of their even distance apart: a full window never comes as one burst."""
COOL_DOWN_S, COOL_DOWN_MARGIN_S = (1.0, 3600.0), 0.5
"""Delays the service asks for are believed within these bounds; one of 292 years was seen."""
SLOWEST_PER_MINUTE, FEW, CUT = 1.0, 5.0, 0.9
RAISE, RAISE_AFTER_S, RAISE_AFTER_CALLS = 1.15, 600.0, 150

Moment = tuple[float, str]  # monotonic seconds before which nothing starts, and why


class Lane(StrEnum):
    """Calls that wait for one another. Uploads side by side clog the line, and then none finishes."""

    GENERATE = "generate"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks, in seconds."""

    monotonic: float
    wall: float


@dataclass(frozen=True, slots=True)
class Call:
    """What a worker wants to start. `tokens` is its input, counted or estimated. Uploads have an empty model."""

    task: int
    attempt: int
    lane: Lane
    project: str
    model: str
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class APILimits:
    """What is allowed, each at least 1. Rates are those of one project and model; they concern generate calls."""

    max_concurrent: int = 4
    uploads: int = 1
    requests_per_minute: float = math.inf
    tokens_per_minute: float = math.inf
    requests_per_day: float = math.inf


@dataclass(frozen=True, slots=True)
class DayUse:
    """The ledger's day of a project and model. `refused`: the service said it is used up; `ends_at` is wall time."""

    requests: int
    refused: bool
    ends_at: float


@dataclass(frozen=True, slots=True)
class Go:
    """It may start."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet. `until` is monotonic; None means: ask again when a call has ended."""

    until: float | None
    reason: str


class Refusal(StrEnum):
    """Why waiting is no use."""

    KEY = "key"
    MODEL = "model"
    PRICE = "price"
    COST = "cost"
    BATCH_COST = "batch_cost"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not at all, until a person changes something."""

    kind: Refusal
    reason: str


Decision = Go | Wait | Refuse


@dataclass(slots=True, eq=False)
class _Started:
    call: Call
    at: float
    tokens: int
    refused: bool = False


@dataclass(slots=True)
class _Meter:
    """The log of one project and model, and what refusals taught us about the rate that really passes."""

    log: deque[_Started] = field(default_factory=deque)
    cool: Moment = (-math.inf, "")
    rate: float = math.inf  # requests per minute that seem to pass; the configured limit holds as well
    good: float | None = None  # the rate before the last raise
    accepted: int = 0  # since the rate was changed
    changed_at: float = -math.inf

    def moments(self, tokens: int, limits: APILimits, now: float) -> Iterator[Moment]:
        """Everything of the last minute that the next call must wait for."""
        yield self.cool
        recent, rate, limit = self.recent(now), min(self.rate, limits.requests_per_minute), limits.tokens_per_minute
        if recent and rate < math.inf:
            yield recent[-1].at + SPACING * 60.0 / rate, "requests are spaced"
            if len(recent) >= int(rate):
                yield recent[-int(rate)].at + WINDOW_S, f"{int(rate)} requests per minute"
        if limit < math.inf:
            # A call beyond the limit waits for all others and passes alone, as the service was seen to allow.
            over = sum(started.tokens for started in recent) + tokens - limit
            for started in recent:
                if over > 0:
                    yield started.at + WINDOW_S, f"{limit} tokens per minute"
                over -= started.tokens

    def recent(self, now: float) -> deque[_Started]:
        """The log, without what is older than the minute."""
        while self.log and self.log[0].at + WINDOW_S <= now:
            self.log.popleft()
        return self.log

    def cut(self, refused: _Started, allowed: float, now: float) -> None:
        """One cut an incident: refusals of calls that started at an older rate say nothing about this one."""
        rate, minute = min(self.rate, allowed), [started.refused for started in self.recent(now)]
        if refused.at < self.changed_at or len(minute) < min(FEW, rate / 2):
            return  # few calls in the last minute: it was not their rate
        passed = max(minute.count(False), rate / 2 if rate < math.inf else FEW)
        self._change(self.good or max(SLOWEST_PER_MINUTE, min(CUT * rate, passed)), None, now)

    def accept(self, allowed: float, now: float) -> None:
        """After enough calls that passed, a little more is tried; if that fails, `cut` returns to the good rate.

        A try that fails costs a refusal: one in `RAISE_AFTER_CALLS` at most.
        """
        self.accepted += 1
        if self.rate < allowed and self.accepted >= RAISE_AFTER_CALLS and now - self.changed_at >= RAISE_AFTER_S:
            self._change(self.rate * RAISE, self.rate, now)

    def _change(self, rate: float, good: float | None, now: float) -> None:
        self.rate, self.good, self.accepted, self.changed_at = rate, good, 0, now


@dataclass(slots=True)
class APILimiter:
    """The one authority over calls. `limits` may be replaced while it works."""

    limits: APILimits
    _meters: dict[tuple[Lane, str, str], _Meter] = field(default_factory=dict)
    _leases: dict[int, _Started] = field(default_factory=dict)
    _closed: dict[tuple[str, str], Refuse | None] = field(default_factory=dict)

    def ask(self, call: Call, day: DayUse, now: Instant) -> Decision:
        """Whether the call may start now. Books nothing."""
        if closed := self._closed.get((call.project, "")) or self._closed.get((call.project, call.model)):
            return closed
        meter, limits = self._metered(call)
        until, reason = max([*meter.moments(call.tokens, limits, now.monotonic), _day(call, day, limits, now)])
        if until > now.monotonic:
            return Wait(until, reason)
        most = self.limits.max_concurrent if call.lane is Lane.GENERATE else self.limits.uploads
        if sum(lease.call.lane is call.lane for lease in self._leases.values()) >= most:
            return Wait(None, f"{most} {call.lane} calls at a time")
        return Go()

    def _metered(self, call: Call) -> tuple[_Meter, APILimits]:
        meter = self._meters.setdefault((call.lane, call.project, call.model), _Meter())
        return meter, self.limits if call.lane is Lane.GENERATE else APILimits()

    def start(self, permit: int, call: Call, now: Instant) -> None:
        """The call got this permit and holds a place in its lane until it ends."""
        lease = self._leases[permit] = _Started(call, now.monotonic, call.tokens)
        self._metered(call)[0].log.append(lease)

    def accept(self, permit: int, now: Instant, tokens: int | None = None) -> None:
        """The call ended and the service did the work; `tokens` is the input as it counted it."""
        if (lease := self._leases.pop(permit, None)) is not None:
            lease.tokens = lease.tokens if tokens is None else tokens
            meter, limits = self._metered(lease.call)
            meter.accept(limits.requests_per_minute, now.monotonic)

    def cool_down(self, permit: int, delay_s: float | None, now: Instant) -> None:
        """The call was refused for now (429). Its whole lane waits, `delay_s` seconds if the service named a time."""
        if (lease := self._leases.pop(permit, None)) is not None:
            lease.refused = True
            low, high = COOL_DOWN_S
            delay_s = WINDOW_S if delay_s is None or math.isnan(delay_s) else min(high, max(low, delay_s))
            meter, limits = self._metered(lease.call)
            meter.cool = max(meter.cool, (now.monotonic + delay_s + COOL_DOWN_MARGIN_S, "the service asked to wait"))
            meter.cut(lease, limits.requests_per_minute, now.monotonic)

    def release(self, permit: int, *, sent: bool = True) -> None:
        """The call ended in any other way. With `sent` unset it never left, and does not count against the minute."""
        if (lease := self._leases.pop(permit, None)) is not None and not sent:
            with suppress(ValueError):  # older than the minute
                self._metered(lease.call)[0].log.remove(lease)

    def end_attempt(self, task: int, attempt: int) -> None:
        """The attempt is over or its worker is gone: what it still holds is free."""
        for permit, lease in list(self._leases.items()):
            if (lease.call.task, lease.call.attempt) == (task, attempt):
                self.release(permit)

    @property
    def rate(self) -> float:
        """Generate calls a minute that pass: what is configured, or the least that refusals have taught of a model."""
        learned = [meter.rate for (lane, _, _), meter in self._meters.items() if lane is Lane.GENERATE]
        return min([self.limits.requests_per_minute, *learned])

    def close(self, refuse: Refuse | None, project: str, model: str = "") -> None:
        """Refuse all calls of the project, or those to one model; None lets them pass again."""
        self._closed[project, model] = refuse

    def restore(self, sent: Iterable[tuple[float, Call]], now: Instant) -> None:
        """At start: what earlier processes sent in the last `WINDOW_S`, by wall time, oldest first.

        A time still to come says that the clock was set back: anything may be recent, and a whole window is waited.
        """
        for at_wall, call in sent:
            meter = self._metered(call)[0]
            meter.log.append(_Started(call, now.monotonic - max(0.0, now.wall - at_wall), call.tokens))
            if at_wall > now.wall:
                meter.cool = (now.monotonic + WINDOW_S, "the clock was set back")


def _day(call: Call, day: DayUse, limits: APILimits, now: Instant) -> Moment:
    if call.lane is not Lane.GENERATE or (day.requests < limits.requests_per_day and not day.refused):
        return -math.inf, ""
    until = now.monotonic + max(0.0, day.ends_at - now.wall) + MARGIN_S
    return until, "the service's day is used up" if day.refused else f"{limits.requests_per_day} requests per day"
