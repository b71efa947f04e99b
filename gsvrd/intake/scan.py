"""One walk over the inbox or a folder of it: the truth about what lies there. Events only make it faster.

The intake pulls the walk entry by entry and stops whenever its slice of time is used up, so a walk over 100,000 files
never holds the loop. Only names of videos are looked at closer. Reads folders; opens no file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from gsvrd.intake.identity import Folders
from gsvrd.intake.names import NameRules, printable

MAX_DEPTH = 64
MAX_PATH = 4000
"""Bytes below the inbox; the kernel takes paths of at most 4095 in one call."""

_BREATHER = 128  # entries of no interest between two chances to stop


class Sight(NamedTuple):
    """Something with a video's name; valid until the walk is continued."""

    folder: int
    """A descriptor of the folder it lies in."""
    name: bytes
    relative: bytes
    """Below the inbox."""
    found: os.stat_result
    """Of the thing itself, links not followed."""


@dataclass(slots=True)
class Walked:
    """What a walk has met so far."""

    videos: int = 0
    entries: int = 0
    ignored: int = 0
    problems: list[str] = field(default_factory=list)
    """What could not be read, in words (at most 10 kept)."""
    is_whole: bool = True
    """False when a part of the tree could not be seen, so that absence proves nothing."""

    def note(self, problem: str) -> None:
        """Keep a problem for the status."""
        if len(self.problems) < 10:
            self.problems.append(problem)


def walk(inbox: bytes, start: bytes, rules: NameRules, walked: Walked) -> Generator[Sight | None, None, None]:
    """Yield every sight below `start` (relative, b"" is all), and None now and then so that the caller may stop.

    Closing the generator frees its descriptors. Raises OSError when the inbox itself is not there.
    """
    with contextlib.closing(Folders(inbox)) as folders:
        pending = [start]
        while pending:
            relative = pending.pop()
            try:
                folder = folders.enter(relative)
                entries = os.scandir(folder)
            except OSError as error:
                _unreadable(relative, error, walked)
                continue
            with entries:
                yield from _entries(entries, folder, relative, rules, walked, pending)


def _entries(
    entries: Iterator[os.DirEntry[str]],
    folder: int,
    relative: bytes,
    rules: NameRules,
    walked: Walked,
    pending: list[bytes],
) -> Iterator[Sight | None]:
    prefix = relative + b"/" if relative else b""
    while True:
        try:
            entry = next(entries, None)
        except OSError as error:
            _unreadable(relative, error, walked)
            return
        if entry is None:
            return
        walked.entries += 1
        if walked.entries % _BREATHER == 0:
            yield None
        name = os.fsencode(entry.name)
        path = prefix + name
        if rules.is_excluded(path) or len(path) > MAX_PATH:
            walked.ignored += 1
        elif (sight := _look(entry, folder, name, path, rules, walked, pending)) is not None:
            walked.videos += 1
            yield sight


def _look(
    entry: os.DirEntry[str],
    folder: int,
    name: bytes,
    path: bytes,
    rules: NameRules,
    walked: Walked,
    pending: list[bytes],
) -> Sight | None:
    if entry.is_symlink():
        is_interesting = rules.is_refused_as_link(name)
    elif entry.is_dir(follow_symlinks=False):
        if rules.is_folder(name):
            _descend(path, walked, pending)
        is_interesting = rules.is_folder(name) and rules.is_video(name)
    else:
        is_interesting = rules.is_wanted(name)
        walked.ignored += not is_interesting
    if not is_interesting:
        return None
    try:
        return sight_of(folder, name, path)
    except OSError as error:
        _unreadable(path, error, walked)
        return None


def sight_of(folder: int, name: bytes, path: bytes) -> Sight:
    """What lies under `name` in the folder. Raises OSError when nothing does (any more)."""
    return Sight(folder, name, path, os.stat(name, dir_fd=folder, follow_symlinks=False))


def is_worth_a_look(rules: NameRules, sight: Sight) -> bool:
    """Whether a thing met by an event would also be met by a walk."""
    if stat.S_ISLNK(sight.found.st_mode):
        return rules.is_refused_as_link(sight.name)
    if stat.S_ISREG(sight.found.st_mode):
        return rules.is_wanted(sight.name)
    return rules.is_video(sight.name)


def _descend(path: bytes, walked: Walked, pending: list[bytes]) -> None:
    if path.count(b"/") >= MAX_DEPTH:
        walked.note(f"folders are nested more than {MAX_DEPTH} deep: {printable(path[:80])}…")
    else:
        pending.append(path)


def _unreadable(relative: bytes, error: OSError, walked: Walked) -> None:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # gone since it was listed, or a link now
        return
    walked.is_whole = False
    walked.note(f"{printable(relative) or 'the inbox'} cannot be read: {error.strerror}")
