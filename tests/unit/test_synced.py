"""What is brought to disk, and when: only a power cut shows the lack of it, and `process/test_cuts.py` needs root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gsvrd.intake.identity import Identity
from gsvrd.intake.moving import Source, delete, move_out
from gsvrd.reports.files import sync_files
from gsvrd.reports.write import publish, write_report


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Each path that was synced, with what a folder held then."""
    noted: list[tuple[str, list[str]]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        noted.append((path, sorted(os.listdir(path)) if os.path.isdir(path) else []))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return noted


def source(tmp_path: Path) -> Source:
    video = tmp_path / "inbox" / "week 1" / "a.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"video")
    return Source(os.fsencode(video), os.fsencode(tmp_path / "inbox"), Identity.of(os.lstat(video)))


def test_a_moved_source_is_on_disk_in_its_new_place_before_it_leaves_the_old_and_then_stays_away(
    tmp_path: Path, synced: list[tuple[str, list[str]]]
) -> None:
    assert move_out(source(tmp_path), os.fsencode(tmp_path / "archive"))
    assert synced == [(f"{tmp_path}/archive/week 1", ["a.mp4"]), (f"{tmp_path}/inbox/week 1", [])]


def test_a_report_is_written_whole_then_its_pictures_and_then_its_name(
    tmp_path: Path, synced: list[tuple[str, list[str]]]
) -> None:
    pictures, temporary, reports = tmp_path / "7", tmp_path / "reports" / ".gsvrd-7-1", tmp_path / "reports"
    pictures.mkdir()
    reports.mkdir()
    (pictures / "slide-1.jpg").write_bytes(b"picture")
    text = '---\ntask: "7"\n---\n\n![At 0:00](a.assets/slide-1.jpg)\n'
    write_report(temporary, "a.md", text, pictures)
    publish(temporary, reports, "a.md", "7")
    assert synced == [
        (f"{temporary}/assets/slide-1.jpg", []),
        (f"{temporary}/assets", ["slide-1.jpg"]),
        (f"{temporary}/report.md", []),
        (str(temporary), ["assets", "report.md"]),
        (str(reports), [".gsvrd-7-1", "a.assets"]),
        (str(reports), [".gsvrd-7-1", "a.assets", "a.md"]),
    ]


def test_a_deleted_source_stays_away(tmp_path: Path, synced: list[tuple[str, list[str]]]) -> None:
    assert delete(source(tmp_path))
    assert synced == [(f"{tmp_path}/inbox/week 1", [])]


def test_pictures_are_synced_with_their_names(tmp_path: Path, synced: list[tuple[str, list[str]]]) -> None:
    pictures = tmp_path / "7"
    pictures.mkdir()
    (pictures / "slide-1.jpg").write_bytes(b"picture")
    sync_files(pictures)
    assert [path for path, _ in synced] == [f"{pictures}/slide-1.jpg", str(pictures), str(tmp_path)]
