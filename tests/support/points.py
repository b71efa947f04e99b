"""Kills and errors at exact system calls, by `strace -e inject`: the daemon itself is the installed one, unmodified.

A run without harm shows which calls touch the home, and as how many-th of its thread; `choose` spreads kill points
evenly over them. Called by `process/test_points.py` and `benchmarks.bench_chaos`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from support import illustrated
from support.onlooker import Onlooker
from support.storm import PATIENT, Findings, Storm, free_box, storm_on, torn_at_sight
from support.waiting import eventually

CALLS = (
    *("fsync", "fdatasync", "syncfs", "ftruncate", "write", "pwrite64", "openat"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
)
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)")
_STRACE = ("strace", "-f", "-qq")
_FINISH_S = 60.0
LASTS_S = 2.0
FAULT_ENDS_S = 90.0
"""By then everything must be done, though calls failed for a while."""


def why_not() -> str:
    """Why this cannot be done here; empty when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run([*_STRACE, "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return f"strace may not trace here: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass(frozen=True, slots=True)
class Point:
    """The moment before a thread's so many-th call of this name."""

    call: str
    number: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Calls on a path below the home that all fail for a while."""

    call: str
    error: str
    path: str


FAULTS = tuple(
    Fault(call, error, path)
    for call, path in (
        ("fsync", "reports"),
        ("linkat", "reports"),
        ("openat", "reports"),
        ("fsync", "archive"),
        ("linkat", "archive"),
        ("openat", "archive"),
        ("fsync", "failed"),
        ("fsync", "inbox"),
        ("pwrite64", "state/gsvrd.db-wal"),
        ("fdatasync", "state/gsvrd.db-wal"),
    )
    for error in ("EIO", "ENOSPC")
)


@dataclass(frozen=True, slots=True)
class Hit:
    """What came of a point or a fault."""

    what: str
    struck: bool
    """Whether the call was met at all."""
    findings: Findings


def reference(home: Path) -> dict[str, list[int]]:
    """For each call by name: as how many-th of its thread it touches the home, in a run without harm."""
    trace = home.with_suffix(".trace")
    with _prepared(home) as storm:
        wanted = ",".join(f"?{call}" for call in CALLS)
        storm.daemon.prefix = (
            *_STRACE,
            "-y",
            "-s",
            "0",
            "-o",
            str(trace),
            "-e",
            f"trace={wanted}",
            *illustrated.prefix(),
        )
        storm.start()
        storm.until_ready()
        eventually(storm.is_quiet, _FINISH_S * 2)
        storm.stop()
    return _touching(trace, str(home))


def _touching(trace: Path, home: str) -> dict[str, list[int]]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    found: dict[str, set[int]] = defaultdict(set)
    for line in trace.read_text().splitlines():
        if match := _LINE.match(line):
            thread, call, arguments = match.groups()
            counts[thread, call] += 1
            if home in arguments and "/daemon.log" not in arguments:
                found[call].add(counts[thread, call])
    return {call: sorted(numbers) for call, numbers in found.items()}


def choose(touching: Mapping[str, Sequence[int]], count: int) -> list[Point]:
    """So many points at most, each call having its share, spread evenly from the first to the last time it happens."""
    shares = dict.fromkeys(touching, 0)
    while sum(shares.values()) < count and (left := [call for call in shares if shares[call] < len(touching[call])]):
        for call in left[: count - sum(shares.values())]:
            shares[call] += 1
    return [Point(call, number) for call, share in shares.items() for number in _spread(touching[call], share)]


def _spread(numbers: Sequence[int], share: int) -> list[int]:
    if share <= 1:
        return list(numbers[len(numbers) // 2 :][:share])
    return [numbers[round(index * (len(numbers) - 1) / (share - 1))] for index in range(share)]


def kill_at(home: Path, point: Point) -> Hit:
    """Let whoever comes there die; then kill the rest, start again without `strace`, and look."""
    with _prepared(home) as storm, Onlooker(home / "reports").watching() as onlooker:
        storm.daemon.prefix = _injecting(point.call, f"signal=KILL:when={point.number}")
        storm.start()
        struck = _until_struck(storm)
        storm.kill_all()
        storm.daemon.prefix = illustrated.prefix()
        storm.start()
        storm.until_ready()
        found = storm.settle()
    return Hit(f"{point.call} {point.number}", struck, found.plus(torn_at_sight(onlooker)))


def _until_struck(storm: Storm) -> bool:
    """Until the daemon is dead; or all is done, then by draining it. Without an end of either, a worker met the point."""
    process = storm.daemon.process
    assert process is not None
    with contextlib.suppress(AssertionError):
        eventually(lambda: process.poll() is not None or storm.has_finished(), _FINISH_S)
    return storm.stop() != 0 or "SIGKILL" in storm.daemon.log


def fail_at(home: Path, fault: Fault) -> Hit:
    """Let the calls fail from before the first file comes until `LASTS_S` after the first of them.

    The daemon must go on by itself after that.
    """
    trace = home.with_suffix(".trace")
    with storm_on(home, seed=0, more=PATIENT) as storm, Onlooker(home / "reports").watching() as onlooker:
        storm.start()
        storm.until_ready()
        with _failing(storm, fault, trace):
            _put_all(storm)
            with contextlib.suppress(AssertionError):  # a call that is never met is told by `struck`
                eventually(lambda: "INJECTED" in trace.read_text(), 20)
            time.sleep(LASTS_S)
        found = storm.settle(FAULT_ENDS_S)
    what = f"{fault.error} of {fault.call} in {fault.path}"
    return Hit(what, "INJECTED" in trace.read_text(), found.plus(torn_at_sight(onlooker)))


@contextlib.contextmanager
def _failing(storm: Storm, fault: Fault, trace: Path) -> Iterator[None]:
    daemon = psutil.Process(storm.daemon.pid)
    pids = [word for process in (daemon, *daemon.children(recursive=True)) for word in ("-p", str(process.pid))]
    how = ("-e", f"trace={fault.call}", "-e", f"inject={fault.call}:error={fault.error}")
    command = [*_STRACE, "-P", str(storm.daemon.home / fault.path), "-o", str(trace), *how, *pids]
    with subprocess.Popen(command) as strace:
        eventually(lambda: "TracerPid:\t0\n" not in Path(f"/proc/{daemon.pid}/status").read_text())
        try:
            yield
        finally:
            strace.terminate()  # it lets go of all


def _injecting(call: str, how: str) -> tuple[str, ...]:
    return (*_STRACE, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{how}", *illustrated.prefix())


@contextlib.contextmanager
def _prepared(home: Path) -> Iterator[Storm]:
    with storm_on(home, seed=0, more=PATIENT) as storm:
        _put_all(storm)
        yield storm


def _put_all(storm: Storm) -> None:
    for number, name in enumerate(("a.mp4", "b.mp4", "c.mp4", "week 1/d.mp4")):
        storm.dropped.put(storm.inbox, name, storm.dropped.clip + free_box(b"%d" % number))
    storm.dropped.put(storm.inbox, "no video.mp4", b"no", good=False)
