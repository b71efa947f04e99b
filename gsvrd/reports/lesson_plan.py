"""Renders an `Analysis` to the Markdown of a lesson plan. Called by the worker; touches no disk but its own template.

Safe by default: whatever a template puts out and that is not `Markdown` made by `escape` is escaped for every place
(`Environment.finalize`), so a forgotten filter costs a backslash and never a hole.

Which sections are printed, and in which order, says the context; each is a file in `templates/sections`. Front matter,
title and how the report was made are always there.

Folded parts are HTML elements without blank lines and without Markdown inside: Obsidian supports neither there, and
GitHub shows them the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import FileSystemLoader, StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gsvrd.analysis import Analysis, Chapter, MediaFacts, Picture, Question
from gsvrd.reports import escape
from gsvrd.reports.escape import Markdown
from gsvrd.reports.labels import EN, ZH, Labels, labels_for
from gsvrd.reports.transcript import FLOWING, STAMPED, Paragraph, paragraphs, space_between

TEMPLATES = Path(__file__).parent / "templates"
LANGUAGES = {"en": EN.language, "zh": ZH.language}
SECTIONS = ("summary", "objectives", "chapters", "key_terms", "activities", "quiz", "transcript", "resources")
"""All sections, in the order of a report that asks for no other."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
"""What a picture's file may be called."""


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What a report tells about its making, beside the analysis."""

    source: str
    """The video's name as people know it; may hold surrogates."""
    template: str
    analyzer: str
    language: str
    """The language our own words shall be in: `auto` (that of the analysis) or BCP 47."""
    version: str
    """Of gsvrd."""
    assets: str
    """Name of the directory with the pictures, beside the report."""
    made_at: float
    """UTC epoch seconds."""
    task: str
    """Who owns the report: `write.publish` replaces only a report with the same value."""
    attempt: int
    sections: tuple[str, ...] = ()
    """Which of `SECTIONS` are printed, in this order, where they have content; none named are all."""
    full_transcript: bool = False
    """The transcript is there to be read: printed open, with a time every few sentences. Else it is folded away."""
    speakers: bool = False
    """The transcript was to name its speakers: where it names none, it says so."""


def render(analysis: Analysis, facts: MediaFacts, context: ReportContext) -> str:
    """The whole report as text that ends in one newline.

    Raises `ValueError` when a picture's file is no plain name: such a name did not come from us; or when there is no
    section of a name the context gives.
    """
    sections = _known(context.sections or SECTIONS)
    labels = labels_for(analysis.language if context.language == "auto" else context.language)
    title = escape.fold(analysis.title) or escape.fold(facts.title) or escape.fold(context.source)
    pace = STAMPED if context.full_transcript else FLOWING
    blocks = paragraphs(analysis.transcript, [chapter.start_s for chapter in analysis.chapters], pace)
    text = _template().render(
        plan=analysis,
        facts=facts,
        t=labels,
        title=title,
        front_matter=front_matter(title, analysis, facts, context),
        facts_line=_facts_line(analysis, context, labels, counted="chapters" in sections),
        sections=sections,
        chapters=_titled(analysis.chapters, labels),
        pictures={c.picture: _target(c.picture, context.assets) for c in analysis.chapters if c.picture},
        steps=[f"{step.name}{labels.joiner}{step.how}" for step in analysis.steps],
        paragraphs=blocks,
        full_transcript=context.full_transcript,
        speakers_unknown=context.speakers and not any(block.speaker for block in blocks),
        unclear=any(run.unclear for block in blocks for run in block.runs),
        file_facts=_file_facts(facts, labels),
    )
    # No value holds a line break, so this touches only what left-out sections leave behind.
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


