from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.batches import SHAPES, Batch, Look, Video, looks, make_videos, run
from gsvrd.model import OutcomeKind
from gsvrd.policy.progress import (
    ENOUGH,
    SINGLY,
    Bound,
    Door,
    Finished,
    Progress,
    ProgressMonitor,
    Running,
    Span,
    Waiting,
)

NOW = 1_800_000_000.0
MB = 1_000_000


def finished(seconds: float = 60.0, size: int = 100 * MB, ago: float = 0.0, **more: object) -> Finished:
    plain = Finished(size, None, seconds, NOW - ago, OutcomeKind.SUCCEEDED)
    return replace(plain, **more)  # type: ignore[arg-type]


def taught(*attempts: Finished) -> ProgressMonitor:
    monitor = ProgressMonitor()
    for attempt in attempts or [finished(ago=60.0 * n) for n in reversed(range(20))]:
        monitor.add(attempt)
    return monitor


def look(
    monitor: ProgressMonitor | None = None,
    *,
    waiting: list[Waiting] | None = None,
    running: list[Running] | None = None,
    workers: int = 2,
    batch: int | None = None,
    parallel: int | None = None,
    doors: list[Door] | None = None,
) -> Progress:
    return (monitor or taught()).look(
        NOW,
        running=running or [],
        waiting=waiting or [],
        workers=workers,
        batch=batch,
        parallel=parallel,
        doors=doors or [],
    )


def remaining(progress: Progress) -> Span:
    assert progress.remaining_s is not None
    return progress.remaining_s


def bound(progress: Progress) -> Bound:
    assert progress.binding is not None
    return progress.binding.bound


def tasks(count: int, size: int = 100 * MB, **more: object) -> Waiting:
    return replace(Waiting(size, count=count), **more)  # type: ignore[arg-type]


# -- plain figures -------------------------------------------------------------------------------------------------------


def test_an_empty_house_has_nothing_left_and_nothing_that_binds() -> None:
    progress = look(ProgressMonitor())
    assert (progress.running, progress.pending, progress.per_hour, progress.mean_s) == (0, 0, None, None)
    assert progress.remaining_s == Span(0.0, 0.0, 0.0)
    assert progress.finish_at == Span(NOW, NOW, NOW)
    assert progress.binding is None


def test_before_some_have_succeeded_no_end_is_made_up() -> None:
    monitor = taught(*[finished() for _ in range(ENOUGH - 1)], finished(outcome=OutcomeKind.FAILED))
    progress = look(monitor, waiting=[tasks(5)])
    assert progress.remaining_s is None
    assert progress.finish_at is None
    assert bound(progress) is Bound.UNSEEN
    monitor.add(finished())
    assert remaining(look(monitor, waiting=[tasks(5)])).p50 > 0


def test_counts_are_those_of_the_batch_that_is_asked_about() -> None:
    monitor = taught(*[finished(batch=1, ago=n) for n in (3.0, 2.0)], finished(500.0, batch=2))
    waiting = [tasks(3, batch=1), tasks(4, batch=2)]
    running = [Running(100 * MB, None, 1.0, batch=2)]
    one, two, every = (look(monitor, waiting=waiting, running=running, batch=batch) for batch in (1, 2, None))
    assert [(it.running, it.pending, it.mean_s) for it in (one, two)] == [(0, 3, 60.0), (1, 4, 500.0)]
    assert (every.running, every.pending) == (1, 7)


def test_the_mean_and_the_slowest_tenth_are_those_of_successes() -> None:
    monitor = taught(*[finished(float(n)) for n in range(1, 11)], finished(9999.0, outcome=OutcomeKind.TIMED_OUT))
    progress = look(monitor)
    assert progress.mean_s == 5.5
    assert progress.p90_s == 9.5


def test_throughput_is_that_of_the_last_hour() -> None:
    old = [finished(ago=36_000.0 - 60.0 * n) for n in range(30)]
    assert look(taught(*old, *[finished(ago=3000.0 - 200.0 * n) for n in range(12)])).per_hour == pytest.approx(12)


def test_throughput_of_slow_work_reaches_further_back() -> None:
    slow = [finished(7200.0, ago=7200.0 * n) for n in reversed(range(15))]
    assert look(taught(*slow)).per_hour == pytest.approx(0.5)


