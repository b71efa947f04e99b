"""What people see of the state: counts, lists, one task. Read-only; used by `gsvrctl`, works with the daemon down.

Plain sqlite3: a command that looks once should not spend most of its time on loading a library.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gsvrd.errors import StateError
from gsvrd.model import TaskState

Row = dict[str, Any]

# Each count walks one partial index, so a long history costs nothing that matters.
_COUNT = {
    TaskState.PENDING: "SELECT (SELECT count(*) FROM tasks WHERE state = 'pending' AND due_at IS NULL)"
    " + (SELECT count(*) FROM tasks WHERE state = 'pending' AND due_at IS NOT NULL)",
    TaskState.RUNNING: "SELECT count(*) FROM tasks WHERE state = 'running'",
    TaskState.COMPLETED: "SELECT count(*) FROM tasks WHERE state = 'completed'",
    TaskState.FAILED: "SELECT count(*) FROM tasks WHERE state = 'failed'",
    TaskState.CANCELLED: "SELECT count(*) FROM tasks WHERE state = 'cancelled'",
}

_RUNNING = """
SELECT t.id AS task, t.name, t.attempt, t.worker, a.started_at, a.stage, a.fraction
FROM tasks t JOIN attempts a ON a.task = t.id AND a.number = t.attempt
WHERE t.state = 'running' ORDER BY a.started_at
"""
_ERRORS = """
SELECT id AS task, name, changed_at AS at, error FROM tasks WHERE state = 'failed' ORDER BY changed_at DESC LIMIT ?
"""
_LIST = """
SELECT id AS task, name, state, size, attempt, created_at, changed_at, due_at, report, why FROM tasks
"""

_BY_NAME = """
SELECT * FROM tasks WHERE name = ? OR substr(name, -length(?)) = ? ORDER BY id DESC LIMIT 1
"""


def open_for_reading(path: Path) -> Reading:
    """Open the database at `path`; raises `StateError` when there is none or it is damaged."""
    if not path.exists():
        raise StateError(f"there is no database at {path} yet", "Start the daemon once, or name its home with --home.")
    conn = sqlite3.connect(path, timeout=10.0)
    try:
        conn.execute("SELECT 1 FROM tasks LIMIT 1").fetchone()
    except sqlite3.DatabaseError as error:
        raise StateError(f"the database {path} cannot be read: {error}", "See the daemon's log.") from error
    return Reading(conn)


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads from an open database; every method is one or a few index walks."""

    conn: sqlite3.Connection

    def counts(self) -> dict[str, int]:
        """Tasks by state."""
        return {state.value: self.conn.execute(sql).fetchone()[0] for state, sql in _COUNT.items()}

    def running(self) -> list[Row]:
        """The running tasks with their stage, oldest first."""
        return self._rows(_RUNNING)

    def last_errors(self, limit: int) -> list[Row]:
        """The newest failures, `error` decoded."""
        return self._rows(_ERRORS, limit)

    def tasks(self, state: str | None, limit: int) -> list[Row]:
        """The newest tasks, of one state or of all."""
        where, values = (" WHERE state = ?", [state]) if state else ("", [])
        return self._rows(f"{_LIST}{where} ORDER BY id DESC LIMIT ?", *values, limit)

    def find(self, word: str) -> Row | None:
        """A task by its number, by its name in the inbox, or by the end of its name."""
        if word.isdecimal():
            found = self._rows("SELECT * FROM tasks WHERE id = ?", int(word))
        else:
            found = self._rows(_BY_NAME, word, f"/{word}", f"/{word}")
        return found[0] if found else None

    def attempts(self, task: int) -> list[Row]:
        """Every attempt at a task, first to last."""
        return self._rows("SELECT * FROM attempts WHERE task = ? ORDER BY number", task)

    def events(self, task: int) -> list[Row]:
        """Every transition of a task, first to last."""
        return self._rows("SELECT * FROM events WHERE task = ? ORDER BY id", task)

    def held(self) -> list[Row]:
        """Batches of which no task starts, and why; the newest."""
        return self._rows(
            "SELECT id AS batch, name, hold AS reason FROM batches WHERE hold <> '' ORDER BY id DESC LIMIT 10"
        )

    def webhooks(self) -> Row:
        """How many messages wait or were given up; nothing in a database that is older than webhooks."""
        if not self._rows("SELECT 1 FROM sqlite_schema WHERE name = 'outbox'"):
            return {"pending": 0, "oldest_at": None, "dead": 0, "last_dead": None}
        from gsvrd.store.outbox import summary

        return summary(self.conn)

    def last_sign(self) -> float | None:
        """When a daemon wrote something last, UTC epoch seconds: a fact about itself, or a change of a task."""
        # What gsvrctl writes says nothing about the daemon; of the newest changes it made some, never all.
        facts = self.conn.execute("SELECT max(changed_at) FROM service WHERE key <> 'pause'").fetchone()[0]
        changes = self.conn.execute(
            "SELECT max(at) FROM (SELECT at, actor FROM events ORDER BY id DESC LIMIT 100) WHERE actor <> 'gsvrctl'"
        ).fetchone()[0]
        return max((at for at in (facts, changes) if at is not None), default=None)

    def service(self, key: str) -> Any:
        """A fact the daemon stored about itself; None when it has not."""
        row = self.conn.execute("SELECT value FROM service WHERE key = ?", [key]).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    def _rows(self, sql: str, *values: object) -> list[Row]:
        cursor = self.conn.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [_decoded(dict(zip(names, row, strict=True))) for row in cursor]


def _decoded(row: Row) -> Row:
    if row.get("error"):
        row["error"] = msgspec.json.decode(row["error"])
    return row
