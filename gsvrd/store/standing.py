"""How work stands: what waits, runs and has ended, in all and by batch. Read-only; for progress, `watch` and `status`.

The daemon reads it in a thread of its own, `gsvrctl` from outside. What is asked every second walks an index, but the line
itself: it is read once a look, in groups, because a forecast does not need every row of a long one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from gsvrd.model import OutcomeKind, TaskState
from gsvrd.policy.progress import REMEMBERED, SINGLY, Finished, Waiting
from gsvrd.store.ledger import QUOTA_DAY, pacific_day
from gsvrd.store.reading import Reading, Row
from gsvrd.store.schema import HELD

GROUPS_MOST = 300
"""Of more groups than this, those of sizes that are about twice each other become one."""
MANY = 2000
"""Of a batch with more tasks of a state, the newest are looked for among the newest of all."""
CALLS = 200
"""The newest calls, which tell how many of them a video takes and what they cost."""

# The rows of a change tell when its attempt ended, in the order in which that was learned.
_ENDED = """
SELECT e.id, t.size, a.started_at, a.ended_at, a.outcome, e.change IN ('retry', 'release'), t.batch
FROM events e JOIN attempts a ON a.task = e.task AND a.number = e.attempt JOIN tasks t ON t.id = e.task
WHERE e.id > ? AND e.change IN ('complete', 'fail', 'retry', 'release') AND a.ended_at IS NOT NULL
ORDER BY e.id DESC LIMIT ?
"""
_LAST = """
SELECT batch, size, rank, id FROM tasks WHERE state = 'pending' AND due_at IS NULL ORDER BY rank DESC, id DESC LIMIT ?
"""
_BODY = """
SELECT batch, size >> 25, sum(size), count(*) FROM tasks
WHERE state = 'pending' AND due_at IS NULL AND (rank, id) < (?, ?) GROUP BY 1, 2 ORDER BY min(rank)
"""
_LATER = """
SELECT batch, size >> 25, sum(size), count(*), max(due_at) FROM tasks
WHERE state = 'pending' AND due_at < ? GROUP BY 1, 2, CAST(due_at / 60 AS INTEGER) ORDER BY 5
"""
_HELD_BODY = "SELECT size >> 25, sum(size), count(*) FROM tasks WHERE batch = ? AND state = 'pending' GROUP BY 1"
_RUNNING = """
SELECT t.id AS task, t.name, t.batch, t.size, t.attempt, t.worker, a.started_at, a.stage, a.fraction
FROM tasks t JOIN attempts a ON a.task = t.id AND a.number = t.attempt
WHERE t.state = 'running' ORDER BY a.started_at, t.id
"""
_BATCH = "SELECT id, name, kind, created_at, hold, options FROM batches"
_HAS = "EXISTS (SELECT 1 FROM tasks WHERE batch = batches.id AND state = '{}')"
_OPEN = f"{_BATCH} WHERE {_HAS.format('pending')} OR {_HAS.format('running')} ORDER BY id"
_COUNTS = "SELECT state, count(*) FROM tasks WHERE batch = ? GROUP BY state"
_BEGUN = "SELECT EXISTS (SELECT 1 FROM tasks WHERE batch = ? AND attempt > 0)"
_TOUCHED = "SELECT DISTINCT t.batch FROM events e JOIN tasks t ON t.id = e.task WHERE e.id > ? AND t.batch IS NOT NULL"
_DONE = """
SELECT t.id AS task, t.name, t.changed_at AS at, t.report, t.reused, a.ended_at - a.started_at AS seconds
FROM tasks t LEFT JOIN attempts a ON a.task = t.id AND a.number = t.attempt WHERE t.state = 'completed'
"""
_FAILED = "SELECT t.id AS task, t.name, t.changed_at AS at, t.error FROM tasks t WHERE t.state = 'failed'"
_NEWEST = "ORDER BY t.changed_at DESC LIMIT ?"
_OF_BATCH = "AND t.batch = ?"
_AMONG_ALL = "AND +t.batch = ?"
"""The plus has SQLite walk the newest tasks of all batches, and not all of this one."""
_OF_DAY = """
SELECT coalesce(sum(iif(project = ?2 AND model = ?3, requests, 0)), 0), coalesce(sum(cost_micro), 0)
FROM ledger_days WHERE day = ?1
"""
_REFUSED = f"""
SELECT EXISTS (
    SELECT 1 FROM ledger WHERE pacific_day = ? AND project = ? AND model = ? AND outcome = '{QUOTA_DAY}'
)
"""  # noqa: S608 (a constant)
_CALLS = """
SELECT count(*), count(DISTINCT task), coalesce(sum(cost_micro), 0)
FROM (SELECT task, cost_micro FROM ledger WHERE lane = 'generate' AND state <> 'void' ORDER BY permit DESC LIMIT ?)
"""


class BatchState(StrEnum):
    """Where a batch stands, by its tasks."""

    INITIALIZING = "INITIALIZING"
    """Nothing of it has begun."""
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    """It, or the daemon; what runs of it may finish."""
    COMPLETED = "COMPLETED"
    """Nothing of it is left to do, whatever became of its videos."""
    CANCELLED = "CANCELLED"
    """The same, and all of it was cancelled."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch and how many of its tasks are in each state."""

    id: int
    name: str
    kind: str
    created_at: float
    hold: str
    """Why none of its tasks starts; empty when they may."""
    options: dict[str, Any]
    counts: dict[str, int]
    begun: bool

    @property
    def left(self) -> int:
        """Tasks that have not ended."""
        return self.counts[TaskState.PENDING] + self.counts[TaskState.RUNNING]

    def state(self, *, paused: bool) -> BatchState:
        """With the daemon paused or not."""
        if not sum(self.counts.values()):
            return BatchState.INITIALIZING
        if not self.left:
            is_void = self.counts[TaskState.CANCELLED] and self.counts[TaskState.CANCELLED] == sum(self.counts.values())
            return BatchState.CANCELLED if is_void else BatchState.COMPLETED
        if self.hold or paused:
            return BatchState.PAUSED
        return BatchState.RUNNING if self.begun else BatchState.INITIALIZING


