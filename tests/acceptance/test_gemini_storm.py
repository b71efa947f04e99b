"""A term's recordings at once, eight workers, and a daemon that is killed again and again: judged by the server's meter."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon
from support.gemini.process import Served, serving
from support.gemini.rules import KEY
from support.waiting import eventually

VIDEOS, WORKERS, KILLS = 200, 8, 6
CONCURRENT, PER_MINUTE = 5, 1000
NEAR_S = 3.0
"""On a busy machine it can take so long until what a call brought is on record."""

Span = tuple[float, float]


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Served]:
    limits = {"concurrent": CONCURRENT, "requests_per_minute": PER_MINUTE}
    with serving(tmp_path, default_duration_s=81.4, generate_s=0.2, limits=limits) as served:
        yield served


def drop_many(daemon: Daemon, sample: Path) -> None:
    """Each has a content of its own."""
    for number in range(VIDEOS):
        path = daemon.drop(sample, f"{number:03}.mp4")
        with path.open("ab") as file:
            file.write(b"%d" % number)


def run_through(daemon: Daemon, chance: random.Random) -> list[Span]:
    """Kill it so many times while it works, then let it finish; returns when it was killed."""
    spans: list[Span] = []
    for number in range(KILLS):
        daemon.start()
        done, more = daemon.counts()["completed"], chance.randint(1, VIDEOS // KILLS)
        eventually(lambda: daemon.counts()["completed"] >= min(done + more, VIDEOS - KILLS + number), 120)  # noqa: B023
        begun = time.time()
        daemon.kill()
        spans.append((begun, time.time()))
    daemon.start()
    daemon.until_counts(300, completed=VIDEOS, running=0, pending=0)
    return spans


def paid_twice(entries: list[dict[str, Any]], route: str, kills: list[Span]) -> list[list[dict[str, Any]]]:
    """The calls about each video for which one was made again though no kill had come in the way of the one before."""
    calls = defaultdict(list)
    for entry in entries:
        if entry["route"] == route:
            for digest in entry["hashes"]:
                calls[digest].append(entry)
    return [made for made in calls.values() if not all(_was_hit(call, kills) for call in made[:-1])]


def _was_hit(call: dict[str, Any], kills: list[Span]) -> bool:
    ended_at = call["ended_at"] if call["delivered"] else None
    return any(call["at"] <= end and (ended_at is None or ended_at >= begun - NEAR_S) for begun, end in kills)


@pytest.mark.timeout(600)
def test_limits_hold_nothing_is_paid_twice_and_nothing_is_left_behind(
    daemon: Daemon, busy: Served, sample: Path
) -> None:
    daemon.environ = {
        "GEMINI_API_KEY": KEY,
        "GSVRD_GEMINI_BASE_URL": busy.url,
        "GSVRD_WORKERS__MAX": str(WORKERS),
        "GSVRD_ANALYZER__GEMINI__MAX_CONCURRENT": str(CONCURRENT),
        "GSVRD_ANALYZER__GEMINI__REQUESTS_PER_MINUTE": str(PER_MINUTE - 100),
        "GSVRD_ANALYZER__GEMINI__TOKENS_PER_MINUTE": "100000000",
    }
    drop_many(daemon, sample)
    kills = run_through(daemon, random.Random(7))

    names = [name for name in daemon.files("reports") if name.endswith(".md")]
    assert sorted(names) == [f"{number:03}.md" for number in range(VIDEOS)]
    assert daemon.files("inbox") == []
    eventually(lambda: not busy.meter()["files_alive"], 30)

    meter = busy.meter()
    assert meter["by_status"].get("429", 0) == 0, "no limit was passed"
    assert meter["peak"]["generate"] <= CONCURRENT
    assert meter["peak_upload_sessions"] <= 2  # one, and the end of one whose daemon had just died
    assert meter["keys_in_url"] == 0
    assert len(meter["answered"]) == VIDEOS
    assert len(meter["uploaded"]) == VIDEOS
    assert paid_twice(meter["entries"], "generate", kills) == []
    assert paid_twice(meter["entries"], "upload.chunk", kills) == []
    # What was under way at a kill: no more than the lanes hold, and none of it more than once for each kill.
    assert sum(meter["answered"].values()) <= VIDEOS + KILLS * WORKERS
    spent = json.loads(daemon.ctl("spend", "--json").stdout)["total"][0]
    assert spent["reserved"] == 0
    assert spent["settled"] >= round(meter["usd"] * 1e6), "what nobody can say the end of is charged in full"