class _Quoted(str):
    """A string that YAML must show in quotes, so that no reader of any YAML version takes it for something else."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Quoted, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style='"')
)


def front_matter(title: str, analysis: Analysis, facts: MediaFacts, context: ReportContext) -> Markdown:
    """The YAML block between its fences; every value is a string on one line."""
    values = {
        "title": title,
        "source": context.source,
        "duration": clock(facts.duration_s or analysis.duration_s),
        "language": analysis.language,
        "analyzer": context.analyzer,
        "template": context.template,
        "sha256": facts.sha256,
        "created": datetime.fromtimestamp(context.made_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "gsvrd": context.version,
        "task": context.task,
        "attempt": str(context.attempt),
    }
    if not facts.sha256:  # a video that stayed where it is
        del values["sha256"]
    quoted = {key: _Quoted(escape.fold(value)) for key, value in values.items()}
    body = yaml.dump(quoted, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"))
    return Markdown(f"---\n{body}---\n")


def clock(seconds: float) -> Markdown:
    """`H:MM:SS`, rounded down so that a jump lands before the thing."""
    minutes, rest = divmod(int(seconds), 60)
    return Markdown(f"{minutes // 60}:{minutes % 60:02}:{rest:02}")


def _known(sections: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in sections if name not in SECTIONS]:
        raise ValueError(f"there is no section {unknown[0]!r}")
    return sections


def _facts_line(analysis: Analysis, context: ReportContext, labels: Labels, *, counted: bool) -> str:
    """Length, language, source and, when `counted`, the number of chapters."""
    parts: list[str] = [clock(analysis.duration_s)]
    if analysis.language != "und":
        parts.append(LANGUAGES.get(analysis.language.lower().split("-")[0], analysis.language))
    if counted and (count := len(analysis.chapters)):
        parts.append(labels.chapters[count > 1].format(count))
    return " · ".join([*parts, context.source])


def _titled(chapters: Sequence[Chapter], labels: Labels) -> list[Chapter]:
    """The chapters, each with something to stand in its heading."""
    return [
        chapter if escape.fold(chapter.title) else chapter.model_copy(update={"title": labels.part.format(number)})
        for number, chapter in enumerate(chapters, 1)
    ]


def _target(picture: Picture, assets: str) -> Markdown:
    if not PLAIN_NAME.fullmatch(picture.file):
        raise ValueError(f"picture {picture.file!r} is no plain file name")
    return escape.link_target(assets, picture.file)


def _file_facts(facts: MediaFacts, labels: Labels) -> list[str]:
    """What the container says, one line each; what it does not say is left out. Nothing of a video that is no file here."""
    if not facts.sha256:
        return []
    size = f"{facts.width}×{facts.height}" if facts.width else ""
    rate = f"{facts.fps:.4g} fps" if facts.fps else ""
    turned = f"{facts.rotation}°" if facts.rotation else ""
    pairs = [
        (labels.size, _megabytes(facts.size_bytes)),
        (labels.container, facts.container),
        (labels.video, ", ".join(filter(None, [facts.video_codec, size, rate, turned]))),
        (labels.audio, ", ".join(filter(None, [facts.audio_codec, facts.audio_language]))),
        (labels.subtitles, ", ".join(facts.subtitle_languages)),
        ("SHA-256", facts.sha256),
    ]
    return [f"{label}{labels.joiner}{value}" for label, value in pairs if value]


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 100_000 else f"{size_bytes:,} B"


@cache
def _template() -> Template:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # that would be HTML's rules; `finalize` applies Markdown's
    )
    environment.filters.update(
        block=escape.block,
        inline=escape.inline,
        heading=escape.heading,
        cell=escape.cell,
        quoted=escape.quoted,
        in_html=escape.markup_free,
        clock=clock,
        filled=_filled,
        letter=_letter,
        answer=_answer,
        spoken=partial(_spoken, escaped=escape.inline),
        spoken_in_html=partial(_spoken, escaped=escape.markup_free),
    )
    return environment.get_template("lesson_plan.md.j2")


def _escaped(value: Any) -> Markdown:
    return value if isinstance(value, Markdown) else escape.anywhere(str(value))


def _filled(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if escape.fold(text)]


def _letter(number: int) -> str:
    return chr(ord("A") + number - 1) if number <= 26 else str(number)


def _answer(question: Question) -> str:
    """The answer, with its letter when it is one of the choices."""
    if question.answer not in question.choices:
        return question.answer
    return f"{_letter(question.choices.index(question.answer) + 1)} – {question.answer}"


def _spoken(paragraph: Paragraph, escaped: Callable[[str], Markdown]) -> Markdown:
    """The paragraph's text, `escaped` for its place, unclear runs in italics.

    The italics are HTML in Markdown too: its own sign does not close behind a full stop before a Chinese character.
    """
    shown, last = "", ""
    for run in paragraph.runs:
        text = escaped(run.text)
        shown += space_between(last, run.text) + (f"<i>{text}</i>" if run.unclear else text)
        last = run.text
    return Markdown(shown)
