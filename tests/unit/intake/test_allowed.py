from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gsvrd.config.document import Problem
from gsvrd.intake.allowed import Located, Placed, Roots, place_rows, resolve_row
from gsvrd.intake.identity import Identity, open_checked
from gsvrd.intake.manifest import Manifest, Row, read_manifest
from gsvrd.intake.names import NameRules

RULES = NameRules()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An inbox, a root, and things outside of both, with links from here to there."""
    for name in ("inbox/week 1/a.mp4", "inbox/b.mp4", "videos/c.mp4", "videos-2/d.mp4", "secret/e.mp4"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"video")
    (tmp_path / "inbox" / "out.mp4").symlink_to(tmp_path / "secret" / "e.mp4")
    (tmp_path / "inbox" / "way out").symlink_to(tmp_path / "secret")
    (tmp_path / "inbox" / "again.mp4").symlink_to("b.mp4")
    (tmp_path / "inbox" / "loop.mp4").symlink_to("loop.mp4")
    os.mkfifo(tmp_path / "videos" / "pipe.mp4")
    return tmp_path


def roots_of(home: Path) -> Roots:
    return Roots(os.fsencode(home / "inbox"), [os.fsencode(home / "videos")])


def place(home: Path, text: str, folder: str = "inbox") -> tuple[list[str], list[str]]:
    """Where rows lead, below the home, and the problems."""
    manifest = read_manifest(Path("m.txt"), text.encode())
    assert manifest.problems == ()
    placed, problems = place_rows(manifest, "m.txt", os.fsencode(home / folder), roots_of(home), RULES)
    paths = [os.fsdecode(one.located.path) if one.located else one.row.url for one in placed]
    return [path.removeprefix(f"{home}/") for path in paths], [str(problem) for problem in problems]


def test_rows_lead_to_videos_below_the_folder_of_the_manifest_the_inbox_and_the_roots(home: Path) -> None:
    text = f"a.mp4\n../b.mp4\n{home}/videos/c.mp4\nhttps://youtu.be/aqz-KE-bpKQ\n"
    assert place(home, text, "inbox/week 1") == (
        ["inbox/week 1/a.mp4", "inbox/b.mp4", "videos/c.mp4", "https://youtu.be/aqz-KE-bpKQ"],
        [],
    )


@pytest.mark.parametrize(
    "row",
    [
        "../secret/e.mp4",
        "/etc/passwd.mp4",
        "out.mp4",
        "way out/e.mp4",
        "../videos-2/d.mp4",
        "../inbox-2/x.mp4",
        "..",
        ".",
    ],
)
def test_rows_that_lead_out_of_the_roots_are_refused(home: Path, row: str) -> None:
    assert place(home, row) == ([], [f"m.txt:1: '{row}' leads out of the inbox and of the directories in intake.roots"])


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("week 1", "is a directory; name the videos in it, or use `gsvrctl submit DIR`"),
        ("../videos/pipe.mp4", "is no regular file"),
        ("loop.mp4", "is no regular file"),
        ("notes.pdf", "has not the name of a video; see intake.suffixes and intake.ignore"),
        (".hidden.mp4", "has not the name of a video; see intake.suffixes and intake.ignore"),
    ],
)
def test_rows_that_name_no_video_are_refused(home: Path, row: str, what: str) -> None:
    assert place(home, row) == ([], [f"m.txt:1: '{row}' {what}"])


def test_a_video_may_come_later_into_the_inbox_but_nowhere_else(home: Path) -> None:
    assert place(home, "later.mp4\nweek 1/later.mp4\nb.mp4/x.mp4\n")[1] == []
    manifest = Manifest("m", rows=(Row(1, path="later.mp4"),))
    ((later,), _) = place_rows(manifest, "m", os.fsencode(home / "inbox"), roots_of(home), RULES)
    assert later.found is None
    assert place(home, "../videos/later.mp4\n") == ([], ["m.txt:1: there is no file '../videos/later.mp4'"])
    assert place(home, "..\\videos\\c.mp4", "videos")[1] == [
        "m.txt:1: there is no file '..\\videos\\c.mp4'; write / between folders, not \\"
    ]


def test_two_ways_to_one_file_are_one_row(home: Path) -> None:
    paths, problems = place(home, f"b.mp4\nagain.mp4\n{home}/inbox/b.mp4\nweek 1/a.mp4\n")
    assert paths == ["inbox/b.mp4", "inbox/week 1/a.mp4"]
    assert problems[0] == "m.txt:2: 'again.mp4' is the same file as in line 1"
    assert len(problems) == 2


def test_roots_that_are_links_are_seen_through_and_called_as_configured(home: Path) -> None:
    (home / "in").symlink_to("inbox")
    roots = Roots(os.fsencode(home / "in"))
    expected = Located(os.fsencode(home / "in/b.mp4"), os.fsencode(home / "in"))
    assert roots.locate(os.fsencode(home / "in/b.mp4")) == expected
    assert roots.locate(os.fsencode(home / "inbox/again.mp4")) == expected
    assert Roots(os.fsencode(home / "inbox"), [b"/"]).locate(b"/a/b.mp4") == Located(b"/a/b.mp4", b"/")


def test_what_is_placed_can_be_opened_as_the_intake_opens_files(home: Path) -> None:
    manifest = Manifest("m", rows=(Row(1, path="again.mp4"), Row(2, path="../videos/c.mp4")))
    placed, _ = place_rows(manifest, "m", os.fsencode(home / "inbox"), roots_of(home), RULES)
    for one in placed:
        assert one.located
        assert one.found
        os.close(open_checked(one.located.path, one.located.root, Identity.of(one.found)))
    assert len(placed) == 2


_parts = st.sampled_from(
    ["..", ".", "", "inbox", "videos", "secret", "way out", "out.mp4", "e.mp4", "b.mp4", "week 1", "a.mp4"]
)


@given(st.one_of(st.lists(_parts, max_size=8).map("/".join), st.text(max_size=20)))
@example("a\0.mp4")
@example("\ud800.mp4")
@example("../inbox/../way out")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_leads_out_of_the_roots(home: Path, path: str) -> None:
    for start in ("", f"{home}/"):
        row = Row(1, path=start + path)
        found = resolve_row(row, "m", os.fsencode(home / "inbox" / "week 1"), roots_of(home))
        if isinstance(found, Located):
            assert found.path == os.path.realpath(found.path)
            assert found.path.startswith((os.fsencode(home / "inbox") + b"/", os.fsencode(home / "videos") + b"/"))
        else:
            assert isinstance(found, Problem)


def test_a_link_is_placed_nowhere() -> None:
    row = Row(1, url="https://youtu.be/aqz-KE-bpKQ")
    placed, problems = place_rows(Manifest("m", rows=(row,)), "m", b"/nowhere", Roots(b"/nowhere"), RULES)
    assert (placed, problems) == ((Placed(row, None, None),), ())
