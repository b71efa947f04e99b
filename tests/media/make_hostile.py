"""Fills a folder with hostile files, and says what has to become of each.

    python tests/media/make_hostile.py OUTDIR

Tests call `make` and put the folder before the watcher, the probe, the analyzers and the report writer; the promise is
that each file ends as one report or one clear failure and that the others never notice. `growing` is for tests of files
that are still being written. Files are small; all of them together take about 2 MB.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import hostile_boxes as broken
import hostile_clips as clips

Expect = Literal["report", "failed", "either"]
SECRET = Path("/etc/hostname")
LISTENER = "http://127.0.0.1:9/canary.ts"


@dataclass(frozen=True, slots=True)
class Hostile:
    """One file of the folder and what is allowed to become of it."""

    name: bytes
    why: str
    expect: Expect
    kinds: frozenset[str]
    """The `ErrorKind` values it may fail with; none if a report is due."""
    may_stay: bool = False
    """The intake may also leave it where it is, untouched and unread: it is no regular file of its own."""


Recipe = Callable[[], bytes]

_ODD = frozenset({"unreadable", "not_video"})
_LARGE = frozenset({"too_large"})
_CLIP_NAMES: tuple[tuple[bytes, str], ...] = (
    (b"n" * 251 + b".mp4", "255 bytes, the longest name there is"),
    ("长".encode() * 83 + b".mp4", "253 bytes, but only 87 letters"),
    (b"two lines\nlevel=ERROR event=forged.mp4", "a newline and a forged log line"),
    ("🎓 лекция 講義 🎬.mp4".encode(), "emoji and three scripts"),
    (b"--help -rf.mp4", "leading dashes"),
    (b'it\'s "quoted" `id` $(touch pwned);&|.mp4', "quotes and shell words"),
    (b"caf\xe9 \xff\xfe.mp4", "bytes that are not UTF-8"),
    (b"<img src=x onerror=alert(1)>{{7*7}}.mp4", "HTML and a template expression"),
    (b"{% for x in ().__class__.__base__.__subclasses__() %}.mp4", "a template statement"),
    (b"[click](javascript:alert(1)) **b** | pipe ``` ---.mp4", "Markdown"),
    (b"---\ntitle: forged\n---.mp4", "YAML front matter"),
    (b"\x1b[31mred\x1b]0;title\x07 %s %n {0}.mp4", "terminal codes and format fields"),
    ("harmless \u202e4pm.exe \u200b.mp4".encode(), "letters that turn the direction of writing"),
    (b" spaces around \t.mp4", "space at the front, tab before the suffix"),
    (b"SHOUTING.MP4", "suffix in capitals"),
    (b"twin.mp4", "differs from twin.MP4 only in capitals"),
    (b"twin.MP4", "differs from twin.mp4 only in capitals"),
    ("caf\u00e9.mp4".encode(), "composed é"),
    ("cafe\u0301.mp4".encode(), "decomposed é: looks the same"),
)


def make(folder: Path, secret: Path = SECRET, listener: str = LISTENER) -> list[Hostile]:
    """Fill `folder`, which must exist and be empty, and return the manifest.

    Playlists point at `secret` and `listener`: neither may be read or called. A second folder beside it, named
    `<folder>-outside`, holds good videos that links lead to: a link that is followed shows as a report of them.
    """
    outside = folder.with_name(folder.name + "-outside")
    outside.mkdir()
    made = [*_contents(folder, secret, listener), *_names(folder), *_special(folder, outside)]
    if len({item.name for item in made}) != len(made):
        raise AssertionError("two hostile files have one name")
    return made


@functools.cache
def good_clip() -> bytes:
    """Six seconds of the sample lecture, 320 x 180, with sound; the same bytes every time."""
    return clips.clip()


def _contents(folder: Path, secret: Path, listener: str) -> Iterator[Hostile]:
    """Regular files with plain names and bad or odd insides."""
    for name, why, expect, kinds, recipe in _recipes(secret, listener):
        (folder / name).write_bytes(recipe())
        yield Hostile(name.encode(), why, expect, kinds)


def _recipes(secret: Path, listener: str) -> list[tuple[str, str, Expect, frozenset[str], Recipe]]:
    good = good_clip()
    title = {"title": '<script>alert("t")</script>\n# Forged heading\n{{7*7}} \x1b[31m', "comment": "x" * 5000}
    playlist = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXTINF:9,\n{listener}\n#EXT-X-ENDLIST\n"
    )
    return [
        ("empty.mp4", "zero bytes", "failed", frozenset({"empty"}), bytes),
        ("text.mp4", "text", "failed", _ODD, lambda: b"This is not a video.\n" * 40),
        ("page.mp4", "a web page", "failed", _ODD, lambda: b"<!DOCTYPE html><title>404</title><p>Not found" * 20),
        ("noise.mp4", "bytes without meaning", "failed", _ODD, lambda: clips.noise(20_000, 1)),
        ("picture.mp4", "a PNG", "failed", _ODD, clips.picture),
        ("playlist.mp4", "HLS: reads a file, calls a server", "failed", _ODD, playlist.encode),
        ("concat.mp4", "a script that joins files", "failed", _ODD, f"ffconcat version 1.0\nfile '{secret}'\n".encode),
        ("session.mp4", "SDP: opens ports", "failed", _ODD, lambda: b"v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
        ("no-index.mp4", "no moov box", "failed", _ODD, lambda: broken.without_index(good)),
        ("nested.mp4", "boxes in boxes, 4000 deep", "failed", _ODD, lambda: broken.nested(4000)),
        ("index-only.mp4", "no media data at all", "failed", _ODD, lambda: broken.truncated(good, 0)),
        ("truncated.mp4", "half of the media data", "either", _ODD, lambda: broken.truncated(good)),
        (
            "damaged.mp4",
            "rubbish in the middle",
            "report",
            frozenset(),
            lambda: broken.damaged(good, clips.noise(6_000, 2)),
        ),
        ("long-headers.mp4", "says 900 hours, has 6 s", "report", frozenset(), lambda: broken.long_headers(good, 900)),
        ("slow-samples.mp4", "each sample lasts a day", "either", _ODD | _LARGE, lambda: broken.slow_samples(good)),
        ("huge-media.mp4", "mdat claims 5 TB", "either", _ODD | _LARGE, lambda: broken.huge_media(good)),
        ("many-samples.mp4", "claims 2^32 samples", "either", _ODD | _LARGE, lambda: broken.many_samples(good)),
        ("wide-header.mp4", "header: 16000 pixels", "either", _ODD | _LARGE, lambda: broken.wide_header(good, 16_000)),
        ("pixel-bomb.mp4", "16000 x 16000 pixels", "failed", _LARGE, clips.pixel_bomb),
        ("unknown-codec.mp4", "pictures in an unknown format", "either", _ODD, lambda: broken.unknown_codec(good)),
        ("many-streams.mp4", "200 tracks", "either", _LARGE, clips.many_streams),
        ("audio-only.mp4", "no picture track", "either", _ODD, lambda: clips.clip(video=False)),
        ("cover-art.mp4", "sound and one attached still", "either", _ODD, clips.cover_art),
        ("silent.mp4", "no audio track", "report", frozenset(), lambda: clips.clip(audio=False)),
        ("turned.mp4", "filmed upright: display matrix", "report", frozenset(), lambda: broken.turned(good)),
        ("variable-rate.mp4", "variable frame rate", "report", frozenset(), clips.variable_rate),
        ("one-frame.mp4", "a single frame", "either", _ODD, clips.one_frame),
        ("jumping-times.ts", "the clock leaps 20 hours", "report", frozenset(), clips.jumping_times),
        ("wrong-suffix.avi", "a Matroska file named .avi", "report", frozenset(), lambda: clips.clip("matroska")),
        (
            "bad-title.mp4",
            "HTML, newlines, codes in the title",
            "report",
            frozenset(),
            lambda: clips.clip(metadata=title),
        ),
    ]


def _names(folder: Path) -> Iterator[Hostile]:
    """Good clips with names that break programs; each has bytes of its own."""
    for number, (name, why) in enumerate(_CLIP_NAMES):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(broken.unique(good_clip(), number))
        yield Hostile(name, why, "report", frozenset())


def _special(folder: Path, outside: Path) -> Iterator[Hostile]:
    """What is no regular file of its own, or one with odd rights or times."""
    apart = frozenset({"not_regular", "not_found", "permission"})
    stranger = outside / "stranger.mp4"
    stranger.write_bytes(broken.unique(good_clip(), 1001))
    (folder / "link-outside.mp4").symlink_to(stranger)
    yield Hostile(b"link-outside.mp4", "a symlink to a video elsewhere", "failed", apart, may_stay=True)
    (folder / "link-nowhere.mp4").symlink_to(outside / "gone.mp4")
    yield Hostile(b"link-nowhere.mp4", "a dangling symlink", "failed", apart, may_stay=True)
    (folder / "link-itself.mp4").symlink_to("link-itself.mp4")
    yield Hostile(b"link-itself.mp4", "a symlink to itself", "failed", apart, may_stay=True)
    os.mkfifo(folder / "pipe.mp4")
    yield Hostile(b"pipe.mp4", "a FIFO: opening it waits for ever", "failed", apart, may_stay=True)
    (folder / "folder.mp4").mkdir()
    yield Hostile(b"folder.mp4", "a folder", "failed", apart, may_stay=True)
    shared = outside / "shared.mp4"
    shared.write_bytes(broken.unique(good_clip(), 1002))
    (folder / "hard-link.mp4").hardlink_to(shared)
    yield Hostile(b"hard-link.mp4", "a second name of a file elsewhere", "either", apart, may_stay=True)
    (folder / "..mp4.mp4").write_bytes(broken.unique(good_clip(), 1005))
    yield Hostile(b"..mp4.mp4", "a hidden name that looks like going up", "either", apart, may_stay=True)
    locked = folder / "locked.mp4"
    locked.write_bytes(broken.unique(good_clip(), 1003))
    locked.chmod(0)
    yield Hostile(b"locked.mp4", "mode 000; only root can read it", "either", frozenset({"permission"}))
    future = folder / "future.mp4"
    future.write_bytes(broken.unique(good_clip(), 1004))
    os.utime(future, (7_258_118_400, 7_258_118_400))
    yield Hostile(b"future.mp4", "last changed in the year 2200", "report", frozenset())


class Growing:
    """A file that somebody is still writing; the writer's descriptor is open until `finish`."""

    def __init__(self, file: BinaryIO, data: bytes) -> None:
        self._file = file
        self._rest = data

    def more(self, count: int = 4096) -> int:
        """Write up to `count` further bytes to the disk; returns how many are still to come."""
        part, self._rest = self._rest[:count], self._rest[count:]
        self._file.write(part)
        return len(self._rest)

    def finish(self) -> None:
        """Write the rest and close, as a copy that succeeded."""
        self.more(len(self._rest))
        self._file.close()


@contextmanager
def growing(path: Path, data: bytes | None = None) -> Iterator[Growing]:
    """A copy in progress, driven by the test: no thread, no sleep.

        with growing(inbox / "slow.mp4") as writer:
            writer.more()       # some bytes are there, the file is open for writing
            ...                 # look: it must not be taken
            writer.finish()     # now it may be

    Leaving without `finish` closes the file as it is: a copy that broke off.
    """
    with open(path, "xb", buffering=0) as file:
        yield Growing(file, good_clip() if data is None else data)


def main() -> int:
    """The command line."""
    if len(sys.argv) != 2:
        print("usage: make_hostile.py OUTDIR (a folder that does not exist yet)", file=sys.stderr)
        return os.EX_USAGE
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    for item in make(folder):
        kinds = ", ".join(sorted(item.kinds))
        print(
            f"{item.expect:7} {ascii(os.fsdecode(item.name))[1:-1]:60.60} {item.why}" + (f" [{kinds}]" if kinds else "")
        )
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
