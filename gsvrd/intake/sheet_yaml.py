"""Manifests in YAML: a list of videos, or a map with `name`, `options` and `videos`. Called by `manifest`; pure.

Read from the parser's events and never composed: libyaml's composer descends as deep as the file says and overflows the
stack, and a list of 100,000 rows need not lie in memory as nodes. Scalars stay text, as everywhere in our YAML.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from gsvrd.config.document import Document, Keys, Place, Problem, printable
from gsvrd.intake.sheet import Entry, Refused, Sheet

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_KEYS = ("name", "options", "videos")
_OPENING = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSING = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
_DEEPEST = 32
_SHAPE = "allowed: a list of videos, or a map with name, options and videos"


@dataclass(slots=True)
class _Flat:
    """A map of plain values."""

    values: dict[str, str | None] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problem: Problem | None = None
    """The first thing that is wrong with it."""


def read_yaml(text: str, source: str) -> Sheet:
    """Raises `Refused` when it is no YAML or has another shape, which would leave open what else was meant."""
    try:
        return _Reader(text, source).sheet()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise Refused(source, mark.line + 1 if mark else 0, f"not valid YAML: {what}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Refused(source, line, f"the character U+{error.character:04X} is not allowed in YAML") from error
    except RecursionError as error:
        raise Refused(source, 0, "not valid YAML: nested too deeply") from error


class _Reader:
    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)

    def sheet(self) -> Sheet:
        for event in self._events:
            if isinstance(event, yaml.SequenceStartEvent):
                found = Sheet(list(self._rows()))
            elif isinstance(event, yaml.MappingStartEvent):
                found = self._map()
            elif isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
                raise self._refused(event, f"found plain text; {_SHAPE}")
            else:
                continue
            break
        else:
            raise Refused(self.source, 0, "is empty; a manifest names at least one video")
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise self._refused(event, "a second document begins here; a manifest is one")
        return found

    def _map(self) -> Sheet:
        name, named_at, options = "", 0, None
        entries: list[Entry | Problem] = []
        seen: set[str] = set()
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            word = key.value if isinstance(key, yaml.ScalarEvent) else "?"
            if word not in _KEYS:
                raise self._refused(key, f"unknown key '{printable(word[:60])}'; {_SHAPE}")
            if word in seen:
                raise self._refused(key, f"{word}: given twice")
            seen.add(word)
            value = next(self._events)
            if word == "name":
                name, named_at = self._name(value), _line(value)
            elif word == "options":
                options = self._options(value)
            elif isinstance(value, yaml.SequenceStartEvent):
                entries = list(self._rows())
            else:
                raise self._refused(value, "videos: allowed: a list")
        return Sheet(entries, name, options, named_at)

    def _name(self, value: yaml.Event) -> str:
        if not isinstance(value, yaml.ScalarEvent):
            raise self._refused(value, "name: allowed: plain text")
        return _plain(value) or ""

    def _options(self, value: yaml.Event) -> Document:
        if isinstance(value, yaml.ScalarEvent) and _plain(value) is None:
            return Document(self.source, {})
        if not isinstance(value, yaml.MappingStartEvent):
            raise self._refused(value, "options: allowed: a map")
        flat = self._flat()
        places: dict[Keys, Place] = {(name,): Place(self.source, line) for name, line in flat.lines.items()}
        return Document(self.source, dict(flat.values), places, [flat.problem] if flat.problem else [])

    def _rows(self) -> Iterator[Entry | Problem]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            line = _line(event)
            if isinstance(event, yaml.ScalarEvent):
                video = _plain(event)
                yield Entry(line, {"video": video} if video else {})
            elif isinstance(event, yaml.MappingStartEvent):
                flat = self._flat()
                said = {name: value for name, value in flat.values.items() if value}
                yield flat.problem or Entry(line, said, flat.lines)
            else:
                self._skip(event)
                yield Problem(Place(self.source, line), "a row is a path, a link, or a map such as {path: a.mp4}")

    def _flat(self) -> _Flat:
        """The map whose start was just read."""
        flat = _Flat()
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            self._skip(key)
            value = next(self._events)
            self._skip(value)
            if wrong := _put(key, value, flat):
                flat.problem = flat.problem or Problem(Place(self.source, _line(key)), wrong)
        return flat

    def _skip(self, event: yaml.Event) -> None:
        """Read to the end of what begins with `event`."""
        depth = int(isinstance(event, _OPENING))
        while depth:
            inner = next(self._events)
            depth += isinstance(inner, _OPENING) - isinstance(inner, _CLOSING)
            if depth > _DEEPEST:
                raise self._refused(inner, "not valid YAML: nested too deeply")

    def _refused(self, event: yaml.Event, what: str) -> Refused:
        return Refused(self.source, _line(event), what)


def _put(key: yaml.Event, value: yaml.Event, flat: _Flat) -> str:
    """Take a pair into the map, or say why not."""
    if not isinstance(key, yaml.ScalarEvent):
        return "a key must be a plain word"
    if not isinstance(value, yaml.ScalarEvent):
        return f"{printable(key.value[:60])}: allowed: a plain value"
    if key.value in flat.values:
        return f"{printable(key.value[:60])}: given twice, first in line {flat.lines[key.value]}"
    flat.values[key.value] = _plain(value)
    flat.lines[key.value] = _line(key)
    return ""


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _plain(event: yaml.ScalarEvent) -> str | None:
    return None if event.implicit[0] and event.value in ("", "~", "null") else str(event.value)
