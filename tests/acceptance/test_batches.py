"""`gsvrctl batches`, `batch`, `plan` and `webhooks`, with a real daemon that is up, paused or down."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.daemon import Daemon, environment
from support.waiting import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "status.md").read_text()


def told(daemon: Daemon, *words: str, code: int = 0) -> dict[str, Any]:
    """What a command prints as JSON."""
    done = daemon.ctl(*words, "--json")
    assert done.returncode == code, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def states(daemon: Daemon) -> dict[str, str]:
    return {batch["name"]: batch["state"] for batch in told(daemon, "batches")["batches"]}


def drop(daemon: Daemon, sample: Path, *names: str) -> None:
    """Videos of different content."""
    for name in names:
        path = daemon.drop(sample, f".{name.replace('/', '-')}.part")
        with path.open("ab") as file:
            file.write(name.encode())
        target = daemon.home / "inbox" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def everything(home: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and bytes, but the daemon's log."""
    files = [path for path in home.rglob("*") if path.is_file() and path.name != "daemon.log"]
    return {str(path.relative_to(home)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_dropped_folder_is_a_batch_that_a_late_video_opens_again(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    drop(daemon, sample, "物理/第一课.mp4", "物理/week 2/2.mp4")
    eventually(lambda: states(daemon) == {"物理": "COMPLETED"})
    batch = told(daemon, "batch", "物理")
    assert (batch["counts"]["completed"], batch["kind"]) == (2, "folder")
    assert {task["report"] for task in batch["tasks"]} == {"物理/第一课.md", "物理/week 2/2.md"}
    assert batch["created_at"] <= batch["started_at"] <= batch["ended_at"]
    daemon.ctl("pause")
    drop(daemon, sample, "物理/late.mp4")
    eventually(lambda: states(daemon) == {"物理": "PAUSED"})
    daemon.ctl("resume")
    eventually(lambda: told(daemon, "batch", "物理")["counts"]["completed"] == 3)
    assert states(daemon) == {"物理": "COMPLETED"}
    assert "第一课.md" in daemon.ctl("batch", "物理").stdout


def test_one_batch_is_paused_while_another_goes_on(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    drop(daemon, sample, "a/1.mp4")
    eventually(lambda: states(daemon) == {"a": "COMPLETED"})
    facts = told(daemon, "batch", "a", "pause")
    assert (facts["done"], facts["batch"]["hold"], facts["pid"]) == (True, "paused by gsvrctl", daemon.pid)
    drop(daemon, sample, "a/2.mp4", "b/1.mp4")
    eventually(lambda: states(daemon) == {"a": "PAUSED", "b": "COMPLETED"})
    assert told(daemon, "batch", "a")["counts"]["pending"] == 1
    held = told(daemon, "plan")
    assert [(one["name"], one["verdict"]) for one in held["videos"]] == [("a/2.mp4", "held")]
    done = daemon.ctl("batch", "a", "resume")
    assert (done.returncode, done.stdout.splitlines()[0][:20]) == (0, "batch 1, a: resumed ")
    eventually(lambda: states(daemon) == {"a": "COMPLETED", "b": "COMPLETED"})


def test_a_batch_is_paused_and_cancelled_with_the_daemon_down(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.ctl("pause")
    drop(daemon, sample, "a/1.mp4", "a/2.mp4", "b/1.mp4", "c/1.mp4")
    daemon.until_counts(pending=4)
    daemon.stop()
    assert told(daemon, "batch", "a", "cancel", "--dry-run")["cancelled"] == 2
    assert states(daemon)["a"] == "PAUSED"
    assert told(daemon, "batch", "a", "cancel")["cancelled"] == 2
    assert told(daemon, "batch", "b", "pause")["pid"] is None
    assert told(daemon, "batch", "a", "cancel", code=1)["code"] == "cancelled"
    assert told(daemon, "batch", "nothing", "pause", code=66)["code"] == "unknown"
    daemon.ctl("resume")
    daemon.start()
    daemon.until_counts(completed=1)
    eventually(lambda: states(daemon) == {"a": "CANCELLED", "b": "PAUSED", "c": "COMPLETED"})
    assert daemon.files("inbox") == ["a/1.mp4", "a/2.mp4", "b/1.mp4"]
    assert [one["name"] for one in told(daemon, "batches", "--state", "cancelled")["batches"]] == ["a"]


def test_running_videos_of_a_cancelled_batch_are_ended_and_others_done(daemon: Daemon, sample: Path) -> None:
    daemon.configure("workers: {max: 1}\n")
    daemon.start()
    drop(daemon, sample, "first.mp4")
    daemon.until_counts(completed=1)
    (worker,) = daemon.workers()
    worker.suspend()
    drop(daemon, sample, "a/1.mp4")
    daemon.until_counts(running=1)
    drop(daemon, sample, "b/1.mp4")
    daemon.until_counts(pending=1)
    assert told(daemon, "batch", "a", "cancel")["cancelled"] == 1
    eventually(lambda: not worker.is_running())
    daemon.until_counts(completed=2, cancelled=1)
    assert states(daemon)["a"] == "CANCELLED"


# -- plan ----------------------------------------------------------------------------------------------------------------


def plan(daemon: Daemon, *words: str, code: int = 0) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["verdict"], one["code"]) for one in told(daemon, "plan", *words, code=code)["videos"]}


def test_a_plan_writes_not_one_byte_and_says_what_would_be_done(
    daemon: Daemon, sample: Path, tmp_path_factory: Any
) -> None:
    daemon.configure("batch: {skip_existing: true}\n")
    daemon.start()
    daemon.drop(sample, "done.mp4")
    daemon.until_counts(completed=1)
    eventually(lambda: daemon.files("archive") == ["done.mp4"])
    daemon.ctl("pause")
    drop(daemon, sample, "waiting.mp4")
    daemon.until_counts(pending=1)
    daemon.stop()
    inbox = daemon.home / "inbox"
    daemon.drop(sample, "again.mp4")
    drop(daemon, sample, "课/new.mp4")
    (inbox / "课" / "gsvrd.yaml").write_text("language: zh\ntemplate: study_notes\n")
    (inbox / "notes.docx").write_text("no video")
    (inbox / "broken.mp4").write_text("no video")
    (inbox / "half.mp4.part").write_bytes(b"x")
    outside = tmp_path_factory.mktemp("elsewhere") / "o.mp4"
    outside.write_bytes(sample.read_bytes() + b"o")
    before = everything(daemon.home)
    with (inbox / "课" / "new.mp4").open("ab"):
        assert plan(daemon)["课/new.mp4"] == ("skipped", "writing")
    facts = told(daemon, "plan")
    assert {one["name"]: (one["verdict"], one["code"]) for one in facts["videos"]} == {
        "waiting.mp4": ("done", "study"),
        "课/new.mp4": ("done", "study"),
        "again.mp4": ("skipped", "report_exists"),
        "notes.docx": ("skipped", "suffix"),
        "broken.mp4": ("skipped", "not_video"),
        "half.mp4.part": ("skipped", "partial"),
    }
    new = next(one for one in facts["videos"] if one["name"] == "课/new.mp4")
    assert (new["template"], new["language"], new["batch"]) == ("study_notes", "zh", "课")
    assert 81 < new["duration_s"] < 82
    assert facts["totals"]["done"]["videos"] == 2
    assert plan(daemon, str(outside), str(inbox / "again.mp4")) == {
        "waiting.mp4": ("done", "study"),
        str(outside): ("done", "study"),
        "again.mp4": ("skipped", "report_exists"),
    }
    assert plan(daemon, str(inbox / "nothing.mp4"), code=66)[str(inbox / "nothing.mp4")] == ("skipped", "refused")
    assert "Nothing was written, moved or called." in daemon.ctl("plan").stdout
    assert everything(daemon.home) == before


def test_a_plan_before_any_daemon_has_run_makes_nothing(daemon: Daemon, sample: Path) -> None:
    daemon.drop(sample, "a.mp4")
    assert plan(daemon) == {"a.mp4": ("done", "study")}
    assert not (daemon.home / "state").exists()
    assert told(daemon, "batches")["batches"] == []
    assert told(daemon, "webhooks")["dead"] == 0
    assert not (daemon.home / "state").exists()


def test_a_plan_says_when_it_would_be_done_once_some_videos_are(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    drop(daemon, sample, "1.mp4", "2.mp4", "3.mp4")
    daemon.until_counts(completed=3)
    daemon.ctl("pause")
    drop(daemon, sample, "4.mp4")
    daemon.until_counts(pending=1)
    finish = told(daemon, "plan")["finish"]
    assert finish["remaining_s"]["p50"] <= finish["remaining_s"]["p90"]
    assert finish["remaining_s"]["p90"] > 0


def test_a_plan_reckons_with_what_is_then_reserved(gemini: Daemon, sample: Path) -> None:
    drop(gemini, sample, "a/1.mp4")
    (planned,) = told(gemini, "plan")["videos"]
    gemini.start()
    gemini.until_counts(completed=1)
    with sqlite3.connect(gemini.home / "state" / "gsvrd.db") as conn:
        calls = conn.execute("SELECT tokens_reserved, reserved_micro FROM ledger WHERE lane = 'generate'").fetchall()
    assert len(calls) == planned["calls"] == 1
    ((tokens, micro),) = calls
    assert abs(tokens - planned["tokens_in"]) < 0.01 * tokens
    assert abs(micro - planned["cost_most_micro"]) < 0.01 * micro
    batch = told(gemini, "batch", "a")
    assert batch["cost_micro"] == batch["tasks"][0]["cost_micro"] > 0


# -- what programs rely on -----------------------------------------------------------------------------------------------


def test_every_field_of_the_json_is_documented(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    drop(daemon, sample, "a/1.mp4")
    daemon.until_counts(completed=1)
    daemon.signal(signal.SIGUSR1)
    drop(daemon, sample, "a/2.mp4")
    daemon.until_counts(pending=1)
    planned = told(daemon, "plan")
    groups = [told(daemon, "batches"), *told(daemon, "batches")["batches"], told(daemon, "batch", "a", "pause")]
    one = told(daemon, "batch", "a")
    groups += [one, *one["tasks"], planned, *planned["videos"], *planned["totals"].values(), planned["finish"]]
    groups += [told(daemon, "webhooks")]
    names = {name for group in groups for name in group}
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_batches_and_plan_import_no_more_than_they_need(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    drop(daemon, sample, "a/1.mp4")
    daemon.until_counts(completed=1)
    daemon.stop()
    drop(daemon, sample, "a/2.mp4")
    sdks = ("google.generativeai", "google.genai", "av", "numpy", "sqlite_utils")
    heavy = (*sdks, "watchdog", "pydantic", "gsvrd.pool")
    for words, unwanted in ((["batches"], heavy), (["batch", "a"], heavy), (["plan"], sdks)):
        code = (
            "import sys\nfrom gsvrd.cli.gsvrctl import main\n"
            f"try:\n    main(['--home', {str(daemon.home)!r}, *{words!r}])\nexcept SystemExit: pass\n"
            f"print([name for name in {unwanted!r} if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60
        )
        assert done.stdout.splitlines()[-1] == "[]", (words, done.stdout, done.stderr)