# -- the end -------------------------------------------------------------------------------------------------------------


def test_equal_tasks_end_when_arithmetic_says() -> None:
    span = remaining(look(waiting=[tasks(20)]))
    assert span.p50 == pytest.approx(600.0, rel=0.1)
    assert 450.0 < span.p10 < span.p50 < span.p90 < 850.0


def test_work_is_shared_among_the_workers() -> None:
    one, four = (remaining(look(waiting=[tasks(40)], workers=n)).p50 for n in (1, 4))
    assert four == pytest.approx(one / 4, rel=0.1)


def test_what_is_larger_takes_longer() -> None:
    rng = Random(1)
    sizes = [rng.randint(20, 800) * MB for _ in range(60)]
    monitor = taught(*[finished(size / MB, size) for size in sizes])
    small, large = (remaining(look(monitor, waiting=[tasks(10, size * MB)])).p50 for size in (50, 1600))
    assert small == pytest.approx(250.0, rel=0.2)
    assert large == pytest.approx(8000.0, rel=0.2)


def test_a_fixed_cost_is_told_from_a_cost_by_length() -> None:
    lengths = [120.0 * n for n in range(1, 40)]
    monitor = taught(*[finished(100.0 + 0.1 * length, duration_s=length) for length in lengths])
    span = remaining(look(monitor, waiting=[Waiting(1, 36_000.0)], workers=1))
    assert span.p50 == pytest.approx(3700.0, rel=0.2)


def test_duration_is_believed_before_size() -> None:
    monitor = taught(*[finished(0.1 * d, duration_s=float(d)) for d in range(600, 3600, 100)])
    long = remaining(look(monitor, waiting=[Waiting(100 * MB, 7200.0)], workers=1)).p50
    assert long == pytest.approx(720.0, rel=0.2)


def test_each_kind_has_its_own_pace() -> None:
    both = [finished(s, kind=kind) for _ in range(20) for kind, s in (("gemini", 30.0), ("local", 600.0))]
    fast, slow = (remaining(look(taught(*both), waiting=[tasks(10, kind=k)])).p50 for k in ("gemini", "local"))
    assert fast == pytest.approx(150.0, rel=0.3)
    assert slow == pytest.approx(3000.0, rel=0.3)


def test_the_newest_say_more_than_the_old() -> None:
    slower = taught(*[finished(60.0)] * 150, *[finished(120.0)] * 100)
    assert remaining(look(slower, waiting=[tasks(40)])).p50 == pytest.approx(2400.0, rel=0.15)


def test_a_task_that_has_run_for_long_needs_less_than_one_that_begins() -> None:
    begins, nearly = (remaining(look(running=[Running(100 * MB, None, s)])).p50 for s in (0.0, 50.0))
    assert nearly < begins / 2


def test_a_task_beyond_all_that_was_seen_is_given_time_in_proportion_to_its_age() -> None:
    old, ancient = (remaining(look(running=[Running(100 * MB, None, s)])).p50 for s in (6_000.0, 60_000.0))
    assert old > 0
    assert ancient == pytest.approx(10 * old)


def test_a_task_says_itself_how_far_it_is() -> None:
    silent, early = (
        remaining(look(running=[Running(100 * MB, None, 50.0, fraction)])).p50 for fraction in (None, 0.25)
    )
    assert early > silent


def test_failures_cost_their_time_and_further_attempts_theirs() -> None:
    good = [finished() for _ in range(30)]
    again = [finished(60.0, outcome=OutcomeKind.FAILED, again=True) for _ in range(15)]
    lost = [finished(1.0, outcome=OutcomeKind.FAILED) for _ in range(15)]
    plain, more, less = (
        remaining(look(taught(*x), waiting=[tasks(60)])).p50 for x in (good, good + again, good + lost)
    )
    assert more == pytest.approx(1.5 * plain, rel=0.1)
    assert less == pytest.approx(0.67 * plain, rel=0.1)


def test_what_a_person_took_back_teaches_nothing() -> None:
    monitor = taught()
    before = look(monitor, waiting=[tasks(5)])
    monitor.add(finished(9999.0, outcome=OutcomeKind.CANCELLED))
    assert look(monitor, waiting=[tasks(5)]) == before


