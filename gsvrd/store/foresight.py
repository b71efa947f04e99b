"""What `gsvrctl plan` must know of the past and of the queue. Reads only, from an open database.

Plain sqlite3, like `reading`; each method is one or a few index walks, or looks at what is remembered (some thousand rows).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gsvrd.clock import SystemClock
from gsvrd.policy.spending import Sums
from gsvrd.store.ledger import Ledger
from gsvrd.store.reading import Row
from gsvrd.store.schema import HELD

_CALLS = 200
"""So many calls tell how long an answer is."""

_PENDING = """
SELECT t.id, t.path, t.name, t.size, t.sha256, t.rank, t.due_at, t.options, t.url, t.batch, b.name AS batch_name, b.hold
FROM tasks t LEFT JOIN batches b ON b.id = t.batch WHERE t.state = 'pending' ORDER BY t.rank, t.id
"""
_OUTPUT = """
SELECT avg(tokens) FROM (
    SELECT tokens_out + tokens_thoughts AS tokens FROM ledger
    WHERE state = 'settled' AND outcome = 'ok' AND lane = 'generate' AND model = ? ORDER BY permit DESC LIMIT ?)
"""
_REPORT = """
SELECT t.report FROM analyses a LEFT JOIN tasks t ON t.id = a.task AND t.state = 'completed' WHERE a.key = ?
"""
_SIZES = "SELECT DISTINCT t.size FROM analyses a JOIN tasks t ON t.id = a.task"


@dataclass(frozen=True, slots=True)
class Foresight:
    """Reads from an open database."""

    conn: sqlite3.Connection

    def pending(self) -> list[Row]:
        """What waits, in the order of claims; what is held comes with the reason."""
        cursor = self.conn.execute(_PENDING)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def is_held(self, task: Row) -> bool:
        """Whether a task of `pending` waits for its batch."""
        return task["due_at"] is not None and task["due_at"] >= HELD

    def mean_output(self, model: str) -> float | None:
        """Tokens of an answer of the model, its thinking included; None before the first."""
        mean = self.conn.execute(_OUTPUT, (model, _CALLS)).fetchone()[0]
        return None if mean is None else float(mean)

    def sizes_known(self) -> set[int]:
        """Sizes in bytes of the contents that something is remembered of: another size is another content."""
        return {row[0] for row in self.conn.execute(_SIZES)}

    def analysis(self, key: str) -> tuple[bool, str]:
        """Whether what `key` stands for is known, and the name of the report that was made of it, if it still has one."""
        row = self.conn.execute(_REPORT, (key,)).fetchone()
        return row is not None, (row[0] or "") if row else ""

    def sums(self, batch: int | None) -> Sums:
        """What is spent."""
        return self._ledger.sums(batch)

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self.conn, SystemClock(), lambda *_: None)
