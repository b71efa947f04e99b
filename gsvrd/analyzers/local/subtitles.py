"""Turns subtitles into transcript lines: files beside the video, or a text track in it. Broken ones fail nothing."""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Callable
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

from gsvrd.analysis import Line
from gsvrd.analyzers.local import media

_MAX_BYTES = 20_000_000
_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_CUE = re.compile(rf"^\s*{_TIME}\s*-+>\s*{_TIME}")
_SPEAKER = re.compile(r"^\s*<v(?:\.[\w.]+)?\s+([^>]{1,60})>")
_MARKUP = re.compile(r"<[^<>\n]{0,200}>|\{\\[^{}\n]{0,200}\}")
_ASS_FIELDS = 8
_TEXT_CODECS = {"mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text"}


def decode_text(raw: bytes) -> str:
    """Text of unknown encoding: by its mark, UTF-8, UTF-16 without mark, GBK, and at last Western European."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace")
    head = raw[:400]
    if head.count(0) > len(head) // 5:
        return raw.decode("utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        if raw.startswith(codecs.BOM_UTF8):
            return raw.decode("utf-8-sig", "replace")
    high = len(re.findall(rb"[\x80-\xff]", raw))
    paired = 2 * len(re.findall(rb"[\xa1-\xf7][\xa1-\xfe]", raw))
    if paired >= 0.85 * high:  # Chinese characters are two high bytes; an accent stands alone
        return raw.decode("gb18030", "replace")
    return raw.decode("cp1252" if high < 0.2 * len(raw) else "utf-8", "replace")


def parse(text: str) -> list[Line]:
    """The cues of an SRT or WebVTT text, in order of time; what makes no sense is left out."""
    lines: list[Line] = []
    rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    marks = [(i, m) for i, row in enumerate(rows) if (m := _CUE.match(row))]
    ends = [i for i, _ in marks[1:]] + [len(rows)] * bool(marks)
    for (i, mark), end_row in zip(marks, ends, strict=True):
        body = rows[i + 1 : end_row]
        if end_row < len(rows) and body and body[-1].strip().isdigit():
            body = body[:-1]  # the number of the next cue
        start, end = _seconds(*mark.groups()[:4]), _seconds(*mark.groups()[4:])
        _append(lines, start, end, "\n".join(_first_paragraph(body)))
    return _tidy(lines)


def _first_paragraph(body: list[str]) -> list[str]:
    """The rows up to the first blank one; what follows is a note or the name of the next cue."""
    started = list(dropwhile(lambda row: not row.strip(), body))
    return list(takewhile(lambda row: bool(row.strip()), started))


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")


def _append(lines: list[Line], start: float, end: float, body: str) -> None:
    speaker = _SPEAKER.match(body)
    plain = html.unescape(_MARKUP.sub("", body))
    text = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    if text:
        who = speaker.group(1).strip() if speaker else ""
        lines.append(Line(start_s=start, end_s=max(start, end), text=text, speaker=who))


def _tidy(lines: list[Line]) -> list[Line]:
    """In order of time, and without the repeats of captions that roll up line by line."""
    tidy: list[Line] = []
    for line in sorted(lines, key=lambda x: (x.start_s, x.end_s)):
        if tidy and line.start_s - tidy[-1].end_s < 0.5:
            if line.text == tidy[-1].text:
                tidy[-1] = tidy[-1].model_copy(update={"end_s": max(tidy[-1].end_s, line.end_s)})
                continue
            if line.text.startswith(tidy[-1].text + " "):
                line = line.model_copy(update={"text": line.text[len(tidy[-1].text) + 1 :]})
        tidy.append(line)
    return tidy


def from_files(files: list[Path]) -> list[Line]:
    """The first file that holds any cue."""
    for path in files:
        try:
            with path.open("rb") as file:
                raw = file.read(_MAX_BYTES)
        except OSError:
            continue
        if lines := parse(decode_text(raw)):
            return lines
    return []


def from_track(source: str, language: str, damage: media.Damage, tick: Callable[[float], None]) -> list[Line]:
    """The text track of the video in `language` (or the first one), forced-only tracks left out."""
    with media.open_media(source) as container:
        stream = _best_track(container, language)
        if stream is None:
            return []
        lines: list[Line] = []
        timeline = media.Timeline(media.start_of(container), damage)
        for packet in media.packets(container, [stream], timeline):
            start = media.seconds(packet)
            end = start + float((packet.duration or 0) * packet.time_base)
            for rect in _rects(stream.codec_context, packet, damage):
                _append(lines, start, end, _ass_text(rect))
            tick(start)
        return _tidy(lines)


def _best_track(container: Any, language: str) -> Any | None:
    from av.stream import Disposition

    tracks = [
        s
        for s in container.streams.subtitles
        if s.codec_context is not None
        and s.codec_context.name in _TEXT_CODECS
        and not s.disposition & Disposition.forced
    ]
    wanted = {"zh": ("zh", "chi", "zho"), "en": ("en", "eng")}.get(language[:2], (language[:2],))
    return next((s for s in tracks if (s.language or "") in wanted), tracks[0] if tracks else None)


def _rects(context: Any, packet: Any, damage: media.Damage) -> list[Any]:
    import av

    try:
        found = context.decode2(packet)
    except av.FFmpegError:
        damage.packets += 1
        return []
    return [rect for rect in (found or ()) if getattr(rect, "type", b"") in (b"ass", b"text", "ass", "text")]


def _ass_text(rect: Any) -> str:
    raw = rect.ass or getattr(rect, "text", b"")
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    return text.split(",", _ASS_FIELDS)[-1].replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")
