"""Named points at which the program can be made to die: the edges of the commit protocol and of recovery.

For `gsvrd selftest` alone, which kills a scratch daemon of its own at each of them. Rooms call `reach` at their edges. It
does nothing, at the price of one look at a global, unless the variable `GSVRD_CRASH_POINTS` named a folder when the
process started: then the first process to reach a point whose name lies there as a file takes the file away and kills
itself with SIGKILL. So each file fells one process, a daemon or a worker, once.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from gsvrd.errors import ConfigError

VARIABLE = "GSVRD_CRASH_POINTS"

POINTS: Mapping[str, str] = MappingProxyType(
    {
        "accept.durable": "a video and its name are on the disk; no row knows of it",
        "add.committed": "its row is durable; nobody works on it",
        "claim.uncommitted": "a worker has it; its row does not say so",
        "claim.committed": "a worker has it, and its row says so",
        "worker.assigned": "a worker has it and has read nothing",
        "worker.probed": "a worker knows what is in the file",
        "keep.committed": "the result of a stage is durable",
        "worker.analyzed": "a worker has the analysis and has asked for no name",
        "reserve.committed": "the name of the report is durable; the worker has not heard it",
        "worker.named": "a worker knows the name and has written nothing",
        "worker.written": "the temporary report is written; its folder is not synced",
        "worker.rendered": "the temporary report is whole; the daemon has not heard so",
        "publish.begun": "the daemon has heard of a whole report and has moved nothing",
        "publish.pictures": "the pictures are in place, the report is not",
        "publish.linked": "the report is in place; its folder is not synced",
        "publish.synced": "the report is in place for good; the temporary folder is still there",
        "publish.done": "the report is published; its task is not completed",
        "complete.uncommitted": "the completion is written and not committed",
        "complete.committed": "the task is completed; its source lies in the inbox",
        "move.sidecar": "a subtitle file has left the inbox; its video has not",
        "move.linked": "a file has its new name and still its old one",
        "copy.written": "a copy for another file system is whole, under a temporary name",
        "copy.named": "a copy has its name, and its temporary one; the source is still there",
        "moved.uncommitted": "the source has left the inbox; that is written and not committed",
        "moved.committed": "the row says where the source lies now",
        "clean.begun": "what an attempt has left is about to be removed",
        "fail.uncommitted": "a failure for good is written and not committed",
        "fail.committed": "the task has failed; no record of it lies anywhere",
        "failure.written": "the failure record has a temporary name",
        "failure.linked": "the failure record has its name, and still its temporary one",
        "failure.placed": "the failure record is there for good; the source is still in the inbox",
        "retry.committed": "the death of a worker is on record; nobody tries again yet",
        "release.uncommitted": "a stop gives a running task back; that is written and not committed",
        "release.committed": "a stop has given a running task back; the daemon still runs",
        "recover.begun": "a new daemon has the lock and the database, and has mended nothing",
        "abandon.uncommitted": "the running tasks of a dead daemon are given back, not committed",
        "abandon.committed": "the running tasks of a dead daemon are given back; its files still lie about",
        "recover.swept": "what a dead daemon left is removed; its moves are not taken up again",
        "recover.resumed": "the moves of a dead daemon are taken up again",
    }
)
"""What has happened there, and what has not."""

_folder = os.environ.get(VARIABLE, "")


def reach(point: str) -> None:
    """Die here if that is wanted."""
    if _folder:
        _die(point)


def reach_any(points: Mapping[str, str], statements: Iterable[str]) -> None:
    """`reach` for each of `statements` that has a point in `points`."""
    if _folder:
        for statement in statements:
            if statement in points:
                _die(points[statement])


def arm(folder: Path, point: str) -> None:
    """Have the next process die that reaches `point` and whose `VARIABLE` names `folder`. Raises `ConfigError`."""
    _check(point)
    (folder / point).touch(exist_ok=False)


def verify() -> None:
    """At start: raises `ConfigError` when the variable does not name a folder, or a file in it is no point."""
    if not _folder:
        return
    if not os.path.isdir(_folder):
        raise ConfigError(f"{VARIABLE} names no folder: {_folder!r}", "It is for `gsvrd selftest` alone: unset it.")
    for name in sorted(os.listdir(_folder)):
        _check(name)


def _check(point: str) -> None:
    if point not in POINTS:
        raise ConfigError(f"there is no crash point {point!r}", f"There are: {', '.join(POINTS)}.")


def _die(point: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(_folder, point))
        os.kill(os.getpid(), signal.SIGKILL)
