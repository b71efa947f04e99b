"""The real daemon: memory is shared out without a kill, and the number of workers follows what was decided or named."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from support.daemon import BIN, environment
from support.waiting import eventually

from benchmarks.daemon import Daemon, running

MB = 1 << 20


class Shop:
    """A home with a daemon whose work is as heavy as its files say."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "inbox").mkdir()
        self.stack = ExitStack()

    def start(self, **environ: str) -> Daemon:
        settings = {"GSVRD_INTAKE__SETTLE": "0s", **{f"GSVRD_{name}": value for name, value in environ.items()}}
        return self.stack.enter_context(running(self.home, "benchmarks.toil:make", environ=environment(**settings)))

    def stop(self) -> None:
        self.stack.close()
        self.stack = ExitStack()

    def drop(self, name: str, **load: Any) -> None:
        (self.home / "part").write_text(json.dumps({**load, "name": name}))
        (self.home / "part").rename(self.home / "inbox" / f"{name}.mp4")

    def rows(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self.home / "state/gsvrd.db", timeout=30)) as conn:
            return conn.execute(sql).fetchall()

    def states(self) -> dict[str, int]:
        return dict(self.rows("SELECT state, count(*) FROM tasks GROUP BY state"))

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "gsvrctl"), "--home", str(self.home), *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)

    def workers(self) -> dict[str, Any]:
        """What `gsvrctl status` shows of them, without a process for each look."""
        found = dict(self.rows("SELECT key, value FROM service WHERE key IN ('workers', 'workers_now')"))
        pids = json.loads(found.get("workers", "[]"))
        return {**json.loads(found["workers_now"]), "pids": pids, "up": len(pids)}

    def explained(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.ctl("explain", "workers", "--json").stdout)
        return facts


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.stop()


