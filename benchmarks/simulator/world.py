"""What a scenario is made of: videos, a service, a machine. Plain data; `scenarios` draws it, `engine` plays it."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum

MB = 1e6
GB = 1e9

Steps = tuple[tuple[float, float], ...]
"""From each moment (seconds) on, a value; the first moment is 0."""


class Use(StrEnum):
    """What a part of a task needs."""

    CPU = "cpu"
    """Processor seconds, shared with all that run."""
    WAIT = "wait"
    """Seconds in which it only waits: disk, network."""
    CALL = "call"
    """A call to the service: a permit, and seconds that grow with what is asked at the same time."""


@dataclass(frozen=True, slots=True)
class Video:
    """One task."""

    number: int
    kind: str
    size: float
    parts: tuple[tuple[Use, float], ...]
    arrives: float = 0.0
    peak: float = 150 * MB
    """Of its worker's memory, bytes."""
    jumps_at: float | None = None
    """The share of its work at which memory leaps to the peak, for a tenth of the work; None: it grows evenly."""
    bad: bool = False
    """Fails for good at its first part, whoever tries it."""

    def memory(self, progress: float) -> float:
        """Bytes, when so much of it is done."""
        low = min(self.peak, 100 * MB)
        if self.jumps_at is None:
            return low + (self.peak - low) * min(1.0, progress / 0.6)
        return self.peak if self.jumps_at <= progress < self.jumps_at + 0.1 else low + 0.3 * (self.peak - low)


@dataclass(frozen=True, slots=True)
class Service:
    """The service that is called. Above `capacity` calls at a time, all get slower by (calls / capacity) ** `slope`."""

    capacity: Steps = ((0.0, math.inf),)
    slope: float = 1.0
    speed: Steps = ((0.0, 1.0),)
    rate: Steps = ((0.0, math.inf),)
    """Calls a minute above which it refuses (429)."""
    told_rate: float = math.inf
    """What the operator has configured."""
    outages: tuple[tuple[float, float], ...] = ()
    errors: float = 0.0
    """Share of calls that fail by chance (503)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, and what of it is ours."""

    cores: float = 8.0
    quota: float = math.inf
    neighbour: Steps = ((0.0, 0.0),)
    """Threads of others that would always run. Groups get equal shares, as service units do."""
    crowding: float = 0.03
    """What taking turns costs: work is slower by 1 + this for each worker too many a core."""
    memory: float = math.inf
    """Our limit, bytes."""
    host_memory: float = 32 * GB
    host_used: float = 4 * GB
    parent: float = 100 * MB
    idle: float = 60 * MB
    """A worker without a task."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world, and the range of sizes that is allowed in it."""

    name: str
    seed: int
    videos: tuple[Video, ...]
    service: Service = field(default_factory=Service)
    machine: Machine = field(default_factory=Machine)
    low: int = 2
    high: int = 8
    initial: int = 4


def at(steps: Steps, now: float) -> float:
    """The value that holds then."""
    return steps[bisect_right(steps, (now, math.inf)) - 1][1]
