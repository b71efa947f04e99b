"""What the database says for metrics: counts, ages, what attempts took, calls and money. Read-only, for `daemon.metrics`.

It opens a connection of its own for each look, so it may be used from any thread, one at a time, and no look holds the
write-ahead log back. Each statement walks a small index or a small table, however long the history is.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvrd.policy.limiter import WINDOW_S
from gsvrd.policy.tally import Tallies
from gsvrd.store.ledger import pacific_day
from gsvrd.store.reading import Reading
from gsvrd.store.schema import HELD

_ATTEMPTS = (0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 7200.0, 14400.0)
_PATIENCE_S = 2.0

_NEWEST = "SELECT ifnull(max(id), 0) FROM events"
_TRANSITIONS = "SELECT change, count(*) FROM events WHERE id > ? AND id <= ? GROUP BY change"
# CROSS: from the few new events to their attempts, never the other way round.
_ENDED = """
SELECT a.outcome, a.ended_at - a.started_at FROM events e CROSS JOIN attempts a ON a.task = e.task AND a.number = e.attempt
WHERE e.id > ? AND e.id <= ? AND e.change IN ('complete', 'fail', 'retry', 'release', 'cancel') AND a.ended_at = e.at
"""
_IN_LINE = "SELECT count(*) FROM tasks WHERE state = 'pending' AND due_at IS NULL"
_WAITING = "SELECT count(*) FROM tasks WHERE state = 'pending' AND due_at IS NOT NULL AND due_at <> ?"
_HELD = "SELECT count(*) FROM tasks WHERE state = 'pending' AND due_at = ?"
_NEXT = "SELECT created_at FROM tasks WHERE state = 'pending' AND due_at IS NULL ORDER BY rank, id LIMIT 1"
_HELD_BATCHES = "SELECT count(*) FROM batches WHERE hold <> ''"
_SPENT = """
SELECT model, sum(requests), sum(tokens), sum(cost_micro), sum(iif(day = ?1, cost_micro, 0)),
    sum(iif(day = ?1 AND project = ?2, requests, 0))
FROM ledger_days GROUP BY model
"""
_RESERVED = "SELECT ifnull(sum(reserved_micro), 0) FROM ledger WHERE state IN ('reserved', 'sent')"
_MINUTE = """
SELECT model, count(*), sum(iif(state = 'settled' AND tokens_in, tokens_in, tokens_reserved)) FROM ledger
WHERE sent_at > ? AND state <> 'void' AND lane = 'generate' AND project = ? GROUP BY model
"""
_REFUSED = "SELECT DISTINCT model FROM ledger WHERE pacific_day = ? AND outcome = 'quota_day' AND project = ?"


@dataclass(slots=True)
class ModelUse:
    """What one model was asked. Money in micro-dollars; `_minute` is the last one, `_today` the service's day."""

    requests: int = 0
    tokens: int = 0
    cost: int = 0
    requests_minute: int = 0
    tokens_minute: int = 0
    requests_today: int = 0
    is_used_up: bool = False
    """The service said so of its day."""


@dataclass(frozen=True, slots=True)
class Measures:
    """One look."""

    tasks: Mapping[str, int]
    """By state."""
    in_line: int
    waiting: int
    """For a time."""
    held: int
    """Of batches that are held."""
    head_age_s: float
    """How long the first in line has waited; 0 when nobody does."""
    held_batches: int
    webhooks: Mapping[str, Any]
    models: Mapping[str, ModelUse]
    cost_today: int
    reserved: int
    service: Mapping[str, Any]
    """What the daemon stored about itself, by name."""


_FACTS = ("run", "intake", "workers_now", "snapshots", "daemon")


@dataclass(slots=True)
class Measuring:
    """Looks at the database at `path`; counts of what happened are those since it was made."""

    path: Path
    transitions: Counter[str] = field(default_factory=Counter)
    """By name."""
    attempts: Tallies = field(default_factory=lambda: Tallies(_ATTEMPTS))
    """How long attempts took, by outcome."""
    _seen: int = 0
    """The newest event that is counted."""

    def begin(self) -> None:
        """Count from now on."""
        with self._open() as conn:
            self._seen = conn.execute(_NEWEST).fetchone()[0]

    def look(self, wall: float, project: str) -> Measures:
        """At a wall time; of calls, what counts against this project's limits. Raises `sqlite3.Error`."""
        with self._open() as conn:
            self._count(conn)
            return _measure(conn, wall, project)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S, isolation_level=None)) as conn:
            yield conn

    def _count(self, conn: sqlite3.Connection) -> None:
        newest = conn.execute(_NEWEST).fetchone()[0]
        changes = conn.execute(_TRANSITIONS, (self._seen, newest)).fetchall()
        ended = conn.execute(_ENDED, (self._seen, newest)).fetchall()
        self._seen = newest  # only what was read as a whole is counted, and once
        self.transitions.update(dict(changes))
        for outcome, seconds in ended:
            self.attempts.note(outcome or "unknown", max(0.0, seconds))


def _measure(conn: sqlite3.Connection, wall: float, project: str) -> Measures:
    reading, head = Reading(conn), conn.execute(_NEXT).fetchone()
    models, cost_today = _models(conn, wall, project)
    return Measures(
        tasks=reading.counts(),
        in_line=_one(conn, _IN_LINE),
        waiting=_one(conn, _WAITING, HELD),
        held=_one(conn, _HELD, HELD),
        head_age_s=max(0.0, wall - head[0]) if head else 0.0,
        held_batches=_one(conn, _HELD_BATCHES),
        webhooks=reading.webhooks(),
        models=models,
        cost_today=cost_today,
        reserved=_one(conn, _RESERVED),
        service={name: reading.service(name) for name in _FACTS},
    )


def _models(conn: sqlite3.Connection, wall: float, project: str) -> tuple[dict[str, ModelUse], int]:
    """Uploads have an empty model."""
    day, models, cost_today = pacific_day(wall).name, dict[str, ModelUse](), 0
    for model, requests, tokens, cost, today, requests_today in conn.execute(_SPENT, (day, project)):
        cost_today += today
        if model:
            models[model] = ModelUse(requests, tokens, cost, requests_today=requests_today)
    for model, requests, tokens in conn.execute(_MINUTE, (wall - WINDOW_S, project)):
        use = models.setdefault(model, ModelUse())
        use.requests_minute, use.tokens_minute = requests, tokens or 0
    for (model,) in conn.execute(_REFUSED, (day, project)):
        models.setdefault(model, ModelUse()).is_used_up = True
    return models, cost_today


def _one(conn: sqlite3.Connection, sql: str, *values: object) -> int:
    found: int = conn.execute(sql, values).fetchone()[0]
    return found
