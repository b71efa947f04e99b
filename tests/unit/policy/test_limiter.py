from __future__ import annotations

import math
import random
from bisect import bisect_left

import pytest

from gsvrd.policy.limiter import (
    WINDOW_S,
    APILimiter,
    APILimits,
    Call,
    DayUse,
    Decision,
    Go,
    Instant,
    Lane,
    Refusal,
    Refuse,
    Wait,
)

FREE = DayUse(requests=0, refused=False, ends_at=math.inf)


def at(seconds: float, wall: float | None = None) -> Instant:
    return Instant(seconds, 1_800_000_000.0 + seconds if wall is None else wall)


def call(task: int = 1, tokens: int = 0, lane: Lane = Lane.GENERATE, model: str = "flash", attempt: int = 1) -> Call:
    return Call(task, attempt, lane, "project", model if lane is Lane.GENERATE else "", tokens)


def many(limits: APILimits | None = None, **rates: float) -> APILimiter:
    """A limiter whose lanes do not matter."""
    return APILimiter(limits or APILimits(max_concurrent=10_000, **rates))  # type: ignore[arg-type]


def wait(decision: Decision) -> Wait:
    assert isinstance(decision, Wait), decision
    return decision


def until(decision: Decision) -> float:
    moment = wait(decision).until
    assert moment is not None
    return moment


def run(limiter: APILimiter, seconds: float, now: float = 0.0, permit: int = 1, tokens: int = 0) -> list[float]:
    """Start calls as early as the limiter allows, for so long; when they started."""
    started: list[float] = []
    end = now + seconds
    while now < end:
        decision = limiter.ask(call(permit, tokens), FREE, at(now))
        if decision == Go():
            limiter.start(permit, call(permit, tokens), at(now))
            started.append(now)
            permit += 1
        else:
            assert until(decision) > now, "a wait that is over already would spin"
            now = until(decision)
    return started


def busiest(times: list[float], window_s: float = 60.0) -> int:
    return max(bisect_left(times, first + window_s) - number for number, first in enumerate(times))


# -- the minute ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rpm", [1, 2, 15, 60, 300])
def test_no_minute_sees_more_requests_than_allowed_and_the_allowance_is_used(rpm: int) -> None:
    times = run(many(requests_per_minute=rpm), 600.0)
    assert busiest(times) <= rpm
    assert len(times) >= 600.0 / WINDOW_S * rpm - 1


def test_requests_are_spaced_so_that_a_window_does_not_come_as_one_burst() -> None:
    times = run(many(requests_per_minute=10), 61.0)
    assert times[:10] == pytest.approx([2.4 * number for number in range(10)])


def test_a_second_of_skew_is_left_beyond_the_minute() -> None:
    limiter = many(requests_per_minute=1)
    limiter.start(1, call(), at(0))
    assert until(limiter.ask(call(2), FREE, at(60.5))) == 61.0
    assert limiter.ask(call(2), FREE, at(61.0)) == Go()


def test_models_and_projects_are_counted_apart() -> None:
    limiter = many(requests_per_minute=1)
    limiter.start(1, call(), at(0))
    assert limiter.ask(call(2, model="pro"), FREE, at(1)) == Go()
    assert limiter.ask(Call(2, 1, Lane.GENERATE, "another", "flash"), FREE, at(1)) == Go()
    wait(limiter.ask(call(2), FREE, at(1)))


def test_tokens_of_a_minute_are_held_and_a_call_waits_only_as_long_as_it_must() -> None:
    limiter = many(tokens_per_minute=100)
    limiter.start(1, call(1, tokens=30), at(0))
    limiter.start(2, call(2, tokens=60), at(10))
    assert limiter.ask(call(3, tokens=10), FREE, at(20)) == Go()
    assert until(limiter.ask(call(3, tokens=11), FREE, at(20))) == 61.0
    assert until(limiter.ask(call(3, tokens=41), FREE, at(20))) == 71.0


def test_a_call_larger_than_the_tokens_of_a_minute_passes_alone() -> None:
    limiter = many(tokens_per_minute=100)
    assert limiter.ask(call(1, tokens=367), FREE, at(0)) == Go()
    limiter.start(1, call(1, tokens=367), at(0))
    assert until(limiter.ask(call(2, tokens=1), FREE, at(30))) == 61.0
    assert until(limiter.ask(call(2, tokens=367), FREE, at(30))) == 61.0


def test_the_tokens_the_service_counted_replace_the_estimate() -> None:
    limiter = many(tokens_per_minute=100)
    limiter.start(1, call(1, tokens=90), at(0))
    wait(limiter.ask(call(2, tokens=40), FREE, at(5)))
    limiter.accept(1, at(5), tokens=50)
    assert limiter.ask(call(2, tokens=40), FREE, at(5)) == Go()


