"""Snapshots, the way back, and what happens to a database that is damaged: real files, real SQLite."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from sqlite_utils import Database

from gsvrd import __version__
from gsvrd.clock import ManualClock
from gsvrd.errors import StateBusyError, StateDiskError, StateError
from gsvrd.model import NewTask
from gsvrd.store import checkpoints, opening
from gsvrd.store.checkpoints import CheckpointManager
from gsvrd.store.migrations import MIGRATIONS
from gsvrd.store.opening import last_restored, open_at_start, open_database
from gsvrd.store.queue import TaskQueue
from gsvrd.store.schema import SCHEMA_VERSION

NOW = 1_800_000_000.0
STAMP = "20270115T080000Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "gsvrd.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    path.parent.mkdir()
    opened = open_database(path, create=True)
    yield opened
    opened.close()


@pytest.fixture
def queue(db: sqlite3.Connection, clock: ManualClock) -> TaskQueue:
    return TaskQueue(db, clock)


@pytest.fixture
def manager(db: sqlite3.Connection, path: Path) -> CheckpointManager:
    return CheckpointManager(path, lambda: NOW)


def add(queue: TaskQueue, *names: str) -> None:
    for name in names:
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
        queue.add(NewTask(name.encode(), name, 1, number, 1, 1))
    queue.commit()


def names_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as conn:
        return {row[0] for row in conn.execute("SELECT name FROM tasks")}


def files(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if entry.is_file()}


def overwrite(path: Path, offset: int, size: int = 8192) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * size)


# -- making --------------------------------------------------------------------------------------------------------------


def test_a_snapshot_holds_what_was_committed_and_nothing_later(
    queue: TaskQueue, manager: CheckpointManager, path: Path
) -> None:
    add(queue, "a.mp4")
    made = manager.create("by hand")
    add(queue, "b.mp4")
    assert names_in(manager.folder / made.name) == {"a.mp4"}
    assert names_in(path) == {"a.mp4", "b.mp4"}


def test_a_snapshot_says_itself_what_it_is(queue: TaskQueue, manager: CheckpointManager, path: Path) -> None:
    add(queue, "a.mp4", "b.mp4")
    queue.set_service("daemon", {"configuration": "abcdef012345"})
    queue.commit()
    made = manager.create("by hand")
    assert manager.list() == (made,)
    assert (made.at, made.reason, made.routine) == (NOW, "by hand", False)
    assert (made.schema, made.program, made.configuration) == (SCHEMA_VERSION, __version__, "abcdef012345")
    assert (made.counts["pending"], made.counts["completed"]) == (2, 0)
    assert made.size_bytes == (manager.folder / made.name).stat().st_size


def test_snapshots_are_private_single_files_in_a_private_folder(queue: TaskQueue, manager: CheckpointManager) -> None:
    add(queue, "a.mp4")
    made = manager.create("by hand")
    assert files(manager.folder) == {made.name}
    assert manager.folder.stat().st_mode & 0o777 == 0o700
    assert (manager.folder / made.name).stat().st_mode & 0o777 == 0o600


def test_the_newest_is_the_one_made_last_even_when_the_clock_was_set_back(db: sqlite3.Connection, path: Path) -> None:
    first = CheckpointManager(path, lambda: NOW).create("first")
    second = CheckpointManager(path, lambda: NOW - 86_400).create("second")
    assert [found.name for found in CheckpointManager(path).list()] == [second.name, first.name]


def test_a_snapshot_of_a_damaged_database_is_not_kept_and_pushes_no_good_one_out(
    queue: TaskQueue, manager: CheckpointManager, db: sqlite3.Connection, path: Path
) -> None:
    add(queue, *(f"{number}.mp4" for number in range(500)))
    good = manager.create("by hand")
    db.close()
    overwrite(path, 16384)
    with pytest.raises(StateError, match="damaged"):
        manager.create("by hand")
    assert files(manager.folder) == {good.name}


def test_writers_do_not_make_a_copy_begin_again(
    queue: TaskQueue, manager: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(queue, *(f"{number}.mp4" for number in range(2000)))
    monkeypatch.setattr(checkpoints, "_STEP_PAGES", 8)
    steps = []

    def write_between_steps(_: Path) -> None:
        steps.append(1)
        assert len(steps) < 1000, "it begins again and again"
        add(queue, f"later-{len(steps)}.mp4")

    monkeypatch.setattr(checkpoints, "sync_file", write_between_steps)
    made = manager.create("by hand")
    assert len(steps) > 10
    assert manager.verify(made.name).counts["pending"] == 2000


def test_a_copy_waits_for_a_locked_database_and_not_for_ever(
    queue: TaskQueue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_PATIENCE_S", 0.05)
    with locked(path, queue), pytest.raises(sqlite3.OperationalError, match="locked"):
        CheckpointManager(path).create("by hand")
    assert files(path.parent / "checkpoints") == set()


def test_what_an_interrupted_copy_left_is_removed_by_the_next(queue: TaskQueue, manager: CheckpointManager) -> None:
    manager.create("by hand")
    for stray in ("000002-20260101T000000Z.db.part", "000002-20260101T000000Z.db.part-journal"):
        (manager.folder / stray).write_bytes(b"half")
    made = manager.create("by hand")
    assert len(files(manager.folder)) == 2
    assert made.name in files(manager.folder)


def test_the_stamp_changes_with_every_commit_and_not_by_itself(queue: TaskQueue, manager: CheckpointManager) -> None:
    add(queue, "a.mp4")
    before = manager.stamp()
    manager.create("by hand")
    assert manager.stamp() == before
    os.utime(manager._database.with_name("gsvrd.db-wal"), ns=(0, 0))  # else within one tick of the file system's clock
    before = manager.stamp()
    add(queue, "b.mp4")
    assert manager.stamp() != before


# -- keeping -------------------------------------------------------------------------------------------------------------


def test_the_newest_are_kept_and_those_made_on_purpose_are_counted_apart(
    db: sqlite3.Connection, manager: CheckpointManager
) -> None:
    on_purpose = manager.create("by hand")
    routine = [manager.create("tasks", routine=True) for _ in range(4)]
    assert manager.prune(2) == (routine[1].name, routine[0].name)
    assert files(manager.folder) == {on_purpose.name, routine[2].name, routine[3].name}


# -- checking ------------------------------------------------------------------------------------------------------------


def test_a_damaged_snapshot_is_found_and_passed_over(queue: TaskQueue, manager: CheckpointManager) -> None:
    add(queue, *(f"{number}.mp4" for number in range(500)))
    good, bad, worse = (manager.create("by hand") for _ in range(3))
    overwrite(manager.folder / bad.name, 16384)
    (manager.folder / worse.name).write_bytes(b"no database at all")
    assert manager.verify(good.name).name == good.name
    for name in (bad.name, worse.name):
        with pytest.raises(StateError, match="damaged"):
            manager.verify(name)
    newest = manager.newest_good()
    assert newest is not None
    assert newest.name == good.name


def test_a_snapshot_of_a_newer_version_is_refused(queue: TaskQueue, manager: CheckpointManager, path: Path) -> None:
    made = manager.create("by hand")
    with closing(sqlite3.connect(manager.folder / made.name)) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    assert f"version {SCHEMA_VERSION + 1}" in manager.list()[0].problem
    before = path.read_bytes()
    with pytest.raises(StateError, match=f"version {SCHEMA_VERSION + 1}"):
        manager.restore(made.name, "test")
    assert path.read_bytes() == before
    assert manager.newest_good() is None


@pytest.mark.parametrize("name", ["../gsvrd.db", "gsvrd.db", "000009-20260101T000000Z.db", ""])
def test_only_a_snapshot_can_be_named(manager: CheckpointManager, name: str) -> None:
    manager.create("by hand")
    with pytest.raises(StateError, match="no snapshot"):
        manager.verify(name)


# -- the way back --------------------------------------------------------------------------------------------------------


def test_a_restored_database_is_the_snapshot_and_the_former_one_lies_beside_it_whole(
    queue: TaskQueue, db: sqlite3.Connection, manager: CheckpointManager, path: Path
) -> None:
    add(queue, "a.mp4")
    made = manager.create("by hand")
    add(queue, "b.mp4")
    # Not closed, as after a kill: what was written last is in the log alone.
    restored = manager.restore(made.name, "by hand")
    db.close()
    assert restored.aside == f"gsvrd.db.replaced-{STAMP}"
    assert (restored.snapshot, restored.snapshot_at) == (made.name, NOW)
    assert names_in(path.with_name(restored.aside)) == {"a.mp4", "b.mp4"}
    again = open_database(path, create=True)
    assert names_in(path) == {"a.mp4"}
    assert last_restored(again) == restored
    again.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_restores_in_one_second_both_set_their_database_aside(
    queue: TaskQueue, db: sqlite3.Connection, manager: CheckpointManager, path: Path
) -> None:
    db.close()
    made = manager.create("by hand")
    asides = [manager.restore(made.name, "by hand").aside for _ in range(3)]
    assert asides == [f"gsvrd.db.replaced-{STAMP}", f"gsvrd.db.replaced-{STAMP}-2", f"gsvrd.db.replaced-{STAMP}-3"]
    assert set(asides) <= files(path.parent)


@pytest.mark.parametrize("survives", range(1, 6))
def test_a_restore_that_dies_anywhere_is_finished_at_the_next_start(
    queue: TaskQueue,
    db: sqlite3.Connection,
    manager: CheckpointManager,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    survives: int,
) -> None:
    add(queue, "a.mp4")
    made = manager.create("by hand")
    add(queue, "b.mp4")
    renames = dying(os.rename, survives)
    monkeypatch.setattr(os, "rename", renames)
    with suppress(ZeroDivisionError):
        manager.restore(made.name, "by hand")
    monkeypatch.setattr(os, "rename", renames.real)
    again = open_at_start(path, NOW)
    assert names_in(path) == {"a.mp4"}
    restored = last_restored(again)
    assert restored is not None
    again.close()
    assert names_in(path.with_name(restored.aside)) == {"a.mp4", "b.mp4"}


def test_a_restore_that_cannot_be_made_leaves_everything_as_it_was(
    queue: TaskQueue, manager: CheckpointManager, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(queue, "a.mp4")
    made = manager.create("by hand")
    before = files(path.parent)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        manager.restore(made.name, "by hand")
    assert files(path.parent) == before


# -- opening at start ----------------------------------------------------------------------------------------------------


def broken_page(path: Path) -> None:
    overwrite(path, 16384)


def no_header(path: Path) -> None:
    overwrite(path, 0, 100)


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def gone(path: Path) -> None:
    path.unlink()


def a_few_bytes(path: Path) -> None:
    path.write_bytes(b"SQLi")


def other_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("DROP TABLE tasks")


DAMAGES = [broken_page, no_header, half, empty, gone, a_few_bytes, other_tables]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_set_aside_and_the_newest_good_snapshot_restored(
    queue: TaskQueue, db: sqlite3.Connection, manager: CheckpointManager, path: Path, damage: Callable[[Path], None]
) -> None:
    add(queue, *(f"{number}.mp4" for number in range(500)))
    made = manager.create("by hand")
    add(queue, "later.mp4")
    db.close()
    damage(path)
    harmed = path.read_bytes() if path.exists() else None
    again = open_at_start(path, NOW)
    restored = last_restored(again)
    assert len(names_in(path)) == 500
    assert restored is not None
    assert (restored.snapshot, restored.reconciled_at) == (made.name, None)
    assert restored.why
    if harmed is None:
        assert restored.aside == ""
    else:
        assert restored.aside == f"gsvrd.db.damaged-{STAMP}"
        assert path.with_name(restored.aside).read_bytes() == harmed
    again.close()


@pytest.mark.parametrize("damage", [broken_page, no_header, half, a_few_bytes, other_tables])
def test_without_a_snapshot_a_fresh_database_takes_its_place(
    queue: TaskQueue, db: sqlite3.Connection, path: Path, damage: Callable[[Path], None]
) -> None:
    add(queue, *(f"{number}.mp4" for number in range(500)))
    db.close()
    damage(path)
    again = open_at_start(path, NOW)
    restored = last_restored(again)
    assert restored is not None
    assert restored.snapshot == ""
    assert names_in(path) == set()
    assert again.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    again.close()
    assert restored.aside in files(path.parent)


def test_the_log_of_a_file_that_was_emptied_is_kept_for_whoever_can_read_it(
    queue: TaskQueue, db: sqlite3.Connection, path: Path
) -> None:
    """SQLite would take the file for a new database and delete the log."""
    add(queue, "a.mp4")
    log = path.with_name("gsvrd.db-wal").read_bytes()
    assert log
    os.truncate(path, 0)
    again = open_at_start(path, NOW)
    restored = last_restored(again)
    again.close()
    assert restored is not None
    assert path.with_name(f"{restored.aside}-wal").read_bytes() == log


@pytest.mark.parametrize("damage", [gone, empty])
def test_only_the_daemon_makes_a_new_database_where_there_was_one(
    queue: TaskQueue, db: sqlite3.Connection, manager: CheckpointManager, path: Path, damage: Callable[[Path], None]
) -> None:
    """Else a command of an operator would hide the loss from it."""
    manager.create("by hand")
    db.close()
    damage(path)
    before = files(path.parent)
    with pytest.raises(StateError, match="damaged"):
        open_database(path, create=True)
    assert files(path.parent) == before


def test_a_first_start_and_a_start_that_died_at_once_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "gsvrd.db"
    for _ in range(2):
        opened = open_at_start(path, NOW)
        assert last_restored(opened) is None
        opened.close()
        path.write_bytes(b"")
    assert files(tmp_path) == {"gsvrd.db"}


def test_a_healthy_database_is_opened_as_it_is(queue: TaskQueue, db: sqlite3.Connection, path: Path) -> None:
    add(queue, "a.mp4")
    again = open_at_start(path, NOW)
    assert last_restored(again) is None
    assert names_in(path) == {"a.mp4"}
    again.close()


def test_a_newer_version_is_refused_at_start_and_nothing_is_touched(
    queue: TaskQueue, manager: CheckpointManager, db: sqlite3.Connection, path: Path
) -> None:
    manager.create("by hand")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match=f"version {SCHEMA_VERSION + 1}"):
        open_at_start(path, NOW)
    assert path.read_bytes() == before
    assert files(path.parent) == {"gsvrd.db"}


def test_a_locked_database_is_waited_for_and_is_no_damage(
    queue: TaskQueue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BUSY_S", 0.05)
    with locked(path, queue), pytest.raises(StateBusyError, match="locked"):
        open_at_start(path, NOW)
    assert not [name for name in files(path.parent) if "damaged" in name]


def test_an_older_version_is_copied_before_it_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "gsvrd.db"
    old = sqlite3.connect(path)
    MIGRATIONS.apply(Database(old, execute_plugins=False), stop_before="ledger_tables")
    old.execute("PRAGMA user_version = 1")
    old.close()
    open_at_start(path, NOW).close()
    (made,) = CheckpointManager(path).list()
    assert (made.schema, made.reason, made.problem) == (1, f"before migration to {SCHEMA_VERSION}", "")
    CheckpointManager(path).restore(made.name, "by hand")
    again = open_database(path, create=True)
    assert again.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    again.close()


def test_no_migration_without_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gsvrd.db"
    old = sqlite3.connect(path)
    MIGRATIONS.apply(Database(old, execute_plugins=False), stop_before="ledger_tables")
    old.execute("PRAGMA user_version = 1")
    old.close()
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(StateDiskError, match="cannot be used"):
        open_at_start(path, NOW)
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA user_version").fetchone() == (1,)


def test_what_restored_means_is_plain_json_for_gsvrctl(
    queue: TaskQueue, manager: CheckpointManager, path: Path
) -> None:
    made = manager.create("by hand")
    manager.restore(made.name, "by hand")
    with closing(sqlite3.connect(path)) as conn:
        row = json.loads(conn.execute("SELECT value FROM service WHERE key = 'restored'").fetchone()[0])
    assert (row["snapshot"], row["why"], row["at"]) == (made.name, "by hand", NOW)


# -- helpers -------------------------------------------------------------------------------------------------------------


class dying:  # noqa: N801 (reads like the function it stands for)
    """A function that works so many times and then ends the process, as far as a test can."""

    def __init__(self, real: Callable[..., object], times: int) -> None:
        self.real, self.left = real, times

    def __call__(self, *values: object, **more: object) -> object:
        if not self.left:
            raise ZeroDivisionError
        self.left -= 1
        return self.real(*values, **more)


@contextmanager
def locked(path: Path, queue: TaskQueue) -> Iterator[None]:
    """Another program holds the database for itself alone."""
    queue._conn.close()
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA locking_mode = EXCLUSIVE")
        conn.execute("BEGIN EXCLUSIVE")
        yield
        conn.rollback()


def test_a_first_page_alone_with_snapshots_beside_it_is_no_database(
    queue: TaskQueue, manager: CheckpointManager, db: sqlite3.Connection, path: Path
) -> None:
    """All but one page was in the log, and the log is gone."""
    add(queue, "a.mp4")
    manager.create("by hand")
    db.close()
    for part in ("", "-wal", "-shm"):
        Path(f"{path}{part}").unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    again = open_at_start(path, NOW)
    restored = last_restored(again)
    again.close()
    assert restored is not None
    assert names_in(path) == {"a.mp4"}
