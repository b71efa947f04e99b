from __future__ import annotations

from typing import Any

import pytest
from support.house import House

from gsvrd.cli import telling
from gsvrd.cli.status import down
from gsvrd.cli.story import tell
from gsvrd.config.places import NAMES, Places
from gsvrd.store.tracing import Tracing


def places(house: House) -> Places:
    return Places(house.config.home, {name: getattr(house.config, name) for name in NAMES})


def daemon(house: House, **change: Any) -> dict[str, Any]:
    """What `status` says of a daemon that runs and has a free worker."""
    workers = {"up": 2, "busy": 0, "pids": [7, 8]}
    return down(places(house)) | {"pid": 1, "state": "running", "reason": "", "workers": workers} | change


def story(house: House, task: int, **change: Any) -> dict[str, Any]:
    row = Tracing(house.db).task(task)
    assert row is not None
    return tell(row, Tracing(house.db), daemon(house, **change), places(house))


def said(capsys: pytest.CaptureFixture[str], facts: dict[str, Any]) -> str:
    telling.why({"file": None, "list": None, "awaited": None, "task": facts, "others": []})
    return capsys.readouterr().out


# -- what happened -------------------------------------------------------------------------------------------------------


def test_the_timeline_has_each_attempt_its_end_and_the_waits_between(house: House) -> None:
    task = house.add("refuse:network")
    house.rest()
    house.clock.advance(30)
    house.behaviours["a.mp4"] = "report:a.md"
    house.rest()
    lines = story(house, task)["timeline"]
    assert [line["what"] for line in lines] == ["written", "queued", "attempt", "waited", "attempt"]
    first, wait, second = lines[2:]
    assert (first["number"], first["then"], first["cause"]["kind"]) == (1, "retry", "network")
    assert first["cause"]["message"] == "as the test wants it"
    assert wait["seconds"] == 30
    assert (second["number"], second["then"], second["cause"]) == (2, "complete", None)


def test_a_given_back_attempt_says_why_though_it_has_no_error(house: House) -> None:
    task = house.add("wait:never")
    house.queue.claim(house.queue.ready(), 7)  # type: ignore[arg-type]
    house.queue.release(task, 1, "the daemon was stopped")
    house.commit()
    attempt = story(house, task)["timeline"][-1]
    assert (attempt["then"], attempt["cause"]["message"]) == ("release", "the daemon was stopped")


def test_a_cancel_and_a_second_try_are_told_with_who_did_it(house: House) -> None:
    task = house.add()
    house.queue.cancel(task, "cancelled by gsvrctl")
    house.queue.requeue(task, "tried again by gsvrctl")
    house.commit()
    lines = story(house, task)["timeline"]
    assert [line["what"] for line in lines] == ["written", "queued", "cancelled", "tried_again"]
    assert lines[2]["why"] == "cancelled by gsvrctl"


def test_a_running_attempt_is_open_and_says_its_stage(house: House) -> None:
    task = house.add()
    house.queue.claim(house.queue.ready(), 7)  # type: ignore[arg-type]
    house.queue.progress(task, 1, "analyze", 0.4)
    house.commit()
    facts = story(house, task)
    assert facts["now"]["code"] == "running"
    assert "analyze, 40%" in facts["now"]["message"]
    assert facts["timeline"][-1]["until"] is None
    assert story(house, task, pid=None)["now"]["code"] == "abandoned"


# -- what it waits for ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({}, "in_line", "next in line"),
        ({"pid": None}, "daemon_down", "does not run"),
        ({"state": "paused", "reason": "paused by a person"}, "paused", "the daemon is paused by a person"),
        ({"state": "draining", "reason": "stopped by TERM"}, "draining", "stopped by TERM"),
        ({"doors": {"reports": {"reason": "disk full", "since": 1}}}, "door_closed", "disk full"),
        ({"workers": {"up": 2, "busy": 2, "pids": []}}, "workers_busy", "all 2 workers are busy"),
    ],
)
def test_a_waiting_task_says_what_for(house: House, change: dict[str, Any], code: str, says: str) -> None:
    now = story(house, house.add(), **change)["now"]
    assert now["code"] == code
    assert says in now["message"]


def test_all_that_is_in_the_way_is_listed(house: House) -> None:
    door = {"network": {"reason": "no network", "since": 1}}
    now = story(house, house.add(), state="paused", reason="paused", doors=door)["now"]
    assert [wait["code"] for wait in now["waits"]] == ["paused", "door_closed"]


