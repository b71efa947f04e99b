"""CheckpointManager: snapshots of the state database, and the way back to one.

A snapshot is one file in `state/checkpoints/`, or in a directory that a batch has wished for. It says itself what it is, in
the row `snapshot` of its own table `service`: what lies beside a file can be lost, mixed up or be of another moment than the
file; this is committed, checked and renamed with it. A snapshot was whole when it was made: the copy is checked before it
gets its name, so that damage of the database never pushes out the good snapshots one by one.

`create` may run in any thread and process while the daemon writes; the daemon does it in a thread of its own
(`daemon.snapshots`), `gsvrctl checkpoint` by hand. `restore` is only for the holder of the daemon's lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import msgspec

from gsvrd import __version__
from gsvrd.errors import StateError
from gsvrd.store.reading import Reading
from gsvrd.store.replacing import Restored, give_to_owner, make_private, sync_file, sync_folder
from gsvrd.store.replacing import replace as put_in_place
from gsvrd.store.schema import SCHEMA_VERSION

FOLDER = "checkpoints"
"""Beside the database."""
SNAPSHOT = "snapshot"
"""The service row in which a snapshot says what it is."""

_PART = ".part"
_NAME = re.compile(r"([0-9]{6,})-[0-9]{8}T[0-9]{6}Z\.db")
_STRAY = re.compile(f"{_NAME.pattern}{re.escape(_PART)}.*")
_PATIENCE_S = 10.0
_STEP_PAGES = 256
"""A megabyte."""
_SET = "INSERT OR REPLACE INTO service (key, value, changed_at) VALUES (?, ?, ?)"

ROOM_BYTES = 16 << 20
"""So much must be free beside a routine snapshot."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is known of a snapshot without reading all of it."""

    name: str
    at: float
    """UTC epoch seconds."""
    reason: str
    routine: bool
    """Made by the clock or the count, not for an occasion."""
    schema: int
    """Version of the tables."""
    program: str
    """Version of the program that made it."""
    configuration: str
    """Fingerprint of the configuration of the daemon that ran last; empty when none had."""
    counts: dict[str, int]
    """Tasks by state."""
    size_bytes: int = 0
    """Of the file."""
    problem: str = ""
    """Why it cannot be restored, as far as a look at it tells."""


