"""The house with its front door: a real intake before the real queue, and workers that pause where the test wants."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvrd.errors import ErrorKind, TaskError
from gsvrd.intake.identity import Candidate, Identity, durable, open_checked
from gsvrd.intake.intake import IntakeSettings
from gsvrd.model import NewTask, report_owner
from gsvrd.pool.messages import Assign, Finished
from gsvrd.pool.worker import Desk
from gsvrd.reports.write import temporary_directory, write_report
from support.house import House
from support.intakes import Door


@dataclass
class Street(House):
    """`look` and `turn` are the daemon's loop; a worker that has read its file waits until the `gate` is open."""

    gate: threading.Event = field(default_factory=threading.Event)
    at_gate: int = 0
    """How many workers wait there."""

    def open(self) -> None:
        super().open()
        self.door = Door(self.config.inbox, IntakeSettings("polling"), self.clock)
        self.places.taken_away = self.door.intake.forget
        self.places.seeking.search = self.door.intake.search
        self.places.seeking.searched = self.door.intake.searched
        self.door.__enter__()

    def close(self) -> None:
        self.gate.set()
        self.door.__exit__(None, None, None)
        super().close()

    # -- the worker --------------------------------------------------------------------------------------------------

    def _work(self, assign: Assign, desk: Desk) -> Finished:
        """As the real one: the file is opened once, and looked at again in the end. The report holds its hash."""
        identity = Identity(*assign.identity)
        with open(open_checked(assign.path, os.fsencode(self.config.inbox), identity), "rb") as file:
            half = file.read(5)
            self.at_gate += 1
            self.gate.wait(30)
            self.at_gate -= 1
            sha256 = hashlib.sha256(half + file.read()).hexdigest()
            name = desk.reserve(f"{hashlib.sha256(assign.path).hexdigest()[:8]}.md")
            temporary = temporary_directory(self.config.reports, assign.task, assign.attempt)
            owner = report_owner(assign.task, assign.queued_at)
            write_report(temporary, name, f"---\ntask: {owner}\n---\n{sha256}\n", self.config.state)
            if Identity.of(os.fstat(file.fileno())) != identity:
                raise TaskError(ErrorKind.CHANGED, "the file changed while it was studied", "")
        return Finished(assign.task, assign.attempt, temporary=str(temporary), sha256=sha256)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """All that the intake has to tell now comes into the queue."""
        self.door.rest()
        if self.door.intake.trouble:
            self.doors.close("inbox-gone", self.door.intake.trouble, self.clock.wall())
        else:
            self.doors.open("inbox-gone")
        found, self.door.candidates = self.door.candidates, []
        if found:
            inbox = os.fsencode(self.config.inbox)
            self.filing.submit(lambda: durable(found, inbox), lambda kept: self._accept(found, kept), _fail)
        self.settle()

    def _accept(self, found: list[Candidate], kept: list[Candidate]) -> None:
        for candidate in set(found).difference(kept):
            self.door.intake.forget(candidate.path, candidate.identity)
        for candidate in kept:
            identity = candidate.identity
            self.queue.add(
                NewTask(candidate.path, candidate.name, identity.dev, identity.ino, identity.size, identity.mtime_ns)
            )

    def begin(self) -> None:
        """Start what can be started, and wait until it has read half of its file or is over."""
        self.gate.clear()
        self.until(lambda: self.at_gate or not self.attempts.running)
        self.settle()

    def end(self) -> None:
        """Let what runs come to its end, and all that follows from it; nothing new starts."""
        self.gate.set()
        self.until(lambda: not (self.attempts.running or self.is_busy), start=False)

    def pass_by(self, seconds: float) -> None:
        """Time, with the loop awake at its end."""
        self.clock.advance(seconds)
        self.look()

    def come_to_rest(self) -> None:
        """Everything that can be done is done, whatever is waited for."""
        for _ in range(100):
            self.pass_by(5.0)
            self.gate.set()
            self.rest()
            if not self.tasks("state IN ('pending', 'running')") and not self.door.intake.describe()["settling"]:
                break
        self.pass_by(31.0)
        self.rest()

    # -- what can be seen --------------------------------------------------------------------------------------------

    def tasks(self, where: str = "1") -> list[dict[str, Any]]:
        cursor = self.db.execute(f"SELECT * FROM tasks WHERE {where} ORDER BY id")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def states(self) -> list[str]:
        return [task["state"] for task in self.tasks()]

    def hashes(self) -> list[str]:
        """What the reports are about."""
        return sorted(path.read_text().splitlines()[-1] for path in self.config.reports.glob("*.md"))


def sha256_of(path: Path | bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _fail(error: OSError) -> None:
    raise error