def test_the_place_in_line_counts_those_before(house: House) -> None:
    first, second = house.add(file="a.mp4"), house.add(file="b.mp4")
    assert story(house, first)["now"]["before"] == 0
    assert story(house, second)["now"]["before"] == 1


def test_a_task_that_waits_for_a_time_says_for_which_and_why(house: House) -> None:
    task = house.add("refuse:network")
    house.rest()
    now = story(house, task)["now"]
    assert (now["code"], now["before"]) == ("due", None)
    assert now["waits"][0]["until"] > house.clock.wall()
    assert "as the test wants it" in now["message"]


def test_a_task_of_a_held_batch_says_so(house: House) -> None:
    house.queue.add_batch(1, "term", "folder")
    house.queue.commit()
    task = house.add()
    house.db.execute("UPDATE tasks SET batch = 1")
    house.db.commit()
    house.queue.hold_batch(1, "over its cost limit")
    house.commit()
    now = story(house, task)["now"]
    assert (now["code"], now["waits"][0]["until"]) == ("batch_held", None)
    assert "over its cost limit" in now["message"]


# -- where things are, and what they cost --------------------------------------------------------------------------------


def test_a_completed_task_names_its_report_and_notices_when_it_is_gone(house: House) -> None:
    task = house.add()
    house.rest()
    facts = story(house, task)
    assert facts["now"]["code"] == "completed"
    assert facts["where"]["report"] == {"path": str(house.config.reports / "a.md"), "exists": True}
    assert facts["where"]["source"]["path"] == str(house.config.archive / "a.mp4")
    (house.config.reports / "a.md").unlink()
    assert story(house, task)["now"]["code"] == "report_gone"


def test_a_failed_task_names_its_own_record_among_those_of_its_name(house: House) -> None:
    first = house.add("refuse:unreadable", "课/a.mp4")
    house.rest()
    second = house.add("refuse:unreadable", "课/a.mp4")
    house.rest()
    records = [story(house, task)["where"]["failure_record"] for task in (first, second)]
    assert len(set(records)) == 2
    for task, record in zip((first, second), records, strict=True):
        assert f'"task": {task},' in (house.config.home / record).read_text()


def test_a_failed_task_says_whether_it_can_be_retried(house: House) -> None:
    task = house.add("refuse:unreadable")
    house.rest()
    now = story(house, task)["now"]
    assert (now["message"], now["can_retry"]) == ("as the test wants it", True)
    assert f"gsvrctl retry {task}" in now["hint"]
    (house.config.failed / "a.mp4").unlink()
    now = story(house, task)["now"]
    assert not now["can_retry"]
    assert "not at" in now["hint"]


def test_calls_are_summed_by_model_and_lane(house: House) -> None:
    task = house.add()
    row = (task, 1, "p", "m", 0, "2026-01-01")
    columns = "task, attempt, project, model, reserved_at, pacific_day, lane, state, tokens_in, cost_micro"
    calls = [("generate", "settled", 100, 2500), ("generate", "unknown", 0, 9000), ("generate", "void", 5, 7)]
    for lane, state, tokens, cost in calls:
        house.db.execute(
            f"INSERT INTO ledger ({columns}, tokens_reserved, reserved_micro) VALUES (?,?,?,?,?,?,?,?,?,?,0,0)",
            (*row, lane, state, tokens, cost),
        )
    cost = story(house, task)["cost"]
    assert cost["cost_micro"] == 11_500
    assert [(call["calls"], call["unknown"], call["tokens_in"]) for call in cost["calls"]] == [(2, 1, 100)]


# -- the words -----------------------------------------------------------------------------------------------------------


def test_markup_and_control_characters_in_what_others_wrote_stay_text(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    task = house.add(file="[red]课[/red].mp4")
    house.queue.cancel(task, "[bold]why\x1b[31m\nnot")
    house.commit()
    text = said(capsys, story(house, task))
    assert "[red]课[/red].mp4" in text
    assert "[bold]why\\x1b[31m\\nnot" in text
    assert "\x1b" not in text


def test_paths_are_whole_and_no_line_ends_in_spaces(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    name = "很长的名字" * 12 + ".mp4"
    text = said(capsys, story(house, house.add(file=name)))
    assert str(house.config.inbox / name) in text
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_the_hint_of_the_last_failure_is_said_once(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    task = house.add("refuse:unreadable")
    house.rest()
    assert said(capsys, story(house, task)).count("Do nothing.") == 1
