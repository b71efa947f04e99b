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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from gsvrd import __version__
from gsvrd.clock import Clock
from gsvrd.config.models import Config
from gsvrd.crashpoints import reach
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.seeking import SEEK_S, Seeking
from gsvrd.daemon.trouble import PLACE_ERRNOS, Trouble
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.intake.allowed import is_away
from gsvrd.intake.identity import Identity, find_in
from gsvrd.intake.moving import Source, delete, move_out, move_special
from gsvrd.intake.names import printable
from gsvrd.model import Home, OutcomeKind, Task, TaskState
from gsvrd.policy.links import parse_link
from gsvrd.pool.settings import SPOOL
from gsvrd.reports.naming import assets_name, numbered
from gsvrd.reports.write import is_ours, publish, remove_failure, sweep, temporary_directory, unpublish, write_failure
from gsvrd.store.queue import TaskQueue

log = structlog.get_logger("gsvrd.placing")

TRY_AGAIN_S = 5.0
DROPPED_ENDS_S = 5.0
"""By then the worker of a cancelled attempt has ended."""
TRY_AGAIN_MOST_S = 300.0
"""The pause between two tries to move a source grows up to this."""
_NO_LINKS = "Folders below the reports directory must be real ones; remove the link or file and drop the video again."
_AT_HOME = (Home.INBOX, Home.KEPT)
_STAYS = (Home.FAILED, Home.ELSEWHERE, Home.LINK)
"""Where a source that failed stays."""
_NOT_OPENED = (ErrorKind.NOT_REGULAR, ErrorKind.PERMISSION)


