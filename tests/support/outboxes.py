"""An outbox as the loop has it: noted statements, one transaction, and a crash that loses what is not committed."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from gsvrd.clock import Clock
from gsvrd.store.opening import open_database
from gsvrd.store.outbox import OUTBOX, Outbox


def open_outbox(path: Path) -> sqlite3.Connection:
    """A real database with an outbox in it."""
    conn: sqlite3.Connection = open_database(path, create=True)
    if not conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'outbox'").fetchone():
        for statement in OUTBOX:
            conn.execute(statement)
    return conn


@dataclass
class Desk:
    """An outbox and its journal."""

    conn: sqlite3.Connection
    clock: Clock
    journal: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.journal.clear()
        self.outbox = Outbox(self.conn, self.clock, lambda sql, values: self.journal.append((sql, values)), "0badcafe")

    def commit(self) -> None:
        self.conn.execute("BEGIN IMMEDIATE")
        for sql, values in self.journal:
            self.conn.execute(sql, values)
        self.conn.execute("COMMIT")
        self.journal.clear()

    def states(self) -> dict[str, tuple[str, int]]:
        """State and tries, by id."""
        return {row[0]: (row[1], row[2]) for row in self.conn.execute("SELECT id, state, tries FROM outbox")}
