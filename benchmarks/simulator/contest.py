"""One scenario, played by everybody, beside the best fixed size of all that are allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.simulator.doors import PlanDoors
from benchmarks.simulator.engine import Decider, Engine, Outcome
from benchmarks.simulator.rivals import Aimd, Fixed, Gradient, PlanAsWritten
from benchmarks.simulator.world import Scenario
from gsvrd.policy.controller import Controller, Settings

NAMES = ("controller", "plan", "fixed 2", "fixed 4", "fixed 8", "AIMD", "gradient")


@dataclass(frozen=True, slots=True)
class Row:
    """How somebody did."""

    scenario: str
    seed: int
    best: int
    """The best fixed size."""
    who: str
    share: float
    """Of the work that the best fixed size does in an hour."""
    outcome: Outcome

    @property
    def changes_per_hour(self) -> float:
        """Of the number of workers; a run of less than an hour counts as one."""
        return self.outcome.changes * 3600.0 / max(3600.0, self.outcome.seconds)


def settings_of(scenario: Scenario) -> Settings:
    """What the operator has set."""
    return Settings(min=scenario.low, max=scenario.high, initial=scenario.initial)


def sweep(scenario: Scenario) -> dict[int, Outcome]:
    """Every fixed size, with the product's own admission, limiter, breaker and retries."""
    sizes = range(scenario.low, scenario.high + 1)
    return {size: Engine(scenario, Fixed(size)).run() for size in sizes}


def contest(
    scenario: Scenario,
    names: Sequence[str],
    *,
    best: dict[int, Outcome] | None = None,
    make: Callable[[Settings], Decider] = Controller,
) -> Iterator[Row]:
    """A row for each of `names`; `best` is a sweep already made, `make` makes the controller."""
    swept = sweep(scenario) if best is None else best
    top = max(swept, key=lambda size: swept[size].per_hour)
    for name in names:
        outcome = _play(scenario, name, swept, make)
        yield Row(scenario.name, scenario.seed, top, name, outcome.per_hour / swept[top].per_hour, outcome)


def _play(scenario: Scenario, name: str, swept: dict[int, Outcome], make: Callable[[Settings], Decider]) -> Outcome:
    low, high, initial = scenario.low, scenario.high, scenario.initial
    match name.split():
        case ["fixed", size]:
            return swept[max(low, min(high, int(size)))]
        case ["plan"]:
            plan = PlanAsWritten(low, high, initial)
            return Engine(scenario, plan, admits_all=True, doors=PlanDoors, sees_host=True).run()
        case ["AIMD"]:
            return Engine(scenario, Aimd(low, high, initial)).run()
        case ["gradient"]:
            return Engine(scenario, Gradient(low, high, initial)).run()
        case _:
            return Engine(scenario, make(settings_of(scenario))).run()
