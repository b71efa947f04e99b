"""What people get wrong, and what the machine does: each has a clear word, nothing is lost, nothing is charged twice."""

from __future__ import annotations

import json
import signal
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support.daemon import Daemon
from support.gemini.process import Served
from support.shifted import ShiftedClock
from support.waiting import eventually

HOUR = 3600


def shown(daemon: Daemon, sample: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(daemon.ctl("show", sample.name, "--json").stdout)
    return facts


def calls(server: Served, route: str = "generate") -> int:
    return int(server.meter()["by_route"].get(route, 0))


def configured(daemon: Daemon, text: str) -> None:
    """A new configuration, put into effect while the daemon runs."""
    reloads = len([row for row in daemon.events if row["event"] in ("reloaded", "reload_refused")])
    daemon.configure(text)
    daemon.signal(signal.SIGHUP)
    eventually(
        lambda: len([row for row in daemon.events if row["event"] in ("reloaded", "reload_refused")]) > reloads, 30
    )


# At the start


def refusal(daemon: Daemon) -> tuple[int, str]:
    """How a daemon that does not start ends, and its words."""
    daemon.start(wait=False)
    assert daemon.process is not None
    return daemon.process.wait(30), daemon.log


def test_without_a_key_the_gemini_analyzer_does_not_start_and_says_what_to_do(daemon: Daemon) -> None:
    daemon.environ = {}
    daemon.configure("analyzer: gemini\n")
    code, words = refusal(daemon)
    assert code == 78
    assert "there is no key" in words
    assert "GEMINI_API_KEY" in words
    assert "stopped" in daemon.ctl("status").stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "is no template"), ("just words", "is no template"), ("name: mine\nversion: 1\n", "prompt: is missing")],
    ids=["empty", "no map", "half of it"],
)
def test_a_wrong_template_is_refused_at_the_start_with_its_file_and_place(
    gemini: Daemon, text: str, words: str
) -> None:
    (gemini.home / "config" / "templates").mkdir(parents=True)
    (gemini.home / "config" / "templates" / "mine.yaml").write_text(text)
    code, said = refusal(gemini)
    assert code == 78
    assert "mine.yaml" in said
    assert words in said


def test_parameters_that_the_template_does_not_have_are_refused_before_anything_starts(gemini: Daemon) -> None:
    gemini.configure("template: comprehensive_lesson\nparameters: {quiz_questions: many, colour: red}\n")
    code, said = refusal(gemini)
    assert code == 78
    assert "quiz_questions: found 'many'" in said
    assert "colour: there is no such parameter" in said


# While it runs


def test_a_wrong_template_at_a_reload_changes_nothing_and_is_told(gemini: Daemon, server: Served, sample: Path) -> None:
    gemini.start()
    (gemini.home / "config" / "templates").mkdir(parents=True)
    (gemini.home / "config" / "templates" / "mine.yaml").write_text("")
    configured(gemini, "template: mine\n")
    assert "mine.yaml" in gemini.status()["reload"]["problem"]
    gemini.drop(sample)
    gemini.until_counts(60, completed=1)
    assert 'template: "comprehensive_lesson"' in (gemini.home / "reports" / "lecture-en.md").read_text()
    assert calls(server) == 1


def test_parameters_of_the_configuration_reach_the_prompt(gemini: Daemon, server: Served, sample: Path) -> None:
    gemini.start()
    gemini.drop(sample, "without.mp4")
    gemini.until_counts(60, completed=1)
    configured(gemini, f"parameters: {{audience: {'learners ' * 30}}}\n")
    with gemini.drop(sample, "with.mp4").open("ab") as file:
        file.write(b"another content")
    gemini.until_counts(60, completed=2)
    first, second = [entry["prompt_tokens"] for entry in server.meter()["entries"] if entry["route"] == "generate"]
    assert second > first + 40


def test_an_unknown_model_closes_the_door_until_a_reload_names_a_right_one(
    gemini: Daemon, server: Served, sample: Path
) -> None:
    prices = 'prices: ["no-such-model 1 2", "gemini-3.8-flash 1 2"]'
    gemini.configure(f"analyzer: {{gemini: {{model: no-such-model, {prices}}}}}\n")
    gemini.start()
    gemini.drop(sample)
    eventually(lambda: gemini.status()["state"] == "blocked", 60)
    assert "model" in gemini.status()["reason"]
    gemini.until_counts(20, pending=1, running=0)
    assert shown(gemini, sample)["spent"] == 0
    refused = calls(server)
    configured(gemini, f"analyzer: {{gemini: {{model: gemini-3.8-flash, {prices}}}}}\n")
    # It was given back for a minute or so; a reload is somebody's word that it may be tried at once.
    gemini.until_counts(150, completed=1)
    assert calls(server) == refused + 1
    assert sum(server.meter()["uploaded"].values()) == 1, "the upload was kept"
    assert gemini.status()["state"] == "running"


