"""The controller: what it decides, what it holds, and that no figures make it fail."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsvrd.policy.controller import Cap, Completion, Controller, Decision, Metrics, Settings

IDLE = Metrics(
    workers=4,
    running={},
    queued={},
    own_cpu=0.0,
    other_cpu=0.0,
    allowed_cpu=8.0,
    host_cpu=8.0,
    cpu_wait=0.0,
    memory_used=1e9,
    memory_limit=1e10,
)


def busy(workers: int, kind: str = "local", queued: int = 100, **changes: object) -> Metrics:
    """All workers have a task, and more wait."""
    metrics = replace(IDLE, workers=workers, running={kind: workers}, queued={kind: queued})
    return replace(metrics, **changes)  # type: ignore[arg-type]


def call(seconds: float, beside: float) -> Completion:
    """A task that spends nearly all its time in a call."""
    return Completion(
        "gemini", seconds + 5.0, size=1e8, cpu_s=2.0, cpu_wait_s=0.0, api_s=seconds, calls=1, beside=beside
    )


class Run:
    """A controller and its clock; workers follow at once."""

    def __init__(self, controller: Controller | None = None) -> None:
        self.controller = controller or Controller()
        self.now = 1000.0
        self.decision: Decision | None = None

    def tick(self, metrics: Metrics, times: int = 1) -> Decision:
        for _ in range(times):
            self.now += 10.0
            self.decision = self.controller.decide(metrics, self.now)
        assert self.decision is not None
        return self.decision

    def fill(self, times: int, **changes: object) -> list[int]:
        """Tick with all workers busy; returns the sizes that were had."""
        sizes = [self.controller.size]
        for _ in range(times):
            self.tick(busy(self.controller.size, **changes))  # type: ignore[arg-type]
            sizes.append(self.controller.size)
        return sizes


# -- growing and shrinking -------------------------------------------------------------------------------------------------


def test_it_starts_with_what_the_settings_say() -> None:
    assert Controller().size == 4
    assert Controller(Settings(min=5, initial=1)).size == 5


def test_growth_beyond_what_was_proven_waits_for_the_cooldown() -> None:
    run = Run()
    sizes = run.fill(6)
    assert sizes == [4] * 7
    assert run.fill(2)[-1] == 8


def test_while_it_waits_it_says_for_what() -> None:
    decision = Run().tick(busy(4))
    assert decision.cap is Cap.PACE
    assert "next step" in decision.note


def test_a_proven_size_is_had_again_at_once() -> None:
    run = Run()
    run.fill(12)
    assert run.controller.size == 8
    run.tick(IDLE, 200)
    assert run.controller.size == 2
    run.tick(busy(2))
    assert run.controller.size == 8


def test_it_shrinks_only_after_a_long_while_with_less_to_do() -> None:
    run = Run()
    run.fill(12)
    assert run.tick(IDLE, 55).workers == 8
    assert run.tick(IDLE, 20).workers == 2


def test_there_are_no_more_workers_than_tasks() -> None:
    run = Run()
    for _ in range(100):
        decision = run.tick(busy(3, queued=0))
    assert decision.workers == 3


def test_errors_of_load_stop_growth_and_are_named() -> None:
    run = Run()
    for _ in range(50):
        decision = run.tick(busy(4, api_errors=0.06))
    assert (decision.workers, decision.cap) == (4, Cap.ERRORS)


def test_long_calls_stop_growth_until_enough_are_known() -> None:
    run = Run()
    for _ in range(15):
        decision = run.tick(busy(4, "gemini", own_cpu=0.2, completions=(call(400.0, 4.0),)))
    assert (decision.workers, decision.cap) == (4, Cap.API)
    for _ in range(15):
        decision = run.tick(busy(4, "gemini", own_cpu=0.2, completions=(call(400.0, 4.0),)))
    assert decision.workers == 8


def test_memory_that_is_nearly_used_up_stops_growth() -> None:
    run = Run()
    for _ in range(50):
        decision = run.tick(busy(4, memory_used=0.8e10))
    assert (decision.workers, decision.cap) == (4, Cap.MEMORY)


# -- what bounds it --------------------------------------------------------------------------------------------------------


def test_more_workers_than_processors_are_sent_home() -> None:
    run = Run()
    for _ in range(30):
        decision = run.tick(busy(run.controller.size, own_cpu=2.0, allowed_cpu=2.0, cpu_wait=0.5))
    assert (decision.workers, decision.cap) == (2, Cap.CPU)


def test_a_quota_counts_and_not_the_processors_of_the_machine() -> None:
    run = Run()
    for _ in range(30):
        size = run.controller.size
        metrics = busy(size, own_cpu=min(3.0, size), allowed_cpu=3.0, host_cpu=16.0, cpu_wait=max(0.0, 1 - 3 / size))
        decision = run.tick(metrics)
    assert decision.workers == 3


def test_a_service_that_bears_few_calls_gets_few() -> None:
    run = Run(Controller(Settings(max=16)))
    for _ in range(400):
        size = run.controller.size
        seconds = 60.0 * max(1.0, size / 4.0) ** 1.4
        ended = (call(seconds, size),) if run.now % seconds < 10.0 * size / 4 else ()
        decision = run.tick(busy(size, "gemini", own_cpu=0.2, completions=ended))
    assert decision.workers in (3, 4, 5)
    assert decision.caps[Cap.API] == decision.workers


def test_a_service_that_bears_all_gets_the_most() -> None:
    run = Run()
    for _ in range(200):
        size = run.controller.size
        decision = run.tick(busy(size, "gemini", own_cpu=0.2, completions=(call(60.0, size),)))
    assert decision.workers == 8


def test_a_rate_keeps_no_more_workers_than_it_can_use() -> None:
    run = Run()
    for _ in range(100):
        metrics = busy(4, "gemini", own_cpu=0.2, completions=(call(25.0, 2.0),), rate_per_minute=2.0)
        decision = run.tick(metrics)
    assert decision.workers == 2
    assert decision.caps[Cap.RATE] < 3.0


def test_calls_and_work_of_our_own_have_limits_each() -> None:
    run = Run()
    local = Completion("local", 60.0, cpu_s=58.0, cpu_wait_s=0.0)
    for _ in range(60):
        size = run.controller.size
        metrics = busy(size, "local", own_cpu=2.0, allowed_cpu=2.0, cpu_wait=0.0, completions=(local, call(60.0, 2.0)))
        decision = run.tick(replace(metrics, queued={"local": 50, "gemini": 50}))
    assert decision.limits["local"] == 2
    assert decision.limits["gemini"] == decision.workers - 2 == 6


def test_where_tasks_wait_for_memory_idle_workers_are_sent_home() -> None:
    run = Run()
    run.fill(12)
    for _ in range(200):
        decision = run.tick(replace(busy(8), running={"local": 3}, memory_blocked=True))
    assert decision.workers == 4
    assert decision.caps[Cap.MEMORY] < 5


# -- the operator ----------------------------------------------------------------------------------------------------------


def test_a_number_set_by_hand_holds_at_once_within_the_bounds() -> None:
    run = Run()
    decision = run.tick(busy(4, forced=7))
    assert (decision.workers, decision.cap) == (7, Cap.HAND)
    assert run.tick(busy(7, forced=99)).workers == 8
    assert run.tick(busy(8)).workers == 8


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"min": 5, "max": 4}, "min 5"),
        ({"min": 0}, "min 0"),
        ({"cpu_high": 0.0}, "cpu_high"),
        ({"memory_high": 1.5}, "memory_high"),
        ({"api_error_high": math.nan}, "api_error_high"),
        ({"tick_s": -1.0}, "tick_s"),
        ({"history": 0}, "history"),
    ],
)
def test_settings_that_contradict_themselves_are_refused_by_name(changes: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Settings(**changes)  # type: ignore[arg-type]


# -- bad input -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own_cpu", "other_cpu", "allowed_cpu", "memory_used", "memory_limit"])
def test_what_could_not_be_read_is_named_and_nothing_changes(name: str) -> None:
    run = Run()
    for _ in range(50):
        decision = run.tick(replace(busy(4), **{name: None}))  # type: ignore[arg-type]
        assert (decision.workers, decision.cap) == (4, Cap.HELD)
        assert name in decision.note
    assert run.tick(busy(4)).workers == 8


@pytest.mark.parametrize("value", [-5.0, math.nan, math.inf, 1e9])
def test_a_counter_that_jumped_is_a_reading_that_is_missing(value: float) -> None:
    assert Run().tick(busy(4, own_cpu=value)).cap is Cap.HELD


def test_a_clock_that_goes_back_is_noted_and_stops_nothing() -> None:
    run = Run()
    run.fill(3)
    run.now -= 5000.0
    decision = run.tick(busy(4))
    assert (decision.cap, decision.workers) == (Cap.HELD, 4)
    assert "clock" in decision.note
    assert run.fill(5)[-1] == 8


FIGURES = st.none() | st.floats() | st.sampled_from([0.0, -1.0, 1e300, math.nan])
TASKS = st.dictionaries(st.sampled_from(["gemini", "local", ""]), st.integers(-5, 10**6), max_size=3)
ENDED = st.builds(
    Completion,
    st.sampled_from(["gemini", "local"]),
    st.floats(),
    st.floats(),
    FIGURES,
    FIGURES,
    FIGURES,
    st.floats(),
    st.integers(-3, 100),
    st.floats(),
)
ANYTHING = st.builds(
    Metrics,
    st.integers(-3, 1000),
    TASKS,
    TASKS,
    st.lists(ENDED, max_size=4).map(tuple),
    *[FIGURES] * 7,
    st.booleans(),
    st.integers(-5, 10**9),
    FIGURES,
    FIGURES,
    st.none() | st.integers(-10, 10**9),
)
BOUNDS = st.tuples(st.integers(1, 40), st.integers(0, 30), st.integers(-5, 80)).map(
    lambda three: Settings(min=three[0], max=three[0] + three[1], initial=three[2])
)


@given(BOUNDS, st.lists(st.tuples(ANYTHING, st.floats()), max_size=8))
@settings(max_examples=150, deadline=None)
def test_no_figures_and_no_times_make_it_fail_or_leave_the_bounds(
    bounds: Settings, readings: list[tuple[Metrics, float]]
) -> None:
    controller = Controller(bounds)
    for metrics, now in readings:
        decision = controller.decide(metrics, now)
        assert bounds.min <= decision.workers <= bounds.max
        assert decision.workers == controller.size
        json.dumps(controller.state(now), allow_nan=False)


@given(st.lists(ANYTHING, max_size=6), ANYTHING)
@settings(max_examples=50, deadline=None)
def test_what_it_has_learned_survives_a_restart(readings: list[Metrics], last: Metrics) -> None:
    controller = Controller()
    for number, metrics in enumerate(readings):
        controller.decide(metrics, 10.0 * number)
    state = json.loads(json.dumps(controller.state(100.0)))
    again = Controller.restore(Settings(), state, 5.0)
    assert again.size == controller.size
    assert again.state(5.0) == state


@pytest.mark.parametrize("saved", [None, 7, [], {}, {"size": "four"}, {"size": 3, "kinds": {"local": 1}}])
def test_a_state_that_is_damaged_or_of_another_version_is_as_none(saved: object) -> None:
    assert Controller.restore(Settings(), saved, 0.0).size == 4


def test_a_restored_size_is_kept_within_bounds_that_have_changed() -> None:
    run = Run()
    run.fill(12)
    assert Controller.restore(Settings(max=5), run.controller.state(run.now), 0.0).size == 5


def test_a_service_that_is_known_is_not_learned_again_after_a_restart() -> None:
    run = Run()
    for _ in range(200):
        size = run.controller.size
        ended = (call(60.0 * max(1.0, size / 3.0) ** 1.5, size),)
        run.tick(busy(size, "gemini", own_cpu=0.2, completions=ended))
    before = run.controller.size
    again = Run(Controller.restore(Settings(), run.controller.state(run.now), 0.0))
    assert before < 6
    assert max(again.fill(20, kind="gemini", own_cpu=0.2)) == before
