"""Why a file has no task: what the intake would make of it, step by step. Called by `why`; changes nothing.

Judges with the intake's own rules, so it says what the daemon does. Of the daemon it knows nothing but what it is given.
"""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from gsvrd.intake.identity import Folders
from gsvrd.intake.mounts import Mounts
from gsvrd.intake.names import NameRules, printable
from gsvrd.intake.scan import MAX_DEPTH, MAX_PATH
from gsvrd.intake.settle import Reading, read
from gsvrd.store.tracing import Problem

if TYPE_CHECKING:
    from gsvrd.config.models import Intake

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}
_DROP_THE_FILE = "Drop the video itself: links are not followed, and what is no plain file is never opened."


def look(relative: bytes, inbox: bytes, settings: Intake, daemon: dict[str, Any]) -> Problem:
    """What keeps the thing at `relative` below the inbox from being queued; if nothing does, when it will be.

    `daemon` is what `status` says of it. Raises OSError when the thing vanishes meanwhile.
    """
    found = os.lstat(os.path.join(inbox, relative))
    unfit = _unfit(relative, inbox, found, NameRules(settings.suffixes, settings.ignore), settings)
    return next(unfit, None) or _unsettled(relative, inbox, found, settings) or _unseen(settings, daemon)


# -- what it is, and what it is called -------------------------------------------------------------------------------------


def _unfit(
    relative: bytes, inbox: bytes, found: os.stat_result, rules: NameRules, settings: Intake
) -> Iterator[Problem]:
    yield from _folders(relative, inbox, rules, settings.ignore)
    name = relative.rpartition(b"/")[2]
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        yield Problem("folder", "it is a folder; the videos in it are taken one by one", "Ask for one of them.")
    if kind != stat.S_IFREG:
        yield Problem("special", f"it is {_KINDS.get(kind, 'no regular file')}", _DROP_THE_FILE)
    if not rules.is_source(name) or rules.is_excluded(relative):
        yield _named_wrongly(name, relative, settings)
    if len(relative) > MAX_PATH:
        yield Problem("deep", f"its path is longer than {MAX_PATH} bytes", "Move it further up.")
    if found.st_nlink > 1 and not settings.hard_links:
        message = f"the same file has {found.st_nlink} names (hard links)"
        yield Problem("hard_link", message, "Drop a copy, or set `intake.hard_links: true`.")


def _folders(relative: bytes, inbox: bytes, rules: NameRules, ignore: Iterable[str]) -> Iterator[Problem]:
    parts = relative.split(b"/")[:-1]
    if len(parts) > MAX_DEPTH:
        yield Problem("deep", f"it lies more than {MAX_DEPTH} folders deep", "Move it further up.")
    for depth, part in enumerate(parts, 1):
        folder = b"/".join(parts[:depth])
        if os.path.islink(os.path.join(inbox, folder)):
            yield Problem("special", f"the folder {printable(folder)} is a symbolic link", "Links are not followed.")
        if not rules.is_folder(part):
            why = _matching(part, folder, ignore) or "folders of this name are not looked into"
            yield Problem("ignored_folder", f"it lies in {printable(folder)}: {why}", "Move it out of that folder.")


def _named_wrongly(name: bytes, relative: bytes, settings: Intake) -> Problem:
    stem, ending = os.path.splitext(name)
    shown = printable(ending)
    if name[:1] in (b".", b"~"):
        what = f"names that begin with `{printable(name[:1])}` are left alone"
        return Problem("hidden", what, "Rename it when it is complete.")
    if ending and not NameRules((os.fsdecode(ending),)).is_video(b"x" + ending):
        hint = "The program that writes it renames it at the end; if that program is gone, copy the video again."
        return Problem("partial", f"`{shown}` is the ending of a file that is not complete", hint)
    if pattern := _matching(name, relative, settings.ignore):
        return Problem("ignored", pattern, "Rename it, or change `intake.ignore` in the configuration.")
    if ending.lower() not in map(os.fsencode, settings.suffixes):
        what = f"`{shown}` is not the ending of a video" if ending else "its name has no ending"
        return Problem("suffix", what, f"Endings of videos: {' '.join(settings.suffixes)} (`intake.suffixes`).")
    inner = printable(os.path.splitext(stem)[1])
    return Problem("partial", f"`{inner}{shown}` is how an incomplete download is called", "Rename it when complete.")


def _matching(name: bytes, relative: bytes, ignore: Iterable[str]) -> str:
    """The pattern that leaves it alone, in words."""
    for pattern in ignore:
        rules = NameRules(ignore=(pattern,))
        if (NameRules().is_folder(name) and not rules.is_folder(name)) or rules.is_excluded(relative):
            return f"`{pattern}` in `intake.ignore` says so"
    return ""


# -- whether it is complete ------------------------------------------------------------------------------------------------


def _unsettled(relative: bytes, inbox: bytes, seen: os.stat_result, settings: Intake) -> Problem | None:
    # A writer that comes while we hold the lease, for microseconds, makes the kernel send this; its default is the end.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    parent, _, name = relative.rpartition(b"/")
    leases = not Mounts().is_remote(seen.st_dev)
    with closing(Folders(inbox)) as folders:
        reading, found = read(folders.enter(parent), name, seen, leases=leases, hard_links=settings.hard_links)
    if reading is Reading.WRITING:
        return _written_to(os.path.join(inbox, relative), found)
    if reading is Reading.UNREADABLE:
        return Problem("unreadable", "it may not be read", "Give the daemon's user read permission; it is then taken.")
    still_s = time.time() - max(found.st_mtime, found.st_ctime)
    if reading is Reading.UNPROVEN and still_s < settings.settle:
        what = "it is empty so far" if found.st_size == 0 else "it changed a moment ago"
        return Problem("settling", f"{what}, and must stand still for {settings.settle:g} s", "Nothing to do.")
    return None


def _written_to(path: bytes, found: os.stat_result) -> Problem:
    for mark in (b".aria2", b".part"):
        if os.path.lexists(path + mark):
            beside = printable(os.path.basename(path) + mark)
            return Problem(
                "partial",
                f"{beside} lies beside it: the download is not complete",
                "It is taken when that file is gone.",
            )
    ago = time.time() - found.st_mtime
    message = f"a program has it open for writing (last written {max(0.0, ago):.0f} s ago)"
    return Problem("writing", message, "It is taken when that program closes it; `fuser -v FILE` names the program.")


def _unseen(settings: Intake, daemon: dict[str, Any]) -> Problem:
    if daemon["pid"] is None:
        return Problem("daemon_down", "the daemon does not run", "It is found at the daemon's next start.")
    if daemon["state"] == "draining":
        return Problem("draining", "the daemon is about to stop", "It is found at the daemon's next start.")
    intake = daemon["intake"] or {}
    if intake.get("trouble"):
        return Problem("inbox_trouble", intake["trouble"], "It is found when that is mended.")
    if "inbox" in daemon["doors"]:
        return Problem("inbox_trouble", daemon["doors"]["inbox"]["reason"], "It is found when that is mended.")
    polls = intake.get("mode") == "polling"
    within = settings.poll_interval if polls else settings.rescan_interval
    return Problem(
        "not_seen", "nothing is wrong with it; it has not been seen yet", f"The next look is within {within:g} s."
    )
