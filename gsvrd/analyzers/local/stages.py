"""The three expensive stages. Each returns plain data that a later attempt can take up instead of working again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from gsvrd.analysis import Chapter, Fact, Line, Picture
from gsvrd.analyzers.base import Workbench
from gsvrd.analyzers.local import media, ocr, pictures, slides, subtitles
from gsvrd.analyzers.local.film import Film, Sizes, Track, walk
from gsvrd.analyzers.local.speech import Listener

_MAX_PARTS = 40
_BEFORE_CHANGE_S = 0.3
_SETTLED_S = 1.5
"""What fades in is there after this time."""
_MAX_LINES = 40
_MAX_POINTS = 8
_BULLETS = "•·●▪◦‣○■□–—-*>+ \t"


class Slides(Fact):
    """Chapters with pictures; titles still empty unless the file names them."""

    chapters: tuple[Chapter, ...]
    how: str
    """Key in `words` of how they were found."""
    damaged: int = 0
    lost: int = 0
    """Chapters whose picture could not be decoded."""


class Writing(Fact):
    """The same chapters with what was read from their pictures."""

    chapters: tuple[Chapter, ...]
    gap: str = ""
    read: int = 0


class Speech(Fact):
    """The transcript, and where it is from (a key in `words`)."""

    lines: tuple[Line, ...] = ()
    how: str = ""
    gap: str = ""
    damaged: int = 0


def _ticker(bench: Workbench, step: str, from_: float, to: float) -> Callable[[float], None]:
    """A callback that turns seconds of video into progress from one fraction to another."""
    length = max(bench.facts.duration_s, 0.001)
    return lambda at_s: bench.progress(step, from_ + (to - from_) * min(1.0, at_s / length))


def find_slides(bench: Workbench) -> Slides:
    """Cut the video into chapters and write a picture for each. Raises `TaskError` when it cannot be opened."""
    bench.progress("slides", 0.0)
    duration = bench.facts.duration_s
    with media.open_media(bench.source) as container:
        named = media.container_chapters(container, duration)
    if not bench.facts.video_codec:
        return Slides(chapters=named or _parts(duration), how="by_chapters" if named else "by_sound")
    damage = media.Damage()
    track = walk(bench.source, damage, bench.threads, _ticker(bench, "slides", 0.0, 0.6))
    with Film(bench.source, track, bench.threads) as film:
        chapters, how, times = _cut(named, track, film, duration)
        shown = [_picture(bench, film, number, at) for number, at in enumerate(times, 1)]
    bench.progress("slides", 1.0)
    pictured = tuple(c.model_copy(update={"picture": p}) for c, p in zip(chapters, shown, strict=True))
    return Slides(chapters=pictured, how=how, damaged=damage.packets, lost=shown.count(None))


def _cut(
    named: tuple[Chapter, ...], track: Track, film: Film, duration: float
) -> tuple[tuple[Chapter, ...], str, list[float]]:
    """Chapters, how they were found, and the moment of each one's picture."""
    sizes = Sizes(track)
    if named:
        return named, "by_chapters", [_built(track, sizes, c.start_s, c.end_s) for c in named]
    deck = slides.find_slides(track, film, duration)
    if deck.live or (len(deck.starts) == 1 and duration > 90):
        parts = _parts(duration)
        return parts, "by_parts", [_sharpest(track, c.start_s, c.end_s) for c in parts]
    ends = [*deck.starts[1:], duration]
    found = tuple(Chapter(start_s=a, end_s=b, title="") for a, b in zip(deck.starts, ends, strict=True))
    return found, "by_slides", [_built(track, sizes, c.start_s, c.end_s) for c in found]


def _parts(duration: float) -> tuple[Chapter, ...]:
    """Even parts of about a minute."""
    count = min(_MAX_PARTS, max(1, round(duration / 60)))
    edges = [round(duration * i / count, 2) for i in range(count)] + [duration]
    return tuple(Chapter(start_s=a, end_s=b, title="") for a, b in pairwise(edges))


