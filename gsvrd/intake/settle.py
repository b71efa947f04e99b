"""Is anybody still writing this file? One look at it, and the waiting room for those that are not ready.

Called by the intake on the daemon's main thread, so a call here is a handful of system calls, and none waits.
Unstable means "not yet", never "rejected".

A read lease is the exact test on a local disk: the kernel refuses it while anyone has the file open for writing, also
when that writer has been silent for long. It is held for microseconds. A writer that opens the file in between waits
that long (one that asked not to wait is told EWOULDBLOCK), and the holder gets SIGIO, which `Intake.start` ignores.
Leases need the file's owner or CAP_LEASE; where there is none, size and time must stand still.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import os
from collections.abc import Iterator
from enum import Enum, auto

from gsvrd.intake.identity import FILE_FLAGS
from gsvrd.intake.names import CONTROL_FILE, PLACE_HOLDER

FIRST_LOOK_S = 0.25
LAST_LOOK_S = 30.0
ROOM = 50_000
"""How many files may wait at a time; the others are met again by the next scan."""


class Reading(Enum):
    """What one look at a regular file found."""

    READY = auto()
    """No writer has it open."""
    WRITING = auto()
    """A writer has it open, or a download manager is not done with it. Standing still proves nothing."""
    UNPROVEN = auto()
    """No lease to be had, or no bytes yet: it must stand still."""
    LINKED = auto()
    """Another name points at it: perhaps for a moment (link, then unlink), perhaps for good."""
    UNREADABLE = auto()
    """We may not open it; whoever dropped it may be about to change that."""
    HINDERED = auto()
    """The machine did not let us look: too many open files, an I/O error. Says nothing about the file."""
    GONE = auto()
    """It vanished, or something else is in its place."""


def read(
    folder: int, name: bytes, seen: os.stat_result, *, leases: bool, hard_links: bool
) -> tuple[Reading, os.stat_result]:
    """Look at the regular file that `seen` found under `name`. Returns the state and a stat taken under the lease."""
    try:
        descriptor = os.open(name, FILE_FLAGS, dir_fd=folder)
    except PermissionError:
        return Reading.UNREADABLE, seen
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ESTALE):
            return Reading.GONE, seen
        return Reading.HINDERED, seen
    try:
        free = _lease(descriptor) if leases else None
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)  # gives the lease back, if there is one
    if (found.st_dev, found.st_ino) != (seen.st_dev, seen.st_ino):
        return Reading.GONE, found
    if free is False or _exists(folder, name + CONTROL_FILE):
        return Reading.WRITING, found
    if found.st_size == 0 and _exists(folder, name + PLACE_HOLDER):
        return Reading.WRITING, found
    return _judge(free, found, hard_links=hard_links), found


def _judge(free: bool | None, found: os.stat_result, *, hard_links: bool) -> Reading:
    if found.st_nlink > 1 and not hard_links:
        return Reading.LINKED
    if free is None or found.st_size == 0:
        return Reading.UNPROVEN
    return Reading.READY


def _lease(descriptor: int) -> bool | None:
    """True: no writer; False: a writer; None: leases do not work here (not the owner, not this file system)."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return False if error.errno == errno.EAGAIN else None
    return True


def _exists(folder: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


class _Waiting:
    __slots__ = ("distance", "due", "key", "listed", "since")

    def __init__(self, key: int, now: float) -> None:
        self.key = key
        self.since = now
        self.distance = FIRST_LOOK_S
        self.due = now
        self.listed = float("inf")  # the earliest entry for it in the heap


class WaitingRoom:
    """Files that are not ready, and when to look again. Times are monotonic seconds; `key` stands for an identity."""

    def __init__(self, settle_s: float, room: int = ROOM) -> None:
        """`room`: how many may wait."""
        self._settle_s = settle_s
        self._room = room
        self._waiting: dict[bytes, _Waiting] = {}
        self._heap: list[tuple[float, bytes]] = []
        self.is_crowded = False
        """Whether somebody was turned away since it was last set to False."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def look_later(self, path: bytes, key: int, now: float) -> None:
        """`path` is being written: look again, at growing distances (its closing may also raise an event)."""
        waiting = self._enter(path, key, now)
        if waiting is not None:
            waiting.since = now
            waiting.due = now + waiting.distance
            waiting.distance = min(waiting.distance * 2, LAST_LOOK_S)
            self._list(path, waiting)

    def has_stood_still(self, path: bytes, key: int, now: float) -> bool:
        """Whether `path` has had the identity `key` for the whole settle time; if not, it goes on waiting."""
        waiting = self._enter(path, key, now)
        if waiting is None:
            return False
        waiting.due = waiting.since + self._settle_s
        if now >= waiting.due:
            return True
        self._list(path, waiting)
        return False

    def leave(self, path: bytes) -> None:
        """Forget `path`."""
        self._waiting.pop(path, None)

    def due(self, now: float) -> Iterator[bytes]:
        """The paths whose time has come, each once; looking at one puts it back, if it must wait on."""
        while self._heap and self._heap[0][0] <= now:
            listed, path = heapq.heappop(self._heap)
            waiting = self._waiting.get(path)
            if waiting is None or waiting.listed != listed:
                continue
            waiting.listed = float("inf")
            if waiting.due <= now:
                yield path
            else:
                self._list(path, waiting)

    @property
    def next_due(self) -> float | None:
        """When the next look is due."""
        return self._heap[0][0] if self._heap else None

    def _enter(self, path: bytes, key: int, now: float) -> _Waiting | None:
        waiting = self._waiting.get(path)
        if waiting is None or waiting.key != key:
            if waiting is None and len(self._waiting) >= self._room:
                self.is_crowded = True
                return None
            listed = waiting.listed if waiting is not None else float("inf")
            waiting = self._waiting[path] = _Waiting(key, now)
            waiting.listed = listed
        return waiting

    def _list(self, path: bytes, waiting: _Waiting) -> None:
        if waiting.due < waiting.listed:
            waiting.listed = waiting.due
            heapq.heappush(self._heap, (waiting.due, path))
