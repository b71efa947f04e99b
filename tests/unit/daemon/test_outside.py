"""Videos outside the inbox that a list has named: when they are queued, and what happens to them where they stay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.house import House
from support.intakes import put
from support.waiting import eventually

from gsvrd.clock import ManualClock
from gsvrd.config.models import Config, Intake
from gsvrd.daemon import outside
from gsvrd.daemon.filing import Filing
from gsvrd.daemon.outside import LAST_LOOK_S, Awaited, Outside
from gsvrd.daemon.placing import Places
from gsvrd.daemon.supervisor import Timers
from gsvrd.intake import settle
from gsvrd.store.tracing import OUTSIDE

SETTLE_S = 2.0


class Shelf:
    """The loop, and a directory of `intake.roots`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        (root / "other.mp4").touch()
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.accepted: list[str] = []
        self.rows: list[tuple[str, object]] = []
        self.outside = Outside(
            settle_s=SETTLE_S,
            filing=Filing(lambda: None),
            clock=self.clock,
            later=self.timers.later,
            accept=lambda video, _: self.accepted.append(video.name),
            remember=lambda key, value: self.rows.append((key, value)),
        )

    def expect(self, name: str) -> None:
        self.outside.expect(Awaited(os.fsencode(self.root / name), os.fsencode(self.root), 1, "{}"))

    def pass_time(self, seconds: float = 0.0) -> list[str]:
        """And what was accepted until then."""
        self.clock.advance(seconds)
        self.timers.run_due()
        eventually(lambda: self.outside.filing.collect() or not self.outside.filing.open)
        return self.accepted


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path / "shelf")
    yield made
    made.outside.filing.close()


def test_a_video_that_is_still_being_written_waits_until_it_is_not(shelf: Shelf) -> None:
    put(shelf.root / "a.mp4", b"half")
    shelf.expect("a.mp4")
    with (shelf.root / "a.mp4").open("ab") as file:
        assert shelf.pass_time() == []
        assert shelf.rows == [(OUTSIDE, {str(shelf.root / "a.mp4"): "it is still being written"})]
        file.write(b" and the rest")
        assert shelf.pass_time(SETTLE_S) == []
    assert shelf.pass_time(LAST_LOOK_S) == ["a.mp4"]
    assert shelf.rows[-1] == (OUTSIDE, None)


def test_where_nobody_can_tell_it_must_stand_still(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "_lease", lambda _: None)
    put(shelf.root / "a.mp4", b"half")
    shelf.expect("a.mp4")
    assert shelf.pass_time() == []
    (shelf.root / "a.mp4").write_bytes(b"half and more")
    assert shelf.pass_time(SETTLE_S) == []
    assert shelf.pass_time(SETTLE_S) == ["a.mp4"]


def test_it_is_on_the_disk_before_it_is_queued(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    put(shelf.root / "a.mp4", b"whole")
    synced.clear()
    shelf.expect("a.mp4")
    assert shelf.pass_time() == ["a.mp4"]
    assert {(shelf.root / "a.mp4").stat().st_ino, shelf.root.stat().st_ino} <= set(synced)


def test_while_the_disk_does_not_take_it_it_waits(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shelf.root / "a.mp4", b"whole")
    with monkeypatch.context() as full:
        full.setattr(outside, "durable", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        shelf.expect("a.mp4")
        assert shelf.pass_time() == []
    assert "cannot be synced" in str(shelf.rows)
    assert shelf.pass_time(LAST_LOOK_S) == ["a.mp4"]


def test_a_directory_that_is_not_mounted_is_waited_for(shelf: Shelf) -> None:
    (shelf.root / "other.mp4").unlink()
    shelf.expect("week 1/a.mp4")
    assert shelf.pass_time() == []
    assert "is its file system mounted?" in str(shelf.rows)
    put(shelf.root / "week 1" / "a.mp4", b"whole")
    assert shelf.pass_time(LAST_LOOK_S) == ["week 1/a.mp4"]


def test_two_batches_may_wait_for_one_video(shelf: Shelf) -> None:
    put(shelf.root / "a.mp4", b"whole")
    for batch in (1, 2):
        shelf.outside.expect(Awaited(os.fsencode(shelf.root / "a.mp4"), os.fsencode(shelf.root), batch, "{}"))
    assert shelf.pass_time() == ["a.mp4", "a.mp4"]
    assert not shelf.outside.awaits(os.fsencode(shelf.root / "a.mp4"))


# -- at its attempt --------------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "home").mkdir()
    (tmp_path / "shelf").mkdir()
    made = House(Config(home=tmp_path / "home", intake=Intake(roots=(str(tmp_path / "shelf"),))))
    yield made
    made.close()
    made.db.close()


def elsewhere(house: House, behaviour: str) -> tuple[int, Path]:
    """A task whose video lies on the shelf."""
    task = house.add(behaviour, "a.mp4")
    path = house.config.roots[0] / "a.mp4"
    (house.config.inbox / "a.mp4").rename(path)
    house.db.execute("UPDATE tasks SET home = 'elsewhere', path = ? WHERE id = ?", (os.fsencode(path), task))
    house.db.commit()
    return task, path


def test_a_video_whose_directory_was_unmounted_meanwhile_waits_and_has_not_failed(house: House) -> None:
    task, path = elsewhere(house, "refuse:not_found")
    path.unlink()
    house.until(lambda: house.outcomes(task) == ["failed"])
    row = house.row(task)
    assert (row["state"], row["spent"]) == ("pending", 0)
    assert "missing or empty" in row["why"]


def test_a_video_that_is_gone_from_a_directory_that_is_there_has_failed(house: House) -> None:
    task, path = elsewhere(house, "refuse:not_found")
    put(path.with_name("other.mp4"), b"another")
    path.unlink()
    house.rest()
    assert house.row(task)["state"] == "failed"


def test_its_failure_record_is_written_though_the_daemon_dies_before_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, path = elsewhere(house, "refuse:unreadable")
    record = house.config.failed / "a.mp4.error.json"
    with monkeypatch.context() as dies:  # right after the failure is on record
        dies.setattr(Places, "give_up", lambda *_, **__: None)
        house.rest()
    assert (house.row(task)["state"], record.exists()) == ("failed", False)
    house.crash()
    house.rest()
    assert record.exists()
    assert path.exists()
    assert [stranded.task.id for stranded in house.queue.stranded()] == []
