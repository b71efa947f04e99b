"""Outbox: what is to be told to webhooks, written in the same transaction as the events it tells of.

The daemon's loop owns the one instance. Like `Ledger` it only notes statements, through the `note` it is given; `due` reads
what is committed, so the loop asks it right after a commit. Nothing is sent here: see `daemon.courier`.

A message is `pending` until it is `delivered` or `dead`. Messages of one batch to one URL are a lane: only the first
pending one of a lane is ever due, so they arrive in the order they were put, and no lane waits for another. Delivery is
at least once; the id of a message tells a receiver that it has it already.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gsvrd.clock import Clock

Note = Callable[[str, tuple[object, ...]], None]

OUTBOX = (
    # `age_from` is when its time began to count: an operator who tries a dead one again gives it a new life.
    """
    CREATE TABLE outbox (
        seq         INTEGER PRIMARY KEY,
        id          TEXT    NOT NULL UNIQUE,
        batch       INTEGER NOT NULL,
        task        INTEGER,
        event       TEXT    NOT NULL,
        at          REAL    NOT NULL,
        url         TEXT    NOT NULL,
        body        TEXT    NOT NULL,
        state       TEXT    NOT NULL DEFAULT 'pending',
        tries       INTEGER NOT NULL DEFAULT 0,
        age_from    REAL    NOT NULL,
        due_at      REAL    NOT NULL,
        ended_at    REAL,
        last_error  TEXT    NOT NULL DEFAULT '',
        lane        TEXT    NOT NULL GENERATED ALWAYS AS (batch || ' ' || url) VIRTUAL
    ) STRICT
    """,
    "CREATE INDEX outbox_pending ON outbox(lane, seq) WHERE state = 'pending'",
    "CREATE INDEX outbox_ended ON outbox(state, ended_at) WHERE state <> 'pending'",
)
"""The statements of the migration."""

KEPT_S = 30 * 86_400.0
"""How long ended messages are kept, delivered ones without their body."""
_PRUNE_EVERY_S = 3600.0
_ERROR_CHARACTERS = 500

# A transition that somebody else was faster than is no event: it is checked here, after it, in the same transaction.
_PUT = """
INSERT OR IGNORE INTO outbox (id, batch, task, event, at, url, body, age_from, due_at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?5, ?5
WHERE ?8 IS NULL OR EXISTS (SELECT 1 FROM tasks WHERE id = ?3 AND state = ?8 AND attempt = ?9)
"""
_DELIVERED = """
UPDATE outbox SET state = 'delivered', tries = tries + 1, ended_at = ?, body = '', last_error = ''
WHERE id = ? AND state = 'pending'
"""
_FAILED = "UPDATE outbox SET tries = tries + 1, due_at = ?, last_error = ? WHERE id = ? AND state = 'pending'"
_DEAD = """
UPDATE outbox SET state = 'dead', tries = tries + 1, ended_at = ?, last_error = ? WHERE id = ? AND state = 'pending'
"""
_PRUNE = "DELETE FROM outbox WHERE state IN ('delivered', 'dead') AND ended_at < ?"
_ADVANCE = "UPDATE outbox SET due_at = due_at - ?, age_from = age_from - ? WHERE state = 'pending'"
_REVIVE = """
UPDATE outbox SET state = 'pending', tries = 0, age_from = ?1, due_at = ?1, ended_at = NULL WHERE state = 'dead'
"""
# Skips from lane to lane along the index: a long lane costs no more than a short one.
_HEADS = """
WITH RECURSIVE lanes(lane) AS (
    SELECT min(lane) FROM outbox WHERE state = 'pending'
    UNION ALL
    SELECT (SELECT min(lane) FROM outbox WHERE state = 'pending' AND lane > lanes.lane) FROM lanes WHERE lane IS NOT NULL
)
SELECT o.lane, o.seq, o.due_at FROM lanes JOIN outbox o
ON o.seq = (SELECT min(seq) FROM outbox WHERE state = 'pending' AND lane = lanes.lane)
ORDER BY o.due_at, o.seq
"""
_MESSAGE = "SELECT id, lane, batch, task, event, url, body, tries, age_from FROM outbox WHERE seq = ?"


@dataclass(frozen=True, slots=True)
class Message:
    """One that is due."""

    id: str
    lane: str
    """Those of one lane go one after another."""
    batch: int
    task: int | None
    event: str
    url: str
    body: str
    """JSON."""
    tries: int
    """Before this one."""
    age_from: float
    """Wall time."""


@dataclass(frozen=True, slots=True)
class _Head:
    lane: str
    seq: int
    due_at: float


class Outbox:
    """The messages, owned by one thread of one process. `due` may raise `sqlite3.Error`."""

    def __init__(self, conn: sqlite3.Connection, clock: Clock, note: Note, installation: str = "") -> None:
        """`installation` goes into the ids: two daemons may tell one receiver."""
        self._conn = conn
        self._clock = clock
        self._note = note
        self._installation = installation
        self._heads: tuple[_Head, ...] = ()
        self._stale = True
        self._pruned_at = 0.0

    # -- writing -----------------------------------------------------------------------------------------------------

    def put(
        self,
        event: str,
        data: Mapping[str, object],
        url: str,
        *,
        batch: int = 0,
        task: int | None = None,
        only_if: tuple[str, int] | None = None,
    ) -> str:
        """An event is to be told; returns the id. The same event put again is the same message, and told once.

        So `data` must tell it from every other event: by an attempt's number, or the time at which a batch ended. With
        `only_if`, a state and an attempt, nothing is told unless the transition noted before has led the task there.
        """
        now = self._clock.wall()
        what = (self._installation, url, batch, task, event, data)
        message_id = f"evt_{hashlib.sha256(msgspec.json.encode(what, order='sorted')).hexdigest()[:32]}"
        moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        body = msgspec.json.encode({"type": event, "timestamp": moment.replace("+00:00", "Z"), "data": data}).decode()
        self._write(_PUT, message_id, batch, task, event, now, url, body, *(only_if or (None, None)))
        return message_id

    def delivered(self, message_id: str) -> None:
        """Its receiver has it."""
        now = self._clock.wall()
        self._write(_DELIVERED, now, message_id)
        if now - self._pruned_at >= _PRUNE_EVERY_S:
            self._pruned_at = now
            self._write(_PRUNE, now - KEPT_S)

    def failed(self, message_id: str, error: str, due_at: float) -> None:
        """A try came to nothing; the next one is at `due_at` (wall time)."""
        self._write(_FAILED, due_at, error[:_ERROR_CHARACTERS], message_id)

    def dead(self, message_id: str, error: str) -> None:
        """It is given up: it stays for an operator to see, and its lane goes on."""
        self._write(_DEAD, self._clock.wall(), error[:_ERROR_CHARACTERS], message_id)

    def clock_went_back(self, by_s: float) -> None:
        """The wall clock was set back: nothing must wait, or live, for so much longer."""
        self._write(_ADVANCE, by_s, by_s)

    def _write(self, statement: str, *values: object) -> None:
        self._note(statement, values)
        self._stale = True

    # -- reading -----------------------------------------------------------------------------------------------------

    def look_again(self) -> None:
        """Another process has written: `due` reads anew."""
        self._stale = True

    def due(self, now: float, limit: int, busy: Iterable[str] = ()) -> list[Message]:
        """At most `limit` messages whose time has come, one a lane, the longest due first; none of the lanes in `busy`.

        To be asked right after a commit, when nothing is noted that is not written.
        """
        if self._stale:
            self._heads = tuple(_Head(*row) for row in self._conn.execute(_HEADS))
            self._stale = False
        others = frozenset(busy)
        seqs = [head.seq for head in self._heads if head.due_at <= now and head.lane not in others]
        return [Message(*self._conn.execute(_MESSAGE, (seq,)).fetchone()) for seq in seqs[:limit]]

    def next_due(self, busy: Iterable[str] = ()) -> float | None:
        """Wall time at which the next message of the other lanes is due, as `due` saw it; None when none waits."""
        others = frozenset(busy)
        return next((head.due_at for head in self._heads if head.lane not in others), None)


# -- for people ----------------------------------------------------------------------------------------------------------


def summary(conn: sqlite3.Connection) -> dict[str, Any]:
    """What `gsvrctl status` says: how many wait and since when, how many are dead, and why the last of them is."""
    pending, oldest = conn.execute(
        "SELECT count(*), min(at) FROM outbox INDEXED BY outbox_pending WHERE state = 'pending'"
    ).fetchone()
    dead = conn.execute("SELECT count(*) FROM outbox WHERE state = 'dead'").fetchone()[0]
    last = letters(conn, "dead", 1)
    return {"pending": pending, "oldest_at": oldest, "dead": dead, "last_dead": last[0] if last else None}


def letters(conn: sqlite3.Connection, state: str, limit: int) -> list[dict[str, Any]]:
    """The newest messages of a state, without body; of the URL only scheme and host, since the rest may be a secret."""
    cursor = conn.execute(
        "SELECT id, batch, task, event, at, url, state, tries, due_at, ended_at, last_error FROM outbox"
        " WHERE state = ? ORDER BY coalesce(ended_at, seq) DESC, seq DESC LIMIT ?",
        (state, limit),
    )
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return [{**row, "url": _shown(row["url"])} for row in rows]


def revive(conn: sqlite3.Connection, wall: float, message_id: str | None = None) -> int:
    """Try dead messages again, or the one; returns how many there were. One statement; its caller commits and rings."""
    only, values = (" AND id = ?2", (wall, message_id)) if message_id else ("", (wall,))
    return conn.execute(_REVIVE + only, values).rowcount


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}"
    except ValueError:
        return ""