def _built(track: Track, sizes: Sizes, start: float, end: float) -> float:
    """The moment at which a slide is complete: its last key frame, or later if something was added after that."""
    late = max(start, end - _BEFORE_CHANGE_S)
    keys = [s.at_s for s in track.stills if start + _BEFORE_CHANGE_S <= s.at_s <= late]
    if track.sampled or not keys:
        return late
    added = sizes.spikes(keys[-1], late)
    return min(late, added[-1] + _SETTLED_S) if added else keys[-1]


def _sharpest(track: Track, start: float, end: float) -> float:
    inside = [s for s in track.stills if start <= s.at_s < end]
    return max(inside, key=lambda s: pictures.sharpness(s.gray)).at_s if inside else (start + end) / 2


def _picture(bench: Workbench, film: Film, number: int, at_s: float) -> Picture | None:
    frame = film.frame_at(at_s)
    bench.progress("slides", 0.6 + 0.4 * at_s / max(bench.facts.duration_s, 0.001))
    return None if frame is None else pictures.save(frame, bench.assets, number, at_s)


def read_writing(bench: Workbench, found: Slides, reader: ocr.SlideReader | None) -> Writing:
    """Read the pictures of the chapters, and name the chapters by what is written there."""
    bench.progress("text", 0.0)
    if reader is None or not reader.available():
        return Writing(chapters=found.chapters, gap="text_off" if reader is None else "text_not_installed")
    written: list[list[ocr.Written]] = []
    for number, chapter in enumerate(found.chapters, 1):
        path = bench.assets / chapter.picture.file if chapter.picture else None
        written.append(reader.read(path, bench.threads) if path is not None and path.is_file() else [])
        bench.progress("text", number / len(found.chapters))
    furniture = ocr.furniture_of(written)
    chapters = tuple(_named(c, lines, furniture) for c, lines in zip(found.chapters, written, strict=True))
    pictured = sum(c.picture is not None for c in chapters)
    return Writing(chapters=chapters, read=pictured, gap="" if any(written) or not pictured else "no_text")


def _named(chapter: Chapter, lines: list[ocr.Written], furniture: frozenset[str]) -> Chapter:
    own = [w.text for w in lines if ocr.pattern_of(w.text) not in furniture]
    title = ocr.title_of(lines, furniture)
    points = [text.lstrip(_BULLETS) for text in own if text != title and _says_something(text)]
    update: dict[str, Any] = {
        "title": chapter.title or title,
        "slide_text": tuple(own[:_MAX_LINES]),
        "key_points": tuple(points[:_MAX_POINTS]),
    }
    return chapter.model_copy(update=update)


def _says_something(text: str) -> bool:
    plain = text.lstrip(_BULLETS)
    return sum(c.isalpha() for c in plain) >= 4


def hear(bench: Workbench, listener: Listener | None) -> Speech:
    """The transcript: subtitles beside the video, subtitles inside it, or recognised speech."""
    bench.progress("speech", 0.0)
    damage = media.Damage()
    tick = _ticker(bench, "speech", 0.0, 1.0)
    if lines := _inside(bench, subtitles.from_files(list(bench.sidecars))):
        return Speech(lines=lines, how="from_file")
    if bench.facts.subtitle_languages:
        wanted = bench.facts.audio_language if bench.language == "auto" else bench.language
        if lines := _inside(bench, subtitles.from_track(bench.source, wanted, damage, tick)):
            return Speech(lines=lines, how="from_track", damaged=damage.packets)
    if not bench.facts.audio_codec:
        return Speech(gap="no_sound")
    if listener is None:
        return Speech(gap="speech_off")
    heard = listener.listen(bench.source, damage, bench.threads, tick)
    bench.progress("speech", 1.0)
    lines = _inside(bench, heard.lines)
    return Speech(lines=lines, how="from_speech" if lines else "", gap=heard.gap, damaged=damage.packets)


def _inside(bench: Workbench, lines: list[Line] | tuple[Line, ...]) -> tuple[Line, ...]:
    """The lines that fall into the video."""
    end = bench.facts.duration_s
    return tuple(x.model_copy(update={"end_s": min(x.end_s, end)}) for x in lines if x.start_s < end)
