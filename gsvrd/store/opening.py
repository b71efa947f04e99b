"""How the state database is opened: by everybody with `open_database`, by the daemon at its start with `open_at_start`.

Only the daemon, which holds the lock, looks for damage and mends it: a damaged file is set aside and the newest good
snapshot takes its place, or a fresh database where there is none. A file that is locked, unreadable or of a newer version
is not damaged, and is left alone.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from gsvrd.errors import SetupError, StateBusyError, StateDiskError, StateError
from gsvrd.store.checkpoints import CheckpointManager
from gsvrd.store.replacing import RESTORED, Restored, finish, replace
from gsvrd.store.schema import SCHEMA_VERSION, migrate

BUSY_S = 10.0
"""How long a database that another process has locked is waited for."""

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_CUT_SHORT = sqlite3.SQLITE_IOERR_SHORT_READ
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED_HINT = "Start the daemon: it sets the file aside and restores the newest snapshot."
_MACHINE_HINT = "The file is as it was. Look for a full disk, missing rights or a lost mount, and try again."


def open_database(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the state database at `path`, bringing it up to date when `create` is set.

    Raises `StateBusyError` when another process has it locked, `StateError` when it is damaged, of a newer version,
    cannot be used, or is absent while `create` is not set.
    """
    if not create and not path.exists():
        raise StateError(f"there is no database at {path} yet", "Start the daemon once, or name its home with --home.")
    if why := _missing(path):
        raise StateError(f"the database {path} is damaged: {why}", _DAMAGED_HINT)
    if create and not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC, 0o600))
    with explained(path):
        return _open(path, create=create)


class Check:
    """Looks for damage in a thread, the daemon's lock held: SQLite lets the daemon load what it needs meanwhile."""

    def __init__(self, path: Path) -> None:
        """Finish an interrupted restore of the database at `path`, and begin to look."""
        self.path = path
        self._why = ""
        self._error: SetupError | None = None
        self._thread = threading.Thread(target=self._run, name="gsvrd-check")
        self._thread.start()

    def why(self) -> str:
        """What is wrong with the file, in words; empty when nothing is. Raises `SetupError` for other trouble."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._why

    def _run(self) -> None:
        try:
            with explained(self.path):
                finish(self.path)
                self._why = _damage(self.path)
        except SetupError as error:
            self._error = error


def open_at_start(path: Path, now: float, check: Check | None = None) -> sqlite3.Connection:
    """The daemon's way, its lock held: the same as `open_database(create=True)`, with damage mended before.

    `check` is one of `path` that was begun earlier. What was put in place of what is said by `last_restored`. Raises as
    `open_database` does; for damage only when it cannot be mended, because of a full disk for instance.
    """
    if why := (check or Check(path)).why():
        with explained(path):
            _mend(path, why, now)
    return open_database(path, create=True)


def last_restored(conn: sqlite3.Connection) -> Restored | None:
    """What was put in place of what before this start; None when nothing was."""
    row = conn.execute("SELECT value FROM service WHERE key = ?", (RESTORED,)).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=Restored | None)


def _open(path: Path, *, create: bool) -> sqlite3.Connection:
    conn = sqlite3.connect(path, timeout=BUSY_S)
    try:
        return _prepared(conn, path, create=create)
    except BaseException:
        conn.close()
        raise


def _prepared(conn: sqlite3.Connection, path: Path, *, create: bool) -> sqlite3.Connection:
    version = conn.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StateError(
            f"the database {path} is of version {version}; this gsvrd knows version {SCHEMA_VERSION}",
            "Install the gsvrd that wrote it, or a newer one.",
        )
    if create:
        conn.execute("PRAGMA journal_mode = WAL")
        if version < SCHEMA_VERSION:
            if version:
                CheckpointManager(path).create(f"before migration to {SCHEMA_VERSION}")
            migrate(conn)
    # An acknowledged row survives a power cut. Group commit by turn makes it cheap.
    conn.execute("PRAGMA synchronous = FULL")
    return conn


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What SQLite and the system say, in our words."""
    try:
        yield
    except sqlite3.Error as error:
        if _code(error) & 0xFF in _BUSY:
            raise StateBusyError(
                f"the database {path} is locked by another process", "End that one (`fuser` names it) and start again."
            ) from error
        if _is_damage(error):
            raise StateError(f"the database {path} is corrupt: {error}", _DAMAGED_HINT) from error
        raise StateDiskError(f"the database {path} cannot be used: {error}", _MACHINE_HINT) from error
    except OSError as error:
        raise StateDiskError(f"the database {path} cannot be used: {error}", _MACHINE_HINT) from error


# -- damage --------------------------------------------------------------------------------------------------------------


def _damage(path: Path) -> str:
    """What is wrong with the file, in words; empty when nothing is. Raises `sqlite3.Error` for other trouble."""
    if not _size(path):
        return _missing(path)
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_S)) as conn:
            found = _found_by_check(conn)
            if found or conn.execute("PRAGMA user_version").fetchone()[0]:
                return found
        # All there is may be a first page: the rest was in a log that is gone.
        return "the tables were gone" if CheckpointManager(path).list() else ""
    except sqlite3.DatabaseError as error:
        if _is_damage(error):
            return str(error)
        raise


def _missing(path: Path) -> str:
    """Why there should be more than an absent or empty file, in words; empty when this is a first start.

    Asked before SQLite sees it: it takes an empty file for a new database, and deletes the log beside it.
    """
    if _size(path) or not (CheckpointManager(path).list() or _size(Path(f"{path}-wal"))):
        return ""
    return "the file was empty" if path.exists() else "the file was gone"


def _found_by_check(conn: sqlite3.Connection) -> str:
    """At every start, after a clean end too: the file may have come to harm meanwhile.

    With 100,000 finished tasks it takes 0.15 s.
    """
    (version,) = conn.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        return ""  # refused when it is opened; not ours to mend
    found = [str(row[0]) for row in conn.execute("PRAGMA quick_check(3)")]
    if found != ["ok"]:
        return "; ".join(found)
    tables = conn.execute("SELECT count(*) FROM sqlite_schema WHERE name IN ('tasks', 'service')").fetchone()[0]
    return "the tables were gone" if version and tables < 2 else ""


def _mend(path: Path, why: str, now: float) -> None:
    manager = CheckpointManager(path, lambda: now)
    good = manager.newest_good()
    if good is None:
        replace(path, None, 0.0, "damaged", why, now)
    else:
        manager.restore(good.name, why, "damaged")


def _is_damage(error: sqlite3.Error) -> bool:
    return _code(error) & 0xFF in _DAMAGE or _code(error) == _CUT_SHORT


def _code(error: sqlite3.Error) -> int:
    """SQLite's own figure; 0 where it said none."""
    return getattr(error, "sqlite_errorcode", None) or 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
