"""What a newcomer types first."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from support.daemon import BIN, environment


def demo(video: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [BIN / "gsvrd", "demo", video], capture_output=True, text=True, env=environment(), timeout=110
    )
    home = re.search(r"\S+/gsvrd-demo-\w+", done.stdout)
    if home:
        assert "gsvrd.db" in {path.name for path in Path(home[0]).rglob("*")}
        shutil.rmtree(home[0])
    return done


def test_demo_shows_progress_the_report_and_where_it_is(sample: Path) -> None:
    done = demo(sample)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("speech", "# The Water Cycle", "reports/lecture-en.md", "lecture-en.assets"):
        assert words in done.stdout


def test_demo_of_a_broken_video_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("this is no video")
    done = demo(broken)
    assert done.returncode == 1
    assert "could not be turned into a report" in done.stdout
    assert "Put the recording itself into the inbox" in " ".join(done.stdout.split())


def test_demo_without_the_file_is_a_usage_error(tmp_path: Path) -> None:
    done = demo(tmp_path / "nowhere.mp4")
    assert done.returncode == 64
    assert "is no file" in done.stderr


def test_demo_of_what_is_not_named_like_a_video_does_not_wait_for_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    done = demo(tmp_path / "notes.txt")
    assert done.returncode == 64
    assert ".mp4" in done.stderr
