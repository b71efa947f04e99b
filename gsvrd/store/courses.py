"""Batches as people see them: where each stands, derived from its tasks, and what is in it. Reads only.

For `gsvrctl`, with the daemon up or down; plain sqlite3, like `reading`. Counts come from one walk along an index, also
with a thousand batches; rows of tasks are looked at only for the batches that are shown. Nothing of it is stored: what
comes late re-opens a batch by itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvrd.errors import StateError
from gsvrd.model import TaskState
from gsvrd.store.reading import Row, open_for_reading
from gsvrd.store.schema import SCHEMA_VERSION
from gsvrd.store.standing import Batch, BatchState

_LARGEST_ID = (1 << 63) - 1

_BATCHES = "SELECT id, name, kind, created_at, hold FROM batches"
_BEGUN = "SELECT EXISTS (SELECT 1 FROM tasks WHERE batch = ? AND attempt > 0)"
_PAUSED = "SELECT json_extract(value, '$.paused') FROM service WHERE key = 'pause'"
_COUNTS = """
SELECT batch, state, count(*) FROM tasks INDEXED BY tasks_batch WHERE batch IS NOT NULL GROUP BY batch, state
"""
_SPENT = """
SELECT batch, sum(requests), sum(tokens), sum(cost_micro), sum(reserved_micro) FROM ledger_lines WHERE batch <> 0
GROUP BY batch
"""
_DETAILS = """
SELECT count(t.reused), min(a.started_at), max(iif(t.state IN ('completed', 'failed', 'cancelled'), t.changed_at, NULL))
FROM tasks t INDEXED BY tasks_batch LEFT JOIN attempts a ON a.task = t.id AND a.number = 1 WHERE t.batch = ?
"""
_TASKS = """
SELECT t.id AS task, t.name, t.state, t.size, t.attempt, t.spent, t.created_at, t.changed_at, t.due_at, t.report,
    t.reused, t.why, t.error, a.stage, a.fraction, a.started_at
