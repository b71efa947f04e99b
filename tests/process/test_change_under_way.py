"""Files that change, move or vanish between the door and the archive: each final form counts once, no other counts.

First one case after the other, then random histories (`GSVRD_MODEL_EXAMPLES=2000` for many new ones). The intake, the
queue, the filing thread and all files are real; workers are threads that pause when the test wants.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as play
from support.intakes import put
from support.people import LIMIT_S, People, histories
from support.street import Street, sha256_of
from support.worlds import World

from gsvrd.config.models import Config
from gsvrd.intake.identity import Identity
from gsvrd.model import TAKEN_AWAY

State = tuple[int, int, int]
"""Inode, size and time: a file in one of its forms, whatever its name."""


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    made = Street(Config(home=tmp_path))
    yield made
    made.close()
    made.db.close()


@pytest.fixture
def video(street: Street) -> Path:
    """It is in the queue."""
    put(street.config.inbox / "a.mp4", b"first form")
    street.look()
    return street.config.inbox / "a.mp4"


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b", and more")


def assert_only(street: Street, archived: str) -> None:
    """There is one report, of what lies in the archive under this name, and no failure."""
    target = street.config.archive / archived
    assert street.hashes() == [sha256_of(target)]
    assert street.files() == {"reports": street.files()["reports"], "archive": [archived]}
    assert [task["sha256"] for task in street.tasks("state = 'completed'")] == street.hashes()


def test_a_file_that_changes_while_it_waits_is_done_once_in_its_final_form(street: Street, video: Path) -> None:
    append(video)
    street.come_to_rest()
    assert street.states() == ["cancelled", "completed"]
    assert_only(street, "a.mp4")


def test_a_change_that_is_known_before_the_task_starts_costs_no_attempt_at_the_old_form(
    street: Street, video: Path
) -> None:
    append(video)
    street.pass_by(5.0)
    street.come_to_rest()
    assert street.states() == ["cancelled", "completed"]
    assert_only(street, "a.mp4")


def test_a_file_that_changes_while_it_is_studied_is_done_again_and_only_that_counts(
    street: Street, video: Path
) -> None:
    street.begin()
    append(video)
    street.pass_by(5.0)
    street.end()
    assert street.states() == ["cancelled", "pending"]
    street.come_to_rest()
    assert_only(street, "a.mp4")
    assert street.outcomes(1) == ["cancelled"]
    assert "changed" in street.tasks()[0]["why"]


def test_a_file_that_is_replaced_while_it_is_studied_counts_once(street: Street, video: Path) -> None:
    put(video.with_suffix(".part"), b"another one")
    street.begin()
    os.rename(video.with_suffix(".part"), video)
    street.end()
    street.come_to_rest()
    assert sha256_of(street.config.archive / "a.mp4") in street.hashes()
    assert "inbox" not in street.files()
    assert "failed" not in street.files()


@pytest.mark.parametrize("known", [True, False])
def test_a_file_renamed_while_it_waits_is_done_once_under_its_new_name(
    street: Street, video: Path, known: bool
) -> None:
    os.rename(video, video.with_name("b.mp4"))
    if known:
        street.pass_by(5.0)
    street.begin()
    street.end()
    street.come_to_rest()
    assert street.states() == ["completed"]
    assert_only(street, "b.mp4")


@pytest.mark.parametrize("known", [True, False])
def test_a_file_renamed_while_it_is_studied_is_done_once_and_archived_under_its_new_name(
    street: Street, video: Path, known: bool
) -> None:
    street.begin()
    os.rename(video, video.with_name("b.mp4"))
    if known:
        street.pass_by(5.0)
    street.end()
    street.come_to_rest()
    assert street.states() == ["completed"]
    assert_only(street, "b.mp4")


@pytest.mark.parametrize("known", [True, False])
def test_a_tree_renamed_while_its_videos_wait_and_run_is_done_once(street: Street, known: bool) -> None:
    for number in range(3):
        put(street.config.inbox / f"term/week/{number}.mp4", b"video %d" % number)
    street.look()
    street.begin()
    os.rename(street.config.inbox / "term", street.config.inbox / "spring")
    if known:
        street.pass_by(5.0)
    street.end()
    street.come_to_rest()
    assert street.states() == ["completed"] * 3
    assert street.files()["archive"] == [f"spring/week/{number}.mp4" for number in range(3)]
    assert len(street.hashes()) == 3
    assert "failed" not in street.files()


def test_a_file_deleted_while_it_waits_is_gone_and_frightens_nobody_with_a_record(street: Street, video: Path) -> None:
    video.unlink()
    street.come_to_rest()
    assert street.states() == ["cancelled"]
    assert street.files() == {}
    assert street.tasks()[0]["why"] == TAKEN_AWAY


def test_a_file_that_is_out_for_a_while_is_done_once_when_it_is_back(street: Street, video: Path) -> None:
    put(street.config.inbox / "stays.mp4.part")
    os.rename(video, street.config.home / "out.mp4")
    street.pass_by(5.0)
    os.rename(street.config.home / "out.mp4", video)
    street.come_to_rest()
    assert street.states() == ["completed"]
    assert street.files()["archive"] == ["a.mp4"]


def test_a_file_that_comes_back_after_it_was_gone_is_done(street: Street, video: Path) -> None:
    os.rename(video, street.config.home / "out.mp4")
    street.come_to_rest()
    os.rename(street.config.home / "out.mp4", video)
    street.come_to_rest()
    assert street.states() == ["cancelled", "completed"]
    assert street.files()["archive"] == ["a.mp4"]


@pytest.mark.parametrize("data", [b"first form", b"other bytes"])
def test_a_name_that_is_dropped_again_after_completion_is_a_new_video(street: Street, video: Path, data: bytes) -> None:
    street.come_to_rest()
    put(video, data)
    street.come_to_rest()
    assert street.states() == ["completed", "completed"]
    assert street.files()["archive"] == ["a-2.mp4", "a.mp4"]
    assert len(street.hashes()) == 2


def test_an_archived_file_that_is_moved_back_is_done_again(street: Street, video: Path) -> None:
    street.begin()
    os.rename(video, video.with_name("b.mp4"))
    street.pass_by(5.0)
    street.end()
    street.come_to_rest()
    os.rename(street.config.archive / "b.mp4", video.with_name("b.mp4"))
    street.come_to_rest()
    assert street.states() == ["completed", "completed"]
    assert street.files()["archive"] == ["b.mp4"]


def test_a_renamed_file_closes_no_door(street: Street, video: Path) -> None:
    """Others go on being worked on, whether the queue has heard of the new name in time or not."""
    os.rename(video, video.with_name("b.mp4"))
    street.begin()
    assert street.tasks()[0]["outcome"] == "failed"
    street.pass_by(5.0)
    assert street.doors.closed == {}


class Works(People):
    """Histories of an inbox before a house where work goes on."""

    @initialize()
    def begin_house(self) -> None:
        top = tempfile.mkdtemp(prefix="gsvrd-street-")
        self.world = World(os.fsencode(top))
        self.street = Street(Config(home=Path(top)))
        self.left: set[State] = set()
        """States of files that were away from the inbox at some moment, or had no video's name."""
        self.here: set[State] = set()

    def teardown(self) -> None:
        if hasattr(self, "street"):
            try:
                self.come_to_rest()
            finally:
                self.street.close()
                self.street.db.close()
                self.world.end()

    @invariant()
    def observe(self) -> None:
        if hasattr(self, "here"):
            here = {state_of(identity) for identity in self.world.present().values()}
            self.left |= self.here - here
            self.here = here

    # -- the daemon --------------------------------------------------------------------------------------------------

    @rule(pause=st.sampled_from([0.0, 2.0, 5.0, 31.0]))
    def look(self, pause: float) -> None:
        self.street.pass_by(pause)

    @rule()
    def start_work(self) -> None:
        self.street.begin()

    @rule()
    def end_work(self) -> None:
        self.street.end()
        self.observe()

    @rule()
    def crash(self) -> None:
        """Of the daemon alone, with no work in hand: what becomes of that is told by the storms of kills."""
        self.street.end()
        self.street.crash()

    # -- what must be so ---------------------------------------------------------------------------------------------

    def come_to_rest(self) -> None:
        if not self.world.is_mounted:
            self.world.mount()
        for writer in list(self.world.writers):
            self.world.close(writer)
        self.observe()
        self.street.come_to_rest()
        assert self.world.settled() == {}, self.street.tasks()
        done = self.street.tasks("state = 'completed'")
        self._judge_done(done)
        self._judge_others({identity_of(task) for task in done})

    def _judge_done(self, done: list[dict[str, Any]]) -> None:
        """Each archived file has one report, of its final bytes, and each report its file."""
        assert self.street.hashes() == sorted(task["sha256"] for task in done)
        archived = [path for path in self.street.config.archive.rglob("*") if path.is_file()]
        assert sorted(os.fsencode(path) for path in archived) == sorted(task["path"] for task in done)
        assert all(sha256_of(task["path"]) == task["sha256"] for task in done)

    def _judge_others(self, done: set[State]) -> None:
        assert self.street.tasks("state IN ('pending', 'running')") == []
        for task in self.street.tasks("state IN ('failed', 'cancelled')"):
            assert identity_of(task) in self.left, f"nobody took it away, and nobody changed it: {task}"
            assert task["home"] == "gone"
            is_gone = task["why"] == TAKEN_AWAY  # what is replaced does not come back, what is gone may
            assert task["state"] == "failed" or is_gone or identity_of(task) not in done


def state_of(identity: Identity) -> State:
    return identity.ino, identity.size, identity.mtime_ns


def identity_of(task: dict[str, Any]) -> State:
    return task["ino"], task["size"], task["mtime_ns"]


@pytest.mark.timeout(LIMIT_S)
def test_whatever_happens_each_final_form_is_done_once_and_nothing_else_counts() -> None:
    play(Works, settings=histories(20))
