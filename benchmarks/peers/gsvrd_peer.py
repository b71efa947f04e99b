"""gsvrd itself: the real daemon with two workers that do nothing. Its inbox stays empty: tasks come from a client."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.peers.base import BULK, WORKERS, How, Safety, Stand, started
from gsvrd import logs
from gsvrd.clock import SystemClock
from gsvrd.config.load import load
from gsvrd.daemon import run as daemon
from gsvrd.daemon.beginning import DATABASE
from gsvrd.daemon.signals import ring
from gsvrd.model import NewTask
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue

TITLE = "gsvrd"
SAFETIES: tuple[Safety, ...] = ("kill", "power")


def missing() -> str:
    return ""


def prepare(stand: Stand) -> list[subprocess.Popen[bytes]]:
    _state(stand).mkdir()
    open_database(_state(stand) / DATABASE, create=True).close()
    return []


def produce(stand: Stand, how: How, count: int) -> None:
    db = _open(stand, _state(stand) / DATABASE, create=False)
    queue = TaskQueue(db, SystemClock(), actor="bench")
    doorbell = _state(stand) / daemon.DOORBELL
    group = 1 if how == "one" else BULK
    salt = os.getpid()
    started(stand)
    for first in range(0, count, group):
        for number in range(first, min(count, first + group)):
            queue.add(NewTask(b"/nowhere/%d.mp4" % number, f"{number}.mp4", 1, number, 1, mtime_ns=salt))
        queue.commit()
        ring(doorbell)


def consume(stand: Stand) -> None:
    _TalliedQueue.tally = stand.open_tally()
    logs.setup("info", "json", process="gsvrd")
    read = partial(load, stand.folder, None, {"GSVRD_WORKERS__MAX": str(WORKERS)})
    with patch.multiple(
        daemon, TaskQueue=_TalliedQueue, open_at_start=lambda path, *_: _open(stand, path, create=True)
    ):
        daemon.run(read(), read, work=daemon.WorkMaker("benchmarks.noop:make", ()))


class _TalliedQueue(TaskQueue):
    """Tells the referee how many tasks each commit completed."""

    tally = -1
    _completed = 0

    def complete(self, *values: Any, **more: Any) -> None:
        super().complete(*values, **more)
        self._completed += 1

    def commit(self) -> None:
        super().commit()
        if self._completed:
            os.write(self.tally, b"." * self._completed)
            self._completed = 0


def _state(stand: Stand) -> Path:
    return stand.folder / "state"


def _open(stand: Stand, path: Path, *, create: bool) -> sqlite3.Connection:
    db = open_database(path, create=create)
    if stand.safety == "kill":  # to be like the others in that class: the product always syncs
        db.execute("PRAGMA synchronous = NORMAL")
    return db
