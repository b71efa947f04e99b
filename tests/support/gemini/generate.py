"""countTokens and generateContent: what a request holds, what it weighs, what is answered and what that costs.

`service` calls it: `read` and `weigh` first (both may raise `Refusal`), then `answer`. Nothing is kept here.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import lessons, refusals
from .faults import Fault, Kind
from .files import File, duration_s
from .rules import Model, Rules
from .schema import LESSON, Filler, clock, clock_asked

_SCHEMAS = ("responseSchema", "responseJsonSchema", "response_schema", "response_json_schema")
_FILE = re.compile(r"/(files/[a-z0-9-]+)$")
_YOUTUBE = re.compile(r"https://www\.youtube\.com/watch\?v=([A-Za-z0-9_-]{11})")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_MILLION = 1_000_000
_FINISHES = {Kind.SAFETY: "SAFETY", Kind.RECITATION: "RECITATION", Kind.MAX_TOKENS_EMPTY: "MAX_TOKENS"}
_LATE = 10.0
"""Times of `LATE_TIMES` lie so many lengths of the video behind its end."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One video part; `end_s` is None for its end."""

    name: str
    fps: float = 1.0
    start_s: float = 0.0
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, read: both spellings of the names are the same."""

    text: str
    """All prompt texts and the system instruction."""
    orders: str
    """The system instruction, and below it what the user says first: later turns quote and mend."""
    clips: tuple[Clip, ...]
    schema: Mapping[str, Any] | None
    wants_json: bool
    max_output_tokens: int | None
    thinking_budget: int | None
    thinking_level: str
    temperature: float | None
    resolution: str
    flex: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply's JSON and what is booked for it."""

    body: dict[str, Any]
    output_tokens: int
    usd: float


@dataclass(frozen=True, slots=True)
class Video:
    """A part of a file that is looked at: seconds from the file's start."""

    file: File | None
    from_s: float
    to_s: float


@dataclass
class _Made:
    """An answer in the making."""

    text: str | None
    finish: str = "STOP"
    thoughts: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


def read(body: Mapping[str, Any]) -> Ask:
    """Take a request apart. Raises `Refusal` when it asks nothing."""
    inner = camel(body)
    inner = inner.get("generateContentRequest", inner)
    parts = list(_parts(inner.get("contents")))
    if not parts:
        raise refusals.bad_request("GenerateContentRequest.contents: contents is not specified")
    settings = inner.get("generationConfig") or {}
    schema = settings.get("responseJsonSchema") or settings.get("responseSchema")
    told = [part["text"] for part in [*parts, *_parts(inner.get("systemInstruction"))] if "text" in part]
    thinking = settings.get("thinkingConfig") or {}
    budget = thinking.get("thinkingBudget")
    if str(thinking.get("thinkingLevel", "")).upper() in ("MINIMAL", "LOW"):
        budget = 0
    system = list(_parts(inner.get("systemInstruction")))
    first = _list(inner.get("contents"))[:1]
    return Ask(
        text="\n".join(told),
        orders="\n".join(part["text"] for part in [*system, *_parts(first)] if "text" in part),
        clips=tuple(_clip(part) for part in parts if "fileData" in part),
        schema=schema,
        wants_json=settings.get("responseMimeType") == "application/json",
        max_output_tokens=settings.get("maxOutputTokens"),
        thinking_budget=budget,
        thinking_level=str(thinking.get("thinkingLevel") or ""),
        temperature=settings.get("temperature"),
        resolution=str(settings.get("mediaResolution") or ""),
        flex=str(inner.get("serviceTier") or "").lower() == "flex",
    )


def videos(rules: Rules, ask: Ask, found: list[File]) -> list[Video]:
    """What is looked at of each file, in the order of the clips."""
    made = []
    for clip, file in zip(ask.clips, found, strict=True):
        whole = duration_s(rules, file)
        end = whole if clip.end_s is None else min(clip.end_s, whole)
        made.append(Video(file, min(clip.start_s, end), end))
    return made


