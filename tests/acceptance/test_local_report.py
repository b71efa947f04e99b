"""The main job with the local analyzer: a real lecture becomes a useful report, with the network cut off."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from fetch_real import available
from support.daemon import Daemon
from support.waiting import eventually

SAMPLES = Path(__file__).parents[1] / "media" / "samples"
REAL = available()


def can_cut_network() -> bool:
    command = shutil.which("unshare")
    return command is not None and subprocess.run([command, "-n", "true"], capture_output=True).returncode == 0


@pytest.fixture
def local(daemon: Daemon) -> Daemon:
    daemon.environ = {"GSVRD_ANALYZER__USE": "auto"}
    if can_cut_network():
        daemon.prefix = ("unshare", "-n")
    return daemon


def truth_of(sample: Path) -> dict[str, Any]:
    truth: dict[str, Any] = json.loads(sample.with_suffix(".truth.json").read_text())
    return truth


def report_of(daemon: Daemon, name: str) -> tuple[dict[str, Any], str]:
    text = (daemon.home / "reports" / f"{name}.md").read_text()
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


@pytest.mark.timeout(300)
@pytest.mark.skipif(not can_cut_network(), reason="needs the right to unshare the network")
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_lecture_becomes_a_report_without_any_network(local: Daemon, language: str) -> None:
    sample = SAMPLES / f"lecture-{language}.mp4"
    truth = truth_of(sample)
    local.start()
    local.drop(sample)
    local.until_counts(200, completed=1)
    front, body = report_of(local, sample.stem)
    assert front["language"] == language
    assert front["source"] == sample.name
    assert front["analyzer"] == "local"
    assert front["duration"] == clock(truth["duration_s"])
    assert re.fullmatch(r"[0-9a-f]{64}", front["sha256"])
    assert front["title"] == truth["title"]
    # Each slide is a chapter, at its time, with its title and its picture.
    chapters = re.findall(r"^## (\d+:\d\d:\d\d) (.+)$", body, re.MULTILINE)
    assert len(chapters) == len(truth["slides"])
    for (moment, title), slide in zip(chapters, truth["slides"], strict=True):
        hours, minutes, seconds = map(int, moment.split(":"))
        assert abs(hours * 3600 + minutes * 60 + seconds - slide["start_s"]) <= 1.5
        assert title == slide["title"]
    pictures = re.findall(rf"\({sample.stem}\.assets/(\S+?)\)", body)
    assert len(pictures) >= len(chapters)
    for picture in pictures:
        assert (local.home / "reports" / f"{sample.stem}.assets" / picture).stat().st_size > 1000
    # What was said is there: most of its words, in order of appearance.
    words = [
        word
        for sentence in truth["sentences"]
        for word in re.findall(r"[a-z]{4,}|[一-鿿]{2}", sentence["text"].lower())
    ]
    heard = body.lower()
    assert sum(word in heard for word in words) >= 0.85 * len(words)
    for heading in {"en": ("Summary", "Objectives", "Key terms", "Quiz", "Transcript"), "zh": ("摘要",)}[language]:
        assert heading in body


@pytest.mark.timeout(300)
def test_progress_tells_the_stage_while_it_runs(local: Daemon) -> None:
    local.start()
    local.drop(SAMPLES / "lecture-en.mp4")
    seen: set[str] = set()

    def done() -> bool:
        local.died()
        facts = local.status()
        seen.update(row["stage"] for row in facts["running"])
        return bool(facts["counts"]["completed"] == 1)

    eventually(done, 200)
    assert {"text", "speech"} <= seen


@pytest.mark.timeout(900)
@pytest.mark.real_media
@pytest.mark.skipif(not REAL, reason="fetch them first: make media")
def test_every_real_video_becomes_a_report(local: Daemon) -> None:
    for path in REAL:
        local.drop(path)
    local.start()

    def done() -> bool:
        local.died()
        counts = local.counts()
        return counts["completed"] + counts["failed"] == len(REAL)

    eventually(done, 850)
    assert local.status()["last_errors"] == []
    for path in REAL:
        front, body = report_of(local, path.stem)
        assert front["duration"] != "0:00:00", path.name
        assert re.search(r"^## \d+:\d\d:\d\d", body, re.MULTILINE), path.name


@pytest.mark.timeout(300)
def test_the_template_decides_what_the_report_looks_like(local: Daemon) -> None:
    local.environ["GSVRD_TEMPLATE"] = "chinese_transcript"
    local.start()
    local.drop(SAMPLES / "lecture-zh.mp4")
    local.until_counts(200, completed=1)
    front, body = report_of(local, "lecture-zh")
    assert front["template"] == "chinese_transcript"
    assert body.index("## 逐字稿") < body.index("## 摘要")
    assert "## 测验" not in body


def test_an_unknown_template_is_refused_at_start_with_those_there_are(daemon: Daemon) -> None:
    daemon.environ["GSVRD_TEMPLATE"] = "no_such_template"
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(30) == 78
    assert "comprehensive_lesson" in daemon.log
