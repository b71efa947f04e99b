"""Workforce: how many workers there are, how much memory each task may have, and which task may start now.

Called by the loop at every tick, and by `attempts` whenever a task starts or ends. What is decided, `policy.controller` and
`policy.memory` decide; here it is measured, carried out and put on record. With nothing to do nothing is read or written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from gsvrd.clock import Clock
from gsvrd.daemon import machine
from gsvrd.daemon.calls import CallFigures
from gsvrd.daemon.sampler import Memory, Sample, Sampler
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import Task, said
from gsvrd.policy.controller import Completion, Controller, Decision, Metrics, Settings
from gsvrd.policy.memory import SPARE, MemoryOptimizer, View
from gsvrd.policy.replay import Reading, Start
from gsvrd.pool.base import Pool
from gsvrd.store.decisions import HAND, NOW, Change, Decisions
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.workforce")

CONTROLLER, MEMORY = "controller", "memory"
"""Under these names the service's facts hold what was learned."""
SAVE_S = 60.0
WATCH_S = 2.0
"""Between two looks at the memory of running tasks."""
RECLAIM_S = 0.25
"""Between two looks because a task does not fit."""
BACKLOG_MOST = 1000
"""More need not be counted to know that there is enough to do."""
WAITS_FROM_S = 0.25
"""Of attempts that are shorter on average nobody asks what takes long to tell: waits for a processor, peaks between."""
COMPLETIONS_MOST = 200
"""Between two ticks more would teach nothing."""
_MB = 10**6


@dataclass(slots=True)
class _Begun:
    """A running task when it began."""

    kind: str
    size: int
    pid: int
    at: float
    cpu_s: float | None
    waited_s: float | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about it."""

    settings: Settings
    kind: str
    """Of all tasks: the analyzer's name."""
    parallel: int = 0
    """Of a batch that says nothing itself; 0 is no limit."""
    memory_most: int = 1 << 40
    """Of one worker, bytes."""


@dataclass(slots=True)
class Outside:
    """What other rooms know of calls to a service; see `permits.Permits`."""

    take: Callable[[tuple[int, int]], CallFigures]
    load_errors: Callable[[float], float | None]
    rate: Callable[[], float]


