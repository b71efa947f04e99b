from __future__ import annotations

import json
import select
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.house import House

from gsvrd.cli.gsvrctl import main
from gsvrd.daemon.signals import Doorbell
from gsvrd.store.outbox import Outbox


@pytest.fixture
def bell(house: House) -> Iterator[Doorbell]:
    made = Doorbell(house.config.state / "doorbell")
    yield made
    made.close()


def ctl(house: House, *words: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(house.config.home), *words])


def told(house: House, *words: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(ctl(house, *words, "--json").stdout)
    return facts


def batch(house: House, number: int, name: str, *files: str, kind: str = "folder") -> list[int]:
    house.queue.add_batch(number, name, kind)
    house.queue.commit()
    tasks = [house.add(file=file) for file in files]
    for task in tasks:
        house.db.execute("UPDATE tasks SET batch = ? WHERE id = ?", (number, task))
    house.db.commit()
    return tasks


def rang(bell: Doorbell) -> bool:
    is_rung = bool(select.select([bell.fileno()], [], [], 0)[0])
    bell.clear()
    return is_rung


def dead_letter(house: House) -> str:
    outbox = Outbox(house.db, house.clock, house.queue.note)
    message = outbox.put("batch.completed", {"batch": 1}, "https://example.org/hook?key=secret", batch=1)
    outbox.dead(message, "refused\x1b[31m")
    house.queue.commit()
    return message


def test_the_daemon_is_told_when_a_batch_was_changed_and_only_then(house: House, bell: Doorbell) -> None:
    batch(house, 1, "a", "1.mp4")
    assert ctl(house, "batch", "a", "cancel", "--dry-run").exit_code == 0
    assert ctl(house, "batch", "a").exit_code == 0
    assert ctl(house, "batch", "b", "pause").exit_code == 66
    assert not rang(bell)
    for verb in ("pause", "resume", "cancel"):
        assert ctl(house, "batch", "a", verb).exit_code == 0
        assert rang(bell)
    assert ctl(house, "batch", "a", "cancel").exit_code == 1
    assert not rang(bell)


def test_batches_of_one_name_are_listed_and_none_is_touched(house: House) -> None:
    batch(house, 1, "physics", "1.mp4")
    batch(house, 2, "physics", "2.mp4", kind="manifest")
    done = ctl(house, "batch", "physics", "pause")
    assert done.exit_code == 1
    assert "2 batches may be meant" in done.stderr
    assert "manifest" in done.stderr
    assert done.stdout == ""
    facts = told(house, "batch", "physics", "pause")
    assert (facts["code"], [match["number"] for match in facts["matches"]]) == ("ambiguous", [2, 1])
    assert {row["hold"] for row in told(house, "batches")["batches"]} == {""}
    assert told(house, "batch", "2", "pause")["batch"]["kind"] == "manifest"


def test_a_folder_called_as_another_batchs_number_is_not_taken_for_it(house: House) -> None:
    batch(house, 1, "2", "1.mp4")
    batch(house, 2, "week", "2.mp4")
    assert ctl(house, "batch", "2", "cancel").exit_code == 1
    assert told(house, "batch", "--number", "2", "cancel")["batch"]["name"] == "week"
    assert ctl(house, "batch", "--number", "week", "cancel").exit_code == 64
    assert ctl(house, "batch", "--number", "9" * 40, "cancel").exit_code == 66


def test_a_name_that_is_nearly_right_is_named(house: House) -> None:
    batch(house, 1, "physics", "1.mp4")
    assert "Did you mean 'physics'?" in ctl(house, "batch", "phisics").stderr


def test_names_are_data_and_never_markup(house: House) -> None:
    name = "[red]x\x1b[0m.mp4"
    batch(house, 1, name, "[bold]y.mp4")
    for words in (["batches"], ["batch", "1"], ["batch", "1", "pause"]):
        shown = ctl(house, *words).stdout
        assert "[red]x\\x1b[0m.mp4" in shown
        assert "\x1b" not in shown
    assert "[bold]y.mp4" in ctl(house, "batch", "1").stdout
    assert told(house, "batch", "\udcff", "pause")["asked"] == "\\xff"


def test_videos_come_in_the_order_of_lessons_and_what_is_wrong_comes_first_for_people(house: House) -> None:
    tasks = batch(house, 1, "a", "10.mp4", "2.mp4", "1.mp4")
    assert [task["name"] for task in told(house, "batch", "a")["tasks"]] == ["1.mp4", "2.mp4", "10.mp4"]
    ctl(house, "cancel", str(tasks[2]))
    lines = ctl(house, "batch", "a").stdout.splitlines()[-3:]
    assert ["2.mp4" in lines[0], "10.mp4" in lines[1], "1.mp4" in lines[2]] == [True] * 3


def test_the_daemons_forecast_is_shown(house: House) -> None:
    batch(house, 7, "a", "1.mp4")
    finish = time.time() + 60
    performance = {
        "finish_at": {"p10": finish, "p50": finish, "p90": finish + 600},
        "binding": {"bound": "quota", "reason": "1000 requests per day", "until": None},
    }
    house.queue.set_service("progress", {"batches": [{"id": 3}, {"id": 7, "performance": performance}]})
    house.queue.commit()
    assert told(house, "batch", "a")["progress"] == performance
    shown = ctl(house, "batch", "a").stdout
    assert "rather sure by" in shown
    assert "1000 requests per day." in shown


def test_verbs_and_flags_that_make_no_sense_are_usage_errors(house: House) -> None:
    for words in (["batch"], ["batch", "a", "stop"], ["batch", "a", "--dry-run"], ["batches", "--state", "nice"]):
        assert ctl(house, *words).exit_code == 64


def test_dead_messages_are_listed_without_secrets_and_sent_again(house: House, bell: Doorbell) -> None:
    first = dead_letter(house)
    shown = ctl(house, "webhooks").stdout
    assert first in shown
    assert "https://example.org" in shown
    assert "secret" not in shown
    assert "\x1b" not in shown
    assert told(house, "webhooks")["given_up"][0]["id"] == first
    assert not rang(bell)
    assert ctl(house, "webhooks", "--retry", "evt_other").exit_code == 66
    assert not rang(bell)
    assert told(house, "webhooks", "--retry", first)["revived"] == 1
    assert rang(bell)
    facts = told(house, "webhooks", "--retry")
    assert (facts["revived"], facts["pending"], facts["dead"]) == (0, 1, 0)
