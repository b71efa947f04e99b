from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.house import House
from support.waiting import eventually

from gsvrd.errors import ErrorKind, TaskError
from gsvrd.policy.retry import RULES
from gsvrd.pool.messages import Assign, Finished, Progress
from gsvrd.pool.worker import Desk, HungUp


def elsewhere(house: House, sql: str) -> None:
    """What another process does to the database."""
    with sqlite3.connect(house.config.state / "gsvrd.db") as conn:
        conn.execute(sql)
    conn.close()


CANCEL = "UPDATE tasks SET state = 'cancelled', outcome = 'cancelled', change = 'cancel'"


def test_a_video_becomes_a_report_and_its_source_goes_to_the_archive(house: House) -> None:
    task = house.add("report:week/a.md")
    house.rest()
    assert house.files() == {"reports": ["week/a.md"], "archive": ["a.mp4"]}
    assert (house.row(task)["state"], house.row(task)["home"], house.row(task)["sha256"]) == (
        "completed",
        "archive",
        "abc",
    )
    assert house.changes(task) == ["add", "claim", "complete"]
    assert [path.name for path in house.config.reports.iterdir()] == ["week"]
    assert house.came_back == [bytes(house.config.inbox / "a.mp4")]


def test_a_failure_for_good_leaves_a_record_and_the_source_beside_it(house: House) -> None:
    task = house.add("refuse:unreadable")
    house.rest()
    assert house.files() == {"failed": ["a.mp4", "a.mp4.error.json"]}
    assert (house.row(task)["state"], house.outcomes(task)) == ("failed", ["failed"])


def test_a_second_video_of_the_same_wished_name_gets_a_number(house: House) -> None:
    for file in ("a.mp4", "b.mp4"):
        house.add("report:same.md", file)
    house.rest()
    assert house.files()["reports"] == ["same-2.md", "same.md"]


