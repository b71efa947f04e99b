"""Which tasks somebody means, and what is on record of one: for `gsvrctl why`, `cancel` and `retry`. Reads only.

Plain sqlite3, like `reading`. Names may be shared by several tasks, so what is found is always a list, newest first; who
asks decides what that means.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvrd.model import Home, TaskState
from gsvrd.policy.links import parse_link
from gsvrd.store.reading import Reading, Row, open_for_reading

MOST = 20
"""At most so many tasks of one name are told."""

OUTSIDE = "outside"
"""The service row with the reasons why videos outside the inbox wait to be queued, by path; null when none does."""

_INT_MAX = (1 << 63) - 1
_LARGEST_ID = str(_INT_MAX)

# Without an index: a name is asked for by a person, and a million rows are looked through in a moment.
_NAMED = """
SELECT * FROM tasks WHERE name = ?1 OR path = ?2
    OR substr(name, -length(?3)) = ?3 OR substr(path, -length(?4)) = ?4
ORDER BY id DESC
"""
_BEFORE = """
SELECT count(*) FROM tasks WHERE state = 'pending' AND due_at IS NULL AND (rank < ?1 OR (rank = ?1 AND id < ?2))
"""
_AWAITED = """
SELECT e.path, e.batch, b.name AS batch_name, e.options FROM expected e LEFT JOIN batches b ON b.id = e.batch
WHERE e.path = ?1 OR e.path = ?2 OR substr(e.path, -length(?3)) = ?3 ORDER BY e.path = ?1 DESC, e.path LIMIT 1
"""
_LISTED = "SELECT id AS number, name FROM batches WHERE kind = 'manifest' AND name = ? ORDER BY id DESC LIMIT 1"
# A folder's size and time change with what is in it.
_OF_FILE = """
SELECT * FROM tasks WHERE home IN ('inbox', 'kept') AND ino = ?1
    AND ((size = ?2 AND mtime_ns = ?3) OR (?4 AND change = 'refuse'))
ORDER BY id DESC
"""
_COST = """
SELECT model, lane, count(*) AS calls, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out,
    sum(tokens_thoughts) AS tokens_thoughts, sum(cost_micro) AS cost_micro, sum(state = 'unknown') AS unknown,
    sum(iif(state IN ('reserved', 'sent'), reserved_micro, 0)) AS reserved_micro
FROM ledger WHERE task = ? AND state <> 'void' GROUP BY model, lane ORDER BY min(permit)
"""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something cannot be done."""

    code: str
    """One word for programs; `docs/status.md` lists them."""
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Tracing:
    """Reads from an open database."""

    conn: sqlite3.Connection

    def task(self, number: int) -> Row | None:
        """One task, whole."""
        return next(iter(self._rows("SELECT * FROM tasks WHERE id = ?", number)), None)

    def named(self, word: str) -> list[Row]:
        """The tasks `word` means: a number, a link, a name, a path, or a name's end from a `/` on. Newest first.

        Only when no name or path is `word` as a whole are those taken that end with it.
        """
        if word.isdecimal():
            # Text as SQLite compares it: a longer figure than a row can have is no task, and no error either.
            found = self.task(int(word)) if len(word) < len(_LARGEST_ID) else None
            return [found] if found else self._named(word)
        return self._linked(word) or self._named(word)

    def _linked(self, word: str) -> list[Row]:
        """By the address as somebody would copy it, its query and all."""
        try:
            url = parse_link(word).url if "://" in word else ""
        except ValueError:
            return []
        return self._rows("SELECT * FROM tasks WHERE url = ? ORDER BY id DESC", url) if url else []

    def _named(self, word: str) -> list[Row]:
        raw = os.fsencode(word)
        name = raw.decode("utf-8", "backslashreplace")
        path = os.path.abspath(raw)
        found = self._rows(_NAMED, name, path, f"/{name}", b"/" + raw)
        whole = [row for row in found if row["name"] == name or bytes(row["path"]) == path]
        return whole or found

    def of_file(self, found: os.stat_result) -> list[Row]:
        """The task of this very state of a thing that lies in the inbox, whatever its name is by now."""
        return self._rows(_OF_FILE, *_identity(found), stat.S_ISDIR(found.st_mode))

    def of_report(self, report: str) -> list[Row]:
        """The task that made `report` (relative to the reports directory)."""
        return self._rows("SELECT * FROM tasks WHERE report = ?", report)

    def failed(self) -> list[Row]:
        """All tasks that were given up, oldest first."""
        return self._rows("SELECT * FROM tasks WHERE state = 'failed' ORDER BY id")

    def before(self, task: Row) -> int:
        """How many stand in line before a task that waits for nothing but a worker."""
        return int(self.conn.execute(_BEFORE, (task["rank"], task["id"])).fetchone()[0])

    def hold(self, task: Row) -> str:
        """Why the task's batch is held; empty when it is not."""
        if task.get("batch") is None:  # also in a database that no daemon of this version has opened yet
            return ""
        row = self.conn.execute("SELECT hold FROM batches WHERE id = ?", (task["batch"],)).fetchone()
        return row[0] if row else ""

    def batch(self, task: Row) -> Row | None:
        """Number and name of the batch a task came with."""
        if task.get("batch") is None:
            return None
        return next(iter(self._rows("SELECT id AS number, name FROM batches WHERE id = ?", task["batch"])), None)

    def listed(self, name: str) -> Row | None:
        """Number and name of the newest batch that came as a list of this name."""
        return next(iter(self._rows(_LISTED, name)), None)

    def awaited(self, word: bytes, path: bytes | None) -> Row | None:
        """A video that a list names and that has not come: by its path, or the end of it from a `/` on."""
        if not self._has_expected():
            return None
        return next(iter(self._rows(_AWAITED, path or b"", os.path.abspath(word), b"/" + word)), None)

    def why_awaited(self, path: str) -> str:
        """Why a video outside the inbox (printable path) is not queued yet; empty when nothing is known of it."""
        reasons = Reading(self.conn).service(OUTSIDE) or {}
        return str(reasons.get(path, ""))

    def missing(self, batch: int) -> list[bytes]:
        """The videos of a list that have not come."""
        return [row["path"] for row in self._rows("SELECT path FROM expected WHERE batch = ? ORDER BY path", batch)]

    def _has_expected(self) -> bool:
        """Not so in a database that no daemon of this version has opened yet."""
        return bool(self._rows("SELECT 1 FROM sqlite_schema WHERE name = 'expected'"))

    def stages(self, task: int) -> list[Row]:
        """The finished stages that the next attempt need not do again."""
        return self._rows("SELECT stage, attempt, made_at FROM stages WHERE task = ? ORDER BY made_at", task)

    def cost(self, task: int) -> list[Row]:
        """What a task's calls used, by model and lane; money in micro-dollars. Calls that never left are left out."""
        return self._rows(_COST, task)

    def _rows(self, sql: str, *values: object) -> list[Row]:
        cursor = self.conn.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def open_for_tracing(path: Path) -> Tracing:
    """As `open_for_reading`, with its errors."""
    return Tracing(open_for_reading(path).conn)


