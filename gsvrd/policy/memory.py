"""Memory: how much a task may have, and whether one more fits. MemoryOptimizer and MemoryMonitor of the plan.

Every task that runs has a cap, and the caps, with what everybody else holds, never add up to more than a share of the
limit: so nothing is left for the kernel to kill. What a task is promised is learned from the peaks of earlier ones, by kind
and size; what nobody needs is lent on top of that, and taken back when somebody does. A task that reaches its cap all the
same meets a MemoryError and comes again with more. Pure: the daemon measures, limits the workers, and tells what happened;
all figures are bytes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

MB = 10**6
BUDGET = 0.95
"""Of the limit; the rest is for what cannot be foreseen."""
QUANTILE = 0.7
"""Of the peaks: so large a part of the tasks is to fit into what they are given first."""
FLOOR = 150 * MB
"""No task gets less: a worker and what any video takes."""
UNKNOWN_PER_BYTE = 4.5
"""Before there are samples: 450 MB for a video of 100 MB."""
LEAST_SAMPLES, MOST_SAMPLES = 8, 200
RIDGE = 1.0
"""Few samples of nearly one size say nothing about others: the slope is drawn to flat."""
AGAIN = 1.5
"""A task that reached its cap gets so many times as much."""
LOOK_AHEAD = 40
"""So many tasks behind one that does not fit are looked at."""
PATIENCE = 60
"""So often a task that does not fit may be overtaken; then everybody waits for it."""
FLAT_S = 10.0
"""A task that has not grown for so long is taken to have its peak behind it."""
STARVED = 0.9
"""Of its cap."""
LOWERED, RAISED, SPARE = 1.05, 1.12, 16 * MB


@dataclass(frozen=True, slots=True)
class View:
    """What there is. `others` is held by everybody but the running tasks: daemon, idle workers, neighbours."""

    limit: int
    others: int = 0


@dataclass(slots=True)
class Grant:
    """What a running task has."""

    kind: str
    size: int
    cap: int
    first: int
    """What it was promised when it began; the rest is lent."""
    peak: int = 0
    flat_since: float = 0.0


class _Saved(msgspec.Struct, frozen=True):
    samples: dict[str, list[tuple[int, int]]]
    wanted: dict[int, int]
    leaping: list[str] = []


@dataclass(slots=True)
class MemoryOptimizer:
    """The grants of all running tasks, and what was learned. `most` is what one task may have at the most."""

    most: int
    view: View | None = None
    """None: nobody knows the limit; then only `most` holds."""
    grants: dict[int, Grant] = field(default_factory=dict)
    wanted: dict[int, int] = field(default_factory=dict)
    """By task what it is to get at least, since less was not enough."""
    _samples: dict[str, deque[tuple[int, int]]] = field(default_factory=dict)
    """By kind: size and peak, the newest last."""
    _fits: dict[str, _Fit] = field(default_factory=dict)
    _leaping: set[str] = field(default_factory=set)
    """Kinds of which a task exceeded what it was lowered to after it had been flat: there that is no sign of a peak."""
    _overtaken: dict[int, int] = field(default_factory=dict)

    # -- how much --------------------------------------------------------------------------------------------------------

    def reservation(self, kind: str, size: int) -> int:
        """What a task of this kind and size is expected to need, at the most `most`."""
        samples = self._samples.get(kind, ())
        if len(samples) < LEAST_SAMPLES:
            return self._bounded(max([size * UNKNOWN_PER_BYTE, *(float(peak) for _, peak in samples)]))
        if kind not in self._fits:
            self._fits[kind] = _fit(list(samples))
        return self._bounded(self._fits[kind].at(size))

    def _bounded(self, wanted: float) -> int:
        return int(min(self.most, max(FLOOR, min(wanted, float(self.most)))))

    def room(self) -> int:
        """What is not given to anybody yet."""
        if self.view is None:
            return self.most * (1 << 10)
        return int(BUDGET * self.view.limit) - self.view.others - sum(grant.cap for grant in self.grants.values())

    @property
    def lent(self) -> int:
        """What could be taken back from running tasks at once."""
        return sum(
            max(0, grant.cap - max(grant.first, int(grant.peak * LOWERED) + SPARE)) for grant in self.grants.values()
        )

    # -- who may start ---------------------------------------------------------------------------------------------------

    def fits(self, task: int, kind: str, size: int, head: int) -> bool:
        """Whether a task may start now; `head` is the first in line, which may be passed by so often and no more."""
        if self._need(task, kind, size) <= self.room() or not self.grants:
            return task == head or self._overtaken.get(head, 0) < PATIENCE
        return False

    def start(self, task: int, kind: str, size: int, head: int, now: float, sharers: int = 1) -> int:
        """A task starts; returns its cap. `sharers` is how many could start now, itself included: the rest is lent by that.

        If nothing runs beside it and it does not fit, it gets all there is.
        """
        need, room = self._need(task, kind, size), self.room()
        lent = (room - need) // max(1, sharers)
        cap = min(self.most, need + lent) if need <= room else max(room, min(need, FLOOR))
        self.grants[task] = Grant(kind, size, cap, min(need, cap), flat_since=now)
        if task == head:
            self._overtaken.pop(task, None)
        else:
            self._overtaken = {head: self._overtaken.get(head, 0) + 1}  # of another head nobody asks any more
        return cap

    def _need(self, task: int, kind: str, size: int) -> int:
        return min(self.most, max(self.wanted.get(task, 0), self.reservation(kind, size)))

    # -- while it runs ---------------------------------------------------------------------------------------------------

    def watch(self, seen: Mapping[int, int], now: float, *, wanted: bool) -> dict[int, int]:
        """What tasks hold now, by task; returns the caps that change.

        `wanted`: somebody waits for memory, and what is lent is taken back; of what was promised, too, from a task that has
        not grown for a while. Else what is free is lent.
        """
        before = {task: grant.cap for task, grant in self.grants.items()}
        for task, grant in self.grants.items():
            if seen.get(task, 0) > grant.peak:
                grant.peak, grant.flat_since = seen[task], now
            if wanted:
                # What leaps after it was flat is kept what it was promised, or it would fail again and again. Of what could
                # not be looked at nobody knows whether it is flat.
                leaps = task not in seen or task in self.wanted or grant.kind in self._leaping
                grant.cap = min(grant.cap, max(grant.first if leaps else 0, _entitled(grant, now)))
        # Lowering comes first, so that what is raised is there.
        for task, held in seen.items():
            if task in self.grants:
                grant = self.grants[task]
                wish = int(held * RAISED) + SPARE if wanted else self.most
                share = self.room() if wanted else self.room() // len(self.grants)
                grant.cap = max(grant.cap, min(self.most, wish, grant.cap + share))
        return {task: grant.cap for task, grant in self.grants.items() if grant.cap != before[task]}

    def holds(self, task: int, held: int) -> None:
        """A task was found to hold more than the cap it was given a moment ago: that is its cap."""
        if (grant := self.grants.get(task)) is not None:
            grant.cap = max(grant.cap, held)

    # -- when it ends ----------------------------------------------------------------------------------------------------

    def end(self, task: int, peak: int | None, *, learn: bool) -> None:
        """A task ended; `peak` is the most it held, where it is known. `learn`: it did its work."""
        grant = self.grants.pop(task, None)
        if grant is None or not learn:
            return
        self.wanted.pop(task, None)
        most = max(grant.peak, peak or 0)
        if most > 0:
            self._learn(grant.kind, grant.size, most)

    def _learn(self, kind: str, size: int, peak: int) -> None:
        self._samples.setdefault(kind, deque(maxlen=MOST_SAMPLES)).append((max(1, size), peak))
        self._fits.pop(kind, None)

    def exceeded(self, task: int) -> bool:
        """A task met its cap and ends; returns whether it is worth another try, with more. Call before `end`."""
        grant = self.grants.get(task)
        if grant is None:
            return False
        alone = self.most if self.view is None else int(BUDGET * self.view.limit) - self.view.others
        most = min(self.most, alone)
        if grant.cap < grant.first:
            self._leaping.add(grant.kind)
        had = max(grant.cap, grant.first)
        if had >= 0.98 * most:
            self.wanted.pop(task, None)
            return False
        self.wanted[task] = min(most, int(AGAIN * had))
        # Nobody knows its peak, but it is above: if only those taught that got by, all would be promised too little.
        self._learn(grant.kind, grant.size, self.wanted[task])
        return True

    def is_starved(self, task: int) -> bool:
        """Whether a task that ended without a word was about at its cap when it was last looked at."""
        grant = self.grants.get(task)
        return grant is not None and grant.peak > STARVED * grant.cap

    def forget(self, task: int) -> None:
        """A task ended for good without having done its work."""
        self.wanted.pop(task, None)

    # -- over restarts -----------------------------------------------------------------------------------------------------

    def save(self) -> object:
        """What was learned, as plain data."""
        samples = {kind: list(samples) for kind, samples in self._samples.items()}
        return _Saved(samples, dict(self.wanted), sorted(self._leaping))

    def restore(self, saved: object) -> None:
        """From `save`, decoded JSON or not; nothing is learned from anything else."""
        try:
            was = msgspec.convert(saved, _Saved, from_attributes=True, strict=False)
        except msgspec.ValidationError:
            return
        good = {
            kind: deque(((size, peak) for size, peak in samples if size > 0 and peak > 0), maxlen=MOST_SAMPLES)
            for kind, samples in was.samples.items()
        }
        self._samples, self._fits = good, {}
        self.wanted = {task: need for task, need in was.wanted.items() if need > 0}
        self._leaping = set(was.leaping)


def _entitled(grant: Grant, now: float) -> int:
    snug = int(grant.peak * LOWERED) + SPARE
    is_flat = now - grant.flat_since >= FLAT_S
    return snug if is_flat else max(snug, grant.first)


@dataclass(frozen=True, slots=True)
class _Fit:
    """log peak = level + slope x log size, at the quantile."""

    level: float
    slope: float
    low: float
    high: float
    """Beyond the sizes that were seen, a line says nothing: the nearest one seen is taken."""

    def at(self, size: int) -> float:
        return math.exp(self.level + self.slope * min(self.high, max(self.low, math.log(max(1, size)))))


def _fit(samples: list[tuple[int, int]]) -> _Fit:
    xs = [math.log(size) for size, _ in samples]
    ys = [math.log(peak) for _, peak in samples]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / (spread + RIDGE)
    slope = min(1.0, max(0.0, slope))
    above = sorted(y - mean_y - slope * (x - mean_x) for x, y in zip(xs, ys, strict=True))
    rest = above[min(len(above) - 1, math.ceil(QUANTILE * len(above)) - 1)]
    # A little above the highest peak of its like: a cap that is met exactly is met once too often.
    return _Fit(mean_y - slope * mean_x + rest + math.log(LOWERED), slope, min(xs), max(xs) + math.log(2))