@dataclass(slots=True)
class Workforce:
    """See the module."""

    rules: Rules
    memory: MemoryOptimizer
    queue: TaskQueue
    pool: Pool
    sampler: Sampler
    decisions: Decisions
    outside: Outside
    clock: Clock
    may_start: Callable[[], bool]
    """Whether anything may start at all."""
    controller: Controller = field(default_factory=Controller)
    """Restored by `restore`."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """The most tasks of a kind at a time."""
    hand: int | None = None
    """The number an operator has named."""
    target: int = 0
    sample: Sample | None = None
    _begun: dict[int, _Begun] = field(default_factory=dict)
    _completions: list[Completion] = field(default_factory=list)
    _head: int = 0
    """The first in line, when `may` was asked last."""
    _refused: bool = False
    """A task did not fit into memory since the last tick."""
    _met_cap: int = 0
    """Attempts that met their cap since then, and come again."""
    _oom_kills: int = 0
    """What the kernel has ended for want of memory, of all that this run has seen."""
    _reclaimed_at: float = -1e9
    _saved_at: float = -1e9
    _mean_s: float = 1.0
    """Of late, how long attempts took."""
    _told: dict[str, Any] = field(default_factory=dict)
    _was_idle: bool = True
    _is_new: bool = True
    """No reading of this run, or with these rules, is on record yet."""
    _start: Start | None = None

    # -- at start and when things are said anew --------------------------------------------------------------------------

    def restore(self) -> int:
        """At start: the number of workers to start with."""
        self.memory.restore(self.queue.service(MEMORY))
        self._start = Start(round(self.clock.monotonic(), 3), self.queue.service(CONTROLLER))
        self.controller = Controller.restore(self.rules.settings, self._start.known, self._start.moment)
        self._hear_hand()
        self.target = self.controller.size if self.hand is None else self._within(self.hand)
        self._tell(None)
        return self.target

    def change(self, rules: Rules) -> int:
        """Other rules hold from now on; returns how many workers there are to be at the most right away."""
        self.rules = rules
        self.controller.settings = rules.settings
        self.memory.most = rules.memory_most
        self._is_new = True
        self._set(self._within(self.target), "the configuration was changed")
        return self.target

    def look_again(self) -> None:
        """Another process has written: perhaps an operator has named a number, or taken it back."""
        before = self.hand
        self._hear_hand()
        if self.hand != before:
            self.tick(of_itself=False)

    def _hear_hand(self) -> None:
        found = self.queue.service(HAND)
        wanted = found.get("workers") if isinstance(found, dict) else None
        self.hand = wanted if isinstance(wanted, int) else None

    def _within(self, workers: int) -> int:
        return max(self.rules.settings.min, min(self.rules.settings.max, workers))

    # -- ticks -----------------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Nothing runs, nothing could start, and there is nobody to send home."""
        rest = self.rules.settings.min if self.hand is None else self._within(self.hand)
        return not (self._begun or self._completions or self.target > rest or self._in_line())

    @property
    def is_surprised(self) -> bool:
        """Work has come that the last tick knew nothing of, and there is nobody for it."""
        return self._was_idle and not self.pool.free() and len(self._begun) >= self.target and self._in_line() > 0

    def tick(self, *, of_itself: bool = True) -> None:
        """Read, decide, carry out, put on record. `of_itself`: it is time; else something has happened."""
        self._was_idle = of_itself and self.is_idle
        if self._was_idle:
            self.sample = None
            return
        pids = [worker.pid for worker in self.pool.workers() if worker.pid]
        self.sample = self.sampler.read(pids)
        self._view(self.sample.memory)
        metrics = self._metrics(self.sample)
        now = round(self.clock.monotonic(), 3)
        decision = self.controller.decide(metrics, now)
        self._completions.clear()
        self._refused, self._met_cap = False, 0
        self._oom_kills += self.sample.oom_kills or 0
        self._record(metrics, decision, now)
        self._carry_out(decision)
        if now - self._saved_at >= SAVE_S:
            self.save()

    def save(self) -> None:
        """Keep what was learned over a restart."""
        self._saved_at = self.clock.monotonic()
        self.queue.set_service(CONTROLLER, self.controller.state(self._saved_at))
        self.queue.set_service(MEMORY, self.memory.save())

    def _metrics(self, sample: Sample) -> Metrics:
        running: dict[str, int] = {}
        for begun in self._begun.values():
            running[begun.kind] = running.get(begun.kind, 0) + 1
        waiting, rate = self._in_line(), self.outside.rate()
        return Metrics(
            workers=len(self.pool.workers()),
            running=running,
            queued={self.rules.kind: waiting} if waiting else {},
            completions=tuple(self._completions),
            own_cpu=_brief(sample.own_cores),
            other_cpu=_brief(sample.other_cores),
            allowed_cpu=_brief(sample.allowed_cores),
            host_cpu=sample.machine_cores,
            cpu_wait=_brief(sample.wait),
            memory_used=sample.memory.used,
            memory_limit=sample.memory.limit,
            memory_blocked=self._refused,
            memory_failures=self._met_cap,
            api_errors=_brief(self.outside.load_errors(self.clock.monotonic())),
            rate_per_minute=_brief(rate) if rate < math.inf else None,
            forced=self.hand,
        )

    def _in_line(self) -> int:
        """How many could start now, if there were workers: no more of a batch than may run at a time."""
        if not self.may_start():
            return 0
        total = 0
        for batch, options, count in self.queue.in_line(BACKLOG_MOST):
            parallel = said(options, "parallel", self.rules.parallel) if batch else 0
            total += min(count, parallel) if parallel else count
        return total

    def _carry_out(self, decision: Decision) -> None:
        self.limits = decision.limits
        self._set(decision.workers, decision.note, decision)

    def _set(self, workers: int, note: str, decision: Decision | None = None) -> None:
        before, self.target = self.target, self._within(workers)
        if self.target != before:
            cap = decision.cap.value if decision else "max"
            inputs = self._inputs(decision) if decision else {}
            self.decisions.changed(Change(self.clock.wall(), before, self.target, cap, note, inputs))
            log.info("workers", before=before, after=self.target, cap=cap, note=note or None)
            self.pool.resize(self.target)
        self._tell(decision)

    def _record(self, metrics: Metrics, decision: Decision, now: float) -> None:
        settings = self.rules.settings if self._is_new else None
        start, self._start, self._is_new = self._start, None, False
        at = round(self.clock.wall(), 3)
        self.decisions.read(Reading(at, now, metrics, decision.workers, decision.cap.value, settings, start))

    def _tell(self, decision: Decision | None) -> None:
        """For `gsvrctl`: how it stands. Written when it reads otherwise than before."""
        settings = self.rules.settings
        facts: dict[str, Any] = {
            "target": self.target,
            "hand": self.hand,
            "min": settings.min,
            "max": settings.max,
            "cap": decision.cap.value if decision else self._told.get("cap"),
            "note": decision.note if decision else self._told.get("note", ""),
            "limits": dict(decision.limits) if decision else self._told.get("limits", {}),
            "oom_kills": self._oom_kills,
        }
        if facts == {name: self._told.get(name) for name in facts} and (decision is None or not self._is_stale()):
            return
        inputs = (
            self._inputs(decision) if decision else {name: self._told.get(name, {}) for name in ("caps", "figures")}
        )
        self._told = {**facts, **inputs, "at": round(self.clock.wall(), 3)}
        if decision is not None and self.sample is not None:
            self._told["notes"] = list(self.sample.notes)
        self.queue.set_service(NOW, self._told)

    def _inputs(self, decision: Decision) -> dict[str, Any]:
        caps = {str(name): round(value, 2) for name, value in decision.caps.items()}
        figures = {name: round(value, 4) for name, value in decision.inputs.items()}
        if self.sample is not None and self.sample.oom_kills:
            figures["oom_kills"] = self.sample.oom_kills
        return {"caps": caps, "figures": figures}

    def _is_stale(self) -> bool:
        return self.clock.wall() - float(self._told.get("at", 0.0)) >= SAVE_S

    # -- memory ----------------------------------------------------------------------------------------------------------

    @property
    def is_watching(self) -> bool:
        """Whether there is anything for `watch` to see."""
        return bool(self._begun)

    def watch(self) -> None:
        """Look at the memory of running tasks, every `WATCH_S`."""
        if self._begun:
            self._mind_memory(wanted=self._refused)

    def _mind_memory(self, *, wanted: bool) -> None:
        pids = {begun.pid: task for task, begun in self._begun.items() if begun.pid}
        memory = self.sampler.memory([worker.pid for worker in self.pool.workers() if worker.pid])
        self._view(memory)
        seen = {pids[pid]: found.data for pid, found in memory.workers.items() if pid in pids}
        for task, cap in self.memory.watch(seen, self.clock.monotonic(), wanted=wanted).items():
            self._limit(task, cap)

    def _limit(self, task: int, cap: int) -> None:
        self.pool.limit_memory(task, cap)
        found = machine.footprint(self._begun[task].pid) if self._begun[task].pid else None
        if found is not None and found.data > cap:  # it grew between the look and the limit
            self.memory.holds(task, found.data)

    def _view(self, memory: Memory) -> None:
        """Where nothing could be read, what was seen last holds."""
        if memory.limit is None or memory.held is None:
            return
        busy = {begun.pid for begun in self._begun.values()}
        running = sum(found.own for pid, found in memory.workers.items() if pid in busy)
        # The task that starts next gets one of the idle workers: what that holds is in its cap.
        idle = min((found.own for pid, found in memory.workers.items() if pid not in busy), default=0)
        self.memory.view = View(memory.limit, max(0, memory.held - running - idle))

    # -- tasks that start and end, for `attempts` ------------------------------------------------------------------------

    def may(self, task: Task, head: Task) -> bool:
        """Whether a task may start now; `head` is the first in line."""
        self._head = head.id
        kind = self.rules.kind
        most = self.limits.get(kind)
        if most is not None and self._begun and sum(one.kind == kind for one in self._begun.values()) >= most:
            return False
        if self._fits(task, head):
            return True
        if self.memory.lent and self.clock.monotonic() - self._reclaimed_at >= RECLAIM_S:
            self._reclaimed_at = self.clock.monotonic()
            self._mind_memory(wanted=True)
            if self._fits(task, head):
                return True
        self._refused = True
        return False

    def _fits(self, task: Task, head: Task) -> bool:
        return self.memory.fits(task.id, self.rules.kind, task.size, head.id)

    def start(self, task: Task) -> int:
        """A task is about to be handed to a worker; returns how much memory it may have, in bytes."""
        if self.memory.view is None:
            self._view(self.sampler.memory([worker.pid for worker in self.pool.workers() if worker.pid]))
        now = self.clock.monotonic()
        return self.memory.start(task.id, self.rules.kind, task.size, self._head, now, self.pool.free())

    def began(self, task: Task, pid: int) -> None:
        """It was handed to the worker `pid`."""
        if pid and self._mean_s >= WAITS_FROM_S:
            machine.forget_peak(pid)
        now = self.clock.monotonic()
        found = machine.footprint(pid) if pid else None
        if found is not None and found.data + SPARE > self.memory.grants[task.id].cap:
            # What it has kept from tasks before is there already; below that it could not even read its orders.
            self.memory.holds(task.id, found.data + SPARE)
            self.pool.limit_memory(task.id, found.data + SPARE)
        self._begun[task.id] = _Begun(self.rules.kind, task.size, pid, now, machine.used_s(pid), self._waited(pid))

    def ended(self, task: int, attempt: int, *, did_its_work: bool) -> None:
        """An attempt is over."""
        begun = self._begun.pop(task, None)
        calls = self.outside.take((task, attempt))
        if begun is None:
            return
        wall_s = self.clock.monotonic() - begun.at
        self.memory.end(task, self._peak(begun.pid, wall_s), learn=did_its_work)
        self._mean_s += 0.1 * (wall_s - self._mean_s)
        if did_its_work and len(self._completions) < COMPLETIONS_MOST:
            self._completions.append(self._completion(begun, wall_s, calls))

    def _peak(self, pid: int, wall_s: float) -> int | None:
        """The most it held, as far as can be told now; what it let go of again shows only after a closer look."""
        found = machine.footprint(pid) if pid else None
        if found is None:
            return None
        most = machine.peak(pid) if wall_s >= WAITS_FROM_S and self._mean_s >= WAITS_FROM_S else None
        return max(found.data, most or 0)

    def _completion(self, begun: _Begun, wall_s: float, calls: CallFigures) -> Completion:
        return Completion(
            kind=begun.kind,
            wall_s=round(wall_s, 4),
            waited_s=round(calls.waited_s, 4),
            size=float(begun.size) if begun.size > 0 else None,
            cpu_s=_since(begun.cpu_s, machine.used_s(begun.pid)),
            cpu_wait_s=_since(begun.waited_s, self._waited(begun.pid)),
            api_s=round(calls.api_s, 4),
            calls=calls.calls,
            beside=round(calls.mean_beside, 3),
        )

    def _waited(self, pid: int) -> float | None:
        if not pid or self._mean_s < WAITS_FROM_S:
            return None
        found = machine.waits(pid)
        return None if found is None else sum(one.waited_s for one in found.values())

    def was_starved(self, task: int) -> bool:
        """Whether a worker that died without a word most likely did for want of memory: ours, or the kernel's doing."""
        return self.memory.is_starved(task)

    def kernel_killed(self) -> bool:
        """Whether the kernel has ended a process of ours for want of memory, since the last reading or just before it."""
        lately = self.sample.oom_kills if self.sample is not None else None
        return bool(lately or self.sampler.oom_kills())

    def exceeded(self, task: int) -> ErrorFacts | None:
        """A task met its memory limit. None: it comes again with more; else why that would be no use."""
        grant = self.memory.grants.get(task)
        if grant is None:
            return None
        if self.memory.exceeded(task):
            self._met_cap += 1
            return None
        had = f"{grant.cap / _MB:,.0f} MB"
        hint = "Raise workers.memory_limit or workers.memory_budget, or give this video a machine with more memory."
        return ErrorFacts(ErrorKind.MEMORY, f"it needs more memory than one video may have here, which is {had}", hint)

    def gave_up(self, task: int) -> None:
        """It failed for good."""
        self.memory.forget(task)


def _since(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or after < before else round(after - before, 4)


def _brief(value: float | None) -> float | None:
    """With as many digits as matter: what is on record is what was decided by."""
    return None if value is None else round(value, 4)