def weigh(model: Model, ask: Ask, seen: list[Video]) -> int:
    """Prompt tokens. Raises `Refusal` beyond the model's context, and for what the model does not know."""
    if ask.thinking_level and not model.has_levels:
        raise refusals.bad_request("Thinking level is not supported for this model.")
    frame = model.frame_tokens
    if "LOW" in ask.resolution:
        frame = model.frame_tokens_low
    if "HIGH" in ask.resolution:
        frame = model.frame_tokens_high
    tokens = text_tokens(ask.text)
    for clip, video in zip(ask.clips, seen, strict=True):
        length = video.to_s - video.from_s
        tokens += math.ceil(length * clip.fps) * frame + math.ceil(length * model.sound_tokens)
    if tokens > model.input_limit:
        raise refusals.bad_request(
            f"The input token count ({tokens}) exceeds the maximum number of tokens allowed ({model.input_limit})."
        )
    return tokens


def counted(tokens: int, ask: Ask) -> dict[str, Any]:
    """The reply of countTokens."""
    return {"totalTokens": tokens, "promptTokensDetails": _details(tokens, ask)}


def answer(rules: Rules, name: str, ask: Ask, seen: list[Video], prompt_tokens: int, fault: Fault | None) -> Answer:
    """The reply of generateContent, spoilt as `fault` says."""
    asked = rules.models[name]
    served = asked.served_as or name
    model = rules.models[served]
    made = _spoilt(_made(rules, ask, seen, fault), fault)
    _cut(made, ask.max_output_tokens or model.output_limit)
    spoken = text_tokens(made.text or "")
    usage = {
        "promptTokenCount": prompt_tokens,
        "candidatesTokenCount": spoken,
        "thoughtsTokenCount": made.thoughts,
        "totalTokenCount": prompt_tokens + spoken + made.thoughts,
        "promptTokensDetails": _details(prompt_tokens, ask),
    }
    body: dict[str, Any] = {"usageMetadata": usage, "modelVersion": served, "responseId": secrets.token_urlsafe(12)}
    body.update(made.extra or {"candidates": [_candidate(made)]})
    output = spoken + made.thoughts
    usd = (prompt_tokens * model.input_usd + output * model.output_usd) / _MILLION
    return Answer(body, output, usd * (0.5 if ask.flex else 1.0))


def text_tokens(text: str) -> int:
    """One for a Chinese character, one for four others."""
    han = len(_HAN.findall(text))
    return han + math.ceil((len(text) - han) / 4)


def mark_of(file: File | None) -> str:
    """Eight digits of the video's hash: they stand in the title, so an answer shows whose it is."""
    return file.sha256[:8] if file else "00000000"


def _made(rules: Rules, ask: Ask, seen: list[Video], fault: Fault | None) -> _Made:
    video = seen[0] if seen else Video(None, 0.0, rules.default_duration_s)
    hint = video.file.hints.get("lang", "") if video.file else ""
    language = rules.language or lessons.language_asked(ask.orders, hint)
    shift = 0.0
    if fault and fault.kind is Kind.OTHER_LANGUAGE:
        language = "en" if language == "zh" else "zh"
    if fault and fault.kind is Kind.LATE_TIMES:
        shift = _LATE * max(video.to_s, 1.0)
    thoughts = (
        rules.thoughts_tokens
        if ask.thinking_budget in (None, -1)
        else min(rules.thoughts_tokens, int(ask.thinking_budget or 0))
    )
    if ask.wants_json or ask.schema:
        style = clock_asked(ask.text + json.dumps(ask.schema or {}))
        filler = Filler(ask.schema or LESSON, language, mark_of(video.file), style)
        value = filler.fill(video.from_s + shift, video.to_s + shift)
        return _Made(json.dumps(value, ensure_ascii=False), thoughts=thoughts)
    return _Made(_prose(language, video, shift), thoughts=thoughts)


