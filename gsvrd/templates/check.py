"""What is wrong with a model's answer, in whole sentences: for one targeted repair by the model, else for people.

`model.Template.check` calls `problems`. Pure. Says nothing about texts from the video that are merely odd; each sentence
here may cost a second call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from gsvrd.analysis import Analysis, Line
from gsvrd.templates.coverage import Span, covered, holes, is_silence, length
from gsvrd.templates.layout import Output, SectionName
from gsvrd.templates.repetition import mostly_copies, repeated
from gsvrd.templates.scripts import HAN, primary, script_of, units
from gsvrd.templates.times import clock

_SLACK_S = 1.0
"""Containers and models round."""
_LEAST_UNITS = 20
"""Shorter texts (a formula, a name) do not show a language."""
_LEAST_SHARE = 0.6
_CHAPTERS_REACH = 0.8
"""Chapters that end before this share of the video were cut off, or their times are wrong."""
_NAMED_SHARE = 0.9
"""Lines with a speaker, where speakers are wanted."""
_MOST_SILENCE = 0.5


@dataclass(frozen=True)
class Answer:
    """An analysis and what was asked for."""

    analysis: Analysis
    output: Output
    language: str
    """`auto`, or BCP 47."""
    duration_s: float
    """Of what the model was given; 0 if unknown."""
    quiet: Sequence[Span]
    """Stretches that were measured to be silent."""

    @cached_property
    def speech(self) -> list[Line]:
        """The lines of the transcript in which somebody speaks."""
        return [line for line in self.analysis.transcript if not is_silence(line)]


def problems(answer: Answer) -> list[str]:
    """All that is wrong; empty when the answer can be used."""
    return [
        *_sections(answer),
        *_times(answer),
        *_chapters(answer),
        *_transcript(answer),
        *_language(answer),
        *_repetition(answer),
    ]


def _sections(answer: Answer) -> Iterator[str]:
    plan = answer.analysis
    for name in answer.output.required:
        texts = [line.text for line in plan.transcript] if name == "transcript" else _texts(plan, name)
        if not any(text.strip() for text in texts):
            yield f"The section {name} is missing or empty."


def _times(answer: Answer) -> Iterator[str]:
    """Times inside the video, and in order where the order means something."""
    plan = answer.analysis
    starts = {
        "chapters": [c.start_s for c in plan.chapters],
        "transcript": [line.start_s for line in plan.transcript],
    }
    ends = {"chapters": [c.end_s for c in plan.chapters], "transcript": [line.end_s for line in plan.transcript]}
    loose = {
        "key_terms": [t.at_s for t in plan.key_terms if t.at_s is not None],
        "quiz": [q.at_s for q in plan.quiz if q.at_s is not None],
    }
    for name, times in [*starts.items(), *ends.items(), *loose.items()]:
        late = [time for time in times if time > answer.duration_s + _SLACK_S]
        if late and answer.duration_s:
            whole = clock(answer.duration_s)
            yield f"In {name}, {_count(late)} after the end of the video ({whole}); the first is {clock(late[0])}."
    for name, times in starts.items():
        strict = name == "chapters"
        falls = [b for a, b in pairwise(times) if b < a or (strict and b == a)]
        if falls:
            yield f"In {name}, {_count(falls)} not after the one before; the first is {clock(falls[0])}."
        turned = [s for s, e in zip(times, ends[name], strict=True) if e < s]
        if turned:
            yield f"In {name}, the entry at {clock(turned[0])} ends before it starts."


def _chapters(answer: Answer) -> Iterator[str]:
    chapters = answer.analysis.chapters
    if not chapters or "chapters" not in answer.output.required:
        return
    first, last = chapters[0].start_s, max(c.end_s for c in chapters)
    if last < _CHAPTERS_REACH * answer.duration_s:
        yield f"The chapters end at {clock(last)}, but the video lasts {clock(answer.duration_s)}."
    if first > (1 - _CHAPTERS_REACH) * answer.duration_s > 0:
        yield f"The chapters begin only at {clock(first)}."


def _transcript(answer: Answer) -> Iterator[str]:
    output, lines = answer.output, answer.analysis.transcript
    unnamed = [line for line in answer.speech if not line.speaker.strip()]
    if output.speakers and len(unnamed) > (1 - _NAMED_SHARE) * len(answer.speech):
        yield f"In transcript, {len(unnamed)} of {len(answer.speech)} lines name no speaker."
    if not (output.full_transcript and lines and answer.duration_s):
        return
    spans = covered(lines, answer.quiet, answer.duration_s)
    share = length(spans) / answer.duration_s
    if share < output.coverage:
        yield f"The transcript covers {share:.0%} of the video; {output.coverage:.0%} is needed."
    if gaps := holes(spans, answer.duration_s, output.longest_gap):
        shown = ", ".join(f"{clock(start)} to {clock(end)}" for start, end in gaps[:5])
        more = f" and {len(gaps) - 5} more" if len(gaps) > 5 else ""
        yield f"The transcript leaves out: {shown}{more}."
    marked = covered([line for line in lines if is_silence(line)], (), answer.duration_s)
    if answer.speech and length(marked) > _MOST_SILENCE * answer.duration_s:
        yield "The transcript says of more than half of the video that nobody speaks in it; write down what is said."


def _language(answer: Answer) -> Iterator[str]:
    plan, output = answer.analysis, answer.output
    asked = plan.language if answer.language == "auto" else answer.language
    if primary(plan.language) != primary(asked):
        yield f"The language is {plan.language}; asked for was {asked}."
    scripts = frozenset({HAN}) if output.chinese_share is not None else script_of(asked)
    least = _LEAST_SHARE if output.chinese_share is None else output.chinese_share
    if not scripts:
        return
    for name, texts in _written(answer):
        counts = units(texts)
        share = sum(counts[script] for script in scripts) / max(1, counts.total())
        if counts.total() >= _LEAST_UNITS and share < least:
            yield f"Only {share:.0%} of {name} is written in the script of {asked}; {least:.0%} is needed."


def _written(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """What must be in the language asked for, by section: not addresses, nor quotations unless all must be Chinese."""
    quoted = () if answer.output.chinese_share is not None else ("transcript",)
    for name in answer.output.sections:
        if name not in ("resources", *quoted):
            yield name, _texts(answer.analysis, name)


def _repetition(answer: Answer) -> Iterator[str]:
    for name in answer.output.sections:
        texts = _texts(answer.analysis, name)
        if again := repeated(texts):
            yield f"The section {name} repeats itself endlessly: {again!r}."
        elif name != "transcript" and mostly_copies(_heads(answer.analysis, name)):
            yield f"Most entries of {name} are the same."


def _heads(plan: Analysis, name: SectionName) -> list[str]:
    """What tells the entries of a section apart."""
    if name == "chapters":
        return [chapter.title for chapter in plan.chapters]
    if name == "key_terms":
        return [term.term for term in plan.key_terms]
    if name == "quiz":
        return [question.prompt for question in plan.quiz]
    return _texts(plan, name)


def _texts(plan: Analysis, name: SectionName) -> list[str]:
    """The texts of a section that the model wrote."""
    if name == "chapters":
        return [text for c in plan.chapters for text in (c.title, *c.key_points)]
    if name == "key_terms":
        return [t.meaning for t in plan.key_terms]
    if name == "quiz":
        return [text for q in plan.quiz for text in (q.prompt, q.answer, *q.choices)]
    if name == "transcript":
        return [line.text for line in plan.transcript if not is_silence(line)]
    plain: dict[str, Iterable[str]] = {
        "summary": plan.summary,
        "objectives": plan.objectives,
        "activities": plan.activities,
        "resources": plan.resources,
    }
    return list(plain[name])


def _count(times: Sequence[float]) -> str:
    return "1 time is" if len(times) == 1 else f"{len(times)} times are"
