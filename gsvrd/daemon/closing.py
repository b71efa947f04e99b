"""Closing: what happens when a batch has come to rest. Failed videos have their second chance, or its end is told.

Called by the loop after a batch was summed up; a batch that goes on is closed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gsvrd.daemon.heralding import Herald
from gsvrd.model import TaskState, said
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.closing")


@dataclass(slots=True)
class Closing:
    """Once for each time a batch comes to rest."""

    queue: TaskQueue
    herald: Herald
    retry_failed: bool
    """Try failed videos once more, unless a task says otherwise."""
    on_closed: Callable[[int, str], None] = lambda batch, options: None
    """Told when a batch has come to rest for good, with the options of its newest video."""

    def close(self, batch: int) -> None:
        """A batch has come to rest, as far as is known."""
        rest = self.queue.rest_of(batch)
        if rest is None:
            return
        again = [task for task, options in rest.failed if said(options, "retry_failed", self.retry_failed)]
        for task in again:
            self.queue.requeue(task, "all others of its batch are done (retry_failed)")
        if again:
            log.info("batch_retried", batch=batch, videos=len(again))
            return
        self.on_closed(batch, rest.options)
        is_cancelled = set(rest.counts) == {TaskState.CANCELLED.value}
        event = "batch.cancelled" if is_cancelled else "batch.completed"
        data = {"batch": batch, "name": rest.name, "counts": rest.counts, "ended_at": round(rest.ended_at, 3)}
        self.herald.batch_ended(batch, event, data, said(rest.options, "webhook_url", ""))