@dataclass(slots=True)
class Places:
    """Carries out what `Attempts` decides; see `attempts.Placing`."""

    config: Config
    queue: TaskQueue
    filing: Filing
    doors: Doors
    trouble: Trouble
    clock: Clock
    after_commit: Callable[[Callable[[], None]], None]
    later: Callable[[float, Callable[[], None]], None]
    """Have something called after so many seconds."""
    seeking: Seeking
    taken_away: Callable[[bytes, Identity], None]
    """Told when a source has left the inbox: it may come back."""
    on_completed: Callable[[], None] = lambda: None
    """Told when a task is completed, and that is on record."""
    on_report: Callable[[Task, int, str], None] = lambda task, attempt, report: None
    """Told in the turn that completes a task, with the name of its report."""
    on_ended: Callable[[Task], None] = lambda task: None
    """Told when a task has ended for whatever reason, and that is on record."""
    _root: tuple[int, int] | None = None
    """Device and inode of the inbox, as it was found last and not lost."""
    _unpublished: dict[int, int] = field(default_factory=dict)
    """Attempts by task that are finished, and whose report waits for the reports directory to be writable."""

    def in_trouble(self, error: ErrorFacts) -> None:
        """An attempt failed for the machine's sake."""
        self.trouble.met(error.message)

    def folder_of(self, task: Task) -> bytes:
        """What the path of a source lies below; empty for the inbox."""
        return b"" if task.home in _AT_HOME else self._root_of(Home(task.home), task.path)

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
        self._unpublished.pop(task.id, None)
        self.filing.submit(
            lambda: publish(Path(temporary), self.config.reports, name, task.owner),
            lambda _: self._published(task, attempt, name, sha256),
            lambda error: self._not_published(task, attempt, temporary, sha256, error),
        )

    def _published(self, task: Task, attempt: int, name: str, sha256: str) -> None:
        reach("publish.done")
        self.doors.open("reports")
        on_lost, on_done = partial(self.withdraw, task), partial(self._done_with, task, attempt, name)
        self.queue.complete(task.id, attempt, sha256, why=name, on_lost=on_lost, on_done=on_done)
        self.on_report(task, attempt, name)

    def reused(self, task: Task, attempt: int, report: str, sha256: str) -> None:
        """Complete a task whose content has a report already; then take the source away."""
        why = f"the same content has the report {report}"
        self.queue.complete(task.id, attempt, sha256, why=why, on_done=partial(self._done_with, task, attempt, report))
        self.on_report(task, attempt, report)

    def _done_with(self, task: Task, attempt: int, name: str) -> None:
        log.info("task_completed", task=task.id, batch=task.batch, attempt=attempt, name=task.name, report=name)
        self.on_completed()
        self.on_ended(task)
        if task.home in _STAYS:  # an operator had it tried again
            self.filing.submit(partial(self._withdraw_failure, task), _nothing, self._shrug)
        if task.home == Home.LINK:
            self.queue.moved(task.id, Home.LINK, b"")  # there is no record any more, if there was one
        self.take_away(task)
        self.clean(task, attempt, whole=True)

    def _not_published(self, task: Task, attempt: int, temporary: str, sha256: str, error: OSError) -> None:
        if not self.config.reports.is_dir():
            self._wait_to_publish(task, attempt, temporary, sha256, error)
        elif isinstance(error, FileExistsError | FileNotFoundError):
            # Somebody else's file has the name, or somebody removed the temporary report: rendered again.
            log.warning("report_not_placed", task=task.id, report=task.report, error=str(error))
            self.doors.open("reports")
            self.queue.release(task.id, attempt, f"the report could not be placed: {error.strerror}", drop_name=True)
            self.clean(task, attempt)
        elif isinstance(error, NotADirectoryError):
            self.doors.open("reports")
            facts = ErrorFacts(ErrorKind.PLACE, f"{task.report} cannot be placed: {error.strerror}", _NO_LINKS)
            give_up = partial(self.give_up, task, attempt, facts, sha256)
            self.queue.fail(task.id, attempt, OutcomeKind.FAILED, facts, sha256, on_done=give_up)
        else:
            self._wait_to_publish(task, attempt, temporary, sha256, error)

    def _wait_to_publish(self, task: Task, attempt: int, temporary: str, sha256: str, error: OSError) -> None:
        self._unpublished[task.id] = attempt
        self.doors.close("reports", f"reports cannot be written: {error.strerror or error}", self.clock.wall())
        self.later(TRY_AGAIN_S, lambda: self.publish(task, attempt, temporary, sha256))

    def give_back_unpublished(self, why: str) -> None:
        """At the end: what is finished but could not be put in place is rendered again at the next start."""
        for task, attempt in self._unpublished.items():
            self.queue.release(task, attempt, why)
        self._unpublished.clear()

    def withdraw(self, task: Task) -> None:
        """The task was cancelled, perhaps while its report was put in place."""
        if name := task.report:
            unpublish_it = partial(unpublish, self.config.reports, name, task.owner)
            self.filing.submit(unpublish_it, lambda _: self.queue.withdrawn(task.id), self._shrug)

    def _withdraw_failure(self, task: Task) -> None:
        is_ours = task.home == Home.FAILED
        folder = Path(os.fsdecode(os.path.dirname(task.path))) if is_ours else self.config.failed
        remove_failure(folder, _record_name(task), str(task.id))

    # -- sources -----------------------------------------------------------------------------------------------------

    def take_away(self, task: Task, again_s: float = TRY_AGAIN_S) -> None:
        """After success: archive, keep or delete the source, as configured."""
        fate = self.config.after_success
        path, home = self.queue.place_of(task.id)
        if fate == "keep":
            if home is Home.INBOX:
                self.queue.moved(task.id, Home.KEPT)
            return
        if home in (Home.ELSEWHERE, Home.LINK):
            return
        source, again = self._source(task, path, home), partial(self.take_away, task)

        def done(moved: bytes | bool | None) -> None:
            if moved or self.seeking.is_gone(task.id):
                self._moved(task, path, Home.ARCHIVE if isinstance(moved, bytes) else Home.GONE, moved)
            else:
                self.later(SEEK_S, lambda: self._move_again(task, again, again_s))

        move = partial(move_out, source, _bytes(self.config.archive))
        self.filing.submit(
            partial(delete, source) if fate == "delete" else move, done, partial(self._not_moved, task, again, again_s)
        )

    def give_up(self, task: Task, attempt: int, error: ErrorFacts, sha256: str, again_s: float = TRY_AGAIN_S) -> None:
        """Write the failure record and move the source beside it."""
        path, home = self.queue.place_of(task.id)
        source, failed = self._source(task, path, home), _bytes(self.config.failed)
        move = move_special if error.kind in _NOT_OPENED else move_out
        record = self._record(task, attempt, error, sha256)

        def act() -> bytes | None:
            # The same sub-folder as in the inbox; its name may hold bytes that are no text.
            below = b"" if home is Home.LINK else os.path.dirname(os.path.relpath(path, source.inbox))
            folder = os.path.join(failed, below)
            os.makedirs(folder, exist_ok=True)
            placed = write_failure(Path(os.fsdecode(folder)), _record_name(task), record)
            reach("failure.placed")
            if home is Home.LINK:
                return _bytes(placed)
            return path if home in _STAYS else move(source, failed)

        stays = Home.KEPT if error.kind in _NOT_OPENED else Home.GONE
        again = partial(self.give_up, task, attempt, error, sha256)
        log.error("task_failed", task=task.id, batch=task.batch, attempt=attempt, name=task.name, kind=error.kind.value)
        self.on_ended(task)
        self.filing.submit(
            act,
            lambda moved: self._moved(task, path, home if home in _STAYS else Home.FAILED if moved else stays, moved),
            partial(self._not_moved, task, again, again_s),
        )
        self.clean(task, attempt, whole=True)

    def _record(self, task: Task, attempt: int, error: ErrorFacts, sha256: str) -> dict[str, object]:
        return {
            "what": f"{task.name} could not be turned into a report",
            "why": error.message,
            "what_to_do": error.hint,
            "kind": error.kind.value,
            "source": task.name,
            "link": parse_link(task.url).name if task.url else None,
            "size_bytes": task.size,
            "sha256": sha256 or None,
            "attempts": attempt,
            "task": task.id,
            "at": datetime.fromtimestamp(self.clock.wall(), UTC).isoformat(timespec="seconds"),
            "gsvrd": __version__,
            "detail": error.detail or None,
        }

    def _moved(self, task: Task, path: bytes, home: Home, moved: object) -> None:
        self.queue.moved(task.id, home, moved if isinstance(moved, bytes) else None)
        if home is not Home.KEPT and task.home in _AT_HOME:
            for known in {task.path, path}:  # it may have got another name since the task was claimed
                self.taken_away(known, _identity(task))

    def look_again(self, task: Task, error: ErrorFacts) -> ErrorFacts:
        """A source that was not found may have another name by now, or the inbox's file system may be away."""
        if task.home == Home.ELSEWHERE:
            return self._look_elsewhere(task, error)
        if task.home not in _AT_HOME:
            return error
        if self.queue.place_of(task.id)[0] != task.path:
            self.seeking.found(task.id)
            return ErrorFacts(ErrorKind.MOVED, "the file got another name", "Nothing to do.")
        if self._is_inbox_lost():
            message = "the inbox is another folder than before, and empty"
            return ErrorFacts(ErrorKind.PLACE, message, "Is its file system mounted? Nothing is lost meanwhile.")
        if not self.seeking.is_gone(task.id):
            return ErrorFacts(ErrorKind.MOVED, "the file is not where it was: it is looked for", "Nothing to do.")
        return error

    def _look_elsewhere(self, task: Task, error: ErrorFacts) -> ErrorFacts:
        """Of a file that a list has named: is the directory of `intake.roots` there at all?"""
        roots = [root for root in map(_bytes, self.config.roots) if task.path.startswith(root.rstrip(b"/") + b"/")]
        if any(is_away(root) for root in roots):
            message = f"{printable(roots[0])} is missing or empty"
            return ErrorFacts(ErrorKind.MOVED, message, "Is its file system mounted? Nothing is lost meanwhile.")
        if os.path.lexists(os.path.dirname(task.path)):
            return error
        return ErrorFacts(ErrorKind.NOT_FOUND, "the folder it was in is gone", "Put it back and call `gsvrctl retry`.")

    def _is_inbox_lost(self) -> bool:
        """The intake's rule: another folder with something in it is the inbox from now on."""
        try:
            found = os.stat(self.config.inbox)
            with os.scandir(self.config.inbox) as entries:
                is_empty = next(entries, None) is None
        except OSError:
            return True
        root = (found.st_dev, found.st_ino)
        if is_empty and self._root not in (None, root):
            return True
        self._root = root
        return False

    def replaced(self, task: Task) -> None:
        """Another file lies in the source's place; should this one come back, it is a new task."""
        self.taken_away(task.path, _identity(task))
        self.on_ended(task)

    def _not_moved(self, task: Task, again: Callable[[float], None], again_s: float, error: OSError) -> None:
        # Until then its row keeps it from being queued again.
        log.error("source_not_moved", task=task.id, name=task.name, error=str(error), again_in_s=again_s)
        if error.errno in PLACE_ERRNOS:
            self.trouble.met(f"done videos cannot be moved: {error.strerror}")
            again_s = TRY_AGAIN_S / 2  # no longer pause than this: the place is at fault, not the file
        self.later(again_s, lambda: self._move_again(task, again, again_s))

    def _move_again(self, task: Task, again: Callable[[float], None], again_s: float) -> None:
        if not self.queue.is_live(task.id):  # else an operator wants it done once more
            again(min(2 * again_s, TRY_AGAIN_MOST_S))

    def _source(self, task: Task, path: bytes, home: Home) -> Source:
        return Source(path, self._root_of(home, path), _identity(task))

    def _root_of(self, home: Home, path: bytes) -> bytes:
        if home is Home.ELSEWHERE:
            return os.path.dirname(path)
        roots = {Home.FAILED: self.config.failed, Home.ARCHIVE: self.config.archive}
        return _bytes(roots.get(home, self.config.inbox))

    # -- cleaning and recovery ---------------------------------------------------------------------------------------

    def clean(self, task: Task, attempt: int, *, whole: bool = False, after_s: float = 0.0) -> None:
        """Remove an attempt's temporary report; with `whole`, the pictures that were kept for the next one, too."""
        if after_s:
            self.later(after_s, lambda: self.clean(task, attempt, whole=whole))
            return
        paths = [temporary_directory(self.config.reports, task.id, attempt)]
        if whole:
            paths += [self.config.state / folder / str(task.id) for folder in ("work", SPOOL)]
        self.filing.submit(lambda: _remove(paths), _nothing, self._shrug)

    def recover(self) -> None:
        """At start: finish what a dead daemon had begun. The queue's journal is committed by the caller."""
        reach("recover.begun")
        self._is_inbox_lost()  # remembers which folder it is
        for task in self.queue.running():
            if task.report and is_ours(self.config.reports / task.report, task.owner):
                self.queue.complete(task.id, task.attempt, why=task.report)
                self.on_report(task, task.attempt, task.report)
        self.queue.recover()
        self.queue.commit()
        # Before the filing thread has anything to do: it works with files of the same names.
        self._sweep()
        reach("recover.swept")
        for task in self.queue.withdrawals():
            self.withdraw(task)
        self._find_failed()
        for stranded in self.queue.stranded():
            if stranded.state is TaskState.COMPLETED:
                self.take_away(stranded.task)
            elif stranded.error is not None:
                self.give_up(stranded.task, stranded.task.attempt, stranded.error, stranded.sha256)
        reach("recover.resumed")

    def _find_failed(self) -> None:
        """Databases of version 2 say of a source that failed where it was in the inbox, and not where it is."""
        inbox, failed = _bytes(self.config.inbox), _bytes(self.config.failed)
        for task, path, identity in self.queue.failed_below(inbox):
            folder = os.path.join(failed, os.path.relpath(os.path.dirname(path), inbox))
            if (found := find_in(folder, Identity(*identity))) is not None:
                self.queue.moved(task, Home.FAILED, os.path.normpath(found))

    def _sweep(self) -> None:
        """Remove what the attempts of a dead daemon left; what does not go is no reason not to start."""
        (self.config.state / "work").mkdir(parents=True, exist_ok=True)
        stale = self._all_stale()
        for act in (partial(sweep, self.config.reports), partial(sweep, self.config.failed), partial(_remove, stale)):
            try:
                act()
            except OSError as error:
                self._shrug(error)

    def _stale(self, folder: Path) -> list[Path]:
        """What lies there of tasks that have ended."""
        with contextlib.suppress(FileNotFoundError):
            return [
                path for path in folder.iterdir() if not (path.name.isdecimal() and self.queue.is_live(int(path.name)))
            ]
        return []

    def empty_spool(self) -> None:
        """Somebody may have cancelled tasks for which something was fetched or pictures were kept: it may be large."""
        if self._all_stale():
            self.later(DROPPED_ENDS_S, self._empty_spool)

    def _all_stale(self) -> list[Path]:
        return self._stale(self.config.state / "work") + self._stale(self.config.state / SPOOL)

    def _empty_spool(self) -> None:
        stale = self._all_stale()  # anew: one may have been taken back into the line
        self.filing.submit(lambda: _remove(stale), _nothing, self._shrug)

    def _shrug(self, error: OSError) -> None:
        log.warning("not_cleaned", error=str(error))


def _remove(paths: list[Path]) -> None:
    reach("clean.begun")
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


def _record_name(task: Task) -> str:
    """What the failure record is called after; of a link in a list, after the file it leads to."""
    return parse_link(task.url).file if task.url and task.home == Home.LINK else task.name.rpartition("/")[2]


def _nothing(_: object) -> None:
    pass


def _bytes(path: Path) -> bytes:
    return os.fsencode(path)


def _identity(task: Task) -> Identity:
    return Identity(task.dev, task.ino, task.size, task.mtime_ns)
