"""`gsvrctl doctor` as an operator uses it."""

from __future__ import annotations

import json
from typing import Any

from support.daemon import Daemon
from support.gemini.process import Served
from support.gemini.rules import KEY


def diagnosis(daemon: Daemon, *words: str) -> tuple[int, dict[str, Any]]:
    done = daemon.ctl("doctor", "--json", *words)
    assert done.stderr == ""
    assert KEY not in done.stdout
    facts: dict[str, Any] = json.loads(done.stdout)
    assert facts["schema"] == 1
    return done.returncode, {one["code"]: one for one in facts["findings"]}


def test_it_looks_with_the_daemon_up_killed_and_down_and_leaves_no_trace(daemon: Daemon) -> None:
    daemon.start()
    code, found = diagnosis(daemon)
    assert code < 2
    assert found["daemon"] == {
        "code": "daemon",
        "level": "good",
        "message": f"the daemon runs (pid {daemon.pid})",
        "hint": "",
    }
    assert found["database"]["level"] == found["events"]["level"] == found["open_files"]["level"] == "good"
    daemon.kill()
    before = {path: path.stat().st_size for path in daemon.home.rglob("*") if path.suffix != ".db-shm"}
    code, found = diagnosis(daemon)
    assert (code < 2, found["daemon"]["level"], found["database"]["level"]) == (True, "note", "good")
    assert {path: path.stat().st_size for path in daemon.home.rglob("*") if path.suffix != ".db-shm"} == before
    assert daemon.start().stop() == 0
    assert diagnosis(daemon)[1]["database"]["level"] == "good"
    assert sorted(path.name for path in (daemon.home / "state").glob("gsvrd.db*")) == ["gsvrd.db"]


def test_the_worst_is_the_exit_code_and_each_has_what_to_do(daemon: Daemon) -> None:
    daemon.start().stop()
    (daemon.home / "state").chmod(0o755)
    code, found = diagnosis(daemon)
    assert (code, found["state_open"]["level"]) == (1, "warning")
    daemon.configure("retry: {max_retries: many}")
    code, found = diagnosis(daemon)
    assert (code, found["configuration"]["level"]) == (2, "error")
    assert "retry.max_retries" in found["configuration"]["message"]
    assert all(one["hint"] for one in found.values() if one["level"] in ("warning", "error"))
    told = daemon.ctl("doctor")
    assert told.returncode == 2
    assert "error   " in told.stdout


def test_the_service_is_asked_only_with_online_and_a_refused_key_is_told_and_not_shown(
    gemini: Daemon, server: Served
) -> None:
    before = server.meter()["requests"]
    assert diagnosis(gemini)[1]["key"]["level"] == "good"
    assert server.meter()["requests"] == before
    assert diagnosis(gemini, "--online")[1]["key"]["message"].startswith("the service takes the key")
    gemini.environ["GEMINI_API_KEY"] = "AIzaSyNobodysKeyAtAllNobodysKeyAtAll"
    code, found = diagnosis(gemini, "--online")
    assert (code, found["key"]["level"]) == (2, "error")
    assert "Nobodys" not in json.dumps(found)
    gemini.environ |= {"GEMINI_API_KEY": KEY, "GSVRD_ANALYZER__GEMINI__MODEL": "gemini-0"}
    assert diagnosis(gemini, "--online")[1]["model"]["level"] == "error"
    gemini.environ["GSVRD_GEMINI_BASE_URL"] = "http://127.0.0.1:9"
    assert diagnosis(gemini, "--online")[1]["key"]["level"] == "warning"
