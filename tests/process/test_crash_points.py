"""`gsvrd selftest` as it is installed, and that what it judges by can fail."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import BIN, environment

from gsvrd.cli.scratch import Scratch, find_ground, make_clip, until
from gsvrd.cli.verdict import Verdict, judge
from gsvrd.config.places import NAMES
from gsvrd.crashpoints import POINTS


def selftest(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "gsvrd", "selftest", "--home", str(home), *words],
        capture_output=True,
        text=True,
        env=environment(**environ),
        timeout=900,
        check=False,
    )


@pytest.mark.timeout(900)
def test_death_at_any_point_loses_nothing_doubles_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "mine.mp4").write_bytes(b"not to be touched")
    ran = selftest(tmp_path, "--json")
    facts = json.loads(ran.stdout)
    complaints = {trial["point"]: trial["verdict"] for trial in facts["points"] if not trial["ok"]}
    assert complaints == {}
    assert ran.returncode == 0, ran.stderr
    assert [trial["point"] for trial in facts["points"]] == list(POINTS)
    assert {trial["point"] for trial in facts["points"] if not trial["reached"]} <= {"copy.written", "copy.named"}
    assert [path.name for path in tmp_path.rglob("*")] == ["inbox", "mine.mp4"]


def test_an_unknown_point_is_a_usage_error(tmp_path: Path) -> None:
    ran = selftest(tmp_path, "--points", "publish.linkd")
    assert ran.returncode == os.EX_USAGE
    assert "publish.linkd" in ran.stderr


def test_the_points_are_listed_and_nothing_is_done(tmp_path: Path) -> None:
    ran = selftest(tmp_path, "--list-points")
    assert [line.split()[0] for line in ran.stdout.splitlines()] == list(POINTS)
    assert json.loads(selftest(tmp_path, "--list-points", "--json").stdout) == dict(POINTS)
    assert list(tmp_path.iterdir()) == []


def test_a_point_that_is_not_reached_fails_the_selftest(tmp_path: Path) -> None:
    """With an inbox that is never looked at nobody comes to any point."""
    ran = selftest(tmp_path, "--points", "accept.durable", PYTHONPATH=str(idle_program(tmp_path)))
    assert ran.returncode == 1
    assert "0 of 1 points reached" in ran.stdout


def idle_program(folder: Path) -> Path:
    """Has every process of Python that starts there reach nothing."""
    where = folder / "idle"
    where.mkdir()
    (where / "sitecustomize.py").write_text("import gsvrd.crashpoints as points\npoints._folder = ''\n")
    return where


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scratch]:
    """A scratch daemon that has done one round and was stopped."""
    root = tmp_path_factory.mktemp("scratch")
    scratch = Scratch({name: root / name for name in NAMES}, make_clip())
    scratch.start()
    scratch.drop()
    try:
        assert until(scratch.is_settled)
        assert scratch.stop() == 0
        yield scratch
    finally:
        scratch.kill()


@pytest.fixture
def copy(done: Scratch, tmp_path: Path) -> Scratch:
    """The same, to be spoilt."""
    shutil.copytree(
        done.home, tmp_path / "home", dirs_exist_ok=True, ignore=shutil.ignore_patterns("config", "armed", "doorbell")
    )
    spoilt = Scratch({name: tmp_path / "home" / name for name in NAMES}, done.clip)
    spoilt.good, spoilt.bad, spoilt.subtitles = done.good, done.bad, done.subtitles
    return spoilt


def test_a_home_where_all_went_well_is_clean(copy: Scratch) -> None:
    assert judge(copy) == Verdict()


def spoil(scratch: Scratch, statement: str) -> None:
    with sqlite3.connect(scratch.database) as conn:
        conn.execute(statement)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def twice(path: Path, name: str) -> None:
    shutil.copy(path, path.with_name(name))


Spoiling = Callable[[Scratch, dict[str, Path]], Any]
SPOILINGS: list[tuple[str, str, Spoiling]] = [
    ("lost", "no report of 01.mp4", lambda _, at: (at["reports"] / "01.md").unlink()),
    ("lost", "no report of 01.mp4", lambda _, at: (at["reports"] / "01.md").write_text("---\nsource: 01.mp4\n")),
    ("lost", "no pictures of 01.md", lambda _, at: shutil.rmtree(at["reports"] / "01.assets")),
    (
        "lost",
        "no failure record of week/01 bad.mp4",
        lambda _, at: (at["failed"] / "week" / "01 bad.mp4.error.json").unlink(),
    ),
    ("lost", "no failure record", lambda _, at: (at["failed"] / "week" / "01 bad.mp4.error.json").write_text("{")),
    ("lost", "week/01.mp4 is not in archive", lambda _, at: (at["archive"] / "week" / "01.mp4").unlink()),
    ("lost", "01.mp4 in archive has other bytes", lambda _, at: cut(at["archive"] / "01.mp4")),
    ("lost", "01.en.srt is not in archive", lambda _, at: (at["archive"] / "01.en.srt").unlink()),
    ("lost", "week/01 bad.mp4 is not in failed", lambda _, at: (at["failed"] / "week" / "01 bad.mp4").unlink()),
    ("lost", "no row says that 01.mp4 is completed", lambda s, _: spoil(s, "UPDATE tasks SET home = 'gone'")),
    ("doubled", "a report too many, of 01.mp4", lambda _, at: twice(at["reports"] / "01.md", "02.md")),
    (
        "doubled",
        "a failure record too many",
        lambda _, at: twice(at["failed"] / "week" / "01 bad.mp4.error.json", "x.error.json"),
    ),
    ("doubled", "a file too many in archive: 01-2.mp4", lambda _, at: twice(at["archive"] / "01.mp4", "01-2.mp4")),
    ("stray", "pictures without a report", lambda _, at: (at["reports"] / "no.assets").mkdir()),
    ("stray", "left behind", lambda _, at: (at["reports"] / "week" / ".gsvrd-9-1").mkdir()),
    ("stray", "left behind", lambda _, at: (at["state"] / "work" / "1").mkdir()),
    ("stray", "left behind", lambda _, at: (at["inbox"] / "01.en.srt").touch()),
    ("wrong", "attempt 1 at 01.mp4 never ended", lambda s, _: spoil(s, "UPDATE attempts SET ended_at = NULL")),
]


@pytest.mark.parametrize(("kind", "words", "act"), SPOILINGS, ids=[f"{kind}: {words}" for kind, words, _ in SPOILINGS])
def test_what_is_spoilt_is_seen(copy: Scratch, kind: str, words: str, act: Spoiling) -> None:
    act(copy, dict(copy.directories))
    assert any(complaint.startswith(words) for complaint in getattr(judge(copy), kind))


def test_a_task_that_ended_twice_is_seen(copy: Scratch) -> None:
    columns = "task, at, actor, change, state, attempt, why"
    spoil(copy, f"INSERT INTO events ({columns}) SELECT {columns} FROM events WHERE change = 'complete'")
    assert "01.mp4 ended 2 times" in judge(copy).doubled


def test_the_scratch_folder_lies_beside_a_directory_or_where_it_will_be_made(tmp_path: Path) -> None:
    assert find_ground(tmp_path / "not" / "yet") == tmp_path
    (tmp_path / "inbox").mkdir()
    assert find_ground(tmp_path / "inbox") == tmp_path
    assert find_ground(Path("/proc")) == Path("/proc")
