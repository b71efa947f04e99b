"""ProgressMonitor: how far work is, how fast it goes, when it ends, and what keeps it from ending sooner.

How it decides: (1) `policy.durations` learns from the attempts that ended what a task of a size or duration takes, how
unsure that is, and by which factors single tasks differ, failures and further attempts included. (2) A draw gives each task
a factor (to one that runs already, a factor that its age allows), moves all of them together by how unsure the expectation
is, and lays the tasks out in the order of their claims, each on the worker that is free first, behind its doors and its
batch's limit. (3) Of 32 such draws, the same ones at every look, the finish times give p10, p50 and p90. (4) All but the
last tasks of a long queue are poured onto the workers as a whole, so a look costs some milliseconds whatever waits, if it
comes in groups. (5) What binds is the largest of what no schedule can beat: the work shared among the workers, the longest
task, the last door; an end that nobody can know is not made up, and then `binding` says what keeps it unknown.

The daemon and the views call it with plain data; nothing here is stored or reads a clock. Sources: list scheduling and its
bounds, Graham 1969; stratified draws, McKay 1979 (Latin hypercube); the generator, Park and Miller 1988 (minimal standard).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache

from gsvrd.model import OutcomeKind
from gsvrd.policy.durations import TABLE, Model, Sample, learn, prior

REMEMBERED, ENOUGH = 300, 3
"""Attempts that are learned from; successes without which no end is forecast."""
WINDOW_S, WINDOW_TASKS = 3600.0, 10
"""Throughput is that of the last hour, or of the last ten tasks if they took longer."""
DRAWS, SINGLY, COLUMNS = 32, 64, 131
"""Draws, tasks at the queue's end that are laid out one by one, and chances a draw holds ready."""
BY_DURATION, BY_SIZE = prior(1800.0, 200.0), prior(3e8, 200.0)
BUSY_S, BUSY_TASKS, BUSY_ERROR = 2400.0, 10, 0.3
"""Where something that is not told to the forecast (memory, a limiter) keeps workers idle although tasks wait: over how long
it is seen how many work, after how many ends that tells something, and how unsure it is, of logarithms."""
PRIOR_TRUST, KIND_TRUST = 0.3, 1.0
"""What the prior counts beside attempts of all kinds, and these beside attempts of one kind."""


class Bound(StrEnum):
    """What keeps the work from ending sooner, or from having a known end."""

    WORKERS = "workers"
    """More workers would end it sooner; or there is none."""
    PARALLEL = "parallel"
    """The batch's own limit."""
    LARGEST = "largest"
    """One task is so long that more workers would not help."""
    RETRY = "retry"
    """A task that comes again later."""
    QUOTA = "quota"
    """A closed door, as the next two."""
    PAUSED = "paused"
    COST = "cost"
    UNSEEN = "unseen"
    """Too few tasks have succeeded yet."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt that ended. `again`: the task comes back for another; `ended_at` is UTC epoch seconds."""

    size_bytes: int
    duration_s: float | None
    seconds: float
    ended_at: float
    outcome: OutcomeKind
    again: bool = False
    kind: str = ""
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt under way. `fraction` in [0, 1] is how far its stages say it is, if they say so."""

    size_bytes: int
    duration_s: float | None
    elapsed_s: float
    fraction: float | None = None
    kind: str = ""
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """`count` tasks of about this size. `due_at` is UTC epoch seconds, 0 for at once."""

    size_bytes: int
    duration_s: float | None = None
    due_at: float = 0.0
    count: int = 1
    kind: str = ""
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Door:
    """Nothing (of `kind`, if set) starts before `until`, UTC epoch seconds (None: nobody knows), once `after` more have."""

    bound: Bound
    reason: str
    until: float | None
    kind: str | None = None
    after: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """Below `p10` in one case of ten, and so on."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Binding:
    """What binds. `reason` is the door's; `until` the UTC epoch seconds at which it ends, if that is known."""

    bound: Bound
    reason: str = ""
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """All figures of one look. Without `remaining_s`, `binding` says why; it is None when nothing is left."""

    completed: int
    failed: int
    running: int
    pending: int
    per_hour: float | None
    """Successes, of late."""
    mean_s: float | None
    p90_s: float | None
    """Of the successes remembered."""
    remaining_s: Span | None
    finish_at: Span | None
    """UTC epoch seconds."""
    binding: Binding | None


