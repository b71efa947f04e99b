from __future__ import annotations

import msgspec
import pytest

from gsvrd.policy.breaker import Breaker, Phase, RetryBudget, SuccessRates
from gsvrd.policy.limiter import Go, Instant, Wait


def at(seconds: float, wall: float | None = None) -> Instant:
    return Instant(seconds, 1_800_000_000.0 + seconds if wall is None else wall)


def result(breaker: Breaker, task: int, now: float, *, ok: bool, chance: float = 0.5) -> None:
    breaker.start(task)
    if ok:
        breaker.succeed(task)
    else:
        breaker.fail(task, at(now), chance)


def opened(now: float = 0.0, chance: float = 0.5) -> Breaker:
    breaker = Breaker()
    for task in range(5):
        result(breaker, task, now, ok=False, chance=chance)
    assert breaker.phase is Phase.OPEN
    return breaker


def ends(breaker: Breaker, now: float) -> float:
    decision = breaker.ask(at(now))
    assert isinstance(decision, Wait)
    assert decision.until is not None
    return decision.until


# -- the breaker ---------------------------------------------------------------------------------------------------------


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    breaker = Breaker()
    for task, ok in enumerate([True, False, False, False, False]):
        result(breaker, task, 0, ok=ok)
    assert breaker.ask(at(0)) == Go()
    assert breaker.charges
    result(breaker, 9, 0, ok=False)
    assert ends(breaker, 0) == 30.0
    assert not breaker.charges


def test_half_of_the_last_ten_opens_it_and_less_does_not() -> None:
    breaker = Breaker()
    for task, ok in enumerate([True, False] * 4 + [True, True, True]):
        result(breaker, task, 0, ok=ok)
    assert breaker.charges
    for task, ok in enumerate([False, False]):
        result(breaker, task, 0, ok=ok)
    assert not breaker.charges


def test_half_of_fewer_than_ten_says_nothing() -> None:
    breaker = Breaker()
    for task, ok in enumerate([False, True] * 4 + [False]):
        result(breaker, task, 0, ok=ok)
    assert breaker.phase is Phase.CLOSED


def test_one_task_at_a_time_tries_whether_the_service_is_back() -> None:
    breaker = opened()
    assert breaker.ask(at(29.9)) != Go()
    assert breaker.ask(at(30.0)) == Go()
    breaker.start(7)
    assert not breaker.charges
    assert breaker.ask(at(1000.0)) == Wait(None, "one call tries whether the service is back")
    breaker.succeed(7)
    assert breaker.ask(at(1000.0)) == Go()
    assert breaker.charges


def test_each_probe_that_fails_doubles_the_pause_up_to_five_minutes_and_success_forgets_it() -> None:
    breaker = opened()
    now, pauses = 0.0, []
    for _ in range(2000):  # a week without the service
        pauses.append(ends(breaker, now) - now)
        now = ends(breaker, now)
        result(breaker, 7, now, ok=False)
    assert pauses[:6] == [30.0, 60.0, 120.0, 240.0, 300.0, 300.0]
    assert pauses[-1] == 300.0
    result(breaker, 7, now, ok=True)
    for task in range(5):
        result(breaker, task, now, ok=False)
    assert ends(breaker, now) - now == 30.0


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, 24.0), (0.5, 30.0), (0.999999, 36.0)])
def test_the_pause_is_spread_by_a_fifth(chance: float, pause_s: float) -> None:
    assert ends(opened(chance=chance), 0.0) == pytest.approx(pause_s, abs=0.001)


@pytest.mark.parametrize("came_back", [False, True])
def test_results_of_calls_from_before_the_outage_count_for_nothing(came_back: bool) -> None:
    breaker = Breaker()
    for task in range(20):
        breaker.start(task)
    for task in range(5):
        breaker.fail(task, at(0), 0.5)
    if came_back:
        result(breaker, 99, 30, ok=True)
    for task in range(5, 19):
        breaker.fail(task, at(40), 0.5)
    breaker.succeed(19)
    assert breaker.phase is (Phase.CLOSED if came_back else Phase.OPEN)
    assert breaker.ask(at(40)) == Go(), "late failures did not lengthen the pause"


def test_a_probe_whose_worker_dies_makes_room_for_the_next() -> None:
    breaker = opened()
    breaker.start(7)
    breaker.abandon(3)
    assert breaker.ask(at(30)) != Go()
    breaker.abandon(7)
    assert breaker.ask(at(30)) == Go()
    breaker.fail(7, at(30), 0.5)  # a late word of the dead one
    assert breaker.ask(at(30)) == Go()


def saved(breaker: Breaker, now: Instant) -> object:
    return msgspec.json.decode(msgspec.json.encode(breaker.save(now)))


def test_it_survives_a_restart_as_json_with_the_time_that_is_left() -> None:
    data = saved(opened(1000.0), at(1010.0))
    assert ends(Breaker.restore(data, Instant(5.0, at(1015.0).wall)), 5.0) == 5.0 + 15.0
    assert Breaker.restore(data, Instant(5.0, at(1030.0).wall)).ask(at(5.0)) == Go()
    assert not Breaker.restore(data, Instant(5.0, at(9999.0).wall)).charges


def test_a_clock_that_jumps_between_two_runs_leaves_it_open_no_longer_than_it_was() -> None:
    data = saved(opened(1000.0), at(1010.0))
    assert ends(Breaker.restore(data, Instant(5.0, at(1010.0).wall - 7200)), 5.0) == 25.0
    assert Breaker.restore(data, Instant(5.0, at(1010.0).wall + 7200)).ask(at(5.0)) == Go()


