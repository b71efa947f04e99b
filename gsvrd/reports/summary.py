"""The page that sums a batch up, in Markdown and in JSON. Pure: a `BatchResult` goes in, text comes out.

Called by `summary_files`, which puts it in place beside the picture that `summary_plot` draws. Every name and every text
from a video is escaped for its place. The same result gives the same bytes, so nothing here asks for the time.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath

import msgspec
import yaml

from gsvrd.policy.results import BatchResult, Entry, Failure, GlossaryEntry
from gsvrd.reports import escape
from gsvrd.reports.escape import Markdown
from gsvrd.reports.naming import NameFields, report_name
from gsvrd.reports.summary_labels import SummaryLabels, duration, summary_labels

SCHEMA = 1
"""Of the JSON. Fields are only ever added; a change that would break a reader raises it."""
LOOSE = "loose"
"""The kind of a batch that was no folder and no manifest."""
LOOSE_FOLDER = "_batches"
BASE = "_summary"
"""The name of the three files, without their suffix."""
_BRACKET = re.compile(r"`[^`]*`|\\.|[\[\]]")
"""In escaped text: one that is neither escaped already nor in a code span, which come first."""


def folder_of(kind: str, name: str) -> str:
    """Where a batch's summary lies below the reports directory: where the reports of a dropped folder lie."""
    fields = NameFields(title="", source="", queued_at=0.0, template="", batch=name, sha256="")
    folder = report_name("{batch}/x", fields).removesuffix("/x.md")
    return f"{LOOSE_FOLDER}/{folder}" if kind == LOOSE else folder


def head(mark: str) -> str:
    """How a summary of this batch begins."""
    return f"---\nsummary_of: {json.dumps(mark)}\n"


def json_head(mark: str) -> str:
    """How the JSON of this batch begins."""
    return f'{{\n  "summary_of": {json.dumps(mark)},\n'


# -- Markdown ------------------------------------------------------------------------------------------------------------


def render_summary(result: BatchResult, language: str, base: str = BASE) -> str:
    """The page, ending in one newline. `base` is the name that it and its picture have, without a suffix."""
    labels = summary_labels(language)
    folder = folder_of(result.kind, result.name)
    blocks = [
        _front_matter(result),
        f"# {_title(result, labels)}",
        escape.block(labels.done_of.format(result.completed, result.total)),
        _figures(result, labels),
        f"## {labels.course}",
        f"![{labels.course}]({escape.link_target(base + '.svg')})",
        *_section(labels.lessons, [_lesson(lesson, result.name, folder, labels) for lesson in result.lessons]),
        *_section(labels.failures, [line for lost in result.failures for line in _failure(lost, result.name, labels)]),
        *_section(labels.slowest, _slowest(result, labels)),
        *_section(labels.glossary, _glossary(result, folder)),
    ]
    return "\n\n".join(blocks) + "\n"


def title_of(result: BatchResult, labels: SummaryLabels) -> str:
    """What the batch is called; unescaped."""
    return labels.loose.format(result.name) if result.kind == LOOSE else escape.fold(result.name) or "–"


def _title(result: BatchResult, labels: SummaryLabels) -> Markdown:
    return escape.heading(title_of(result, labels))


def _front_matter(result: BatchResult) -> str:
    """Every value is a string on one line, as in a report."""
    values = {
        "batch": result.name,
        "kind": result.kind,
        "language": result.language,
        "completed": str(result.completed),
        "failed": str(result.failed),
        "ended": _moment(result.ended_at, "%Y-%m-%dT%H:%M:%SZ"),
    }
    lines = [f"{key}: {_quoted(escape.fold(value))}" for key, value in values.items()]
    return "\n".join([head(result.mark).rstrip("\n"), *lines, "---"])


def _quoted(value: str) -> str:
    shown = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=float("inf"))
    return str(shown).rstrip("\n")


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"## {title}"
        yield "\n".join(lines)


def _table(header: tuple[str, str], rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ("---", "---:"), *rows)]


