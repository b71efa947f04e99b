"""Plays a scenario with somebody who decides about the number of workers. Discrete events, no clock, the same every time.

Everything a decider sees is in `Metrics`, as the daemon would measure it. What is shared (processors, the service) is a
`Fluid` each, so an event costs a heap operation, however many work.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from benchmarks.simulator.doors import Doors, OwnDoors
from benchmarks.simulator.fluid import Fluid
from benchmarks.simulator.world import Scenario, Use, Video, at
from gsvrd.policy.controller import Completion, Decision, Metrics
from gsvrd.policy.limiter import Go
from gsvrd.policy.memory import MemoryOptimizer, View
from gsvrd.policy.retry import Answer

TICK_S = 10.0
MEMORY_TICK_S = 2.0
LOOK_AHEAD = 40
"""As `policy.memory`: so many tasks behind one that does not fit are looked at."""
FAILS_AFTER_S, REFUSED_AFTER_S, BAD_AFTER_S = 5.0, 0.5, 3.0
STARTS_AFTER_S = 0.5
"""What every attempt takes before it does anything: its file is opened, and looked at."""
DEATHS = 2
END_S = 30 * 86400.0


class Decider(Protocol):
    """The controller, or a rival of it."""

    def decide(self, metrics: Metrics, now: float) -> Decision:
        """How many workers from now on."""
        ...


@dataclass(slots=True)
class Outcome:
    """How it went."""

    done: int = 0
    work: float = 0.0
    """Seconds that what is done takes when nothing disturbs it."""
    lost: int = 0
    kills: int = 0
    calls: int = 0
    refused: int = 0
    requeued: int = 0
    """For memory."""
    changes: int = 0
    seconds: float = 0.0
    worker_seconds: float = 0.0
    stays: list[float] = field(default_factory=list)
    """Seconds from arrival to end, of each task."""
    sizes: list[tuple[float, int]] = field(default_factory=list)

    @property
    def per_hour(self) -> float:
        """Work done: a task that is lost does not count, and a long one counts more than a short one."""
        return self.work / self.seconds


@dataclass(slots=True, eq=False)
class Task:
    """A video that is not done."""

    video: Video
    part: int = 0
    spent: int = 0
    deaths: int = 0


@dataclass(slots=True, eq=False)
class Try:
    """An attempt under way."""

    task: Task
    started: float
    waited: float = 0.0
    cpu: float = 0.0
    cpu_wait: float = 0.0
    api: float = 0.0
    calls: int = 0
    area: float = 0.0
    since: float = 0.0
    """When its part began, or it began to wait."""
    mark: float = 0.0
    """A fluid's figure then: `got` of the processors, `held` of the service."""
    origin: float = 0.0
    """A fluid's `done` then."""
    work: int = 0
    """Its number in a fluid, or its permit."""
    over: bool = False


