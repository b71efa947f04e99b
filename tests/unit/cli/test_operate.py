from __future__ import annotations

import json
import select
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.house import House

from gsvrd.cli.gsvrctl import main
from gsvrd.cli.operate import exit_code
from gsvrd.daemon.signals import Doorbell


@pytest.fixture
def bell(house: House) -> Iterator[Doorbell]:
    made = Doorbell(house.config.state / "doorbell")
    yield made
    made.close()


def ctl(house: House, *words: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(house.config.home), *words])


def rang(bell: Doorbell) -> bool:
    is_rung = bool(select.select([bell.fileno()], [], [], 0)[0])
    bell.clear()
    return is_rung


def test_the_daemon_is_told_when_something_was_done_and_only_then(house: House, bell: Doorbell) -> None:
    task = str(house.add())
    assert ctl(house, "cancel", task, "--dry-run").exit_code == 0
    assert not rang(bell)
    assert ctl(house, "cancel", task).exit_code == 0
    assert rang(bell)
    assert ctl(house, "cancel", task).exit_code == 1
    assert not rang(bell)
    assert ctl(house, "retry", task).exit_code == 0
    assert rang(bell)


def test_what_was_not_done_goes_to_standard_error(house: House) -> None:
    done = ctl(house, "cancel", str(house.add()), "[red]nothing\x1b.mp4")
    assert done.stdout.startswith("task 1, a.mp4: cancelled\n")
    assert "not done: [red]nothing\\x1b.mp4: there is no such task" in done.stderr


def test_names_that_are_no_text_do_not_break_the_json(house: House) -> None:
    done = ctl(house, "cancel", "\udcff.mp4", "--json")
    assert json.loads(done.stdout)["results"][0]["asked"] == "\\xff.mp4"


@pytest.mark.parametrize(
    ("codes", "failed", "code"),
    [
        ([], False, 0),
        (["done"], False, 0),
        (["done", "unknown"], False, 66),
        (["unknown", "completed"], False, 1),
        (["ambiguous"], False, 1),
        (["gone", "refused"], True, 0),
        (["gone", "busy"], True, 1),
    ],
)
def test_the_exit_code_says_whether_all_was_done(codes: list[str], failed: bool, code: int) -> None:
    results: list[dict[str, Any]] = [{"code": word, "done": word == "done"} for word in codes]
    assert exit_code({"results": results}, failed=failed) == code