# -- what binds ----------------------------------------------------------------------------------------------------------


def test_many_tasks_are_bound_by_the_workers() -> None:
    assert bound(look(waiting=[tasks(20)])) is Bound.WORKERS


def test_without_a_worker_nothing_that_waits_has_an_end() -> None:
    progress = look(waiting=[tasks(20)], workers=0)
    assert progress.remaining_s is None
    assert bound(progress) is Bound.WORKERS


def test_one_huge_task_is_bound_by_its_size() -> None:
    assert bound(look(waiting=[tasks(3), tasks(1, 9000 * MB)], workers=4)) is Bound.LARGEST


def test_a_batch_can_be_bound_by_its_own_limit() -> None:
    free, limited = (look(waiting=[tasks(40)], workers=4, parallel=n) for n in (None, 1))
    assert bound(limited) is Bound.PARALLEL
    assert remaining(limited).p50 == pytest.approx(4 * remaining(free).p50, rel=0.1)


def test_a_batch_waits_for_what_is_claimed_before_it() -> None:
    mine = [tasks(20, batch=1)]
    alone, behind = (remaining(look(waiting=w, batch=1)).p50 for w in (mine, [tasks(20, batch=2), *mine]))
    before = remaining(look(waiting=[*mine, tasks(500, batch=2)], batch=1)).p50
    assert behind == pytest.approx(2 * alone, rel=0.1)
    assert before == pytest.approx(alone, rel=0.1)


@pytest.mark.parametrize("which", [Bound.QUOTA, Bound.PAUSED, Bound.COST])
def test_a_door_that_nobody_knows_the_end_of_leaves_no_end_to_forecast(which: Bound) -> None:
    progress = look(waiting=[tasks(1)], doors=[Door(which, "because", None)])
    assert progress.remaining_s is None
    assert progress.binding is not None
    assert (progress.binding.bound, progress.binding.reason, progress.binding.until) == (which, "because", None)


def test_a_pause_does_not_concern_what_runs() -> None:
    progress = look(running=[Running(100 * MB, None, 10.0)], doors=[Door(Bound.PAUSED, "", None)])
    assert 0 < remaining(progress).p50 < 100


def test_a_door_that_opens_at_a_known_time_is_waited_for() -> None:
    progress = look(waiting=[tasks(2)], doors=[Door(Bound.QUOTA, "daily quota", NOW + 7200.0)])
    assert remaining(progress).p50 == pytest.approx(7260.0, rel=0.01)
    assert progress.binding is not None
    assert (progress.binding.bound, progress.binding.until) == (Bound.QUOTA, NOW + 7200.0)


def test_a_door_keeps_only_its_own_kind() -> None:
    both = taught(*[finished(kind=kind) for _ in range(20) for kind in ("gemini", "local")])
    door = Door(Bound.QUOTA, "", NOW + 7200.0, kind="gemini")
    local, gemini = (remaining(look(both, waiting=[tasks(2, kind=k)], doors=[door])).p50 for k in ("local", "gemini"))
    assert local < 200
    assert gemini > 7200


def test_a_batch_does_not_wait_for_others_that_stand_before_a_door() -> None:
    both = taught(*[finished(kind=kind) for _ in range(20) for kind in ("gemini", "local")])
    queue = [tasks(20, kind="gemini", batch=1), tasks(2, kind="local", batch=2)]
    progress = look(both, waiting=queue, batch=2, doors=[Door(Bound.PAUSED, "", None, kind="gemini")])
    assert remaining(progress).p50 < 200
    assert bound(progress) is not Bound.PAUSED


def test_work_passes_a_door_until_it_closes() -> None:
    door = Door(Bound.QUOTA, "", NOW + 7200.0, after=10)
    assert remaining(look(waiting=[tasks(10)], doors=[door])).p50 < 500
    assert remaining(look(waiting=[tasks(12)], doors=[door])).p50 == pytest.approx(7260.0, rel=0.01)


def test_what_waits_behind_a_door_does_not_hold_up_a_long_queue_before_it() -> None:
    door = Door(Bound.QUOTA, "", NOW + 600.0, kind="gemini")
    both = taught(*[finished(kind=kind) for _ in range(20) for kind in ("gemini", "local")])
    mixed = look(both, waiting=[tasks(500, kind="gemini"), tasks(500, kind="local")], doors=[door])
    assert remaining(mixed).p50 == pytest.approx(30_000.0, rel=0.1)
    assert bound(mixed) is Bound.WORKERS