def limits_of(pids: Sequence[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            found.append(resource.prlimit(pid, resource.RLIMIT_DATA)[0])
        except ProcessLookupError:
            continue
    return found


# -- memory ------------------------------------------------------------------------------------------------------------


def test_tasks_that_do_not_fit_together_wait_for_one_another_and_none_is_lost(shop: Shop, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    shop.start(WORKERS__MEMORY_BUDGET="700MB", WORKERS__MIN="4", WORKERS__MAX="4")
    for number in range(5):
        shop.drop(f"v{number}", memory_mb=250, gate=str(gate))
    eventually(lambda: shop.states().get("running", 0) >= 1, 20)
    eventually(
        lambda: len(shop.rows("SELECT 1 FROM attempts WHERE outcome = 'failed'")) or shop.states()["running"] < 4, 20
    )
    gate.touch()
    eventually(lambda: shop.states() == {"completed": 5}, 60)
    assert shop.rows("SELECT max(spent), max(deaths) FROM tasks") == [(0, 0)]
    kinds = {json.loads(row[0])["kind"] for row in shop.rows("SELECT error FROM attempts WHERE error IS NOT NULL")}
    assert kinds <= {"memory"}


def test_what_runs_may_never_have_more_memory_together_than_there_is(shop: Shop, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    daemon = shop.start(WORKERS__MEMORY_BUDGET="800MB", WORKERS__MIN="3", WORKERS__MAX="3")
    for number in range(3):
        shop.drop(f"v{number}", memory_mb=20, gate=str(gate))
    eventually(lambda: shop.states().get("running") == 3, 20)
    busy = [row[0] for row in shop.rows("SELECT worker FROM tasks WHERE state = 'running'")]
    assert sum(limits_of(busy)) <= 0.95 * 800_000_000
    os.kill(daemon.pid, signal.SIGUSR1)
    gate.touch()
    eventually(lambda: shop.states() == {"completed": 3}, 20)


def test_a_video_that_needs_more_than_there_is_fails_alone_with_a_clear_record(shop: Shop) -> None:
    shop.start(WORKERS__MEMORY_BUDGET="500MB", WORKERS__MIN="2", WORKERS__MAX="2")
    shop.drop("huge", memory_mb=2000)
    shop.drop("small", memory_mb=10)
    eventually(lambda: shop.states() == {"completed": 1, "failed": 1}, 60)
    ((error,),) = shop.rows("SELECT error FROM tasks WHERE state = 'failed'")
    record = json.loads(error)
    assert record["kind"] == "memory"
    assert "needs more memory than one video may have here" in record["message"]
    assert "workers.memory_budget" in record["hint"]
    assert len(shop.rows("SELECT 1 FROM attempts WHERE task = (SELECT id FROM tasks WHERE state = 'failed')")) < 8


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_number_named_by_hand_holds_at_once_and_over_a_restart_until_it_is_given_back(shop: Shop) -> None:
    shop.start(WORKERS__MIN="1", WORKERS__MAX="5", WORKERS__INITIAL="2")
    eventually(lambda: shop.workers()["up"] == 2)
    assert "4 workers from now on" in shop.ctl("workers", "4").stdout
    eventually(lambda: shop.workers()["up"] == 4)
    assert (shop.workers()["cap"], shop.workers()["hand"]) == ("hand", 4)
    (change,) = shop.explained()["changes"]
    assert (change["before"], change["after"], change["cap"]) == (2, 4, "hand")
    assert "an operator has named the number" in shop.ctl("explain", "workers").stdout
    shop.stop()
    shop.start(WORKERS__MIN="1", WORKERS__MAX="5", WORKERS__INITIAL="2")
    eventually(lambda: shop.workers()["up"] == 4)
    shop.stop()
    assert "from its next start on" in shop.ctl("workers", "3").stdout
    assert "does not run" in shop.ctl("explain", "workers").stdout
    shop.start(WORKERS__MIN="1", WORKERS__MAX="5", WORKERS__INITIAL="2")
    eventually(lambda: shop.workers()["up"] == 3)
    shop.ctl("workers", "auto")
    eventually(lambda: shop.workers()["hand"] is None)


def test_the_configured_bounds_hold_before_a_number_named_by_hand(shop: Shop) -> None:
    (shop.home / "config").mkdir()
    (shop.home / "config/gsvrd.yaml").write_text("workers: {min: 2, max: 3}\n")
    daemon = shop.start()
    assert "workers.max is 3: 3 until that is raised" in shop.ctl("workers", "6").stdout
    eventually(lambda: shop.workers()["up"] == 3)
    assert "By hand it is 6, and workers.max is 3" in shop.ctl("explain", "workers").stdout
    (shop.home / "config/gsvrd.yaml").write_text("workers: {min: 2, max: 4}\n")
    os.kill(daemon.pid, signal.SIGHUP)
    eventually(lambda: shop.workers()["max"] == 4)
    assert shop.ctl("workers", "0").returncode == 64
    assert "workers.min is 2: 2 until that is lowered" in shop.ctl("workers", "1").stdout
    eventually(lambda: shop.workers()["up"] == 2)


def test_fewer_workers_are_reached_by_retiring_and_no_task_is_ended_for_it(shop: Shop, tmp_path: Path) -> None:
    gates = [tmp_path / f"gate{number}" for number in range(3)]
    shop.start(WORKERS__MIN="1", WORKERS__MAX="3", WORKERS__INITIAL="3")
    shop.ctl("workers", "3")
    for number, gate in enumerate(gates):
        shop.drop(f"v{number}", gate=str(gate))
    eventually(lambda: shop.states().get("running") == 3, 20)
    before = {row[0] for row in shop.rows("SELECT worker FROM tasks")}
    shop.ctl("workers", "1")
    eventually(lambda: shop.workers()["target"] == 1)
    assert set(shop.workers()["pids"]) == before
    assert shop.states() == {"running": 3}
    for gate in gates:
        gate.touch()
    eventually(lambda: len(shop.workers()["pids"]) == 1)
    assert set(shop.workers()["pids"]) <= before
    eventually(lambda: shop.states() == {"completed": 3}, 20)
    assert shop.rows("SELECT count(*), max(attempt) FROM tasks") == [(3, 1)]
