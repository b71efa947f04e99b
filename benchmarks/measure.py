"""Clocks, machine facts and tables; used by every benchmark, from outside: nothing here runs in what is measured."""

from __future__ import annotations

import os
import platform
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds, user and system, that these processes have used so far, all their threads and descendants included."""
    return sum(map(_cpu_of, with_descendants(pids)))


def with_descendants(pids: Iterable[int]) -> set[int]:
    """These processes and all that came from them."""
    found = set(pids)
    for pid in list(found):
        with suppress(psutil.NoSuchProcess):
            found.update(child.pid for child in psutil.Process(pid).children(recursive=True))
    return found


def children(pid: int) -> list[int]:
    """The processes it has started."""
    return [child.pid for child in psutil.Process(pid).children()]


def _cpu_of(pid: int) -> float:
    # The kernel's clock of another process, in nanoseconds and with ended threads: see clock_getcpuclockid(3).
    with suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


def pss_mb(pid: int) -> float:
    """Memory of a process in MB, what it shares counted by its share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def wakeups(pids: Iterable[int]) -> int:
    """How often the threads of these processes went to sleep and were woken so far."""
    count = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            with suppress(OSError):
                for line in status.read_text().splitlines():
                    if line.startswith("voluntary_ctxt_switches:"):
                        count += int(line.split()[1])
    return count


def fsync_ms(folder: Path, times: int = 50) -> list[float]:
    """How long appending 4 KiB and fsync takes there, in milliseconds, each time."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return taken


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float], form: str = "{:,.0f}") -> str:
    """`median (least-most)`; a dash when there are none."""
    if not values:
        return "-"
    median, least, most = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return median if len(values) == 1 else f"{median} ({least}-{most})"


def print_facts(folder: Path) -> None:
    """The machine and the moment, without which no figure means anything."""
    taken = fsync_ms(folder)
    kind = _file_system(folder)
    print(
        f"command: python -m {_module()} {' '.join(sys.argv[1:])}".rstrip(),
        f"machine: {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"moment:  load {os.getloadavg()[0]:.1f}; fsync on {kind}: p50 {quantile(taken, 0.5):.2f} ms, "
        f"p99 {quantile(taken, 0.99):.2f} ms",
        "",
        sep="\n",
    )


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else sys.argv[0]


def _file_system(folder: Path) -> str:
    """The type of the nearest mount that `folder` lies below."""
    place = folder.resolve()
    around = [part for part in psutil.disk_partitions(all=True) if place.is_relative_to(part.mountpoint)]
    return max(around, key=lambda part: len(part.mountpoint)).fstype


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table that can be pasted into Markdown."""
    lines = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    print()


def await_that(condition: Callable[[], bool], timeout_s: float, every_s: float = 0.005) -> None:
    """Look again and again; raises `TimeoutError`."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {timeout_s:g} s")
        time.sleep(every_s)


def kill(pid: int) -> None:
    """End a process of ours; one that is gone already is no matter."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
