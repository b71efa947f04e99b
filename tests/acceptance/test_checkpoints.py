"""Snapshots and damage as an operator meets them: the installed commands, real kills, files harmed by hand."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.daemon import BIN, Daemon, environment
from support.waiting import eventually

from gsvrd.store.schema import SCHEMA_VERSION


def database(daemon: Daemon) -> Path:
    return daemon.home / "state" / "gsvrd.db"


def snapshots(daemon: Daemon) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(daemon.ctl("checkpoint", "list", "--json").stdout)
    return listed


def create(daemon: Daemon) -> str:
    made = daemon.ctl("checkpoint", "create", "--json")
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["name"])


def aside(daemon: Daemon, word: str) -> list[str]:
    return [name for name in daemon.files("state") if f".db.{word}-" in name and name.endswith("Z")]


def broken_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * 8192)


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def text(path: Path) -> None:
    path.write_text("this is no database" * 500)


def gone(path: Path) -> None:
    path.unlink()


# -- damage --------------------------------------------------------------------------------------------------------------


# After a kill, what was written last is in the log beside the file, and the log makes up for much harm to the file.
@pytest.mark.parametrize(
    ("end", "damage"),
    [(Daemon.stop, broken_page), (Daemon.stop, half), (Daemon.stop, text), (Daemon.kill, empty), (Daemon.kill, gone)],
)
def test_a_damaged_database_is_mended_at_start_and_nothing_is_lost_or_done_twice(
    daemon: Daemon, sample: Path, end: Callable[[Daemon], object], damage: Callable[[Path], None]
) -> None:
    daemon.start()
    daemon.drop(sample, "before.mp4")
    daemon.until_counts(completed=1)
    name = create(daemon)
    daemon.drop(sample, "after.mp4")
    daemon.until_counts(completed=2)
    eventually(lambda: not daemon.files("inbox"))
    end(daemon)
    damage(database(daemon))
    daemon.drop(sample, "meanwhile.mp4")

    daemon.start()
    daemon.until_counts(30, completed=2, failed=0, pending=0, running=0)
    eventually(lambda: not daemon.files("inbox"))
    status = daemon.status()
    assert status["restored"]["snapshot"] == name
    assert name in daemon.ctl("status").stdout
    assert [row["snapshot"] for row in daemon.events if row["event"] == "database_restored"] == [name]
    assert aside(daemon, "damaged") == ([] if damage is gone else [status["restored"]["aside"]])
    assert daemon.files("reports") == ["after.md", "before.md", "meanwhile.md"]
    assert daemon.files("archive") == ["after.mp4", "before.mp4", "meanwhile.mp4"]

    assert daemon.stop() == 0
    daemon.start()
    assert daemon.status()["restored"] is None


def test_what_ended_after_the_snapshot_is_neither_tried_again_nor_called_lost(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.ctl("pause")
    daemon.drop(sample, "good.mp4")
    (daemon.home / "inbox" / "bad.mp4").write_bytes(b"no video at all" * 100)
    daemon.until_counts(pending=2)
    name = create(daemon)
    daemon.ctl("resume")
    daemon.until_counts(completed=1, failed=1)
    eventually(lambda: not daemon.files("inbox"))
    report = (daemon.home / "reports" / "good.md").read_bytes()
    assert daemon.stop() == 0

    restored = daemon.ctl("checkpoint", "restore", name)
    assert restored.returncode == 0, restored.stderr
    assert aside(daemon, "replaced")[0] in restored.stdout
    assert daemon.counts()["pending"] == 2
    daemon.start()
    daemon.until_counts(completed=1, failed=1, pending=0)
    daemon.ctl("resume")
    eventually(lambda: json.loads(daemon.ctl("show", "good.mp4", "--json").stdout)["home"] == "archive")
    eventually(lambda: json.loads(daemon.ctl("show", "bad.mp4", "--json").stdout)["home"] == "failed")
    assert daemon.files("reports") == ["good.md"]
    assert (daemon.home / "reports" / "good.md").read_bytes() == report
    assert daemon.files("failed") == ["bad.mp4", "bad.mp4.error.json"]
    assert daemon.files("archive") == ["good.mp4"]
    assert not [row for row in daemon.events if row.get("kind") == "not_found"]


def test_a_newer_database_is_refused_and_left_alone(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.stop() == 0
    create(daemon)
    with closing(sqlite3.connect(database(daemon))) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = database(daemon).read_bytes()
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(30) == os.EX_DATAERR
    assert f"version {SCHEMA_VERSION + 1}" in daemon.log
    assert database(daemon).read_bytes() == before


# -- the command ---------------------------------------------------------------------------------------------------------


def test_snapshots_are_made_listed_and_checked_with_the_daemon_up_and_down(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.drop(sample)
    daemon.until_counts(completed=1)
    up = create(daemon)
    daemon.stop()
    down = create(daemon)
    assert [row["name"] for row in snapshots(daemon)] == [down, up]
    assert {row["counts"]["completed"] for row in snapshots(daemon)} == {1}
    assert all(row["configuration"] and row["program"] for row in snapshots(daemon))
    assert daemon.ctl("checkpoint", "verify").returncode == 0
    broken_page(daemon.home / "state" / "checkpoints" / up)
    checked = daemon.ctl("checkpoint", "verify", "--json")
    assert checked.returncode == os.EX_DATAERR
    assert [row["name"] for row in json.loads(checked.stdout) if row["problem"]] == [up]
    before = database(daemon).read_bytes()
    assert daemon.ctl("checkpoint", "restore", up).returncode == os.EX_DATAERR
    assert database(daemon).read_bytes() == before
    assert daemon.ctl("checkpoint", "restore").returncode == 0


def test_a_snapshot_is_not_restored_under_a_running_daemon(daemon: Daemon) -> None:
    daemon.start()
    name = create(daemon)
    refused = daemon.ctl("checkpoint", "restore", name)
    assert refused.returncode == os.EX_TEMPFAIL
    assert "Stop it first" in refused.stderr
    daemon.stop()
    assert not aside(daemon, "replaced")


def test_a_snapshot_that_is_not_there_is_a_clear_error(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    daemon.stop()
    for words in (("verify", "gsvrd.db"), ("restore", "../gsvrd.db")):
        refused = daemon.ctl("checkpoint", *words)
        assert refused.returncode == os.EX_NOINPUT
        assert "no snapshot" in refused.stderr
    assert daemon.ctl("checkpoint", "restore").returncode == os.EX_DATAERR
    nowhere = Daemon(tmp_path / "nowhere").ctl("checkpoint", "create")
    assert nowhere.returncode == os.EX_NOINPUT


def test_a_copy_that_is_killed_leaves_nothing_that_counts(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.stop() == 0
    grow(database(daemon))
    folder = daemon.home / "state" / "checkpoints"

    def left_half() -> bool:
        command = [str(BIN / "gsvrctl"), "--home", str(daemon.home), "checkpoint", "create"]
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
        eventually(lambda: list(folder.glob("*.part")) or process.poll() is not None, 30)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return bool(list(folder.glob("*.part")))

    eventually(left_half, 60)
    assert daemon.ctl("checkpoint", "verify").returncode == 0
    name = create(daemon)
    assert not list(folder.glob("*.part*"))
    assert snapshots(daemon)[0]["name"] == name
    assert daemon.ctl("checkpoint", "verify").returncode == 0


# -- by itself -----------------------------------------------------------------------------------------------------------


def test_the_daemon_makes_them_by_itself_and_keeps_the_newest(daemon: Daemon, sample: Path) -> None:
    daemon.environ |= {"GSVRD_CHECKPOINT__EVERY_TASKS": "1", "GSVRD_CHECKPOINT__KEEP": "2"}
    by_hand = create_before_start(daemon)
    daemon.start()

    def made() -> int:
        return sum(row["event"] == "snapshot_made" for row in daemon.events)

    for number in range(1, 5):
        before = made()
        daemon.drop(sample, f"{number}.mp4")
        daemon.until_counts(completed=number)
        eventually(partial(lambda before: made() > before, before), 60)
    eventually(lambda: [row["reason"] for row in snapshots(daemon)] == ["tasks", "tasks", by_hand], 30)
    assert snapshots(daemon)[0]["counts"]["completed"] == 4


def test_a_full_disk_stops_snapshots_and_nothing_else(daemon: Daemon, sample: Path) -> None:
    """A tiny file system of its own stands for the full disk."""
    folder = daemon.home / "state" / "checkpoints"
    folder.mkdir(parents=True)
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=40k tmpfs '{folder}' 2>/dev/null") != 0:
        pytest.skip("needs the right to mount a tmpfs")
    daemon.environ |= {"GSVRD_CHECKPOINT__EVERY_TASKS": "1"}
    try:
        daemon.start()
        daemon.drop(sample, "1.mp4")
        eventually(lambda: daemon.status()["snapshots"], 30)
        assert "full" in daemon.status()["snapshots"]["reason"]
        assert "the last snapshot failed" in daemon.ctl("status").stdout
        daemon.drop(sample, "2.mp4")
        daemon.until_counts(completed=2)
        assert daemon.ctl("checkpoint", "create").returncode == os.EX_IOERR
        assert daemon.files("state/checkpoints") == []
        os.system(f"mount -o remount,size=64m '{folder}'")
        create(daemon)
    finally:
        daemon.stop()
        os.system(f"umount '{folder}'")


def create_before_start(daemon: Daemon) -> str:
    """One made by hand, of which the daemon's own keep away; returns its reason."""
    daemon.start()
    assert daemon.stop() == 0
    create(daemon)
    return str(snapshots(daemon)[0]["reason"])


