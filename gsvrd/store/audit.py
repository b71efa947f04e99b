"""Everything a check of the books wants to know of a database at once. Read-only; called by `gsvrd selftest`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_ROWS = "SELECT name, state, home FROM tasks ORDER BY id"
_OPEN = """
SELECT t.name, a.number FROM attempts a JOIN tasks t ON t.id = a.task WHERE a.ended_at IS NULL OR a.outcome IS NULL
"""
_ENDS = """
SELECT t.name, count(*) FROM events e JOIN tasks t ON t.id = e.task WHERE e.change IN ('complete', 'fail')
GROUP BY e.task HAVING count(*) > 1
"""
_DIED = "SELECT t.name FROM attempts a JOIN tasks t ON t.id = a.task WHERE a.outcome = 'died'"
_KEPT = "SELECT t.name, s.stage FROM stages s JOIN tasks t ON t.id = s.task WHERE t.state NOT IN ('pending', 'running')"
_UNSETTLED = "SELECT count(*) FROM tasks WHERE state IN ('pending', 'running') OR home = 'inbox'"


@dataclass(frozen=True, slots=True)
class Audit:
    """What the database says about all its tasks; names are those of the sources, relative to the inbox."""

    integrity: str
    """"ok", or what SQLite finds damaged."""
    tasks: list[tuple[str, str, str]]
    """Name, state and home of each."""
    open_attempts: list[tuple[str, int]]
    """Name and number of attempts that never ended."""
    ended_again: list[tuple[str, int]]
    """Tasks that ended more than once, and how often."""
    deaths: list[str]
    """A name for each attempt that died."""
    stale_stages: list[tuple[str, str]]
    """Stage results of tasks that are over."""


def audit(path: Path) -> Audit:
    """Look through the database at `path`. Raises `sqlite3.Error`."""
    with closing(_connect(path)) as conn:
        return Audit(
            integrity="; ".join(row[0] for row in conn.execute("PRAGMA integrity_check")),
            tasks=conn.execute(_ROWS).fetchall(),
            open_attempts=conn.execute(_OPEN).fetchall(),
            ended_again=conn.execute(_ENDS).fetchall(),
            deaths=[row[0] for row in conn.execute(_DIED)],
            stale_stages=conn.execute(_KEPT).fetchall(),
        )


def settled(path: Path) -> int | None:
    """How many tasks there are, when all have ended and no source is left to be moved; else None.

    Raises `sqlite3.Error`.
    """
    with closing(_connect(path)) as conn:
        if conn.execute(_UNSETTLED).fetchone()[0]:
            return None
        return int(conn.execute("SELECT count(*) FROM tasks").fetchone()[0])


def _connect(path: Path) -> sqlite3.Connection:
    # Read-only, or the last to close it would tidy up what a crash has left, and the next daemon find it mended.
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10.0)
