"""What the model is asked to fill in, and what is made of what it fills in. Pure.

Models are careless with form: fences around JSON, numbers as text, times in three spellings, nothing where a list
belongs. All that is forgiven here. What would have to be guessed is not: it is named, for one repair by the model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from gsvrd.analysis import Analysis, Chapter, KeyTerm, Line, Question
from gsvrd.templates import times

_TOLERATED_S = 2.0
"""Models and containers round: so much after the end is the end."""
_MOST_PROBLEMS = 12
_FENCE = re.compile(r"\A\s*```[a-zA-Z]*\s*\n?(.*?)\n?\s*```\s*\Z", re.DOTALL)
_BARE = re.compile(r"\d+(?:\.\d+)?(?=s?\Z)")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def _object(properties: dict[str, Any], required: Sequence[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT = {"type": "string"}
_TIME = {"type": "string", "description": "MM:SS, from one hour on H:MM:SS"}

SCHEMA: dict[str, Any] = _object(
    {
        "title": _TEXT,
        "language": {"type": "string", "description": "BCP 47, as short as possible"},
        "summary": _array({"type": "string", "description": "a paragraph"}),
        "objectives": _array(_TEXT),
        "chapters": _array(
            _object(
                {
                    "start": _TIME,
                    "end": _TIME,
                    "title": _TEXT,
                    "key_points": _array(_TEXT),
                    "slide_text": _array({"type": "string", "description": "a line of the slide or board"}),
                },
                ("start", "end", "title", "key_points"),
            )
        ),
        "key_terms": _array(_object({"term": _TEXT, "meaning": _TEXT, "at": _TIME}, ("term", "meaning"))),
        "activities": _array(_TEXT),
        "quiz": _array(
            _object({"prompt": _TEXT, "choices": _array(_TEXT), "answer": _TEXT, "at": _TIME}, ("prompt", "answer"))
        ),
        "transcript": _array(
            _object(
                {"start": _TIME, "end": _TIME, "speaker": _TEXT, "text": _TEXT, "unclear": {"type": "boolean"}},
                ("start", "end", "text"),
            )
        ),
        "resources": _array(_TEXT),
        "gaps": _array({"type": "string", "description": "what could not be heard, read or done, a sentence each"}),
    },
    ("title", "language", "summary"),
)
"""JSON Schema, without references and alternatives: the older SDK knows neither."""


def seconds(value: object) -> float | None:
    """A time in seconds, from a number, `MM:SS`, `H:MM:SS`, `90s`, or one of these in brackets; None for nothing.

    Raises `ValueError` for anything else.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise ValueError("no time")
    if isinstance(value, int | float):
        found = float(value)
    elif not isinstance(value, str):
        raise ValueError("no time")
    else:
        text = value.strip().strip("[]()").strip()
        bare = _BARE.match(text)
        found = float(bare[0]) if bare else times.seconds(text)
    if not math.isfinite(found) or found < 0:
        raise ValueError(f"{value!r} is no time")
    return found


