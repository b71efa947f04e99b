"""An inbox under random treatment by people and programs, and what is true about it; for model-based tests.

The truth is read from the directory itself by a walk of its own, so that it shares nothing with the intake but the files.
Every write gets a time of its own: what two writes of equal size within a tick of the kernel's clock leave behind cannot
be told apart by anybody who does not read the bytes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from gsvrd.intake.identity import Identity

NAMES = {
    b"a.mp4": True,
    b"b.mov": True,
    b"-rf.mp4": True,
    b"line\nbreak.mp4": True,
    "🎓 课.mp4".encode(): True,
    b"\xff\xfe.mp4": True,
    b"n" * 251 + b".mp4": True,
    b"a.mp4.part": False,
    b"a.mp4.aria2": False,
    b".hidden.mp4": False,
    b"notes.doc": False,
}
"""Names of files, and whether they are those of videos."""
FOLDERS = {b"": True, b"term": True, b"term/week": True, b"f\xe9e": True, b"x.mp4": True, b".cache": False}
"""Names of folders, and whether videos in them count."""
_PLACES = (b"inbox", b"outside")
T = TypeVar("T")


def pick(choices: list[T], number: int) -> T | None:
    """The chosen one; None when there is nothing to choose from."""
    return choices[number % len(choices)] if choices else None


@dataclass
class World:
    """Paths given to the methods are relative to `top`: b"inbox/..." or b"outside/...".

    While the inbox is not mounted here, somebody else goes on working on its file system.
    """

    top: bytes
    writers: list[int] = field(default_factory=list)
    """Descriptors of files that somebody is writing."""
    is_mounted: bool = True
    _ticks: int = 1_700_000_000 * 10**9

    def __post_init__(self) -> None:
        for name in (b"inbox", b"outside"):
            os.mkdir(os.path.join(self.top, name))

    @property
    def inbox(self) -> bytes:
        """Where the intake looks."""
        return os.path.join(self.top, b"inbox")

    def at(self, path: bytes) -> bytes:
        if not self.is_mounted and path.split(b"/", 1)[0] == b"inbox":
            path = b"away" + path.removeprefix(b"inbox")
        return os.path.join(self.top, path)

    # -- what may be treated -----------------------------------------------------------------------------------------

    def files(self, below: bytes = b"") -> list[bytes]:
        """All regular files, in both places."""
        return sorted(path for path in self._walk() if path.startswith(below))

    def folders(self) -> list[bytes]:
        """All folders but the two places themselves."""
        found = []
        for place in _PLACES:
            for parent, names, _ in os.walk(self.at(place)):
                found += [os.path.join(self._path(place, parent), name) for name in names]
        return sorted(found)

    # -- treatments; those that the file system refuses change nothing -----------------------------------------------

    def write(self, path: bytes, data: bytes, flags: int) -> None:
        """Open and write; it stays open."""
        with contextlib.suppress(OSError):
            os.makedirs(self.at(os.path.dirname(path)), exist_ok=True)
            descriptor = os.open(self.at(path), os.O_WRONLY | os.O_CREAT | flags, 0o644)
            self.writers.append(descriptor)
            self._add(descriptor, data)

    def go_on(self, writer: int, data: bytes) -> None:
        self._add(writer, data)

    def cut(self, writer: int, size: int) -> None:
        os.ftruncate(writer, size)
        self._stamp(writer)

    def close(self, writer: int) -> None:
        self.writers.remove(writer)
        os.close(writer)

    def put(self, path: bytes, data: bytes) -> None:
        """Write at once."""
        before = len(self.writers)
        self.write(path, data, os.O_TRUNC)
        for writer in self.writers[before:]:
            self.close(writer)

    def rename(self, old: bytes, new: bytes) -> None:
        """Of a file or a whole tree; what lies there is replaced."""
        with contextlib.suppress(OSError):
            os.makedirs(self.at(os.path.dirname(new)), exist_ok=True)
            os.rename(self.at(old), self.at(new))

    def link(self, old: bytes, new: bytes) -> None:
        with contextlib.suppress(OSError):
            os.makedirs(self.at(os.path.dirname(new)), exist_ok=True)
            os.link(self.at(old), self.at(new))

    def copy(self, old: bytes, new: bytes) -> None:
        """The same bytes once more, in another file, with the old one's time."""
        with contextlib.suppress(OSError):
            os.makedirs(self.at(os.path.dirname(new)), exist_ok=True)
            shutil.copy2(self.at(old), self.at(new))

    def remove(self, path: bytes) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.at(path))

    def remove_tree(self, path: bytes) -> None:
        shutil.rmtree(self.at(path))

    def unmount(self) -> None:
        """The inbox's file system goes away; its empty mount point shows."""
        os.rename(self.inbox, os.path.join(self.top, b"away"))
        os.mkdir(self.inbox)
        self.is_mounted = False

    def mount(self) -> None:
        os.rmdir(self.inbox)
        os.rename(os.path.join(self.top, b"away"), self.inbox)
        self.is_mounted = True

    def end(self) -> None:
        for writer in list(self.writers):
            self.close(writer)
        shutil.rmtree(self.top)

    def _add(self, writer: int, data: bytes) -> None:
        os.write(writer, data)
        self._stamp(writer)

    def _stamp(self, writer: int) -> None:
        self._ticks += 10**9
        os.utime(writer, ns=(self._ticks, self._ticks))

    # -- the truth ---------------------------------------------------------------------------------------------------

    def present(self) -> dict[bytes, Identity]:
        """All files with a video's name in the inbox, by path below it, in whatever state."""
        return {path: Identity.of(found) for path, found in self._videos()}

    def settled(self) -> dict[bytes, Identity]:
        """Those of them that are to be taken (empty ones once they have stood still)."""
        return {path: Identity.of(found) for path, found in self._videos() if found.st_nlink == 1 and self._rests(path)}

    def linked(self) -> dict[bytes, Identity]:
        """Those that will be refused, for having another name (once they have stood still)."""
        return {path: Identity.of(found) for path, found in self._videos() if found.st_nlink > 1 and self._rests(path)}

    def _videos(self) -> Iterator[tuple[bytes, os.stat_result]]:
        for path in self.files(b"inbox/"):
            below = path.removeprefix(b"inbox/")
            folder, _, name = below.rpartition(b"/")
            if NAMES.get(name, False) and not any(part[:1] == b"." for part in folder.split(b"/")):
                yield below, os.lstat(self.at(path))

    def _rests(self, below: bytes) -> bool:
        path = self.at(b"inbox/" + below)
        found = os.lstat(path)
        written = {(other.st_dev, other.st_ino) for other in map(os.fstat, self.writers)}
        is_held = os.path.exists(path + b".aria2") or (not found.st_size and os.path.exists(path + b".part"))
        return (found.st_dev, found.st_ino) not in written and not is_held

    def _walk(self) -> Iterator[bytes]:
        for place in _PLACES:
            for parent, _, names in os.walk(self.at(place)):
                for name in names:
                    if stat.S_ISREG(os.lstat(os.path.join(parent, name)).st_mode):
                        yield os.path.join(self._path(place, parent), name)

    def _path(self, place: bytes, folder: bytes) -> bytes:
        return place + folder.removeprefix(self.at(place))
