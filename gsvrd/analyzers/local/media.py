"""Opens an untrusted media file and reads its packets and frames in spite of damage.

Used by the probe and by every room of the offline analyzer. Knows nothing of slides or speech. Only demuxers that read
one self-contained file are allowed: playlists and lists could name other files or hosts, picture pipes are no videos.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvrd.analysis import Chapter
from gsvrd.analyzers.limits import MAX_PIXELS
from gsvrd.errors import ErrorKind, TaskError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

DEMUXERS = (
    *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "mxf", "dv", "wtv"),
    *("mp3", "wav", "w64", "flac", "aac", "aiff", "caf", "amr"),
)
_MAX_FAILED_READS = 100
_BACK_S = 1.0
_GAP_S = 300.0
"""A hole longer than this in *all* streams is a broken clock, not a pause."""
_MARKUP = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|<[^<>]{0,200}>")


@dataclass(slots=True)
class Damage:
    """What was wrong while reading one file."""

    packets: int = 0
    """Spots that could not be read or decoded."""
    refused: int = 0
    """Frames among them whose size the decoder would not accept."""
    jumps: int = 0
    """Places where the file's clock leapt."""


def open_media(source: str, max_pixels: int = MAX_PIXELS) -> InputContainer:
    """Open `source`, a name PyAV can open. Raises `TaskError`; frames above `max_pixels` are refused by the decoder."""
    import av

    options = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "file"}
    try:
        container = av.open(
            source,
            container_options=options,
            # for the decoders that guess sizes while opening; formats like MPEG-PS and FLV name their streams too late
            # for that, so the readers' decoders below are told as well
            options={"max_pixels": str(max_pixels)},
            metadata_errors="replace",
        )
    except av.FFmpegError as error:
        raise _open_failure(source, error) from error
    if container.format.name not in DEMUXERS:
        container.close()
        raise _not_video(f"it is in the format {container.format.name}")
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.options = {"max_pixels": str(max_pixels)}
    return container


def _not_video(why: str) -> TaskError:
    return TaskError(
        ErrorKind.NOT_VIDEO,
        f"This file is not a video: {why}.",
        "Put the recording itself into the inbox (for example .mp4, .mkv or .webm).",
    )


def _open_failure(source: str, error: Any) -> TaskError:
    if isinstance(error, FileNotFoundError):
        return TaskError(ErrorKind.NOT_FOUND, "The file is gone.", "Copy it into the inbox again.")
    if isinstance(error, PermissionError):
        return TaskError(ErrorKind.PERMISSION, "The file may not be read.", "Let the service's user read it.")
    if error.errno in (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO):
        kind = ErrorKind.MEMORY if error.errno == errno.ENOMEM else ErrorKind.PLACE
        return TaskError(kind, "The machine could not open the file.", "It is tried again.", str(error))
    if error.errno == errno.EINVAL:  # what FFmpeg answers for a demuxer that is not on the list
        return _not_video("it is a picture, a playlist or a kind of data file")
    if _is_text(source):
        return _not_video("it holds text")
    return TaskError(
        ErrorKind.UNREADABLE,
        "The file cannot be read as a video: it is damaged or was cut off before it was finished.",
        "Play it on a computer; if that fails too, copy or export it again from where it was recorded.",
        str(error),
    )


def _is_text(source: str) -> bool:
    try:
        with Path(source.removeprefix("file:")).open("rb") as file:
            head = file.read(1024)
    except OSError:
        return False
    return b"\0" not in head and len(head) > 0 and "\ufffd" not in head[:-4].decode("utf-8", "replace")


@dataclass(slots=True)
class _Track:
    shift: float
    last: float
    step: float = 0.04