def test_a_probe_that_a_restart_cut_off_is_made_anew_and_its_failure_counts_on() -> None:
    breaker = opened()
    breaker.start(7)
    again = Breaker.restore(saved(breaker, at(40.0)), at(40.0))
    assert again.ask(at(40.0)) == Go()
    result(again, 8, 40.0, ok=False)
    assert ends(again, 40.0) == 100.0


def test_failures_in_a_row_are_counted_over_a_restart() -> None:
    breaker = Breaker()
    for task in range(4):
        result(breaker, task, 0, ok=False)
    again = Breaker.restore(saved(breaker, at(0)), at(0))
    result(again, 1, 0, ok=False)
    assert again.phase is Phase.OPEN


@pytest.mark.parametrize("data", [None, 7, {}, {"phase": "ajar"}, []])
def test_what_cannot_be_read_is_a_closed_breaker_and_no_memory(data: object) -> None:
    assert Breaker.restore(data, at(0)).charges
    assert SuccessRates.restore(data, at(0)).rate("network", at(0)) == 0.5


# -- success rates -------------------------------------------------------------------------------------------------------


def failing(times: int, kind: str = "network", *, charged: bool = True) -> SuccessRates:
    rates = SuccessRates()
    for _ in range(times):
        rates.note(kind, succeeded=False, charged=charged, now=at(0))
    return rates


def test_sixteen_failures_are_hopeless_and_fifteen_are_not() -> None:
    assert not failing(15).is_hopeless("network", at(0))
    assert failing(16).is_hopeless("network", at(0))
    assert not failing(16).is_hopeless("quota", at(0))


def test_the_average_moves_a_tenth_of_the_way() -> None:
    rates = SuccessRates()
    rates.note("network", succeeded=True, charged=True, now=at(0))
    assert rates.rate("network", at(0)) == pytest.approx(0.55)


def test_tries_while_the_breaker_is_open_say_nothing() -> None:
    assert failing(50, charged=False).rate("network", at(0)) == 0.5


def test_ten_minutes_bring_a_rate_half_way_back_to_the_middle() -> None:
    rates = failing(16)
    was = rates.rate("network", at(0))
    assert rates.rate("network", at(600)) == pytest.approx(0.5 - (0.5 - was) / 2)
    assert rates.rate("network", at(10**9)) == pytest.approx(0.5)
    assert rates.rate("network", at(-3600)) == was


def test_rates_survive_a_restart_as_json_and_clocks_that_jump() -> None:
    rates = failing(20)
    was = rates.rate("network", at(0))
    data = msgspec.json.decode(msgspec.json.encode(rates.save(at(0))))
    later = Instant(3.0, at(600).wall)
    assert SuccessRates.restore(data, later).rate("network", later) == pytest.approx(0.5 - (0.5 - was) / 2)
    earlier = Instant(3.0, at(0).wall - 7200)
    assert SuccessRates.restore(data, earlier).rate("network", earlier) == pytest.approx(was)


# -- the budget of retries ---------------------------------------------------------------------------------------------


def test_retries_are_a_tenth_of_the_calls_and_one_a_minute() -> None:
    budget, taken = RetryBudget(), 0
    for second in range(600):
        for _ in range(2):
            budget.called()
        while budget.take(Instant(float(second), 0.0)) == 0.0:
            taken += 1
    assert taken == pytest.approx(3 + 0.1 * 1200 + 10, abs=1)


def test_who_finds_the_budget_empty_is_told_when_there_is_one() -> None:
    budget, now = RetryBudget(), Instant(100.0, 0.0)
    assert [budget.take(now) for _ in range(3)] == [0.0, 0.0, 0.0]
    wait_s = budget.take(now)
    assert wait_s == 60.0
    assert budget.take(Instant(100.0 + wait_s - 1.0, 0.0)) > 0.0
    assert budget.take(Instant(100.0 + wait_s, 0.0)) == 0.0


def test_a_budget_that_nobody_used_is_not_saved_up_for_ever_and_a_clock_that_runs_backwards_adds_nothing() -> None:
    budget = RetryBudget()
    budget.take(Instant(0.0, 0.0))
    assert sum(budget.take(Instant(1e6, 0.0)) == 0.0 for _ in range(100)) == 20
    assert budget.take(Instant(5.0, 0.0)) > 0.0


def test_a_restart_does_not_fill_the_budget() -> None:
    budget, now = RetryBudget(), Instant(100.0, 5000.0)
    assert [budget.take(now) > 0.0 for _ in range(4)] == [False, False, False, True]
    data = msgspec.json.decode(msgspec.json.encode(budget.save(now)))
    at_once = RetryBudget.restore(data, Instant(3.0, 5000.0))
    assert at_once.take(Instant(3.0, 5000.0)) > 0.0
    two_minutes_later = RetryBudget.restore(data, Instant(3.0, 5120.0))
    assert [two_minutes_later.take(Instant(3.0, 5120.0)) > 0.0 for _ in range(3)] == [False, False, True]
    clock_went_back = RetryBudget.restore(data, Instant(3.0, 10.0))
    assert clock_went_back.take(Instant(3.0, 10.0)) > 0.0
    assert RetryBudget.restore({"left": "much"}, now).take(now) == 0.0
