"""What is on record of one batch, for its summary.

Called by `daemon.summaries` in a thread, on a connection of its own. Plain sqlite3; reads only.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from gsvrd.model import OutcomeKind, TaskState, report_owner, said
from gsvrd.policy.links import parse_link
from gsvrd.policy.results import Attempt, BatchFacts, Lesson, TaskFacts, Term, Trouble, Use
from gsvrd.store.ledger import pacific_day

_BATCH = "SELECT id, name, kind, created_at, options FROM batches WHERE id = ?"
# An analysis that another task made, and no later than this one ended, has been taken over.
_TASKS = """
SELECT t.id, iif(t.home = 'link', NULL, t.url), t.name, t.state, t.created_at, t.changed_at, t.report, t.reused, t.error,
    t.options, a.result,
    t.state = 'completed' AND t.reused IS NULL AND a.task <> t.id AND a.made_at <= t.changed_at
FROM tasks t LEFT JOIN analyses a ON a.key = t.key WHERE t.batch = ?
"""
_ATTEMPTS = """
SELECT a.task, a.number, a.started_at, a.ended_at, a.outcome FROM tasks t JOIN attempts a ON a.task = t.id
WHERE t.batch = ? AND a.ended_at IS NOT NULL
"""
# No call of a batch can be older than it; the day is the beginning of the table's key.
_USE = """
SELECT model, sum(requests), sum(tokens), sum(cost_micro) FROM ledger_days WHERE day >= ? AND batch = ?
GROUP BY model HAVING sum(requests) > 0 OR sum(cost_micro) > 0
"""


class _KeyTerm(msgspec.Struct):
    """Of `analysis.KeyTerm`: reading no more than is needed costs a tenth of validating it all."""

    term: str
    meaning: str = ""


class _Analysis(msgspec.Struct):
    title: str = ""
    language: str = ""
    key_terms: list[_KeyTerm] = []


_ANALYSIS = msgspec.json.Decoder(_Analysis)


@contextmanager
def open_results(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection for `collect`; all that is read with it is of one moment."""
    with closing(sqlite3.connect(database, timeout=10.0, isolation_level=None)) as conn:
        conn.execute("PRAGMA query_only = ON")
        conn.execute("BEGIN")
        yield conn


def collect(conn: sqlite3.Connection, batch: int, language: str) -> BatchFacts | None:
    """The facts; None when there is no such batch. A task without an analysis on record has an empty `lesson`.

    May raise `sqlite3.Error`. `language` is that of reports for which nothing else was said.
    """
    row = conn.execute(_BATCH, (batch,)).fetchone()
    if row is None:
        return None
    number, name, kind, created_at, options = row
    attempts: dict[int, list[Attempt]] = defaultdict(list)
    for task, tried, started_at, ended_at, outcome in conn.execute(_ATTEMPTS, (batch,)):
        attempts[task].append(Attempt(tried, started_at, ended_at, OutcomeKind(outcome)))
    language = str(said(options, "language", language))
    tasks = tuple(_task(row[1:], tuple(attempts[row[0]]), language) for row in conn.execute(_TASKS, (batch,)))
    use = conn.execute(_USE, (pacific_day(created_at).name, batch))
    return BatchFacts(
        mark=report_owner(number, created_at),
        name=name,
        kind=kind,
        created_at=created_at,
        tasks=tasks,
        use=tuple(Use(*line) for line in use),
    )


def _task(row: tuple[Any, ...], attempts: tuple[Attempt, ...], language: str) -> TaskFacts:
    url, name, state, created_at, changed_at, report, serving, error, options, analysis, is_reused = row
    is_done = state == TaskState.COMPLETED
    return TaskFacts(
        name=name,
        state=TaskState(state),
        created_at=created_at,
        changed_at=changed_at,
        report=(serving or report or "") if is_done else "",
        is_skipped=is_done and serving is not None,
        is_reused=bool(is_reused),
        trouble=_trouble(error) if error and state == TaskState.FAILED else None,
        attempts=attempts,
        lesson=_lesson(analysis) if analysis and is_done else Lesson(),
        language=str(said(options, "language", language)),
        link=parse_link(url).name if url else "",
    )


def _trouble(error: str) -> Trouble:
    facts = msgspec.json.decode(error)
    return Trouble(str(facts.get("kind", "")), str(facts.get("message", "")), str(facts.get("hint", "")))


def _lesson(analysis: bytes) -> Lesson:
    try:
        found = _ANALYSIS.decode(analysis)
    except msgspec.DecodeError:  # of another version of this program
        return Lesson()
    return Lesson(found.title, found.language, tuple(Term(term.term, term.meaning) for term in found.key_terms))
