"""The referee: runs one contestant once, from outside, and says how long it took and what it cost.

Three disciplines. `one` and `bulk` go from the first enqueue to the last completion, workers and producer running at
the same time; `drain` lets the workers loose on a backlog and measures them alone, from the moment 5 % is done.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import measure
from benchmarks.peers.base import Stand, load

Discipline = Literal["one", "bulk", "drain"]
_WARM_UP = 20
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    tasks: int
    seconds: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.tasks / self.seconds

    @property
    def cpu_s_per_thousand(self) -> float:
        """CPU seconds of all processes, the producer's and services' included, per 1,000 tasks."""
        return self.cpu_s / self.tasks * 1000


class _Tally:
    """The referee's end of the FIFO."""

    def __init__(self, stand: Stand) -> None:
        os.mkfifo(stand.tally_path)
        self._fd = os.open(stand.tally_path, os.O_RDWR)
        self.count = 0

    def read(self) -> bytes:
        if not select.select([self._fd], [], [], _PATIENCE_S)[0]:
            raise TimeoutError(f"nothing was done for {_PATIENCE_S:g} s, after {self.count} tasks")
        data = os.read(self._fd, 1 << 16)
        self.count += data.count(b".")
        return data

    def until(self, count: int) -> None:
        while self.count < count:
            self.read()

    def until_started(self) -> int:
        """How many were done before the producer began."""
        while True:
            before, data = self.count, self.read()
            if b"S" in data:
                return before + data[: data.index(b"S")].count(b".")


def run(name: str, discipline: Discipline, safety: str, tasks: int, parent: Path) -> Result:
    """One run of one contestant in a fresh folder below `parent`."""
    peer = load(name)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-", dir=parent)))
        stand = Stand(folder, "power" if safety == "power" else "kill")
        tally = _Tally(stand)
        services = [stack.enter_context(_ended(service)).pid for service in peer.prepare(stand)]
        side = _Sides(name, stand, stack)
        if not peer.SAFETIES:
            return _timed(tally, tasks, side.produce(discipline, tasks), [])
        if discipline == "drain":
            side.produce("bulk", tasks, wait=True)
            tally.until_started()
            watched = [*services, side.consume()]
            tally.until(tasks // 20)
            return _until_done(tally, tasks, watched)
        watched = [*services, side.consume()]
        side.produce("one", _WARM_UP, wait=True)
        tally.until(_WARM_UP)
        return _timed(tally, tasks, side.produce(discipline, tasks), watched)


def _timed(tally: _Tally, tasks: int, producer: int, watched: list[int]) -> Result:
    before = tally.until_started()
    return _until_done(tally, before + tasks, [*watched, producer])


def _until_done(tally: _Tally, goal: int, watched: list[int]) -> Result:
    began, cpu, before = time.perf_counter(), measure.cpu_s(watched), tally.count
    tally.until(goal)
    return Result(goal - before, time.perf_counter() - began, measure.cpu_s(watched) - cpu)


@dataclass(frozen=True, slots=True)
class _Sides:
    """Starts the two sides of one contestant."""

    name: str
    stand: Stand
    stack: ExitStack

    def consume(self) -> int:
        return self._start("consume").pid

    def produce(self, how: str, count: int, *, wait: bool = False) -> int:
        process = self._start("produce", how, str(count))
        if wait:
            process.communicate(timeout=_PATIENCE_S)
        return process.pid

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        role, *more = words
        command = [sys.executable, "-m", "benchmarks.peers.base", self.name, role, str(self.stand.folder)]
        log = self.stack.enter_context((self.stand.folder / "log").open("ab"))
        process = subprocess.Popen([*command, self.stand.safety, *more], stdin=subprocess.PIPE, stdout=log, stderr=log)
        self.stack.enter_context(_ended(process))
        return process


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Nobody survives the race, nor do its children."""
    try:
        yield process
    finally:
        family = measure.with_descendants([process.pid])
        for pid in family:
            measure.kill(pid)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
