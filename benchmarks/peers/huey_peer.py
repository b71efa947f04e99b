"""huey with SqliteHuey and two worker processes, as its own consumer starts them."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from benchmarks.peers.base import WORKERS, How, Safety, Stand, is_missing, started

TITLE = "huey (SqliteHuey)"
SAFETIES: tuple[Safety, ...] = ("kill", "power")


def missing() -> str:
    return "huey is not installed" if is_missing("huey") else ""


def prepare(stand: Stand) -> list[subprocess.Popen[bytes]]:
    _make(stand)
    return []


def produce(stand: Stand, how: How, count: int) -> None:
    _, noop = _make(stand)
    started(stand)
    for number in range(count):  # it has no call for many
        noop(number)


def consume(stand: Stand) -> None:
    huey, _ = _make(stand)
    huey.create_consumer(workers=WORKERS, worker_type="process", periodic=False).run()


def _make(stand: Stand) -> tuple[Any, Any]:
    from huey import SqliteHuey

    # `fsync=False` is SQLite's OFF: safe against kills, not against power cuts.
    huey = SqliteHuey(filename=str(stand.folder / "huey.db"), fsync=stand.safety == "power", timeout=60)
    tallies: list[int] = []

    @huey.task()  # type: ignore[untyped-decorator]
    def noop(number: int) -> None:
        if not tallies:
            tallies.append(stand.open_tally())
        os.write(tallies[0], b".")

    return huey, noop
