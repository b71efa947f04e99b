"""Taking a source out of the inbox: into `archive/` or `failed/`, or away. Called in the filing thread.

The way is link, then unlink: watchdog answers a plain delete at once, but holds an unmatched move out for half a second
and everything behind it. The file is held by a descriptor that was checked, so what is moved is what was studied.
A crash anywhere in between is finished by the next try, which leaves one file and not two.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from gsvrd.crashpoints import reach
from gsvrd.errors import ErrorKind, TaskError
from gsvrd.intake.identity import FILE_FLAGS, Identity, open_checked

SIDECAR_SUFFIXES = (b".srt", b".vtt")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A file of the inbox that is done with."""

    path: bytes
    inbox: bytes
    identity: Identity


def sidecars(path: bytes) -> list[bytes]:
    """Subtitle files of the video at `path`: `x.srt` first, then `x.en.vtt` and the like. Links are left out."""
    folder, name = os.path.split(path)
    stem = os.path.splitext(name)[0]
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(stem):  # nearly all, and there may be thousands
                continue
            base, suffix = os.path.splitext(entry.name)
            if suffix.lower() in SIDECAR_SUFFIXES and (base == stem or base.startswith(stem + b".")):
                with contextlib.suppress(OSError):
                    if entry.is_file(follow_symlinks=False):
                        found.append(os.path.join(folder, entry.name))
    return sorted(found, key=lambda found_path: (len(found_path), found_path))


def move_out(source: Source, target: bytes, *, with_sidecars: bool = True) -> bytes | None:
    """Move the source and its sidecars to the same place below `target`; a name that is taken gets a number.

    Returns where it lies then; None when the file is gone or another one now: then nothing is moved. What an earlier
    try has moved, of which nobody knows after a crash, is found again. Raises OSError when the target cannot take it.
    """
    fd = _open(source)
    if fd is None:
        return _arrived(source, target)
    try:
        # The source goes last: as long as it is here, a try that comes after a crash knows of all the others.
        for path in sidecars(source.path) if with_sidecars else ():
            with contextlib.suppress(OSError):
                _move_sidecar(Source(path, source.inbox, Identity.of(os.lstat(path))), target)
        return _move_open(fd, source, target)
    finally:
        os.close(fd)


def delete(source: Source) -> bool:
    """Remove the source if it is still the same file; False when it is not."""
    fd = _open(source)
    if fd is None:
        return False
    try:
        _unlink_same(source.path, os.fstat(fd))
    finally:
        os.close(fd)
    return True


def move_special(source: Source, target: bytes) -> bytes | None:
    """Move something that is no regular file (a link, a pipe) by rename; folders and vanished things stay.

    Returns where it lies then.
    """
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(source.path)
        now = Identity.of(found)
        if (now.dev, now.ino) == (source.identity.dev, source.identity.ino) and not stat.S_ISDIR(found.st_mode):
            for destination in _free_names(_below(source, target)):
                if not os.path.lexists(destination):
                    os.rename(source.path, destination)
                    _sync(os.path.dirname(source.path))
                    return destination
    return None


def _arrived(source: Source, target: bytes) -> bytes | None:
    for destination in _free_names(_wanted(source, target)):
        try:
            found = Identity.of(os.lstat(destination))
        except OSError:
            return None
        if (found.size, found.mtime_ns) == (source.identity.size, source.identity.mtime_ns):
            return destination
    return None


def _move_sidecar(sidecar: Source, target: bytes) -> None:
    fd = _open(sidecar)
    if fd is not None:
        try:
            _move_open(fd, sidecar, target)
            reach("move.sidecar")
        finally:
            os.close(fd)