def retry_problem(task: Row) -> Problem | None:
    """Why a task cannot be tried again; None when it can. Looks at its source file."""
    state = TaskState(task["state"])
    if state in _NOT_ENDED:
        return Problem(state.value, *_NOT_ENDED[state])
    if task["change"] == "refuse":
        error = json.loads(task["error"] or "{}")
        return Problem("refused", f"it was refused: {task['why']}", error.get("hint", ""))
    if task["home"] == Home.GONE:
        return Problem("gone", "its file was taken away or replaced", _DROP_AGAIN)
    if task["home"] == Home.LINK:
        return None
    return _source_problem(task)


def _source_problem(task: Row) -> Problem | None:
    path = bytes(task["path"])
    shown = os.fsdecode(path)
    try:
        found = os.lstat(path)
    except PermissionError:
        return Problem("unseen", f"{shown} may not be looked at", "Ask as the daemon's user.")
    except OSError:
        return Problem("gone", f"its file is not at {shown} any more", _DROP_AGAIN)
    if not stat.S_ISREG(found.st_mode) or _identity(found)[1:] != (task["size"], task["mtime_ns"]):
        return Problem("replaced", f"another file lies at {shown} now", "What lies in the inbox is queued by itself.")
    return None


def cancel_problem(task: Row) -> Problem | None:
    """Why a task cannot be cancelled; None when it can."""
    state = TaskState(task["state"])
    return Problem(state.value, *_ENDED[state]) if state in _ENDED else None


_DROP_AGAIN = "Drop it into the inbox again if it is still wanted."
_NOT_ENDED = {
    TaskState.PENDING: ("it waits in line already", "`gsvrctl why` says for what."),
    TaskState.RUNNING: ("it is running", "Cancel it first if it shall begin anew."),
    TaskState.COMPLETED: ("it is completed", "Drop the video again to have another report."),
}
_ENDED = {
    TaskState.COMPLETED: ("it is completed already", ""),
    TaskState.FAILED: ("it has failed already", ""),
    TaskState.CANCELLED: ("it is cancelled already", ""),
}


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    """As the intake writes it: in numbers that SQLite can keep."""
    ino = found.st_ino if found.st_ino <= _INT_MAX else found.st_ino - (1 << 64)
    return ino, found.st_size, max(-_INT_MAX, min(found.st_mtime_ns, _INT_MAX))


def brief(task: Row) -> dict[str, Any]:
    """What tells tasks of one name apart."""
    return {"task": task["id"], "name": task["name"], "state": task["state"], "changed_at": task["changed_at"]}
