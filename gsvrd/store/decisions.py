"""How many workers there were and why: each change a row, and the readings it was decided by. Written with the loop's turn.

`gsvrctl explain workers` and `gsvrd tune` read it, with the daemon up or down. Rows that are old are dropped by themselves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gsvrd.policy.replay import Reading

HAND = "workers_hand"
"""Under this name the service's facts hold the number an operator has named, or null."""
NOW = "workers_now"
"""And how things stand: the target, what binds it, the figures behind it."""

_DECISIONS_MOST, _READINGS_MOST, _PRUNE_EVERY = 1000, 5000, 100
"""At a reading every ten seconds while there is work: half a day of work."""

TABLES = (
    """
    CREATE TABLE decisions (
        id     INTEGER PRIMARY KEY,
        at     REAL    NOT NULL,
        before INTEGER NOT NULL,
        after  INTEGER NOT NULL,
        cap    TEXT    NOT NULL,
        note   TEXT    NOT NULL,
        inputs TEXT    NOT NULL
    ) STRICT
    """,
    "CREATE TABLE readings (id INTEGER PRIMARY KEY, reading TEXT NOT NULL) STRICT",
)

_DECIDE = "INSERT INTO decisions (at, before, after, cap, note, inputs) VALUES (?, ?, ?, ?, ?, ?)"
_READ = "INSERT INTO readings (reading) VALUES (?)"
_PRUNE_DECISIONS = f"DELETE FROM decisions WHERE id <= (SELECT max(id) FROM decisions) - {_DECISIONS_MOST}"  # noqa: S608
_PRUNE_READINGS = f"DELETE FROM readings WHERE id <= (SELECT max(id) FROM readings) - {_READINGS_MOST}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Change:
    """The number of workers was changed."""

    at: float
    before: int
    after: int
    cap: str
    note: str
    inputs: Mapping[str, Any]
    """`caps` and `figures`, by name."""


@dataclass(slots=True)
class Decisions:
    """The daemon's side. `note` adds a statement to the turn's transaction."""

    note: Callable[[str, tuple[object, ...]], None]
    _readings: int = 0
    _changes: int = 0

    def changed(self, change: Change) -> None:
        """Put a change on record."""
        inputs = msgspec.json.encode(change.inputs).decode()
        self.note(_DECIDE, (change.at, change.before, change.after, change.cap, change.note, inputs))
        if self._changes % _PRUNE_EVERY == 0:
            self.note(_PRUNE_DECISIONS, ())
        self._changes += 1

    def read(self, reading: Reading) -> None:
        """Put a reading on record."""
        self.note(_READ, (msgspec.json.encode(reading).decode(),))
        if self._readings % _PRUNE_EVERY == 0:
            self.note(_PRUNE_READINGS, ())
        self._readings += 1


def changes(conn: sqlite3.Connection, most: int) -> list[Change]:
    """The newest changes, the newest first."""
    rows = conn.execute("SELECT at, before, after, cap, note, inputs FROM decisions ORDER BY id DESC LIMIT ?", (most,))
    return [
        Change(at, before, after, cap, note, msgspec.json.decode(inputs))
        for at, before, after, cap, note, inputs in rows
    ]


def readings(conn: sqlite3.Connection) -> Iterator[Reading]:
    """All readings that are kept, the oldest first."""
    for (text,) in conn.execute("SELECT reading FROM readings ORDER BY id"):
        yield msgspec.json.decode(text, type=Reading)