def _figures(result: BatchResult, labels: SummaryLabels) -> str:
    rate = "–" if result.success_rate is None else f"{result.success_rate:.1%}"
    average = "–" if result.average_s is None else duration(result.average_s, labels)
    period = f"{_moment(result.began_at, '%Y-%m-%d %H:%M')} – {_moment(result.ended_at, '%Y-%m-%d %H:%M')}"
    always = [
        (labels.success, rate),
        (labels.period, period),
        (labels.total_time, duration(result.total_s, labels)),
        (labels.work_time, duration(result.work_s, labels)),
        (labels.average, average),
    ]
    counted = [
        (labels.failed, result.failed),
        (labels.cancelled, result.cancelled),
        (labels.unfinished, result.unfinished),
        (labels.retries, result.retries),
        (labels.skipped, result.skipped),
        (labels.reused, result.reused),
        (labels.calls, result.requests),
        (labels.tokens, result.tokens),
    ]
    rows = [*always, *((name, f"{count:,}") for name, count in counted if count)]
    if result.requests or result.cost_micro:
        rows.append((labels.cost, f"{result.cost_micro / 1e6:,.4f} USD"))
    return "\n".join(_table((labels.figure, labels.value), rows))


def _video(video: str, batch: str) -> str:
    """Its name in a batch: the folder that gave the batch its name is known."""
    return escape.fold(video.removeprefix(f"{batch}/")) or "–"


def _lesson(lesson: Entry, batch: str, folder: str, labels: SummaryLabels) -> str:
    video = _video(lesson.video, batch)
    title = escape.fold(lesson.title) or video
    shown = _link(title, lesson.report, folder) if lesson.report else escape.block(title)
    notes = [
        "" if title == video else escape.inline(video),
        escape.inline(lesson.link) if lesson.link else "",
        "" if lesson.is_skipped else duration(lesson.seconds, labels),
        "" if lesson.report else labels.no_report,
        labels.is_skipped if lesson.is_skipped else "",
        labels.is_reused if lesson.is_reused else "",
    ]
    return " · ".join([f"- {shown}", *filter(None, notes)])


def _link(text: str, report: str, folder: str) -> str:
    """To a report from the folder of the summary; no bracket in the text ends or begins a link."""
    shown = _BRACKET.sub(lambda match: "\\" * (match[0] in "[]") + match[0], escape.inline(text))
    return f"[{shown}]({_target(report, folder)})"


def _target(report: str, folder: str) -> Markdown:
    return escape.link_target(*PurePosixPath(os.path.relpath(report, folder)).parts)


def _failure(failure: Failure, batch: str, labels: SummaryLabels) -> Iterator[str]:
    reason = escape.inline(failure.reason) or labels.no_reason
    attempts = labels.attempts[failure.attempts != 1].format(failure.attempts)
    video = escape.inline(" · ".join(filter(None, [_video(failure.video, batch), failure.link])))
    yield f"- **{video}**{labels.bracket.format(attempts)} – {reason}"
    if hint := escape.inline(failure.what_to_do):
        yield f"  - {labels.what_to_do}{labels.joiner}{hint}"


def _slowest(result: BatchResult, labels: SummaryLabels) -> list[str]:
    if len(result.slowest) < 2:
        return []
    rows = [
        (str(escape.cell(_video(entry.video, result.name))), duration(entry.seconds, labels))
        for entry in result.slowest
    ]
    return _table((labels.video, labels.time), rows)


def _glossary(result: BatchResult, folder: str) -> list[str]:
    titles = {lesson.report: escape.fold(lesson.title) or "–" for lesson in reversed(result.lessons)}
    return [_term(entry, titles, folder) for entry in result.glossary if escape.fold(entry.term)]


def _term(entry: GlossaryEntry, titles: Mapping[str, str], folder: str) -> str:
    meaning = escape.inline(entry.meaning)
    links = ", ".join(_link(titles[report], report, folder) for report in entry.reports if report)
    said = f"- **{escape.inline(entry.term)}**{f' – {meaning}' if meaning else ''}"
    return f"{said} · {links}" if links else said


def _moment(wall: float, form: str) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime(form)


# -- JSON ----------------------------------------------------------------------------------------------------------------


def to_json(result: BatchResult) -> bytes:
    """One object with the fields of `BatchResult`, ending in a newline; `folder` is the one below the reports directory.

    Stray bytes in names survive as JSON escapes.
    """
    facts = msgspec.to_builtins(result)
    mark = facts.pop("mark")
    known = {"summary_of": mark, "schema": SCHEMA, "folder": folder_of(result.kind, result.name), **facts}
    return json.dumps(known, ensure_ascii=False, indent=2).encode(errors="backslashreplace") + b"\n"
