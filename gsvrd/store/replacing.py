"""Puts another database in the place of the one there is: nothing is deleted, and a crash anywhere leaves one of the two.

The new one is made whole as `<name>.restoring.part`. From the moment it is called `<name>.restoring` the change is
decided; `finish` carries it out, and does so at the next start if the process died. Called by `checkpoints` (an
operator's restore) and `opening` (damage), always by the holder of the daemon's lock. Decides nothing itself.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gsvrd.store.schema import migrate

RESTORED = "restored"
"""The service row in which a database says that it was put in another one's place."""

_PARTS = ("", "-wal", "-shm")
_SET = "INSERT OR REPLACE INTO service (key, value, changed_at) VALUES (?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put in place of what."""

    at: float
    """UTC epoch seconds."""
    snapshot: str
    """Name of the snapshot; empty when there was none and the database is a fresh one."""
    snapshot_at: float
    """When the snapshot was made: what came later, the database does not know. 0 for a fresh one."""
    aside: str
    """Name, beside the database, under which the former one lies; empty when there was no file."""
    why: str
    reconciled_at: float | None = None
    """When a daemon made up for what the snapshot does not know; None as long as none has."""


def replace(database: Path, snapshot: Path | None, snapshot_at: float, word: str, why: str, now: float) -> Restored:
    """Put a copy of `snapshot`, or a fresh database, in place of `database`, which is set aside as `….<word>-<UTC>`.

    Raises `OSError` and `sqlite3.Error`, `database` untouched.
    """
    exists = any(os.path.lexists(f"{database}{part}") for part in _PARTS)
    aside = _free_name(database, word, now) if exists else ""
    restored = Restored(now, snapshot.name if snapshot else "", snapshot_at, aside, why)
    part = database.with_name(f"{database.name}.restoring.part")
    try:
        _make(part, snapshot, restored)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    os.rename(part, _ready(database))
    sync_folder(database.parent)
    finish(database)
    return restored


def finish(database: Path) -> None:
    """Carry out what was decided; does nothing when nothing was. May be repeated."""
    ready = _ready(database)
    if not ready.exists():
        return
    with closing(sqlite3.connect(ready)) as conn:
        (row,) = conn.execute("SELECT value FROM service WHERE key = ?", (RESTORED,)).fetchone()
    aside = msgspec.json.decode(row, type=Restored).aside
    for part in _PARTS:
        old = Path(f"{database}{part}")
        if os.path.lexists(old):
            os.rename(old, database.with_name(f"{aside}{part}"))
    os.rename(ready, database)
    sync_folder(database.parent)


def make_private(path: Path) -> None:
    """A new, empty file that only the owner of its folder can read; root's commands work for the daemon's user."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    give_to_owner(path, path.parent)


def give_to_owner(path: Path, folder: Path) -> None:
    """Whose `folder` is, that one's `path` shall be, where we are root."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Bring a file to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _ready(database: Path) -> Path:
    return database.with_name(f"{database.name}.restoring")


def _make(part: Path, snapshot: Path | None, restored: Restored) -> None:
    part.unlink(missing_ok=True)
    make_private(part)
    if snapshot is not None:
        shutil.copyfile(snapshot, part)
    with closing(sqlite3.connect(part)) as conn:
        if snapshot is None:
            migrate(conn)
        with conn:
            conn.execute(_SET, (RESTORED, msgspec.json.encode(restored).decode(), restored.at))
    sync_file(part)


def _free_name(database: Path, word: str, now: float) -> str:
    """Two in one second do not get in each other's way."""
    name = f"{database.name}.{word}-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    number = 1
    while any(os.path.lexists(database.with_name(f"{_numbered(name, number)}{part}")) for part in _PARTS):
        number += 1
    return _numbered(name, number)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"
