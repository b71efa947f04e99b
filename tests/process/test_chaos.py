"""The promise under fire: whatever is killed when, every dropped file ends as exactly one report or failure record."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.onlooker import family
from support.storm import ALL_STRIKES, DAEMON_STRIKES, PATIENT, STRICT, storm_on
from support.waiting import eventually, lives

pytestmark = pytest.mark.timeout(900)


def test_a_storm_of_kills_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    with storm_on(tmp_path / "home", seed=1, more=PATIENT) as storm:
        result = storm.rage(28, ALL_STRIKES)
    assert result.findings.violations == {}


def test_however_often_the_daemon_dies_no_video_is_blamed(tmp_path: Path) -> None:
    with storm_on(tmp_path / "home", seed=2, more=STRICT) as storm:
        result = storm.rage(12, DAEMON_STRIKES)
    assert result.findings.violations == {}


def test_a_worker_that_was_stopped_does_not_outlive_its_daemon(tmp_path: Path) -> None:
    with storm_on(tmp_path / "home", seed=3, more="") as storm:
        storm.start()
        storm.until_ready()
        eventually(storm.workers)
        storm.stop_worker()
        storm.daemon.kill()
        eventually(lambda: not family(storm.mark), 20)


def test_workers_that_were_stopped_do_not_outlive_their_fork_server(tmp_path: Path) -> None:
    """The pool takes its end for theirs and gives their tasks to others."""
    with storm_on(tmp_path / "home", seed=4, more="") as storm:
        storm.start()
        storm.until_ready()
        storm.dropped.drop(storm.inbox, 3)
        eventually(storm.is_quiet, 60)
        workers = storm.workers()
        for worker in workers:
            worker.send_signal(signal.SIGSTOP)
        storm.kill_fork_server()
        eventually(lambda: not any(lives(worker.pid) for worker in workers), 20)
        assert storm.daemon.died() is False
