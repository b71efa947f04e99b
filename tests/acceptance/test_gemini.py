"""The whole daemon against a server that speaks Gemini's protocol, meters it, and refuses what the real one would."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.gemini.process import Served, serving
from support.gemini.rules import KEY
from support.waiting import eventually

DURATION_S = 81.4
"""Of the sample."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    limits = {"concurrent": 2, "requests_per_minute": 400}
    with serving(tmp_path, default_duration_s=DURATION_S, generate_s=0.05, limits=limits) as served:
        yield served


@pytest.fixture
def gemini(daemon: Daemon, server: Served) -> Daemon:
    daemon.environ = {"GEMINI_API_KEY": KEY, "GSVRD_GEMINI_BASE_URL": server.url}
    return daemon


def drop_many(daemon: Daemon, sample: Path, count: int) -> None:
    for number in range(count):
        path = daemon.drop(sample, f"{number:03}.mp4")
        with path.open("ab") as file:
            file.write(b"%d" % number)


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


@pytest.mark.timeout(300)
def test_limits_hold_and_nothing_is_paid_twice_while_the_daemon_is_killed(
    gemini: Daemon, server: Served, sample: Path
) -> None:
    count, chance = 30, random.Random(7)
    gemini.environ |= {
        "GSVRD_WORKERS__MAX": "4",
        "GSVRD_ANALYZER__GEMINI__MAX_CONCURRENT": "2",
        "GSVRD_ANALYZER__GEMINI__REQUESTS_PER_MINUTE": "300",
    }
    drop_many(gemini, sample, count)
    for _ in range(3):
        gemini.start()
        done = gemini.counts()["completed"]
        eventually(lambda: gemini.counts()["completed"] > done, 60)  # noqa: B023
        eventually(lambda: chance.random() < 0.2)
        gemini.kill()
    gemini.start()
    gemini.until_counts(200, completed=count, running=0, pending=0)
    assert len([name for name in gemini.files("reports") if name.endswith(".md")]) == count
    meter = server.meter()
    assert meter["peak"]["generate"] <= 2
    assert meter["peak_upload_sessions"] <= 2  # one, and the end of one whose daemon had just died
    assert meter["by_status"].get("429", 0) == 0
    assert max(meter["uploaded"].values()) <= 2
    # A call that was under way when the daemon died may be asked once more; none that was answered and kept is.
    assert sum(meter["answered"].values()) <= count + 3 * 2


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
