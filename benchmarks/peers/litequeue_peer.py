"""litequeue: a queue in SQLite; it has no workers of its own, so two processes take from it and look every millisecond."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from typing import Any

from benchmarks.peers.base import BULK, WORKERS, How, Safety, Stand, is_missing, started

TITLE = "litequeue"
SAFETIES: tuple[Safety, ...] = ("kill", "power")


def missing() -> str:
    return "litequeue is not installed" if is_missing("litequeue") else ""


def prepare(stand: Stand) -> list[subprocess.Popen[bytes]]:
    _open(stand).close()
    return []


def produce(stand: Stand, how: How, count: int) -> None:
    queue = _open(stand)
    started(stand)
    if how == "one":
        for number in range(count):
            queue.put(str(number))
        return
    for first in range(0, count, BULK):
        with queue.transaction():
            for number in range(first, min(count, first + BULK)):
                queue.put(str(number))


def consume(stand: Stand) -> None:
    workers = [multiprocessing.Process(target=_work, args=(stand,)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _work(stand: Stand) -> None:
    queue, tally = _open(stand), stand.open_tally()
    while True:
        message = queue.pop()
        if message is None:
            time.sleep(0.001)
            continue
        queue.done(message.message_id)
        os.write(tally, b".")


def _open(stand: Stand) -> Any:
    from litequeue import LiteQueue

    queue = LiteQueue(str(stand.folder / "litequeue.db"), timeout=60)
    if stand.safety == "power":
        queue.conn.execute("PRAGMA synchronous = FULL")
    return queue