def test_a_file_over_the_limit_is_a_failure_that_says_what_to_do(gemini: Daemon, server: Served, sample: Path) -> None:
    gemini.configure("analyzer: {gemini: {max_file_size: 100kB, proxy: never}}\n")
    gemini.start()
    gemini.drop(sample)
    gemini.until_counts(60, failed=1)
    record = json.loads((gemini.home / "failed" / f"{sample.name}.error.json").read_text())
    assert record["kind"] == "too_large"
    assert "MB" in record["why"]
    assert "Export the video" in record["what_to_do"]
    assert calls(server, "upload.start") == 0


def test_an_unknown_price_with_a_cost_limit_calls_nothing_and_says_so(
    gemini: Daemon, server: Served, sample: Path
) -> None:
    gemini.configure('analyzer: {gemini: {cost_limit_total: 5, prices: ["another-model 1 2"]}}\n')
    gemini.start()
    gemini.drop(sample)
    eventually(lambda: gemini.status()["state"] == "blocked", 60)
    assert "price" in gemini.status()["reason"]
    gemini.until_counts(20, pending=1, running=0)
    assert shown(gemini, sample)["spent"] == 0
    assert calls(server) == 0


# A clock that jumps


@pytest.fixture
def clock(gemini: Daemon, tmp_path: Path) -> ShiftedClock:
    """The wall clock of the daemon and of its workers; the server's is the real one."""
    if not ShiftedClock.is_possible():
        pytest.skip("needs a C compiler")
    made = ShiftedClock(tmp_path)
    gemini.environ |= made.environ
    return made


def drop_another(daemon: Daemon, sample: Path, number: int) -> None:
    with daemon.drop(sample, f"{number}.mp4").open("ab") as file:
        file.write(b"%d" % number)


def test_a_clock_that_jumps_by_hours_loses_nothing_and_charges_nothing_twice(
    gemini: Daemon, server: Served, sample: Path, clock: ShiftedClock
) -> None:
    gemini.start()
    for number, hours in enumerate((0, 5, -7, 20, 0), 1):
        drop_another(gemini, sample, number)
        eventually(lambda: calls(server, "upload.start") >= number, 30)  # noqa: B023
        clock.set(hours * HOUR)
        # Half a minute by the clock on the wall of whoever waits, however the daemon's runs.
        gemini.until_counts(30, completed=number)
    meter = server.meter()
    assert set(meter["answered"].values()) == {1}
    assert set(meter["uploaded"].values()) == {1}
    assert len(gemini.files("reports")) == 5
    spent = json.loads(gemini.ctl("spend", "--json").stdout)["total"][0]
    assert spent["reserved"] == 0
    assert abs(spent["settled"] - meter["usd"] * 1e6) <= 5, "to the rounding of each call"


def test_a_retry_does_not_wait_for_hours_because_the_clock_went_back(
    gemini: Daemon, server: Served, sample: Path, clock: ShiftedClock
) -> None:
    server.script(faults=[{"kind": "internal"}])
    clock.set(6 * HOUR)
    gemini.start()
    gemini.drop(sample)
    eventually(lambda: any(row["event"] == "attempt_failed" for row in gemini.events), 60)
    clock.set(0)
    gemini.until_counts(45, completed=1)


def test_the_quota_of_a_day_does_not_come_back_with_the_clock(
    gemini: Daemon, server: Served, sample: Path, clock: ShiftedClock
) -> None:
    gemini.environ["GSVRD_ANALYZER__GEMINI__REQUESTS_PER_DAY"] = "1"
    gemini.start()
    drop_another(gemini, sample, 1)
    gemini.until_counts(60, completed=1)
    there = datetime.now(ZoneInfo("America/Los_Angeles"))
    clock.set(-(there.hour + 1) * HOUR)  # the day before, by an hour at most
    drop_another(gemini, sample, 2)
    eventually(lambda: any(row["event"] == "attempt_snoozed" for row in gemini.events), 60)
    gemini.until_counts(30, pending=1, running=0)
    assert calls(server) == 1
    clock.set((25 - there.hour) * HOUR)  # the next day
    gemini.until_counts(60, completed=2)
    assert calls(server) == 2
