"""What a report of ours says of itself: title, language and key terms, read from its text.

For the summary of a batch whose analyses are no longer remembered; called by `daemon.summing`. The file may be anybody's by
now, so nothing is taken for granted and what comes out is data like any other text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import yaml

from gsvrd.policy.results import Lesson, Term
from gsvrd.reports.files import open_folder, read_regular
from gsvrd.reports.labels import EN, ZH

_HEAD_BYTES = 1024 * 1024
"""The terms come before the transcript, which is what makes reports long."""
_FACT = re.compile(r'^(title|language): ("(?:[^"\\\n]|\\.)*")$', re.MULTILINE)
_TERM = re.compile(r"- \*\*((?:[^\\*]|\\.)+)\*\*(?: – (.+?))?(?: \(\d+:\d\d:\d\d\))?")
_HEADINGS = tuple(f"## {labels.key_terms}" for labels in (EN, ZH))
_ESCAPED = re.compile(r"`([^`]*)`|\\([!-/:-@\[-`{-~])|(&(?:lt|amp);)")


def glance(reports: Path, name: str) -> Lesson:
    """What the report `name` below `reports` is about; nothing when it is not there or cannot be read."""
    path = reports / name
    try:
        with open_folder(path.parent) as folder:
            text = (read_regular(path.name, folder, _HEAD_BYTES) or b"").decode(errors="replace")
    except OSError:
        return Lesson()
    front, fence, body = text.removeprefix("---\n").partition("\n---\n")
    if not text.startswith("---\n") or not fence:
        return Lesson()
    facts = {key: str(yaml.safe_load(value)) for key, value in _FACT.findall(front)}
    return Lesson(facts.get("title", ""), facts.get("language", ""), tuple(_terms(body)))


def _terms(body: str) -> Iterator[Term]:
    lines = iter(body.split("\n"))
    if not any(line in _HEADINGS for line in lines):
        return
    for line in lines:
        if line.startswith("#"):
            return
        if match := _TERM.fullmatch(line):
            yield Term(_plain(match[1]), _plain(match[2] or ""))


def _plain(markdown: str) -> str:
    """Undoes what `escape.inline` does."""
    return _ESCAPED.sub(lambda match: match[1] or match[2] or (unescape(match[3]) if match[3] else ""), markdown)
