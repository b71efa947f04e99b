"""A report or failure record is there whole or not at all, and nobody's file is lost, wherever the daemon dies."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from gsvrd.reports.write import is_ours, publish, sweep, unpublish, write_failure, write_report

CALLS = ("fsync", "link", "mkdir", "rename", "replace", "rmdir", "unlink")


class Crash(BaseException):
    """Stands for `kill -9`: nothing catches it."""


def arm(patch: pytest.MonkeyPatch, nth: int, after: bool) -> Callable[[], int]:
    """Crash at the nth call that changes the disk, before or after it takes effect. The result tells the calls so far."""
    calls = 0

    def wrap(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            this = calls
            if this == nth and not after:
                raise Crash
            try:
                return real(*args, **kwargs)
            finally:
                if this == nth:
                    raise Crash

        return call

    for name in CALLS:
        patch.setattr(os, name, wrap(getattr(os, name)))
    return lambda: calls


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    path = tmp_path / "reports"
    path.mkdir()
    return path


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    path = tmp_path / "assets"
    path.mkdir()
    for number in (1, 2, 3):
        (path / f"00{number}.jpg").write_bytes(b"picture %d" % number)
    return path


def temporary_directory(reports: Path, task: str, attempt: int) -> Path:
    return reports / f".gsvrd-{task}-{attempt}"


def text(task: str, name: str, *pictures: str, words: str = "words") -> str:
    links = "".join(f"\n![x]({name.removesuffix('.md').split('/')[-1]}.assets/{picture})\n" for picture in pictures)
    return f'---\ntitle: "x"\ntask: "{task}"\n---\n\n# x\n\n{words}\n{links}'


def lay(
    reports: Path, assets: Path, task: str, name: str, *pictures: str, attempt: int = 1, words: str = "words"
) -> Path:
    temporary = temporary_directory(reports, task, attempt)
    write_report(temporary, name, text(task, name, *pictures, words=words), assets)
    return temporary


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_report_is_laid_out_with_the_pictures_it_shows_and_no_more(reports: Path, assets: Path) -> None:
    temporary = lay(reports, assets, "t1", "a/b.md", "001.jpg", "003.jpg")
    assert temporary.parent == reports
    assert temporary.name.startswith(".gsvrd-")
    assert sorted(tree(temporary)) == ["assets/001.jpg", "assets/003.jpg", "report.md"]


def test_a_report_without_pictures_has_no_directory_for_them(reports: Path, assets: Path) -> None:
    assert sorted(tree(lay(reports, assets, "t1", "b.md"))) == ["report.md"]
    assert not (temporary_directory(reports, "t1", 1) / "assets").exists()


def test_what_an_earlier_try_left_is_not_mixed_in(reports: Path, assets: Path) -> None:
    lay(reports, assets, "t1", "b.md", "001.jpg")
    assert sorted(tree(lay(reports, assets, "t1", "b.md", "002.jpg"))) == ["assets/002.jpg", "report.md"]


def test_a_missing_picture_is_an_error_and_not_a_hole(reports: Path, assets: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lay(reports, assets, "t1", "b.md", "009.jpg")


def test_a_picture_outside_the_assets_is_refused(reports: Path, assets: Path) -> None:
    with pytest.raises(ValueError, match="outside"):
        lay(reports, assets, "t1", "b.md", "..%2Fsecret.jpg")


def test_only_a_temporary_directory_of_ours_is_ever_emptied(tmp_path: Path, assets: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    with pytest.raises(ValueError, match="temporary"):
        write_report(tmp_path / "precious", "b.md", "x", assets)
    assert (tmp_path / "precious/file").exists()


def test_all_is_on_disk_before_the_report_is_called_written(
    reports: Path, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    real = os.fsync

    def sync(handle: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)
    temporary = lay(reports, assets, "t1", "b.md", "001.jpg")
    assert synced == {str(temporary / part) for part in ("", "report.md", "assets", "assets/001.jpg")}
    synced.clear()
    publish(temporary, reports, "new/b.md", "t1")
    assert synced == {str(reports), str(reports / "new")}


def test_publishing_puts_report_and_pictures_in_place(reports: Path, assets: Path) -> None:
    temporary = lay(reports, assets, "t1", "a/b/c.md", "001.jpg")
    assert publish(temporary, reports, "a/b/c.md", "t1") == reports / "a/b/c.md"
    assert tree(reports) == {
        "a/b/c.md": text("t1", "c.md", "001.jpg").encode(),
        "a/b/c.assets/001.jpg": b"picture 1",
    }
    assert not temporary.exists()


def test_publishing_twice_is_publishing_once(reports: Path, assets: Path) -> None:
    temporary = lay(reports, assets, "t1", "c.md", "001.jpg")
    publish(temporary, reports, "c.md", "t1")
    before = tree(reports)
    assert publish(temporary, reports, "c.md", "t1") == reports / "c.md"
    assert tree(reports) == before


def test_with_nothing_to_publish_it_says_so(reports: Path, assets: Path) -> None:
    with pytest.raises(FileNotFoundError):
        publish(temporary_directory(reports, "t1", 1), reports, "c.md", "t1")
    publish(lay(reports, assets, "other", "c.md"), reports, "c.md", "other")
    with pytest.raises(FileNotFoundError):
        publish(temporary_directory(reports, "t1", 1), reports, "c.md", "t1")


@pytest.mark.parametrize("name", ["/etc/x.md", "../x.md", "a/../x.md", "x.txt", "x"])
def test_a_name_that_could_lead_outside_is_refused(reports: Path, assets: Path, name: str) -> None:
    temporary = lay(reports, assets, "t1", "c.md")
    with pytest.raises(ValueError, match="cannot publish"):
        publish(temporary, reports, name, "t1")


@pytest.mark.parametrize(("before", "after"), [(("001.jpg",), ("002.jpg",)), (("001.jpg",), ()), ((), ("002.jpg",))])
def test_a_later_report_of_the_same_task_takes_the_place_of_the_earlier(
    reports: Path, assets: Path, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    publish(lay(reports, assets, "t1", "c.md", *before), reports, "c.md", "t1")
    publish(lay(reports, assets, "t1", "c.md", *after, attempt=2, words="new"), reports, "c.md", "t1")
    assert sorted(tree(reports)) == sorted(["c.md", *(f"c.assets/{picture}" for picture in after)])
    assert "new" in (reports / "c.md").read_text()


FOREIGN = {
    "another task's report": text("t2", "c.md").encode(),
    "a task whose name begins alike": text("t11", "c.md").encode(),
    "a person's note": b"# my notes\n\ntask: t1\n",
    "a note with the task in its text": b'---\ntitle: x\n---\n\ntask: "t1"\n',
    "a front matter without end": b'---\ntask: "t1"\n',
    "a deep nest": b"---\ntask: " + b"[" * 20_000 + b"\n---\n",
    "nothing": b"",
    "bytes": b"\xff\xfe\x00---\n",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_never_replaced(reports: Path, assets: Path, kind: str) -> None:
    (reports / "c.md").write_bytes(FOREIGN[kind])
    temporary = lay(reports, assets, "t1", "c.md", "001.jpg")
    before = tree(reports)
    with pytest.raises(FileExistsError):
        publish(temporary, reports, "c.md", "t1")
    assert tree(reports) == before
    assert not is_ours(reports / "c.md", "t1")


@pytest.mark.parametrize("kind", ["other name", "other bytes", "folder", "link", "file"])
def test_foreign_pictures_are_never_replaced(reports: Path, assets: Path, kind: str) -> None:
    place = reports / "c.assets"
    if kind == "file":
        place.touch()
    elif kind == "link":
        place.symlink_to(assets)
    else:
        place.mkdir()
        (place / "001.jpg").write_bytes(b"mine" if kind == "other bytes" else b"picture 1")
    if kind == "other name":
        (place / "mine.jpg").touch()
    if kind == "folder":
        (place / "sub").mkdir()
    temporary = lay(reports, assets, "t1", "c.md", "001.jpg")
    before = tree(reports)
    with pytest.raises(FileExistsError):
        publish(temporary, reports, "c.md", "t1")
    assert tree(reports) == before


def test_pictures_the_earlier_report_did_not_show_are_foreign(reports: Path, assets: Path) -> None:
    publish(lay(reports, assets, "t1", "c.md"), reports, "c.md", "t1")
    (reports / "c.assets").mkdir()
    (reports / "c.assets/mine.jpg").touch()
    temporary = lay(reports, assets, "t1", "c.md", "001.jpg", attempt=2)
    with pytest.raises(FileExistsError):
        publish(temporary, reports, "c.md", "t1")
    assert (reports / "c.assets/mine.jpg").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "directory", "fifo"])
def test_a_place_taken_by_something_odd_is_taken(reports: Path, assets: Path, tmp_path: Path, kind: str) -> None:
    place = reports / "c.md"
    (tmp_path / "ours.md").write_text(text("t1", "c.md"))
    if kind == "link":
        place.symlink_to(tmp_path / "ours.md")
    elif kind == "dangling link":
        place.symlink_to(tmp_path / "nowhere")
    elif kind == "directory":
        place.mkdir()
    else:
        os.mkfifo(place)
    with pytest.raises(FileExistsError):
        publish(lay(reports, assets, "t1", "c.md"), reports, "c.md", "t1")
    assert not (tmp_path / "nowhere").exists()
    assert (tmp_path / "ours.md").read_text() == text("t1", "c.md")


@pytest.mark.parametrize("kind", ["link out", "link within", "file"])
def test_a_folder_that_is_no_folder_is_refused(reports: Path, assets: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (reports / "real").mkdir()
    if kind == "file":
        (reports / "a").touch()
    else:
        (reports / "a").symlink_to(outside if kind == "link out" else reports / "real")
    with pytest.raises(NotADirectoryError):
        publish(lay(reports, assets, "t1", "a/c.md"), reports, "a/c.md", "t1")
    assert list(outside.iterdir()) == []
    assert list((reports / "real").iterdir()) == []


def test_a_report_can_be_taken_away_with_its_pictures(reports: Path, assets: Path) -> None:
    publish(lay(reports, assets, "t1", "a/c.md", "001.jpg"), reports, "a/c.md", "t1")
    assert not unpublish(reports, "a/c.md", "t2")
    assert len(tree(reports)) == 2
    assert unpublish(reports, "a/c.md", "t1")
    assert tree(reports) == {}
    assert not (reports / "a/c.assets").exists()
    assert not unpublish(reports, "a/c.md", "t1")


def test_taking_a_report_away_spares_pictures_it_does_not_show(reports: Path, assets: Path) -> None:
    publish(lay(reports, assets, "t1", "c.md"), reports, "c.md", "t1")
    (reports / "c.assets").mkdir()
    (reports / "c.assets/mine.jpg").touch()
    assert unpublish(reports, "c.md", "t1")
    assert sorted(tree(reports)) == ["c.assets/mine.jpg"]


def test_ours_is_still_ours_after_an_editor_rewrote_its_front_matter(reports: Path) -> None:
    for line in ("task: 17-ab", "task:   '17-ab'", 'task: "17-\\u0061b"', "task: 17-ab\r"):
        (reports / "c.md").write_text(f"---\ntitle: x\n{line}\ntags: []\n---\n\ntext\n", newline="")
        assert is_ours(reports / "c.md", "17-ab")
        assert not is_ours(reports / "c.md", "17")
    assert not is_ours(reports / "missing.md", "17-ab")
    assert not is_ours(reports / "no/folder.md", "17-ab")


def test_without_hard_links_a_report_still_clobbers_nothing(
    reports: Path, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    publish(lay(reports, assets, "t1", "c.md", "001.jpg"), reports, "c.md", "t1")
    assert sorted(tree(reports)) == ["c.assets/001.jpg", "c.md"]
    (reports / "failed").mkdir()
    one = write_failure(reports / "failed", "x.mp4", {"task": "1"})
    two = write_failure(reports / "failed", "x.mp4", {"task": "2"})
    assert json.loads(one.read_text())["task"] == "1"
    assert json.loads(two.read_text())["task"] == "2"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("earlier", [None, (), ("001.jpg",)], ids=["first", "replacing", "replacing pictures"])
@pytest.mark.parametrize("pictures", [(), ("002.jpg", "003.jpg")], ids=["plain", "pictures"])
def test_a_publication_cut_off_anywhere_is_finished_by_a_repeat(
    tmp_path: Path,
    assets: Path,
    monkeypatch: pytest.MonkeyPatch,
    earlier: tuple[str, ...] | None,
    pictures: tuple[str, ...],
    after: bool,
) -> None:
    wanted = {"a/c.md": text("t1", "c.md", *pictures, words="new").encode()}
    wanted |= {f"a/c.assets/{picture}": (assets / picture).read_bytes() for picture in pictures}
    for nth in count(1):
        reports = tmp_path / f"reports-{nth}"
        reports.mkdir()
        if earlier is not None:
            publish(lay(reports, assets, "t1", "a/c.md", *earlier), reports, "a/c.md", "t1")
        old = (reports / "a/c.md").read_bytes() if earlier is not None else None
        temporary = lay(reports, assets, "t1", "a/c.md", *pictures, attempt=2, words="new")
        with monkeypatch.context() as patch:
            calls = arm(patch, nth, after)
            try:
                publish(temporary, reports, "a/c.md", "t1")
            except Crash:
                pass
            else:
                assert calls() < nth
                assert nth > 4
                break
        seen = (reports / "a/c.md").read_bytes() if (reports / "a/c.md").exists() else None
        assert seen in (old, wanted["a/c.md"])
        if seen == wanted["a/c.md"]:
            assert wanted.items() <= tree(reports).items()
        assert publish(temporary, reports, "a/c.md", "t1") == reports / "a/c.md"
        assert tree(reports) == wanted
        assert sorted(path.name for path in reports.iterdir()) == ["a"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("earlier", [None, ("001.jpg",)], ids=["first", "replacing"])
def test_a_new_attempt_can_publish_after_one_that_was_cut_off_anywhere(
    tmp_path: Path,
    assets: Path,
    monkeypatch: pytest.MonkeyPatch,
    earlier: tuple[str, ...] | None,
    after: bool,
) -> None:
    wanted = {"c.md": text("t1", "c.md", "002.jpg").encode(), "c.assets/002.jpg": b"picture 2"}
    for nth in count(1):
        reports = tmp_path / f"reports-{nth}"
        reports.mkdir()
        if earlier is not None:
            publish(lay(reports, assets, "t1", "c.md", *earlier), reports, "c.md", "t1")
        temporary = lay(reports, assets, "t1", "c.md", "002.jpg", attempt=2)
        with monkeypatch.context() as patch:
            arm(patch, nth, after)
            try:
                publish(temporary, reports, "c.md", "t1")
            except Crash:
                pass
            else:
                assert nth > 4
                break
        sweep(reports)
        publish(lay(reports, assets, "t1", "c.md", "002.jpg", attempt=3), reports, "c.md", "t1")
        assert tree(reports) == wanted


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("earlier", [False, True], ids=["first", "replacing"])
def test_a_failure_record_cut_off_anywhere_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool, after: bool
) -> None:
    for nth in count(1):
        failed = tmp_path / f"failed-{nth}"
        failed.mkdir()
        write_failure(failed, "x.mp4", {"task": "other"})
        if earlier:
            write_failure(failed, "x.mp4", {"task": "1", "try": 1})
        with monkeypatch.context() as patch:
            calls = arm(patch, nth, after)
            try:
                write_failure(failed, "x.mp4", {"task": "1", "try": 2})
            except Crash:
                pass
            else:
                assert calls() < nth
                assert nth > 3
                break
        write_failure(failed, "x.mp4", {"task": "1", "try": 2})
        assert {name: json.loads(data) for name, data in tree(failed).items()} == {
            "x.mp4.error.json": {"task": "other"},
            "x.mp4-2.error.json": {"task": "1", "try": 2},
        }


def test_a_failure_record_is_readable_and_lossless(tmp_path: Path) -> None:
    record = {"task": "7", "source": "bad\udcff.mp4", "message": "坏文件", "nested": {"kind": "unreadable"}}
    path = write_failure(tmp_path, "bad\udcff.mp4", record)
    assert path == tmp_path / "bad_.mp4.error.json"
    shown = path.read_bytes().decode()
    assert "坏文件" in shown
    assert '\n    "kind": "unreadable"\n' in shown
    assert json.loads(shown) == record
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_record_is_still_known_as_its_own(tmp_path: Path) -> None:
    record = {"task": 1, "detail": "x" * 200_000}
    assert write_failure(tmp_path, "x.mp4", record) == write_failure(tmp_path, "x.mp4", record)


@pytest.mark.parametrize("data", [b"", b"not json", b"[1]", b"[" * 50_000, b'{"a": 1}', b"\xff"])
def test_a_foreign_record_is_left_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.mp4.error.json").write_bytes(data)
    assert write_failure(tmp_path, "x.mp4", {"task": "1"}).name == "x.mp4-2.error.json"
    assert (tmp_path / "x.mp4.error.json").read_bytes() == data


def test_the_sweep_takes_what_was_left_and_nothing_else(reports: Path, assets: Path, tmp_path: Path) -> None:
    kept = lay(reports, assets, "t1", "a.md", "001.jpg")
    stray = lay(reports, assets, "t2", "b.md", "001.jpg")
    (reports / ".gsvrd-file.json").touch()
    (reports / ".gsvrd-link").symlink_to(assets)
    (reports / ".obsidian").mkdir()
    (reports / "c.md").touch()
    gone = sweep(reports, keep=[kept.name])
    assert gone == sorted([stray, reports / ".gsvrd-file.json", reports / ".gsvrd-link"])
    assert sorted(path.name for path in reports.iterdir()) == sorted([kept.name, ".obsidian", "c.md"])
    assert len(list(assets.iterdir())) == 3
    shutil.rmtree(kept)
    assert sweep(reports) == []
