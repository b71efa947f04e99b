"""The first steps of a start: the directories, the lock, the look for damage in the database.

Taken by `gsvrd run` before the daemon's rooms are loaded, which takes as long as that look. Imports little for that reason.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from gsvrd.config.models import Config
from gsvrd.daemon.service import Lock
from gsvrd.errors import AccessError, ConfigError
from gsvrd.intake.mounts import Mounts, is_remote
from gsvrd.store.opening import Check

log = structlog.get_logger("gsvrd.beginning")

DATABASE, LOCK = "gsvrd.db", "lock"


class Beginning:
    """Holds the lock until it is closed."""

    def __init__(self, config: Config) -> None:
        """Raises `SetupError`: no home, directories that cannot be used, another daemon."""
        see_home(config)
        _prepare(config)
        warn_of_a_share(config.state)
        self._lock = Lock(config.state / LOCK)
        self._lock.acquire()
        self.check = Check(config.state / DATABASE)

    def close(self) -> None:
        """At the end of the daemon."""
        self._lock.release()


def see_home(config: Config) -> None:
    """Raise `ConfigError` when there is none: a slip of the pen, or a disk that is not mounted. A new home would hide it."""
    if not config.home.is_dir():
        raise ConfigError(
            f"there is no directory {config.home}", "Make it, or name the home with --home or GSVRD_HOME."
        )


def _prepare(config: Config) -> None:
    """Make the directories that are missing and see that all can be used."""
    for path in (config.inbox, config.reports, config.archive, config.failed, config.state):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AccessError(f"{path} cannot be made: {error.strerror}", whose(path)) from error
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise AccessError(f"{path} cannot be read and written", whose(path))


def warn_of_a_share(state: Path, mounts: Mounts | None = None) -> None:
    """Say so in the log when the database lies where other machines may write: there it is slow, and locks may be an
    empty promise. Not refused, since the root of a virtual machine may be such a thing and well.
    """
    kind = (mounts or Mounts()).kind(state.stat().st_dev)
    if is_remote(kind):
        hint = "Put directories.state on a disk of this machine; the other directories may stay."
        log.warning("state_on_a_share", state=str(state), file_system=kind, hint=hint)


def whose(path: Path) -> str:
    """What to do about a directory that belongs to somebody else."""
    return f"Give it to the user the daemon runs as: chown -R {os.getuid()} {path}"
