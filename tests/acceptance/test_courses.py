"""What was asked for videos: by the folder they lie in, and by lists of them."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from support.daemon import Daemon
from support.waiting import eventually


def rows(daemon: Daemon, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(daemon.home / "state" / "gsvrd.db")) as conn:
        return list(conn.execute(sql))


def said(daemon: Daemon, name: str) -> dict[str, Any]:
    (found,) = rows(daemon, f"SELECT options FROM tasks WHERE name = '{name}'")
    options: dict[str, Any] = json.loads(found[0])
    return options


def test_a_folder_says_what_its_reports_are_and_the_nearest_wins(daemon: Daemon, sample: Path) -> None:
    inbox = daemon.home / "inbox"
    (inbox / "physics" / "week 2").mkdir(parents=True)
    (inbox / "physics" / "gsvrd.yaml").write_text("template: summary_report\noutput_pattern: '{stem}-notes.md'\n")
    (inbox / "physics" / "week 2" / "gsvrd.yaml").write_text("template: study_notes\npriority: -5\n")
    daemon.drop(sample, "physics/a.mp4")
    daemon.drop(sample, "physics/week 2/b.mp4")
    daemon.start()
    daemon.until_counts(completed=2)
    heads = {
        path.name: path.read_text() for path in (daemon.home / "reports").rglob("*.md") if path.name != "_summary.md"
    }
    assert sorted(name for name in heads if "notes" in name) == ["a-notes.md", "b-notes.md"]
    assert 'template: "summary_report"' in heads["a-notes.md"]
    assert 'template: "study_notes"' in heads["b-notes.md"]
    assert said(daemon, "physics/week 2/b.mp4")["template"] == ["study_notes", "physics/week 2/gsvrd.yaml"]
    assert rows(daemon, "SELECT name, kind FROM batches") == [("physics", "folder")]


def test_wrong_options_hold_their_batch_until_they_are_mended_and_nothing_else(daemon: Daemon, sample: Path) -> None:
    inbox = daemon.home / "inbox"
    (inbox / "physics").mkdir()
    (inbox / "physics" / "gsvrd.yaml").write_text("template: poem\n")
    daemon.drop(sample, "physics/a.mp4")
    daemon.drop(sample, "b.mp4")
    daemon.start()
    daemon.until_counts(completed=1, pending=1)
    assert "physics/gsvrd.yaml:1" in str(rows(daemon, "SELECT hold FROM batches WHERE name = 'physics'"))
    (inbox / "physics" / "gsvrd.yaml").write_text("template: study_notes\n")
    daemon.until_counts(completed=2)
    assert "study_notes" in (daemon.home / "reports" / "physics" / "a.md").read_text()


def test_a_list_has_its_good_videos_done_and_says_what_is_wrong_with_the_others(daemon: Daemon, sample: Path) -> None:
    inbox, elsewhere = daemon.home / "inbox", daemon.home / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(sample, elsewhere / "far.mp4")
    daemon.configure(f"intake: {{roots: ['{elsewhere}']}}\n")
    daemon.drop(sample, "near.mp4")
    lines = ["path,template,output_name", "near.mp4,study_notes,one.md", f"{elsewhere}/far.mp4,,two.md"]
    lines += ["/etc/passwd.mp4,,", "late.mp4,summary_report,three.md", "near2.mp4,poem,"]
    (inbox / "autumn.csv").write_text("\n".join(lines) + "\n")
    daemon.start()
    daemon.until_counts(completed=2)
    daemon.drop(sample, "late.mp4")
    daemon.until_counts(completed=3)
    reports = {path.name: path.read_text() for path in (daemon.home / "reports").glob("*.md")}
    assert sorted(reports) == ["one.md", "three.md", "two.md"]
    assert 'template: "study_notes"' in reports["one.md"]
    assert 'template: "summary_report"' in reports["three.md"]
    assert (elsewhere / "far.mp4").exists()
    wrong = (inbox / "autumn.csv.errors.txt").read_text()
    assert "autumn.csv:4" in wrong
    assert "autumn.csv:6" in wrong
    assert "poem" in wrong
    eventually(lambda: (daemon.home / "archive" / "autumn.csv").exists())
    assert {row[0] for row in rows(daemon, "SELECT kind FROM batches JOIN tasks ON batch = batches.id")} == {"manifest"}


def test_somebodys_notes_are_left_alone(daemon: Daemon, sample: Path) -> None:
    note = daemon.home / "inbox" / "read me.txt"
    note.write_text("Bring cake on Friday.\n")
    (daemon.home / "inbox" / "empty.txt").touch()
    daemon.start()
    daemon.drop(sample, "a.mp4")
    daemon.until_counts(completed=1, failed=0)
    assert daemon.files("inbox") == ["empty.txt", "read me.txt"]


def test_submit_hands_over_videos_with_what_was_asked_for_them(daemon: Daemon, sample: Path) -> None:
    daemon.drop(sample, "a.mp4")
    words = ("submit", str(daemon.home / "inbox" / "a.mp4"), "--name", "Kurs", "--template", "study_notes")
    done = daemon.ctl(*words)
    assert done.returncode == 0, done.stderr
    daemon.start()
    daemon.until_counts(completed=1)
    assert rows(daemon, "SELECT batches.name FROM batches JOIN tasks ON batch = batches.id") == [("Kurs",)]
    assert 'template: "study_notes"' in (daemon.home / "reports" / "a.md").read_text()


def test_a_plan_stays_a_plan_until_somebody_says_otherwise_also_over_restarts(daemon: Daemon, sample: Path) -> None:
    (daemon.home / "inbox" / "physics").mkdir()
    (daemon.home / "inbox" / "physics" / "gsvrd.yaml").write_text("dry_run: true\n")
    daemon.drop(sample, "physics/a.mp4")
    daemon.start()
    daemon.drop(sample, "b.mp4")
    daemon.until_counts(completed=1, pending=1)
    daemon.ctl("pause")
    assert daemon.ctl("batch", "physics", "resume").returncode == 0
    assert daemon.stop() == 0
    daemon.start()  # the folder still says so, and is found once more
    daemon.drop(sample, "c.mp4")
    eventually(lambda: sum(daemon.counts().values()) == 3)
    daemon.ctl("resume")
    daemon.until_counts(completed=3)


def test_options_that_are_mended_do_not_end_a_pause(daemon: Daemon, sample: Path) -> None:
    options = daemon.home / "inbox" / "physics" / "gsvrd.yaml"
    options.parent.mkdir()
    options.write_text("template: poem\n")
    daemon.drop(sample, "physics/a.mp4")
    daemon.start()
    daemon.until_counts(pending=1)
    assert daemon.ctl("batch", "physics", "pause").returncode == 0
    options.write_text("template: study_notes\n")
    daemon.drop(sample, "b.mp4")
    daemon.until_counts(completed=1, pending=1)
    eventually(lambda: "options_mended" in daemon.log, 60)
    assert rows(daemon, "SELECT substr(hold, 1, 6) FROM batches WHERE name = 'physics'") == [("paused",)]
    assert daemon.ctl("batch", "physics", "resume").returncode == 0
    daemon.ctl("batch", "physics", "resume")
    daemon.until_counts(completed=2)
    assert 'template: "study_notes"' in (daemon.home / "reports" / "physics" / "a.md").read_text()


def test_a_list_that_is_read_again_says_which_videos_it_skips(daemon: Daemon, sample: Path) -> None:
    inbox, shelf = daemon.home / "inbox", daemon.home / "shelf"
    shelf.mkdir()
    shutil.copy(sample, shelf / "a.mp4")
    daemon.configure("intake:\n  roots: [shelf]\n")
    daemon.start()
    daemon.drop(sample, "b.mp4")
    text = f"path,priority\n{shelf / 'a.mp4'},1\nb.mp4,1\n"
    (inbox / "term.csv").write_text(text)
    daemon.until_counts(completed=2)
    errors = inbox / "term.csv.errors.txt"
    eventually(lambda: not (inbox / "term.csv").exists())
    (inbox / "term.csv").write_text(text)
    eventually(lambda: errors.exists() and "term.csv:2" in errors.read_text())
    first = errors.read_text().splitlines()[0]
    assert "is skipped: it was done before (" in first
    assert first.endswith("a list of another name has it done again")
    assert rows(daemon, "SELECT count(*) FROM tasks") == [(2,)]


def test_a_source_that_is_refused_at_the_door_is_told_to_who_wants_to_know(daemon: Daemon, sample: Path) -> None:
    inbox = daemon.home / "inbox"
    (inbox / "physics").mkdir()
    (inbox / "physics" / "gsvrd.yaml").write_text("webhook_url: https://example.org/told\n")
    daemon.start()
    (inbox / "physics" / "a.mp4").symlink_to(sample)
    daemon.until_counts(failed=1)
    eventually(lambda: rows(daemon, "SELECT event, url FROM outbox") == [("task.failed", "https://example.org/told")])


def test_a_list_that_names_what_was_taken_away_says_that_it_was_done(daemon: Daemon, sample: Path) -> None:
    inbox = daemon.home / "inbox"
    daemon.start()
    (inbox / "term.txt").write_text("b.mp4\n")
    eventually(lambda: not (inbox / "term.txt").exists())
    daemon.drop(sample, "b.mp4")
    daemon.until_counts(completed=1)
    eventually(lambda: not (inbox / "b.mp4").exists())
    (inbox / "term.txt").write_text("b.mp4\n")
    eventually(lambda: (inbox / "term.txt.errors.txt").exists())
    assert "'b.mp4' is skipped: it was done before (b.md)" in (inbox / "term.txt.errors.txt").read_text()
    assert rows(daemon, "SELECT count(*) FROM expected") == [(0,)]
