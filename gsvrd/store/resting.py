"""Which batches are at rest: a step into an index; and which have ended lately: a walk. For `daemon.summing`.

Plain sqlite3; reads only. All here may raise `sqlite3.Error`.
"""

from __future__ import annotations

import sqlite3

_OPEN = "SELECT 1 FROM tasks WHERE batch = ? AND state IN ('pending', 'running') LIMIT 1"
_ENDED = """
SELECT DISTINCT batch FROM tasks WHERE state = 'completed' AND changed_at >= ?1 AND batch IS NOT NULL
UNION SELECT DISTINCT batch FROM tasks WHERE state = 'failed' AND changed_at >= ?1 AND batch IS NOT NULL
"""


def is_open(conn: sqlite3.Connection, batch: int) -> bool:
    """Whether a task of the batch waits or runs."""
    return conn.execute(_OPEN, (batch,)).fetchone() is not None


def ended_since(conn: sqlite3.Connection, wall: float) -> list[int]:
    """The batches of which a task was completed or failed at that wall time (UTC epoch seconds) or later."""
    return [row[0] for row in conn.execute(_ENDED, (wall,))]
