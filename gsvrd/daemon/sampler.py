"""Samples: one reading of the machine, for the status and (later) the controller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import psutil


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading. Shares are 0 to 1."""

    cpu: float
    """Of all processors, since the last reading."""
    memory: float
    """Of the machine's memory, in use."""
    workers_bytes: int
    """Resident memory of all workers."""


class Sampler(Protocol):
    """Where samples come from."""

    def read(self, pids: list[int]) -> Sample:
        """A reading now; `pids` are the workers."""
        ...


class SystemSampler:
    """Reads the machine by psutil."""

    def read(self, pids: list[int]) -> Sample:
        """See `Sampler`; workers that are gone count nothing."""
        return Sample(
            cpu=psutil.cpu_percent(interval=None) / 100,
            memory=psutil.virtual_memory().percent / 100,
            workers_bytes=sum(map(_resident, pids)),
        )


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
