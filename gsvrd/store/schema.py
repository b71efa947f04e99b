"""What the rest of the store must know of the tables; they themselves are made in `migrations`."""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 5
STRANDED = (
    "(home = 'inbox' AND state IN ('completed', 'failed') OR home = 'failed' AND state = 'completed'"
    " OR home = 'link' AND state = 'failed' AND path = x'' OR owes_record)"
)
"""Tasks that have ended and whose source is not where it belongs, or no record: a crash came before that."""
HELD = 9e15
"""The `due_at` of a task whose batch is held, after every clock that is set; the triggers in `migrations` have it, too."""


def migrate(conn: sqlite3.Connection) -> None:
    """Bring the tables of an empty or older database up to date; each step is whole or not there."""
    # Most starts have nothing to migrate, and what does it takes a fifth of a second to import.
    from gsvrd.store.migrations import apply

    apply(conn)
    conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
