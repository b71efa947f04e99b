"""Trouble of the machine: shown with its reason, charged to no video, and work goes on by itself when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.mounts import fill, grow, mounted, needs_mounts, tiny
from support.waiting import eventually, lives


def blocked(daemon: Daemon, *words: str) -> bool:
    daemon.died()
    status = daemon.status()
    return status["state"] == "blocked" and all(word in status["reason"] for word in words)


def spent(daemon: Daemon) -> list[int]:
    with contextlib.closing(sqlite3.connect(daemon.home / "state" / "gsvrd.db")) as conn:
        return [row[0] for row in conn.execute("SELECT spent FROM tasks ORDER BY id")]


@needs_mounts
@pytest.mark.parametrize("folder", ["archive", "reports"])
def test_a_full_disk_blocks_with_a_reason_costs_no_attempt_and_heals(daemon: Daemon, sample: Path, folder: str) -> None:
    with tiny(daemon.home / folder, "64k"):
        fill(daemon.home / folder)
        daemon.start()
        daemon.drop(sample, "a.mp4")
        eventually(lambda: blocked(daemon, "No space left"), 30)
        daemon.drop(sample, "b.mp4")
        eventually(lambda: sum(daemon.counts().values()) == 2, 30)
        grow(daemon.home / folder, "64m")
        daemon.until_counts(completed=2)
        eventually(lambda: daemon.status()["state"] == "running" and not daemon.files("inbox"))
        assert {"a.mp4", "b.mp4"} <= set(daemon.files("archive"))
        assert (spent(daemon), daemon.files("failed")) == ([0, 0], [])
        assert daemon.stop() == 0


@needs_mounts
def test_a_full_disk_of_the_failed_videos_loses_none_of_them(daemon: Daemon) -> None:
    with tiny(daemon.home / "failed", "16k"):
        daemon.start()
        (daemon.home / "inbox" / "bad.mp4").write_bytes(os.urandom(100_000))
        eventually(lambda: blocked(daemon, "No space left"), 30)
        assert (daemon.home / "inbox" / "bad.mp4").exists()
        grow(daemon.home / "failed", "1m")
        eventually(lambda: daemon.files("failed") == ["bad.mp4", "bad.mp4.error.json"])
        assert daemon.stop() == 0


@needs_mounts
def test_a_full_state_disk_ends_nothing_and_what_it_held_up_is_done_after(daemon: Daemon, sample: Path) -> None:
    state = daemon.home / "state"
    with tiny(state, "24m"):  # the log of the database alone may have four of them
        daemon.start()
        filler = fill(state)
        for number in range(40):
            daemon.drop(sample, f"{number}.mp4")
        eventually(lambda: "commit_failed" in daemon.log, 30)
        daemon.died()
        filler.unlink()
        daemon.until_counts(completed=40)
        assert spent(daemon) == [0] * 40
        assert daemon.stop() == 0


@needs_mounts
def test_a_read_only_reports_directory_is_waited_for(daemon: Daemon, sample: Path) -> None:
    reports = daemon.home / "reports"
    with tiny(reports, "8m"):
        daemon.start()
        subprocess.run(["mount", "-o", "remount,ro", str(reports)], check=True)
        daemon.drop(sample, "a.mp4")
        eventually(lambda: blocked(daemon, "Read-only"), 30)
        subprocess.run(["mount", "-o", "remount,rw", str(reports)], check=True)
        daemon.until_counts(completed=1)
        assert spent(daemon) == [0]
        assert daemon.stop() == 0


def test_a_reports_directory_that_vanished_is_waited_for(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    (daemon.home / "reports").rename(daemon.home / "away")
    daemon.drop(sample, "a.mp4")
    eventually(lambda: blocked(daemon, "reports"), 30)
    (daemon.home / "away").rename(daemon.home / "reports")
    daemon.until_counts(completed=1)
    assert (spent(daemon), daemon.files("reports")) == ([0], ["a.md"])


@needs_mounts
def test_an_inbox_whose_mount_vanishes_is_not_forgotten(daemon: Daemon, sample: Path) -> None:
    share = daemon.home / "share"
    share.mkdir()
    daemon.configure("intake: {poll_interval: 500ms, rescan_interval: 1s}\n")
    with mounted("--bind", str(share), str(daemon.home / "inbox")):
        daemon.start()
        daemon.ctl("pause")
        daemon.drop(sample, "a.mp4")
        daemon.until_counts(pending=1)
    daemon.ctl("resume")
    eventually(lambda: "is its file system mounted" in str(daemon.status()["reason"]), 30)
    with mounted("--bind", str(share), str(daemon.home / "inbox")):
        daemon.until_counts(completed=1)
        assert (spent(daemon), daemon.files("failed")) == ([0], [])
        assert daemon.stop() == 0


def test_a_database_that_somebody_has_locked_is_waited_for_and_signals_are_heard_meanwhile(
    daemon: Daemon, sample: Path
) -> None:
    daemon.start()
    with contextlib.closing(sqlite3.connect(daemon.home / "state" / "gsvrd.db", isolation_level=None)) as conn:
        conn.execute("BEGIN EXCLUSIVE")
        daemon.drop(sample, "a.mp4")
        eventually(lambda: daemon.log.count("commit_failed") >= 3, 30)
        daemon.signal(signal.SIGUSR1)
        eventually(lambda: '"signal": "SIGUSR1"' in daemon.log)
        conn.execute("ROLLBACK")
    daemon.ctl("resume")
    daemon.until_counts(completed=1)
    assert spent(daemon) == [0]


def test_few_descriptors_are_enough_for_many_videos(daemon: Daemon, sample: Path) -> None:
    daemon.prefix = ("prlimit", "--nofile=64:64")
    daemon.configure("workers: {max: 2}\n")
    daemon.start()
    for number in range(100):
        os.link(daemon.drop(sample, f".{number}.part"), daemon.home / "inbox" / f"{number}.mp4")
        (daemon.home / "inbox" / f".{number}.part").unlink()
    daemon.until_counts(completed=100)
    assert daemon.stop() == 0


def test_too_few_descriptors_are_a_clear_error_at_the_start(daemon: Daemon) -> None:
    daemon.prefix = ("prlimit", "--nofile=40:40")
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(30) == os.EX_CONFIG
    assert "RLIMIT_NOFILE" in daemon.log
    assert "LimitNOFILE" in daemon.log


def test_a_stopped_worker_does_not_outlive_its_daemon(daemon: Daemon) -> None:
    daemon.start()
    workers = daemon.workers()
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    daemon.kill()
    eventually(lambda: not any(lives(worker.pid) for worker in workers), 2)
