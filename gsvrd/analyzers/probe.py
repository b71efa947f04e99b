"""Says what a media file holds, before anything expensive is done with it; and the analyzer that stops there.

Called by the worker as the first stage of every attempt. Duration comes from the packets, never from the header; limits
are checked on the header before anything is decoded. Must not write anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from gsvrd.analysis import Analysis, Chapter, MediaFacts, Step
from gsvrd.analyzers.base import Workbench
from gsvrd.analyzers.limits import MediaLimits
from gsvrd.analyzers.local import media
from gsvrd.errors import ErrorKind, TaskError

_FIRST_FRAME_PACKETS = 500
"""A decoder that shows no frame within so many packets never will."""
_MAX_LAST_FRAME_S = 300.0
_SMALLER = "Export the video in a smaller size, for example 1920 x 1080."


@dataclass(slots=True)
class _Seen:
    """What one pass over the packets showed."""

    end_s: float = 0.0
    video_packets: int = 0
    audio_packets: int = 0
    frame: Any = None


def probe(source: str, *, size_bytes: int, sha256: str, limits: MediaLimits) -> MediaFacts:
    """Look into `source`, a name PyAV can open; `size_bytes` and `sha256` are of the same bytes and are passed on.

    Raises `TaskError` of kind EMPTY, NOT_VIDEO, UNREADABLE, TOO_LARGE, NOT_FOUND or PERMISSION.
    """
    if size_bytes == 0:
        raise TaskError(ErrorKind.EMPTY, "The file is empty.", "Copy it again; the last copy did not finish.")
    with media.open_media(source, limits.max_pixels) as container:
        _check_header(container, limits)
        video, audio = media.first_video(container), media.first_audio(container)
        damage = media.Damage()
        seen = _read_through(container, video, audio, damage, limits)
        notes = _notes(container, video, audio, seen, damage)
        if seen.frame is None:
            video = None
        if not seen.audio_packets:
            audio = None
        _check_found(container, video, audio)
        chapters = media.container_chapters(container, seen.end_s)
        return MediaFacts(
            sha256=sha256,
            size_bytes=size_bytes,
            container=container.format.name,
            duration_s=round(seen.end_s, 3),
            title=media.clean_title(container.metadata.get("title", "")),
            video_codec=video.codec.canonical_name if video else "",
            width=seen.frame.width if video else 0,
            height=seen.frame.height if video else 0,
            fps=round(float(video.average_rate or 0), 3) if video else 0.0,
            rotation=seen.frame.rotation if video else 0,
            audio_codec=audio.codec.canonical_name if audio else "",
            audio_language=(audio.language or "") if audio else "",
            subtitle_languages=tuple(s.language or "und" for s in container.streams.subtitles),
            chapter_count=len(chapters),
            notes=notes,
        )


def _too_large(message: str, hint: str) -> TaskError:
    return TaskError(ErrorKind.TOO_LARGE, message, hint)


def _check_header(container: Any, limits: MediaLimits) -> None:
    count = len(container.streams)
    if count > limits.max_streams:
        raise _too_large(
            f"The file holds {count} tracks; {limits.max_streams} are allowed.", "Export it with one picture track."
        )
    for stream in container.streams.video:
        context = stream.codec_context
        if context is not None and not media.is_cover(stream):
            _check_pixels(context.width, context.height, limits)


def _check_pixels(width: int, height: int, limits: MediaLimits) -> None:
    if width * height > limits.max_pixels:
        raise _too_large(
            f"The picture is {width} x {height} pixels; {limits.max_pixels / 1e6:.0f} million are allowed.",
            _SMALLER,
        )


def _read_through(container: Any, video: Any, audio: Any, damage: media.Damage, limits: MediaLimits) -> _Seen:
    seen = _Seen()
    streams = [s for s in (video, audio) if s is not None]
    if not streams:
        return seen
    for packet in media.packets(container, streams, media.Timeline(media.start_of(container), damage)):
        length = float((packet.duration or 0) * packet.time_base)
        seen.end_s = max(seen.end_s, media.seconds(packet) + min(length, _MAX_LAST_FRAME_S))
        if seen.end_s > limits.max_duration_s:
            hours = limits.max_duration_s / 3600
            raise _too_large(f"The video is longer than {hours:.3g} hours.", "Cut it into shorter videos.")
        if packet.stream is video:
            seen.video_packets += 1
            if seen.frame is None and seen.video_packets <= _FIRST_FRAME_PACKETS:
                seen.frame = next(iter(media.decode(video.codec_context, packet, damage)), None)
        else:
            seen.audio_packets += 1
    if video is not None and seen.frame is None:
        seen.frame = next(iter(media.decode(video.codec_context, None, damage)), None)
    if seen.frame is not None:
        _check_pixels(seen.frame.width, seen.frame.height, limits)
    elif damage.refused:
        raise _too_large("The picture is larger than can be handled.", _SMALLER)
    return seen


def _check_found(container: Any, video: Any, audio: Any) -> None:
    if video is not None or audio is not None:
        return
    moving = [s for s in (*container.streams.video, *container.streams.audio) if not _is_still(s)]
    if moving:
        raise TaskError(
            ErrorKind.UNREADABLE,
            "Not a single picture or sound of this file could be read.",
            "Play it on a computer; if it plays, export it as MP4 (H.264) and drop that; if not, copy it again.",
        )
    raise TaskError(
        ErrorKind.NOT_VIDEO,
        "There is neither a moving picture nor sound in this file.",
        "Put the recording itself into the inbox.",
    )


def _is_still(stream: Any) -> bool:
    return stream.type == "video" and media.is_cover(stream)


def _notes(container: Any, video: Any, audio: Any, seen: _Seen, damage: media.Damage) -> tuple[str, ...]:
    notes = []
    real = [s for s in container.streams.video if not media.is_cover(s)]
    if len(real) < len(container.streams.video):
        notes.append("A cover picture was left out.")
    if not real:
        notes.append("There is no moving picture, only sound.")
    elif video is None or seen.frame is None:
        notes.append("The picture track cannot be decoded.")
    if container.streams.audio and (audio is None or not seen.audio_packets):
        notes.append("The sound track cannot be decoded.")
    claimed = (container.duration or 0) / 1_000_000
    if claimed > seen.end_s + max(2.0, 0.02 * seen.end_s):
        notes.append(f"The file promises {claimed:.0f} s but holds {seen.end_s:.0f} s.")
    if damage.jumps:
        notes.append(f"The file's clock leaps in {damage.jumps} places; times were rebuilt.")
    if damage.packets:
        notes.append(f"{damage.packets} damaged spots were passed over.")
    return tuple(notes)


_TEXTS = {
    "en": (
        "the container's own description was read",
        "Only the description inside the file was read; pictures, writing and speech were not studied.",
    ),
    "zh": ("只读取了文件自带的说明", "只读取了文件自带的说明；没有分析画面、文字和语音。"),
}


class ProbeAnalyzer:
    """Reports what the container says, and that nothing else was studied. For trials and for trouble-shooting."""

    name = "probe"
    takes_links = False

    def analyze(self, bench: Workbench) -> Analysis:
        """Title and chapters from the container; never decodes anything. Raises `TaskError` like `probe`."""
        facts = bench.facts
        title = facts.title or PurePath(bench.name).stem
        bench.progress("probe", 0.0)
        with media.open_media(bench.source) as container:
            chapters = media.container_chapters(container, facts.duration_s)
        if not chapters:
            chapters = (Chapter(start_s=0.0, end_s=facts.duration_s, title=title),)
        bench.progress("probe", 1.0)
        how, gap = _TEXTS["zh" if bench.language.startswith("zh") else "en"]
        return Analysis(
            title=title,
            language="und" if bench.language == "auto" else bench.language,
            duration_s=facts.duration_s,
            chapters=chapters,
            steps=(Step(name="probe", how=how),),
            gaps=(gap, *facts.notes),
        )

    def discard(self, kept: Mapping[str, bytes]) -> None:
        """Nothing lies elsewhere."""
