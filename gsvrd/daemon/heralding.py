"""Heralding: what is told to the webhooks. Each event is noted in the transaction of the change it speaks of.

Called by `Attempts` and `Places` right after the transition, and when a batch has ended. The courier delivers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gsvrd.errors import ErrorFacts
from gsvrd.model import Task, TaskState, said
from gsvrd.policy.links import parse_link
from gsvrd.store.outbox import Outbox


@dataclass(slots=True)
class Herald:
    """Puts events into the outbox, for tasks and batches that have an address."""

    outbox: Outbox
    url: str
    """Where nothing else was said; empty: nobody is told."""

    def completed(self, task: Task, attempt: int, report: str) -> None:
        """Its report is in place, or another of the same content."""
        self._tell("task.completed", task, attempt, TaskState.COMPLETED, {"report": report})

    def failed(self, task: Task, attempt: int, error: ErrorFacts) -> None:
        """It was given up."""
        facts = {"kind": error.kind.value, "why": error.message, "what_to_do": error.hint}
        self._tell("task.failed", task, attempt, TaskState.FAILED, facts)

    def batch_ended(self, batch: int, event: str, data: Mapping[str, object], url: str) -> None:
        """`batch.completed` or `batch.cancelled`; `data` holds the time at which it ended."""
        if address := url or self.url:
            self.outbox.put(event, data, address, batch=batch)

    def _tell(self, event: str, task: Task, attempt: int, state: TaskState, more: Mapping[str, object]) -> None:
        url = said(task.options, "webhook_url", self.url)
        if url:
            data = {"task": task.id, "name": task.name, "batch": task.batch, "attempt": attempt, **more}
            if task.url:
                data["link"] = parse_link(task.url).name
            self.outbox.put(event, data, url, batch=task.batch or 0, task=task.id, only_if=(state, attempt))
