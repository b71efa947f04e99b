"""Encodes the odd but legal clips of the hostile folder with PyAV: each function gives the bytes of one file.

`make_hostile` calls it. All clips are cut from the sample lecture, 320 x 180 and a few seconds long. What PyAV will not
write, because it is broken, is made in `hostile_boxes`.
"""

from __future__ import annotations

import functools
import io
import itertools
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SAMPLE = Path(__file__).parent / "samples" / "lecture-en.mp4"
FROM_S, TO_S = 15.0, 21.0
"""The stretch of the sample that the clips show; a slide changes in it."""
FPS = 10
WIDTH, HEIGHT = 320, 180
_TICKS = 1000


def video_frames() -> Iterator[av.VideoFrame]:
    """The stretch at `FPS`, small; `frame.pts` counts from 0 in frames."""
    for number, picture in enumerate(_pictures()):
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield frame


def audio_frames() -> Iterator[av.AudioFrame]:
    """The sound of the stretch, time from 0."""
    samples = 0
    for _, frame in _stretch("audio"):
        frame.pts, frame.time_base = samples, Fraction(1, frame.sample_rate)
        samples += frame.samples
        yield frame


@functools.cache
def _pictures() -> tuple[NDArray[np.uint8], ...]:
    """Decoded once: every clip is made of them."""
    chosen: list[NDArray[np.uint8]] = []
    for at, frame in _stretch("video"):
        if at >= FROM_S + len(chosen) / FPS:
            chosen.append(frame.reformat(WIDTH, HEIGHT, "yuv420p").to_ndarray())
    return tuple(chosen)


def _stretch(kind: str) -> Iterator[tuple[float, Any]]:
    """Time and frame of all that the sample shows, or sounds, in the stretch."""
    with av.open(str(SAMPLE)) as source:
        source.seek(int(FROM_S * 1_000_000))
        frames: Iterator[Any] = source.decode(**{kind: 0})
        for frame in frames:
            if frame.time >= TO_S:
                return
            if frame.time >= FROM_S:
                yield frame.time, frame


def clip(
    container: str = "mp4", *, video: bool = True, audio: bool = True, metadata: Mapping[str, str] | None = None
) -> bytes:
    """A good clip: h264 and aac. In mp4 the index comes first."""
    with _Film(container) as out:
        out.file.metadata.update(metadata or {})
        picture = _add_h264(out.file) if video else None
        sound = _add_aac(out.file) if audio else None
        if picture is not None:
            out.file.mux(list(_encoded(picture, video_frames())))
        if sound is not None:
            out.file.mux(list(_encoded(sound, audio_frames())))
    return out.data


def variable_rate() -> bytes:
    """Frames that come 33 ms to 1.5 s apart."""
    gaps = (40, 40, 700, 100, 1500, 33, 250)

    def uneven() -> Iterator[av.VideoFrame]:
        at = 0
        for number, image in enumerate(video_frames()):
            image.pts, image.time_base = at, Fraction(1, _TICKS)
            at += gaps[number % len(gaps)]
            yield image

    with _Film("mp4") as out:
        stream = _add_h264(out.file)
        stream.codec_context.time_base = Fraction(1, _TICKS)
        out.file.mux(list(_encoded(stream, uneven())))
    return out.data


def one_frame() -> bytes:
    """A video of a single frame, no sound."""
    with _Film("mp4") as out:
        stream = _add_h264(out.file)
        out.file.mux(list(_encoded(stream, itertools.islice(video_frames(), 1))))
    return out.data


def many_streams(count: int = 200) -> bytes:
    """One picture track and `count - 1` subtitle tracks."""
    with _Film("mp4") as out:
        picture = _add_h264(out.file)
        texts = [out.file.add_mux_stream("mov_text") for _ in range(count - 1)]
        out.file.mux(list(_encoded(picture, video_frames())))
        for text in texts:
            out.file.mux(_raw_packet(text, b"\x00\x02hi"))
    return out.data


def jumping_times() -> bytes:
    """An MPEG transport stream whose clock leaps 20 hours in the middle, as after a change of programme."""
    with _Film("mpegts") as out:
        stream = _add_h264(out.file)
        for packet in _encoded(stream, video_frames()):
            at = packet.dts or 0
            if at * packet.time_base >= 3:
                packet.pts = packet.dts = at + int(72_000 / packet.time_base)
            out.file.mux(packet)
    return out.data


def cover_art() -> bytes:
    """Music with a cover: its only picture track is one attached still."""
    with _Film("mp4") as out:
        sound = _add_aac(out.file)
        cover = out.file.add_mux_stream("png", rate=1, width=WIDTH, height=HEIGHT)
        cover.disposition = av.stream.Disposition.attached_pic
        out.file.mux(_raw_packet(cover, picture()))
        out.file.mux(list(_encoded(sound, audio_frames())))
    return out.data


def picture() -> bytes:
    """A PNG of an ordinary size."""
    target = io.BytesIO()
    Image.fromarray(next(video_frames()).to_ndarray(format="rgb24")).save(target, "PNG")
    return target.getvalue()


def pixel_bomb(side: int = 16_000) -> bytes:
    """An mp4 video of one PNG with `side` x `side` pixels: 250 kB that want 256 MB or more."""
    packer = zlib.compressobj(9)
    row = bytes(1 + side)
    packed = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, (b"IHDR", b"IDAT", b"IEND"), (header, packed, b"")))
    with _Film("mp4") as out:
        stream = out.file.add_mux_stream("png", rate=1, width=side, height=side)
        out.file.mux(_raw_packet(stream, png))
    return out.data


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def noise(count: int, seed: int) -> bytes:
    """`count` bytes without meaning, the same for a seed."""
    return np.random.default_rng(seed).bytes(count)


class _Film:
    """An output file; its bytes are in `data` when the block has been left.

    It is a real file for a while, since an mp4 can get its index to the front only by a second pass.
    """

    def __init__(self, container: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "film"
        options = {"movflags": "+faststart"} if container == "mp4" else {}
        self.file = av.open(str(self._path), "w", format=container, options=options)
        self.data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.data = self._path.read_bytes()
        self._folder.cleanup()


def _encoded(stream: Any, frames: Iterable[av.VideoFrame | av.AudioFrame]) -> Iterator[av.Packet[Any]]:
    for frame in frames:
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _raw_packet(stream: Any, payload: bytes) -> av.Packet[Any]:
    """A packet of one second at time 0, not made by an encoder."""
    packet = av.Packet(payload)
    packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, _TICKS), True
    packet.pts = packet.dts = 0
    packet.duration = _TICKS
    return packet


def _add_h264(out: av.container.OutputContainer) -> av.VideoStream:
    stream = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "28", "bf": "0"})
    stream.width, stream.height, stream.pix_fmt, stream.thread_count = WIDTH, HEIGHT, "yuv420p", 1
    return stream


def _add_aac(out: av.container.OutputContainer) -> av.AudioStream:
    stream = out.add_stream("aac", rate=22050, layout="mono")
    stream.bit_rate = 32_000
    return stream
