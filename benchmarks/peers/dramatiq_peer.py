"""dramatiq with Redis, eight threads (its default, and faster than two processes); Redis writes its append-only file.

Used only where `redis-server` is installed. It is started for each race, on a socket in the race's folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.measure import await_that
from benchmarks.peers.base import How, Safety, Stand, is_missing, started

TITLE = "dramatiq + Redis (AOF), 8 threads"
SAFETIES: tuple[Safety, ...] = ("kill", "power")


def missing() -> str:
    if shutil.which("redis-server") is None:
        return "redis-server is not installed"
    return "dramatiq[redis] is not installed" if is_missing("dramatiq") or is_missing("redis") else ""


def prepare(stand: Stand) -> list[subprocess.Popen[bytes]]:
    fsync = "always" if stand.safety == "power" else "everysec"
    options = {"port": "0", "unixsocket": str(_socket(stand)), "dir": str(stand.folder), "save": ""}
    options |= {"appendonly": "yes", "appendfsync": fsync}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    service = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
    await_that(lambda: os.path.exists(_socket(stand)), 10)
    return [service]


def produce(stand: Stand, how: How, count: int) -> None:
    _, noop = _make(stand)
    started(stand)
    for number in range(count):  # it has no call for many
        noop.send(number)


def consume(stand: Stand) -> None:
    from dramatiq import Worker

    broker, _ = _make(stand)
    worker = Worker(broker, worker_threads=8, worker_timeout=100)
    worker.start()
    signal.pause()


def _make(stand: Stand) -> tuple[Any, Any]:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    make_broker: Any = RedisBroker  # untyped
    broker = make_broker(url=f"unix://{_socket(stand)}")
    tallies: list[int] = []

    def noop(number: int) -> None:
        if not tallies:
            tallies.append(stand.open_tally())
        os.write(tallies[0], b".")

    return broker, dramatiq.actor(broker=broker)(noop)


def _socket(stand: Stand) -> Path:
    return stand.folder / "redis.sock"
