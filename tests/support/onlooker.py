"""Somebody who watches a daemon from outside: each report at the moment it appears, each dead daemon's descendants.

Used by storms, kill points and power cuts. It asks nothing of the daemon and does not trust its word.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import psutil
import yaml

from support.illustrated import PICTURES, is_whole

MARK = "FAMILY_OF"
"""Stands in the environment of a daemon and of all that descends from it, so that orphans can be told."""
GIVEN_UP_S = 30.0
_LOOK_EVERY_S = 0.002
_PICTURE = re.compile(r"!\[[^]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Head:
    """What a report says it is about."""

    source: str
    sha256: str


def read_head(path: Path) -> Head | None:
    """None when the file is not a whole report with all its pictures."""
    try:
        data = path.read_bytes()
        facts = yaml.safe_load(data.decode().split("---\n")[1])
        head = Head(facts["source"], facts["sha256"])
        names = [unquote(target) for target in _PICTURE.findall(data.decode())]
        pictures = {Path(name).name: (path.parent / name).read_bytes() for name in names}
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return None
    return head if is_whole(data, head.sha256) and pictures == PICTURES else None


@dataclass(slots=True)
class Onlooker:
    """Looks at `reports` all the time, in a thread of its own."""

    reports: Path
    seen: dict[str, Head | None] = field(default_factory=dict)
    """By path; None is one that was torn when it was seen first."""
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def torn(self) -> list[str]:
        """Reports that were not whole at first sight."""
        return sorted(path for path, head in self.seen.items() if head is None)

    @contextmanager
    def watching(self) -> Iterator[Onlooker]:
        """Look until the block ends."""
        thread = threading.Thread(target=self._watch, name="onlooker", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def look(self) -> None:
        """See what is new."""
        for folder in _folders(self.reports):
            for path in _reports_in(folder):
                if path not in self.seen:
                    self.seen[path] = read_head(Path(path))

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            self.look()


def _folders(root: Path) -> list[str]:
    found = [str(root)]
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        found += [entry.path for entry in entries if not entry.name.endswith(".assets") and entry.is_dir()]
    return [folder for folder in found if "/.gsvrd-" not in folder]


def _reports_in(folder: str) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        # Summaries of batches are no reports.
        names = [entry for entry in entries if entry.name.endswith(".md") and "summary" not in entry.name]
        return [entry.path for entry in names]
    return []


# -- families ------------------------------------------------------------------------------------------------------------


def family(mark: str) -> list[psutil.Process]:
    """All living processes whose environment bears this mark, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_family(mark: str) -> None:
    """Leave none behind."""
    for process in family(mark):
        signal_one(process, signal.SIGKILL)


def signal_one(process: psutil.Process, number: signal.Signals) -> None:
    """One that is gone already is no matter."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@dataclass(slots=True)
class Mourners:
    """For each daemon that died: how long its descendants outlived it, each watched by a thread."""

    outlived_s: list[float] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def mourn(self, mark: str) -> None:
        """The daemon of this mark is dead from now on."""
        thread = threading.Thread(target=self._wait_for, args=(mark, time.monotonic()), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _wait_for(self, mark: str, died_at: float) -> None:
        gone_at = died_at
        while (living := family(mark)) and gone_at - died_at < GIVEN_UP_S:
            while any(_lives(process) for process in living) and gone_at - died_at < GIVEN_UP_S:
                time.sleep(0.01)
                gone_at = time.monotonic()
        self.outlived_s.append(gone_at - died_at)

    def finish(self) -> list[float]:
        """Seconds for each, when all have been watched to the end."""
        for thread in self._threads:
            thread.join()
        return self.outlived_s
