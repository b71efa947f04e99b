"""The promise under fire: whatever is killed when, every dropped file ends as exactly one report or failure record."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import sqlite3
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import yaml
from support.daemon import Daemon
from support.waiting import eventually

MARK = "FAMILY_OF"
"""Stands in the environment of a daemon and of all that descends from it, so that orphans can be told."""


@pytest.fixture(scope="module")
def clip() -> bytes:
    """A good video of a few hundred bytes."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as film:
        stream = film.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 32, 32
        for number in range(3):
            picture = np.full((32, 32, 3), 60 * number, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode(None))
    return out.getvalue()


@dataclass
class Storm:
    """A daemon, what was dropped into its inbox, and all that may happen to both."""

    daemon: Daemon
    clip: bytes
    chance: random.Random
    good: dict[str, bytes] = field(default_factory=dict)
    bad: dict[str, bytes] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)
    _readies: int = 0

    # -- what people do ----------------------------------------------------------------------------------------------

    def drop(self, count: int) -> None:
        for _ in range(count):
            number = len(self.good) + len(self.bad)
            folder = self.chance.choice(("", "", "week 1/", "第二周/"))
            name, dice = f"{folder}{number:03}.mp4", self.chance.random()
            if dice < 0.15:
                self.bad[name] = self.chance.choice((b"", b"no video", self.clip[: len(self.clip) // 3]))
            elif dice < 0.3 and self.good:
                self.good[name] = self.chance.choice(list(self.good.values()))
            else:
                self.good[name] = self.clip + free_box(f"{number}-{self.chance.random()}".encode())
            self._write(name, (self.good | self.bad)[name])

    def _write(self, name: str, data: bytes) -> None:
        path = self.daemon.home / "inbox" / name
        path.parent.mkdir(exist_ok=True)
        if self.chance.random() < 0.5:
            path.write_bytes(data)
            return
        hidden = path.with_name(f".{path.name}.part")  # as browsers and rsync do
        hidden.write_bytes(data)
        hidden.rename(path)

    # -- what befalls the daemon -------------------------------------------------------------------------------------

    def start(self) -> None:
        self._readies = self.daemon.log.count('"ready"')
        self.daemon.start(wait=False)

    def until_ready(self) -> None:
        """Every start that is waited for must get so far."""
        eventually(lambda: self.daemon.died() or self.daemon.log.count('"ready"') > self._readies, 30)

    def pause_a_moment(self, most_s: float) -> None:
        time.sleep(self.chance.random() * most_s)  # not to wait for something: the moment is what is random

    def strike(self) -> None:
        strikes = (self.kill_daemon, self.kill_tree, self.kill_worker, self.kill_worker, self.drain, self.stop_now)
        strike = self.chance.choice(strikes)
        self.happened[strike.__name__] += 1
        strike()

    def kill_worker(self) -> None:
        workers = [child for child in self._family() if is_worker(child)]
        if workers:
            signal_one(self.chance.choice(workers), signal.SIGKILL)

    def kill_daemon(self) -> None:
        self._replace(lambda old: old.kill())

    def kill_tree(self) -> None:
        def fell(old: Any) -> None:
            for one in (psutil.Process(old.pid), *children):
                signal_one(one, signal.SIGKILL)

        children = self._family()
        self._replace(fell)

    def drain(self) -> None:
        self._replace(lambda old: old.send_signal(signal.SIGTERM))

    def stop_now(self) -> None:
        def twice(old: Any) -> None:
            old.send_signal(signal.SIGTERM)
            old.send_signal(signal.SIGTERM)

        self._replace(twice)

    def _replace(self, end: Callable[[Any], object]) -> None:
        """End the daemon and start the next at once beside the dying one; sometimes that one dies young, too."""
        old = self.daemon.process
        assert old is not None
        end(old)
        self.start()
        if self.chance.random() < 0.25:
            self.pause_a_moment(1.0)
            assert self.daemon.process is not None
            self.daemon.process.kill()
            self.daemon.process.wait()
            self.start()
        assert old.wait(30) in (0, -signal.SIGKILL), self.daemon.log

    def _family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.daemon.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    # -- what must be true in the end --------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        self.daemon.died()
        counts = self.daemon.counts()
        return counts["completed"] + counts["failed"] == len(self.good) + len(self.bad) and not self.inbox()

    def inbox(self) -> list[str]:
        return self.daemon.files("inbox")

    def reports(self) -> list[tuple[str, str]]:
        """Source and hash that each report names, whatever it is called."""
        heads = [
            yaml.safe_load(path.read_text().split("---\n")[1]) for path in (self.daemon.home / "reports").rglob("*.md")
        ]
        return sorted((head["source"], head["sha256"]) for head in heads)

    def failures(self) -> list[str]:
        return sorted(
            json.loads(path.read_text())["source"] for path in (self.daemon.home / "failed").rglob("*.error.json")
        )

    def contents(self, folder: str) -> dict[str, bytes]:
        root = self.daemon.home / folder
        paths = [path for path in root.rglob("*.mp4") if path.is_file()]
        return {str(path.relative_to(root)): path.read_bytes() for path in paths}

    def check(self) -> None:
        assert self.reports() == sorted((name, sha256(data)) for name, data in self.good.items())
        assert self.failures() == sorted(self.bad)
        assert self.contents("archive") == self.good
        assert self.contents("failed") == self.bad
        assert list(self.daemon.home.rglob(".gsvrd-*")) == []
        assert list((self.daemon.home / "state" / "work").iterdir()) == []

    def check_database(self) -> None:
        """With the daemon stopped."""
        with sqlite3.connect(self.daemon.home / "state" / "gsvrd.db") as conn:

            def ask(sql: str) -> list[tuple[Any, ...]]:
                return conn.execute(sql).fetchall()

            assert ask("PRAGMA integrity_check") == [("ok",)]
            assert sorted(ask("SELECT name, state, home FROM tasks")) == sorted(
                [(name, "completed", "archive") for name in self.good]
                + [(name, "failed", "failed") for name in self.bad]
            )
            assert ask("SELECT * FROM attempts WHERE ended_at IS NULL OR outcome IS NULL") == []
            ends = "SELECT task FROM events WHERE change IN ('complete', 'fail') GROUP BY task HAVING count(*) <> 1"
            assert ask(ends) == []
            assert ask("SELECT * FROM stages") == []


def free_box(data: bytes) -> bytes:
    """An MP4 box that every reader skips."""
    return struct.pack(">I", 8 + len(data)) + b"free" + data


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_worker(process: psutil.Process) -> bool:
    """Workers leave the daemon's session as their first deed; the fork server and the resource tracker do not."""
    try:
        return os.getsid(process.pid) == process.pid
    except ProcessLookupError:
        return False


def signal_one(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def family(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path, {"GSVRD_ANALYZER": "probe", MARK: str(tmp_path)})
    (tmp_path / "inbox").mkdir()
    made.configure("workers: {max: 3}\nretry: {max_retries: 10, poison_limit: 10}\nintake: {rescan_interval: 2s}\n")
    yield made
    for process in family(tmp_path):
        signal_one(process, signal.SIGKILL)


@pytest.mark.parametrize("seed", [1])
def test_a_storm_of_kills_loses_nothing_and_doubles_nothing(daemon: Daemon, clip: bytes, seed: int) -> None:
    weather(Storm(daemon, clip, random.Random(seed)), strikes=24)


def weather(storm: Storm, strikes: int) -> None:
    storm.drop(4)
    storm.start()
    for _ in range(strikes):
        storm.until_ready()
        storm.drop(storm.chance.randint(1, 3))
        storm.pause_a_moment(0.25)
        storm.strike()
    storm.until_ready()
    eventually(storm.is_quiet, 60)
    storm.check()
    assert storm.daemon.stop() == 0
    storm.check()
    storm.check_database()
    eventually(lambda: family(storm.daemon.home) == [], 3)
