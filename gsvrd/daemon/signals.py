"""Signals as data: the handlers only note what came; the loop asks.

One wake-up descriptor serves signals, watchdog's thread, the filing thread and other processes that poke: it becomes
readable, the loop wakes and looks at everything.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from collections import deque
from pathlib import Path
from types import FrameType

EARLY = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
"""Would end a daemon that has not got so far yet; `gsvrd run` blocks them first of all, and `Signals` takes what waited."""
WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Wake:
    """A descriptor that is readable after somebody called `poke`; safe from any thread and from signal handlers."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """For selectors."""
        return self._read

    @property
    def write_fd(self) -> int:
        """For `signal.set_wakeup_fd`."""
        return self._write

    def poke(self) -> None:
        """Wake the loop; a full pipe means that it will wake anyway."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def clear(self) -> None:
        """Take all pokes."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._read, 4096)) == 4096:
                pass

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read)
        os.close(self._write)


class Doorbell:
    """A FIFO in the state directory: other processes write a byte after they have changed the queue."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        # Open for writing too, so that it never reads as ended when the last visitor leaves.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """For selectors."""
        return self._fd

    def clear(self) -> None:
        """Take all rings."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._fd, 4096)) == 4096:
                pass

    def close(self) -> None:
        """Stop listening; the FIFO stays, and nobody listens."""
        os.close(self._fd)


def ring(path: Path) -> bool:
    """Ring a daemon's doorbell; False when nobody listens."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with contextlib.suppress(BlockingIOError):
        os.write(fd, b"\0")
    os.close(fd)
    return True


class Signals:
    """Notes the daemon's signals from the moment it is made."""

    def __init__(self, wake: Wake) -> None:
        self._noted: deque[signal.Signals] = deque()
        for number in WATCHED:
            signal.signal(number, self._note)
        signal.set_wakeup_fd(wake.write_fd, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)
        # A stuck loop can be asked where it is stuck, also by systemd's watchdog, whose ABRT faulthandler answers.
        faulthandler.register(signal.SIGQUIT, chain=False)
        faulthandler.enable()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted.append(signal.Signals(number))

    def take(self) -> list[signal.Signals]:
        """What came since the last call, in order."""
        taken = []
        while self._noted:
            taken.append(self._noted.popleft())
        return taken

    def restore(self) -> None:
        """Give the signals back."""
        signal.set_wakeup_fd(-1)
        faulthandler.unregister(signal.SIGQUIT)
        for number in WATCHED:
            signal.signal(number, signal.SIG_DFL)
