"""Making the summary of one batch: read, reckon, write. Called by `summing`, in its thread.

Apart from it, since the start of the daemon does not wait for what summaries need.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import structlog

from gsvrd.model import TaskState
from gsvrd.policy.results import BatchFacts, Lesson, TaskFacts, reckon
from gsvrd.reports.glance import glance
from gsvrd.reports.summary import LOOSE
from gsvrd.reports.summary_files import write_summary
from gsvrd.store.results import collect, open_results

log = structlog.get_logger("gsvrd.summaries")


def attempt(database: Path, reports: Path, batch: int, language: str) -> Path | str | None:
    """Where the summary is, why there is none, or None when there is nothing to tell."""
    try:
        with open_results(database) as conn:
            facts = collect(conn, batch, language)
        if facts is None or not _is_worth_it(facts):
            return None
        return write_summary(
            reports, reckon(replace(facts, tasks=tuple(_filled(task, reports) for task in facts.tasks)))
        )
    except (OSError, sqlite3.Error) as error:
        return str(error)
    except Exception as error:  # a fault in an extra must not end the daemon, which would meet it again at each start
        log.exception("summary_fault", batch=batch)
        return f"{type(error).__name__}: {error}"


def _is_worth_it(facts: BatchFacts) -> bool:
    """Something came out of it; and of one loose video its report or failure record says it all."""
    if not any(task.state in (TaskState.COMPLETED, TaskState.FAILED) for task in facts.tasks):
        return False
    return facts.kind != LOOSE or len(facts.tasks) > 1


def _filled(task: TaskFacts, reports: Path) -> TaskFacts:
    """What the report says, where the analysis is no longer on record."""
    if task.report and task.lesson == Lesson():
        return replace(task, lesson=glance(reports, task.report))
    return task
