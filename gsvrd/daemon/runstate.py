"""RunState: running, paused, draining or stopped, since when and why; what the loop tells the world about itself.

Pause is stored, so it survives a restart. What `gsvrctl status` shows of the daemon is written here, and only when it
has changed: an idle daemon writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from gsvrd import __version__
from gsvrd.clock import Clock
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.sampler import Sample
from gsvrd.daemon.service import Notifier
from gsvrd.pool.base import WorkerFacts
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.runstate")


@dataclass(slots=True)
class RunState:
    """The state word, and its keeping in the database."""

    queue: TaskQueue
    clock: Clock
    doors: Doors
    notifier: Notifier
    facts: Mapping[str, Any]
    """What changes with a reload at most: directories, analyzer, configuration."""
    paused: bool = False
    word: str = "running"
    _reason: str = ""
    _counted: str = ""
    _since: float = 0.0
    _started_at: float = 0.0
    _reload: dict[str, Any] | None = None
    _told: dict[str, Any] = field(default_factory=dict)

    def restore(self) -> None:
        """At start: pause again if that was the last wish."""
        wish = self.queue.service("pause")
        if isinstance(wish, dict) and wish.get("paused"):
            self.paused = True
            self._enter("paused", f"paused by {wish.get('by', 'somebody')}, before this start")
        else:
            self._enter("running", "")
        self._started_at = self._since
        self._introduce()

    def renew(self, facts: Mapping[str, Any]) -> None:
        """The configuration was read again."""
        self.facts = facts
        self._introduce()

    def _introduce(self) -> None:
        self._put("daemon", {"pid": os.getpid(), "version": __version__, "started_at": self._started_at, **self.facts})

    def pause(self, by: str) -> None:
        """Start nothing new; what runs may finish."""
        self._wish(paused=True, by=by)
        if self.word == "running":
            self._enter("paused", f"paused by {by}")

    def resume(self, by: str) -> None:
        """Start work again."""
        self._wish(paused=False, by=by)
        if self.word == "paused":
            self._enter("running", "")

    def drain(self, by: str, running: int, limit_s: float) -> None:
        """The end is near."""
        what = f"{running} running tasks have {limit_s:.0f} s to finish, a second signal stops at once"
        self._enter("draining", f"stopped by {by}; {what if running else 'nothing runs'}")

    def stop(self) -> None:
        """The end."""
        self._enter("stopped", "stopped by a signal")
        self._put("workers", [])

    def note_reload(self, problem: str) -> None:
        """How the last reload went; an empty `problem` is a good end."""
        self._reload = {"at": self.clock.wall(), "problem": problem}
        self._put("reload", self._reload)

    def note_sample(self, sample: Sample) -> None:
        """How the machine is."""
        self._put("machine", {"at": self.clock.wall(), **sample.facts()})

    def note_counts(self, counts: Mapping[str, int]) -> None:
        """How many videos are where, of what is open: for `systemctl status`."""
        words = {"running": "under way", "pending": "waiting", "failed": "failed"}
        shown = (f"{counts[state]} {word}" for state, word in words.items() if counts[state] or state != "failed")
        self._counted = ", ".join(shown) if counts["total"] else "nothing to do"

    def tell(self, workers: list[WorkerFacts], intake: Mapping[str, Any]) -> None:
        """Once a turn: write what has changed."""
        self._put_changed("workers", [worker.pid for worker in workers])
        self._put_changed("intake", {key: value for key, value in intake.items() if key not in _RESTLESS})
        if self.doors.changed:
            self.doors.changed = False
            closed = {name: {"reason": door.reason, "since": door.since} for name, door in self.doors.closed.items()}
            self._put("doors", closed)
            if closed:
                log.warning("doors_closed", reasons=self.doors.reason)
        self.notifier.status("; ".join(filter(None, (self._reason or self.word, self._counted, self.doors.reason))))

    def _enter(self, word: str, reason: str) -> None:
        self.word, self._reason, self._since = word, reason, self.clock.wall()
        self._put("run", {"state": word, "reason": reason, "since": self._since, "pid": os.getpid()})
        log.info("state", state=word, reason=reason or None)

    def _wish(self, *, paused: bool, by: str) -> None:
        self.paused = paused
        self._put("pause", {"paused": paused, "by": by, "at": self.clock.wall()})

    def _put_changed(self, key: str, value: Any) -> None:
        if self._told.get(key) != value:
            self._put(key, value)

    def _put(self, key: str, value: Any) -> None:
        self._told[key] = value
        self.queue.set_service(key, value)


_RESTLESS = frozenset({"scanning", "last_scan", "settling"})
"""Parts of the intake's figures that would be written at every scan."""
