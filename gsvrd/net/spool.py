"""What was fetched of one link, in a folder of its own: the bytes, and beside them what is needed to go on after a crash.

Used by `fetch` alone. Whatever dies when: what is said to be complete is on the disk, and what is not is gone on with only
if the server says that it still is the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gsvrd.errors import ErrorKind, TaskError

_VIDEO, _ABOUT = "video", "about.json"


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of it."""

    link: str
    """SHA-256 of the address: the address itself may hold a key."""
    validator: str = ""
    """The strong ETag or date that `If-Range` wants; without one nothing can be gone on with."""
    length: int | None = None
    """Bytes of the whole, where the server has said it."""
    name: str = ""
    """What the server calls the file."""
    is_complete: bool = False


class Spool:
    """One download."""

    def __init__(self, folder: Path, url: str) -> None:
        """Makes the folder. What lies there of another address is thrown away. Raises `TaskError` (PLACE)."""
        self._folder = folder
        self.path = folder / _VIDEO
        self._fresh = About(hashlib.sha256(url.encode()).hexdigest())
        self.about = self._fresh
        with self._on_disk():
            folder.mkdir(parents=True, exist_ok=True)
        self.about = self._read()
        if self.about is self._fresh:
            self.clear()

    @property
    def size(self) -> int:
        """Bytes that are there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left to fetch."""
        return self.about.is_complete and self.about.length == self.size

    @property
    def resumes_at(self) -> int:
        """Where to go on; 0 to begin anew."""
        return self.size if self.about.validator and not self.about.is_complete else 0

    def free_bytes(self) -> int:
        """Room on the disk."""
        with self._on_disk():
            found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def clear(self) -> None:
        """Begin anew."""
        self.about = self._fresh
        for name in (_ABOUT, _VIDEO):  # in this order: bytes without a word about them are never gone on with
            (self._folder / name).unlink(missing_ok=True)

    def begin(self, validator: str, length: int | None, name: str) -> None:
        """A new answer: what was there is thrown away."""
        self.clear()
        self._note(msgspec.structs.replace(self._fresh, validator=validator, length=length, name=name))

    def write(self, block: bytes) -> None:
        """Add a block. On a full disk what was fetched is given up, since it takes the room; raises `TaskError` (PLACE)."""
        with self._on_disk(), open(self.path, "ab", buffering=0) as file:
            left = memoryview(block)
            while left:
                left = left[file.write(left) :]

    def finish(self) -> None:
        """All of it is there, and stays there when the power fails."""
        with self._on_disk():
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        self._note(msgspec.structs.replace(self.about, length=self.size, is_complete=True))

    def _read(self) -> About:
        try:
            found = msgspec.json.decode((self._folder / _ABOUT).read_bytes(), type=About)
        except (FileNotFoundError, msgspec.DecodeError):
            return self._fresh
        return found if found.link == self._fresh.link else self._fresh

    def _note(self, about: About) -> None:
        with self._on_disk():
            part = self._folder / f"{_ABOUT}.part"
            with open(part, "wb") as file:
                file.write(msgspec.json.encode(about))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self._folder / _ABOUT)
        self.about = about

    @contextlib.contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):
                self.clear()
            hint = "Free space on the disk of the state directory, or mend it; it is fetched again by itself."
            message = f"what a link leads to cannot be kept: {error.strerror}"
            raise TaskError(ErrorKind.PLACE, message, hint, repr(error)) from error
