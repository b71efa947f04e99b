"""Which file it is, and opening it so that it cannot be another: never through a link, never blocking.

Used by the intake, by the helper that makes inputs durable, and by workers (`open_checked`). Whoever may write into the
inbox may exchange any component of a path at any moment, so a path is walked folder by folder below one descriptor, and
what counts is the descriptor that comes out. Imports nothing of watchdog. Never changes a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from gsvrd.errors import ErrorKind, TaskError

FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a FIFO without a writer would hang
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_INT_MAX = (1 << 63) - 1

SYNC_TOGETHER = 16
"""With more files than this in a batch, the whole file system is flushed once instead of each file."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """One state of one file: a change of its bytes gives another identity, a rename does not."""

    dev: int = field(compare=False)
    """Where it lies now; the same disk may have another number after a reboot."""
    ino: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        """The identity that a stat result speaks of, in numbers that SQLite can keep.

        Inode numbers may use all 64 bits, and a file may claim to be of a year that nanoseconds in 64 bits do not reach.
        """
        ino = found.st_ino if found.st_ino <= _INT_MAX else found.st_ino - (1 << 64)
        return cls(found.st_dev, ino, found.st_size, max(-_INT_MAX, min(found.st_mtime_ns, _INT_MAX)))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A settled video that may be queued."""

    path: bytes
    """Absolute."""
    name: str
    """Below the inbox, printable; for people and logs, not for opening."""
    identity: Identity


class Folders:
    """Folders below the inbox as descriptors; close it soon, since an open descriptor keeps a file system mounted."""

    def __init__(self, inbox: bytes) -> None:
        """Raises OSError when the inbox is not there. The inbox itself may be a link: the operator chose it."""
        self._root = os.open(inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._last: tuple[bytes, int] | None = None

    def root_stat(self) -> os.stat_result:
        """What the inbox is at the moment."""
        return os.fstat(self._root)

    def enter(self, relative: bytes) -> int:
        """A descriptor of the folder `relative` (b"" is the inbox); it stays ours, and valid until the next call.

        Raises OSError: a component is gone, is a link or is no folder.
        """
        if not relative:
            return self._root
        if self._last is not None and self._last[0] == relative:
            return self._last[1]
        self._leave()
        folder = open_folder(self._root, relative)
        self._last = (relative, folder)
        return folder

    def close(self) -> None:
        """Give all descriptors back."""
        self._leave()
        os.close(self._root)

    def _leave(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None


def open_folder(root: int, relative: bytes) -> int:
    """Open the folder `relative` below the descriptor `root`, each component without following links."""
    folder = os.open(b".", _FOLDER_FLAGS, dir_fd=root)
    for part in filter(None, relative.split(b"/")):
        try:
            if part == b"..":
                raise OSError(errno.ELOOP, "a path below the inbox never goes up", part)
            inner = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


def find_in(folder: bytes, identity: Identity) -> bytes | None:
    """The path of the file of this identity that lies directly in `folder`, whatever it is called; None if none does."""
    try:
        with os.scandir(folder) as entries:
            return next((e.path for e in entries if Identity.of(e.stat(follow_symlinks=False)) == identity), None)
    except OSError:
        return None


def open_checked(path: bytes, inbox: bytes, identity: Identity) -> int:
    """A descriptor for reading the very file that was queued; the caller closes it.

    Raises TaskError: CHANGED, NOT_FOUND, PERMISSION, NOT_REGULAR, or PLACE when the inbox or the machine is at fault.
    """
    relative = _below(path, inbox)
    try:
        folders = Folders(inbox)
    except OSError as error:
        raise TaskError(
            ErrorKind.PLACE, "the inbox is not there", "Mount or create it; nothing is lost meanwhile.", str(error)
        ) from error
    with contextlib.closing(folders):
        try:
            parent, _, name = relative.rpartition(b"/")
            descriptor = _open_regular(folders.enter(parent), name)
        except OSError as error:
            raise _told(error) from error
    if Identity.of(os.fstat(descriptor)) != identity:
        os.close(descriptor)
        raise TaskError(
            ErrorKind.CHANGED, "the file changed after it was queued", "Its new content is queued by itself."
        )
    return descriptor


def durable(candidates: Iterable[Candidate], inbox: bytes) -> list[Candidate]:
    """Write each candidate and the folders above it to the disk; returns those that are still the same file.

    Blocks for as long as the disk takes: for a helper thread. What vanished or changed is left out. Raises OSError
    when the disk does not take it (EIO, ENOSPC): nothing of the batch may be called accepted then.
    """
    batch = list(candidates)
    if len(batch) > SYNC_TOGETHER:
        _sync_file_systems(batch, inbox)
        return [candidate for candidate in batch if _is_same(candidate, inbox)]
    kept = [candidate for candidate in batch if _is_same(candidate, inbox, os.fsync)]
    folders = {folder for candidate in kept for folder in _folders_above(_below(candidate.path, inbox))}
    _sync_folders(inbox, folders)
    return kept


def _is_same(candidate: Candidate, inbox: bytes, sync: Callable[[int], None] | None = None) -> bool:
    """Whether the candidate is the file it was; after `sync` of it, where one is given."""
    try:
        descriptor = open_checked(candidate.path, inbox, candidate.identity)
    except TaskError:
        return False
    try:
        if sync is not None:
            sync(descriptor)
        return Identity.of(os.fstat(descriptor)) == candidate.identity
    finally:
        os.close(descriptor)


def _sync_file_systems(batch: Iterable[Candidate], inbox: bytes) -> None:
    """One flush for all: an fsync costs milliseconds also when there is nothing to write."""
    done: set[int] = set()
    for candidate in batch:
        if candidate.identity.dev not in done and _is_same(candidate, inbox, syncfs):
            done.add(candidate.identity.dev)


def syncfs(descriptor: int) -> None:
    """Write all of the file system that `descriptor` is on to the disk; the call is missing from `os`."""
    if _libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _open_regular(folder: int, name: bytes) -> int:
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):  # opening a device may do things
        raise OSError(errno.ELOOP, "not a regular file", name)
    descriptor = os.open(name, FILE_FLAGS, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ELOOP, "not a regular file", name)
    return descriptor


def _told(error: OSError) -> TaskError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return TaskError(
            ErrorKind.NOT_FOUND, "the file is no longer in the inbox", "Drop it again if it is still wanted."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return TaskError(ErrorKind.PERMISSION, "the file may not be read", "Give the daemon's user read permission.")
    if error.errno in (errno.ELOOP, errno.ENXIO):
        return TaskError(
            ErrorKind.NOT_REGULAR, "a link or special file took the file's place", "Drop the video itself, not a link."
        )
    return TaskError(ErrorKind.PLACE, "the file cannot be opened for a reason that is not its own", "", str(error))


def _below(path: bytes, inbox: bytes) -> bytes:
    if not path.startswith(inbox.rstrip(b"/") + b"/"):
        raise ValueError(f"{path!r} is not below the inbox {inbox!r}")
    return path[len(inbox.rstrip(b"/")) + 1 :]


def _folders_above(relative: bytes) -> Iterator[bytes]:
    while relative:
        relative = relative.rpartition(b"/")[0]
        yield relative


def _sync_folders(inbox: bytes, relatives: set[bytes]) -> None:
    if not relatives:
        return
    with contextlib.closing(Folders(inbox)) as folders:
        for relative in sorted(relatives, reverse=True):  # the deepest first: a folder's own entry comes last
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.fsync(folders.enter(relative))
