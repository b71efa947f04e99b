"""What makes the daemon a good service: one instance a state directory, and words for the service manager.

The protocol of `sd_notify(3)` is one datagram; the libraries for it lose non-Latin text, block, or do not build.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import MutableMapping
from pathlib import Path

from gsvrd.errors import LockHeldError

_PATIENCE_S = 2.0
"""How long a starting daemon waits for one that is just ending."""
_LONGEST_STATUS = 500


class Lock:
    """An flock on `path` for as long as the process lives; inside stands its pid, for people."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._path = path

    def acquire(self, patience_s: float = _PATIENCE_S) -> None:
        """Take it, or raise `LockHeldError`."""
        end = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    self._refuse()
                time.sleep(0.05)
            else:
                break
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def _refuse(self) -> None:
        pid = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
        raise LockHeldError(
            f"another gsvrd (pid {pid or 'unknown'}) runs on {self._path.parent}",
            "Stop it first, or give this one another --home or directories.state.",
        )

    def release(self) -> None:
        """Let it go."""
        os.close(self._fd)


def holder(path: Path) -> int | None:
    """The pid of the daemon that holds the lock at `path`; None when nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdecimal() else None
    else:
        return None
    finally:
        os.close(fd)


class Notifier:
    """Tells systemd how the service is. Without systemd every call does nothing; no call blocks or raises."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        # Taken out, so that no child can speak for us.
        address = environ.pop("NOTIFY_SOCKET", "")
        interval_us = environ.pop("WATCHDOG_USEC", "")
        watched_pid = environ.pop("WATCHDOG_PID", str(os.getpid()))
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = self._open() if address else None
        is_ours = watched_pid == str(os.getpid()) and self._socket is not None
        self.watchdog_s = int(interval_us) / 3e6 if is_ours and interval_us.isdecimal() else None
        """Seconds between two calls of `alive`; None when no watchdog wants them."""
        self._status = ""

    @staticmethod
    def _open() -> socket.socket:
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def _say(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def ready(self) -> None:
        """The queue is open and the first scan under way."""
        self._say("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; repeated words are not sent."""
        text = " ".join(text.split())[:_LONGEST_STATUS]  # a line break would begin another word for the manager
        if text != self._status:
            self._status = text
            self._say(f"STATUS={text}")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, extra_s: float) -> None:
        """The service drains; it may take `extra_s` seconds."""
        self._say("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(extra_s * 1e6)}")

    def alive(self) -> None:
        """The loop has just gone round."""
        self._say("WATCHDOG=1")
