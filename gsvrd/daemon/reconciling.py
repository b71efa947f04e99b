"""After a snapshot was restored: make up for what it does not know. Called once, by `run`, before anything else recovers.

A snapshot is older than what lies in the directories. Tasks that have ended since wait or run in it, while their source
lies in `archive/` or `failed/`: tried again, they would end as "not found", or be paid for twice. What a task has
produced carries its mark (a report its owner, a failure record its number), so the files say how it ended. The ordinary
recovery then finds their sources where they are. Files the snapshot has never heard of are the inbox scan's business.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from gsvrd.clock import Clock
from gsvrd.config.models import Config
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import Home, OutcomeKind, Task
from gsvrd.reports.finding import failures, published
from gsvrd.store.queue import TaskQueue
from gsvrd.store.replacing import RESTORED, Restored

log = structlog.get_logger("gsvrd.reconciling")

_WHY = "ended before the database was restored"


def after_restore(restored: Restored | None, queue: TaskQueue, config: Config, clock: Clock) -> None:
    """Reconcile if that has not been done; if it has, this start is a clean one and nobody needs to be told any more."""
    if restored is None:
        return
    if restored.reconciled_at is not None:
        queue.set_service(RESTORED, None)
    else:
        completed, failed = _reconcile(restored, queue, config)
        queue.set_service(RESTORED, replace(restored, reconciled_at=clock.wall()))
        log.error(
            "database_restored",
            why=restored.why,
            snapshot=restored.snapshot or None,
            aside=restored.aside or None,
            completed=completed,
            failed=failed,
        )
    queue.commit()


def _reconcile(restored: Restored, queue: TaskQueue, config: Config) -> tuple[int, int]:
    """How many tasks turned out to be completed, and failed."""
    live = [_Live(task, is_running=True) for task in queue.running()]
    live += [_Live(task, is_running=False) for task in queue.waiting()]
    if not live:
        return 0, 0
    reports = published(config.reports)
    done = [known for known in live if known.task.owner in reports]
    ended = {known.task.id for known in done}
    for known in done:
        _complete(queue, known, reports[known.task.owner])
    rest = [known for known in live if known.task.id not in ended and _may_have_failed(known.task)]
    records = failures(config.failed) if rest else []
    given_up = [(known, record) for known in rest if (record := _record_of(known.task, records, restored.snapshot_at))]
    for known, record in given_up:
        queue.fail(
            known.task.id, known.claim(queue), OutcomeKind.FAILED, _facts(record), str(record.get("sha256") or "")
        )
    return len(done), len(given_up)


@dataclass(frozen=True, slots=True)
class _Live:
    """A task that waits or runs, as the snapshot has it."""

    task: Task
    is_running: bool

    def claim(self, queue: TaskQueue) -> int:
        """The attempt that has ended: the one on record, or one the snapshot does not know."""
        return self.task.attempt if self.is_running else queue.claim(self.task, worker=0)


def _complete(queue: TaskQueue, known: _Live, report: str) -> None:
    task, attempt = known.task, known.claim(queue)
    if report != task.report and not queue.name_taken(report):
        queue.reserve(task.id, attempt, report)
    queue.complete(task.id, attempt, why=_WHY)


def _may_have_failed(task: Task) -> bool:
    """Its source is not where it was, or was in `failed/` already: then an operator had it tried again."""
    return task.home == Home.FAILED or not os.path.lexists(task.path)


def _record_of(task: Task, records: Sequence[Mapping[str, Any]], since: float) -> Mapping[str, Any] | None:
    """The record of a failure after the snapshot; an older one was known to it, and was forgiven."""
    for record in records:
        is_its = record.get("task") == task.id and record.get("source") == task.name
        if is_its and record.get("size_bytes") == task.size and _moment(record) >= int(since):
            return record
    return None


def _moment(record: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(record.get("at"))).timestamp()
    except ValueError:
        return 0.0


def _facts(record: Mapping[str, Any]) -> ErrorFacts:
    kind = record.get("kind")
    known = ErrorKind(kind) if kind in set(ErrorKind) else ErrorKind.UNKNOWN
    words = (str(record.get(key) or "") for key in ("why", "what_to_do", "detail"))
    return ErrorFacts(known, *words)
