"""A slice of the simulator as a gate: seeded, so the same every time. The tables are in docs/adaptive.md."""

from __future__ import annotations

import pytest

from benchmarks.simulator import scenarios
from benchmarks.simulator.contest import contest, settings_of
from benchmarks.simulator.doors import PlanDoors
from benchmarks.simulator.engine import Engine
from benchmarks.simulator.rivals import Fixed, PlanAsWritten
from gsvrd.policy.controller import Controller


@pytest.mark.parametrize("name", ["api_free", "cpu2", "cpu4", "mixed"])
def test_the_controller_does_nearly_what_the_best_fixed_size_does(name: str) -> None:
    (row,) = contest(scenarios.named(name, 6000), ["controller"])
    assert row.share >= 0.95
    assert row.changes_per_hour <= 12
    assert (row.outcome.kills, row.outcome.lost) == (0, 0)


def test_a_service_with_a_knee_is_not_overrun() -> None:
    scenario = scenarios.named("api_knee3", 6000)
    ours = Engine(scenario, Controller(settings_of(scenario))).run()
    assert ours.per_hour > 1.1 * Engine(scenario, Fixed(8)).run().per_hour


def test_no_task_is_lost_in_an_outage_and_the_plan_loses_some() -> None:
    scenario = scenarios.named("api_outage", 6000)
    ours = Engine(scenario, Controller(settings_of(scenario))).run()
    plan = Engine(scenario, PlanAsWritten(2, 8, 4), doors=PlanDoors).run()
    assert ours.lost == 0 < plan.lost


def test_the_admission_leaves_nothing_for_the_kernel_to_kill_where_the_plan_does() -> None:
    scenario = scenarios.named("cgroup", 6000)
    ours = Engine(scenario, Controller(settings_of(scenario))).run()
    plan = Engine(scenario, PlanAsWritten(2, 8, 4), admits_all=True, sees_host=True).run()
    assert (ours.kills, ours.lost) == (0, 0)
    assert plan.kills > 20


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [Engine(scenarios.anything(6001), Fixed(4)).run() for _ in range(2)]
    assert runs[0] == runs[1]