def test_a_call_that_never_left_counts_for_nothing_also_when_it_is_old() -> None:
    limiter = many(requests_per_minute=1)
    limiter.start(1, call(), at(0))
    limiter.release(1, sent=False)
    assert limiter.ask(call(2), FREE, at(1)) == Go()
    limiter.start(2, call(2), at(1))
    limiter.start(3, call(3), at(100))
    limiter.release(2, sent=False)
    assert until(limiter.ask(call(4), FREE, at(101))) == 161.0


def test_a_call_that_failed_still_counts() -> None:
    limiter = many(requests_per_minute=1)
    limiter.start(1, call(), at(0))
    limiter.release(1)
    assert until(limiter.ask(call(2), FREE, at(1))) == 61.0


def test_asking_books_nothing() -> None:
    limiter = many(requests_per_minute=1)
    assert [limiter.ask(call(), FREE, at(0)) for _ in range(5)] == [Go()] * 5


# -- restarts and clocks -------------------------------------------------------------------------------------------------


def test_restarts_at_any_moment_give_no_burst() -> None:
    chance = random.Random(7)
    times: list[float] = []
    now = 0.0
    while now < 1800.0:
        limiter = many(requests_per_minute=12)
        limiter.restore([(at(t).wall, call()) for t in times if t > now - WINDOW_S], at(now))
        lasts = chance.uniform(1.0, 90.0)
        times += [time for time in run(limiter, lasts, now) if time < now + lasts]
        now += lasts
    assert busiest(times) == 12


def test_monotonic_time_that_begins_anew_does_not_matter() -> None:
    limiter = many(requests_per_minute=1)
    limiter.restore([(1_000_000.0, call())], Instant(5.0, 1_000_020.0))
    assert until(limiter.ask(call(2), FREE, Instant(5.0, 1_000_020.0))) == 46.0


def test_a_clock_set_back_while_the_daemon_was_down_costs_a_whole_window() -> None:
    limiter = many(requests_per_minute=100)
    limiter.restore([(1_000_000.0, call())], Instant(5.0, 1_000_000.0 - 3 * 3600))
    decision = limiter.ask(call(2), FREE, Instant(5.0, 1_000_000.0 - 3 * 3600))
    assert decision == Wait(5.0 + WINDOW_S, "the clock was set back")


@pytest.mark.parametrize("jump_s", [-5 * 3600.0, 5 * 3600.0])
def test_a_wall_clock_that_jumps_while_the_daemon_runs_changes_nothing_in_the_minute(jump_s: float) -> None:
    limiter = many(requests_per_minute=1)
    limiter.start(1, call(), at(0))
    assert until(limiter.ask(call(2), FREE, at(1, wall=at(1).wall + jump_s))) == 61.0
    assert limiter.ask(call(2), FREE, at(61, wall=at(61).wall + jump_s)) == Go()


# -- the day -------------------------------------------------------------------------------------------------------------


def test_a_full_day_waits_for_the_next_one_by_the_wall_clock() -> None:
    limiter = many(requests_per_day=20)
    day = DayUse(requests=20, refused=False, ends_at=at(0).wall + 7200.0)
    assert limiter.ask(call(), DayUse(19, refused=False, ends_at=day.ends_at), at(0)) == Go()
    assert limiter.ask(call(), day, at(0)) == Wait(7201.0, "20 requests per day")
    # After a jump the wait is another one: it is asked again, not remembered.
    assert until(limiter.ask(call(), day, at(0, wall=at(0).wall + 3600.0))) == 3601.0
    assert until(limiter.ask(call(), day, at(0, wall=at(0).wall - 3600.0))) == 10801.0


def test_a_day_the_service_has_closed_is_closed_whatever_we_counted_but_uploads_go_on() -> None:
    limiter = APILimiter(APILimits())
    closed = DayUse(requests=0, refused=True, ends_at=at(100).wall)
    assert until(limiter.ask(call(), closed, at(0))) == 101.0
    assert limiter.ask(call(lane=Lane.UPLOAD), closed, at(0)) == Go()


# -- refusals of the service ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delay_s", "waited_s"),
    [(38.2, 38.7), (0.0, 1.5), (-5.0, 1.5), (9223372036854775807.0, 3600.5), (None, 61.5), (math.nan, 61.5)],
)
def test_a_refusal_cools_the_whole_lane_for_what_the_service_says_within_sane_bounds(
    delay_s: float | None, waited_s: float
) -> None:
    limiter = many()
    limiter.start(1, call(1), at(100))
    limiter.cool_down(1, delay_s, at(110))
    assert until(limiter.ask(call(2), FREE, at(110))) == pytest.approx(110 + waited_s)
    assert limiter.ask(call(2), FREE, at(110 + waited_s)) == Go()
    assert limiter.ask(call(2, model="pro"), FREE, at(110)) == Go()


