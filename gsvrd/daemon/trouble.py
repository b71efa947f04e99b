"""Trouble of the machine: a full or read-only disk. Nothing new is started until a trial shows that it is over.

Told by `Attempts` and `Places` when work failed for no fault of its video. A trial writes a small file into each directory
the work needs, in the filing thread; a reason that no trial can see (too many open files) passes with the first trial.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsvrd.clock import Clock
from gsvrd.daemon.doors import Doors
from gsvrd.daemon.filing import Filing

DOOR = "machine"
TRIAL_S = 3.0
"""Between two trials."""
_TRIAL_BYTES = 16 * 1024
PLACE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO})
"""What an operation fails with when the place is at fault and not the file."""


@dataclass(slots=True)
class Trouble:
    """Keeps one door closed while the machine is in trouble."""

    folders: Sequence[Path]
    filing: Filing
    doors: Doors
    clock: Clock
    later: Callable[[float, Callable[[], None]], None]
    _on_trial: bool = False

    def met(self, reason: str) -> None:
        """Work could not be done for this reason."""
        self.doors.close(DOOR, reason, self.clock.wall())
        if not self._on_trial:
            self._on_trial = True
            self.later(TRIAL_S, self._try)

    def _try(self) -> None:
        self.filing.submit(lambda: _write_trials(self.folders), self._passed, self._failed)

    def _passed(self, _: object) -> None:
        self._on_trial = False
        self.doors.open(DOOR)

    def _failed(self, error: OSError) -> None:
        self._on_trial = False
        self.met(f"{error.filename} cannot be written: {error.strerror}")


def _write_trials(folders: Sequence[Path]) -> None:
    for folder in folders:
        try:
            _write_trial(folder)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error


def _write_trial(folder: Path) -> None:
    trial = folder / ".gsvrd-trial"
    try:
        with trial.open("wb") as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with contextlib.suppress(FileNotFoundError):
            trial.unlink()
