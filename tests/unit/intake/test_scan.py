from __future__ import annotations

import os
from pathlib import Path

from support.intakes import put

from gsvrd.intake.names import NameRules
from gsvrd.intake.scan import MAX_DEPTH, Walked, walk


def seen(inbox: Path, start: bytes = b"", ignore: tuple[str, ...] = ()) -> tuple[set[bytes], Walked]:
    walked = Walked()
    rules = NameRules(ignore=ignore)
    found = [sight.relative for sight in walk(os.fsencode(inbox), start, rules, walked) if sight is not None]
    assert len(found) == len(set(found)) == walked.videos
    return set(found), walked


def test_videos_in_all_folders_are_seen_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a.mp4", "term/b.mov", "term/week/c.MKV", "term/c.srt", ".hidden/d.mp4", "x.mp4/e.mp4", ".f.mp4"):
        put(tmp_path / name)
    put(os.fsencode(tmp_path) + b"/\xff\n.mp4")
    found, walked = seen(tmp_path)
    assert found == {b"a.mp4", b"term/b.mov", b"term/week/c.MKV", b"x.mp4", b"x.mp4/e.mp4", b"\xff\n.mp4"}
    assert walked.ignored == 2  # the sidecar and the hidden file
    assert walked.is_whole


def test_a_part_of_the_inbox_can_be_walked(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    put(tmp_path / "term/b.mp4")
    assert seen(tmp_path, b"term")[0] == {b"term/b.mp4"}
    assert seen(tmp_path, b"no/such/folder")[0] == set()


def test_links_are_seen_but_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "outside/a.mp4")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "term").symlink_to(tmp_path / "outside")
    (inbox / "b.mp4").symlink_to(tmp_path / "outside/a.mp4")
    (inbox / "loop").symlink_to(inbox)
    assert seen(inbox)[0] == {b"term", b"b.mp4", b"loop"}


def test_patterns_apply_to_paths(tmp_path: Path) -> None:
    put(tmp_path / "raw/a.mp4")
    put(tmp_path / "term/b.mp4")
    assert seen(tmp_path, ignore=("raw/*",))[0] == {b"term/b.mp4"}


def test_a_tree_that_is_too_deep_is_cut_off_and_reported(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * (MAX_DEPTH + 2))
    put(deep / "too-deep.mp4")
    put(deep.parent.parent / "just.mp4")
    found, walked = seen(tmp_path)
    assert {os.path.basename(path) for path in found} == {b"just.mp4"}
    assert "nested" in walked.problems[0]


def test_the_caller_may_stop_though_nothing_is_of_interest(tmp_path: Path) -> None:
    for number in range(600):
        put(tmp_path / f"{number}.doc")
    chances = list(walk(os.fsencode(tmp_path), b"", NameRules(), Walked()))
    assert len(chances) >= 3
    assert set(chances) == {None}


def test_closing_a_walk_gives_its_descriptors_back(tmp_path: Path) -> None:
    put(tmp_path / "term/a.mp4")
    put(tmp_path / "term/b.mp4")
    before = len(os.listdir("/proc/self/fd"))
    walking = walk(os.fsencode(tmp_path), b"", NameRules(), Walked())
    next(walking)
    assert len(os.listdir("/proc/self/fd")) > before
    walking.close()
    assert len(os.listdir("/proc/self/fd")) == before
