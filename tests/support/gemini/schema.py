"""A value that fits a schema and reads like a lesson: what `generate` answers when JSON was asked for.

Understands Google's Schema (upper-case or numbered types, nullable) and JSON Schema ($ref, anyOf, const, prefixItems)
as far as the SDKs send them. What a field holds is guessed from its name: start, end, title, language …
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import lessons

Json = Mapping[str, Any]
_NUMBERED = {1: "string", 2: "number", 3: "integer", 4: "boolean", 5: "array", 6: "object", 7: "null"}
_MANY_S = {"transcript": 15.0, "lines": 15.0, "segments": 15.0, "chapters": 45.0, "sections": 45.0}
"""One item for so many seconds of video; other lists get three."""
_START = re.compile(r"(^|_)(start|begin|from)(_|$)")
_END = re.compile(r"(^|_)(end|until|to)(_|$)")
_POINT = re.compile(r"(^|_)(at|time|times|timestamp|timestamps|when|position)(_|$)")
_CLOCKS = ("{h}:{m:02}:{s:02}", "{h:02}:{m:02}:{s:02}", "{all_m:02}:{s:02}", "{all_m}:{s:02}")
_DEEPEST = 12

LESSON: Json = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "language": {"type": "string"},
        "summary": {"type": "string"},
        "objectives": {"type": "array", "items": {"type": "string"}},
        "chapters": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "title": {"type": "string"},
                    "start": {"type": "string"},
                    "end": {"type": "string"},
                    "key_points": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
}
"""For JSON without a schema."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the value, and in the video, a part lies."""

    name: str
    from_s: float
    to_s: float
    depth: int = 0


@dataclass
class Filler:
    """Fills one schema; `mark` (hex digits) goes into the title, `clock` is a format of `_CLOCKS`."""

    root: Json
    language: str
    mark: str
    clock: str = _CLOCKS[0]
    _number: int = field(init=False)

    def __post_init__(self) -> None:
        self._number = int(self.mark, 16) % 500  # Other videos, other words.

    def fill(self, from_s: float, to_s: float) -> Any:
        """The value; all its times lie in the given seconds."""
        return self._value(self.root, Place("", from_s, to_s))

    def _value(self, schema: Json, place: Place) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choice(schema["enum"])
        kind = type_of(schema)
        if place.depth > _DEEPEST:
            return {"array": [], "object": {}, "string": ""}.get(kind)
        made: dict[str, Any] = {"object": self._object, "array": self._array, "string": self._string}
        if kind in made:
            return made[kind](schema, place)
        if kind in ("number", "integer"):
            return self._figure(schema, place, kind)
        return True if kind == "boolean" else None

    def _resolved(self, schema: Json) -> Json:
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                target: Any = self.root
                for step in str(schema["$ref"]).removeprefix("#/").split("/"):
                    target = target[step]
                schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
                continue
            choices = _get(schema, "anyOf") or _get(schema, "oneOf") or _get(schema, "allOf")
            if not choices:
                break
            schema = next((choice for choice in choices if "$ref" in choice or type_of(choice) != "null"), choices[0])
        return schema

    def _choice(self, values: list[Any]) -> Any:
        if self.language in values:
            return self.language
        self._number += 1
        return values[self._number % len(values)]

    def _object(self, schema: Json, place: Place) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        names = _get(schema, "propertyOrdering") or list(properties)
        made = {
            name: self._value(properties[name], replace(place, name=_snake(name), depth=place.depth + 1))
            for name in names
        }
        choices = made.get("choices") or made.get("options")
        if isinstance(choices, list) and choices and isinstance(made.get("answer"), str):
            made["answer"] = choices[0]
        return made

    def _array(self, schema: Json, place: Place) -> list[Any]:
        prefix = _get(schema, "prefixItems")
        if prefix:
            return [self._value(item, replace(place, depth=place.depth + 1)) for item in prefix]
        width = place.to_s - place.from_s
        per_item = _MANY_S.get(place.name)
        count = 3 if per_item is None else min(max(round(width / per_item), 2), 30)
        count = min(max(count, int(_get(schema, "minItems") or 0)), int(_get(schema, "maxItems") or count))
        step = width / max(count, 1)
        return [
            self._value(
                schema.get("items") or {"type": "string"},
                Place(place.name, place.from_s + step * i, place.from_s + step * (i + 1), place.depth + 1),
            )
            for i in range(count)
        ]

    def _string(self, schema: Json, place: Place) -> str:
        self._number += 1
        at = _time(place)
        pattern = str(schema.get("pattern") or "")
        if at is not None:
            told = [f for f in _CLOCKS if pattern and re.search(pattern, clock(f, at))]
            return clock(told[0] if told else self.clock, at)
        text = self._words(place)
        shortest, longest = int(_get(schema, "minLength") or 0), int(_get(schema, "maxLength") or 0)
        while len(text) < shortest:
            self._number += 1
            text += lessons.sentence(self.language, self._number)
        return text[:longest] if longest else text

    def _words(self, place: Place) -> str:
        name, number = place.name, self._number
        if name in ("language", "lang", "language_code"):
            return self.language
        if name == "title" and place.depth == 1:
            return lessons.title(self.language, self.mark)
        if name in ("title", "heading", "name", "step", "topic"):
            return lessons.phrase(self.language, number)
        if name in ("term", "word", "terms"):
            return lessons.term(self.language, number)
        if name == "speaker":
            return lessons.speaker(self.language)
        if name in ("url", "link", "uri"):
            return f"https://example.org/{self.mark}/{number}"
        return lessons.sentence(self.language, number)

    def _figure(self, schema: Json, place: Place, kind: str) -> float | int:
        at = _time(place)
        figure = 1.0 if at is None else at
        low, high = schema.get("minimum"), schema.get("maximum")
        figure = max(figure, float(low)) if low is not None else figure
        figure = min(figure, float(high)) if high is not None else figure
        return int(figure) if kind == "integer" else round(figure, 3)


def type_of(schema: Json) -> str:
    """The type's name in lower case; a list of types gives the first that is not null."""
    told = schema.get("type")
    if isinstance(told, list):
        told = next((one for one in told if one != "null"), "null")
    if isinstance(told, int):
        return _NUMBERED.get(told, "string")
    if told:
        return str(told).lower()
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def clock(style: str, at_s: float) -> str:
    """Seconds as text, cut to whole ones so that the end of the video is never passed."""
    whole = int(at_s)
    return style.format(h=whole // 3600, m=whole // 60 % 60, s=whole % 60, all_m=whole // 60)


def clock_asked(text: str) -> str:
    """The format that the request speaks of; H:MM:SS when it speaks of none."""
    if "HH:MM:SS" in text.upper():
        return _CLOCKS[1]
    return _CLOCKS[2] if "MM:SS" in text.upper() and "H:MM:SS" not in text.upper() else _CLOCKS[0]


def _time(place: Place) -> float | None:
    if _START.search(place.name):
        return place.from_s
    if _END.search(place.name):
        return place.to_s
    if _POINT.search(place.name):
        return (place.from_s + place.to_s) / 2
    return place.to_s if place.name.startswith("duration") else None


def _get(schema: Json, camel: str) -> Any:
    """A keyword in either spelling."""
    return schema.get(camel, schema.get(_snake(camel)))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