class CheckpointManager:
    """The snapshots of one database. Every method may be called from any thread; processes wait for each other."""

    def __init__(self, database: Path, wall: Callable[[], float] = time.time, folder: Path | None = None) -> None:
        """`folder` is another place than beside the database; it is made when there is something to put into it."""
        self._database = database
        self._wall = wall
        self.folder = folder or database.parent / FOLDER

    # -- making ------------------------------------------------------------------------------------------------------

    def create(self, reason: str, *, routine: bool = False) -> Checkpoint:
        """Make a snapshot of what is committed now; it is on disk when this returns.

        Raises `StateError` when the database is damaged, `sqlite3.Error` and `OSError` as the disk does; then nothing
        is left behind.
        """
        with self._alone():
            self._sweep()
            if routine:
                self._leave_room()
            now = self._wall()
            name = f"{self._next_number():06}-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}.db"
            part = self.folder / f"{name}{_PART}"
            try:
                made = self._copy(part, Checkpoint(name, now, reason, routine, 0, __version__, "", {}))
                sync_file(part)
            except BaseException:
                self._sweep()
                raise
            os.rename(part, self.folder / name)
            sync_folder(self.folder)
        return replace(made, size_bytes=(self.folder / name).stat().st_size)

    def _leave_room(self) -> None:
        """A routine snapshot must not take the last room from the database it is a copy of."""
        disk = os.statvfs(self.folder)
        needed = 2 * self._database.stat().st_size + ROOM_BYTES
        if disk.f_bavail * disk.f_frsize < needed:
            raise OSError(errno.ENOSPC, f"there are fewer than {needed} bytes free", str(self.folder))

    def _copy(self, part: Path, checkpoint: Checkpoint) -> Checkpoint:
        make_private(part)
        with closing(sqlite3.connect(part)) as target:
            # What protects a half-written copy is that it has no name yet.
            target.execute("PRAGMA synchronous = OFF")
            with closing(_connect(self._database, "rw")) as source:
                # One look at the source for all of the copy: else, after each step, anybody's commit would make it
                # begin again; and a database that is locked would be waited for without an end.
                source.execute("BEGIN")
                source.execute("SELECT 1 FROM sqlite_schema").fetchone()
                # Brought to disk bit by bit: all at once, the daemon's commits would have to wait behind it.
                source.backup(target, pages=_STEP_PAGES, progress=lambda *_: sync_file(part))
            target.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
            _check(target, self._database)
            return _sign(target, checkpoint)

    def prune(self, keep: int) -> tuple[str, ...]:
        """Delete all but the newest `keep` routine ones and the newest `keep` of the others; returns what is gone.

        Counted apart, so that the routine of an hour does not push out what somebody made on purpose.
        """
        with self._alone():
            known = self.list()
            kinds = ([found.name for found in known if found.routine is routine] for routine in (True, False))
            gone = tuple(name for kind in kinds for name in kind[keep:])
            for name in gone:
                (self.folder / name).unlink()
        return gone

    # -- looking -----------------------------------------------------------------------------------------------------

    def list(self) -> tuple[Checkpoint, ...]:
        """Newest first, those with a problem too."""
        return tuple(self._look(self.folder / name) for name in sorted(self._names(), key=_order, reverse=True))

    def verify(self, name: str) -> Checkpoint:
        """Read all of a snapshot; raises `StateError` when it is absent, damaged or of a newer version."""
        path = self.folder / name
        if name not in self._names():
            raise StateError(f"there is no snapshot {name!r} in {self.folder}", "See `gsvrctl checkpoint list`.")
        checkpoint = self._look(path)
        if checkpoint.problem:
            raise StateError(f"the snapshot {name} cannot be used: {checkpoint.problem}", "Take another one.")
        with closing(_connect(path, "ro&immutable=1")) as conn:
            _check(conn, path)
        return checkpoint

    def newest_good(self) -> Checkpoint | None:
        """The newest one that can be restored."""
        for checkpoint in self.list():
            try:
                return self.verify(checkpoint.name)
            except (StateError, OSError):
                continue
        return None

    def stamp(self) -> object:
        """Something that is another one after a commit of anybody's. Costs two looks at the directory."""
        return tuple(_written_at(Path(f"{self._database}{part}")) for part in ("", "-wal"))

    def _look(self, path: Path) -> Checkpoint:
        try:
            with closing(_connect(path, "ro&immutable=1")) as conn:
                signed = _signed(conn, path)
        except (sqlite3.Error, msgspec.MsgspecError, OSError) as error:
            # Counted as routine: it must not stay for ever.
            return Checkpoint(
                path.name, _written_at(path) / 1e9, "", True, 0, "", "", {}, problem=f"it is damaged ({error})"
            )
        problem = (
            f"it is of version {signed.schema}; this gsvrd knows version {SCHEMA_VERSION}"
            if signed.schema > SCHEMA_VERSION
            else ""
        )
        return replace(signed, problem=problem)

    # -- the way back ------------------------------------------------------------------------------------------------

    def restore(self, name: str, why: str, word: str = "replaced") -> Restored:
        """Put a copy of a snapshot in the database's place; the database is set aside, never deleted.

        Only for the holder of the daemon's lock. Raises `StateError` as `verify` does, `OSError` and `sqlite3.Error`;
        then the database is as it was.
        """
        with self._alone():
            checkpoint = self.verify(name)
            return put_in_place(self._database, self.folder / name, checkpoint.at, word, why, self._wall())

    # -- the folder --------------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time makes, removes or restores."""
        if not self.folder.is_dir():
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            give_to_owner(self.folder, self.folder.parent)
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _sweep(self) -> None:
        """Remove what interrupted copies left, and nothing of anybody else's: nobody else makes one now."""
        for name in os.listdir(self.folder):
            if _STRAY.fullmatch(name):
                (self.folder / name).unlink()

    def _names(self) -> tuple[str, ...]:
        try:
            return tuple(name for name in os.listdir(self.folder) if _NAME.fullmatch(name))
        except FileNotFoundError:
            return ()

    def _next_number(self) -> int:
        """Numbers go up whatever the clock does: they, not times, say which is newest."""
        return max((_order(name)[0] for name in self._names()), default=0) + 1


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode={mode}", uri=True, timeout=_PATIENCE_S)


def _check(conn: sqlite3.Connection, path: Path) -> None:
    try:
        found = [str(row[0]) for row in conn.execute("PRAGMA quick_check(3)")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    if found != ["ok"]:
        raise StateError(
            f"{path} is damaged: {'; '.join(found)}", "Restart the daemon: it restores the newest snapshot."
        )


def _sign(conn: sqlite3.Connection, checkpoint: Checkpoint) -> Checkpoint:
    reading = Reading(conn)
    (schema,) = conn.execute("PRAGMA user_version").fetchone()
    daemon = reading.service("daemon") or {}
    signed = replace(checkpoint, schema=schema, configuration=daemon.get("configuration", ""), counts=reading.counts())
    with conn:
        conn.execute(_SET, (SNAPSHOT, msgspec.json.encode(signed).decode(), signed.at))
    return signed


def _signed(conn: sqlite3.Connection, path: Path) -> Checkpoint:
    found = msgspec.convert(Reading(conn).service(SNAPSHOT), Checkpoint)
    (schema,) = conn.execute("PRAGMA user_version").fetchone()
    return replace(found, name=path.name, schema=schema, size_bytes=path.stat().st_size)


def _order(name: str) -> tuple[int, str]:
    return int(name.partition("-")[0]), name


def _written_at(path: Path) -> int:
    """Nanoseconds; 0 when it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
