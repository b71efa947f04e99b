"""`gsvrctl why`, `retry` and `cancel`, with a real daemon that is up, paused or down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, environment
from support.waiting import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "status.md").read_text()


def told(daemon: Daemon, *words: str, code: int = 0) -> dict[str, Any]:
    """What a command prints as JSON."""
    done = daemon.ctl(*words, "--json")
    assert done.returncode == code, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def results(daemon: Daemon, *words: str, code: int = 0) -> list[str]:
    return [result["code"] for result in told(daemon, *words, code=code)["results"]]


def at_work_for_ever(daemon: Daemon, sample: Path, name: str) -> int:
    """Have the only worker take the video and stand still; returns its pid. By then it has done `first.mp4`."""
    daemon.configure("workers: {max: 1}\nretry: {poison_limit: 1}\n")
    daemon.start()
    daemon.drop(sample, "first.mp4")
    daemon.until_counts(completed=1)
    (worker,) = daemon.workers()
    worker.suspend()
    daemon.drop(sample, name)
    daemon.until_counts(running=1)
    return int(worker.pid)


# -- cancel --------------------------------------------------------------------------------------------------------------


def test_a_queued_video_is_cancelled_stays_and_is_not_queued_again(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.ctl("pause")
    daemon.drop(sample, "课/第一课.mp4")
    daemon.drop(sample, "b.mp4")
    daemon.until_counts(pending=2)
    done = daemon.ctl("cancel", "第一课.mp4")
    assert done.returncode == 0
    assert "课/第一课.mp4: cancelled" in done.stdout
    assert "not queued again" in done.stdout
    daemon.ctl("resume")
    daemon.signal(signal.SIGHUP)  # scans the inbox
    daemon.until_counts(completed=1, cancelled=1, pending=0)
    eventually(lambda: daemon.files("inbox") == ["课/第一课.mp4"])  # the other goes to the archive after its row
    assert results(daemon, "retry", "第一课.mp4") == ["done"]
    daemon.until_counts(completed=2, cancelled=0)
    assert "课/第一课.md" in daemon.files("reports")


def test_a_running_video_is_cancelled_and_its_worker_is_ended(daemon: Daemon, sample: Path) -> None:
    pid = at_work_for_ever(daemon, sample, "slow.mp4")
    assert results(daemon, "cancel", "slow.mp4") == ["done"]
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    daemon.drop(sample, "next.mp4")
    daemon.until_counts(completed=2, cancelled=1, running=0)
    assert daemon.files("reports") == ["first.md", "next.md"]
    attempt = told(daemon, "why", "slow.mp4")["task"]["timeline"][2]
    assert (attempt["outcome"], attempt["then"]) == ("cancelled", "cancel")


def test_cancel_works_with_the_daemon_down(daemon: Daemon, sample: Path) -> None:
    at_work_for_ever(daemon, sample, "a.mp4")
    daemon.drop(sample, "b.mp4")
    daemon.until_counts(pending=1)
    daemon.kill()
    assert results(daemon, "cancel", "a.mp4", "b.mp4") == ["done", "done"]
    daemon.start()
    daemon.until_counts(cancelled=2, pending=0, running=0, completed=1)
    assert daemon.files("inbox") == ["a.mp4", "b.mp4"]


# -- retry ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_up", [True, False])
def test_a_failed_video_is_retried_from_where_it_lies(daemon: Daemon, sample: Path, is_up: bool) -> None:
    os.kill(at_work_for_ever(daemon, sample, "课/a.mp4"), signal.SIGKILL)
    daemon.until_counts(failed=1)
    eventually(lambda: daemon.files("failed") == ["课/a.mp4", "课/a.mp4.error.json"])
    if not is_up:
        daemon.stop()
    facts = told(daemon, "retry", "--failed")
    assert [(result["code"], result["before"], result["after"]) for result in facts["results"]] == [
        ("done", "failed", "pending")
    ]
    assert (facts["pid"] is not None) is is_up
    if not is_up:
        daemon.start()
    daemon.until_counts(completed=2, failed=0)
    eventually(lambda: (daemon.files("failed"), daemon.files("archive")) == ([], ["first.mp4", "课/a.mp4"]))
    assert daemon.files("reports") == ["first.md", "课/a.md"]


def test_what_cannot_be_done_is_named_and_the_rest_is_done(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.ctl("pause")
    daemon.drop(sample, "a.mp4")
    daemon.until_counts(pending=1)
    done = daemon.ctl("cancel", "nothing.mp4", "a.mp4")
    assert done.returncode == 66
    assert "a.mp4: cancelled" in done.stdout
    assert "nothing.mp4: there is no such task" in done.stderr
    assert results(daemon, "cancel", "a.mp4", code=1) == ["cancelled"]
    assert results(daemon, "retry", "nothing.mp4", code=66) == ["unknown"]
    daemon.drop(sample, "x/same.mp4")
    daemon.drop(sample, "y/same.mp4")
    daemon.until_counts(pending=2)
    several = daemon.ctl("cancel", "same.mp4")
    assert several.returncode == 1
    assert "x/same.mp4" in several.stderr
    assert "y/same.mp4" in several.stderr
    assert daemon.counts()["pending"] == 2


@pytest.mark.parametrize(
    "words", [["retry"], ["cancel"], ["retry", "1", "--failed"], ["retry", "1", "--kind", "network"], ["why"]]
)
def test_words_that_make_no_sense_are_a_usage_error(daemon: Daemon, words: list[str]) -> None:
    assert daemon.ctl(*words).returncode == 64


def test_a_dry_run_writes_not_one_byte(daemon: Daemon, sample: Path) -> None:
    os.kill(at_work_for_ever(daemon, sample, "a.mp4"), signal.SIGKILL)
    daemon.until_counts(failed=1)
    daemon.ctl("pause")
    daemon.drop(sample, "b.mp4")
    daemon.until_counts(pending=1)
    daemon.stop()
    before = (daemon.home / "state" / "gsvrd.db").read_bytes()
    assert results(daemon, "retry", "--failed", "--dry-run") == ["done"]
    assert results(daemon, "cancel", "b.mp4", "--dry-run") == ["done"]
    assert "would be cancelled" in daemon.ctl("cancel", "b.mp4", "--dry-run").stdout
    assert (daemon.home / "state" / "gsvrd.db").read_bytes() == before
    assert daemon.counts()["pending"] == 1


# -- why -----------------------------------------------------------------------------------------------------------------


def test_why_tells_a_death_by_its_true_cause(daemon: Daemon, sample: Path) -> None:
    os.kill(at_work_for_ever(daemon, sample, "a.mp4"), signal.SIGKILL)
    daemon.until_counts(failed=1)
    eventually(lambda: daemon.files("failed") == ["a.mp4", "a.mp4.error.json"])
    done = daemon.ctl("why", "a.mp4")
    assert done.returncode == 0
    assert "SIGKILL" in done.stdout
    assert str(daemon.home / "failed" / "a.mp4.error.json") in done.stdout
    assert "gsvrctl retry 2" in done.stdout
    record = told(daemon, "why", str(daemon.home / "failed" / "a.mp4.error.json"))
    assert record["task"]["id"] == 2
    assert record["task"]["timeline"][2]["cause"]["kind"] == "crashed"


def test_why_finds_a_finished_video_by_all_its_names_with_the_daemon_down(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.drop(sample, "课/第一课.mp4")
    daemon.until_counts(completed=1)
    eventually(lambda: daemon.files("archive") == ["课/第一课.mp4"])
    daemon.stop()
    home = daemon.home
    names = [
        *("1", "第一课.mp4", "课/第一课.mp4", str(home / "inbox/课/第一课.mp4")),
        *(str(home / "archive/课/第一课.mp4"), str(home / "reports/课/第一课.md")),
    ]
    for name in names:
        facts = told(daemon, "why", name)
        assert (facts["task"]["id"], facts["file"]) == (1, None), name
        assert facts["task"]["where"]["report"] == {"path": str(home / "reports/课/第一课.md"), "exists": True}


def test_why_says_what_a_waiting_video_waits_for(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.ctl("pause")
    daemon.drop(sample, "a.mp4")
    daemon.until_counts(pending=1)
    assert told(daemon, "why", "a.mp4")["task"]["now"]["code"] == "paused"
    assert "gsvrctl resume" in daemon.ctl("why", "a.mp4").stdout
    daemon.stop()
    waits = told(daemon, "why", "a.mp4")["task"]["now"]["waits"]
    assert [wait["code"] for wait in waits] == ["daemon_down", "paused"]


def test_why_says_why_a_file_has_no_task(
    daemon: Daemon, sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    daemon.configure("intake: {ignore: [draft-*]}\n")
    daemon.start()
    inbox = daemon.home / "inbox"
    daemon.drop(sample, "draft-1.mp4")
    with (inbox / "open.mp4").open("wb") as writer:
        writer.write(sample.read_bytes())
        writer.flush()
        assert told(daemon, "why", "open.mp4")["file"]["code"] == "writing"
        assert told(daemon, "why", "draft-1.mp4")["file"]["code"] == "ignored"
    outside = tmp_path_factory.mktemp("elsewhere") / "o.mp4"
    outside.write_bytes(sample.read_bytes())
    assert told(daemon, "why", str(outside))["file"]["code"] == "outside"
    daemon.until_counts(completed=1)
    daemon.stop()
    daemon.drop(sample, "new.mp4")
    facts = told(daemon, "why", "new.mp4")
    assert (facts["task"], facts["file"]["code"]) == (None, "daemon_down")
    assert daemon.ctl("why", "nothing.mp4").returncode == 66


def test_why_knows_lists_the_videos_they_wait_for_and_options_of_folders(daemon: Daemon, sample: Path) -> None:
    inbox = daemon.home / "inbox"
    daemon.configure("language: zh\n")
    (inbox / "course").mkdir()
    (inbox / "course" / "gsvrd.yaml").write_text("template: poem\n")
    (inbox / "course" / "term.csv").write_text("path,priority\nlate.mp4,-5\nb.mp4,high\n")
    facts = told(daemon, "why", "course/term.csv")
    assert (facts["list"]["code"], len(facts["list"]["problems"])) == ("list_waits", 1)
    assert "poem" not in facts["list"]["message"]
    (inbox / "course" / "gsvrd.yaml").write_text("priority: high\n")
    assert told(daemon, "why", "course/gsvrd.yaml")["file"]["code"] == "options_wrong"
    (inbox / "course" / "gsvrd.yaml").write_text("template: study_notes\n")
    assert "template" in told(daemon, "why", "course/gsvrd.yaml")["file"]["message"]
    daemon.start()
    eventually(lambda: (daemon.home / "archive" / "course" / "term.csv").exists())
    for word in ("course/term.csv", str(daemon.home / "archive" / "course" / "term.csv")):
        listed = told(daemon, "why", word)["list"]
        assert (listed["code"], listed["missing"]) == ("list_read", [str(inbox / "course" / "late.mp4")])
        assert listed["problems"] == ["term.csv:3: priority: found 'high'; allowed: a whole number from -1000 to 1000"]
    errors = daemon.home / "inbox" / "course" / "term.csv.errors.txt"
    assert told(daemon, "why", str(errors))["file"]["code"] == "list_errors"
    awaited = told(daemon, "why", "late.mp4")
    assert (awaited["task"], awaited["awaited"]["batch_name"], awaited["error"]) == (None, "term", None)
    assert "has not come yet" in daemon.ctl("why", "late.mp4").stdout
    daemon.drop(sample, "course/late.mp4")
    daemon.until_counts(completed=1)
    task = told(daemon, "why", "late.mp4")["task"]
    assert {one["name"]: (one["value"], one["origin"].rpartition("/")[2]) for one in task["options"]} == {
        "language": ("zh", "gsvrd.yaml:1"),
        "priority": (-5, "term.csv:2"),
        "template": ("study_notes", "gsvrd.yaml"),
    }
    assert "template: study_notes (said in course/gsvrd.yaml)" in daemon.ctl("why", "late.mp4").stdout
    assert told(daemon, "why", "course/term.csv")["list"]["missing"] == []


def test_a_word_that_means_nothing_is_told_as_json_in_one_shape(daemon: Daemon) -> None:
    daemon.start()
    error = told(daemon, "why", "nonsense", code=66)["error"]
    assert set(told(daemon, "show", "nonsense", code=66)["error"]) == set(error)
    (result,) = told(daemon, "retry", "nonsense", code=66)["results"]
    assert (error["code"], result["code"]) == ("unknown", "unknown")
    assert set(error) <= set(result)
    assert error["asked"] == result["asked"] == "nonsense"


def test_why_tells_a_new_file_from_the_finished_one_of_the_same_name(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.drop(sample, "a.mp4")
    daemon.until_counts(completed=1)
    eventually(lambda: daemon.files("inbox") == [])
    daemon.stop()
    daemon.drop(sample, "a.mp4")
    facts = told(daemon, "why", "a.mp4")
    assert (facts["file"]["code"], facts["task"]["state"]) == ("daemon_down", "completed")
    daemon.start()
    daemon.until_counts(completed=2)
    facts = told(daemon, "why", "a.mp4")
    assert facts["file"] is None
    assert (facts["task"]["id"], [other["task"] for other in facts["others"]]) == (2, [1])


def test_why_works_before_any_daemon_has_run_and_with_a_broken_configuration(daemon: Daemon, sample: Path) -> None:
    daemon.configure("nonsense: 1\n")
    daemon.drop(sample, "a.mp4")
    facts = told(daemon, "why", "a.mp4")
    assert facts["file"]["code"] == "daemon_down"
    assert "nonsense" in facts["file"]["configuration"]
    assert not (daemon.home / "state").exists()


def test_retry_and_cancel_before_any_daemon_has_run_say_so_and_make_nothing(daemon: Daemon) -> None:
    for words in (["retry", "--failed"], ["cancel", "1"]):
        done = daemon.ctl(*words)
        assert done.returncode == 65
        assert "no database" in done.stderr
    assert not (daemon.home / "state").exists()


# -- what programs rely on -----------------------------------------------------------------------------------------------


def test_every_field_of_the_json_is_documented(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    (daemon.home / "inbox" / "a.mp4").write_text("no video")
    daemon.until_counts(failed=1)
    daemon.stop()
    daemon.drop(sample, "b.mp4")
    task, file = told(daemon, "why", "1"), told(daemon, "why", "b.mp4")
    (daemon.home / "inbox" / "c.csv").write_text("path\nd.mp4\n")
    listed, unknown = told(daemon, "why", "c.csv"), told(daemon, "why", "nonsense", code=66)
    operated = told(daemon, "retry", "1", "--dry-run")
    groups = [task, task["task"], task["task"]["now"], task["task"]["where"], task["task"]["cost"]]
    groups += [
        *task["task"]["timeline"],
        file["file"],
        listed["list"],
        unknown["error"],
        operated,
        *operated["results"],
    ]
    names = {name for group in groups for name in group}
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_why_imports_no_sdk_no_watchdog_and_no_decoder(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.drop(sample, "done.mp4")
    daemon.until_counts(completed=1)
    daemon.stop()
    daemon.drop(sample, "new.mp4")
    heavy = ("watchdog", "google.generativeai", "google.genai", "av", "numpy", "sqlite_utils")
    for word, unwanted in (("done.mp4", (*heavy, "pydantic")), ("new.mp4", heavy)):
        code = (
            "import sys\nfrom gsvrd.cli.gsvrctl import main\n"
            f"try:\n    main(['--home', {str(daemon.home)!r}, 'why', {word!r}])\nexcept SystemExit: pass\n"
            f"print([name for name in {unwanted!r} if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60
        )
        assert done.stdout.splitlines()[-1] == "[]", done.stderr
