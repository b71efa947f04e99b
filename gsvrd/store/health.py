"""How the state database is, for `gsvrctl doctor`: read-only, with the daemon up or down. Leaves no file behind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvrd.store.reading import Reading

_TROUBLES_MOST = 3


@dataclass(frozen=True, slots=True)
class Health:
    """One look. Times are UTC epoch seconds."""

    version: int
    """Of the tables."""
    damage: str
    """In words; empty when there is none."""
    last_sign_at: float | None
    daemon: dict[str, Any]
    doors: dict[str, Any]
    restored: dict[str, Any] | None
    snapshots: dict[str, Any] | None


def examine(path: Path) -> Health:
    """Look at the database. Raises `sqlite3.Error` when it cannot be read at all."""
    try:
        return _examine(path)
    except sqlite3.DatabaseError:  # a daemon that started or ended in this very moment looks like damage
        return _examine(path)


def _examine(path: Path) -> Health:
    # A database that nobody has open is one file; opened plainly, it would get two more, which might stay.
    mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=10.0)) as conn:
        reading = Reading(conn)
        return Health(
            version=conn.execute("PRAGMA user_version").fetchone()[0],
            damage=_damage(conn),
            last_sign_at=reading.last_sign(),
            daemon=reading.service("daemon") or {},
            doors=reading.service("doors") or {},
            restored=reading.service("restored"),
            snapshots=reading.service("snapshots"),
        )


def _damage(conn: sqlite3.Connection) -> str:
    found = [row[0] for row in conn.execute(f"PRAGMA quick_check({_TROUBLES_MOST})")]
    return "" if found == ["ok"] else "; ".join(found)