@dataclass(frozen=True, slots=True)
class _Job:
    """One task, or `count` alike, as a draw sees it; seconds from now."""

    ours: bool
    seconds: float
    error: float
    model: Model
    count: int = 1
    earliest: float = 0.0
    elapsed: float = 0.0
    fraction: float = 0.0

    @property
    def work(self) -> float:
        """Seconds of all that wait, on average."""
        return self.seconds * self.model.mean * self.count

    def whole(self, z: float, u: float) -> float:
        """Seconds of one that has not begun; `z` and `u` as below."""
        return self.seconds * math.exp(self.error * z) * self.model.factors[int(u * TABLE)]

    def left(self, z: float, u: float) -> float:
        """Seconds it still takes if all are `z` deviations slower than expected, at chance `u` among its like."""
        total = self.model.total(self.seconds * math.exp(self.error * z), self.elapsed, u)
        if self.fraction and self.elapsed:
            total = total ** (1.0 - self.fraction) * (self.elapsed / self.fraction) ** self.fraction
        return max(0.0, total - self.elapsed)


@dataclass(slots=True)
class ProgressMonitor:
    """Learns from attempts and looks at what is left. The counts are the caller's: the store has them."""

    _seen: deque[Finished] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """In the order of their ends."""
    _timed: bool = False
    """Whether enough of them say how long their video was."""
    _models: dict[tuple[str | None, bool], Model] = field(default_factory=dict)
    _workers: int = 0
    _since: float = math.inf
    """Since when looks have seen so many workers, and tasks that wait for one; UTC epoch seconds."""

    def add(self, finished: Finished) -> None:
        """An attempt of any batch has ended."""
        if finished.outcome is not OutcomeKind.CANCELLED:
            self._seen.append(finished)
            self._timed = sum(bool(one.duration_s) for one in self._seen) >= ENOUGH
            self._models.clear()

    def look(
        self,
        now: float,
        *,
        running: Sequence[Running],
        waiting: Iterable[Waiting],
        workers: int,
        batch: int | None = None,
        parallel: int | None = None,
        doors: Sequence[Door] = (),
        completed: int = 0,
        failed: int = 0,
    ) -> Progress:
        """The figures of everything, or of one batch with its limit `parallel`.

        `waiting` comes in the order of claims, for a batch with what others have before it (what comes after it is no
        matter). A long backlog should come in groups, all but its last `SINGLY` tasks. `now` is UTC epoch seconds.
        """
        queue = [one for one in waiting if one.count > 0]
        mine = [index for index, one in enumerate(queue, 1) if batch in (None, one.batch)]
        queue = queue[: max(mine, default=0)]
        good = [one for one in self._seen if one.outcome is OutcomeKind.SUCCEEDED and batch in (None, one.batch)]
        spent = sorted(one.seconds for one in good)
        self._mind(now, any(one.due_at <= now for one in queue), workers)
        remaining, binding = self._forecast(now, running, queue, workers, batch, parallel, doors)
        return Progress(
            completed,
            failed,
            sum(batch in (None, one.batch) for one in running),
            sum(one.count for one in queue if batch in (None, one.batch)),
            _per_hour(good, now),
            sum(spent) / len(spent) if spent else None,
            _quantile(spent, 0.9) if spent else None,
            remaining,
            Span(now + remaining.p10, now + remaining.p50, now + remaining.p90) if remaining else None,
            binding,
        )

    def _forecast(
        self,
        now: float,
        running: Sequence[Running],
        queue: Sequence[Waiting],
        workers: int,
        batch: int | None,
        parallel: int | None,
        doors: Sequence[Door],
    ) -> tuple[Span | None, Binding | None]:
        if not any(batch in (None, of) for of in [*(one.batch for one in running), *(one.batch for one in queue)]):
            return Span(0.0, 0.0, 0.0), None
        begins = [*_begins(queue, doors, now)]
        mine = [begin for one, _, begin in begins if batch in (None, one.batch)]
        last = max(mine, key=_when, default=Binding(Bound.RETRY, until=now))
        successes = sum(one.outcome is OutcomeKind.SUCCEEDED for one in self._seen)
        if last.until is None:
            return None, last
        if successes < ENOUGH:
            return None, Binding(Bound.UNSEEN, f"{successes} of {ENOUGH} successes")
        if queue and workers < 1:
            return None, Binding(Bound.WORKERS, "there is no worker")
        begun = [self._job(one, batch, elapsed=one.elapsed_s, fraction=one.fraction or 0.0) for one in running]
        jobs = [
            self._job(one, batch, count=count, earliest=begin.until - now)
            for one, count, begin in begins
            if begin.until is not None  # others' tasks behind such a door are in nobody's way
        ]
        busy = self._busy(now, running, workers) if queue else None
        if busy is not None:
            begun, jobs = [_less_sure(job) for job in begun], [_less_sure(job) for job in jobs]
        lanes = max(1, workers if busy is None else busy)
        plan = _Plan(begun, *_divided(jobs, lanes), lanes, max(1, min(lanes, parallel or lanes)))
        ends = sorted(plan.play(draw) for draw in range(DRAWS))
        return Span(*(_quantile(ends, share) for share in (0.1, 0.5, 0.9))), plan.binding(jobs, last, now)

    def _mind(self, now: float, waits: bool, workers: int) -> None:
        if workers != self._workers or not waits or now < self._since:
            self._workers, self._since = workers, now

    def _busy(self, now: float, running: Sequence[Running], workers: int) -> int | None:
        """How many work on average, where some are idle now although tasks wait; None where that is not so or not known."""
        since = max(self._since, now - BUSY_S)
        if len(self._seen) == REMEMBERED:
            since = max(since, self._seen[0].ended_at)
        ended = [one for one in self._seen if one.ended_at > since]
        if len(running) >= workers or len(ended) < BUSY_TASKS or now <= since:
            return None
        spent_s = sum(min(one.seconds, one.ended_at - since) for one in ended)
        busy = round((spent_s + sum(min(one.elapsed_s, now - since) for one in running)) / (now - since))
        return max(1, busy) if busy < workers else None

    def _job(
        self,
        one: Running | Waiting,
        batch: int | None,
        count: int = 1,
        earliest: float = 0.0,
        elapsed: float = 0.0,
        fraction: float = 0.0,
    ) -> _Job:
        by_duration = self._timed and bool(one.duration_s)
        model, ours = self._model(one.kind, by_duration), batch in (None, one.batch)
        middle, error = model.at(_amount(one, by_duration))
        return _Job(
            ours, math.exp(middle), error, model, count, max(0.0, earliest), max(0.0, elapsed), min(1.0, fraction)
        )

    def _model(self, kind: str | None, by_duration: bool) -> Model:
        """Of one kind, drawn towards that of all; of all, if none of the kind has succeeded or there is no other."""
        if (kind, by_duration) not in self._models:
            usable = [one for one in self._seen if one.duration_s or not by_duration]
            alike = [one for one in usable if kind in (None, one.kind)]
            before, trust = (BY_DURATION if by_duration else BY_SIZE), PRIOR_TRUST
            if kind is not None:
                before, trust = self._model(None, by_duration), KIND_TRUST
            some = any(one.outcome is OutcomeKind.SUCCEEDED for one in alike)
            same = not some or (kind is not None and len(alike) == len(usable))
            samples = [_sample(one, by_duration) for one in alike]
            self._models[kind, by_duration] = before if same else learn(samples, before, trust)
        return self._models[kind, by_duration]