def _move_open(fd: int, source: Source, target: bytes) -> bytes:
    wanted = _below(source, target)
    folder = os.open(os.path.dirname(wanted), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        destination = _place(fd, wanted, folder)
        os.fsync(folder)
    finally:
        os.close(folder)
    reach("move.linked")
    _unlink_same(source.path, os.fstat(fd))
    return destination


def _open(source: Source) -> int | None:
    try:
        return open_checked(source.path, source.inbox, source.identity)
    except TaskError as error:
        if error.kind is ErrorKind.PLACE:
            raise OSError(errno.EIO, str(error)) from error
        return None


def _wanted(source: Source, target: bytes) -> bytes:
    return os.path.join(target, os.path.relpath(source.path, source.inbox))


def _below(source: Source, target: bytes) -> bytes:
    wanted = _wanted(source, target)
    os.makedirs(os.path.dirname(wanted), exist_ok=True)
    return wanted


def _place(fd: int, wanted: bytes, folder: int) -> bytes:
    """Give the open file a name at `wanted`, or at the first numbered name that is free, which is returned.

    `folder` is opened for it.
    """
    for destination in _free_names(wanted):
        try:
            # Only with a directory's descriptor does Python use the call that follows the link in /proc.
            os.link(b"/proc/self/fd/%d" % fd, os.path.basename(destination), dst_dir_fd=folder, follow_symlinks=True)
        except FileExistsError:  # comes first: a copy that an earlier try made on another file system is met here, too
            if _is_same(fd, destination) or _is_finished_copy(fd, destination):
                return destination
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT):
                raise
            if _copy(fd, destination):
                return destination
        else:
            return destination
    raise AssertionError  # the names do not end


def _copy(fd: int, destination: bytes) -> bool:
    """To another file system: a synced copy under a temporary name first. False when the name is another file's."""
    folder = os.path.dirname(destination)
    temporary = _temporary(fd, folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # never truncated: after a crash it may be a second name of what is in place
    if os.path.lexists(destination):
        return _holds_same_bytes(fd, destination)  # then it is from a try before a crash, or as good as that
    try:
        _write_copy(fd, temporary)
        reach("copy.written")
        return _name_copy(temporary, destination)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _temporary(fd: int, folder: bytes) -> bytes:
    # The name may already be as long as a name can be, so the temporary one does not grow from it.
    return os.path.join(folder, b".gsvrd-copy-%d" % os.fstat(fd).st_ino)


def _write_copy(fd: int, temporary: bytes) -> None:
    with open(os.dup(fd), "rb") as reader, open(temporary, "xb") as writer:
        reader.seek(0)
        shutil.copyfileobj(reader, writer, _CHUNK_BYTES)
        writer.flush()
        os.fsync(writer.fileno())
    found = os.fstat(fd)
    os.utime(temporary, ns=(found.st_atime_ns, found.st_mtime_ns))


def _name_copy(temporary: bytes, destination: bytes) -> bool:
    try:
        os.link(temporary, destination)
    except FileExistsError:
        return False
    except OSError:
        os.rename(temporary, destination)  # a file system without hard links
    reach("copy.named")
    return True


def _holds_same_bytes(fd: int, path: bytes) -> bool:
    try:
        other = os.open(path, FILE_FLAGS)
    except OSError:
        return False  # a link, or not ours to read
    with open(other, "rb") as theirs, open(os.dup(fd), "rb") as ours:
        found = os.fstat(other)
        if not stat.S_ISREG(found.st_mode) or found.st_size != os.fstat(fd).st_size:
            return False
        ours.seek(0)
        while chunk := ours.read(_CHUNK_BYTES):
            if theirs.read(len(chunk)) != chunk:
                return False
    return True


def _free_names(wanted: bytes) -> Iterator[bytes]:
    yield wanted
    folder, name = os.path.split(wanted)
    stem, suffix = os.path.splitext(name)
    number = 2
    while True:
        mark = b"-%d" % number
        yield os.path.join(folder, stem[: 255 - len(mark) - len(suffix)] + mark + suffix)
        number += 1


def _is_same(fd: int, path: bytes) -> bool:
    ours, theirs = os.fstat(fd), os.lstat(path)
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _is_finished_copy(fd: int, path: bytes) -> bool:
    """Whether `path` is a copy of the open file on another file system; the copy's temporary name is gone then."""
    ours, theirs = os.fstat(fd), os.lstat(path)
    # One file system may be mounted twice, and then its device number is the same.
    is_elsewhere = ours.st_dev != theirs.st_dev or ours.st_mtime_ns == theirs.st_mtime_ns
    if not (is_elsewhere and _holds_same_bytes(fd, path)):
        return False
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_temporary(fd, os.path.dirname(path)))
    return True


def _unlink_same(path: bytes, ours: os.stat_result) -> None:
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            os.unlink(path)
            _sync(os.path.dirname(path))


def _sync(folder: bytes) -> None:
    """What has left `folder` stays away: after a power cut it would lie in the inbox again, as if it were new."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