@dataclass(frozen=True, slots=True)
class Used:
    """What the service was asked for today and what a video takes of it; money in micro-dollars."""

    requests: int
    refused: bool
    """The service has said that the day is used up."""
    spent_today: int
    spent: int
    ends_at: float
    """UTC epoch seconds at which the next day begins."""
    calls_each: float
    cost_each: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Reads from an open database."""

    conn: sqlite3.Connection

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """All that is read within belongs together."""
        self.conn.execute("BEGIN")
        try:
            yield
        finally:
            self.conn.rollback()

    def service(self, key: str) -> Any:
        """As `Reading.service`."""
        return Reading(self.conn).service(key)

    # -- what has ended ----------------------------------------------------------------------------------------------

    def newest_change(self) -> int:
        """The number of the newest change; 0 when there is none."""
        return int(self.conn.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])

    def ended(self, after: int, kind: str, kind_since: int) -> list[Finished]:
        """The newest attempts that ended, oldest first, as changes after number `after` say.

        Those since the change number `kind_since` are of `kind`; nobody knows of which the others were.
        """
        rows = self.conn.execute(_ENDED, (after, REMEMBERED)).fetchall()
        return [
            Finished(
                size,
                None,
                max(0.0, ended_at - started_at),
                ended_at,
                OutcomeKind(outcome or OutcomeKind.RELEASED),
                bool(again),
                kind if number > kind_since else "",
                batch,
            )
            for number, size, started_at, ended_at, outcome, again, batch in reversed(rows)
        ]

    def done(self, limit: int, batch: Batch | None = None) -> list[Row]:
        """The newest completed tasks, of one batch or of all; `seconds` is what the last attempt took."""
        return self._newest(_DONE, TaskState.COMPLETED, limit, batch)

    def failed(self, limit: int, batch: Batch | None = None) -> list[Row]:
        """The newest failures, likewise; `error` is decoded."""
        return self._newest(_FAILED, TaskState.FAILED, limit, batch)

    def _newest(self, sql: str, state: TaskState, limit: int, batch: Batch | None) -> list[Row]:
        if batch is None:
            return self._rows(f"{sql} {_NEWEST}", limit)
        of_batch = _AMONG_ALL if batch.counts[state] > MANY else _OF_BATCH
        return self._rows(f"{sql} {of_batch} {_NEWEST}", batch.id, limit)

    # -- what runs and waits -----------------------------------------------------------------------------------------

    def running(self) -> list[Row]:
        """The running tasks with their stage, oldest first."""
        return self._rows(_RUNNING)

    def waiting(self, kind: str) -> list[Waiting]:
        """What waits and is not held, in about the order of claims: in groups all but the last, then what is due later."""
        last = self.conn.execute(_LAST, (SINGLY,)).fetchall()
        body = self.conn.execute(_BODY, last[-1][2:]).fetchall() if len(last) == SINGLY else []
        later = self.conn.execute(_LATER, (HELD,)).fetchall()
        return [
            *(Waiting(size // count, count=count, kind=kind, batch=batch) for batch, size, count in _coarser(body)),
            *(Waiting(size, kind=kind, batch=batch) for batch, size, _, _ in reversed(last)),
            *(
                Waiting(size // count, due_at=due_at, count=count, kind=kind, batch=batch)
                for batch, _, size, count, due_at in later
            ),
        ]

    def held(self, batch: int, kind: str) -> list[Waiting]:
        """All that waits of a batch that is held."""
        rows = self.conn.execute(_HELD_BODY, (batch,)).fetchall()
        return [Waiting(size // count, count=count, kind=kind, batch=batch) for _, size, count in rows]

    # -- batches -----------------------------------------------------------------------------------------------------

    def open_batches(self) -> list[Batch]:
        """Batches of which something is left to do, oldest first."""
        return [self._batch(row) for row in self.conn.execute(_OPEN).fetchall()]

    def touched(self, after: int) -> set[int]:
        """Batches of which a task has changed since the change number `after`."""
        return {row[0] for row in self.conn.execute(_TOUCHED, (after,))}

    def batch(self, number: int) -> Batch | None:
        """One by its number."""
        row = self.conn.execute(f"{_BATCH} WHERE id = ?", (number,)).fetchone()
        return None if row is None else self._batch(row)

    def named(self, word: str) -> Batch | None:
        """One by its name, the newest if there are several; or by its number."""
        row = self.conn.execute(f"{_BATCH} WHERE name = ? ORDER BY id DESC LIMIT 1", (word,)).fetchone()
        if row is None:
            return self.batch(int(word)) if word.isdecimal() and len(word) < 19 else None
        return self._batch(row)

    def _batch(self, row: tuple[Any, ...]) -> Batch:
        number, name, kind, created_at, hold, said = row
        counts = dict.fromkeys((state.value for state in TaskState), 0)
        counts.update(self.conn.execute(_COUNTS, (number,)))
        begun = counts[TaskState.PENDING] < sum(counts.values()) or self.conn.execute(_BEGUN, (number,)).fetchone()[0]
        one = self.conn.execute("SELECT options FROM tasks WHERE batch = ? LIMIT 1", (number,)).fetchone()
        options = {
            name: value for text in (*(one or ()), said) for name, (value, _) in msgspec.json.decode(text).items()
        }
        return Batch(number, name, kind, created_at, hold, options, counts, bool(begun))

    # -- the service -------------------------------------------------------------------------------------------------

    def used(self, project: str, model: str, wall: float) -> Used:
        """Of the day at a wall time."""
        day = pacific_day(wall)
        requests, today = self.conn.execute(_OF_DAY, (day.name, project, model)).fetchone()
        (spent,) = self.conn.execute("SELECT coalesce(sum(cost_micro), 0) FROM ledger_days").fetchone()
        (refused,) = self.conn.execute(_REFUSED, (day.name, project, model)).fetchone()
        calls, tasks, cost = self.conn.execute(_CALLS, (CALLS,)).fetchone()
        each = max(1, tasks)
        return Used(requests, bool(refused), today, spent, day.ends_at, max(1.0, calls / each), cost / each)

    def _rows(self, sql: str, *values: object) -> list[Row]:
        cursor = self.conn.execute(sql, values)
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        for row in rows:
            if row.get("error"):
                row["error"] = msgspec.json.decode(row["error"])
        return rows


def _coarser(body: list[tuple[int | None, int, int, int]]) -> list[tuple[int | None, int, int]]:
    """Batch, bytes and count of each group, in their order; fewer groups where there are too many."""
    if len(body) <= GROUPS_MOST:
        return [(batch, size, count) for batch, _, size, count in body]
    sums: dict[tuple[int | None, int], tuple[int, int]] = {}
    for batch, bucket, size, count in body:
        sizes, counts = sums.get((batch, bucket.bit_length()), (0, 0))
        sums[batch, bucket.bit_length()] = (sizes + size, counts + count)
    return [(batch, size, count) for (batch, _), (size, count) in sums.items()]
