"""Links, as a user gives them: shortcuts in the inbox, lists, and `gsvrctl submit`; against real servers on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.daemon import Daemon
from support.gemini.process import serving
from support.gemini.rules import KEY
from support.shelf import Shelf, give, say, stall
from support.waiting import eventually

VIDEO = "aqz-KE-bpKQ"
ALLOW = "links: {allow: [127.0.0.1]}\n"


@pytest.fixture
def shelf(sample: Path) -> Iterator[Shelf]:
    with Shelf(sample.read_bytes()) as made:
        yield made


def shortcut(daemon: Daemon, name: str, url: str) -> Path:
    path = daemon.home / "inbox" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[InternetShortcut]\r\nURL={url}\r\nIconIndex=0\r\n")
    return path


def record(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((daemon.home / "failed" / name).read_text())
    return found


def spool(daemon: Daemon) -> list[str]:
    return os.listdir(daemon.home / "state" / "spool")


def test_a_shortcut_a_list_and_submit_lead_to_reports_and_nothing_shows_what_is_secret(
    daemon: Daemon, shelf: Shelf
) -> None:
    daemon.configure(ALLOW + "logs: {level: debug}\n")
    daemon.start()
    source = shortcut(daemon, "Physics/lesson 1.url", shelf.url("/a/one.mp4?token=sesame"))
    (daemon.home / "inbox" / "term.txt").write_text(shelf.url("/a/two.mp4?token=sesame#t=5") + "\n")
    done = daemon.ctl("submit", shelf.url("/a/three?token=sesame"), "--name", "Third")
    assert done.returncode == 0, done.stderr
    daemon.until_counts(completed=3, pending=0, running=0)

    assert daemon.files("reports") == ["Physics/lesson 1.md", "three.md", "two.md"]
    eventually(lambda: not source.exists())
    assert "Physics/lesson 1.url" in daemon.files("archive")
    report = (daemon.home / "reports" / "Physics" / "lesson 1.md").read_text()
    assert f'source: "{shelf.url("/a/one.mp4")}?…"' in report
    assert not [path for path in (daemon.home / "reports").rglob("*.*") if "sesame" in path.read_text()]
    told = daemon.log + daemon.ctl("list", "--json").stdout + daemon.ctl("why", "two.mp4").stdout + done.stdout
    assert "sesame" not in told
    eventually(lambda: not spool(daemon))
    assert len(shelf.got) == 3


def test_the_same_link_in_a_list_that_is_read_again_is_no_second_task(daemon: Daemon, shelf: Shelf) -> None:
    daemon.configure(ALLOW)
    daemon.start()
    for text in (f"{shelf.url()}\n{shelf.url()}#twice\n", f"# again\n{shelf.url()}\n"):
        (daemon.home / "inbox" / "term.txt").write_text(text)
        eventually(lambda: not (daemon.home / "inbox" / "term.txt").exists())
        daemon.until_counts(completed=1, pending=0, running=0)
    assert len(shelf.got) == 1


def test_what_can_never_be_a_video_fails_in_words_beside_its_shortcut(daemon: Daemon, shelf: Shelf) -> None:
    daemon.configure(ALLOW + "retry: {max_retries: 0}\n")
    daemon.start()
    shelf.acts = [say(200, b"<!DOCTYPE html>", Content_Type="text/html")]
    shortcut(daemon, "page.url", shelf.url("/watch"))
    shortcut(daemon, "scheme.url", "file:///etc/passwd")
    shortcut(daemon, "near.url", f"http://localhost:{shelf.port}/x.mp4")
    shortcut(daemon, "list.url", "https://www.youtube.com/playlist?list=PL0123456789")
    shortcut(daemon, "here.url", f"https://youtu.be/{VIDEO}")
    (daemon.home / "inbox" / "empty.url").touch()
    with (daemon.home / "inbox" / "large.url").open("wb") as file:
        file.truncate(50_000_000)
    daemon.until_counts(failed=7, pending=0, running=0)
    eventually(lambda: len(daemon.files("failed")) == 14)
    assert "a page of 127.0.0.1, not a video" in record(daemon, "page.url.error.json")["why"]
    assert "neither http nor https" in record(daemon, "scheme.url.error.json")["why"]
    assert "not an address of the open internet" in record(daemon, "near.url.error.json")["why"]
    assert "playlist" in record(daemon, "list.url.error.json")["why"]
    assert "cannot look at a video of YouTube" in record(daemon, "here.url.error.json")["why"]
    assert record(daemon, "here.url.error.json")["attempts"] == 1
    assert record(daemon, "empty.url.error.json")["kind"] == "empty"
    assert "larger than 64 KiB" in record(daemon, "large.url.error.json")["why"]


def test_a_link_of_a_list_that_fails_has_its_record_and_can_be_tried_again(daemon: Daemon, shelf: Shelf) -> None:
    daemon.configure(ALLOW)
    daemon.start()
    shelf.acts = [say(404)]
    (daemon.home / "inbox" / "term.txt").write_text(shelf.url("/gone/talk.mp4?key=1") + "\n")
    daemon.until_counts(failed=1)
    eventually(lambda: daemon.files("failed"))
    assert record(daemon, "talk.mp4.error.json")["source"] == f"{shelf.url('/gone/talk.mp4')}?…"
    for word in ("talk.mp4?…", shelf.url("/gone/talk.mp4?key=1")):
        told = daemon.ctl("why", word).stdout
        assert "has nothing at this address (404)" in told.replace("\n", " ")
        assert "1970" not in told
    assert daemon.ctl("retry", "1").returncode == 0
    daemon.until_counts(completed=1, failed=0)
    eventually(lambda: not daemon.files("failed"))
    assert daemon.files("reports") == ["talk.md"]


def test_a_task_that_is_cancelled_gives_its_room_back(daemon: Daemon, shelf: Shelf) -> None:
    daemon.configure(ALLOW)
    shelf.acts = [stall(300_000)]
    daemon.start()
    shortcut(daemon, "talk.url", shelf.url())
    part = daemon.home / "state" / "spool" / "1" / "video"
    eventually(lambda: part.exists() and part.stat().st_size == 300_000)
    assert daemon.ctl("cancel", "1").returncode == 0
    eventually(lambda: not spool(daemon), 20)
    daemon.stop()
    (daemon.home / "state" / "spool" / "77").mkdir()
    daemon.start()
    assert not spool(daemon)


def test_the_same_content_under_two_links_is_studied_once(daemon: Daemon, shelf: Shelf) -> None:
    daemon.configure(ALLOW + "batch: {skip_existing: true}\nworkers: {max: 1}\n")
    daemon.start()
    (daemon.home / "inbox" / "term.txt").write_text(f"{shelf.url('/one.mp4')}\n{shelf.url('/two.mp4')}\n")
    daemon.until_counts(completed=2, pending=0, running=0)
    assert len(daemon.files("reports")) == 1


def test_what_a_crash_left_of_a_failed_link_is_made_up_for(daemon: Daemon, shelf: Shelf) -> None:
    """The failure is on record, and the daemon dies before it is written down beside the others."""
    armed = daemon.home / "armed"
    armed.mkdir()
    (armed / "fail.committed").touch()
    daemon.environ |= {"GSVRD_CRASH_POINTS": str(armed)}
    daemon.configure(ALLOW)
    shelf.acts = [say(410)]
    daemon.start()
    (daemon.home / "inbox" / "term.txt").write_text(shelf.url("/gone/talk.mp4") + "\n")
    assert daemon.process is not None
    daemon.process.wait(30)
    assert not daemon.files("failed")
    daemon.start()
    eventually(lambda: daemon.files("failed") == ["talk.mp4.error.json"])
    assert record(daemon, "talk.mp4.error.json")["kind"] == "link"
    daemon.stop()
    daemon.start()
    assert daemon.files("failed") == ["talk.mp4.error.json"]


def test_whatever_is_killed_when_each_link_has_exactly_one_report(daemon: Daemon, shelf: Shelf) -> None:
    chance, total = random.Random(7), len(shelf.data)
    daemon.configure(ALLOW + "workers: {max: 2, min: 2}\nretry: {poison_limit: 50, max_retries: 50}\n")
    broken = [give(chance.randrange(70_000, total)) for _ in range(3)]
    shelf.acts = chance.sample([*broken, give(), stall(90_000), stall(90_000), say(503, Retry_After="0")], 7)
    for number in range(2):
        shortcut(daemon, f"Course/talk {number}.url", shelf.url(f"/talk-{number}.mp4"))
    rows = [shelf.url(f"/row-{number}.mp4") for number in range(2)]
    (daemon.home / "inbox" / "term.txt").write_text("\n".join(rows) + "\n")
    daemon.start()

    def hurry() -> bool:
        """Nobody waits for the next try."""
        with closing(sqlite3.connect(daemon.home / "state" / "gsvrd.db", timeout=10)) as database, database:
            database.execute("UPDATE tasks SET due_at = NULL WHERE state = 'pending' AND due_at IS NOT NULL")
        daemon.signal(signal.SIGHUP)
        return daemon.counts()["completed"] == 4

    for kills_all in (True, False, True):
        asked = len(shelf.got)
        eventually(lambda asked=asked: len(shelf.got) > asked or hurry(), 30)  # type: ignore[misc]
        if kills_all:
            daemon.kill()
            daemon.start()
        else:
            for worker in daemon.workers():
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
    eventually(hurry, 90)
    assert daemon.files("reports") == ["Course/talk 0.md", "Course/talk 1.md", "row-0.md", "row-1.md"]
    eventually(lambda: not spool(daemon) and not list((daemon.home / "inbox").rglob("*.url")))
    assert daemon.files("failed") == []


def test_a_daemon_that_is_killed_in_the_middle_goes_on_where_it_was(daemon: Daemon, shelf: Shelf) -> None:
    daemon.configure(ALLOW)
    half = len(shelf.data) // 2
    shelf.acts = [stall(half)]
    daemon.start()
    shortcut(daemon, "talk.url", shelf.url())
    part = daemon.home / "state" / "spool" / "1" / "video"
    eventually(lambda: part.exists() and part.stat().st_size == half)
    daemon.kill()
    daemon.start()
    daemon.until_counts(completed=1, running=0)
    assert daemon.files("reports") == ["talk.md"]
    assert [got.range for got in shelf.got] == ["", f"bytes={half}-"]
    eventually(lambda: not spool(daemon))


def test_a_video_of_youtube_is_studied_where_it_is(daemon: Daemon, tmp_path: Path) -> None:
    with serving(tmp_path, youtube={VIDEO: 600.0}, generate_s=0.05) as server:
        daemon.environ = {"GEMINI_API_KEY": KEY, "GSVRD_GEMINI_BASE_URL": server.url}
        daemon.configure("analyzer: {gemini: {max_duration: 1h}}\n")
        daemon.start()
        shortcut(daemon, "talk.url", f"https://m.youtube.com/watch?v={VIDEO}&list=PL1&t=5")
        (daemon.home / "inbox" / "term.txt").write_text(
            f"https://youtu.be/{VIDEO}?si=x\nhttps://youtu.be/0123456789_\n"
        )
        daemon.until_counts(completed=2, failed=1, pending=0, running=0)
        report = (daemon.home / "reports" / "talk.md").read_text()
        assert f'source: "https://youtu.be/{VIDEO}"' in report
        assert 'duration: "0:10:00"' in report
        assert "there are no pictures of it" in report.partition("## How this")[2] or "no pictures" in report
        assert sorted(daemon.files("reports")) == ["talk.md", f"youtube-{VIDEO}.md"]
        why = record(daemon, "youtube-0123456789_.error.json")
        assert "must be public" in why["what_to_do"]
        spent = json.loads(daemon.ctl("spend", "--json").stdout)
        assert spent
