"""Decodes as little of the picture track as possible: key frames, one frame a second, or one chosen frame.

Used by `slides` and by the analyzer to fetch pictures. Keeps only small gray copies, and a bounded number of them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvrd.analyzers.limits import MAX_PIXELS
from gsvrd.analyzers.local import media

Gray = NDArray[np.uint8]
WIDTH, HEIGHT = 320, 180
_MAX_STILLS = 2000
_KEY_SPACING_S = 0.5
_MAX_KEY_GAP_S = 12.0
_SPIKE = 4
_FADE_S = 0.8
_STEPS_BACK = (0, 1, 3)
"""Key frames to go back when a seek lands too late."""
_LATE_S = 0.05


@dataclass(slots=True)
class Still:
    """A small gray copy of the frame shown at `at_s`."""

    at_s: float
    gray: Gray


@dataclass(slots=True)
class Track:
    """What one pass over the picture track showed."""

    times: array[float] = field(default_factory=lambda: array("d"))
    sizes: array[int] = field(default_factory=lambda: array("L"))
    keys: list[tuple[float, float]] = field(default_factory=list)
    """Where decoding can start: (seconds, seconds on the file's own clock)."""
    stills: list[Still] = field(default_factory=list)
    sampled: bool = False
    """The stills are one a second or rarer, not key frames."""
    reorders: bool = False
    """A packet may hold a frame of later; its size says nothing about when the picture changes."""
    spacing_s: float = _KEY_SPACING_S

    def add(self, still: Still) -> None:
        """Keep `still`; when there are too many, every second one goes and the spacing doubles."""
        if self.stills and still.at_s - self.stills[-1].at_s < self.spacing_s:
            return
        self.stills.append(still)
        if len(self.stills) > _MAX_STILLS:
            del self.stills[1::2]
            self.spacing_s *= 2


class Sizes:
    """The packets of a track by time: a picture that changes needs a big one."""

    def __init__(self, track: Track) -> None:
        """Sort them once; packets come in the order of decoding."""
        times = np.array(track.times)
        order = np.argsort(times, kind="stable")
        self._times = times[order]
        self._bytes = np.array(track.sizes)[order]
        self._keys = np.array([at for at, _ in track.keys])

    def spikes(self, start_s: float, end_s: float, share: float = 0.0) -> list[float]:
        """Onsets of the big packets inside a stretch, key frames left out; those of one fade count once.

        None where the biggest is smaller than `share` of the packet at the end of the stretch.
        """
        low, high = np.searchsorted(self._times, [start_s + 0.001, end_s - 0.001])
        inside = ~np.isin(self._times[low:high], self._keys)
        times, sizes = self._times[low:high][inside], self._bytes[low:high][inside]
        if len(sizes) == 0:
            return []
        at_end = self._bytes[min(high, len(self._bytes) - 1)]
        if sizes.max() <= max(share * at_end, _SPIKE * np.median(sizes)):
            return []
        onsets: list[float] = []
        last = -np.inf
        for at in times[sizes >= 0.5 * sizes.max()]:
            if at - last > _FADE_S:
                onsets.append(float(at))
            last = at
        return onsets


def shrink(frame: Any) -> Gray:
    """The frame as HEIGHT x WIDTH gray values."""
    small = frame.reformat(width=WIDTH, height=HEIGHT, format="gray", interpolation="AREA")
    gray: Gray = small.to_ndarray()
    return gray


def _prepare(stream: Any, skip: str, *, quick: bool, threads: int) -> None:
    context = stream.codec_context
    context.options = {"max_pixels": str(MAX_PIXELS), **({"skip_loop_filter": "all"} if quick else {})}
    context.thread_count = threads
    context.skip_frame = skip


def walk(source: str, damage: media.Damage, threads: int, tick: Callable[[float], None]) -> Track:
    """Read every packet of `source` once, decoding key frames only; `tick` is told the seconds reached.

    Where key frames are too rare to show every slide, the track is read again at one frame a second.
    """
    track = Track()
    with media.open_media(source) as container:
        stream: Any = media.first_video(container)
        _prepare(stream, "NONKEY", quick=False, threads=1)
        track.reorders = stream.codec.canonical_name == "av1"
        timeline = media.Timeline(media.start_of(container), damage)
        last = -1.0
        for number, packet in enumerate(media.packets(container, [stream], timeline)):
            at = media.seconds(packet)
            track.times.append(at)
            track.sizes.append(packet.size)
            if packet.is_keyframe and not packet.is_corrupt:
                track.keys.append((at, at - timeline.shift_s(stream.index)))
                if last < 0 or at - last >= track.spacing_s:
                    last = at
                    _add_frames(track, stream, media.decode(stream.codec_context, packet, damage))
            if number % 2000 == 0:
                tick(at)
        _add_frames(track, stream, media.decode(stream.codec_context, None, damage))
    if _too_rare(track):
        _sample(source, track, threads, tick)
    return track


def _add_frames(track: Track, stream: Any, frames: list[Any]) -> None:
    for frame in frames:
        if (at := media.frame_s(frame, stream)) is not None:
            track.add(Still(max(0.0, at), shrink(frame)))


def _too_rare(track: Track) -> bool:
    times = [still.at_s for still in track.stills] + [max(track.times, default=0.0)]
    widest = max((b - a for a, b in pairwise(times)), default=np.inf)
    return widest > max(_MAX_KEY_GAP_S, 2 * track.spacing_s)


def _sample(source: str, track: Track, threads: int, tick: Callable[[float], None]) -> None:
    """Replace the stills by one frame a second, decoding without the frames no other frame needs."""
    track.stills, track.sampled, track.spacing_s = [], True, 1.0
    damage = media.Damage()  # the same spots were counted by `walk`
    with media.open_media(source) as container:
        stream = media.first_video(container)
        _prepare(stream, "NONREF", quick=True, threads=threads)
        due = 0.0
        timeline = media.Timeline(media.start_of(container), damage)
        for frame in _frames(stream, media.packets(container, [stream], timeline), damage):
            at = media.frame_s(frame, stream)
            if at is not None and at >= due:
                due = at + track.spacing_s
                track.add(Still(max(0.0, at), shrink(frame)))
                tick(at)


def _frames(stream: Any, packets: Iterator[Any], damage: media.Damage) -> Iterator[Any]:
    for packet in packets:
        yield from media.decode(stream.codec_context, packet, damage)
    yield from media.decode(stream.codec_context, None, damage)


class Film:
    """The picture track, open for single frames. Cheapest when asked in rising order."""

    def __init__(self, source: str, track: Track, threads: int) -> None:
        """Open `source` anew; `track` is what `walk` saw of it."""
        self._container = media.open_media(source)
        self._stream: Any = media.first_video(self._container)
        _prepare(self._stream, "NONREF", quick=False, threads=threads)
        self._keys = sorted(track.keys) or [(0.0, 0.0)]
        self._damage = media.Damage()
        self._shift = 0.0
        self._reach = -1.0
        self._running: Iterator[Any] = iter(())
        self._held: tuple[float, Any] | None = None

    def __enter__(self) -> Film:
        """The film itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._container.close()

    def frame_at(self, at_s: float) -> Any | None:
        """The frame shown at `at_s`, or the nearest that can be decoded; None when nothing can."""
        found = self._held if self._held and self._held[0] <= at_s else None
        for time, frame in self._from(at_s):
            if time > at_s + 0.001:
                self._held = (time, frame)
                return (found or self._held)[1]
            found = (time, frame)
        self._held = found
        return found[1] if found else None

    def grays(self, start_s: float, end_s: float, spacing_s: float) -> Iterator[Still]:
        """Small copies of the frames in a stretch, `spacing_s` apart."""
        due = start_s
        try:
            for time, frame in self._from(start_s):
                if time > end_s:
                    return
                if time >= due:
                    due = time + spacing_s
                    yield Still(time, shrink(frame))
        finally:
            self._reach = -1.0  # the frames given away here cannot be asked for again without seeking

    def _from(self, at_s: float) -> Iterator[tuple[float, Any]]:
        """Frames from the last place before `at_s` where decoding can start, or from where the reading stands."""
        index = max(0, bisect_right(self._keys, (at_s + 0.001, np.inf)) - 1)
        if not 0 <= self._reach <= at_s or self._keys[index][0] > self._reach:
            self._seek(index)
        for frame in self._running:
            if (at := media.frame_s(frame, self._stream)) is not None:
                self._reach = at + self._shift
                yield self._reach, frame

    def _seek(self, index: int) -> None:
        """Go to the key frame `index`, or further back: MPEG files may only find the place behind its first bytes."""
        self._held = None
        target = self._keys[index][0]
        for back in _STEPS_BACK:
            at, own = self._keys[max(0, index - back)]
            self._shift = at - own
            self._jump(own)
            first = next(self._running, None)
            if first is not None:
                self._running = chain([first], self._running)
                if index <= back or (media.frame_s(first, self._stream) or 0.0) + self._shift <= target + _LATE_S:
                    return

    def _jump(self, own_s: float) -> None:
        import av

        try:
            self._container.seek(round(own_s / self._stream.time_base), stream=self._stream, backward=True)
        except av.FFmpegError:
            self._damage.packets += 1
        self._running = _frames(self._stream, self._raw(), self._damage)

    def _raw(self) -> Iterator[Any]:
        import av

        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        except (av.FFmpegError, EOFError):
            self._damage.packets += 1
