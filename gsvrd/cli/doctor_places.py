"""The directories, for `gsvrctl doctor`: rights, room, file systems, and whether events of the inbox arrive."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from gsvrd.cli.finding import Finding, Level, error, good, note, warning
from gsvrd.daemon.beginning import whose
from gsvrd.intake.mounts import Mounts

PROBE_S = 1.0
"""The daemon waits as long for the event of its own probe file."""
LITTLE, TOO_LITTLE = 2 << 30, 100 << 20
"""Bytes free."""
_LITTLE_FILES = 1000
_IN_CREATE, _IN_NONBLOCK = 0x100, os.O_NONBLOCK
_FOLDERS_MOST = 200_000
_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")


def look(directories: Mapping[str, Path], mounts: Path = Path("/proc/self/mountinfo")) -> Iterator[Finding]:
    """At all of them; `mounts` is the kernel's table."""
    usable = {}
    for name, path in directories.items():
        finding = _rights(name, path)
        yield finding
        if finding.level is Level.GOOD:  # of the others nothing more can be said
            usable[name] = path
    for name, path in usable.items():
        yield from _room(name, path)
    if state := usable.get("state"):
        yield from _secrecy(state)
        yield from _state_disk(state, Mounts(mounts))
    if inbox := usable.get("inbox"):
        yield from _inbox(inbox, usable, mounts)


def _inbox(inbox: Path, usable: Mapping[str, Path], mounts: Path) -> Iterator[Finding]:
    for name in ("archive", "failed"):
        if name in usable:
            yield _move(inbox, name, usable[name])
    for folder in _mounts_of(inbox, mounts):
        yield _events(folder, Mounts(mounts))
    yield _watches(inbox)


def _rights(name: str, path: Path) -> Finding:
    if not path.exists():
        above = next(parent for parent in path.parents if parent.exists())
        if os.access(above, os.W_OK | os.X_OK):
            return note("directory", f"{name}: {path} is not there yet", "The daemon makes it at its start.")
        return error("directory", f"{name}: {path} is not there and cannot be made", whose(above))
    if not path.is_dir():
        return error("directory", f"{name}: {path} is no directory", f"Name another one in directories.{name}.")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return error("directory", f"{name}: {path} cannot be read and written", whose(path))
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return error("directory", f"{name}: {path} is on a read-only file system", "Mount it for writing.")
    return good("directory", f"{name}: {path} can be read and written")


def _secrecy(state: Path) -> Iterator[Finding]:
    found = state.stat()
    if found.st_mode & stat.S_IRWXO:
        yield warning("state_open", f"{state} is open to everybody", f"chmod o= {state}: it says what you have and do.")
    if found.st_uid != os.geteuid():
        yield note(
            "user", f"{state} belongs to another user (uid {found.st_uid})", "Look as that one: rights may differ."
        )


def _room(name: str, path: Path) -> Iterator[Finding]:
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    words, hint = f"{name}: {free / 1e9:.1f} GB are free", f"Make room where {path} lies."
    if free < TOO_LITTLE:
        yield error("room", words, f"{hint} With none left the daemon waits.")
    elif free < LITTLE:
        yield warning("room", words, hint)
    else:
        yield good("room", words)
    if found.f_files and found.f_favail < _LITTLE_FILES:
        yield warning("files_left", f"{name}: only {found.f_favail} more files can be made there", hint)


def _state_disk(state: Path, mounts: Mounts) -> Iterator[Finding]:
    device = state.stat().st_dev
    if mounts.is_remote(device):
        kind = mounts.kind(device)
        hint = "Put directories.state on a local disk: neither the lock nor the database is safe on a share."
        yield error("state_remote", f"state: {state} is on {kind}", hint)


def _move(inbox: Path, name: str, target: Path) -> Finding:
    """By the daemon's own way of moving: a second name, then the first one is removed."""
    probe = f".gsvrd-doctor-{os.getpid()}"
    try:
        with _Probe(inbox / probe):
            os.link(inbox / probe, target / probe)
            (target / probe).unlink()
    except OSError as trouble:
        if trouble.errno in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            hint = "It works, by copying: have both on one file system where that can be, for large videos."
            return warning("move", f"inbox and {name} are on two file systems, or one without hard links", hint)
        return error("move", f"a file cannot be moved from inbox to {name}: {trouble.strerror}", whose(target))
    return good("move", f"inbox and {name} are on one file system")


class _Probe:
    """A file that is there while the block lasts. EXCL: a link that somebody put there is not followed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)


def _mounts_of(inbox: Path, table: Path) -> Iterator[Path]:
    """The inbox, and what is mounted below it."""
    yield inbox
    real = os.path.realpath(inbox)
    try:
        lines = table.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return
    points = {line.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape") for line in lines}
    yield from (Path(point) for point in sorted(points) if point.startswith(f"{real}/"))


def _events(folder: Path, mounts: Mounts) -> Finding:
    """Whether a new file in `folder` raises its event."""
    device = folder.stat().st_dev
    if mounts.is_remote(device):
        hint = "Nothing to do: the inbox is polled (intake.poll_interval), as changes by others raise no events there."
        return note("events", f"events: {folder} is on {mounts.kind(device)}", hint)
    try:
        seen = _raises_event(folder)
    except OSError as trouble:
        return warning("events", f"events: {folder} cannot be watched: {trouble.strerror}", _remedy(trouble.errno))
    if not seen:
        hint = "New videos are found by scans (intake.rescan_interval); intake.watch: polling makes that quicker."
        return warning("events", f"events: a new file in {folder} raised none", hint)
    return good("events", f"events: {folder} tells of new files")


def _remedy(number: int | None) -> str:
    match number:
        case errno.EMFILE:
            return "Raise fs.inotify.max_user_instances (sysctl)."
        case errno.ENOSPC:
            return "Raise fs.inotify.max_user_watches (sysctl)."
        case _:
            return "The inbox is polled instead; give the directory to the daemon's user if it should not be."


def _raises_event(folder: Path) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = _checked(libc.inotify_init1(os.O_CLOEXEC | _IN_NONBLOCK))
    try:
        _checked(libc.inotify_add_watch(fd, os.fsencode(folder), _IN_CREATE))
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        with _Probe(folder / f".gsvrd-doctor-{os.getpid()}"):
            return bool(poller.poll(PROBE_S * 1000))
    finally:
        os.close(fd)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _watches(inbox: Path) -> Finding:
    """A folder is a watch; the limit is the user's, so others may use it, too."""
    folders = sum(1 for _, _ in zip(os.walk(inbox), range(_FOLDERS_MOST), strict=False))
    try:
        limit = int(_WATCHES.read_text())
    except (OSError, ValueError):
        return note("watches", "the limit of inotify is not known here")
    words = f"the inbox has {folders} folders, and {limit} may be watched"
    if folders > limit * 0.8:
        hint = f"sysctl fs.inotify.max_user_watches={max(2 * folders, 65536)}; what has no watch is found by scans."
        return warning("watches", words, hint)
    return good("watches", words)
