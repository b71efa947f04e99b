"""What a call may cost, and whether that may still be spent. Asked before each call; settled with what the service counted.

Money is in whole micro-dollars, never floats. A call is booked at its worst case first: with several workers, booking
estimates, or looking first and booking later, passes the limit. Prices come from the configuration, with the days
they are valid on. Pure: the ledger keeps the sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gsvrd.policy.limiter import MARGIN_S, Decision, Go, Instant, Refusal, Refuse, Wait

MILLION = 1_000_000
LONG_PROMPT_TOKENS = 200_000


COST_LIMIT = "the cost limit"
"""How the reasons begin that end with a higher limit."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Micro-dollars per million tokens; thinking is output."""

    input_per_million: int
    output_per_million: int


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs from one day to another, both included, `YYYY-MM-DD`; empty is open."""

    model: str
    rates: Rates
    above_200k: Rates | None = None
    """For the whole call, when its prompt is longer than 200,000 tokens."""
    valid_from: str = ""
    valid_until: str = ""

    def cost(self, tokens_in: int, tokens_out: int) -> int:
        """Micro-dollars, rounded up."""
        rates = self.above_200k if self.above_200k and tokens_in > LONG_PROMPT_TOKENS else self.rates
        return -(-(tokens_in * rates.input_per_million + tokens_out * rates.output_per_million) // MILLION)


def price_on(prices: Iterable[Price], model: str, day: str) -> Price | None:
    """The price of a model on a day, the one with the latest start if several hold; None when none is known."""
    valid = [
        p for p in prices if p.model == model and p.valid_from <= day and (not p.valid_until or day <= p.valid_until)
    ]
    return max(valid, key=lambda price: price.valid_from, default=None)


def worst_case(tokens_in: int, max_output_tokens: int, price: Price) -> int:
    """The most a call can cost, in micro-dollars. `tokens_in` must be an upper bound, `max_output_tokens` with thinking."""
    return price.cost(tokens_in, max_output_tokens)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the service counted them."""

    tokens_in: int = 0
    tokens_out: int = 0
    thoughts: int = 0

    @classmethod
    def read(cls, prompt: int, candidates: int, total: int, thoughts: int | None = None) -> Usage:
        """From an answer's counts. google-generativeai has no `thoughts`: they are what the total has beyond the rest."""
        prompt, candidates = max(0, prompt), max(0, candidates)
        return cls(prompt, candidates, max(0, total - prompt - candidates if thoughts is None else thoughts))

    def cost(self, price: Price) -> int:
        """Micro-dollars."""
        return price.cost(self.tokens_in, self.tokens_out + self.thoughts)


@dataclass(frozen=True, slots=True)
class CostLimits:
    """The most to spend, in micro-dollars; None is no limit."""

    per_day: int | None = None
    per_batch: int | None = None
    total: int | None = None

    @property
    def any(self) -> bool:
        """Whether money matters at all."""
        return (self.per_day, self.per_batch, self.total) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Money:
    """What is spent for good, and what calls under way may yet cost, in micro-dollars."""

    settled: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Sums:
    """The ledger's sums a call is measured by; outside a batch, `batch` is nothing. `day_ends_at` is wall time."""

    day: Money
    batch: Money
    total: Money
    day_ends_at: float


def may_spend(upper: int | None, limits: CostLimits, sums: Sums, now: Instant) -> Decision:
    """Whether a call that costs at most `upper` micro-dollars may be booked; None is an unknown price.

    `Wait(None)` where a call under way holds money that it may give back.
    """
    if upper is None:
        if limits.any:
            return Refuse(Refusal.PRICE, "there is a cost limit, but no price for the model today")
        return Go()
    tomorrow = now.monotonic + max(0.0, sums.day_ends_at - now.wall) + MARGIN_S
    scopes = (
        ("in total", limits.total, sums.total, None, Refusal.COST),
        ("for the batch", limits.per_batch, sums.batch, None, Refusal.BATCH_COST),
        ("a day", limits.per_day, sums.day, tomorrow, Refusal.COST),
    )
    decision: Decision = Go()
    for name, limit, money, renewed, refusal in scopes:
        if limit is None or money.settled + money.reserved + upper <= limit:
            continue
        reason = f"{COST_LIMIT} {name} is {dollars(limit)}, {dollars(money.settled)} are spent"
        if money.settled + upper <= limit:
            decision = Wait(None, f"{reason}, {dollars(money.reserved)} reserved")
        elif renewed is not None and upper <= limit:
            decision = Wait(renewed, reason)
        else:
            return Refuse(refusal, f"{reason}, and the call may cost {dollars(upper)}")
    return decision


def dollars(micro: int) -> str:
    """For people: cents, and finer only where there is something finer."""
    return f"${micro / MILLION:.{2 if micro % 10_000 == 0 else 4}f}"
