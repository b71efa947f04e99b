"""The whole daemon against a server that speaks Gemini's protocol, meters it, and refuses what the real one would."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from support.daemon import Daemon
from support.gemini.process import Served
from support.gemini.rules import KEY
from support.waiting import eventually


def test_a_key_in_the_environment_is_all_the_configuration_there_is(
    gemini: Daemon, server: Served, sample: Path
) -> None:
    gemini.start()
    gemini.drop(sample)
    gemini.until_counts(60, completed=1)
    assert gemini.status()["analyzer"] == "gemini"
    meter = server.meter()
    # Lists are looks for orphans, one a worker.
    routes = {route: count for route, count in meter["by_route"].items() if route != "files.list"}
    assert routes == {"files.delete": 1, "files.get": 1, "generate": 1, "upload.chunk": 1, "upload.start": 1}
    assert meter["files_alive"] == []
    assert meter["keys_in_url"] == 0
    spent = json.loads(gemini.ctl("spend", "--json").stdout)
    assert spent["total"][0]["settled"] == round(meter["usd"] * 1e6)
    assert spent["total"][0]["reserved"] == 0


def test_a_refused_key_stops_everything_loses_nothing_and_says_so(gemini: Daemon, sample: Path) -> None:
    gemini.environ["GEMINI_API_KEY"] = "a-wrong-key-nobody-knows"
    gemini.start()
    gemini.drop(sample)
    eventually(lambda: gemini.status()["state"] == "blocked", 60)
    assert "key" in gemini.status()["reason"]
    eventually(lambda: gemini.counts()["pending"] == 1, 10)
    shown = json.loads(gemini.ctl("show", "lecture-en.mp4", "--json").stdout)
    assert shown["spent"] == 0


def test_a_cost_limit_below_one_call_starts_nothing(gemini: Daemon, server: Served, sample: Path) -> None:
    gemini.environ["GSVRD_ANALYZER__GEMINI__COST_LIMIT_DAY"] = "0.0001"
    gemini.start()
    gemini.drop(sample)
    eventually(lambda: "cost limit" in gemini.status()["reason"], 60)
    assert server.meter()["by_route"].get("generate", 0) == 0


def test_the_key_is_in_nothing_the_daemon_wrote(gemini: Daemon, sample: Path) -> None:
    gemini.environ["GSVRD_LOGS__LEVEL"] = "debug"
    gemini.start()
    gemini.drop(sample)
    gemini.until_counts(60, completed=1)
    started = time.time()
    command = Path(f"/proc/{gemini.pid}/cmdline").read_bytes()
    gemini.stop()
    assert time.time() - started < 60
    assert KEY.encode() not in command
    for folder, _, names in os.walk(gemini.home):
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                assert KEY.encode() not in path.read_bytes(), path


def test_a_small_stand_in_is_sent_where_it_is_asked_for(gemini: Daemon, server: Served, sample: Path) -> None:
    gemini.environ["GSVRD_ANALYZER__GEMINI__PROXY"] = "always"
    gemini.start()
    gemini.drop(sample)
    gemini.until_counts(90, completed=1)
    received = sum(entry["bytes_in"] for entry in server.meter()["entries"] if entry["route"] == "upload.chunk")
    assert 10_000 < received < sample.stat().st_size
    assert not list((gemini.home / "state" / "work").rglob("*.mp4"))


# What lies at the service


def remote_files(server: Served) -> list[str]:
    found: list[str] = server.meter()["files_alive"]
    return found


def test_the_file_of_a_video_that_is_given_up_is_deleted(gemini: Daemon, server: Served, sample: Path) -> None:
    gemini.environ["GSVRD_RETRY__MAX_RETRIES"] = "0"
    server.script(faults=[{"kind": "text", "text": "I cannot.", "calls": None}])
    gemini.start()
    gemini.drop(sample)
    gemini.until_counts(60, failed=1)
    eventually(lambda: not remote_files(server), 20)
    assert server.meter()["by_route"]["files.delete"] == 1


def test_the_file_of_a_video_that_fells_its_worker_is_deleted(gemini: Daemon, server: Served, sample: Path) -> None:
    gemini.environ["GSVRD_RETRY__POISON_LIMIT"] = "1"
    server.script(faults=[{"kind": "hang", "calls": None}])
    gemini.start()
    gemini.drop(sample)
    eventually(lambda: server.meter()["by_route"].get("generate"), 60)
    assert remote_files(server)
    for worker in gemini.workers():
        worker.kill()
    gemini.until_counts(60, failed=1)
    eventually(lambda: not remote_files(server), 20)


def test_the_file_of_a_cancelled_video_is_deleted_but_not_during_a_pause(
    gemini: Daemon, server: Served, sample: Path
) -> None:
    server.script(faults=[{"kind": "hang", "calls": None}])
    gemini.start()
    gemini.drop(sample)
    eventually(lambda: server.meter()["by_route"].get("generate"), 60)
    gemini.ctl("pause")
    assert gemini.ctl("cancel", sample.name).returncode == 0
    gemini.until_counts(60, cancelled=1, running=0)
    assert remote_files(server)
    assert "files.delete" not in server.meter()["by_route"]
    gemini.ctl("resume")
    eventually(lambda: not remote_files(server), 20)


def test_a_file_that_cannot_be_deleted_now_is_deleted_at_the_next_start(
    gemini: Daemon, server: Served, sample: Path
) -> None:
    gemini.environ["GSVRD_RETRY__MAX_RETRIES"] = "0"
    server.script(
        faults=[
            {"kind": "text", "text": "I cannot.", "calls": None},
            {"kind": "internal", "route": "files.delete", "calls": None},
        ]
    )
    gemini.start()
    gemini.drop(sample)
    gemini.until_counts(60, failed=1)
    eventually(lambda: [row for row in gemini.events if row["event"] == "leftovers_stay"], 20)
    gemini.stop()
    assert server.meter()["by_route"]["files.delete"] == 1, "no tight loop"
    server.script(clear=True)
    gemini.start()
    eventually(lambda: not remote_files(server), 20)


def test_an_answer_that_was_of_no_use_is_asked_for_anew(gemini: Daemon, server: Served, sample: Path) -> None:
    server.script(faults=[{"kind": "text", "text": "I cannot.", "calls": [1, 2]}])
    gemini.start()
    gemini.drop(sample)
    gemini.until_counts(90, completed=1)
    assert server.meter()["by_route"]["generate"] == 3
    assert len(server.meter()["uploaded"]) == 1
    assert remote_files(server) == []


def test_two_installations_with_one_key_leave_each_others_files_alone(
    gemini: Daemon, server: Served, sample: Path, tmp_path: Path
) -> None:
    server.script(faults=[{"kind": "hang", "calls": [1]}])
    gemini.start()
    gemini.drop(sample)
    eventually(lambda: server.meter()["by_route"].get("generate"), 60)
    kept = remote_files(server)
    other = Daemon(tmp_path / "other", dict(gemini.environ))
    (other.home / "inbox").mkdir(parents=True)
    try:
        other.start()
        other.drop(sample)
        other.until_counts(60, completed=1)
        assert remote_files(server) == kept
    finally:
        other.stop()
    other.start()
    second = other.drop(sample, "again.mp4")
    with second.open("ab") as file:
        file.write(b"another one")
    other.until_counts(60, completed=2)
    other.stop()
    assert remote_files(server) == kept
    uploads = {name for entry in server.meter()["entries"] for name in entry["files"]}
    assert len({name.split("-")[1] for name in uploads}) == 2
