"""The daemon and its database, for `gsvrctl doctor`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from gsvrd import __version__
from gsvrd.cli.finding import Finding, error, good, note, warning
from gsvrd.store.health import Health, examine
from gsvrd.store.schema import SCHEMA_VERSION

_SET_BACK_S = 60.0
_DAMAGED = "Start the daemon again: it sets the file aside and restores the newest snapshot (gsvrctl checkpoint list)."


def look(database: Path, pid: int | None) -> Iterator[Finding]:
    """`pid` is the daemon's, None when it is down."""
    yield good("daemon", f"the daemon runs (pid {pid})") if pid else note("daemon", "the daemon does not run")
    if not database.exists():
        yield note("database", f"there is no database at {database} yet", "The daemon makes it at its first start.")
        return
    try:
        health = examine(database)
    except sqlite3.Error as trouble:
        yield error("database", f"the database {database} cannot be read: {trouble}", _remedy(trouble))
        return
    yield _database(database, health)
    yield from _history(health)
    if pid:
        yield from _running(health)


def _remedy(trouble: sqlite3.Error) -> str:
    is_damaged = getattr(trouble, "sqlite_errorcode", 0) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return _DAMAGED if is_damaged else "Look as the daemon's user; `fuser` names who has it locked."


def _database(database: Path, health: Health) -> Finding:
    if health.damage:
        return error("database", f"the database {database} is damaged: {health.damage}", _DAMAGED)
    if health.version > SCHEMA_VERSION:
        words = f"the database is of version {health.version}, this gsvrd knows {SCHEMA_VERSION}"
        return error("database", words, "Install the gsvrd that wrote it, or a newer one.")
    if health.version < SCHEMA_VERSION:
        words = f"the database is of version {health.version}; the next start brings it to {SCHEMA_VERSION}"
        return note("database", words, "Nothing to do: a snapshot is made before.")
    return good("database", f"the database is whole ({database.stat().st_size / 1e6:.1f} MB)")


def _history(health: Health) -> Iterator[Finding]:
    if health.last_sign_at is not None and health.last_sign_at > time.time() + _SET_BACK_S:
        hint = "Set the clock right (timedatectl)."
        yield warning("clock_back", "the clock is behind what the daemon wrote last", hint)
    if health.restored:
        words = f"the database was replaced by a snapshot before the last start: {health.restored['why']}"
        yield warning("restored", words, "See gsvrctl status; look for a disk or memory that fails.")
    if health.snapshots:
        words = f"the last snapshot failed: {health.snapshots['reason']}"
        yield warning("snapshots", words, "See that state/checkpoints has room and can be written.")


def _running(health: Health) -> Iterator[Finding]:
    version = health.daemon.get("version")
    if version != __version__:
        words = f"the daemon is gsvrd {version}, the commands are {__version__}"
        yield warning("daemon_version", words, "Restart the daemon.")
    for name, door in health.doors.items():
        yield error("door", f"nothing new starts ({name}): {door['reason']}", "Mend that; it goes on by itself.")
