"""Permits: the one authority over calls to a service. A worker asks before each call and settles it after.

Three doors have to be open at once: the breaker (does the service live?), the limiter (may it start now?) and the money
(does its worst case fit?). Then it is booked in the ledger, and the worker hears of it only when that is durable. A wait of
seconds is waited here, in the daemon; a longer one ends the attempt, so that no worker sleeps on a quota.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from gsvrd.clock import Clock
from gsvrd.daemon.calls import CallMeter
from gsvrd.daemon.doors import Doors
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.policy.breaker import Breaker
from gsvrd.policy.limiter import APILimiter, Call, Decision, Go, Instant, Lane, Refusal, Refuse, Wait
from gsvrd.policy.spending import COST_LIMIT, CostLimits, Price, Usage, may_spend, price_on, worst_case
from gsvrd.pool.base import Pool
from gsvrd.pool.messages import Ask, Denied, Granted, Settle
from gsvrd.store.ledger import QUOTA_DAY, Ledger

log = structlog.get_logger("gsvrd.permits")

BREAKER = "breaker"
"""Under this name the service's facts hold its state."""
PATIENCE_S = 10.0
"""A longer wait is not worth a worker."""
SHUT_S = 600.0
"""So long nothing is started after the service refused the key or the model; then one call tries again."""
_PASSING = frozenset({ErrorKind.SERVER.value, ErrorKind.NETWORK.value, ErrorKind.TIMEOUT.value})
_KINDS = {
    Refusal.KEY: (ErrorKind.KEY, "Set a valid key, then `kill -HUP` the daemon or wait."),
    Refusal.MODEL: (ErrorKind.MODEL, "Set analyzer.gemini.model to one that your key may use."),
    Refusal.PRICE: (ErrorKind.BUDGET, "Add the model's price to analyzer.gemini.prices, or take the cost limits out."),
    Refusal.COST: (ErrorKind.BUDGET, "Raise the cost limit, or wait for the next day."),
    Refusal.BATCH_COST: (ErrorKind.BUDGET, "Raise its cost_limit, in its folder or analyzer.gemini.cost_limit_batch."),
}
CALL_GRACE_S = 30.0
"""The SDK has the same limit and should be first; this much later the daemon ends what still hangs."""
_HANGS = ErrorFacts(
    ErrorKind.NETWORK, "a call to the service did not come back in time", "Nothing to do: it is tried again."
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration says about calls and money."""

    project: str
    """Limits are the project's, as the service counts them; a name of the operator's choosing."""
    cost: CostLimits
    prices: tuple[Price, ...]
    timeout_s: float = 300.0
    """A call that is not settled so long after its leave, and a grace, is ended with its attempt."""


@dataclass(slots=True)
class Permits:
    """Answers `Ask` and books `Settle`; see the module."""

    terms: Terms
    limiter: APILimiter
    ledger: Ledger
    breaker: Breaker
    pool: Pool
    doors: Doors
    clock: Clock
    after_commit: Callable[[Callable[[], None]], None]
    later: Callable[[float, Callable[[], None]], None]
    remember: Callable[[str, object], None]
    """Keep a small fact over restarts."""
    hold: Callable[[int, str], None]
    """Start nothing more of this batch."""
    free: Callable[[str], None]
    """Start the batches again whose reason begins so."""
    chance: Callable[[], float] = random.random
    calls: CallMeter = field(default_factory=CallMeter)
    """How long they take and wait; for whoever wants to know."""
    _waiting: list[Ask] = field(default_factory=list)
    _calls: dict[int, Ask] = field(default_factory=dict)
    """The open permits."""
    _batches: dict[int, int] = field(default_factory=dict)
    """The batch of each task that has asked."""
    _limits: dict[int, int | None] = field(default_factory=dict)
    """What that may cost."""

    def restore(self) -> None:
        """At start: close what a dead daemon left open, and remember what it sent in the last minute."""
        self.limiter.restore(self.ledger.recent(), self._now())
        self.ledger.recover()
        self.free(COST_LIMIT)

    @property
    def charges(self) -> bool:
        """Not while the service is known to be down."""
        return self.breaker.charges

    @property
    def batch_limit(self) -> int | None:
        """What a batch may cost for which nothing else was said, in micro-dollars."""
        return self.terms.cost.per_batch

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, ask: Ask, batch: int | None, cost_limit: int | None) -> None:
        """A worker wants to call, for a task of this batch, which may cost so many micro-dollars; None is no limit.

        It is answered soon.
        """
        if batch is not None:
            self._batches[ask.task] = batch
        self._limits[ask.task] = cost_limit
        self._waiting.append(ask)
        self.calls.asked((ask.task, ask.attempt), self.clock.monotonic())
        self.pump()

    def pump(self) -> None:
        """Answer whoever can be answered; in order, so that nobody is overtaken in a lane."""
        blocked: set[str] = set()
        for ask in list(self._waiting):
            if ask.lane not in blocked and not self._answered(ask):
                blocked.add(ask.lane)

    def _answered(self, ask: Ask) -> bool:
        now = self._now()
        decision = self._decide(ask, now)
        match decision:
            case Go():
                self._grant(ask, now)
            case Wait(until=until, reason=reason) if until is not None and until - now.monotonic > PATIENCE_S:
                error = ErrorFacts(ErrorKind.QUOTA, reason)
                self._reply(ask, Denied(ask.attempt, error, until - now.monotonic))
            case Wait(until=until):
                if until is not None:
                    self.later(until - now.monotonic, self.pump)
                return False
            case Refuse(kind=kind, reason=reason):
                self._refuse(ask, kind, reason)
        return True

    def _decide(self, ask: Ask, now: Instant) -> Decision:
        """The breaker before the limiter before the money: the first that does not say go has the word."""
        call = self._call(ask)
        decision = self.breaker.ask(now)
        if isinstance(decision, Go):
            decision = self.limiter.ask(call, self.ledger.day_use(call.project, call.model), now)
        if isinstance(decision, Go):
            cost = replace(self.terms.cost, per_batch=self._limits.get(ask.task))
            decision = may_spend(self._worst_case(ask), cost, self.ledger.sums(self._batches.get(ask.task)), now)
        return decision

    def _grant(self, ask: Ask, now: Instant) -> None:
        call = self._call(ask)
        permit = self.ledger.reserve(call, self._worst_case(ask) or 0, self._batches.get(ask.task))
        self.ledger.sent(permit)
        self.limiter.start(permit, call, now)
        self.breaker.start(ask.task)
        self._calls[permit] = ask
        if call.lane is Lane.GENERATE:
            self.calls.began(permit, (ask.task, ask.attempt), now.monotonic)
            # An upload may take hours on a thin line, and each of its pieces has a limit.
            self.pool.limit(ask.task, _limit_of(permit), self.terms.timeout_s + CALL_GRACE_S, _HANGS)
        self._reply(ask, Granted(ask.attempt, permit))

    def _refuse(self, ask: Ask, refusal: Refusal, reason: str) -> None:
        kind, hint = _KINDS[refusal]
        batch = self._batches.get(ask.task)
        if refusal is Refusal.BATCH_COST and batch is not None:
            log.warning("batch_held", batch=batch, reason=reason)
            self.hold(batch, reason)
        else:
            self._shut(kind, reason)
        self._reply(ask, Denied(ask.attempt, ErrorFacts(kind, reason, hint)))

    def _reply(self, ask: Ask, reply: Granted | Denied) -> None:
        self._waiting.remove(ask)
        self.calls.answered((ask.task, ask.attempt), self.clock.monotonic())
        self.after_commit(lambda: self.pool.answer(ask.task, reply))

    # -- settling ----------------------------------------------------------------------------------------------------

    def settle(self, settle: Settle) -> None:
        """A call has ended; only the first word on it counts."""
        ask = self._calls.pop(settle.permit, None)
        if ask is None or (ask.task, ask.attempt) != (settle.task, settle.attempt):
            return
        self.pool.limit(ask.task, _limit_of(settle.permit), None)
        self._book(ask, settle)
        self._learn(settle)
        self.pump()

    def _book(self, ask: Ask, settle: Settle) -> None:
        if not settle.was_sent:
            self.ledger.void(settle.permit, settle.outcome)
        elif not settle.is_known:
            self.ledger.unknown(settle.permit, settle.outcome)
        else:
            price = self._price(ask)
            usage = Usage(settle.tokens_in, settle.tokens_out)
            outcome = QUOTA_DAY if settle.is_daily else settle.outcome
            self.ledger.settle(settle.permit, outcome, usage, usage.cost(price) if price else 0)

    def _learn(self, settle: Settle) -> None:
        now = self._now()
        self.calls.ended(settle.permit, now.monotonic, for_load=_is_for_load(settle))
        if settle.outcome == ErrorKind.QUOTA.value and not settle.is_daily:
            self.limiter.cool_down(settle.permit, settle.retry_after_s, now)
        elif settle.outcome == "ok":
            self.limiter.accept(settle.permit, now, settle.tokens_in or None)
        else:
            self.limiter.release(settle.permit, sent=settle.was_sent)
        phase = self.breaker.phase
        if settle.outcome in _PASSING:
            self.breaker.fail(settle.task, now, self.chance())
        else:
            self.breaker.succeed(settle.task)
        if self.breaker.phase is not phase:
            log.warning("breaker", phase=self.breaker.phase.value)
            self.remember(BREAKER, self.breaker.save(now))
        if settle.outcome in (ErrorKind.KEY.value, ErrorKind.MODEL.value):
            self._shut(ErrorKind(settle.outcome), f"the service refused the {settle.outcome}")

    def ended(self, task: int, attempt: int) -> None:
        """An attempt is over, however: what it held or waited for is free."""
        self._waiting = [ask for ask in self._waiting if (ask.task, ask.attempt) != (task, attempt)]
        self._batches.pop(task, None)
        self._limits.pop(task, None)
        held = [permit for permit, ask in self._calls.items() if (ask.task, ask.attempt) == (task, attempt)]
        for permit in held:
            del self._calls[permit]
            self.calls.ended(permit, self.clock.monotonic(), for_load=None)
        self.ledger.end_attempt(task, attempt, "the attempt ended")
        self.limiter.end_attempt(task, attempt)
        self.breaker.abandon(task)
        if held:
            self.pump()

    # -- shutting ----------------------------------------------------------------------------------------------------

    def _shut(self, kind: ErrorKind, reason: str) -> None:
        """Start nothing for a while: every video would fare the same."""
        self.doors.close(f"service-{kind.value}", reason, self.clock.wall())
        self.later(SHUT_S, self.reopen)

    def reopen(self) -> None:
        """Try again: the time is over, or somebody has mended the configuration."""
        self.free(COST_LIMIT)
        for kind, _ in _KINDS.values():
            self.doors.open(f"service-{kind.value}")

    # -- small ones --------------------------------------------------------------------------------------------------

    def _call(self, ask: Ask) -> Call:
        return Call(ask.task, ask.attempt, Lane(ask.lane), self.terms.project, ask.model, ask.tokens_in)

    def _price(self, ask: Ask) -> Price | None:
        return price_on(self.terms.prices, ask.model, self.ledger.today().name)

    def _worst_case(self, ask: Ask) -> int | None:
        if ask.lane == Lane.UPLOAD:
            return 0
        price = self._price(ask)
        return None if price is None else worst_case(ask.tokens_in, ask.tokens_out_most, price)

    def _now(self) -> Instant:
        return Instant(self.clock.monotonic(), self.clock.wall())


def _is_for_load(settle: Settle) -> bool:
    """Refused or dropped because there is too much of it; a day that is used up is no load."""
    return settle.outcome in _PASSING or (settle.outcome == ErrorKind.QUOTA.value and not settle.is_daily)


def _limit_of(permit: int) -> str:
    return f"call {permit}"
