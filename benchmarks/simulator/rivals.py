"""Other ways to decide, to be measured beside the controller. Each sees the same `Metrics`."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from gsvrd.policy.controller import Cap, Completion, Decision, Metrics

COOLDOWN_S = 60.0


def _decision(workers: int) -> Decision:
    return Decision(workers, {}, Cap.MAX)


@dataclass(slots=True)
class Fixed:
    """Always the same."""

    workers: int

    def decide(self, metrics: Metrics, now: float) -> Decision:
        """See the module."""
        return _decision(self.workers)


@dataclass(slots=True)
class PlanAsWritten:
    """The plan's formulas: fewer when the slope of five samples is below -0.1, else more while all guards allow it."""

    low: int
    high: int
    workers: int
    _rates: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    _answers: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    _changed_at: float = -math.inf

    def decide(self, metrics: Metrics, now: float) -> Decision:
        """See the module."""
        self._answers.extend(one.wall_s for one in metrics.completions)
        if now - self._changed_at < COOLDOWN_S:
            return _decision(self.workers)
        self._rates.append(len(metrics.completions) * 6.0)
        wanted = self.workers
        if len(self._rates) >= 5 and _slope(list(self._rates)[-5:]) < -0.1:
            wanted -= 1
        elif self._may_grow(metrics):
            wanted += 1
        wanted = max(self.low, min(self.high, wanted))
        if wanted != self.workers:
            self.workers, self._changed_at = wanted, now
        return _decision(self.workers)

    def _may_grow(self, metrics: Metrics) -> bool:
        cpu = ((metrics.own_cpu or 0.0) + (metrics.other_cpu or 0.0)) / (metrics.host_cpu or 1.0)
        memory = (metrics.memory_used or 0.0) / (metrics.memory_limit or math.inf)
        slow = bool(self._answers) and sum(self._answers) / len(self._answers) > 300.0
        return cpu <= 0.80 and memory <= 0.75 and (metrics.api_errors or 0.0) <= 0.05 and not slow


def _slope(values: list[float]) -> float:
    middle = (len(values) - 1) / 2
    return sum((index - middle) * value for index, value in enumerate(values)) / sum(
        (index - middle) ** 2 for index in range(len(values))
    )


@dataclass(slots=True)
class Aimd:
    """One more a minute while nothing is amiss, half as many when something is."""

    low: int
    high: int
    workers: int
    _changed_at: float = -math.inf

    def decide(self, metrics: Metrics, now: float) -> Decision:
        """See the module."""
        if now - self._changed_at >= COOLDOWN_S:
            memory = (metrics.memory_used or 0.0) / (metrics.memory_limit or math.inf)
            amiss = (metrics.api_errors or 0.0) > 0.05 or (metrics.cpu_wait or 0.0) > 0.15 or memory > 0.9
            busy = sum(metrics.running.values()) >= self.workers
            wanted = self.workers // 2 if amiss else self.workers + busy
            wanted = max(self.low, min(self.high, wanted))
            if wanted != self.workers:
                self.workers, self._changed_at = wanted, now
        return _decision(self.workers)


@dataclass(slots=True)
class Gradient:
    """Long over short mean of the time a task takes, times the size, plus its root to keep a queue; smoothed.

    Source: Netflix concurrency-limits, Gradient2 (long window 100, tolerance 1.5, smoothing 0.2).
    """

    low: int
    high: int
    size: float
    _long: float = 0.0

    def decide(self, metrics: Metrics, now: float) -> Decision:
        """See the module."""
        for one in metrics.completions:
            self._hear(one, metrics)
        return _decision(max(self.low, min(self.high, round(self.size))))

    def _hear(self, one: Completion, metrics: Metrics) -> None:
        taken = max(1e-3, one.wall_s - one.waited_s)
        self._long = taken if not self._long else self._long + (taken - self._long) * 2.0 / 101.0
        if sum(metrics.running.values()) < self.size / 2:
            return
        gradient = max(0.5, min(1.0, 1.5 * self._long / taken))
        wanted = gradient * self.size + math.sqrt(self.size)
        self.size = max(self.low, min(self.high, 0.8 * self.size + 0.2 * wanted))
