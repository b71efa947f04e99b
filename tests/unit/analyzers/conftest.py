"""Small videos whose truth is known, made on the spot, and a workbench to study them on."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel

from gsvrd.analysis import MediaFacts
from gsvrd.analyzers.limits import MediaLimits
from gsvrd.analyzers.probe import probe

Pixels = NDArray[np.uint8]
Kept = TypeVar("Kept", bound=BaseModel)
FPS = 10
PIXELS = {"png": "rgb24", "cinepak": "rgb24", "qtrle": "rgb24", "mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}


def slide(title: str, bullets: Sequence[str] = (), size: tuple[int, int] = (640, 360)) -> Pixels:
    """A white slide with a title, bullets, and a bar that all slides share."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, size[1] - 24, size[0], size[1]), fill=(30, 60, 120))
    draw.text((40, 24), title, fill="black", font=ImageFont.load_default(40))
    for row, bullet in enumerate(bullets):
        draw.text((60, 110 + 56 * row), bullet, fill=(20, 20, 20), font=ImageFont.load_default(26))
    return np.asarray(image)


@dataclass
class Maker:
    """Writes videos into a folder; pictures are held for a number of seconds."""

    folder: Path

    def video(
        self,
        name: str,
        shown: Sequence[tuple[Pixels, float]],
        *,
        sound: NDArray[np.float32] | None = None,
        key_every_s: float = 2.0,
        format: str | None = None,
        codec: str = "libx264",
        audio: str = "aac",
        fps: int = FPS,
        title: str = "",
        each: Callable[[Pixels, int], Pixels] = lambda pixels, _: pixels,
        chapters: Sequence[tuple[float, float, str]] = (),
    ) -> Path:
        path = self.folder / name
        # the index in front, so that a file cut short still opens
        options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
        with schedule_kept(), av.open(str(path), "w", format=format, container_options=options) as out:
            if title:
                out.metadata["title"] = title
            if chapters:
                out.set_chapters([_chapter(i, *c) for i, c in enumerate(chapters)])
            picture = self._picture_stream(out, codec, shown, round(key_every_s * fps), fps) if shown else None
            voice = _sound_stream(out, audio) if sound is not None else None
            if picture is not None:
                for packet in _encode(picture, _stills(shown, each, fps)):
                    out.mux(packet)
            if voice is not None and sound is not None:
                for packet in _encode(voice, _sounds(sound, voice)):
                    out.mux(packet)
        return path

    @staticmethod
    def _picture_stream(out: Any, codec: str, shown: Sequence[tuple[Pixels, float]], key_every: int, fps: int) -> Any:
        stream = out.add_stream(codec, rate=fps)
        stream.height, stream.width = shown[0][0].shape[:2]
        stream.pix_fmt = PIXELS.get(codec, "yuv420p")
        stream.codec_context.gop_size = key_every
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "26", "sc_threshold": "0"}
        return stream


@contextlib.contextmanager
def schedule_kept() -> Iterator[None]:
    """As root, the AV1 encoder makes the thread that calls it a real-time one; all that is started later would be, too."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _chapter(number: int, start_s: float, end_s: float, title: str) -> Any:
    base = Fraction(1, 1000)
    span = {"start": round(start_s * 1000), "end": round(end_s * 1000)}
    return {"id": number, **span, "time_base": base, "metadata": {"title": title}}


def _stills(shown: Sequence[tuple[Pixels, float]], each: Callable[[Pixels, int], Pixels], fps: int) -> Iterator[Any]:
    number = 0
    for pixels, seconds in shown:
        for _ in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(each(pixels, number)), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            number += 1
            yield frame


def _sound_stream(out: Any, codec: str) -> Any:
    return out.add_stream(codec, rate=16_000 if codec == "aac" else 48_000, layout="mono")


def _sounds(sound: NDArray[np.float32], stream: Any) -> Iterator[Any]:
    """`sound` is mono at 16 kHz; the frames are as `stream` wants them."""
    resampler = av.AudioResampler(
        stream.format, "mono", stream.rate, frame_size=stream.codec_context.frame_size or None
    )
    for start in range(0, len(sound), 1024):
        frame = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _encode(stream: Any, frames: Iterator[Any]) -> Iterator[Any]:
    for frame in frames:
        yield from stream.encode(frame)
    yield from stream.encode(None)


@dataclass
class Bench:
    """A workbench that remembers what it was told; `stored` are the stages of an earlier attempt."""

    source: str
    name: str
    facts: MediaFacts
    assets: Path
    sidecars: Sequence[Path] = ()
    threads: int = 1
    language: str = "auto"
    stored: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    told: list[tuple[str, float]] = field(default_factory=list)

    def progress(self, step: str, fraction: float) -> None:
        self.told.append((step, fraction))

    def keep(self, stage: str, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
        if stage not in self.stored:
            self.made.append(stage)
            self.stored[stage] = make().model_dump_json()
        return kind.model_validate_json(self.stored[stage])


def facts_of(path: Path, **limits: Any) -> MediaFacts:
    return probe(f"file:{path}", size_bytes=path.stat().st_size, sha256="0" * 64, limits=MediaLimits(**limits))


def turn(path: Path) -> Path:
    """Mark the video of an MP4 as filmed upright: the display matrix says a quarter turn clockwise."""
    data = path.read_bytes()
    plain = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    turned = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    at = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])
    return path


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


@pytest.fixture
def drawn() -> Callable[..., Pixels]:
    return slide


@pytest.fixture
def turned() -> Callable[[Path], Path]:
    return turn


@pytest.fixture
def probed() -> Callable[..., MediaFacts]:
    return facts_of


@pytest.fixture
def bench_of(tmp_path: Path) -> Callable[..., Bench]:
    def lay_out(path: Path, **more: Any) -> Bench:
        assets = tmp_path / "assets"
        assets.mkdir(exist_ok=True)
        return Bench(f"file:{path}", path.name, facts_of(path), assets, **more)

    return lay_out
