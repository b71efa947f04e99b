"""Makes a lecture whose truth is known: OUT.mp4, and beside it OUT.truth.json.

    python tests/media/make_lecture.py OUT.mp4 --language en --seed 1 --variant plain

Tests and benchmarks compare what gsvrd finds with the truth file: when slides change, what stands on them, what is
said and when. The same seed, fonts and speech engine give the same lecture. Needs Pillow and PyAV, and Debian packages
for fonts and speech; says which one is missing.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from lecture_slides import DARK, HEIGHT, THEMES, WIDTH, MissingFontError, Slide, Theme, draw
from lecture_speech import RATE, MissingVoiceError, Samples, Voice, find_voice
from lecture_text import LESSONS, Lesson, Page
from numpy.typing import NDArray

FPS = 25
LEAD_S = 0.8
"""Silence between a slide's appearance and its first word."""
PAUSE_S = 0.45
"""Silence after each sentence."""
TAIL_S = 0.9
"""More silence before the next slide."""

VARIANTS = {
    "plain": "whole slides, hard cuts",
    "builds": "bullets appear when they are spoken about",
    "pip": "a moving head in the corner and a mouse pointer",
    "noise": "dark slides under camera noise",
    "no-keyframes": "one key frame in the whole file",
    "chapters": "the container has a chapter for each slide",
    "silent": "no audio track",
}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A spoken sentence; times in seconds."""

    start_s: float
    end_s: float
    text: str
    slide: int


@dataclass(frozen=True, slots=True)
class ShownSlide:
    """A slide with the stretch of time it is on the screen; `line_s` says when each line appears."""

    start_s: float
    end_s: float
    lesson: str
    title: str
    lines: tuple[str, ...]
    line_s: tuple[float, ...]
    drawing: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What is in the lecture; `OUT.truth.json` is this as JSON."""

    title: str
    language: str
    seed: int
    variant: str
    speech: str
    captions: bool
    duration_s: float
    fps: int
    width: int
    height: int
    slides: tuple[ShownSlide, ...]
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """A stretch during which the slide does not change."""

    start_frame: int
    end_frame: int
    picture: Pixels


