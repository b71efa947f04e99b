"""Samples: one reading of the machine and of our share of it, for the status, the controller and the memory admission.

Called by the loop. Most figures are differences between two readings; whatever cannot be told (the first reading, a process
gone in between, a counter that ran backwards, no right to look) is None, with a note where somebody should know.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gsvrd.clock import Clock
from gsvrd.config.models import LEAST_MEMORY
from gsvrd.daemon import machine
from gsvrd.daemon.cgroups import ControlGroups, GroupFacts
from gsvrd.daemon.machine import Footprint, Waits
from gsvrd.errors import ConfigError
from gsvrd.pool import forkserver

LEAST_S = 0.05
"""Two readings closer than this tell nothing about what came between."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the tightest control group, or of the machine. None: not known."""

    limit: int | None = None
    used: int | None = None
    """Pages of files in use included."""
    held: int | None = None
    """What the kernel could not drop."""
    workers: Mapping[int, Footprint] = field(default_factory=dict)
    """By pid; those that could be looked at."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading. Shares are 0 to 1; cores are processor seconds a second since the last reading."""

    memory: Memory = Memory()
    own_cores: float | None = None
    """The daemon, the fork server and the workers."""
    other_cores: float | None = None
    """Everything else, on the processors we may use."""
    allowed_cores: float | None = None
    """The least of quota and processors we may use."""
    machine_cores: float | None = None
    wait: float | None = None
    """Of the time in which threads of workers wanted a processor, the share in which they had none."""
    oom_kills: int | None = None
    """Since the last reading."""
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, object]:
        """What `gsvrctl status` shows."""
        memory = self.memory
        known = [cores for cores in (self.own_cores, self.other_cores) if cores is not None]
        return {
            "cpu": _share(sum(known) if known else None, self.machine_cores),
            "memory": _share(memory.used, memory.limit),
            "workers_bytes": sum(one.resident for one in memory.workers.values()),
            "memory_limit": memory.limit,
            "cores": self.allowed_cores,
            "own_cores": self.own_cores and round(self.own_cores, 3),
            "cpu_wait": self.wait and round(self.wait, 4),
            "notes": list(self.notes),
        }


class Sampler(Protocol):
    """Where samples come from."""

    def read(self, pids: Sequence[int]) -> Sample:
        """A reading now; `pids` are the workers."""
        ...

    def memory(self, pids: Sequence[int]) -> Memory:
        """Only that; it may be asked more often."""
        ...

    def oom_kills(self) -> int | None:
        """Only those since the last reading, which stays what it was."""
        ...


@dataclass(slots=True)
class _Before:
    """What the last reading saw."""

    at: float
    busy_s: float | None
    used_s: dict[int, float]
    waits: dict[tuple[int, int], Waits]
    oom_kills: int | None
    processors: frozenset[int]


@dataclass(slots=True)
class SystemSampler:
    """Reads this machine. `budget` is what the configuration allows of memory, in bytes; None leaves it at that."""

    clock: Clock
    groups: ControlGroups = field(default_factory=ControlGroups)
    budget: int | None = None
    _before: _Before | None = None

    def memory(self, pids: Sequence[int]) -> Memory:
        """See `Sampler`."""
        return self._memory(self.groups.read(), pids)

    def read(self, pids: Sequence[int]) -> Sample:
        """See `Sampler`."""
        facts, processors = self.groups.read(), machine.processors()
        now = _Before(
            at=self.clock.monotonic(),
            busy_s=machine.busy_s(processors),
            used_s=_by_pid([os.getpid(), forkserver.number(), *pids]),
            waits={key: one for pid in pids for key, one in (machine.waits(pid) or {}).items()},
            oom_kills=facts.oom_kills,
            processors=frozenset(processors),
        )
        before, self._before = self._before, now
        notes = list(facts.notes)
        own, others = _cores(before, now, notes)
        return Sample(
            memory=self._memory(facts, pids),
            own_cores=own,
            other_cores=others,
            allowed_cores=min(float(len(processors)), facts.cores or float(len(processors))),
            machine_cores=float(os.cpu_count() or len(processors)),
            wait=_wait(before, now, notes),
            oom_kills=_kills(before, now.oom_kills),
            notes=tuple(notes),
        )

    def oom_kills(self) -> int | None:
        """See `Sampler`."""
        return _kills(self._before, self.groups.read().oom_kills)

    def _memory(self, facts: GroupFacts, pids: Sequence[int]) -> Memory:
        workers = {pid: found for pid in pids if (found := machine.footprint(pid)) is not None}
        limit, used, held = facts.memory_limit, facts.memory_used, facts.memory_held
        whole = machine.memory()
        if whole is not None and (limit is None or used is None or whole[0] <= limit):
            limit, used = whole[0], whole[0] - whole[1]
            held = used
        if self.budget is not None and (limit is None or self.budget < limit):
            # Only our own memory counts against a budget of our own.
            ours = [*workers.values(), *filter(None, map(machine.footprint, (os.getpid(), forkserver.number())))]
            limit, used = self.budget, sum(one.own for one in ours)
            held = used
        return Memory(limit, used, held, workers)


def see_memory(groups: ControlGroups) -> None:
    """At start: raises `ConfigError` when the control group leaves no room for the daemon and one task."""
    limit = groups.read().memory_limit
    if limit is not None and limit < LEAST_MEMORY:
        raise ConfigError(
            f"the control group allows {limit >> 20} MiB of memory, and the daemon with one task needs {LEAST_MEMORY >> 20}",
            "Raise MemoryMax= in the unit, or the memory of the container.",
        )


def _by_pid(pids: Sequence[int]) -> dict[int, float]:
    return {pid: used for pid in pids if pid and (used := machine.used_s(pid)) is not None}


def _cores(before: _Before | None, now: _Before, notes: list[str]) -> tuple[float | None, float | None]:
    """Ours and others'. A process that was not there before counts from its start, one that has gone counts nothing."""
    if before is None or now.at - before.at < LEAST_S:
        return None, None
    took = now.at - before.at
    deltas = [used - before.used_s.get(pid, 0.0) for pid, used in now.used_s.items()]
    if any(delta < 0 for delta in deltas):
        notes.append("a processor clock of ours ran backwards")
        return None, None
    own = sum(deltas) / took
    if now.busy_s is None or before.busy_s is None or now.processors != before.processors:
        return own, None
    busy = (now.busy_s - before.busy_s) / took
    if busy < 0:
        notes.append("the machine's processor clock ran backwards")
        return own, None
    return own, max(0.0, busy - own)


def _wait(before: _Before | None, now: _Before, notes: list[str]) -> float | None:
    if before is None or not now.waits:
        return None
    ran = waited = 0.0
    for key, later in now.waits.items():
        earlier = before.waits.get(key, Waits(0.0, 0.0))
        ran += later.ran_s - earlier.ran_s
        waited += later.waited_s - earlier.waited_s
    if ran < 0 or waited < 0:
        notes.append("a scheduler's clock ran backwards")
        return None
    return waited / (ran + waited) if ran + waited > 0 else 0.0


def _kills(before: _Before | None, now: int | None) -> int | None:
    if before is None or now is None or before.oom_kills is None:
        return None
    return max(0, now - before.oom_kills)


def _share(part: float | None, whole: float | None) -> float | None:
    return round(part / whole, 4) if part is not None and whole else None
