"""Plain SQLite: two processes claim and complete for themselves, one transaction each, and look every millisecond."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import time

from benchmarks.peers.base import BULK, WORKERS, How, Safety, Stand, started

TITLE = "raw SQLite, two claiming workers"
SAFETIES: tuple[Safety, ...] = ("kill", "power")

_CLAIM = """
UPDATE jobs SET state = 1 WHERE id = (SELECT id FROM jobs WHERE state = 0 ORDER BY priority DESC, id LIMIT 1)
RETURNING id, payload
"""
_DONE = "UPDATE jobs SET state = 2 WHERE id = ?"
_PUT = "INSERT INTO jobs (payload) VALUES (?)"


def missing() -> str:
    return ""


def prepare(stand: Stand) -> list[subprocess.Popen[bytes]]:
    conn = _open(stand)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute(
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, payload TEXT, priority INTEGER DEFAULT 0, state INTEGER DEFAULT 0)"
    )
    conn.execute("CREATE INDEX ready ON jobs(priority DESC, id) WHERE state = 0")
    conn.close()
    return []


def produce(stand: Stand, how: How, count: int) -> None:
    conn = _open(stand)
    started(stand)
    if how == "one":
        for number in range(count):
            conn.execute(_PUT, (str(number),))
        return
    for first in range(0, count, BULK):
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(_PUT, [(str(number),) for number in range(first, min(count, first + BULK))])
        conn.execute("COMMIT")


def consume(stand: Stand) -> None:
    workers = [multiprocessing.Process(target=_work, args=(stand,)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _work(stand: Stand) -> None:
    conn, tally = _open(stand), stand.open_tally()
    while True:
        conn.execute("BEGIN IMMEDIATE")
        row = conn.execute(_CLAIM).fetchone()
        conn.execute("COMMIT")
        if row is None:
            time.sleep(0.001)
            continue
        conn.execute(_DONE, (row[0],))
        os.write(tally, b".")


def _open(stand: Stand) -> sqlite3.Connection:
    conn = sqlite3.connect(stand.folder / "raw.db", timeout=60, isolation_level=None)
    conn.execute(f"PRAGMA synchronous = {'FULL' if stand.safety == 'power' else 'NORMAL'}")
    return conn