def _words(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return _UNPRINTABLE.sub("", value).strip() if isinstance(value, str) else value


def _items(value: object) -> object:
    """A list, also where one text or nothing came; without what is empty."""
    if value is None:
        return []
    if isinstance(value, str):
        return [part for part in re.split(r"\n\s*\n", value) if part.strip()]
    return [one for one in value if one not in (None, "", {})] if isinstance(value, list) else value


_Item = TypeVar("_Item")
_Words = Annotated[str, BeforeValidator(_words)]
_Time = Annotated[float | None, BeforeValidator(seconds)]
_List = Annotated[list[_Item], BeforeValidator(_items)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Chapter(_Part):
    start: _Time = None
    end: _Time = None
    title: _Words = ""
    key_points: _List[_Words] = []
    slide_text: _List[_Words] = []


class _Term(_Part):
    term: _Words = ""
    meaning: _Words = ""
    at: _Time = None


class _Question(_Part):
    prompt: _Words = ""
    answer: _Words = ""
    choices: _List[_Words] = []
    at: _Time = None


class _Line(_Part):
    start: _Time = None
    end: _Time = None
    text: _Words = ""
    speaker: _Words = ""
    unclear: bool = False


class _Lesson(_Part):
    title: _Words = ""
    language: _Words = ""
    summary: _List[_Words] = []
    objectives: _List[_Words] = []
    chapters: _List[_Chapter] = []
    key_terms: _List[_Term] = []
    transcript: _List[_Line] = []
    activities: _List[_Words] = []
    quiz: _List[_Question] = []
    resources: _List[_Words] = []
    gaps: _List[_Words] = []


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read: an analysis, or what stands in its way, in whole sentences for the model."""

    analysis: Analysis | None
    problems: tuple[str, ...] = ()


def parse(text: str, start_s: float, end_s: float) -> Reading:
    """Read the answer about the stretch of a video from `start_s` to `end_s`; times in the result count from `start_s`.

    Whether a model that is given a part of a video counts from the part's start, as it is asked to, or from the
    video's, is told by where its times lie.
    """
    try:
        lesson = _Lesson.model_validate(_json(text))
        return Reading(_analysis(lesson, start_s, end_s))
    except ValidationError as error:
        return Reading(None, tuple(_sentences(error)))
    except ValueError as error:
        return Reading(None, (str(error),))


def _json(text: str) -> dict[str, Any]:
    """The object in the text. Raises `ValueError` with a sentence."""
    fenced = _FENCE.match(text)
    inner = (fenced[1] if fenced else text).strip()
    if not inner:
        raise ValueError("The answer is empty.")
    begin, end = inner.find("{"), inner.rfind("}")
    try:
        told = json.loads(inner[begin : end + 1] if begin >= 0 else inner)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The answer is no valid JSON: {_reason(error)}.") from error
    if not isinstance(told, dict):
        raise ValueError("The answer is no JSON object.")
    return told


def _reason(error: Exception) -> str:
    return f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "it nests too deep"


def _analysis(lesson: _Lesson, start_s: float, end_s: float) -> Analysis:
    """Raises `ValidationError`, and `ValueError` with a sentence."""
    length_s = end_s - start_s
    clock = _Clock(-_origin(lesson, start_s, end_s), length_s)
    if not lesson.title:
        raise ValueError("There is no title.")
    return Analysis(
        title=lesson.title,
        language=lesson.language or "und",
        duration_s=length_s,
        summary=_filled(lesson.summary),
        objectives=_filled(lesson.objectives),
        chapters=tuple(_chapters(lesson.chapters, clock)),
        key_terms=tuple(
            KeyTerm(term=t.term, meaning=t.meaning, at_s=clock.maybe(t.at)) for t in lesson.key_terms if t.term
        ),
        transcript=tuple(_lines(lesson.transcript, clock)),
        activities=_filled(lesson.activities),
        quiz=tuple(
            Question(prompt=q.prompt, answer=q.answer, choices=_filled(q.choices), at_s=clock.maybe(q.at))
            for q in lesson.quiz
            if q.prompt
        ),
        resources=_filled(lesson.resources),
        gaps=_filled(lesson.gaps),
    )


@dataclass(frozen=True, slots=True)
class _Clock:
    """Turns the model's times into those of the stretch."""

    shift_s: float
    length_s: float

    def at(self, time_s: float) -> float:
        moved = max(0.0, time_s + self.shift_s)
        return self.length_s if self.length_s < moved <= self.length_s + _TOLERATED_S else moved

    def maybe(self, time_s: float | None) -> float | None:
        return None if time_s is None else self.at(time_s)


def _origin(lesson: _Lesson, start_s: float, end_s: float) -> float:
    """What the model's times count from: 0, or `start_s` if they lie where the stretch lies in the whole video."""
    spans = [(c.start, c.end) for c in lesson.chapters] + [(line.start, line.end) for line in lesson.transcript]
    told = [time_s for span in spans for time_s in span if time_s is not None]
    if not start_s or not told:
        return 0.0
    first, last = min(told), max(told)
    from_part = abs(first) + abs(last - (end_s - start_s))
    from_video = abs(first - start_s) + abs(last - end_s)
    return start_s if from_video < from_part else 0.0


def _chapters(chapters: Sequence[_Chapter], clock: _Clock) -> Iterator[Chapter]:
    """A missing start is a problem; a missing end is where the next chapter starts."""
    for number, chapter in enumerate(chapters):
        if chapter.start is None:
            raise ValueError(f"In chapters, entry {number + 1} has no start.")
        following = next((c.start for c in chapters[number + 1 :] if c.start is not None), None)
        start_s = clock.at(chapter.start)
        yield Chapter(
            start_s=start_s,
            end_s=_end(chapter.end, following, start_s, clock),
            title=chapter.title or next(iter(chapter.key_points), ""),
            key_points=_filled(chapter.key_points),
            slide_text=_filled(chapter.slide_text),
        )


def _lines(lines: Sequence[_Line], clock: _Clock) -> Iterator[Line]:
    for number, line in enumerate(lines):
        if not line.text:
            continue
        if line.start is None:
            raise ValueError(f"In transcript, entry {number + 1} has no start.")
        following = next((other.start for other in lines[number + 1 :] if other.start is not None), None)
        start_s = clock.at(line.start)
        end_s = _end(line.end, following, start_s, clock)
        yield Line(start_s=start_s, end_s=end_s, text=line.text, speaker=line.speaker, unclear=line.unclear)


def _end(told: float | None, following: float | None, start_s: float, clock: _Clock) -> float:
    if told is not None:
        return clock.at(told)
    return max(start_s, clock.length_s if following is None else clock.at(following))


def _filled(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(text for text in texts if text)


def _sentences(error: ValidationError) -> Iterator[str]:
    """Pydantic's findings as sentences, not more than a model can use."""
    found = error.errors(include_url=False, include_context=False)
    for one in found[:_MOST_PROBLEMS]:
        where = ".".join(str(step) for step in one["loc"])
        what = one["msg"].removeprefix("Value error, ")
        yield f"{where or 'The lesson'}: {what}."
    if len(found) > _MOST_PROBLEMS:
        yield f"And {len(found) - _MOST_PROBLEMS} more of this kind."
