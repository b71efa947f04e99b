from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvrd.policy.limiter import Go, Instant, Refusal, Refuse, Wait
from gsvrd.policy.spending import (
    CostLimits,
    Money,
    Price,
    Rates,
    Sums,
    Usage,
    dollars,
    may_spend,
    price_on,
    worst_case,
)

FLASH_2026 = Price("flash", Rates(750_000, 3_750_000), valid_until="2026-12-31")
FLASH_2027 = Price("flash", Rates(1_500_000, 7_500_000), valid_from="2027-01-01")
PRO = Price("pro", Rates(2_000_000, 12_000_000), above_200k=Rates(4_000_000, 18_000_000))
NOW = Instant(100.0, 1_000_000.0)


def sums(day: Money = Money(), batch: Money = Money(), total: Money = Money()) -> Sums:  # noqa: B008 (frozen)
    return Sums(day, batch, total, day_ends_at=1_000_500.0)


def test_a_price_holds_on_its_first_and_last_day() -> None:
    prices = (FLASH_2027, FLASH_2026, PRO)
    assert price_on(prices, "flash", "2026-12-31") is FLASH_2026
    assert price_on(prices, "flash", "2027-01-01") is FLASH_2027
    assert price_on(prices, "pro", "2030-01-01") is PRO
    assert price_on(prices, "ultra", "2026-12-31") is None
    assert price_on([FLASH_2026], "flash", "2027-01-01") is None
    assert price_on([FLASH_2027], "flash", "2026-12-31") is None


def test_of_two_prices_that_hold_the_newer_one_counts() -> None:
    standing = Price("flash", Rates(1, 1))
    assert price_on([FLASH_2027, standing], "flash", "2027-06-01") is FLASH_2027


def test_an_hour_of_video_costs_what_the_price_list_says_in_whole_micro_dollars() -> None:
    assert worst_case(367_000, 10_000, FLASH_2026) == 312_750
    assert FLASH_2026.cost(1, 0) == 1  # rounded up: a sum of calls is never too low


def test_a_long_prompt_makes_the_whole_call_dearer() -> None:
    assert PRO.cost(200_000, 1000) == 412_000
    assert PRO.cost(200_001, 1000) == 818_004


@given(st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_no_use_within_the_bounds_costs_more_than_the_worst_case(bound: int, out: int, less: int, fewer: int) -> None:
    for price in (FLASH_2026, PRO):
        assert price.cost(max(0, bound - less), max(0, out - fewer)) <= worst_case(bound, out, price)


def test_thoughts_are_output_and_are_derived_where_the_sdk_does_not_know_them() -> None:
    assert Usage.read(10, 20, 94) == Usage(10, 20, 64)
    assert Usage.read(10, 20, 94, thoughts=60) == Usage(10, 20, 60)
    assert Usage.read(10, 20, 0) == Usage(10, 20, 0)
    assert Usage.read(-1, -1, -1, thoughts=-1) == Usage(0, 0, 0)
    assert Usage(0, 20, 64).cost(FLASH_2026) == FLASH_2026.cost(0, 84)


def test_without_limits_an_unknown_price_does_not_matter_and_with_any_it_does() -> None:
    assert may_spend(None, CostLimits(), sums(), NOW) == Go()
    for limits in (CostLimits(per_day=1), CostLimits(per_batch=1), CostLimits(total=0)):
        refused = may_spend(None, limits, sums(), NOW)
        assert isinstance(refused, Refuse)
        assert refused.kind is Refusal.PRICE


@pytest.mark.parametrize("scope", ["day", "batch", "total"])
def test_settled_reserved_and_asked_together_may_reach_the_limit_and_not_pass_it(scope: str) -> None:
    limits = {"day": CostLimits(per_day=100), "batch": CostLimits(per_batch=100), "total": CostLimits(total=100)}[scope]
    booked = sums(**{scope: Money(settled=50, reserved=30)})
    assert may_spend(20, limits, booked, NOW) == Go()
    assert may_spend(21, limits, booked, NOW) != Go()


def test_money_that_a_running_call_may_give_back_is_waited_for() -> None:
    decision = may_spend(30, CostLimits(total=100), sums(total=Money(50, 30)), NOW)
    assert isinstance(decision, Wait)
    assert decision.until is None
    assert "reserved" in decision.reason


def test_a_day_that_is_spent_waits_for_the_next_and_a_batch_or_total_is_refused() -> None:
    spent = Money(settled=90)
    assert may_spend(20, CostLimits(per_day=100), sums(day=spent), NOW) == Wait(
        601.0, "the cost limit a day is $0.0001, $0.0001 are spent"
    )
    kinds = ((CostLimits(per_batch=100), Refusal.BATCH_COST), (CostLimits(total=100), Refusal.COST))
    for limits, kind in kinds:
        refused = may_spend(20, limits, sums(batch=spent, total=spent), NOW)
        assert isinstance(refused, Refuse)
        assert refused.kind is kind


def test_a_call_that_no_day_can_pay_is_refused() -> None:
    assert isinstance(may_spend(101, CostLimits(per_day=100), sums(), NOW), Refuse)


def test_the_hardest_limit_speaks() -> None:
    limits = CostLimits(per_day=100, per_batch=100, total=100)
    soft, hard = Money(50, 40), Money(90)
    assert isinstance(may_spend(20, limits, sums(day=soft, batch=hard, total=soft), NOW), Refuse)
    assert may_spend(20, limits, sums(day=hard, batch=soft, total=soft), NOW) == Wait(
        601.0, "the cost limit a day is $0.0001, $0.0001 are spent"
    )


def test_people_read_dollars() -> None:
    assert [dollars(micro) for micro in (0, 10_000_000, 312_750, 1_230_000)] == ["$0.00", "$10.00", "$0.3127", "$1.23"]
