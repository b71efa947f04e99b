"""A folder of lectures is summed up when all of it is done, again when something is added, and after a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from markdown_it import MarkdownIt
from support.daemon import Daemon
from support.waiting import eventually

COURSE = "高一物理"
NAMES = ["_summary.json", "_summary.md", "_summary.svg"]


def folder(daemon: Daemon) -> Path:
    return daemon.home / "reports" / COURSE


def summary(daemon: Daemon) -> dict[str, Any]:
    path = folder(daemon) / "_summary.json"
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return found


def until(daemon: Daemon, **wanted: int) -> dict[str, Any]:
    """The summary, once it says this."""

    def said() -> dict[str, Any] | None:
        daemon.died()
        found = summary(daemon)
        return found if found and all(found[name] == value for name, value in wanted.items()) else None

    found = eventually(said, 60)
    assert found is not None
    return found


def links(page: Path) -> list[Path]:
    tokens = [child for token in MarkdownIt().parse(page.read_text()) for child in token.children or []]
    targets = [token.attrs.get("href") or token.attrs.get("src") for token in tokens]
    return [page.parent / unquote(str(target)) for target in targets if target]


def test_a_folder_is_summed_up_and_again_when_something_is_added(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    for lesson in ("第十课", "第二课"):
        daemon.drop(sample, f"{COURSE}/{lesson}.mp4")
    (daemon.home / "inbox" / COURSE / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(5000))
    found = until(daemon, total=3, completed=2, failed=1)
    assert [lesson["video"] for lesson in found["lessons"]] == [f"{COURSE}/第二课.mp4", f"{COURSE}/第十课.mp4"]
    assert [failure["video"] for failure in found["failures"]] == [f"{COURSE}/broken.mp4"]
    assert found["failures"][0]["what_to_do"]
    assert found["unfinished"] == 0
    page = folder(daemon) / "_summary.md"
    eventually(page.exists)
    assert [path.name for path in links(page)][:3] == ["_summary.svg", "第二课.md", "第十课.md"]
    assert all(path.exists() for path in links(page))
    picture = ElementTree.parse(folder(daemon) / "_summary.svg")
    assert len(picture.findall(".//{*}rect[@class='ok']/{*}title")) == 2

    daemon.drop(sample, f"{COURSE}/week 2/第三课.mp4")
    found = until(daemon, total=4, completed=3)
    assert found["lessons"][0]["report"] == f"{COURSE}/week 2/第三课.md"
    assert sorted(path.name for path in folder(daemon).glob("_summary*")) == NAMES
    assert daemon.stop() == 0


def test_a_restart_changes_nothing_and_makes_up_for_what_is_missing(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.drop(sample, f"{COURSE}/a.mp4")
    until(daemon, total=1, completed=1)
    eventually((folder(daemon) / "_summary.md").exists)
    before = {name: (folder(daemon) / name).read_bytes() for name in NAMES}
    daemon.kill()
    (folder(daemon) / "_summary.json").unlink()  # as if the daemon had died before it was written
    daemon.start()
    until(daemon, total=1, completed=1)
    assert {name: (folder(daemon) / name).read_bytes() for name in NAMES} == before


def test_a_loose_video_has_a_report_and_no_summary_and_two_have_one(daemon: Daemon, sample: Path) -> None:
    daemon.start()
    daemon.drop(sample, "a.mp4")
    daemon.until_counts(completed=1)
    daemon.drop(sample, "b.mp4")
    pages = eventually(lambda: list((daemon.home / "reports" / "_batches").rglob("_summary.md")), 60)
    assert [path.name for path in links(pages[0])] == ["_summary.svg", "a.md", "b.md"]
    assert all(path.exists() for path in links(pages[0]))
    assert not list((daemon.home / "reports").glob("_summary*"))


def test_a_summary_never_replaces_what_is_somebody_elses(daemon: Daemon, sample: Path) -> None:
    mine = folder(daemon) / "_summary.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("# My own notes\n")
    daemon.start()
    daemon.drop(sample, f"{COURSE}/a.mp4")
    eventually((folder(daemon) / "_summary-2.md").exists, 60)
    assert mine.read_text() == "# My own notes\n"
