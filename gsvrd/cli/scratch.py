"""A daemon on directories of its own, and what is dropped into its inbox. For `gsvrd selftest`; touches nothing else.

The directories lie where those of a real configuration lie, on the same file systems: see `find_ground`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from gsvrd import crashpoints
from gsvrd.config.places import NAMES
from gsvrd.store.audit import audit, settled

PATIENCE_S = 60.0
"""Nothing that is waited for may take longer, on however slow a disk."""
WORKERS = 2
_POLL_S = 0.02
_MOUNTS = Path("/proc/self/mountinfo")
_NOT_INHERITED = ("GSVRD_", "GEMINI_", "GOOGLE_", "NOTIFY_", "WATCHDOG_", "CREDENTIALS_")
_BAD = b"This is no video.\n"
_SUBTITLES = b"1\n00:00:00,000 --> 00:00:00,500\nA line that is said.\n"


def find_ground(directory: Path) -> Path:
    """A folder of the same file system as `directory`, which need not exist: beside it if possible, else in it."""
    if not directory.exists():
        return next(parent for parent in directory.parents if parent.exists())
    parent = directory.parent
    if _is_mount_point(directory) or not os.access(parent, os.W_OK | os.X_OK):
        return directory
    return parent


def _is_mount_point(directory: Path) -> bool:
    """Also where the same file system is mounted below itself, which `os.path.ismount` does not see."""
    wanted = os.path.realpath(directory)
    if os.path.ismount(wanted):
        return True
    with contextlib.suppress(OSError):
        lines = _MOUNTS.read_bytes().splitlines()
        return any(
            line.split(b" ", 5)[4].decode("unicode_escape").encode("latin-1") == os.fsencode(wanted) for line in lines
        )
    return False


def until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Wait for `condition`; False when it does not come true in time."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_S)
    return True


def make_clip() -> bytes:
    """A good video of about a thousand bytes, with a picture in it."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as film:
        stream = film.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 64
        for number in range(3):
            picture = np.full((64, 64, 3), 60 * number, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode(None))
    return out.getvalue()


@dataclass(slots=True)
class Scratch:
    """One home, one daemon at a time on it, and all that was ever dropped there."""

    directories: Mapping[str, Path]
    """Absolute, by name; they are made here."""
    clip: bytes
    good: dict[str, bytes] = field(default_factory=dict)
    """Bytes by name below the inbox."""
    bad: dict[str, bytes] = field(default_factory=dict)
    subtitles: dict[str, bytes] = field(default_factory=dict)
    newest: frozenset[str] = frozenset()
    """The names of the last round."""
    process: subprocess.Popen[bytes] | None = None
    _starts: int = 0
    _rounds: int = 0

    def __post_init__(self) -> None:
        """Make the directories and write the configuration."""
        for path in (*self.directories.values(), self.armed):
            path.mkdir(parents=True, exist_ok=True)
        settings = {
            "directories": {name: str(self.directories[name]) for name in NAMES},
            "analyzer": {"use": "local", "local": {"speech": False, "slide_text": False}},
            "workers": {"max": WORKERS},
            "service": {"drain": "0s"},
            "intake": {"poll_interval": "0.2s", "rescan_interval": "1s", "settle": "0.2s"},
            "retry": {"max_retries": 10, "poison_limit": 10},
        }
        (self.home / "config").mkdir()
        (self.home / "config" / "gsvrd.yaml").write_text(json.dumps(settings))

    @property
    def home(self) -> Path:
        """What its configuration and logs lie in; its state does, too."""
        return self.directories["state"].parent

    @property
    def armed(self) -> Path:
        """The folder of `gsvrd.crashpoints`."""
        return self.home / "armed"

    @property
    def database(self) -> Path:
        """Its state database."""
        return self.directories["state"] / "gsvrd.db"

    @property
    def log(self) -> Path:
        """That of the last start."""
        return self.home / f"daemon-{self._starts}.log"

    # -- the daemon --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a daemon and do not wait for it."""
        self._starts += 1
        environ = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        environ |= {"GSVRD_HOME": str(self.home), crashpoints.VARIABLE: str(self.armed)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gsvrd", "run"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                cwd=self.home,
                start_new_session=True,
            )

    def is_dead(self) -> bool:
        """Whether the daemon has ended."""
        return self.process is None or self.process.poll() is not None

    def is_ready(self) -> bool:
        """Whether it has said so."""
        return '"ready"' in self.log.read_text(errors="replace")

    def stop(self) -> int:
        """Ask it to stop; returns its exit code."""
        if self.process is None:
            return 0
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End all that may still run, however; for the end of a trial that went wrong."""
        for process in (*self.workers(), *self.family()):
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait()

    def workers(self) -> list[psutil.Process]:
        """Its workers: they have left its session, its other children have not."""
        if self.process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if _session(child.pid) == child.pid]
        return []

    def family(self) -> list[psutil.Process]:
        """Every process of this home that lives, of any of its daemons."""
        return [process for process in psutil.process_iter() if _home_of(process) == str(self.home)]

    def strays(self) -> list[psutil.Process]:
        """Those that do not belong to the daemon of now."""
        family = self.family()
        if self.is_dead() or self.process is None:
            return family
        with contextlib.suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return [process for process in family if process not in (own, *own.children(recursive=True))]
        return family

    # -- what is dropped ---------------------------------------------------------------------------------------------

    def drop(self) -> None:
        """A good video with subtitles; in a folder a bad one, and the good one once more."""
        self._rounds += 1
        mark = os.urandom(8)
        video = self.clip + struct.pack(">I", 8 + len(mark)) + b"free" + mark  # a box that every reader skips
        number = f"{self._rounds:02}"
        good, bad, subtitles, again = (
            f"{number}.mp4",
            f"week/{number} bad.mp4",
            f"{number}.en.srt",
            f"week/{number}.mp4",
        )
        self.good |= {good: video, again: video}
        self.bad[bad] = _BAD + mark
        self.subtitles[subtitles] = _SUBTITLES + mark
        self.newest = frozenset((good, bad, again))
        for name in (subtitles, good, bad, again):
            self._write(name, (self.good | self.bad | self.subtitles)[name])

    def _write(self, name: str, data: bytes) -> None:
        path = self.directories["inbox"] / name
        path.parent.mkdir(exist_ok=True)
        hidden = path.with_name(f".{path.name}.part")
        hidden.write_bytes(data)
        hidden.rename(path)

    @property
    def expected_reports(self) -> Iterator[tuple[str, str]]:
        """Source and SHA-256 of each report that there should be."""
        return ((name, hashlib.sha256(data).hexdigest()) for name, data in self.good.items())

    def is_settled(self) -> bool:
        """Whether a daemon that is ready has ended everything that was dropped."""
        if not self.is_ready():
            return False
        with contextlib.suppress(sqlite3.OperationalError):  # busy
            return settled(self.database) == len(self.good) + len(self.bad)
        return False

    def is_running_something(self) -> bool:
        """Whether a worker has a task in hand, as the database knows."""
        with contextlib.suppress(sqlite3.OperationalError):
            return any(state == "running" for _, state, _ in audit(self.database).tasks)
        return False


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _home_of(process: psutil.Process) -> Any:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.environ().get("GSVRD_HOME")
    except psutil.Error:
        return None
