"""The seam between the loop and whoever does the work. Implementations: `process.ProcessPool`, `inline.InlinePool`.

A pool knows nothing of queues, states or files. It is given assignments and reports events; for every assignment exactly
one of `Finished`, `Failed`, `Snoozed` or `Died` comes back, unless it was cancelled: then nothing more does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.pool.messages import Assign, Event, Reply

TOO_LATE = ErrorFacts(
    ErrorKind.TIMEOUT,
    "not finished before the deadline",
    "Raise workers.timeout if a video of this length may take longer.",
)
"""How an attempt ends whose time is over."""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker, for people."""

    pid: int
    """0 where workers are no processes."""
    task: int | None
    """What it works on."""


class Pool(Protocol):
    """Workers, and what they say."""

    def fileno(self) -> int:
        """A descriptor that is readable when `events` has something to say."""
        ...

    def events(self) -> list[Event]:
        """What was said since the last call, in order of each worker. Never blocks."""
        ...

    def next_deadline(self) -> float | None:
        """Monotonic time at which `events` wants to be called though nothing was said."""
        ...

    def free(self) -> int:
        """How many assignments would be taken now."""
        ...

    def assign(self, assign: Assign) -> int:
        """Hand one over to a free worker; returns its pid. Raises `LookupError` when none is free."""
        ...

    def answer(self, task: int, reply: Reply) -> None:
        """Answer what a running attempt asked for; nothing happens if it is gone, or another one by now."""
        ...

    def limit(self, task: int, what: str, within_s: float | None, why: ErrorFacts | None = None) -> None:
        """End the attempt at `task` as `Died(why)` unless `what` is named again within so many seconds; None lifts it."""
        ...

    def limit_memory(self, task: int, most_bytes: int) -> None:
        """From now on the attempt at `task` may have so much; beyond it meets a MemoryError. Nothing if it is gone."""
        ...

    def cancel(self, task: int) -> None:
        """End the attempt at `task` now; no event of it will follow."""
        ...

    def resize(self, size: int) -> None:
        """Want `size` workers: more start at once, fewer retire after their task.

        Those that are to retire count: there are never more processes than `size`, or than there were.
        """
        ...

    def workers(self) -> list[WorkerFacts]:
        """All workers that are up."""
        ...

    def close(self) -> None:
        """End all workers, whatever they do. No events follow."""
        ...