def test_a_shorter_delay_does_not_end_a_longer_cool_down() -> None:
    limiter = many()
    limiter.start(1, call(1), at(0))
    limiter.start(2, call(2), at(0))
    limiter.cool_down(1, 50.0, at(1))
    limiter.cool_down(2, 2.0, at(2))
    assert until(limiter.ask(call(3), FREE, at(2))) == 51.5


def rate(limiter: APILimiter, now: float) -> float:
    """Requests a minute that pass from `now` on, measured."""
    return len(run(limiter, 10 * WINDOW_S, now)) / 10


def refused_eight_times(limiter: APILimiter, now: float, more: int = 0) -> None:
    for permit in range(8):
        limiter.start(permit, call(permit), at(now))
    for number in range(8 + more):
        limiter.cool_down(number % 8, 1.0, at(now + 1 + number))


def test_one_incident_cuts_the_rate_once_however_many_workers_are_refused() -> None:
    limiter = many(requests_per_minute=20)
    refused_eight_times(limiter, 0.0)
    assert rate(limiter, 1000.0) == pytest.approx(10.0, abs=0.2)


def test_a_cut_takes_the_rate_to_what_passed_between_a_half_and_nine_tenths() -> None:
    for passed, then in [(19, 18.0), (14, 14.0), (3, 10.0)]:
        limiter = many(requests_per_minute=20)
        for permit in range(20):
            limiter.start(permit, call(permit), at(0.0))
        refused = [limiter._leases[permit] for permit in range(passed, 19)]
        for lease in refused:
            lease.refused = True
        limiter.cool_down(19, 5.0, at(1.0))
        assert rate(limiter, 1000.0) == pytest.approx(then, abs=0.2)


def test_a_refusal_after_few_calls_says_nothing_about_the_rate() -> None:
    for limiter, started in [(many(), 4), (many(requests_per_minute=20), 4), (many(requests_per_minute=4), 1)]:
        for permit in range(started):
            limiter.start(permit, call(permit), at(0.0))
        limiter.cool_down(0, 5.0, at(1.0))
        assert limiter._metered(call())[0].rate == math.inf


def test_without_a_configured_rate_refusals_find_one() -> None:
    limiter = many()
    refused_eight_times(limiter, 0.0)
    assert rate(limiter, 1000.0) == pytest.approx(7.0, abs=0.2)


def test_refusals_never_bring_the_rate_below_one_a_minute() -> None:
    limiter = many(requests_per_minute=2)
    for incident in range(20):
        limiter.start(1, call(), at(1000.0 * incident))
        limiter.cool_down(1, 1.0, at(1000.0 * incident + 1))
    assert rate(limiter, 50_000.0) == pytest.approx(1.0, abs=0.1)


def accepted(limiter: APILimiter, count: int, now: float) -> None:
    for permit in range(1000, 1000 + count):
        limiter.start(permit, call(permit), at(now))
        limiter.accept(permit, at(now))


def test_the_rate_is_raised_only_after_enough_calls_and_enough_time() -> None:
    limiter = many(requests_per_minute=20)
    refused_eight_times(limiter, 0.0)
    accepted(limiter, 149, 700.0)
    assert rate(limiter, 1000.0) == pytest.approx(10.0, abs=0.2)
    accepted(limiter, 1, 2000.0)
    assert rate(limiter, 3000.0) == pytest.approx(11.0, abs=0.2)  # 11.5 is 11 in a window
    accepted(limiter, 500, 2500.0)
    assert rate(limiter, 5000.0) == pytest.approx(11.0, abs=0.2)


def test_a_raise_that_fails_returns_to_the_rate_before_it() -> None:
    limiter = many(requests_per_minute=20)
    refused_eight_times(limiter, 0.0)
    accepted(limiter, 150, 700.0)
    refused_eight_times(limiter, 800.0)
    assert rate(limiter, 1000.0) == pytest.approx(10.0, abs=0.2)


def test_a_call_that_starts_in_the_moment_of_a_raise_belongs_to_the_new_rate() -> None:
    limiter = many(requests_per_minute=20)
    refused_eight_times(limiter, 0.0)
    accepted(limiter, 149, 700.0)
    accepted(limiter, 1, 800.0)  # raises the rate at 800
    refused_eight_times(limiter, 800.0)
    assert rate(limiter, 1000.0) == pytest.approx(10.0, abs=0.2)