@dataclass(slots=True)
class Timeline:
    """Rewrites packet times so that they start at 0 and never leap; one for each pass over a file."""

    start_s: float
    damage: Damage
    _tracks: dict[int, _Track] = field(default_factory=dict)
    _newest: float = 0.0

    def place(self, packet: Packet[Any]) -> None:
        """Correct `packet` in place; a leap is bridged with the distance between the frames before it."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return
        tick = float(packet.time_base)
        raw = stamp * tick
        track = self._tracks.get(packet.stream_index)
        if track is None:
            track = self._tracks[packet.stream_index] = _Track(-self.start_s, raw - self.start_s)
        now = raw + track.shift
        if now < track.last - _BACK_S or now > max(track.last, self._newest) + _GAP_S:
            track.shift += track.last + track.step - now
            now = track.last + track.step
            self.damage.jumps += 1
        elif 0 < now - track.last < 5:
            track.step = now - track.last
        track.last = now
        self._newest = max(self._newest, now)
        ticks = round(track.shift / tick)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks

    def shift_s(self, stream_index: int) -> float:
        """What is added to the file's own clock just now."""
        track = self._tracks.get(stream_index)
        return track.shift if track else -self.start_s


def start_of(container: InputContainer) -> float:
    """Where the file's clock starts, in seconds."""
    return (container.start_time or 0) / 1_000_000


def packets(container: InputContainer, streams: list[Any], timeline: Timeline) -> Iterator[Packet[Any]]:
    """The packets of `streams` in file order, times corrected; what cannot be read is counted and passed over."""
    import av

    for _ in range(_MAX_FAILED_READS):
        try:
            for packet in container.demux(*streams):
                if packet.size:  # empty ones only ask for a flush, which the readers do themselves
                    timeline.place(packet)
                    timeline.damage.packets += packet.is_corrupt
                    yield packet
        except EOFError:
            return
        except av.FFmpegError:
            timeline.damage.packets += 1
        else:
            return


def decode(context: Any, packet: Packet[Any] | None, damage: Damage) -> list[Any]:
    """The frames of `packet` (None: what is still in the decoder); damage is counted, never raised."""
    import av

    try:
        return list(context.decode(packet))
    except EOFError:
        return []
    except av.FFmpegError as error:
        damage.packets += 1
        damage.refused += error.errno == errno.EINVAL
        return []


def seconds(packet: Packet[Any]) -> float:
    """When `packet` is shown, in seconds from the start; 0 when the file does not say."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    return 0.0 if stamp is None else max(0.0, float(stamp * packet.time_base))


def frame_s(frame: Any, stream: Any) -> float | None:
    """When `frame` is shown, on the clock its packet had; None when the file does not say.

    `frame.time` is not used: it is not a number for the frames that come out of a decoder at the end.
    """
    return None if frame.pts is None else float(frame.pts * stream.time_base)


def is_cover(stream: Any) -> bool:
    """Whether a video stream is only cover art."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def first_video(container: InputContainer) -> Any | None:
    """The first video stream that is no cover art and has a decoder."""
    usable = (s for s in container.streams.video if s.codec_context is not None and not is_cover(s))
    return next(usable, None)


def first_audio(container: InputContainer) -> Any | None:
    """The first audio stream that has a decoder."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def clean_title(text: str, limit: int = 120) -> str:
    """A title from a file as one printable line: no markup, no control characters."""
    plain = _MARKUP.sub(" ", text)
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())[:limit].strip()


def container_chapters(container: InputContainer, duration_s: float) -> tuple[Chapter, ...]:
    """The chapters the file names, cleaned, in order and inside `duration_s`; empty unless there are 2 to 200."""
    start = start_of(container)
    spans = [
        (max(0.0, float(c["start"] * base) - start), clean_title(c["metadata"].get("title", "")))
        for c in container.chapters()
        if (base := c["time_base"]) is not None
    ]
    spans = sorted((at, title) for at, title in spans if at < duration_s)
    spans = [span for i, span in enumerate(spans) if i == 0 or span[0] - spans[i - 1][0] > 0.1]
    if not 2 <= len(spans) <= 200:
        return ()
    spans[0] = (0.0, spans[0][1])  # whatever comes before the first mark belongs to it
    ends = [at for at, _ in spans[1:]] + [duration_s]
    return tuple(Chapter(start_s=at, end_s=end, title=title) for (at, title), end in zip(spans, ends, strict=True))
