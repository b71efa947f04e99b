"""Makes a small stand-in of a video to upload: the pictures of whole seconds, the sound in mono, the same clock.

Gemini looks at one picture a second, so it sees nothing less. Called before an upload, when `worth_it` says so. Reads
the source once in bounded memory and writes nothing but the stand-in, which is gone again when the work fails.
"""

from __future__ import annotations

import errno
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvrd.analysis import MediaFacts
from gsvrd.analyzers.local import media
from gsvrd.errors import ErrorKind, TaskError

_SHORT_SIDE, _LONG_SIDE = 480, 1920
_TICK = Fraction(1, 1000)
_NEAR_S = 0.02
"""A frame this late still belongs to the second: clocks of files are rounded."""
_X264 = {"preset": "veryfast", "tune": "stillimage", "crf": "30", "bf": "0", "g": "60", "a53cc": "0"}
"""Without B-frames no picture leaves its place, so the file needs no correction of its clock."""
_MAX_HELD_BYTES = 64 << 20
"""Of packets that may never have to be decoded."""
_RATE = 16_000
_SOUND_BITS = 48_000
_COPY_BITS = 64_000
"""AAC up to this many bits a second is taken over as it is."""
_BLOCK = 1024
_DRIFT_S = 0.06
"""So far the sound may stray from the file's clock before it is mended."""
_MIN_SAVED_BYTES = 150_000_000
"""Smaller files are sent sooner than a stand-in is made."""
_PICTURE_BITS = 100_000
"""What a second of pictures takes in a stand-in, filmed ones included; slides take a tenth."""
_WELL_ABOVE = 4
_MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Proxy:
    """A finished stand-in: an MP4 (H.264 at one picture a second, AAC)."""

    path: Path
    size_bytes: int
    sha256: str
    cpu_s: float
    """What this process used while it was made, all threads."""


def worth_it(facts: MediaFacts, max_file_bytes: int, mode: str) -> bool:
    """Whether a stand-in should be uploaded. `mode`: `never`, `always`, or `auto`.

    `auto` says yes to what is too large to be sent, and to large files most of which a stand-in would save.
    """
    if mode != "auto":
        return {"never": False, "always": True}[mode]
    if facts.size_bytes > max_file_bytes:
        return True
    bits = (_PICTURE_BITS if facts.video_codec else 0) + (_SOUND_BITS if facts.audio_codec else 0)
    return facts.size_bytes > max(_MIN_SAVED_BYTES, _WELL_ABOVE * bits * facts.duration_s / 8)


def make_proxy(
    source: str, facts: MediaFacts, target: Path, *, threads: int, progress: Callable[[float], None]
) -> Proxy:
    """Write the stand-in of `source`, a name PyAV can open, to `target`; its times are those `facts` were found with.

    `progress` is told the share that is done (0 to 1). Damaged spots are passed over: the picture before stays, the
    sound is silent. Raises `TaskError`: UNREADABLE when the pictures or the sound cannot be decoded, PLACE when the
    machine cannot take the file, or what `media.open_media` raises.
    """
    import av

    began = time.process_time()
    with ExitStack() as undo:
        undo.callback(_remove, target)
        try:
            _write(source, facts, target, threads, progress)
            with target.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            proxy = Proxy(target, target.stat().st_size, sha256, time.process_time() - began)
        except (av.FFmpegError, OSError) as error:  # of the target: those of the source never come so far
            raise _failure(error) from error
        undo.pop_all()
    progress(1.0)
    return proxy


def _remove(target: Path) -> None:
    with suppress(OSError):  # what went wrong before is the thing to tell
        target.unlink(missing_ok=True)


def _failure(error: Any) -> TaskError:
    if isinstance(error, (FileNotFoundError, PermissionError, NotADirectoryError)) or error.errno in _MACHINE:
        return TaskError(
            ErrorKind.PLACE,
            "A smaller copy of the video could not be written.",
            "See that the disk of the service's state directory has room and can be written to.",
            str(error),
        )
    if error.errno == errno.ENOMEM:
        return TaskError(ErrorKind.MEMORY, "There is too little memory to make the video smaller.", detail=str(error))
    return _unreadable(str(error))


