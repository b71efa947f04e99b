from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gsvrd.cli.gsvrd import main
from gsvrd.policy.controller import Completion, Controller, Metrics, Settings
from gsvrd.policy.replay import Reading, Start
from gsvrd.store.decisions import Decisions
from gsvrd.store.opening import open_database


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of a daemon that had ever more to do."""
    (tmp_path / "state").mkdir()
    conn = open_database(tmp_path / "state/gsvrd.db", create=True)
    settings, decisions = Settings(min=2, max=8, initial=2), Decisions(conn.execute)  # type: ignore[arg-type]
    controller = Controller.restore(settings, None, 100.0)
    workers = 2
    for number in range(60):
        done = Completion("local", 30.0, cpu_s=3.0, cpu_wait_s=0.0)
        metrics = Metrics(workers, {"local": workers}, {"local": 50}, (done,), 0.3, 0.1, 4.0, 4.0, 0.0, 1e9, 8e9)
        moment = 100.0 + 10 * number
        decision = controller.decide(metrics, moment)
        workers = decision.workers
        start = (settings, Start(100.0, None)) if number == 0 else (None, None)
        decisions.read(Reading(1.8e9 + moment, moment, metrics, workers, decision.cap.value, *start))
    conn.commit()
    conn.close()
    assert workers > 3
    return tmp_path


def tune(home: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["tune", "--home", str(home), *words])


def test_the_same_settings_say_the_same_and_others_what_would_differ(home: Path) -> None:
    assert tune(home).output == "0 of 60 decisions differ.\n"
    facts = json.loads(tune(home, "--set", "max=3", "--json").output)
    assert (facts["readings"], facts["set"]) == (60, {"max": "3"})
    assert facts["differing"] > 0
    assert all(row["now"] <= 3 < row["was"] for row in facts["differences"])
    assert "would be 3" in tune(home, "--set", "max=3").output


def test_what_was_exported_is_replayed_anywhere(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "readings.jsonl"
    assert tune(home, "--export", str(file)).exit_code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert tune(elsewhere, "--replay", str(file)).output == "0 of 60 decisions differ.\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "max"), "it is KEY=VALUE"),
        (("--set", "biggest=3"), "there is no 'biggest'; there are: min, max"),
        (("--set", "max=many"), "max: 'many' is no number"),
        (("--set", "min=9"), "min 9"),
        (("--set", "cpu_high=2"), "cpu_high"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(home: Path, words: tuple[str, ...], says: str) -> None:
    done = tune(home, *words)
    assert done.exit_code == 64
    assert says in done.output


@pytest.mark.parametrize("text", ["", "[]\n", '{"kind": "gsvrd-readings", "schema": 1}\n{"at": 1}\n', "\x00\n"])
def test_a_file_that_is_none_of_readings_is_refused_with_its_line(home: Path, tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad"
    file.write_text(text)
    done = tune(home, "--replay", str(file))
    assert done.exit_code == (65 if text else 0), done.output
    if text:
        assert f"{file}:" in done.output
        assert "gsvrd tune --export" in done.output
    else:
        assert "no readings yet" in done.output


def test_without_a_database_there_is_nothing_to_run(tmp_path: Path) -> None:
    assert tune(tmp_path).exit_code == 65
