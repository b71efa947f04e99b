"""multiprocessing.Pool: the standard library's, which keeps everything in memory and loses the task of a killed worker."""

from __future__ import annotations

import multiprocessing
import os
import subprocess

from benchmarks.peers.base import WORKERS, How, Safety, Stand, started

TITLE = "multiprocessing.Pool (in memory)"
SAFETIES: tuple[Safety, ...] = ()


def missing() -> str:
    return ""


def prepare(stand: Stand) -> list[subprocess.Popen[bytes]]:
    return []


def produce(stand: Stand, how: How, count: int) -> None:
    tally = stand.open_tally()
    pool = multiprocessing.Pool(WORKERS)
    pool.map(_noop, range(WORKERS))
    started(stand)
    if how == "one":
        for number in range(count):
            pool.apply_async(_noop, (number,), callback=lambda _: os.write(tally, b"."))
        pool.close()
        pool.join()
    else:
        for _ in pool.imap_unordered(_noop, range(count)):
            os.write(tally, b".")


def consume(stand: Stand) -> None:
    raise NotImplementedError("producer and workers are one")


def _noop(number: int) -> None:
    pass