def _unreadable(detail: str = "") -> TaskError:
    return TaskError(
        ErrorKind.UNREADABLE,
        "No smaller copy of this video can be made: its pictures or its sound could not be converted.",
        "Play it on a computer; if it plays, export it as MP4 (H.264 with AAC) and drop that.",
        detail,
    )


def _write(source: str, facts: MediaFacts, target: Path, threads: int, progress: Callable[[float], None]) -> None:
    import av

    with media.open_media(source) as container, av.open(f"file:{target}", "w", format="mp4") as out:
        damage = media.Damage()
        video = media.first_video(container) if facts.video_codec else None
        audio = media.first_audio(container) if facts.audio_codec else None
        tracks: dict[int, _Pictures | _Sound | _SameSound] = {}
        if video is not None:
            tracks[video.index] = _Pictures(video, out, facts, threads, damage)
        if audio is not None:
            kind = _SameSound if _is_small(audio) else _Sound
            tracks[audio.index] = kind(audio, out, damage)
        if not tracks:
            raise _unreadable()
        told = 0.0
        streams = [stream for stream in (video, audio) if stream is not None]
        for packet in media.packets(container, streams, media.Timeline(media.start_of(container), damage)):
            out.mux(list(tracks[packet.stream_index].take(packet)))
            if (at := media.seconds(packet)) >= told + 1:
                told = at
                progress(min(1.0, at / facts.duration_s) if facts.duration_s else 0.0)
        for track in tracks.values():
            out.mux(list(track.finish()))
        if not all(track.is_filled for track in tracks.values()):
            raise _unreadable()


@dataclass(slots=True)
class _Picker:
    """Says which packets have to be decoded to see what is shown at each whole second.

    Those behind that frame wait: if a key frame comes before the next second, nobody will ever need them.
    """

    due: int = 0
    _held: list[Any] = field(default_factory=list)
    _bytes: int = 0
    _is_cut: bool = False

    def take(self, packet: Any) -> Iterator[tuple[Any, bool, bool]]:
        """What to decode now: (packet, whether it is the one shown, whether the decoder must be emptied before)."""
        at, limit = media.seconds(packet), self.due + _NEAR_S
        if packet.is_keyframe and not packet.is_corrupt and at <= limit:
            self._is_cut = self._is_cut or bool(self._held)
            self._keep([])
        decoded_at = at if packet.dts is None else float(packet.dts * packet.time_base)
        while decoded_at > self.due + _NEAR_S:  # whatever comes from here on is shown later than that
            yield from self._shown_at(self.due + _NEAR_S)
            self.due += 1
        self._held.append(packet)
        self._bytes += packet.size
        if self._bytes > _MAX_HELD_BYTES:
            yield from self.rest()

    def rest(self) -> Iterator[tuple[Any, bool, bool]]:
        """All that is held."""
        yield from self._feed(len(self._held))

    def _shown_at(self, limit: float) -> Iterator[tuple[Any, bool, bool]]:
        times = [media.seconds(packet) for packet in self._held]
        shown = max((i for i, at in enumerate(times) if at <= limit), key=times.__getitem__, default=None)
        if shown is not None:
            yield from self._feed(shown + 1)

    def _feed(self, count: int) -> Iterator[tuple[Any, bool, bool]]:
        fed = self._held[:count]
        self._keep(self._held[count:])
        for number, packet in enumerate(fed, 1):
            yield packet, number == count, self._is_cut
            self._is_cut = False

    def _keep(self, packets: list[Any]) -> None:
        self._held = packets
        self._bytes = sum(packet.size for packet in packets)


