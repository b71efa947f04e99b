"""The controller without one of its parts each: what the part is worth is what its absence costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import ModuleType
from unittest.mock import patch

from gsvrd.policy import cores, fitting, kinds, knee, level, pace, sharing
from gsvrd.policy.controller import Controller, Decision, Metrics, Settings


@dataclass(slots=True)
class Without:
    """A controller in whose modules some constants are others, and that does not get or give some things."""

    settings: Settings
    constants: tuple[tuple[ModuleType, str, float], ...] = ()
    hides: Callable[[Metrics], Metrics] = lambda metrics: metrics
    gives: Callable[[Decision], Decision] = lambda decision: decision
    _inner: Controller = field(init=False)

    def __post_init__(self) -> None:
        self._inner = Controller(self.settings)

    def decide(self, metrics: Metrics, now: float) -> Decision:
        """As the controller."""
        with ExitStack() as stack:
            for module, name, value in self.constants:
                stack.enter_context(patch.object(module, name, value))
            return self.gives(self._inner.decide(self.hides(metrics), now))


def _parts(
    *constants: tuple[ModuleType, str, float],
    hides: Callable[[Metrics], Metrics] = lambda metrics: metrics,
    gives: Callable[[Decision], Decision] = lambda decision: decision,
) -> Callable[[Settings], Without]:
    return lambda settings: Without(settings, constants, hides, gives)


def _plenty(metrics: Metrics) -> Metrics:
    """Nobody sees that processors are short."""
    many = 1000.0
    return replace(metrics, allowed_cpu=many, host_cpu=many, own_cpu=0.0, other_cpu=0.0, cpu_wait=0.0)


PARTS: dict[str, Callable[[Settings], Without]] = {
    "nothing left out": _parts(),
    "the knee of the service": _parts((knee, "FREE", 1.0 - 1e-12), (level, "TRY_CALLS", 10**9)),
    "tries of fewer calls": _parts((level, "PAYS", math.inf)),
    "tries of more calls": _parts((level, "MORE_FIRST_S", math.inf), (level, "MORE_LAST_S", math.inf)),
    "the alarm when calls change": _parts((knee, "ALARM", math.inf)),
    "fading of what is old": _parts((knee, "HALF_LIFE_S", 1e12)),
    "the size of a video in a call's time": _parts((knee, "POWER", 0.0), (knee, "POWER_TRUST", 1e9)),
    "processors": _parts(hides=_plenty),
    "a worker more for tasks that also wait": _parts((sharing, "SPARE", 1.0)),
    "neighbours: claiming a fair share": _parts((cores, "WAITS_NOT", -1.0)),
    "the rate (Little's law)": _parts(hides=lambda metrics: replace(metrics, rate_per_minute=None)),
    "memory": _parts((fitting, "BLOCKED_S", math.inf)),
    "limits by kind": _parts(gives=lambda decision: replace(decision, limits={})),
    "steps beyond one": _parts((pace, "GROWTH", 1.0)),
    "patience before going down": _parts((pace, "VOTES", 1), (pace, "VOTES_FOR_LITTLE", 1)),
    "few changes an hour": _parts((pace, "ANOTHER_S", 1e-9)),
    "memory of kinds": _parts((kinds, "NEWEST", 1.0)),
}
