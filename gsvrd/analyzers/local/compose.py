"""The last step: puts the stages together into an `Analysis`. Cheap, so it is done anew in every attempt."""

from __future__ import annotations

from pathlib import PurePath

from gsvrd.analysis import Analysis, Chapter, Step
from gsvrd.analyzers.base import Workbench
from gsvrd.analyzers.local import text
from gsvrd.analyzers.local.stages import Slides, Speech, Writing
from gsvrd.analyzers.local.words import say
from gsvrd.templates.scripts import primary


def compose(bench: Workbench, slides: Slides, writing: Writing, speech: Speech) -> Analysis:
    """The analysis, in the language asked for, or in that of the video."""
    seen = (t for c in writing.chapters for t in c.slide_text)
    heard = text.language_of(line.text for line in speech.lines if not line.unclear)
    spoken = heard if heard != "und" else text.language_of(seen)
    language = spoken if bench.language == "auto" else bench.language
    material = text.Material(writing.chapters, speech.lines, language)
    terms = text.key_terms(material)
    summary = text.summary(material)
    return Analysis(
        title=_title(bench, writing),
        language=language,
        duration_s=bench.facts.duration_s,
        summary=summary,
        objectives=text.objectives(material),
        chapters=_chapters(writing.chapters, language),
        key_terms=terms,
        transcript=speech.lines,
        quiz=text.quiz(material, terms),
        steps=_steps(slides, writing, speech, language, written=bool(summary or terms)),
        gaps=_gaps(
            bench,
            slides,
            writing,
            speech,
            language,
            empty=not summary and not terms,
            foreign=spoken != "und" and primary(spoken) != primary(language),
        ),
    )


def _title(bench: Workbench, writing: Writing) -> str:
    """The file's own title, else what stands on the first slide, else the file's name."""
    first = next((c.title for c in writing.chapters[:1] if c.slide_text and c.title), "")
    return bench.facts.title or first or PurePath(bench.name).stem


def _chapters(chapters: tuple[Chapter, ...], language: str) -> tuple[Chapter, ...]:
    return tuple(
        c if c.title else c.model_copy(update={"title": say("part", language, number)})
        for number, c in enumerate(chapters, 1)
    )


def _steps(slides: Slides, writing: Writing, speech: Speech, language: str, *, written: bool) -> tuple[Step, ...]:
    steps = [Step(name="slides", how=say(slides.how, language, len(slides.chapters)))]
    if writing.read:
        steps.append(Step(name="text", how=say("text_read", language, writing.read)))
    if speech.how:
        steps.append(Step(name="speech", how=say(speech.how, language)))
    if written:
        steps.append(Step(name="writing", how=say("written", language)))
    return tuple(steps)


def _gaps(
    bench: Workbench, slides: Slides, writing: Writing, speech: Speech, language: str, *, empty: bool, foreign: bool
) -> tuple[str, ...]:
    keys = ["" if bench.facts.video_codec else "no_picture", writing.gap, speech.gap, "nothing" if empty else ""]
    keys.append("not_translated" if foreign else "")
    gaps = [say(key, language) for key in keys if key]
    damaged = max(slides.damaged, speech.damaged)
    if damaged:
        gaps.append(say("damaged", language, damaged))
    if slides.lost:
        gaps.append(say("picture_lost", language, slides.lost))
    return tuple(gaps)