class _Pictures:
    """The picture track at one frame a second."""

    def __init__(self, stream: Any, out: Any, facts: MediaFacts, threads: int, damage: media.Damage) -> None:
        self._stream, self._context, self._damage = stream, stream.codec_context, damage
        self._context.thread_count = threads
        self._context.thread_type = "AUTO"
        self._turns = round(facts.rotation / 90) % 4
        self._end_ms = round(facts.duration_s * 1000)
        self._size = _small_size(facts, stream.sample_aspect_ratio)
        wide, high = self._size[::-1] if self._turns % 2 else self._size
        self._out = out.add_stream("libx264", rate=1, options=_X264)
        self._out.width, self._out.height, self._out.pix_fmt = wide, high, "yuv420p"
        self._out.codec_context.time_base = _TICK
        self._out.codec_context.thread_count = 1  # the same bytes on every machine, and 1 fps is little work
        self._picker = _Picker()
        self._next = 0
        self._floor_s = -math.inf
        self._frame: Any = None
        self._small: Any = None

    @property
    def is_filled(self) -> bool:
        """Whether there is any picture."""
        return self._next > 0

    def take(self, packet: Any) -> Iterator[Any]:
        """Packets for the target that come of a packet of the source."""
        for fed, is_shown, is_cut in self._picker.take(packet):
            yield from self._decode(fed, is_shown, is_cut)

    def finish(self) -> Iterator[Any]:
        """The last ones; the last picture stays to the end."""
        for fed, _, is_cut in self._picker.rest():
            yield from self._decode(fed, True, is_cut)
        yield from self._drain()
        if self._frame is not None:
            yield from self._until(self._end_ms / 1000)
            yield from self._timed(self._out.encode(None))

    def _decode(self, packet: Any, is_shown: bool, is_cut: bool) -> Iterator[Any]:
        if is_cut:
            yield from self._drain()
            self._context.flush_buffers()
            self._floor_s = media.seconds(packet)  # frames of before it refer to what was left out
        self._context.skip_frame = "DEFAULT" if is_shown else "NONREF"
        yield from self._see(media.decode(self._context, packet, self._damage))

    def _drain(self) -> Iterator[Any]:
        yield from self._see(media.decode(self._context, None, self._damage))

    def _see(self, frames: list[Any]) -> Iterator[Any]:
        for frame in frames:
            at = media.frame_s(frame, self._stream)
            if at is None or at < self._floor_s - _NEAR_S:
                continue
            if self._frame is None:
                self._frame = frame
            yield from self._until(at - _NEAR_S)
            self._frame, self._small = frame, None

    def _until(self, end_s: float) -> Iterator[Any]:
        """The frame at hand for every second before `end_s` that has none."""
        while self._next < end_s and self._next * 1000 < max(1, self._end_ms):
            if self._small is None:
                self._small = self._shrink(self._frame)
            self._small.pts, self._small.time_base = self._next * 1000, _TICK
            self._next += 1
            yield from self._timed(self._out.encode(self._small))

    def _timed(self, packets: list[Any]) -> Iterator[Any]:
        for packet in packets:
            packet.duration = max(1, min(1000, self._end_ms - packet.pts))
            yield packet

    def _shrink(self, frame: Any) -> Any:
        import av
        from av.video.frame import PictureType

        wide, high = self._size
        if self._turns:
            pixels = frame.reformat(width=wide, height=high, format="rgb24", interpolation="AREA").to_ndarray()
            turned = np.ascontiguousarray(np.rot90(pixels, self._turns))
            return av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format="yuv420p")
        small = frame.reformat(width=wide, height=high, format="yuv420p", interpolation="AREA")
        small.pict_type = PictureType.NONE  # else the encoder repeats the source's key frames
        return small