class Engine:
    """One run."""

    def __init__(
        self,
        scenario: Scenario,
        decider: Decider,
        *,
        admits_all: bool = False,
        doors: Callable[[float, Random], Doors] = OwnDoors,
        sees_host: bool = False,
    ) -> None:
        self.scenario, self.decider, self.sees_host = scenario, decider, sees_host
        self.machine, self.service = scenario.machine, scenario.service
        limited = scenario.machine.memory < math.inf
        self.memory = MemoryOptimizer(int(scenario.machine.memory)) if limited and not admits_all else None
        self.rng = Random(f"{scenario.name}-{scenario.seed}-luck")
        self.doors = doors(scenario.service.told_rate, self.rng)
        self.outcome = Outcome()
        self.now = 0.0
        self.cpu, self.api = Fluid(), Fluid()
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.order = itertools.count()
        self.number = itertools.count()
        self.target = self.alive = scenario.initial
        self.limits: dict[str, int] = {}
        self.queued: dict[str, list[tuple[int, Task]]] = {}
        self.running: dict[str, int] = {}
        self.tries: dict[Try, None] = {}
        self.at_work: dict[int, Try] = {}
        self.asking: list[Try] = []
        self.left = len(scenario.videos)
        self.completions: list[Completion] = []
        self.recent: deque[tuple[float, bool]] = deque()
        self.accepted: deque[float] = deque()
        self.blocked, self.failures = False, 0
        self.other_used = 0.0
        self.before = (0.0, 0.0, 0.0)
        self.neighbour = self.available = 0.0

    # -- time --------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """To the end of the last task."""
        self._set_initial()
        while self.left and self.now < END_S:
            moment = self.events[0][0]
            cpu, api = self.cpu.next(self.now), self.api.next(self.now)
            if cpu <= moment and cpu <= api:
                self._advance(cpu)
                self._cpu_done(self.at_work.pop(self.cpu.pop()))
            elif api <= moment:
                self._advance(api)
                self._call_done(self.at_work.pop(self.api.pop()))
            else:
                self._advance(moment)
                _, _, call, arguments = heapq.heappop(self.events)
                call(*arguments)
        self.outcome.seconds = self.now
        return self.outcome

    def _set_initial(self) -> None:
        self.outcome.sizes.append((0.0, self.target))
        for video in self.scenario.videos:
            self._at(video.arrives, self._arrive, Task(video))
        service = self.service
        for steps in (self.machine.neighbour, service.capacity, service.speed):
            for moment, _ in steps:
                self._at(moment, self._new_rates)
        self._new_rates()
        self._at(TICK_S, self._tick)
        if self.machine.memory < math.inf:
            self._at(MEMORY_TICK_S, self._mind_memory)

    def _at(self, moment: float, call: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self.events, (moment, next(self.order), call, arguments))

    def _advance(self, moment: float) -> None:
        seconds = moment - self.now
        if seconds > 0.0:
            cpu = self.cpu
            cpu.advance(seconds)
            self.api.advance(seconds)
            if self.neighbour:
                self.other_used += seconds * min(self.neighbour, self.machine.cores - cpu.count * cpu.turn)
            self.outcome.worker_seconds += self.alive * seconds
            self.now = moment

    def _new_rates(self) -> None:
        machine, now = self.machine, self.now
        self.neighbour = at(machine.neighbour, now)
        entitled = max(machine.cores / 2, machine.cores - self.neighbour)
        self.available = min(machine.quota, entitled)
        self._cpu_rate()
        self._api_rate()

    def _cpu_rate(self) -> None:
        cpu = self.cpu
        crowd = cpu.count / self.available
        if crowd <= 1.0:
            cpu.turn = cpu.rate = 1.0
        else:
            cpu.turn = 1.0 / crowd
            cpu.rate = cpu.turn / (1.0 + self.machine.crowding * (crowd - 1.0))

    def _api_rate(self) -> None:
        service = self.service
        crowd = self.api.count / at(service.capacity, self.now)
        self.api.rate = at(service.speed, self.now) * (crowd**-service.slope if crowd > 1.0 else 1.0)

    # -- tasks -------------------------------------------------------------------------------------------------------

    def _arrive(self, task: Task) -> None:
        insort(self.queued.setdefault(task.video.kind, []), (task.video.number, task))
        self._dispatch()

    def _dispatch(self) -> None:
        while len(self.tries) < min(self.alive, self.target) and (task := self._next()) is not None:
            self._start(task)

    def _next(self) -> Task | None:
        """The first in line whose kind has a place and that fits into memory."""
        kinds = [
            kind
            for kind, queue in self.queued.items()
            if queue and self.running.get(kind, 0) < self.limits.get(kind, 1000)
        ]
        if not kinds:
            return None
        if self.memory is None:
            kind = min(kinds, key=lambda kind: self.queued[kind][0][0])
            return self.queued[kind].pop(0)[1]
        line = sorted(entry for kind in kinds for entry in self.queued[kind][:LOOK_AHEAD])[:LOOK_AHEAD]
        found = self._fitting(self.memory, line)
        if found is None and self.memory.lent:
            self._watch(self.memory, wanted=True)
            found = self._fitting(self.memory, line)
        if found is None:
            self.blocked = True
            return None
        video = found[1].video
        self.queued[video.kind].remove(found)
        free = min(self.alive, self.target) - len(self.tries)
        self.memory.start(video.number, video.kind, int(video.size), line[0][0], self.now, free)
        return found[1]

    def _fitting(self, memory: MemoryOptimizer, line: list[tuple[int, Task]]) -> tuple[int, Task] | None:
        idle = max(0, self.alive - len(self.tries) - 1)
        memory.view = View(int(self.machine.memory), int(self.machine.parent + idle * self.machine.idle))
        for entry in line:
            video = entry[1].video
            if memory.fits(video.number, video.kind, int(video.size), line[0][0]):
                return entry
        return None

    def _start(self, task: Task) -> None:
        one = Try(task, self.now)
        one.since = self.now
        self.tries[one] = None
        self.running[task.video.kind] = self.running.get(task.video.kind, 0) + 1
        if task.video.bad:
            self._at(self.now + BAD_AFTER_S, self._end, one, None)
        else:
            self._at(self.now + STARTS_AFTER_S, self._begin, one)

    def _begin(self, one: Try) -> None:
        if not one.over:
            self._go_on(one)

    def _go_on(self, one: Try) -> None:
        """The next part of it, or its end."""
        task = one.task
        if task.part == len(task.video.parts):
            self._complete(one)
            return
        use, amount = task.video.parts[task.part]
        one.since = self.now
        match use:
            case Use.WAIT:
                self._at(self.now + amount, self._wait_done, one)
            case Use.CPU:
                one.mark, one.origin, one.work = self.cpu.got, self.cpu.done, next(self.number)
                self.at_work[one.work] = one
                self.cpu.add(one.work, amount)
                self._cpu_rate()
            case Use.CALL:
                self.asking.append(one)
                self._pump()

    def _part_done(self, one: Try) -> None:
        one.task.part += 1
        self._go_on(one)

    def _wait_done(self, one: Try) -> None:
        if not one.over:
            self._part_done(one)

    def _cpu_done(self, one: Try) -> None:
        self._cpu_rate()
        self._count_cpu(one)
        self._part_done(one)

    def _count_cpu(self, one: Try) -> None:
        got = self.cpu.got - one.mark
        one.cpu += got
        one.cpu_wait += self.now - one.since - got

    def _complete(self, one: Try) -> None:
        video = one.task.video
        self.completions.append(
            Completion(
                video.kind,
                self.now - one.started,
                one.waited,
                video.size,
                one.cpu,
                one.cpu_wait,
                one.api,
                one.calls,
                one.area / one.api if one.api > 0.0 else 1.0,
            )
        )
        self.outcome.done += 1
        self.outcome.work += sum(amount for _, amount in video.parts)
        self.outcome.stays.append(self.now - video.arrives)
        if self.memory is not None:
            self.memory.end(video.number, int(video.peak), learn=True)
        self._end(one, None)

    def _end(self, one: Try, again_after: float | None) -> None:
        """The attempt is over; the task comes again, or not."""
        if one.over:
            return
        one.over = True
        if self.memory is not None:
            self.memory.end(one.task.video.number, None, learn=False)
        del self.tries[one]
        self.running[one.task.video.kind] -= 1
        if again_after is None:
            self.left -= 1
        else:
            self._at(self.now + again_after, self._arrive, one.task)
        self.alive = max(self.target, len(self.tries))
        self._at(self.now, self._dispatch)

    def _lose(self, one: Try) -> None:
        self.outcome.lost += 1
        self._end(one, None)

    # -- calls -------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while self.asking:
            one = self.asking[0]
            decision = self.doors.ask(one.task.video.number, self.now)
            if isinstance(decision, Go):
                self.asking.pop(0)
                self._call(one)
                continue
            until = getattr(decision, "until", None)
            if until is not None and until - self.now > self.doors.patience_s:
                self.asking.pop(0)
                self._end(one, until - self.now)
                continue
            if until is not None:
                self._at(max(until, self.now + 1e-3), self._pump)
            return

    def _call(self, one: Try) -> None:
        now, task, service = self.now, one.task, self.service
        one.waited += now - one.since
        one.since, one.mark, one.work = now, self.api.held, next(self.number)
        one.calls += 1
        self.outcome.calls += 1
        self.doors.start(one.work, task.video.number, now)
        while self.accepted and self.accepted[0] <= now - 60.0:
            self.accepted.popleft()
        amount = task.video.parts[task.part][1]
        luck = Random(self.scenario.seed * 1_000_003 + task.video.number * 101 + task.spent).random()
        if any(start <= now < end for start, end in service.outages):
            self._at(now + FAILS_AFTER_S, self._call_failed, one)
        elif len(self.accepted) >= at(service.rate, now):
            self._at(now + REFUSED_AFTER_S, self._call_refused, one)
        elif luck < service.errors:
            self._at(now + 0.3 * amount, self._call_failed, one)
        else:
            self.accepted.append(now)
            one.origin = self.api.done
            self.at_work[one.work] = one
            self.api.add(one.work, amount)
            self._api_rate()

    def _call_done(self, one: Try) -> None:
        self._api_rate()
        one.api += self.now - one.since
        one.area += self.api.held - one.mark
        self.recent.append((self.now, False))
        self.doors.accept(one.work, one.task.video.number, self.now)
        one.task.part += 1
        self._go_on(one)
        self._pump()

    def _call_refused(self, one: Try) -> None:
        if one.over:
            return
        self.outcome.refused += 1
        self.recent.append((self.now, True))
        sleep = self.doors.refuse(one.work, one.task.video.number, 30.0, self.now)
        one.since = self.now
        self._at(self.now + (sleep or 0.0), self._ask_again, one)

    def _ask_again(self, one: Try) -> None:
        if not one.over:
            self.asking.append(one)
            self._pump()

    def _call_failed(self, one: Try) -> None:
        if one.over:
            return
        self.recent.append((self.now, True))
        verdict = self.doors.fail(one.work, one.task.video.number, one.task.spent, self.now)
        one.task.spent += verdict.answer is not Answer.GIVE_BACK
        if verdict.answer is Answer.GIVE_UP:
            self._lose(one)
        elif self.doors.patience_s == math.inf:
            self._at(self.now + verdict.delay_s, self._ask_again, one)
        else:
            self._end(one, verdict.delay_s)
        self._pump()

    # -- memory ------------------------------------------------------------------------------------------------------

    def _mind_memory(self) -> None:
        """Caps are kept by the kernel at once; here they follow what tasks hold, or their task comes again."""
        if self.memory is not None and self.tries:
            self._watch(self.memory, wanted=self.blocked)
        use = {one: one.task.video.memory(self._progress(one)) for one in self.tries}
        total = self.machine.parent + (self.alive - len(use)) * self.machine.idle + sum(use.values())
        while total > self.machine.memory and use:
            victim = max(use, key=use.__getitem__)
            total -= use.pop(victim)
            self._kill(victim)
        self._at(self.now + MEMORY_TICK_S, self._mind_memory)

    def _watch(self, memory: MemoryOptimizer, *, wanted: bool) -> None:
        idle = max(0, self.alive - len(self.tries) - 1)
        memory.view = View(int(self.machine.memory), int(self.machine.parent + idle * self.machine.idle))
        use = {one: int(one.task.video.memory(self._progress(one))) for one in self.tries}
        for one, used in use.items():  # what leapt since the last look has met its cap meanwhile
            if used > memory.grants[one.task.video.number].cap:
                self._over_cap(one, memory)
        memory.watch(
            {one.task.video.number: used for one, used in use.items() if not one.over}, self.now, wanted=wanted
        )

    def _progress(self, one: Try) -> float:
        parts = one.task.video.parts
        whole = sum(amount for _, amount in parts)
        done = sum(amount for _, amount in parts[: one.task.part])
        if one.task.part < len(parts):
            use, amount = parts[one.task.part]
            if use is Use.WAIT:
                done += min(amount, self.now - one.since)
            elif one.work in self.at_work:
                done += (self.cpu if use is Use.CPU else self.api).done - one.origin
        return done / whole

    def _over_cap(self, one: Try, memory: MemoryOptimizer) -> None:
        again = memory.exceeded(one.task.video.number)
        self._abort(one)
        one.task.part = 0
        if again:
            self.outcome.requeued += 1
            self.failures += 1
            self._end(one, 1.0)
        else:
            self._lose(one)

    def _kill(self, one: Try) -> None:
        self.outcome.kills += 1
        one.task.deaths += 1
        self._abort(one)
        one.task.part = 0
        if one.task.deaths >= DEATHS:
            self._lose(one)
        else:
            self._end(one, 1.0)

    def _abort(self, one: Try) -> None:
        if self.at_work.pop(one.work, None) is not None:
            use = one.task.video.parts[one.task.part][0]
            (self.cpu if use is Use.CPU else self.api).drop(one.work)
            self._new_rates()
        if one in self.asking:
            self.asking.remove(one)

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        decision = self.decider.decide(self._metrics(), self.now)
        self.limits = dict(decision.limits)
        if decision.workers != self.target:
            self.outcome.changes += 1
            self.outcome.sizes.append((self.now, decision.workers))
            self.target = decision.workers
            self.alive = max(self.target, len(self.tries))
        self._dispatch()
        self._at(self.now + TICK_S, self._tick)

    def _metrics(self) -> Metrics:
        cpu, machine = self.cpu, self.machine
        held, used, other = (
            new - old for new, old in zip((cpu.held, cpu.used, self.other_used), self.before, strict=True)
        )
        self.before = (cpu.held, cpu.used, self.other_used)
        while self.recent and self.recent[0][0] < self.now - 120.0:
            self.recent.popleft()
        memory = machine.parent + (self.alive - len(self.tries)) * machine.idle
        memory += sum(one.task.video.memory(self._progress(one)) for one in self.tries)
        limit = machine.memory
        if limit == math.inf or self.sees_host:
            memory, limit = machine.host_used + memory, machine.host_memory
        completions, self.completions = tuple(self.completions), []
        blocked, self.blocked = self.blocked, False
        failures, self.failures = self.failures, 0
        return Metrics(
            workers=self.alive,
            running={kind: count for kind, count in self.running.items() if count},
            queued={kind: len(queue) for kind, queue in self.queued.items() if queue},
            completions=completions,
            own_cpu=used / TICK_S,
            other_cpu=other / TICK_S,
            allowed_cpu=min(machine.cores, machine.quota),
            host_cpu=machine.cores,
            cpu_wait=(held - used) / held if held else 0.0,
            memory_used=memory,
            memory_limit=limit,
            memory_blocked=blocked,
            memory_failures=failures,
            api_errors=sum(failed for _, failed in self.recent) / len(self.recent) if self.recent else None,
            rate_per_minute=self.doors.rate(),
        )
