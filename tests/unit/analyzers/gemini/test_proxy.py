"""The stand-in for uploads: the right picture at every second, every sound at its moment, and clear failures."""

from __future__ import annotations

import hashlib
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from gsvrd.analysis import MediaFacts
from gsvrd.analyzers.gemini.proxy import Proxy, make_proxy, worth_it
from gsvrd.analyzers.limits import MediaLimits
from gsvrd.analyzers.probe import probe
from gsvrd.errors import ErrorKind, TaskError

FPS = 25
_BITS = 10
B_FRAMES = {"preset": "veryfast", "x264-params": "bframes=3:keyint=60:scenecut=0"}
OPEN_GOP = {"preset": "veryfast", "x264-params": "bframes=3:keyint=30:scenecut=0:open-gop=1"}
ONE_KEY_FRAME = {"preset": "veryfast", "x264-params": "bframes=3:keyint=infinite:scenecut=0"}
ONLY_KEY_FRAMES = {"preset": "ultrafast", "x264-params": "keyint=1"}


def numbered(number: int, wide: int = 320, high: int = 180) -> NDArray[np.uint8]:
    """A picture that says its number in black and white columns; its upper left corner is red."""
    bits = [(number >> bit) & 1 for bit in range(_BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, wide // _BITS + 1)[:wide]
    pixels = np.broadcast_to(row[None, :, None], (high, wide, 3)).copy()
    pixels[: high // 4, : wide // 4] = (255, 0, 0)
    return pixels


def number_of(pixels: NDArray[np.uint8]) -> int:
    """What `numbered` wrote into a picture of any size."""
    high, wide = pixels.shape[:2]
    gray = pixels[high // 2 :].mean(axis=(0, 2))
    return sum(int(gray[int((bit + 0.5) * wide / _BITS)] > 128) << bit for bit in range(_BITS))


def film(
    path: Path,
    seconds: float,
    options: dict[str, str],
    *,
    size: tuple[int, int] = (320, 180),
    beep_at: float | None = None,
    audio_bits: int = 128_000,
    starts_ms: list[int] | None = None,
) -> Path:
    """Numbered frames, 25 a second or at `starts_ms`; with `beep_at` a sound track that is silent up to there."""
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as out:
        video = out.add_stream("libx264", rate=FPS, options=options)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        times = starts_ms if starts_ms is not None else [n * 1000 // FPS for n in range(round(seconds * FPS))]
        pictures = _pictures(video, times, size)
        if beep_at is None:
            for packet in pictures:
                out.mux(packet)
            return path
        audio = out.add_stream("aac", rate=48_000, layout="stereo")
        audio.bit_rate = audio_bits
        sounds = _beep(audio, seconds, beep_at)
        for packet in sorted([*pictures, *sounds], key=lambda p: float(p.dts * p.time_base)):
            out.mux(packet)
    return path


def _pictures(stream: Any, times: list[int], size: tuple[int, int]) -> Iterator[Any]:
    for number, at_ms in enumerate(times):
        frame = av.VideoFrame.from_ndarray(numbered(number, *size), format="rgb24")
        frame.pts, frame.time_base = at_ms, Fraction(1, 1000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _beep(stream: Any, seconds: float, beep_at: float) -> Iterator[Any]:
    time = np.arange(round(seconds * 48_000)) / 48_000
    sound = np.where(time >= beep_at, np.random.default_rng(1).uniform(-0.5, 0.5, len(time)), 0).astype(np.float32)
    for start in range(0, len(sound), 1024):
        both = np.ascontiguousarray(np.broadcast_to(sound[start : start + 1024], (2, len(sound[start : start + 1024]))))
        frame = av.AudioFrame.from_ndarray(both, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def facts_of(path: Path) -> MediaFacts:
    return probe(f"file:{path}", size_bytes=path.stat().st_size, sha256="0" * 64, limits=MediaLimits())


def shrunk(path: Path, threads: int = 1) -> Proxy:
    target = path.with_suffix(".proxy.mp4")
    return make_proxy(f"file:{path}", facts_of(path), target, threads=threads, progress=lambda _: None)


def shown(proxy: Proxy) -> list[tuple[float, NDArray[np.uint8]]]:
    with av.open(str(proxy.path)) as container:
        frames = container.decode(video=0)
        return [(float(frame.time or 0), np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)) for frame in frames]


def numbers(proxy: Proxy) -> list[tuple[float, int]]:
    return [(at, number_of(pixels)) for at, pixels in shown(proxy)]


def loud_from(path: Path) -> float:
    """When the first loud sound is heard, in seconds."""
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.abs(frame.to_ndarray()[0]) > 0.1
            if loud.any():
                return float(frame.time or 0) + int(np.argmax(loud)) / frame.sample_rate
    raise AssertionError("there is no sound")


@pytest.mark.parametrize("options", [B_FRAMES, OPEN_GOP, ONE_KEY_FRAME, ONLY_KEY_FRAMES])
@pytest.mark.parametrize(("suffix", "threads"), [(".mp4", 1), (".ts", 3)])
def test_each_second_shows_the_very_frame_of_that_moment(
    tmp_path: Path, options: dict[str, str], suffix: str, threads: int
) -> None:
    proxy = shrunk(film(tmp_path / f"lecture{suffix}", 6.5, options), threads)
    assert numbers(proxy) == [(second, second * FPS) for second in range(7)]


def test_a_still_that_lasts_is_shown_until_the_next(tmp_path: Path) -> None:
    path = film(tmp_path / "screen.mp4", 9, B_FRAMES, starts_ms=[0, 2600, 2640, 7400, 8990, 9030])
    seen = [0, 0, 0, 2, 2, 2, 2, 2, 3, 4]
    assert numbers(shrunk(path))[:10] == list(enumerate(seen))


@pytest.mark.parametrize("seconds", [0.4, 5.0, 7.3])
def test_it_lasts_as_long_as_the_original(tmp_path: Path, seconds: float) -> None:
    path = film(tmp_path / "lecture.mp4", seconds, B_FRAMES, beep_at=0.2)
    assert facts_of(shrunk(path).path).duration_s == pytest.approx(facts_of(path).duration_s, abs=0.1)


@pytest.mark.parametrize(("bits", "channels"), [(128_000, 1), (40_000, 2)])
def test_a_sound_keeps_its_moment_and_small_aac_is_copied(tmp_path: Path, bits: int, channels: int) -> None:
    path = film(tmp_path / "lecture.mp4", 6, B_FRAMES, beep_at=1.21, audio_bits=bits)
    proxy = shrunk(path)
    assert loud_from(proxy.path) == pytest.approx(1.21, abs=0.02)
    with av.open(str(proxy.path)) as container:
        assert container.streams.audio[0].channels == channels


def test_sound_that_begins_late_or_has_a_hole_keeps_its_moment(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", 8, B_FRAMES, beep_at=6.5)
    holed = tmp_path / "holed.mkv"
    with av.open(str(whole)) as source, av.open(str(holed), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            at = float((packet.dts or 0) * packet.time_base)
            if packet.dts is not None and not (packet.stream.type == "audio" and (at < 1.5 or 3 < at < 5)):
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    assert loud_from(shrunk(holed).path) == pytest.approx(6.5, abs=0.04)


def test_a_video_without_sound_has_none_afterwards(tmp_path: Path) -> None:
    proxy = shrunk(film(tmp_path / "silent.mp4", 3, B_FRAMES))
    assert facts_of(proxy.path).audio_codec == ""


def test_a_recording_of_sound_alone_stays_one(maker: Any) -> None:
    tone = 0.3 * np.sin(np.arange(16_000 * 3) / 5).astype(np.float32)
    proxy = shrunk(maker.video("talk.wav", [], sound=tone, audio="pcm_s16le"))
    facts = facts_of(proxy.path)
    assert (facts.video_codec, facts.audio_codec, round(facts.duration_s, 1)) == ("", "aac", 3.0)


def test_a_turned_video_stands_upright(tmp_path: Path, turned: Callable[[Path], Path]) -> None:
    proxy = shrunk(turned(film(tmp_path / "phone.mp4", 2, B_FRAMES)))
    pixels = shown(proxy)[0][1]
    assert pixels.shape[:2] == (320, 180)
    red, green, _ = pixels[20, -20].astype(int)  # a quarter turn clockwise takes the upper left corner to the right
    assert (red > 200, green < 60) == (True, True)
    assert facts_of(proxy.path).rotation == 0


@pytest.mark.parametrize(
    ("size", "small"),
    [((1280, 720), (854, 480)), ((722, 1282), (480, 852)), ((162, 118), (162, 118)), ((2880, 180), (1920, 120))],
)
def test_pictures_become_small_and_even_but_never_larger(
    tmp_path: Path, size: tuple[int, int], small: tuple[int, int]
) -> None:
    facts = facts_of(shrunk(film(tmp_path / "lecture.mp4", 1, {"preset": "ultrafast"}, size=size)).path)
    assert (facts.width, facts.height) == small


def test_odd_sizes_are_made_even(maker: Any, drawn: Callable[..., NDArray[np.uint8]]) -> None:
    path = maker.video("odd.mov", [(drawn("x", size=(321, 243)), 2.0)], codec="png")
    facts = facts_of(shrunk(path).path)
    assert (facts.width, facts.height) == (320, 242) or (facts.width, facts.height) == (320, 244)


def test_damage_costs_no_more_than_its_own_moments(tmp_path: Path) -> None:
    path = film(tmp_path / "lecture.ts", 12, B_FRAMES, beep_at=9.5)
    data = bytearray(path.read_bytes())
    data[len(data) * 4 // 10 : len(data) * 5 // 10] = b"\xa5" * (len(data) * 5 // 10 - len(data) * 4 // 10)
    path.write_bytes(data)
    proxy = shrunk(path)
    right = dict(numbers(proxy))
    healthy = (0, 1, 2, 9, 10, 11)  # the sound of this file begins 21 ms before the picture
    assert [right[second] for second in healthy] == [max(0, second * FPS - 1) for second in healthy]
    assert loud_from(proxy.path) == pytest.approx(9.5, abs=0.04)
    assert facts_of(proxy.path).duration_s == pytest.approx(facts_of(path).duration_s, abs=0.5)


def test_the_same_video_gives_the_same_bytes_with_any_number_of_threads(tmp_path: Path) -> None:
    path = film(tmp_path / "lecture.mp4", 5, B_FRAMES, beep_at=1)
    one = shrunk(path, 1)
    first = one.path.read_bytes()
    assert (one.size_bytes, one.sha256) == (len(first), hashlib.sha256(first).hexdigest())
    assert shrunk(path, 3).sha256 == one.sha256


def test_progress_rises_to_one(tmp_path: Path) -> None:
    path, told = film(tmp_path / "lecture.mp4", 5, B_FRAMES), list[float]()
    make_proxy(f"file:{path}", facts_of(path), tmp_path / "out.mp4", threads=1, progress=told.append)
    assert told == sorted(told)
    assert (len(told) >= 5, told[-1]) == (True, 1.0)


def test_pictures_that_cannot_be_decoded_are_unreadable_and_leave_nothing(tmp_path: Path) -> None:
    path = film(tmp_path / "lecture.mp4", 3, B_FRAMES)
    facts, data = facts_of(path), bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = struct.pack(">I", 5) * ((len(data) - start) // 4)
    path.write_bytes(data)
    target = tmp_path / "out.mp4"
    with pytest.raises(TaskError) as caught:
        make_proxy(f"file:{path}", facts, target, threads=1, progress=lambda _: None)
    assert (caught.value.kind, bool(caught.value.hint), target.exists()) == (ErrorKind.UNREADABLE, True, False)


@contextmanager
def file_size_limit(most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_trouble_of_the_place_and_leaves_nothing(tmp_path: Path) -> None:
    path = film(tmp_path / "lecture.mp4", 5, B_FRAMES, beep_at=0)
    facts, target = facts_of(path), tmp_path / "out.mp4"
    with file_size_limit(4096), pytest.raises(TaskError) as caught:
        make_proxy(f"file:{path}", facts, target, threads=1, progress=lambda _: None)
    assert (caught.value.kind, target.exists()) == (ErrorKind.PLACE, False)


def test_a_folder_that_is_not_there_is_trouble_of_the_place(tmp_path: Path) -> None:
    path = film(tmp_path / "lecture.mp4", 1, B_FRAMES)
    with pytest.raises(TaskError) as caught:
        make_proxy(f"file:{path}", facts_of(path), tmp_path / "no" / "out.mp4", threads=1, progress=lambda _: None)
    assert caught.value.kind is ErrorKind.PLACE


def test_whoever_stops_it_finds_nothing_left(tmp_path: Path) -> None:
    path, target = film(tmp_path / "lecture.mp4", 3, B_FRAMES), tmp_path / "out.mp4"

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_proxy(f"file:{path}", facts_of(path), target, threads=1, progress=stop)
    assert not target.exists()


@pytest.mark.parametrize(
    ("megabytes", "mode", "expected"),
    [
        (100, "auto", False),
        (200, "auto", False),  # an hour in so few bytes is small already
        (900, "auto", True),
        (3000, "auto", True),
        (3000, "never", False),
        (1, "always", True),
    ],
)
def test_it_is_worth_it_for_what_is_large_and_could_be_small(megabytes: int, mode: str, expected: bool) -> None:
    facts = MediaFacts(
        sha256="",
        size_bytes=megabytes * 1_000_000,
        container="matroska,webm",
        duration_s=3600,
        video_codec="h264",
        audio_codec="aac",
    )
    assert worth_it(facts, 2_000_000_000, mode) is expected


def test_what_cannot_be_sent_is_always_worth_it() -> None:
    facts = MediaFacts(sha256="", size_bytes=1001, container="avi", duration_s=3600, video_codec="h264")
    assert worth_it(facts, 1000, "auto")