@pytest.mark.parametrize("passes", [3, 8, 25])
def test_of_a_service_that_takes_less_than_is_configured_at_most_one_call_in_a_hundred_is_refused(passes: int) -> None:
    limiter, now, taken, refused = many(requests_per_minute=60), 0.0, list[float](), 0
    for permit in range(2000):
        while (decision := limiter.ask(call(permit), FREE, at(now))) != Go():
            now = until(decision)
        limiter.start(permit, call(permit), at(now))
        if sum(time > now - 60.0 for time in taken[-passes:]) < passes:
            taken.append(now)
            limiter.accept(permit, at(now))
        else:
            refused += 1
            limiter.cool_down(permit, 30.0, at(now))
    assert 0 < refused <= 0.01 * 2000
    assert len(taken) >= 0.85 * passes * now / 60.0


def test_a_raise_never_passes_the_configured_rate() -> None:
    limiter = many(requests_per_minute=20)
    refused_eight_times(limiter, 0.0)
    for hour in range(1, 40):
        accepted(limiter, 200, 3600.0 * hour)
    assert busiest(run(limiter, 300.0, 200_000.0)) == 20
    refused_eight_times(limiter, 300_000.0)
    assert rate(limiter, 301_000.0) == pytest.approx(17.0, abs=0.2), "the last rate below it, 10 * 1.15 ** 4"


# -- lanes ---------------------------------------------------------------------------------------------------------------


def test_each_lane_takes_its_number_of_calls_and_no_more() -> None:
    limiter = APILimiter(APILimits(max_concurrent=2))
    for permit in (1, 2):
        assert limiter.ask(call(permit), FREE, at(0)) == Go()
        limiter.start(permit, call(permit), at(0))
    assert limiter.ask(call(3), FREE, at(0)) == Wait(None, "2 generate calls at a time")
    assert limiter.ask(call(4, lane=Lane.UPLOAD), FREE, at(0)) == Go()
    limiter.start(4, call(4, lane=Lane.UPLOAD), at(0))
    assert limiter.ask(call(5, lane=Lane.UPLOAD), FREE, at(0)) == Wait(None, "1 upload calls at a time")
    limiter.accept(1, at(9))
    assert limiter.ask(call(3), FREE, at(9)) == Go()


def test_two_models_share_the_lane() -> None:
    limiter = APILimiter(APILimits(max_concurrent=1))
    limiter.start(1, call(1), at(0))
    assert wait(limiter.ask(call(2, model="pro"), FREE, at(0))).until is None


@pytest.mark.parametrize("end", ["accept", "cool_down", "release", "withdraw", "attempt"])
def test_every_end_of_a_call_frees_its_place_once(end: str) -> None:
    limiter = APILimiter(APILimits(max_concurrent=1))
    limiter.start(1, call(1), at(0))
    for _ in range(2):
        match end:
            case "accept":
                limiter.accept(1, at(1))
            case "cool_down":
                limiter.cool_down(1, 1.0, at(1))
            case "release":
                limiter.release(1)
            case "withdraw":
                limiter.release(1, sent=False)
            case _:
                limiter.end_attempt(1, 1)
    assert limiter.ask(call(2), FREE, at(100)) == Go()
    limiter.start(2, call(2), at(100))
    assert wait(limiter.ask(call(3), FREE, at(200))).until is None


def test_the_end_of_an_attempt_frees_nothing_of_another_attempt_at_the_same_task() -> None:
    limiter = APILimiter(APILimits(max_concurrent=1))
    limiter.start(1, call(1, attempt=2), at(0))
    limiter.end_attempt(1, 1)
    assert wait(limiter.ask(call(2), FREE, at(0))).until is None


# -- closed --------------------------------------------------------------------------------------------------------------


def test_a_refused_key_closes_the_project_and_a_lost_model_only_itself() -> None:
    limiter = APILimiter(APILimits())
    key, gone = Refuse(Refusal.KEY, "the key is refused"), Refuse(Refusal.MODEL, "no such model")
    limiter.close(gone, "project", "flash")
    assert limiter.ask(call(), FREE, at(0)) == gone
    assert limiter.ask(call(model="pro"), FREE, at(0)) == Go()
    limiter.close(key, "project")
    assert limiter.ask(call(model="pro"), FREE, at(0)) == key
    assert limiter.ask(call(lane=Lane.UPLOAD), FREE, at(0)) == key
    limiter.close(None, "project")
    assert limiter.ask(call(model="pro"), FREE, at(0)) == Go()