@dataclass(frozen=True, slots=True)
class _Bulk:
    """Many tasks as one heap of work, in seconds."""

    earliest: float
    work: float = 0.0
    ours: float = 0.0
    error: float = 0.0
    """Times the work."""

    def plus(self, job: _Job) -> _Bulk:
        ours = job.work if job.ours else 0.0
        return _Bulk(self.earliest, self.work + job.work, self.ours + ours, self.error + job.work * job.error)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What draw after draw is played on. Lanes are workers; of ours no more than `places` run at a time."""

    begun: Sequence[_Job]
    bulks: Sequence[_Bulk]
    singles: Sequence[_Job]
    lanes: int
    places: int

    def play(self, draw: int) -> float:
        """Seconds until the last of ours ends."""
        z, columns = _score((draw + 0.5) / DRAWS), _columns()
        lefts = [job.left(z, columns[index % COLUMNS][draw]) for index, job in enumerate(self.begun)]
        ours = [left for left, job in zip(lefts, self.begun, strict=True) if job.ours]
        lanes, places, end = _taken(lefts, self.lanes), _taken(ours, self.places), max(ours, default=0.0)
        for bulk in self.bulks:
            slower = math.exp(z * bulk.error / bulk.work)
            lanes = _pour([max(lane, bulk.earliest) for lane in lanes], bulk.work * slower)
            if bulk.ours:
                places = _pour(places, bulk.ours * slower)
                end = max(end, lanes[0], places[0])
        for index, job in enumerate(self.singles, len(self.begun)):
            begin = max(lanes[0], job.earliest, places[0] if job.ours else 0.0)
            done = begin + job.whole(z, columns[index % COLUMNS][draw])
            heapq.heapreplace(lanes, done)
            if job.ours:
                heapq.heapreplace(places, done)
                end = max(end, done)
        return end

    def binding(self, jobs: Sequence[_Job], last: Binding, now: float) -> Binding:
        """By the bounds that hold for every schedule, each with what is expected."""
        lefts = [(job.left(0.0, 0.5), job.ours) for job in self.begun]
        whole = sum(left for left, _ in lefts) + sum(job.work for job in jobs)
        ours = sum(left for left, own in lefts if own) + sum(job.work for job in jobs if job.ours)
        longest = max([left for left, own in lefts if own] + [job.seconds for job in jobs if job.ours])
        shared, limited = whole / self.lanes, ours / self.places
        door = _when(last) - now
        bounds = [(shared, Binding(Bound.WORKERS)), (longest, Binding(Bound.LARGEST)), (door, last)]
        if self.places < self.lanes:
            bounds.append((limited, Binding(Bound.PARALLEL)))
        return max(bounds, key=lambda bound: bound[0])[1]


def _less_sure(job: _Job) -> _Job:
    return replace(job, error=math.hypot(job.error, BUSY_ERROR))


def _when(begin: Binding) -> float:
    return math.inf if begin.until is None else begin.until


def _begins(queue: Sequence[Waiting], doors: Sequence[Door], now: float) -> Iterator[tuple[Waiting, int, Binding]]:
    """What waits, cut where a door closes, with the last thing that each part waits for."""
    passed = [0] * len(doors)
    for one in queue:
        left, mine = one.count, [index for index, door in enumerate(doors) if door.kind in (None, one.kind)]
        while left:
            shut = [doors[index] for index in mine if passed[index] >= doors[index].after]
            count = min([left, *(room for index in mine if (room := doors[index].after - passed[index]) > 0)])
            ways = [Binding(door.bound, door.reason, door.until) for door in shut]
            yield one, count, max([Binding(Bound.RETRY, until=max(now, one.due_at)), *ways], key=_when)
            left -= count
            for index in mine:
                passed[index] += count


def _divided(jobs: Sequence[_Job], lanes: int) -> tuple[list[_Bulk], list[_Job]]:
    """In the order in which they can begin: the many as bulks, a new one only where the lanes run dry; the last singly."""
    bulks, singles, level = list[_Bulk](), list[_Job](), 0.0
    many = sum(job.count for job in jobs) - SINGLY
    for job in sorted(jobs, key=lambda job: job.earliest):
        bulk = max(0, min(job.count, many))
        many -= bulk
        if bulk:
            if not bulks or job.earliest > level:
                bulks.append(_Bulk(job.earliest))
            part = job if bulk == job.count else replace(job, count=bulk)
            bulks[-1] = bulks[-1].plus(part)
            level = max(level, job.earliest) + part.work / lanes
        singles += [job] * (job.count - bulk)
    return bulks, singles


def _taken(lefts: Sequence[float], room: int) -> list[float]:
    """When each lane is free: rising. Of too many, the first that end are retired."""
    return sorted([*lefts, *[0.0] * (room - len(lefts))])[-room:]


def _pour(lanes: Sequence[float], work: float) -> list[float]:
    """Fill up the emptiest lanes to one level; rising, so that it is a heap."""
    lanes, below = sorted(lanes), 0.0
    for count, (lane, above) in enumerate(zip(lanes, [*lanes[1:], math.inf], strict=True), 1):
        below += lane
        level = (below + work) / count
        if level <= above:
            return [level] * count + lanes[count:]
    raise AssertionError("the level is finite")


def _score(share: float) -> float:
    """The normal deviate of a share, by its logistic neighbour, which is a little wider at the ends."""
    return math.log(share / (1.0 - share)) / 1.702


@cache
def _columns() -> list[list[float]]:
    """For each task a chance in each draw; each 32nd of the chances comes once among the draws of a task."""
    state, columns = 1, []
    for _ in range(COLUMNS):
        keys = []
        for _ in range(2 * DRAWS):
            state = state * 48271 % 2147483647
            keys.append(state / 2147483648)
        ranks = sorted(range(DRAWS), key=keys.__getitem__)
        columns.append([(rank + within) / DRAWS for rank, within in zip(ranks, keys[DRAWS:], strict=True)])
    return columns


def _amount(one: Finished | Running | Waiting, by_duration: bool) -> float:
    return max(1.0, (one.duration_s or 0.0) if by_duration else one.size_bytes)


def _sample(one: Finished, by_duration: bool) -> Sample:
    return Sample(_amount(one, by_duration), one.seconds, one.outcome is OutcomeKind.SUCCEEDED, one.again)


def _per_hour(good: Sequence[Finished], now: float) -> float | None:
    if not good:
        return None
    before = good[-WINDOW_TASKS - 1].ended_at if len(good) > WINDOW_TASKS else -math.inf
    since = max(min(now - WINDOW_S, before), min(one.ended_at - one.seconds for one in good))
    return sum(one.ended_at > since for one in good) * 3600.0 / (now - since) if now > since else None


def _quantile(values: Sequence[float], share: float) -> float:
    """Of rising values."""
    place = min(len(values) - 1.0, max(0.0, share * len(values) - 0.5))
    low = min(int(place), max(0, len(values) - 2))
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])