FROM tasks t INDEXED BY tasks_batch LEFT JOIN attempts a ON t.state = 'running' AND a.task = t.id AND a.number = t.attempt
WHERE t.batch = ? ORDER BY t.id
"""
_COST = """
SELECT task, sum(tokens_in + tokens_out + tokens_thoughts), sum(cost_micro) FROM ledger
WHERE batch = ? AND state <> 'void' GROUP BY task
"""


@dataclass(frozen=True, slots=True)
class Course:
    """One batch. Times are UTC epoch seconds, money is in micro-dollars."""

    number: int
    name: str
    kind: str
    """`folder`, `manifest` or `loose`: where it came from."""
    created_at: float
    hold: str
    """Why none of its tasks starts; empty when they may."""
    state: BatchState
    counts: dict[str, int]
    """Tasks by state, each state."""
    reused: int
    """Videos among the completed ones that are served by a report of the same content."""
    requests: int
    tokens: int
    cost_micro: int
    reserved_micro: int
    """What calls under way may yet cost."""
    started_at: float | None
    """When the first of its videos was begun."""
    ended_at: float | None
    """When the last one ended; None while something waits or runs."""


@dataclass(frozen=True, slots=True)
class Courses:
    """Reads batches from an open database."""

    conn: sqlite3.Connection

    def newest(self, limit: int, state: BatchState | None = None) -> list[Course]:
        """The newest batches, of one state or of all."""
        looking, found = self._looking(), list[tuple[Any, ...]]()
        for row in self.conn.execute(f"{_BATCHES} ORDER BY id DESC").fetchall():
            if state is None or looking.state(row) is state:
                found.append(row)
            if len(found) == limit:
                break
        return [looking.course(row) for row in found]

    def one(self, number: int) -> Course | None:
        """The batch of this number."""
        return next(iter(self._chosen([number])), None)

    def meant(self, word: str) -> list[Course]:
        """The batches that `word` may mean, by number or by their whole name; newest first."""
        numbers = [
            row[0] for row in self.conn.execute("SELECT id FROM batches WHERE name = ? ORDER BY id DESC", (word,))
        ]
        if word.isdecimal() and int(word) <= _LARGEST_ID and int(word) not in numbers:
            numbers.append(int(word))
        return self._chosen(numbers)

    def names(self) -> list[str]:
        """Of all batches, the newest first."""
        return [row[0] for row in self.conn.execute("SELECT name FROM batches ORDER BY id DESC")]

    def tasks(self, number: int) -> list[Row]:
        """The tasks of a batch in the order of their arrival: `error` decoded, with what each has cost.

        `stage`, `fraction` and `started_at` are those of the attempt that runs, else None.
        """
        costs = {task: (tokens, cost) for task, tokens, cost in self.conn.execute(_COST, (number,))}
        rows = []
        for row in self._rows(_TASKS, number):
            tokens, cost = costs.get(row["task"], (0, 0))
            error = json.loads(row["error"]) if row["error"] else None
            rows.append({**row, "error": error, "tokens": tokens, "cost_micro": cost})
        return rows

    def live(self, number: int) -> list[int]:
        """The tasks of a batch that wait or run, those that run last: cancelled in this order none can move up."""
        sql = "SELECT id FROM tasks WHERE batch = ? AND state = ? ORDER BY id"
        return [row[0] for state in ("pending", "running") for row in self.conn.execute(sql, (number, state))]

    def _chosen(self, numbers: Iterable[int]) -> list[Course]:
        wanted, looking = list(numbers), self._looking()
        rows = self.conn.execute(
            f"{_BATCHES} WHERE id IN ({', '.join('?' * len(wanted))}) ORDER BY id DESC",
            wanted,
        ).fetchall()
        return [looking.course(row) for row in rows]

    def _looking(self) -> _Looking:
        counts: dict[int, dict[str, int]] = {}
        for batch, state, count in self.conn.execute(_COUNTS):
            counts.setdefault(batch, {})[state] = count
        spent = {row[0]: row[1:] for row in self.conn.execute(_SPENT)}
        (is_paused,) = self.conn.execute(_PAUSED).fetchone() or (0,)
        return _Looking(self.conn, counts, spent, bool(is_paused))

    def _rows(self, sql: str, *values: object) -> list[Row]:
        cursor = self.conn.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def open_for_courses(path: Path) -> Courses:
    """As `open_for_reading`, with its errors; `StateError`, too, for a database of an older version."""
    conn = open_for_reading(path).conn
    version = conn.execute("PRAGMA user_version").fetchone()[0]
    if version < SCHEMA_VERSION:
        hint = "Start this gsvrd once; it brings it up to date."
        raise StateError(f"the database {path} is of the older version {version}", hint)
    return Courses(conn)


@dataclass(frozen=True, slots=True)
class _Looking:
    """What was read once for all batches. Rows are those of `_BATCHES`."""

    conn: sqlite3.Connection
    _counts: dict[int, dict[str, int]]
    _spent: dict[int, tuple[int, ...]]
    _is_paused: bool

    def counts(self, number: int) -> dict[str, int]:
        """Of each state."""
        return {state.value: self._counts.get(number, {}).get(state, 0) for state in TaskState}

    def state(self, row: tuple[Any, ...]) -> BatchState:
        """Of a batch."""
        number, name, kind, created_at, hold = row
        counts = self.counts(number)
        begun = counts[TaskState.PENDING] < sum(counts.values()) or self.conn.execute(_BEGUN, (number,)).fetchone()[0]
        return Batch(number, name, kind, created_at, hold, {}, counts, bool(begun)).state(paused=self._is_paused)

    def course(self, row: tuple[Any, ...]) -> Course:
        """Everything about a batch."""
        number, name, kind, created_at, hold = row
        counts = self.counts(number)
        requests, tokens, cost_micro, reserved_micro = self._spent.get(number, (0, 0, 0, 0))
        reused, started_at, ended_at = self.conn.execute(_DETAILS, (number,)).fetchone()
        is_live = counts[TaskState.PENDING] or counts[TaskState.RUNNING]
        return Course(
            number,
            name,
            kind,
            created_at,
            hold,
            self.state(row),
            counts,
            reused,
            requests,
            tokens,
            cost_micro,
            reserved_micro,
            started_at,
            None if is_live else ended_at,
        )
