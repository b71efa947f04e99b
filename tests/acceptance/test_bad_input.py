"""A folder of hostile files: each has its ending, and a good video among them is done as if they were not there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import make_hostile
import psutil
import pytest
from support.daemon import Daemon
from support.waiting import eventually

DAEMON_BYTES_MOST = 250 << 20


def endings(daemon: Daemon) -> dict[str, str]:
    listed = json.loads(daemon.ctl("list", "--json", "--limit", "1000").stdout)
    return {row["name"]: row["state"] for row in listed}


@pytest.mark.timeout(600)
def test_every_hostile_file_ends_in_a_report_or_in_failed_with_a_clear_record(daemon: Daemon, sample: Path) -> None:
    daemon.environ = {"GSVRD_ANALYZER__USE": "local", "GSVRD_ANALYZER__LOCAL__SPEECH": "false"}
    hostile = make_hostile.make(daemon.home / "inbox")
    daemon.drop(sample, "good.mp4")
    daemon.start()
    growing = make_hostile.growing(daemon.home / "inbox" / "growing.mp4", sample.read_bytes())
    with growing as writer:
        writer.more(200_000)
        taken = len([item for item in hostile if not os.fsdecode(item.name).startswith(".")])

        def all_ended() -> bool:
            daemon.died()
            counts = daemon.counts()
            return counts["pending"] + counts["running"] == 0 and counts["completed"] + counts["failed"] >= taken

        eventually(all_ended, 500)
        assert "growing.mp4" not in endings(daemon)
        writer.finish()
    eventually(lambda: endings(daemon).get("growing.mp4") == "completed", 60)
    assert psutil.Process(daemon.pid).memory_info().rss < DAEMON_BYTES_MOST
    assert endings(daemon)["good.mp4"] == "completed"

    records = {path.name: json.loads(path.read_text()) for path in (daemon.home / "failed").rglob("*.error.json")}
    reports = {path.stem for path in (daemon.home / "reports").rglob("*.md") if path.name != "_summary.md"}
    assert all(record["why"] and record["kind"] for record in records.values())
    for item in hostile:
        name = os.fsdecode(item.name)
        record = records.get(f"{name}.error.json")
        if item.expect == "failed":
            assert record is not None, name
            assert record["kind"] in item.kinds, (name, record)
            assert record["what_to_do"], name
        elif record is not None:
            assert item.expect == "either", (name, record)
            assert record["kind"] in item.kinds, (name, record)
    assert "stranger" not in " ".join(path.read_text() for path in (daemon.home / "reports").rglob("*.md"))
    assert len(reports) >= sum(item.expect == "report" for item in hostile)
    # What is left in the inbox is only what may not be touched or is hidden.
    left = {path.name for path in (daemon.home / "inbox").iterdir()}
    assert left <= {os.fsdecode(item.name) for item in hostile if item.may_stay}


def test_unreadable_directories_are_a_clear_error_at_start(daemon: Daemon) -> None:
    (daemon.home / "reports").write_text("in the way")
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(30) == 77
    assert "reports" in daemon.log


def test_a_full_report_directory_stops_new_work_and_goes_on_by_itself(daemon: Daemon, sample: Path) -> None:
    """A tiny file system of its own stands for the full disk."""
    reports = daemon.home / "reports"
    reports.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=8k tmpfs '{reports}' 2>/dev/null") != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        daemon.environ["GSVRD_RETRY__MAX_RETRIES"] = "0"
        daemon.start()
        (reports / "ballast").write_bytes(b"x" * 8192)
        daemon.drop(sample)
        eventually(lambda: any(row["event"] == "attempt_failed" for row in daemon.events), 30)
        failed = [row for row in daemon.events if row["event"] == "attempt_failed"]
        assert {(row["kind"], row["then"]) for row in failed} == {("place", "give_back")}
        assert daemon.counts()["failed"] == 0
        os.system(f"mount -o remount,size=8m '{reports}'")
        daemon.until_counts(60, completed=1)
    finally:
        daemon.stop()
        os.system(f"umount '{reports}'")
    assert shutil.disk_usage(reports).total > 1 << 20