def test_a_long_queue_behind_a_door_begins_when_it_opens_however_little_is_done_before() -> None:
    both = taught(*[finished(kind=kind) for _ in range(20) for kind in ("gemini", "local")])
    door = Door(Bound.QUOTA, "", NOW + 36_000.0, kind="gemini")
    progress = look(both, waiting=[tasks(10, kind="local"), tasks(500, kind="gemini")], doors=[door])
    assert remaining(progress).p50 == pytest.approx(36_000.0 + 15_000.0, rel=0.05)


def test_a_retry_that_waits_for_long_is_what_binds() -> None:
    progress = look(waiting=[tasks(1, due_at=NOW + 3600.0)])
    assert progress.binding is not None
    assert (progress.binding.bound, progress.binding.until) == (Bound.RETRY, NOW + 3600.0)
    assert remaining(progress).p50 == pytest.approx(3660.0, rel=0.05)


# -- for everything ------------------------------------------------------------------------------------------------------

sizes = st.integers(0, 10**15)
durations = st.none() | st.floats(0.0, 1e6)
kinds = st.sampled_from(["", "gemini", "local"])
batches = st.sampled_from([None, 1, 2])
attempts = st.builds(
    Finished,
    sizes,
    durations,
    st.floats(0.0, 1e6),
    st.floats(NOW - 1e6, NOW + 10.0),
    st.sampled_from(OutcomeKind),
    st.booleans(),
    kinds,
    batches,
)
runs = st.builds(Running, sizes, durations, st.floats(-10.0, 1e7), st.none() | st.floats(0.0, 1.0), kinds, batches)
waits = st.builds(Waiting, sizes, durations, st.sampled_from([0.0, NOW + 1e4]), st.integers(0, 300), kinds, batches)
doors_ = st.builds(
    Door,
    st.sampled_from([Bound.QUOTA, Bound.PAUSED]),
    st.just(""),
    st.sampled_from([None, NOW - 5.0, NOW + 5e4]),
    st.none() | kinds,
    st.integers(0, 50),
)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(attempts, max_size=30),
    st.lists(runs, max_size=10),
    st.lists(waits, max_size=10),
    st.integers(0, 12),
    batches,
    st.none() | st.integers(1, 5),
    st.lists(doors_, max_size=3),
)
def test_whatever_comes_in_the_figures_are_figures(
    seen: list[Finished],
    running: list[Running],
    waiting: list[Waiting],
    workers: int,
    batch: int | None,
    parallel: int | None,
    doors: list[Door],
) -> None:
    monitor = ProgressMonitor()
    for attempt in seen:
        monitor.add(attempt)
    one = look(monitor, running=running, waiting=waiting, workers=workers, batch=batch, parallel=parallel, doors=doors)
    if one.remaining_s is None:
        assert one.binding is not None
    else:
        span = one.remaining_s
        assert 0.0 <= span.p10 <= span.p50 <= span.p90 < math.inf
    for figure in (one.per_hour, one.mean_s, one.p90_s):
        assert figure is None or 0.0 <= figure < math.inf


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 99), st.integers(0, SINGLY - 1), st.integers(1, 8), st.integers(0, 8))
def test_one_more_that_waits_never_brings_the_end_nearer(seed: int, count: int, workers: int, busy: int) -> None:
    rng = Random(seed)
    monitor = taught(*[finished(rng.lognormvariate(4, 1), rng.randint(1, 900) * MB) for _ in range(20)])
    queue = [Waiting(rng.randint(1, 900) * MB) for _ in range(count + 1)]
    running = [Running(rng.randint(1, 900) * MB, None, rng.uniform(0, 300)) for _ in range(busy)]
    less, more = (remaining(look(monitor, waiting=w, running=running, workers=workers)) for w in (queue[:-1], queue))
    assert (less.p10, less.p50, less.p90) <= (more.p10, more.p50, more.p90)
    assert less.p50 <= more.p50
    assert less.p90 <= more.p90


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 100_000), st.integers(1, 16))
def test_a_tenth_more_of_any_backlog_puts_the_end_off(count: int, workers: int) -> None:
    few, more = (remaining(look(waiting=[tasks(n)], workers=workers)) for n in (count, count + count // 10 + workers))
    assert few.p50 < more.p50
    assert few.p90 < more.p90


def test_groups_say_the_same_as_their_tasks() -> None:
    rng = Random(3)
    sizes = [rng.choice((50, 200, 700)) * MB for _ in range(2000)]
    singly = remaining(look(waiting=[Waiting(size) for size in sizes]))
    head = [Waiting(size, count=sizes[:-SINGLY].count(size)) for size in (50 * MB, 200 * MB, 700 * MB)]
    grouped = remaining(look(waiting=[*head, *[Waiting(size) for size in sizes[-SINGLY:]]]))
    assert (grouped.p10, grouped.p50, grouped.p90) == pytest.approx((singly.p10, singly.p50, singly.p90), rel=1e-6)


# -- against simulated batches -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated() -> list[Look]:
    found = list[Look]()
    for shape in SHAPES:
        for seed in range(3):
            rng = Random(f"test-{shape.__name__}-{seed}")
            found += looks(shape(rng), rng)
    return found


def share(values: list[bool]) -> float:
    return sum(values) / len(values)


def error(forecasts: list[tuple[float, float]]) -> float:
    return sum(abs(forecast / truth - 1.0) for forecast, truth in forecasts) / len(forecasts)


def test_the_truth_lies_within_the_range_as_often_as_it_says(simulated: list[Look]) -> None:
    assert len(simulated) > 200
    assert 0.85 <= share([look.truth_s <= look.span.p90 for look in simulated]) <= 0.95
    assert 0.80 <= share([look.span.p10 <= look.truth_s <= look.span.p90 for look in simulated]) <= 0.95


def test_the_forecast_is_near_and_beats_the_formulas_of_the_plan(simulated: list[Look]) -> None:
    ours = error([(look.span.p50, look.truth_s) for look in simulated])
    assert ours <= 0.2
    assert ours < error([(look.naive_s, look.truth_s) for look in simulated]) / 5
    assert ours < error([(look.shared_s, look.truth_s) for look in simulated]) / 1.5


def test_the_simulation_keeps_its_own_rules() -> None:
    rng = Random(5)
    videos: list[Video] = make_videos(rng, [600.0] * 30)
    videos[3].fails = [True, False]
    tries = run(Batch(videos, [(0.0, 2), (500.0, 4)], quota=(20, 5000.0)), rng)
    assert len(tries) == 31
    assert [one.number for one in tries if one.video is videos[3]] == [1, 2]
    for one in tries:
        busy = sum(other.start <= one.start < other.end for other in tries)
        assert busy <= (2 if one.start < 500.0 else 4)
    assert sum(one.start < 5000.0 for one in tries) == 20


# -- how unsure it is ----------------------------------------------------------------------------------------------------


def test_a_level_that_has_moved_makes_the_end_less_sure_than_one_that_stood_still() -> None:
    def width(levels: tuple[float, float]) -> float:
        steps = [finished(60.0 * levels[n // 24 % 2], ago=60.0 * (96 - n)) for n in range(96)]
        span = remaining(look(taught(*steps), waiting=[tasks(200)]))
        return span.p90 / span.p10

    assert width((0.6, 1.6)) > 1.2 * width((1.0, 1.0))


def test_workers_that_stay_idle_though_tasks_wait_are_not_counted_on() -> None:
    monitor, waiting, running = ProgressMonitor(), [tasks(100)], [Running(100 * MB, None, 30.0)]
    for number in range(20):  # one at a time, with four workers
        monitor.add(finished(ago=1200.0 - 60.0 * number))
        monitor.look(NOW - 1200.0 + 60.0 * number, running=running, waiting=waiting, workers=4)
    blocked = remaining(look(monitor, waiting=waiting, running=running, workers=4))
    free = remaining(look(taught(), waiting=waiting, running=running, workers=4))
    assert blocked.p50 == pytest.approx(4 * free.p50, rel=0.2)
    grown = remaining(look(monitor, waiting=waiting, running=running, workers=5))  # nobody has seen those idle yet
    assert grown.p50 < 0.5 * blocked.p50
