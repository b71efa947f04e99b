from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from support.mounts import needs_mounts, tiny

from gsvrd.cli import doctor_places, doctor_state
from gsvrd.cli.finding import Finding, Level
from gsvrd.config.places import NAMES
from gsvrd.store.opening import open_database
from gsvrd.store.schema import SCHEMA_VERSION


@pytest.fixture
def directories(tmp_path: Path) -> dict[str, Path]:
    for name in NAMES:
        (tmp_path / name).mkdir(mode=0o750)
    return {name: tmp_path / name for name in NAMES}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The kernel's table of mounts, with nothing in it."""
    (tmp_path / "mountinfo").touch()
    return tmp_path / "mountinfo"


def mount(table: Path, point: Path, kind: str) -> None:
    device = point.stat().st_dev
    with table.open("a") as lines:
        lines.write(f"1 1 {os.major(device)}:{os.minor(device)} / {point} rw - {kind} none rw\n")


def of(code: str, findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.code == code]


# Directories


def test_with_all_in_order_nothing_is_wrong_and_no_probe_is_left(
    directories: dict[str, Path], table: Path, tmp_path: Path
) -> None:
    findings = list(doctor_places.look(directories, table))
    assert [one for one in findings if one.level > Level.GOOD and one.code != "room"] == []
    assert [one.level for one in of("move", findings)] == [Level.GOOD, Level.GOOD]
    assert [one.level for one in of("events", findings)] == [Level.GOOD]
    assert [path for path in tmp_path.rglob("*") if not path.is_dir() and path != table] == []


@needs_mounts
def test_each_mount_below_the_inbox_is_tried_and_one_of_another_file_system_is_told(
    directories: dict[str, Path],
) -> None:
    inner = directories["inbox"] / "share of lessons"
    with tiny(inner, "1m"), tiny(directories["archive"], "1m"):
        findings = list(doctor_places.look(directories))
    told = of("events", findings)
    assert [one.level for one in told] == [Level.GOOD, Level.GOOD]
    assert str(inner) in told[1].message
    assert [one.level for one in of("move", findings)] == [Level.WARNING, Level.GOOD]
    assert [one.level for one in of("room", findings) if one.message.startswith("archive")] == [Level.ERROR]
    assert list(directories["inbox"].iterdir()) == [inner]


def test_on_a_share_polling_is_told_and_the_state_must_not_be_there(directories: dict[str, Path], table: Path) -> None:
    mount(table, directories["inbox"], "nfs4")
    findings = list(doctor_places.look(directories, table))
    told = of("events", findings)
    assert {one.level for one in told} == {Level.NOTE}
    assert "nfs4" in told[0].message
    assert [one.level for one in of("state_remote", findings)] == [Level.ERROR]


def test_events_that_do_not_come_are_a_warning(
    directories: dict[str, Path], table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_places, "_IN_CREATE", 0x200)  # it waits for a deletion, which comes after its patience
    monkeypatch.setattr(doctor_places, "PROBE_S", 0.05)
    [found] = of("events", list(doctor_places.look(directories, table)))
    assert found.level is Level.WARNING
    assert "raised none" in found.message


def test_what_is_not_there_is_a_note_where_it_can_be_made_and_an_error_where_not(
    directories: dict[str, Path], table: Path
) -> None:
    directories["archive"].rmdir()
    directories["failed"] = directories["failed"] / "file" / "below"
    (directories["failed"].parent.parent / "file").touch()
    findings = of("directory", list(doctor_places.look(directories, table)))
    assert [one.level for one in findings] == [Level.GOOD, Level.GOOD, Level.NOTE, Level.ERROR, Level.GOOD]
    assert findings[3].hint


def test_a_state_directory_that_is_open_to_all_is_a_warning(directories: dict[str, Path], table: Path) -> None:
    directories["state"].chmod(0o755)
    assert [one.level for one in of("state_open", list(doctor_places.look(directories, table)))] == [Level.WARNING]


def test_little_room_is_a_warning_and_none_an_error(
    directories: dict[str, Path], table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound, level in (("LITTLE", Level.WARNING), ("TOO_LITTLE", Level.ERROR)):
        monkeypatch.setattr(doctor_places, bound, 1 << 60)
        assert {one.level for one in of("room", list(doctor_places.look(directories, table)))} == {level}


def test_too_few_watches_are_a_warning(
    directories: dict[str, Path], table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "limit").write_text("4\n")
    monkeypatch.setattr(doctor_places, "_WATCHES", tmp_path / "limit")
    assert [one.level for one in of("watches", list(doctor_places.look(directories, table)))] == [Level.GOOD]
    for number in range(3):
        (directories["inbox"] / str(number)).mkdir()
    assert [one.level for one in of("watches", list(doctor_places.look(directories, table)))] == [Level.WARNING]


# The database


@pytest.fixture
def database(tmp_path: Path) -> Path:
    conn = open_database(tmp_path / "gsvrd.db", create=True)
    conn.close()
    return tmp_path / "gsvrd.db"


def test_a_whole_database_is_good_and_looked_at_without_a_trace(database: Path, tmp_path: Path) -> None:
    before = [(path.name, path.read_bytes()) for path in tmp_path.iterdir()]
    findings = list(doctor_state.look(database, None))
    assert [one.level for one in of("database", findings)] == [Level.GOOD]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == before


def test_what_is_in_the_log_of_a_database_that_is_in_use_counts(database: Path) -> None:
    with open_database(database, create=False) as conn:
        conn.execute('INSERT INTO service VALUES (\'doors\', \'{"machine": {"reason": "the disk is full"}}\', 1.0)')
        conn.commit()
        assert [one.message for one in of("door", list(doctor_state.look(database, 1)))] == [
            "nothing new starts (machine): the disk is full"
        ]
    conn.close()


def test_a_damaged_database_is_an_error(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(8 * 4096))
    [found] = of("database", list(doctor_state.look(database, None)))
    assert found.level is Level.ERROR
    assert "checkpoint" in found.hint


def test_damage_that_nobody_has_met_yet_is_looked_for(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(36)  # how many pages are free, in the header
        file.write(b"\0\0\0\5")
    [found] = of("database", list(doctor_state.look(database, None)))
    assert found.level is Level.ERROR
    assert "is damaged" in found.message


def test_a_database_of_a_newer_version_is_an_error_and_of_an_older_one_a_note(database: Path) -> None:
    for version, level in ((SCHEMA_VERSION + 1, Level.ERROR), (SCHEMA_VERSION - 1, Level.NOTE)):
        conn = sqlite3.connect(database)
        conn.execute(f"PRAGMA user_version = {version}")
        conn.close()
        assert [one.level for one in of("database", list(doctor_state.look(database, None)))] == [level]


def test_a_clock_that_is_behind_the_daemons_last_word_is_a_warning(database: Path) -> None:
    conn = sqlite3.connect(database)
    conn.execute("INSERT INTO service VALUES ('run', '{}', 9e9)")
    conn.commit()
    conn.close()
    assert [one.level for one in of("clock_back", list(doctor_state.look(database, None)))] == [Level.WARNING]
