"""Progress as others read it: the file of a batch is whole at every moment, and says where it stands to the end."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.daemon import BIN, Daemon, environment
from support.mounts import fill, grow, needs_mounts, tiny
from support.waiting import eventually

from gsvrd.daemon.progress_file import ProgressFile

Json = dict[str, Any]
ENDED = ("COMPLETED", "CANCELLED")


@dataclass
class Reader:
    """Somebody who reads a file again and again and keeps what it said."""

    path: Path
    seen: list[Json] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    reads: int = 0
    _is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._is_over.wait(0.001):
            with contextlib.suppress(FileNotFoundError):
                self._read()

    def _read(self) -> None:
        data = self.path.read_bytes()
        self.reads += 1
        try:
            checked = msgspec.json.decode(data, type=ProgressFile)
        except msgspec.DecodeError as error:
            self.broken.append(f"{error}: {data[:200]!r}")
            return
        found: Json = msgspec.json.decode(data)
        if msgspec.to_builtins(checked) != found:
            self.broken.append(f"not as promised: {data[:200]!r}")
        if not self.seen or self.seen[-1] != found:
            self.seen.append(found)

    @property
    def last(self) -> Json:
        return self.seen[-1] if self.seen else {"status": ""}

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            thread.join()


def drop(daemon: Daemon, sample: Path, count: int, folder: str = "Physics") -> None:
    for number in range(count):
        daemon.drop(sample, f"{folder}/{number}.mp4")


def test_a_progress_file_is_whole_at_every_moment_and_ends_completed(daemon: Daemon, sample: Path) -> None:
    daemon.configure('batch: {progress_file: "progress/{batch}.json"}\nworkers: {max: 1}\n')
    daemon.start()
    with Reader(daemon.home / "reports" / "progress" / "Physics.json").reading() as reader:
        drop(daemon, sample, 30)
        daemon.until_counts(completed=30)
        eventually(lambda: reader.last["status"] == "COMPLETED")
    assert reader.broken == []
    assert reader.reads > 20
    sequences = [seen["sequence"] for seen in reader.seen]
    assert sequences == sorted(set(sequences))
    assert [status for status in (seen["status"] for seen in reader.seen) if status in ENDED] == ["COMPLETED"]
    assert reader.last["counts"] == {
        "total": 30,
        "pending": 0,
        "running": 0,
        "completed": 30,
        "failed": 0,
        "cancelled": 0,
    }
    assert len(reader.last["recent"]) == 10
    assert daemon.stop() == 0


def test_the_sequence_rises_over_a_crash_and_what_was_missed_is_told(daemon: Daemon, sample: Path) -> None:
    daemon.configure("batch: {progress_file: progress.json}\n")
    path = daemon.home / "reports" / "progress.json"
    daemon.start()
    daemon.ctl("pause")
    drop(daemon, sample, 3)
    daemon.until_counts(pending=3)
    eventually(lambda: path.exists() and json.loads(path.read_bytes())["counts"]["pending"] == 3)
    before = json.loads(path.read_bytes())
    assert before["status"] == "PAUSED"
    daemon.kill()
    daemon.start()
    daemon.ctl("resume")
    daemon.until_counts(completed=3)
    eventually(lambda: json.loads(path.read_bytes())["status"] == "COMPLETED")
    assert json.loads(path.read_bytes())["sequence"] > before["sequence"]
    assert daemon.stop() == 0
    assert json.loads(path.read_bytes())["status"] == "COMPLETED"


@needs_mounts
def test_a_progress_file_on_a_full_disk_does_no_harm_and_is_written_when_there_is_room(
    daemon: Daemon, sample: Path
) -> None:
    daemon.configure("batch: {progress_file: full/p.json}\n")
    full = daemon.home / "reports" / "full"
    (daemon.home / "reports").mkdir()
    with tiny(full, "16k"):
        fill(full)
        daemon.start()
        drop(daemon, sample, 3)
        daemon.until_counts(completed=3)
        (note,) = eventually(lambda: daemon.status()["progress"]["notes"])
        assert (note["batch"], note["file"], note["reason"]) == ("Physics", "full/p.json", "No space left on device")
        assert (daemon.status()["state"], daemon.files("failed")) == ("running", [])
        assert "progress file full/p.json: No space left on device" in daemon.ctl("status").stdout
        assert not (full / "p.json").exists()
        grow(full, "1m")
        eventually(lambda: (full / "p.json").exists(), 60)
        assert json.loads((full / "p.json").read_bytes())["status"] == "COMPLETED"
        eventually(lambda: not daemon.status()["progress"]["notes"])
        assert daemon.stop() == 0


@pytest.mark.parametrize("name", ["a.md", "0.md/p.json"])
def test_a_progress_file_never_takes_the_place_of_a_report(daemon: Daemon, sample: Path, name: str) -> None:
    report = daemon.home / "reports" / "a.md"
    report.parent.mkdir()
    report.write_text("# Mine\n")
    (report.parent / "0.md").write_text("# Mine\n")
    daemon.configure(f"batch: {{progress_file: {name}}}\n")
    daemon.start()
    drop(daemon, sample, 2)
    daemon.until_counts(completed=2)
    eventually(lambda: daemon.status()["progress"]["notes"])
    assert report.read_text() == "# Mine\n"
    assert daemon.stop() == 0


def test_watch_follows_a_daemon_and_goes_on_without_it(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    drop(daemon, sample, 3)
    words = [str(BIN / "gsvrctl"), "--home", str(daemon.home), "watch", "--interval", "0.1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("3 of 3 done" in line for line in lines)
        daemon.stop()
        assert any("the daemon does not run" in line for line in lines)
        process.terminate()
        assert process.wait(30) == 0