def test_one_video_at_a_time_when_there_is_one_worker(house: House, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first, second = house.add(f"wait:{gate}", "a.mp4"), house.add("done:", "b.mp4")
    house.until(lambda: house.attempts.running)
    assert (house.row(first)["state"], house.row(second)["state"]) == ("running", "pending")
    gate.touch()
    house.rest()
    assert house.row(second)["state"] == "completed"


# -- trying again ------------------------------------------------------------------------------------------------------


def test_trouble_of_the_service_is_tried_again_within_a_budget_and_beyond_it_waits_uncharged(house: House) -> None:
    tasks = [house.add("refuse:server", f"{number}.mp4") for number in range(4)]
    house.rest()
    assert [house.row(task)["spent"] for task in tasks] == [1, 1, 1, 0]
    assert house.row(tasks[-1])["state"] == "pending"
    assert house.changes(tasks[-1])[-1] == "release"
    assert house.row(tasks[-1])["due_at"] == pytest.approx(house.clock.wall() + 60.0)


def test_a_retry_waits_twice_as_long_each_time_and_an_outage_then_costs_nothing_more(house: House) -> None:
    task = house.add("refuse:network")
    delay_s = RULES[ErrorKind.NETWORK].delay_s
    for number in range(1, 4):
        house.rest()
        assert (house.row(task)["state"], house.row(task)["spent"]) == ("pending", number)
        house.clock.advance(delay_s * 2 ** (number - 1) - 0.1)
        house.rest()
        assert len(house.outcomes(task)) == number
        house.clock.advance(0.2)
    house.rest()
    assert (house.row(task)["state"], house.row(task)["spent"]) == ("pending", 3)
    assert house.outcomes(task) == ["failed"] * 4
    house.clock.advance(RULES[ErrorKind.NETWORK].patience_s + 1)
    house.rest()
    assert (house.row(task)["state"], house.row(task)["spent"]) == ("pending", 3)
    assert len(house.outcomes(task)) == 5


def test_a_video_that_fells_its_worker_twice_is_given_up_with_the_cause(house: House, tmp_path: Path) -> None:
    task = house.add("die:")
    house.work = falls  # type: ignore[method-assign]
    house.rest()
    assert (house.row(task)["state"], house.row(task)["deaths"]) == ("pending", 1)
    house.clock.advance(10)
    house.rest()
    assert (house.row(task)["state"], house.row(task)["deaths"]) == ("failed", 2)
    assert house.outcomes(task) == ["died", "died"]
    assert house.row(task)["error"]["kind"] == "crashed"
    assert "without a result" in (house.config.failed / "a.mp4.error.json").read_text()


def falls(assign: object, desk: object) -> Any:
    raise HungUp  # the worker ends without a word


@pytest.mark.parametrize("kind", [ErrorKind.PLACE, ErrorKind.QUOTA])
def test_trouble_of_the_place_costs_no_attempt_however_often_it_comes(house: House, kind: ErrorKind) -> None:
    task = house.add(f"refuse:{kind}")
    for _ in range(5):
        house.rest()
        house.clock.advance(RULES[kind].delay_s * 2)
    house.rest()
    assert (house.row(task)["state"], house.row(task)["spent"]) == ("pending", 0)
    assert len(house.outcomes(task)) == 6
    assert house.files() == {"inbox": ["a.mp4"]}


def test_a_file_that_was_replaced_ends_its_task_and_may_come_back(house: House) -> None:
    task = house.add("refuse:changed")
    house.rest()
    assert (house.row(task)["state"], house.row(task)["home"]) == ("cancelled", "gone")
    assert house.files() == {"inbox": ["a.mp4"]}
    assert house.came_back == [bytes(house.config.inbox / "a.mp4")]


# -- ended from outside ------------------------------------------------------------------------------------------------


def test_a_cancelled_attempt_is_ended_and_its_task_stays_cancelled(house: House, tmp_path: Path) -> None:
    task = house.add(f"wait:{tmp_path / 'never'}")
    house.until(lambda: house.row(task)["state"] == "running")
    elsewhere(house, CANCEL)
    house.attempts.drop_lost()
    assert not house.attempts.running
    (tmp_path / "never").touch()
    house.settle()
    assert (house.row(task)["state"], house.outcomes(task)) == ("cancelled", ["cancelled"])
    assert house.files() == {"inbox": ["a.mp4"]}


def test_a_cancel_that_overtakes_the_end_wins_and_the_report_is_withdrawn(house: House) -> None:
    task = house.add()
    house.until(lambda: house.filing.open)  # being put in place
    elsewhere(house, CANCEL)
    house.rest()
    assert house.row(task)["state"] == "cancelled"
    assert house.files() == {"inbox": ["a.mp4"]}


def test_a_cancel_that_overtakes_a_failure_wins_and_no_record_is_written(house: House, tmp_path: Path) -> None:
    task = house.add("refuse:unreadable")
    house.until(lambda: house.row(task)["state"] == "running")
    events: list[Any] = []

    def failed() -> bool:
        events.extend(house.pool.events())
        return bool(events)

    eventually(failed)
    elsewhere(house, CANCEL)
    for event in events:
        house.attempts.hear(event)
    house.rest()
    assert (house.row(task)["state"], house.files()) == ("cancelled", {"inbox": ["a.mp4"]})


def test_what_an_older_attempt_says_is_not_heard(house: House, tmp_path: Path) -> None:
    task = house.add(f"wait:{tmp_path / 'never'}")
    house.until(lambda: house.row(task)["state"] == "running")
    house.attempts.hear(Progress(task, 0, "late", 1.0))
    house.attempts.hear(Finished(task, 0, sha256="late"))
    house.settle()
    assert (house.row(task)["state"], house.row(task)["sha256"]) == ("running", None)


def test_a_claim_that_is_lost_ends_the_attempt_without_a_trace(house: House, tmp_path: Path) -> None:
    task = house.add(f"wait:{tmp_path / 'never'}")
    house.until(house.pool.free, start=False)
    house.attempts.dispatch(1)
    elsewhere(house, CANCEL)  # after it was handed out, before the commit
    house.commit()
    assert not house.attempts.running
    assert (house.row(task)["state"], house.outcomes(task)) == ("cancelled", [])


# -- the end -----------------------------------------------------------------------------------------------------------


def test_what_runs_at_the_end_is_given_back_unspent_and_leaves_nothing(house: House, tmp_path: Path) -> None:
    task = house.add(f"wait:{tmp_path / 'never'}")
    house.until(lambda: house.row(task)["state"] == "running")
    (house.config.reports / f".gsvrd-{task}-1").mkdir()
    house.attempts.give_back_all("the daemon was stopped")
    house.settle()
    row = house.row(task)
    assert (row["state"], row["spent"], row["why"]) == ("pending", 0, "the daemon was stopped")
    assert house.outcomes(task) == ["released"]
    assert list(house.config.reports.iterdir()) == []


def test_stages_that_were_kept_come_back_with_the_next_attempt_and_go_with_the_last(house: House) -> None:
    heard: list[dict[str, bytes]] = []

    def forgetful(assign: Assign, desk: Desk) -> Finished:
        heard.append(assign.kept)
        desk.keep("analyze", b"{}")
        if not assign.kept:
            raise TaskError(ErrorKind.NETWORK, "no line")
        return Finished(assign.task, assign.attempt)

    house.work = forgetful  # type: ignore[method-assign]
    house.add()
    house.rest()
    house.clock.advance(100)
    house.rest()
    assert heard == [{}, {"analyze": b"{}"}]
    assert house.db.execute("SELECT * FROM stages").fetchall() == []