def _small_size(facts: MediaFacts, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height as stored, not yet turned: square pixels, even, no side too long."""
    wide, high = facts.width * float(aspect or 1), float(facts.height)
    share = min(1.0, _SHORT_SIDE / min(wide, high), _LONG_SIDE / max(wide, high))
    return tuple(max(2, 2 * round(side * share / 2)) for side in (wide, high))  # type: ignore[return-value]


def _is_small(stream: Any) -> bool:
    """Whether a sound track can be taken over as it is: AAC of few bits, with the header an MP4 wants."""
    context = stream.codec_context
    is_aac = stream.codec.canonical_name == "aac" and bool(context.extradata)
    return is_aac and 0 < (context.bit_rate or 0) <= _COPY_BITS


class _SameSound:
    """The sound track, packet for packet."""

    def __init__(self, stream: Any, out: Any, damage: media.Damage) -> None:
        self._out, self._damage, self._last = out.add_stream_from_template(stream), damage, -math.inf
        self.is_filled = False

    def take(self, packet: Any) -> Iterator[Any]:
        """The packet itself, unless it is damaged or out of order."""
        if packet.is_corrupt or packet.dts is None or packet.dts <= self._last:
            self._damage.packets += 1
            return
        self._last, self.is_filled = packet.dts, True
        packet.stream = self._out
        yield packet

    def finish(self) -> Iterator[Any]:
        """Nothing is left."""
        return iter(())


class _Sound:
    """The sound track as mono AAC. Gaps become silence and overlaps are dropped, so every sound keeps its moment."""

    def __init__(self, stream: Any, out: Any, damage: media.Damage) -> None:
        self._stream, self._context, self._damage = stream, stream.codec_context, damage
        self._out = out.add_stream("aac", rate=_RATE, layout="mono")
        self._out.bit_rate = _SOUND_BITS
        self._resampler: Any = None
        self._kind: tuple[str, str, int] | None = None
        self._held: NDArray[np.float32] = np.zeros(0, np.float32)
        self._written = 0

    @property
    def is_filled(self) -> bool:
        """Whether there is any sound."""
        return self._written > 0

    def take(self, packet: Any) -> Iterator[Any]:
        """Packets for the target that come of a packet of the source."""
        for frame in media.decode(self._context, packet, self._damage):
            yield from self._add(frame)

    def finish(self) -> Iterator[Any]:
        """The last ones."""
        for frame in media.decode(self._context, None, self._damage):
            yield from self._add(frame)
        if len(self._held):
            yield from self._encode(self._held)
        if self._written:
            yield from self._out.encode(None)

    def _add(self, frame: Any) -> Iterator[Any]:
        at = media.frame_s(frame, self._stream)
        samples = self._convert(frame)
        reached = self._written + len(self._held)
        late = 0 if at is None else round(at * _RATE) - reached
        if reached and abs(late) <= _DRIFT_S * _RATE:
            late = 0
        for start in range(0, late, _RATE):  # a second at a time: gaps may be minutes
            yield from self._push(np.zeros(min(_RATE, late - start), np.float32))
        yield from self._push(samples[max(0, -late) :])

    def _convert(self, frame: Any) -> NDArray[np.float32]:
        import av

        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:  # some tracks change on the way
            self._kind, self._resampler = kind, av.AudioResampler(format="fltp", layout="mono", rate=_RATE)
        frame.pts = None  # the resampler refuses clocks that leap; times are kept here
        try:
            parts = [part.to_ndarray().reshape(-1) for part in self._resampler.resample(frame)]
        except (av.FFmpegError, ValueError):
            self._damage.packets += 1
            return np.zeros(0, np.float32)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _push(self, samples: NDArray[np.float32]) -> Iterator[Any]:
        held = np.concatenate((self._held, samples))
        whole = len(held) - len(held) % _BLOCK
        self._held = held[whole:].copy()
        for start in range(0, whole, _BLOCK):
            yield from self._encode(held[start : start + _BLOCK])

    def _encode(self, samples: NDArray[np.float32]) -> Iterator[Any]:
        import av

        clean = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)  # the encoder refuses what is no number
        frame = av.AudioFrame.from_ndarray(clean[None, :], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = _RATE, self._written, Fraction(1, _RATE)
        self._written += len(samples)
        yield from self._out.encode(frame)
