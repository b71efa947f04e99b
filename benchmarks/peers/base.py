"""What a contestant is, and the entry point of its processes: `python -m benchmarks.peers.base NAME ROLE FOLDER SAFETY …`.

A contestant produces no-op tasks, one by one or in bulk, and consumes them with two workers. For each task that is done
and stored as done, one byte goes into the tally, a FIFO that the referee (`benchmarks.race`) reads; where a peer has no
such hook, the byte goes out when the task's body runs, which is a little earlier: in its favour.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Safety = Literal["kill", "power"]
"""What an accepted task survives: the kill of every process, or the loss of power (an fsync for each answer)."""
How = Literal["one", "bulk"]

WORKERS = 2
BULK = 1000
"""Tasks of one commit or call, in bulk."""
NAMES = ("gsvrd", "raw", "litequeue", "huey", "dramatiq", "memory")


@dataclass(frozen=True, slots=True)
class Stand:
    """Where and how safely one race is run."""

    folder: Path
    safety: Safety

    @property
    def tally_path(self) -> Path:
        """The FIFO."""
        return self.folder / "tally"

    def open_tally(self) -> int:
        """A descriptor to write to."""
        return os.open(self.tally_path, os.O_WRONLY)


class Peer(Protocol):
    """One contestant: a module of this package with these functions and constants."""

    TITLE: str
    SAFETIES: tuple[Safety, ...]
    """Empty: it keeps nothing and runs beside the others for comparison."""

    def missing(self) -> str:
        """What it lacks on this machine; empty when it can run."""
        ...

    def prepare(self, stand: Stand) -> list[subprocess.Popen[bytes]]:
        """Make what both sides need; returns the services it started."""
        ...

    def produce(self, stand: Stand, how: How, count: int) -> None:
        """Enqueue so many tasks. When ready to begin it calls `started`."""
        ...

    def consume(self, stand: Stand) -> None:
        """Work until killed."""
        ...


def load(name: str) -> Peer:
    """The contestant of that name."""
    peer: Peer = importlib.import_module(f"benchmarks.peers.{name}_peer")
    return peer


def started(stand: Stand) -> None:
    """Tell the referee that the enqueuing begins now."""
    tally = stand.open_tally()
    os.write(tally, b"S")
    os.close(tally)


def is_missing(module: str) -> bool:
    """Whether a package is not installed."""
    return importlib.util.find_spec(module) is None


def main() -> None:
    """Be one side of one contestant."""
    name, role, folder, safety, *more = sys.argv[1:]
    stand = Stand(Path(folder), "power" if safety == "power" else "kill")
    peer = load(name)
    if role == "consume":
        peer.consume(stand)
    else:
        peer.produce(stand, "bulk" if more[0] == "bulk" else "one", int(more[1]))
        sys.stdin.read()  # stay, so that the CPU used can be read, until the referee hangs up


if __name__ == "__main__":
    main()