def make(
    target: Path, language: str, seed: int, variant: str = "plain", lessons: int = 1, captions: bool = False
) -> Truth:
    """Write the lecture and its truth file; the folder must exist.

    Raises `MissingFontError` or `MissingVoiceError` with the name of the package to install.
    """
    rng = random.Random(f"{language} {seed}")
    chosen = _choose(rng, language, seed, lessons)
    voice = Voice("none", language) if variant == "silent" else find_voice(language)
    truth, sound = _plan(chosen, voice, seed, variant, captions)
    theme = DARK if variant == "noise" else rng.choice(THEMES)
    _write_video(target, truth, _scenes(truth, theme), sound)
    target.with_suffix(".truth.json").write_text(
        json.dumps(asdict(truth), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    return truth


def _choose(rng: random.Random, language: str, seed: int, count: int) -> list[Lesson]:
    """`count` lessons in a row, beginning at the seed's; now and then a page loses a point, so that seeds differ."""
    table = LESSONS[language]
    return [_vary(rng, table[(seed - 1 + number) % len(table)]) for number in range(count)]


def _vary(rng: random.Random, lesson: Lesson) -> Lesson:
    pages = []
    for page in lesson.pages:
        dropped = rng.choice(page.points) if rng.random() < 0.2 else None
        pages.append(replace(page, points=tuple(point for point in page.points if point is not dropped)))
    return replace(lesson, pages=tuple(pages))


def _plan(lessons: list[Lesson], voice: Voice, seed: int, variant: str, captions: bool) -> tuple[Truth, Samples]:
    """Speak every page and reckon the times; slides change on a frame."""
    slides: list[ShownSlide] = []
    sentences: list[Sentence] = []
    sound: list[Samples] = []
    start = 0.0
    for lesson, page in [(each, page) for each in lessons for page in each.pages]:
        spoken, samples, end = _speak_page(page, voice, start, len(slides))
        appears = [sentence.start_s if variant == "builds" else start for sentence in spoken[1:]]
        lines, line_s = tuple(bullet for bullet, _ in page.points), tuple(_on_frame(at) for at in appears)
        slides.append(ShownSlide(start, end, lesson.title, page.title, lines, line_s, page.drawing))
        sentences += spoken
        sound.append(samples)
        start = end
    truth = Truth(
        title=" / ".join(lesson.title for lesson in lessons),
        language=voice.language,
        seed=seed,
        variant=variant,
        speech=voice.engine,
        captions=captions,
        duration_s=start,
        fps=FPS,
        width=WIDTH,
        height=HEIGHT,
        slides=tuple(slides),
        sentences=tuple(sentences),
    )
    return truth, np.concatenate(sound)


def _speak_page(page: Page, voice: Voice, start: float, slide: int) -> tuple[list[Sentence], Samples, float]:
    """The sentences of a page with times, its sound, and when the page ends."""
    spoken: list[Sentence] = []
    sound = [_silence(LEAD_S)]
    for text in (page.opening, *(sentence for _, sentence in page.points)):
        at = start + _seconds(sound)
        sound.append(voice.speak(text))
        spoken.append(Sentence(round(at, 3), round(start + _seconds(sound), 3), text, slide))
        sound.append(_silence(PAUSE_S))
    end = _on_frame(start + _seconds(sound) + TAIL_S)
    missing = round((end - start) * RATE) - sum(len(part) for part in sound)
    sound.append(np.zeros(missing, np.int16))
    return spoken, np.concatenate(sound), end


def _silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.int16)


def _seconds(sound: list[Samples]) -> float:
    return sum(len(part) for part in sound) / RATE


def _on_frame(seconds: float) -> float:
    return round(seconds * FPS) / FPS


def _scenes(truth: Truth, theme: Theme) -> Iterator[Scene]:
    """The pictures in order, drawn when they are asked for."""
    for number, shown in enumerate(truth.slides, 1):
        edges = [shown.start_s, *sorted({at for at in shown.line_s if at > shown.start_s}), shown.end_s]
        for start, end in itertools.pairwise(edges):
            lines = tuple(line for line, at in zip(shown.lines, shown.line_s, strict=True) if at <= start)
            slide = Slide(shown.lesson, shown.title, lines, shown.drawing, number, len(truth.slides))
            picture = np.asarray(draw(slide, theme, truth.language))
            yield Scene(round(start * FPS), round(end * FPS), picture)


def _write_video(target: Path, truth: Truth, scenes: Iterator[Scene], sound: Samples) -> None:
    """Encode and mux; one thread each, so that the bytes are the same every time."""
    with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        out.metadata["title"] = truth.title
        video = out.add_stream("libx264", rate=FPS, options=_x264_options(truth.variant))
        video.width, video.height, video.pix_fmt, video.thread_count = WIDTH, HEIGHT, "yuv420p", 1
        audio = None
        if truth.variant != "silent":
            audio = out.add_stream("aac", rate=RATE, layout="mono")
            audio.bit_rate = 48_000
            audio.metadata["language"] = {"en": "eng", "zh": "zho"}[truth.language]
        text = out.add_mux_stream("mov_text") if truth.captions else None
        if text is not None:
            text.metadata["language"] = {"en": "eng", "zh": "zho"}[truth.language]
        if truth.variant == "chapters":
            out.set_chapters(_chapters(truth))
        tracks = [_video_packets(video, _frames(truth, scenes))]
        if audio is not None:
            tracks.append(_audio_packets(audio, sound))
        if text is not None:
            tracks.append(_caption_packets(text, truth))
        for packet in heapq.merge(*tracks, key=_decode_time):
            out.mux(packet)


def _decode_time(packet: av.Packet[Any]) -> Fraction:
    """What tracks are interleaved by."""
    return Fraction(packet.dts or 0) * packet.time_base


def _x264_options(variant: str) -> dict[str, str]:
    options = {"preset": "veryfast", "tune": "stillimage", "crf": "25"}
    if variant == "noise":
        options |= {"crf": "30", "tune": "film"}
    if variant == "no-keyframes":
        options["x264-params"] = "keyint=infinite:scenecut=0"
    return options


def _frames(truth: Truth, scenes: Iterator[Scene]) -> Iterator[av.VideoFrame]:
    """Every frame of the video, with what the variant lays over the slides."""
    noise = _noise(truth.seed) if truth.variant == "noise" else None
    for scene in scenes:
        still = _to_frame(scene.picture)
        for number in range(scene.start_frame, scene.end_frame):
            frame = still
            if noise is not None:
                frame = _to_frame(np.clip(scene.picture + noise[number * 5 % len(noise)], 0, 255).astype(np.uint8))
            elif truth.variant == "pip":
                frame = _to_frame(_with_speaker(scene.picture, number))
            frame.pts = number
            frame.time_base = Fraction(1, FPS)
            yield frame


def _noise(seed: int) -> NDArray[np.int16]:
    """Eight pictures of camera noise."""
    return np.random.default_rng(seed).normal(0, 9, (8, HEIGHT, WIDTH, 1)).astype(np.int16)


def _to_frame(picture: Pixels) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")


def _with_speaker(picture: Pixels, number: int) -> Pixels:
    """A head that nods in the lower right corner, and a pointer that wanders."""
    copy = picture.copy()
    top, left, high, wide = HEIGHT - 210, WIDTH - 260, 200, 250
    y, x = np.mgrid[0:high, 0:wide]
    box = np.empty((high, wide, 3), np.uint8)
    box[:] = (70, 90, 110)
    sway = 10 * np.sin(number / 9)
    head = ((x - wide / 2 - sway) / 42) ** 2 + ((y - 85 - 4 * np.sin(number / 4)) / 54) ** 2 < 1
    body = ((x - wide / 2 - sway / 2) / 90) ** 2 + ((y - high) / 66) ** 2 < 1
    mouth = ((x - wide / 2 - sway) / 16) ** 2 + ((y - 112) / (3 + 5 * abs(np.sin(number / 2)))) ** 2 < 1
    for shape, colour in ((body, (150, 60, 60)), (head, (225, 185, 155)), (mouth, (120, 40, 40))):
        box[shape] = colour
    copy[top : top + high, left : left + wide] = box
    row, column = int(400 + 150 * np.sin(number / 47)), int(500 + 300 * np.sin(number / 71))
    copy[row : row + 16, column : column + 10] = (20, 20, 20)
    return copy


def _video_packets(stream: av.VideoStream, frames: Iterator[av.VideoFrame]) -> Iterator[av.Packet[Any]]:
    for frame in frames:
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _audio_packets(stream: av.AudioStream, sound: Samples) -> Iterator[av.Packet[Any]]:
    step = 1024
    for start in range(0, len(sound), step):
        frame = av.AudioFrame.from_ndarray(sound[None, start : start + step], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _caption_packets(stream: av.stream.Stream, truth: Truth) -> Iterator[av.Packet[Any]]:
    """3GPP timed text: two bytes of length, then UTF-8."""
    for sentence in truth.sentences:
        text = sentence.text.encode()
        packet = av.Packet(len(text).to_bytes(2, "big") + text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = round(sentence.start_s * 1000)
        packet.duration = round((sentence.end_s - sentence.start_s) * 1000)
        yield packet


def _chapters(truth: Truth) -> list[av.container.Chapter]:
    return [
        {
            "id": number,
            "start": round(slide.start_s * 1000),
            "end": round(slide.end_s * 1000),
            "time_base": Fraction(1, 1000),
            "metadata": {"title": slide.title},
        }
        for number, slide in enumerate(truth.slides)
    ]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make a lecture whose truth is known.")
    parser.add_argument("target", type=Path, metavar="OUT.mp4")
    parser.add_argument("--language", choices=sorted(LESSONS), default="en")
    parser.add_argument("--seed", type=int, default=1)
    known = "; ".join(f"{name}: {meaning}" for name, meaning in VARIANTS.items())
    parser.add_argument("--variant", choices=list(VARIANTS), default="plain", help=known)
    parser.add_argument("--lessons", type=int, default=1, help="so many lessons in a row, for long videos")
    parser.add_argument(
        "--captions",
        action=argparse.BooleanOptionalAction,
        help="an embedded subtitle track (default: only in Chinese)",
    )
    asked = parser.parse_args()
    captions = asked.language == "zh" if asked.captions is None else asked.captions
    try:
        truth = make(asked.target, asked.language, asked.seed, asked.variant, asked.lessons, captions)
    except (MissingFontError, MissingVoiceError) as error:
        print(f"make_lecture: {error}", file=sys.stderr)
        return 69
    size = asked.target.stat().st_size
    print(f"{asked.target}: {truth.title}, {truth.duration_s:.1f} s, {len(truth.slides)} slides, {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
