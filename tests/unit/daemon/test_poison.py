"""What fells workers: counted by content, given up after `poison_limit`, and an operator's second wish."""

from __future__ import annotations

import json
import os
from pathlib import Path

from support.house import House

from gsvrd.analysis import MediaFacts
from gsvrd.cli.weighing import Scales
from gsvrd.config.models import Config
from gsvrd.daemon.attempts import Patience
from gsvrd.errors import ErrorKind
from gsvrd.pool.execute import VideoWork, Ways
from gsvrd.pool.messages import Assign, Finished, Progress
from gsvrd.pool.sources import Source
from gsvrd.pool.worker import Desk

DEADLINE_S = 10.0
LATER_S = 60.0
"""After every pause between two attempts."""


def fell(house: House, task: int) -> None:
    """An attempt begins, and its worker has to be ended."""
    house.until(lambda: house.row(task)["sha256"] and task in house.attempts.running)
    house.clock.advance(DEADLINE_S + 0.1)
    house.until(lambda: task not in house.attempts.running and not house.is_busy, start=False)


def poisoned(house: House, file: str = "a.mp4") -> int:
    """A video that has felled two workers."""
    house.attempts.patience = Patience(attempt_s=DEADLINE_S)
    task = house.add("poison:beef", file)
    fell(house, task)
    house.clock.advance(LATER_S)
    fell(house, task)
    house.rest()
    return task


def test_a_video_that_fells_its_worker_twice_is_given_up_with_the_cause_on_record(house: House) -> None:
    task = poisoned(house)
    assert (house.row(task)["state"], house.outcomes(task)) == ("failed", ["timed_out", "timed_out"])
    assert house.files() == {"failed": ["a.mp4", "a.mp4.error.json"]}
    record = json.loads((house.config.failed / "a.mp4.error.json").read_text())
    assert (record["kind"], record["sha256"]) == ("timeout", "beef")


def test_the_same_content_by_another_name_gets_no_worker_more(house: House) -> None:
    poisoned(house)
    twin = house.add("poison:beef", "b.mp4")
    house.until(lambda: house.row(twin)["state"] == "failed")  # at once: the clock stands still
    house.rest()
    assert house.outcomes(twin) == ["failed"]
    assert "felled 2 workers before" in house.row(twin)["error"]["message"]
    assert house.row(twin)["deaths"] == 0
    assert "b.mp4" in house.files()["failed"]


def test_other_content_is_not_blamed(house: House) -> None:
    poisoned(house)
    other = house.add("poison:cafe", "b.mp4")
    fell(house, other)
    assert (house.row(other)["state"], house.row(other)["deaths"]) == ("pending", 1)


def test_an_operator_who_tries_poison_again_is_taken_at_his_word(house: House) -> None:
    task = poisoned(house)
    house.queue.requeue(task, "a person")
    house.commit()
    house.behaviours["a.mp4"] = "report:a.md"
    house.rest()
    assert (house.row(task)["state"], house.row(task)["deaths"]) == ("completed", 0)


# -- tried again from failed/ ------------------------------------------------------------------------------------------


def test_a_failed_video_is_tried_again_where_it_lies_and_its_record_goes_with_success(house: House) -> None:
    task = house.add("refuse:unreadable")
    house.rest()
    assert house.row(task)["path"] == bytes(house.config.failed / "a.mp4")
    house.queue.requeue(task, "a person")
    house.commit()
    house.behaviours["a.mp4"] = "report:a.md"
    house.rest()
    assert house.files() == {"reports": ["a.md"], "archive": ["a.mp4"]}
    assert (house.row(task)["home"], house.row(task)["path"]) == ("archive", bytes(house.config.archive / "a.mp4"))


def test_the_worker_is_told_whose_folder_the_source_is_in(house: House) -> None:
    seen: list[bytes] = []

    def work(assign: Assign, desk: Desk) -> Finished:
        seen.append(assign.folder)
        return type(house).work(house, assign, desk)

    house.work = work  # type: ignore[method-assign]
    task = house.add("refuse:unreadable")
    house.rest()
    house.queue.requeue(task, "a person")
    house.commit()
    house.rest()
    assert seen == [b"", bytes(house.config.failed)]


def test_a_second_failure_leaves_one_record_and_the_source_in_its_place(house: House) -> None:
    task = house.add("refuse:unreadable")
    house.rest()
    house.queue.requeue(task, "a person")
    house.commit()
    house.behaviours["a.mp4"] = "refuse:not_video"
    house.rest()
    assert house.files() == {"failed": ["a.mp4", "a.mp4.error.json"]}
    assert json.loads((house.config.failed / "a.mp4.error.json").read_text())["kind"] == "not_video"


def test_a_crash_before_the_second_move_is_finished_at_the_start(house: House) -> None:
    task = house.add("refuse:unreadable")
    house.rest()
    house.queue.requeue(task, "a person")
    house.commit()
    house.behaviours["a.mp4"] = "report:a.md"
    house.until(lambda: house.row(task)["state"] == "completed")
    house.crash()
    house.rest()
    assert house.files()["archive"] == ["a.mp4"]
    assert house.row(task)["home"] == "archive"


# -- stages ------------------------------------------------------------------------------------------------------------


def test_a_stage_that_takes_too_long_ends_the_attempt_and_names_itself(house: House) -> None:
    house.attempts.patience = Patience(stage_s=DEADLINE_S)
    task = house.add("stall:speech")
    house.until(lambda: task in house.attempts.running and house.attempts.running[task].stage == "speech")
    house.clock.advance(DEADLINE_S + 0.1)
    house.until(lambda: house.outcomes(task) == ["timed_out"])
    error = house.reading.attempts(task)[0]["error"]
    assert (error["kind"], "'speech'" in error["message"]) == (ErrorKind.TIMEOUT, True)


def test_a_new_stage_has_its_own_time(house: House) -> None:
    house.attempts.patience = Patience(stage_s=DEADLINE_S)
    task = house.add("stall:speech")
    house.until(lambda: task in house.attempts.running and house.attempts.running[task].stage == "speech")
    house.clock.advance(DEADLINE_S - 1)
    house.attempts.hear(Progress(task, 1, "slides", 0.0))
    house.clock.advance(DEADLINE_S - 1)
    house.turn()
    assert task in house.attempts.running


def test_a_source_that_an_older_version_moved_to_failed_is_found_there(house: House) -> None:
    """Version 2 kept saying where it had been in the inbox."""
    task = house.add("refuse:unreadable", "a.mp4")
    house.rest()
    now = Path(os.fsdecode(house.row(task)["path"]))
    then = now.with_name("a.2.mp4")  # there was another a.mp4 before
    now.rename(then)
    house.db.execute("UPDATE tasks SET path = ? WHERE id = ?", (bytes(house.config.inbox / "a.mp4"), task))
    house.db.commit()
    house.crash()
    house.commit()
    assert house.row(task)["path"] == bytes(then)


def test_what_a_worker_says_of_a_content_that_was_probed_before_counts_too(tmp_path: Path) -> None:
    """By another name it may have felled workers since."""
    facts = MediaFacts(sha256="beef", size_bytes=1, container="mp4", duration_s=1.0)
    said: list[str] = []

    class Listener:
        know = staticmethod(said.append)

    work = VideoWork(Scales(Config(home=tmp_path), None, 0.0).settings, Ways(None))  # type: ignore[arg-type]
    assign = Assign(1, 2, name="a.mp4", kept={"probe": facts.model_dump_json().encode()})
    assert work._probe(Source("a.mp4", "a.mp4", (), []), assign, Listener(), None) == facts  # type: ignore[arg-type]
    assert said == ["beef"]
