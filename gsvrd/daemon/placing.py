"""Where files go when an attempt has ended: reports into place, sources out of the inbox, failure records beside them.

The order is the promise. The intent (the reserved name) is durable before anything is rendered; the report is in place
before the task is completed; the task is completed before its source leaves the inbox. Each step can be done again, so a
crash between two of them is finished at the next start (`recover`). All slow file work is done in the filing thread.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from gsvrd import __version__
from gsvrd.clock import Clock
from gsvrd.config.models import Config
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.intake.identity import Identity
from gsvrd.intake.moving import Source, delete, move_out, move_special
from gsvrd.model import Home, OutcomeKind, Task, TaskState
from gsvrd.reports.naming import assets_name, numbered
from gsvrd.reports.write import is_ours, publish, sweep, temporary_directory, unpublish, write_failure
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.placing")

TRY_AGAIN_S = 5.0
_NO_LINKS = "Folders below the reports directory must be real ones; remove the link or file and drop the video again."
_NOT_OPENED = (ErrorKind.NOT_REGULAR, ErrorKind.PERMISSION)


@dataclass(slots=True)
class Places:
    """Carries out what `Attempts` decides; see `attempts.Placing`."""

    config: Config
    queue: TaskQueue
    filing: Filing
    doors: Doors
    clock: Clock
    after_commit: Callable[[Callable[[], None]], None]
    later: Callable[[float, Callable[[], None]], None]
    """Have something called after so many seconds."""
    taken_away: Callable[[bytes, Identity], None]
    """Told when a source has left the inbox: it may come back."""

    # -- reports -----------------------------------------------------------------------------------------------------

    def choose_name(self, task: Task, wished: str) -> str:
        """The name reserved by an earlier attempt, or the wished one, numbered until nobody has it."""
        if task.report is not None:
            return task.report
        names = (wished if number == 1 else numbered(wished, number) for number in itertools.count(1))
        return next(name for name in names if not self._is_taken(name))

    def _is_taken(self, name: str) -> bool:
        return self.queue.name_taken(name) or any(
            os.path.lexists(self.config.reports / part) for part in (name, assets_name(name))
        )

    def publish(self, task: Task, attempt: int, temporary: str, sha256: str) -> None:
        """Put the report in place; then complete the task; then take the source away."""
        name = task.report or ""
        self.filing.submit(
            lambda: publish(Path(temporary), self.config.reports, name, task.owner),
            lambda _: self._published(task, attempt, name, sha256),
            lambda error: self._not_published(task, attempt, temporary, sha256, error),
        )

    def _published(self, task: Task, attempt: int, name: str, sha256: str) -> None:
        self.doors.open("reports")
        on_lost = partial(self._withdraw, task, name)
        self.queue.complete(task.id, attempt, sha256, why=name, on_lost=on_lost)
        self.after_commit(lambda: self._done_with(task, attempt, name))

    def _done_with(self, task: Task, attempt: int, name: str) -> None:
        log.info("task_completed", task=task.id, attempt=attempt, name=task.name, report=name)
        self.take_away(task)
        self.clean(task, attempt, whole=True)

    def _not_published(self, task: Task, attempt: int, temporary: str, sha256: str, error: OSError) -> None:
        if isinstance(error, FileExistsError | FileNotFoundError):
            # Somebody else's file has the name, or somebody removed the temporary report: rendered again.
            log.warning("report_not_placed", task=task.id, report=task.report, error=str(error))
            self.queue.release(task.id, attempt, f"the report could not be placed: {error.strerror}", drop_name=True)
            self.clean(task, attempt)
            return
        if isinstance(error, NotADirectoryError):
            facts = ErrorFacts(ErrorKind.PLACE, f"{task.report} cannot be placed: {error.strerror}", _NO_LINKS)
            self.queue.fail(task.id, attempt, OutcomeKind.FAILED, facts, sha256)
            self.after_commit(lambda: self.give_up(task, attempt, facts, sha256))
            return
        self.doors.close("reports", f"reports cannot be written: {error.strerror or error}", self.clock.wall())
        self.later(TRY_AGAIN_S, lambda: self.publish(task, attempt, temporary, sha256))

    def _withdraw(self, task: Task, name: str) -> None:
        """The task was cancelled while its report was put in place."""
        self.filing.submit(lambda: unpublish(self.config.reports, name, task.owner), _nothing, self._shrug)

    # -- sources -----------------------------------------------------------------------------------------------------

    def take_away(self, task: Task) -> None:
        """After success: archive, keep or delete the source, as configured."""
        fate = self.config.after_success
        if fate == "keep":
            self.queue.moved(task.id, Home.KEPT)
            return
        source = self._source(task)
        move = partial(delete, source) if fate == "delete" else partial(move_out, source, _bytes(self.config.archive))
        home = Home.GONE if fate == "delete" else Home.ARCHIVE
        self.filing.submit(
            move, lambda moved: self._moved(task, home if moved else Home.GONE), partial(self._not_moved, task)
        )

    def give_up(self, task: Task, attempt: int, error: ErrorFacts, sha256: str) -> None:
        """Write the failure record and move the source beside it."""
        source, failed = self._source(task), _bytes(self.config.failed)
        move = move_special if error.kind in _NOT_OPENED else move_out
        record = self._record(task, attempt, error, sha256)

        def act() -> bool:
            # The same sub-folder as in the inbox; its name may hold bytes that are no text.
            folder = os.path.join(failed, os.path.dirname(os.path.relpath(task.path, source.inbox)))
            os.makedirs(folder, exist_ok=True)
            write_failure(Path(os.fsdecode(folder)), task.name.rpartition("/")[2], record)
            return move(source, failed)

        stays = Home.KEPT if error.kind in _NOT_OPENED else Home.GONE
        log.error("task_failed", task=task.id, attempt=attempt, name=task.name, kind=error.kind.value)
        self.filing.submit(
            act, lambda moved: self._moved(task, Home.FAILED if moved else stays), partial(self._not_moved, task)
        )
        self.clean(task, attempt, whole=True)

    def _record(self, task: Task, attempt: int, error: ErrorFacts, sha256: str) -> dict[str, object]:
        return {
            "what": f"{task.name} could not be turned into a report",
            "why": error.message,
            "what_to_do": error.hint,
            "kind": error.kind.value,
            "source": task.name,
            "size_bytes": task.size,
            "sha256": sha256 or None,
            "attempts": attempt,
            "task": task.id,
            "at": datetime.fromtimestamp(self.clock.wall(), UTC).isoformat(timespec="seconds"),
            "gsvrd": __version__,
            "detail": error.detail or None,
        }

    def _moved(self, task: Task, home: Home) -> None:
        self.queue.moved(task.id, home)
        if home is not Home.KEPT:
            self.taken_away(task.path, _identity(task))

    def _not_moved(self, task: Task, error: OSError) -> None:
        # It stays where it is; its row keeps it from being queued again, and the next start tries once more.
        log.error("source_not_moved", task=task.id, name=task.name, error=str(error))

    def _source(self, task: Task) -> Source:
        # By now it may have another name.
        return Source(self.queue.path_of(task.id), _bytes(self.config.inbox), _identity(task))

    # -- cleaning and recovery ---------------------------------------------------------------------------------------

    def clean(self, task: Task, attempt: int, *, whole: bool = False) -> None:
        """Remove an attempt's temporary report; with `whole`, the pictures that were kept for the next one, too."""
        paths = [temporary_directory(self.config.reports, task.id, attempt)]
        if whole:
            paths.append(self.config.state / "work" / str(task.id))
        self.filing.submit(lambda: _remove(paths), _nothing, self._shrug)

    def recover(self) -> None:
        """At start: finish what a dead daemon had begun. The queue's journal is committed by the caller."""
        for task in self.queue.running():
            if task.report and is_ours(self.config.reports / task.report, task.owner):
                self.queue.complete(task.id, task.attempt, why=task.report)
        self.queue.recover()
        self.queue.commit()
        for stranded in self.queue.stranded():
            if stranded.state is TaskState.COMPLETED:
                self.take_away(stranded.task)
            elif stranded.error is not None:
                self.give_up(stranded.task, stranded.task.attempt, stranded.error, stranded.sha256)
        sweep(self.config.reports)
        sweep(self.config.failed)
        work = self.config.state / "work"
        work.mkdir(parents=True, exist_ok=True)
        _remove([path for path in work.iterdir() if not (path.name.isdecimal() and self.queue.is_live(int(path.name)))])

    def _shrug(self, error: OSError) -> None:
        log.warning("not_cleaned", error=str(error))


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


def _nothing(_: object) -> None:
    pass


def _bytes(path: Path) -> bytes:
    return os.fsencode(path)


def _identity(task: Task) -> Identity:
    return Identity(task.dev, task.ino, task.size, task.mtime_ns)