def grow(path: Path) -> None:
    """So that a copy takes a moment."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("CREATE TABLE ballast (data BLOB)")
        conn.executemany("INSERT INTO ballast VALUES (randomblob(1000000))", [()] * 60)


# -- of a batch ----------------------------------------------------------------------------------------------------------


def test_a_batch_has_its_snapshots_where_it_wants_them_and_they_can_be_restored(daemon: Daemon, sample: Path) -> None:
    inbox, backup = daemon.home / "inbox", daemon.home / "backup"
    daemon.configure("checkpoint:\n  roots: [backup]\n")
    for course, folder in (("algebra", backup / "algebra"), ("physics", daemon.home)):
        (inbox / course).mkdir()
        (inbox / course / "gsvrd.yaml").write_text(f"checkpoint_dir: {folder}\ncheckpoint_interval_s: 3600\n")
        daemon.drop(sample, f"{course}/1.mp4")
    daemon.start()
    daemon.until_counts(completed=1, pending=1)
    held = json.loads(daemon.ctl("status", "--json").stdout)["held"]
    assert "checkpoint.roots" in str(held)
    assert "physics/gsvrd.yaml: checkpoint_dir" in str(held)

    def listed() -> list[dict[str, Any]]:
        found = daemon.ctl("checkpoint", "list", str(backup / "algebra"), "--json")
        return list(json.loads(found.stdout)) if found.returncode == 0 else []

    eventually(listed)
    (made,) = listed()
    assert (made["reason"], made["counts"]["completed"]) == ("end of a batch", 1)
    daemon.stop()
    assert daemon.ctl("checkpoint", "verify", str(backup / "algebra")).returncode == 0
    for path in (daemon.home / "state").glob("gsvrd.db*"):
        path.unlink()
    restored = daemon.ctl("checkpoint", "restore", str(backup / "algebra" / made["name"]), "--json")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(daemon.ctl("status", "--json").stdout)["counts"]["completed"] == 1


# -- while the daemon runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["removed", "replaced"])
def test_a_database_that_goes_away_under_the_daemon_ends_it_and_the_next_start_goes_on(
    daemon: Daemon, sample: Path, way: str
) -> None:
    daemon.start()
    daemon.drop(sample, "before.mp4")
    daemon.until_counts(completed=1)
    create(daemon)
    if way == "removed":
        database(daemon).unlink()
    else:
        other = database(daemon).with_name("other")
        other.write_bytes(database(daemon).read_bytes())
        other.replace(database(daemon))
    daemon.drop(sample, "after.mp4")
    assert daemon.process is not None
    assert daemon.process.wait(60) == os.EX_IOERR
    assert f"{way}" in next(event["error"] for event in daemon.events if event["event"] == "database_gone")
    assert "Traceback" not in daemon.log
    daemon.start()
    daemon.until_counts(completed=2)
