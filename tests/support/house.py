"""A small house for the rooms of the daemon: real queue, files, filing thread and workers; the loop is the test's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from gsvrd.clock import ManualClock
from gsvrd.config.models import Config
from gsvrd.daemon.attempts import Attempts, Patience
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.permits import Permits, Terms
from gsvrd.daemon.placing import Places
from gsvrd.daemon.seeking import Seeking
from gsvrd.daemon.supervisor import AfterCommit, Timers
from gsvrd.daemon.trouble import Trouble
from gsvrd.intake.identity import Identity
from gsvrd.model import NewTask, report_owner
from gsvrd.policy.breaker import Breaker
from gsvrd.policy.limiter import APILimiter, APILimits
from gsvrd.policy.retry import RetryStrategy
from gsvrd.policy.spending import CostLimits, Price
from gsvrd.pool.inline import InlinePool
from gsvrd.pool.messages import Assign, Finished
from gsvrd.pool.worker import Desk
from gsvrd.reports.write import temporary_directory, write_report
from gsvrd.store.ledger import Ledger
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue
from gsvrd.store.reading import Reading
from support import works
from support.intakes import put
from support.waiting import eventually


@dataclass
class House:
    """Everything from the queue to the directories; `turn` does what the daemon's loop does of it."""

    config: Config
    clock: ManualClock = field(default_factory=ManualClock)
    came_back: list[bytes] = field(default_factory=list)
    """What the intake was told: it may be handed out again."""
    behaviours: dict[str, str] = field(default_factory=dict)
    """What the work does with a file."""
    limits: APILimits = field(default_factory=APILimits)
    cost: CostLimits = field(default_factory=CostLimits)
    prices: tuple[Price, ...] = ()

    def __post_init__(self) -> None:
        for path in (
            self.config.inbox,
            self.config.reports,
            self.config.archive,
            self.config.failed,
            self.config.state,
        ):
            path.mkdir(exist_ok=True)
        self.db = open_database(self.config.state / "gsvrd.db", create=True)
        self.reading = Reading(self.db)
        self.open()

    def open(self) -> None:
        """A daemon starts: everything that lives in memory is new."""
        self.queue = TaskQueue(self.db, self.clock)
        self.pool = InlinePool(lambda: self._work, self.clock)
        self.doors, self.timers, self.after_commit = Doors(), Timers(self.clock), AfterCommit()
        self.filing = Filing(lambda: None)
        self.places = Places(
            self.config,
            self.queue,
            self.filing,
            self.doors,
            Trouble((), self.filing, self.doors, self.clock, self.timers.later),
            self.clock,
            self.after_commit,
            self.timers.later,
            Seeking(lambda: 0, lambda: 0, self.filing, self.after_commit, self.timers.later),
            lambda path, _: self.came_back.append(path),
        )
        self.permits = Permits(
            terms=Terms("project", self.cost, self.prices),
            limiter=APILimiter(self.limits),
            ledger=Ledger(self.db, self.clock, self.queue.note),
            breaker=Breaker(),
            pool=self.pool,
            doors=self.doors,
            clock=self.clock,
            after_commit=self.after_commit,
            later=self.timers.later,
            remember=self.queue.set_service,
            hold=self.queue.hold_batch,
            free=self.queue.free_batches,
            chance=lambda: 0.5,
        )
        self.permits.restore()
        self.attempts = Attempts(
            queue=self.queue,
            pool=self.pool,
            strategy=RetryStrategy(),
            placing=self.places,
            governor=self.permits,
            clock=self.clock,
            patience=Patience(),
            after_commit=self.after_commit,
            chance=lambda: 0.5,
        )
        self.places.on_report = lambda task, *_: self.attempts.report_placed(task.id)
        self.pool.resize(1)

    def crash(self) -> None:
        """The daemon dies: what is not committed is lost, and so are all timers and endings."""
        self.close()
        self.open()
        self.places.recover()

    def close(self) -> None:
        self.filing.close()
        self.pool.close()

    # -- what is worked on -------------------------------------------------------------------------------------------

    def _work(self, assign: Assign, desk: Desk) -> Finished:
        return self.work(msgspec.structs.replace(assign, name=self.behaviours[assign.name]), desk)

    def work(self, assign: Assign, desk: Desk) -> Finished:
        """As `support.works` does, and `report` writes one, as workers do."""
        verb, _, argument = assign.name.partition(":")
        if verb != "report":
            return works.behave(assign, desk)
        name = desk.reserve(argument)
        desk.keep("analyze", b"{}")
        temporary = temporary_directory(self.config.reports, assign.task, assign.attempt)
        owner = report_owner(assign.task, assign.queued_at)
        write_report(temporary, name, f"---\ntask: {owner}\n---\nattempt {assign.attempt}\n", self.config.state)
        return Finished(assign.task, assign.attempt, temporary=str(temporary), sha256="abc")

    def add(self, behaviour: str = "report:a.md", file: str = "a.mp4") -> int:
        """A video in the inbox and in the queue; returns the number of its task."""
        put(self.config.inbox / file)
        self.behaviours[file] = behaviour
        return self.add_known(file)

    def add_known(self, file: str) -> int:
        """What lies in the inbox as `file` comes into the queue."""
        path = self.config.inbox / file
        self.queue.add(NewTask(os.fsencode(path), file, *_identity(path)))
        self.queue.commit()
        return int(self.db.execute("SELECT max(id) FROM tasks").fetchone()[0])

    # -- the loop ----------------------------------------------------------------------------------------------------

    def turn(self, *, start: bool = True) -> None:
        self.timers.run_due()
        self.filing.collect()
        for event in self.pool.events():
            self.attempts.hear(event)
        if start and not self.doors.closed:
            self.queue.promote()
            self.attempts.dispatch(1)
        self.commit()

    def commit(self) -> None:
        self.queue.commit()
        self.after_commit.run()

    def until(self, condition: Callable[[], Any], *, start: bool = True) -> None:
        def turned() -> Any:
            self.turn(start=start)
            return condition()

        eventually(turned)

    def rest(self) -> None:
        """Turn until nothing is under way and nothing could start; what waits for a time goes on waiting."""
        ready = "SELECT 1 FROM tasks WHERE state = 'pending' AND due_at IS NULL OR state = 'running'"
        self.until(lambda: not self.is_busy and (self.doors.closed or not self.db.execute(ready).fetchone()))

    def settle(self) -> None:
        """Start nothing; turn until nothing is under way but what workers have in hand."""
        self.until(lambda: not self.is_busy, start=False)

    @property
    def is_busy(self) -> bool:
        return bool(self.filing.open or self.queue.journalled or self.after_commit)

    # -- what can be seen --------------------------------------------------------------------------------------------

    def row(self, task: int) -> dict[str, Any]:
        found = self.reading.find(str(task))
        assert found is not None
        return found

    def outcomes(self, task: int) -> list[str | None]:
        return [attempt["outcome"] for attempt in self.reading.attempts(task)]

    def changes(self, task: int) -> list[str]:
        return [event["change"] for event in self.reading.events(task)]

    def files(self) -> dict[str, list[str]]:
        """Names by directory, of those that have any."""
        found = {}
        for name in ("inbox", "reports", "archive", "failed"):
            root: Path = getattr(self.config, name)
            if names := sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()):
                found[name] = names
        return found


def _identity(path: Path) -> tuple[int, int, int, int]:
    known = Identity.of(os.lstat(path))
    return known.dev, known.ino, known.size, known.mtime_ns
