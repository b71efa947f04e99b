from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.house import House
from support.intakes import put

from gsvrd.daemon import placing
from gsvrd.daemon.placing import TRY_AGAIN_S
from gsvrd.errors import ErrorFacts, ErrorKind
from gsvrd.model import NewTask
from gsvrd.reports import write


def refuse(code: int) -> Callable[..., None]:
    """A file operation that the machine does not do."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refused


def rendered(house: House) -> int:
    """A task whose report is written but not in place, and its attempt not heard of any more."""
    task = house.add()
    house.until(lambda: house.attempts.running)
    house.until(lambda: not house.attempts.running)
    return task


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_name_that_a_file_of_others_has_is_not_chosen(house: House) -> None:
    put(house.config.reports / "a.md", b"theirs")
    house.add()
    house.rest()
    assert house.files()["reports"] == ["a-2.md", "a.md"]
    assert (house.config.reports / "a.md").read_bytes() == b"theirs"


def test_a_name_is_not_chosen_when_pictures_of_others_have_its_place(house: House) -> None:
    put(house.config.reports / "a.assets" / "theirs.png")
    house.add()
    house.rest()
    assert house.files()["reports"] == ["a-2.md", "a.assets/theirs.png"]


def test_a_file_that_slips_into_the_reserved_name_costs_no_attempt_and_is_left_alone(house: House) -> None:
    task = house.add()
    house.until(lambda: house.row(task)["report"])
    put(house.config.reports / "a.md", b"theirs")
    house.rest()
    row = house.row(task)
    assert (row["state"], row["spent"], row["report"]) == ("completed", 0, "a-2.md")
    assert (house.config.reports / "a.md").read_bytes() == b"theirs"
    assert house.outcomes(task) == ["released", "succeeded"]


# -- a reports directory in trouble ------------------------------------------------------------------------------------


def test_a_report_waits_for_a_directory_that_cannot_be_written_and_nothing_new_starts(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(placing, "publish", refuse(errno.EROFS))
        first = house.add("report:a.md", "a.mp4")
        house.until(lambda: house.doors.closed and not house.is_busy)
        second = house.add("report:b.md", "b.mp4")
        house.rest()
        assert "Read-only" in house.doors.reason
        assert (house.row(first)["state"], house.row(second)["state"]) == ("running", "pending")
    house.clock.advance(TRY_AGAIN_S)
    house.until(lambda: not house.doors.closed)
    house.rest()
    assert house.outcomes(first) == ["succeeded"]
    assert house.row(second)["state"] == "completed"


def test_a_report_waits_for_a_directory_that_is_gone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    away = house.config.reports.with_name("away")
    publish = write.publish

    def unplugged(*words: Any) -> Path:
        if not away.exists():
            house.config.reports.rename(away)
        return publish(*words)

    with monkeypatch.context() as patch:
        patch.setattr(placing, "publish", unplugged)
        task = house.add()
        house.until(lambda: house.doors.closed and not house.is_busy)
    away.rename(house.config.reports)
    house.clock.advance(TRY_AGAIN_S)
    house.until(lambda: house.row(task)["state"] == "completed")
    assert house.outcomes(task) == ["succeeded"]


def test_the_door_opens_again_when_the_report_that_waited_is_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(placing, "publish", refuse(errno.ENOSPC))
        task = house.add()
        house.until(lambda: house.doors.closed and not house.is_busy)
    shutil.rmtree(house.config.reports)  # the operator's way to make room
    house.config.reports.mkdir()
    house.clock.advance(TRY_AGAIN_S)
    house.until(lambda: not house.doors.closed)
    house.rest()
    assert house.outcomes(task) == ["released", "succeeded"]
    assert house.files()["reports"] == ["a.md"]


def test_a_report_that_waits_at_the_end_is_given_back_unspent(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(placing, "publish", refuse(errno.EROFS))
        task = house.add()
        house.until(lambda: house.doors.closed and not house.is_busy)
        house.attempts.give_back_all("the daemon was stopped")
        house.settle()
    assert (house.row(task)["state"], house.row(task)["spent"]) == ("pending", 0)
    assert house.outcomes(task) == ["released"]
    house.crash()
    house.rest()
    assert house.files() == {"reports": ["a.md"], "archive": ["a.mp4"]}


def test_a_link_in_the_way_of_a_reports_folder_is_a_failure_that_says_so(house: House, tmp_path: Path) -> None:
    (house.config.reports / "week").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    house.add("report:week/a.md")
    house.rest()
    record = json.loads((house.config.failed / "a.mp4.error.json").read_text())
    assert "real ones" in record["what_to_do"]
    assert house.files()["failed"] == ["a.mp4", "a.mp4.error.json"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


# -- sources -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fate", "home", "left"), [("keep", "kept", ["a.mp4"]), ("delete", "gone", [])])
def test_a_source_may_be_kept_or_deleted_after_success(house: House, fate: str, home: str, left: list[str]) -> None:
    house.places.config = house.config.model_copy(update={"after_success": fate})
    task = house.add()
    house.rest()
    assert house.row(task)["home"] == home
    assert house.files().get("inbox", []) == left
    assert "archive" not in house.files()


def test_a_source_that_was_renamed_meanwhile_is_found(house: House) -> None:
    task = house.add()
    house.until(lambda: house.attempts.running)
    (house.config.inbox / "a.mp4").rename(house.config.inbox / "better name.mp4")
    assert house.add_known("better name.mp4") == task
    house.rest()
    assert house.files() == {"reports": ["a.md"], "archive": ["better name.mp4"]}


@pytest.mark.parametrize(("behaviour", "folder"), [("report:a.md", "archive"), ("refuse:unreadable", "failed")])
def test_a_source_that_cannot_be_moved_now_is_moved_later(house: House, behaviour: str, folder: str) -> None:
    target: Path = getattr(house.config, folder)
    target.rmdir()
    put(target, b"a file in the way")
    task = house.add(behaviour)
    house.rest()
    assert (house.row(task)["home"], house.files()["inbox"]) == ("inbox", ["a.mp4"])
    house.clock.advance(TRY_AGAIN_S)
    house.rest()
    target.unlink()
    target.mkdir()
    house.clock.advance(TRY_AGAIN_S)
    house.rest()
    assert house.row(task)["home"] == "inbox"  # the pause has grown
    house.clock.advance(TRY_AGAIN_S)
    house.rest()
    assert house.row(task)["home"] == folder
    assert "a.mp4" in house.files()[folder]
    assert "inbox" not in house.files()


def test_a_source_that_an_operator_wants_done_again_is_not_moved_after_all(house: House) -> None:
    house.config.failed.rmdir()
    put(house.config.failed, b"a file in the way")
    task = house.add("refuse:unreadable")
    house.rest()
    house.queue.requeue(task, "a person")
    house.commit()
    house.config.failed.unlink()
    house.config.failed.mkdir()
    house.clock.advance(TRY_AGAIN_S)
    house.turn(start=False)
    house.settle()
    assert house.files() == {"inbox": ["a.mp4"]}


# -- sources that are not found ------------------------------------------------------------------------------------------


def test_a_source_that_was_taken_away_is_gone_and_no_failure(house: House) -> None:
    house.places.recover()
    task = house.add("refuse:not_found")
    (house.config.inbox / "a.mp4").unlink()
    house.rest()
    assert house.row(task)["state"] == "pending", "it may only have got another name: it is looked for first"
    house.clock.advance(60.0)
    house.rest()
    assert (house.row(task)["state"], house.row(task)["home"]) == ("cancelled", "gone")
    assert house.files() == {}


def test_sources_are_not_given_up_while_the_file_system_of_the_inbox_is_away(house: House) -> None:
    house.places.recover()
    task = house.add("refuse:not_found")
    away = house.config.inbox.with_name("away")
    house.config.inbox.rename(away)
    house.config.inbox.mkdir()  # the bare mount point
    house.rest()
    assert (house.row(task)["state"], house.row(task)["spent"]) == ("pending", 0)
    assert house.files() == {}
    house.config.inbox.rmdir()
    away.rename(house.config.inbox)
    house.behaviours["a.mp4"] = "report:a.md"
    house.clock.advance(60)
    house.rest()
    assert house.files() == {"reports": ["a.md"], "archive": ["a.mp4"]}


def test_another_inbox_with_something_in_it_is_the_inbox_from_now_on(house: House) -> None:
    house.places.recover()
    task = house.add("refuse:not_found")
    house.config.inbox.rename(house.config.inbox.with_name("away"))
    put(house.config.inbox / "other.mp4")
    house.rest()
    house.clock.advance(60.0)
    house.rest()
    assert house.row(task)["state"] == "cancelled"


def test_a_source_that_was_renamed_before_it_was_opened_is_tried_under_its_new_name(house: House) -> None:
    task = house.add("refuse:not_found")
    house.until(lambda: house.attempts.running)
    (house.config.inbox / "a.mp4").rename(house.config.inbox / "b.mp4")
    house.behaviours["b.mp4"] = "report:b.md"
    assert house.add_known("b.mp4") == task
    house.rest()
    assert (house.row(task)["state"], house.row(task)["spent"]) == ("pending", 0)
    house.clock.advance(60)
    house.rest()
    assert house.files() == {"reports": ["b.md"], "archive": ["b.mp4"]}


# -- after a crash -----------------------------------------------------------------------------------------------------


def test_a_report_that_was_in_place_before_the_crash_completes_its_task(house: House) -> None:
    task = rendered(house)
    house.commit()
    house.filing.close()  # the report gets into place, and nobody hears of it
    assert house.files() == {"inbox": ["a.mp4"], "reports": ["a.md"]}
    house.crash()
    house.rest()
    assert (house.row(task)["state"], house.outcomes(task)) == ("completed", ["succeeded"])
    assert house.files() == {"reports": ["a.md"], "archive": ["a.mp4"]}
    assert house.db.execute("SELECT * FROM stages").fetchall() == []


def test_a_report_that_was_not_in_place_is_made_again_and_the_attempt_not_spent(house: House) -> None:
    task = house.add()
    house.until(lambda: house.row(task)["report"])
    (house.config.reports / f".gsvrd-{task}-1").mkdir(exist_ok=True)
    house.crash()
    assert (house.row(task)["state"], house.row(task)["spent"], house.row(task)["deaths"]) == ("pending", 0, 0)
    house.rest()
    assert house.outcomes(task) == ["died", "succeeded"]
    assert house.files() == {"reports": ["a.md"], "archive": ["a.mp4"]}
    assert [path.name for path in house.config.reports.iterdir()] == ["a.md"]


def test_a_report_of_a_task_that_was_cancelled_before_the_crash_is_withdrawn_at_the_start(house: House) -> None:
    task = rendered(house)
    house.commit()
    house.filing.close()  # the report gets into place, and nobody hears of it
    house.queue.cancel(task, "a person, while the daemon was down")
    house.commit()
    assert (house.files()["reports"], house.row(task)["report"]) == (["a.md"], "a.md")
    house.crash()
    house.rest()
    assert house.files() == {"inbox": ["a.mp4"]}
    assert (house.row(task)["state"], house.row(task)["report"]) == ("cancelled", None)


@pytest.mark.parametrize(("behaviour", "folder"), [("report:a.md", "archive"), ("refuse:unreadable", "failed")])
def test_a_source_that_was_left_behind_is_taken_away_at_the_start(
    house: House, behaviour: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = house.add(behaviour)
    with monkeypatch.context() as patch:
        patch.setattr(placing, "move_out", refuse(errno.EIO))
        house.rest()
    assert house.files()["inbox"] == ["a.mp4"]
    house.crash()
    house.rest()
    assert house.row(task)["home"] == folder
    assert "a.mp4" in house.files()[folder]
    assert "inbox" not in house.files()


def test_a_source_that_was_moved_just_before_the_crash_is_known_to_lie_there(house: House) -> None:
    task = house.add()
    house.until(lambda: house.row(task)["state"] == "completed")
    house.filing.close()  # the source is moved, and nobody hears of it
    assert house.row(task)["home"] == "inbox"
    house.crash()
    house.rest()
    assert (house.row(task)["home"], house.files()["archive"]) == ("archive", ["a.mp4"])


def test_what_dead_attempts_left_is_swept_and_the_pictures_of_live_tasks_stay(house: House, tmp_path: Path) -> None:
    task = house.add(f"wait:{tmp_path / 'never'}")
    house.until(lambda: house.attempts.running)
    for stray in (".gsvrd-7-1/report.md", ".gsvrd-8-1/assets/a.png"):
        put(house.config.reports / stray)
    put(house.config.failed / ".gsvrd-0123456789abcdef.json")
    for name in (str(task), "7", "not ours"):
        put(house.config.state / "work" / name / "picture.png")
    house.crash()
    assert house.files() == {"inbox": ["a.mp4"]}
    assert [path.name for path in (house.config.state / "work").iterdir()] == [str(task)]


def test_what_cannot_be_swept_is_no_reason_not_to_start(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    put(house.config.state / "work" / "a file where folders are", b"")
    monkeypatch.setattr(placing, "sweep", refuse(errno.ENOTEMPTY))  # a dying worker still writes into it
    house.crash()
    task = house.add()
    house.rest()
    assert house.row(task)["state"] == "completed"


def test_a_folder_that_was_refused_is_not_refused_again_when_its_time_has_changed(house: House) -> None:
    path, numbers = house.config.inbox / "folder.mp4", list[int]()
    facts = ErrorFacts(ErrorKind.NOT_REGULAR, "it is a folder")
    for mtime_ns in (1, 2, 3):
        house.queue.refuse(NewTask(os.fsencode(path), path.name, 1, 7, 4096, mtime_ns), facts, numbers.append)
        house.commit()
    assert numbers == [1]
    house.queue.refuse(NewTask(os.fsencode(path), path.name, 1, 8, 4096, 3), facts, numbers.append)
    house.commit()
    assert numbers == [1, 2]
