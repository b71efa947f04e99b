"""File operations that survive a crash and clobber nothing; what `write.py` is built of.

`folder` is always an open directory: names are resolved in it, so no link can be slipped in between check and use.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WHOLE_BYTES = 64 * 1024 * 1024
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@contextmanager
def open_folder(root: Path, parts: Sequence[str] = ()) -> Iterator[int]:
    """The directory `root/parts…`, created below `root` as needed; a link below `root` is refused.

    Raises `NotADirectoryError` when something else than a directory stands in the way.
    """
    folder = os.open(root, _DIRECTORY)
    try:
        for part in parts:
            folder, above = _enter(folder, part), folder
            os.close(above)
        yield folder
    finally:
        os.close(folder)


def _enter(folder: int, part: str) -> int:
    try:
        os.mkdir(part, dir_fd=folder)
    except FileExistsError:
        pass
    else:
        os.fsync(folder)
    try:
        return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotADirectoryError(errno.ENOTDIR, "a link or file stands where a folder should be", part) from error
        raise


def exists(name: str, folder: int) -> bool:
    """Whether there is anything of this name, a dangling link too."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def read_regular(name: str, folder: int, limit_bytes: int) -> bytes | None:
    """The first bytes of a regular file; `None` when it is something else, a link, or may not be read.

    Raises `FileNotFoundError`.
    """
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.ENXIO):
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        with open(handle, "rb", closefd=False) as file:
            return file.read(limit_bytes)
    finally:
        os.close(handle)


def holds_only_copies(name: str, folder: int, originals: Path) -> bool:
    """Whether all that a directory holds is in `originals` too, byte for byte: nothing would be lost with it."""
    try:
        copies = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return False
        raise
    try:
        files = {file: read_regular(file, copies, _WHOLE_BYTES) for file in os.listdir(copies)}
    finally:
        os.close(copies)
    with open_folder(originals) as folder:
        return all(
            data is not None and exists(file, folder) and read_regular(file, folder, _WHOLE_BYTES) == data
            for file, data in files.items()
        )


def write_new(path: Path, data: bytes) -> None:
    """A new file with `data`, on disk when this returns; its name is not until its directory is synced."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def copy_new(source: Path, target: Path) -> None:
    """A new file with the bytes of `source`, on disk when this returns."""
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())


def copy_pictures(source: Path, target: Path, names: Sequence[str]) -> bool:
    """Copy the files called `names` from one directory to another, which is made; False when one is not there whole.

    Links are not followed, neither the directory nor a file in it.
    """
    target.mkdir(parents=True, exist_ok=True)
    if not names:
        return True
    try:
        folder = os.open(source, _DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        for name in names:
            data = None if "/" in name else read_regular(name, folder, _WHOLE_BYTES)
            if not data:
                return False
            (target / name).unlink(missing_ok=True)
            write_new(target / name, data)
    except FileNotFoundError:
        return False
    finally:
        os.close(folder)
    return True


def sync_directory(path: Path) -> None:
    """Bring the names in `path` to disk."""
    with open_folder(path) as folder:
        os.fsync(folder)


def sync_files(path: Path) -> None:
    """Bring the files in `path`, their names and its own to disk."""
    for file in (files := list(path.iterdir())):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    if files:
        sync_directory(path)
        sync_directory(path.parent)


def link_new(source: Path, name: str, folder: int) -> None:
    """Give `source` the name too, or where there are no hard links instead. Raises `FileExistsError`."""
    try:
        os.link(source, name, dst_dir_fd=folder)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if exists(name, folder):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from error
        os.rename(source, name, dst_dir_fd=folder)


def move_directory(
    source: Path | str, target: Path | str, *, source_in: int | None = None, target_in: int | None = None
) -> None:
    """Rename a directory to a name that is free. Raises `FileExistsError` when it is not.

    An empty directory of that name gives way, which loses nothing.
    """
    try:
        os.rename(source, target, src_dir_fd=source_in, dst_dir_fd=target_in)
    except OSError as error:
        if error.errno in _TAKEN:
            raise FileExistsError(errno.EEXIST, "something else has this name", str(target)) from error
        raise
