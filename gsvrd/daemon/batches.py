"""Which batch a video comes with: its top folder in the inbox, or the loose files that arrived about the same time.

Called by the loop when a video is accepted; writes through the queue's journal. Counts are never stored here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from gsvrd.clock import Clock
from gsvrd.store.queue import TaskQueue

FOLDER, LOOSE, MANIFEST = "folder", "loose", "manifest"


@dataclass(slots=True)
class Batches:
    """The batches there are, by kind and name."""

    queue: TaskQueue
    clock: Clock
    idle_close_s: float
    """After so long without a loose file the next one begins a new batch."""
    _numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    _newest: int = 0
    _loose: int | None = None
    _loose_at: float = 0.0

    def restore(self) -> None:
        """At start: those of earlier days. A folder that is dropped again goes on with its batch."""
        for number, kind, name, _ in self.queue.batches():
            self._numbers[kind, name] = self._newest = number

    def of(self, name: str) -> int:
        """The batch of a video called `name` below the inbox; made if it is the first of it."""
        folder, slash, _ = name.partition("/")
        return self.named(FOLDER, folder) if slash else self._of_loose()

    def _of_loose(self) -> int:
        now = self.clock.monotonic()
        if self._loose is None or now - self._loose_at > self.idle_close_s:
            began = datetime.fromtimestamp(self.clock.wall()).astimezone()
            self._loose = self.named(LOOSE, began.strftime("%Y-%m-%d %H:%M:%S"))
        self._loose_at = now
        return self._loose

    def named(self, kind: str, name: str) -> int:
        """The batch of this kind and name; made if there is none."""
        if (kind, name) not in self._numbers:
            self._newest += 1
            self._numbers[kind, name] = self._newest
            self.queue.add_batch(self._newest, name, kind)
        return self._numbers[kind, name]