def _prose(language: str, video: Video, shift: float) -> str:
    """A transcript for people: a title, then lines with times."""
    lines = [lessons.title(language, mark_of(video.file)), ""]
    step = (video.to_s - video.from_s) / 6
    for number in range(6):
        at = clock("{all_m:02}:{s:02}", video.from_s + step * number + shift)
        lines.append(f"[{at}] {lessons.speaker(language)}: {lessons.sentence(language, number)}")
    return "\n".join(lines)


def _spoilt(made: _Made, fault: Fault | None) -> _Made:
    text = made.text or ""
    match fault.kind if fault else None:
        case Kind.BAD_JSON:
            made.text = text[:-1] + ', "broken": ]'
        case Kind.FENCED_JSON:
            made.text = f"```json\n{text}\n```"
        case Kind.TEXT:
            made.text = fault.text if fault else ""
        case Kind.REPETITION:
            made.text = text[: len(text) // 2] + " again and again" * 400
        case Kind.MAX_TOKENS:
            made.text, made.finish = text[: len(text) // 2], "MAX_TOKENS"
        case Kind.SAFETY | Kind.RECITATION | Kind.MAX_TOKENS_EMPTY as kind:
            made.text, made.finish = None, _FINISHES[kind]
        case Kind.FINISH:
            made.text, made.finish = None, fault.text if fault else ""
        case Kind.PROMPT_BLOCKED:
            made.text, made.extra = None, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        case Kind.NO_CANDIDATES:
            made.text, made.extra = None, {"candidates": []}
    return made


def _cut(made: _Made, limit: int) -> None:
    """Thoughts are spent before text, so a small limit can leave no text at all."""
    if made.text is None or made.thoughts + text_tokens(made.text) <= limit:
        return
    made.finish = "MAX_TOKENS"
    made.thoughts = min(made.thoughts, limit)
    room = limit - made.thoughts
    text = made.text
    while text_tokens(text) > room:
        text = text[: min(len(text) - 1, int(len(text) * room / text_tokens(text)))]
    made.text = text or None


def _candidate(made: _Made) -> dict[str, Any]:
    content: dict[str, Any] = {"role": "model"}
    if made.text is not None:
        content["parts"] = [{"text": made.text}]
    return {"content": content, "finishReason": made.finish, "index": 0}


def _details(tokens: int, ask: Ask) -> list[dict[str, Any]]:
    text = min(text_tokens(ask.text), tokens)
    made = [{"modality": "TEXT", "tokenCount": text}]
    if ask.clips:
        made.append({"modality": "VIDEO", "tokenCount": tokens - text})
    return made


def _parts(contents: Any) -> Iterator[dict[str, Any]]:
    for content in _list(contents):
        yield from (part for part in content.get("parts") or [] if isinstance(part, dict))


def _list(contents: Any) -> list[dict[str, Any]]:
    return [one for one in (contents if isinstance(contents, list) else [contents]) if isinstance(one, dict)]


def _clip(part: Mapping[str, Any]) -> Clip:
    uri = str(part["fileData"].get("fileUri") or "")
    found = _FILE.search(uri) or _YOUTUBE.fullmatch(uri)
    if not found:
        raise refusals.bad_request(f"Invalid or unsupported file uri: {uri}")
    told = part.get("videoMetadata") or {}
    end = told.get("endOffset")
    return Clip(
        name=found[1],
        fps=float(told.get("fps") or 1.0),
        start_s=_seconds(told.get("startOffset")),
        end_s=None if end is None else _seconds(end),
    )


def _seconds(told: Any) -> float:
    """Protobuf's text of a duration, `10s`; nothing is 0."""
    return float(str(told).removesuffix("s")) if told else 0.0


def camel(value: Any, key: str = "") -> Any:
    """Names in camelCase all the way down, but for schemas, whose names are the user's."""
    if key in _SCHEMAS:
        return value
    if isinstance(value, dict):
        return {_camel_word(name): camel(inner, name) for name, inner in value.items()}
    return [camel(inner) for inner in value] if isinstance(value, list) else value


def _camel_word(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)
