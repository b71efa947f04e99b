"""What the machine and our processes use: counters as they stand, by psutil and /proc. Called by `sampler`, which compares.

Everything here may be missing: a process may be gone or not ours to look at, a file may not exist on this kernel. Then the
answer is None, never an error.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_PAGE = os.sysconf("SC_PAGE_SIZE")
_RESET_PEAK = b"5"
_NANO = 1e-9


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of one process, in bytes."""

    resident: int
    own: int
    """Of that, what it shares with nobody and the kernel cannot drop."""
    data: int
    """What it may write to of its own, touched or not: what RLIMIT_DATA limits, and never less than `own`."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Of the threads of one process, in seconds, ever: on a processor, and ready but without one."""

    ran_s: float
    waited_s: float


def processors() -> set[int]:
    """The processors this process may use."""
    return os.sched_getaffinity(0)


def busy_s(which: set[int]) -> float | None:
    """Seconds in which these processors worked for anybody, ever; time stolen by a hypervisor counts as worked."""
    try:
        each = psutil.cpu_times(percpu=True)
    except (psutil.Error, OSError, RuntimeError):
        return None
    found = [times for number, times in enumerate(each) if number in which]
    return sum(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice for times in found)


def memory() -> tuple[int, int] | None:
    """Bytes the machine has, and how many of them are still to be had."""
    try:
        found = psutil.virtual_memory()
    except (psutil.Error, OSError, RuntimeError):
        return None
    return int(found.total), int(found.available)


def used_s(pid: int) -> float | None:
    """Processor time of a process and all its threads, those that have ended included, ever."""
    try:
        # The kernel's clock of another process, to the nanosecond and for a microsecond: see clock_getcpuclockid(3).
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def waits(pid: int) -> dict[tuple[int, int], Waits] | None:
    """By pid and thread; None where the kernel keeps no such account."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return {(pid, int(thread.name)): _waits(thread / "schedstat") for thread in threads}
    except (OSError, ValueError):
        return None


def _waits(path: Path) -> Waits:
    ran, waited, *_ = path.read_text().split()
    return Waits(int(ran) * _NANO, int(waited) * _NANO)


def footprint(pid: int) -> Footprint | None:
    """How much memory a process has; None when it is gone, or has ended and was not reaped."""
    try:
        # Ten times as fast as `status`: it is asked for at every beginning and end of a task.
        size, resident, shared, _, _, data, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except (OSError, ValueError):
        return None
    if not size:
        return None
    return Footprint(resident * _PAGE, max(0, resident - shared) * _PAGE, data * _PAGE)


def peak(pid: int) -> int | None:
    """The most a process had resident since `forget_peak`, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8", "surrogateescape").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
    except (OSError, ValueError):
        return None


def forget_peak(pid: int) -> None:
    """Have `peak` begin anew; where that may not be done, an earlier peak stays."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_bytes(_RESET_PEAK)
