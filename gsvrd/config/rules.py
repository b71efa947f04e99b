"""Rules: how one value of the configuration may be written, in words for people and as JSON schema for editors.

`models` hangs one rule on each field (`Annotated[int, whole(1, 64)]`). A rule takes the raw value (text from the file
or from a variable, or a Python value) and gives the typed one, or says what is allowed instead. Types come from the
rule and never from YAML's guesses, so `language: no` is Norwegian and `settle: 1:30` is a mistake, not ninety.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic_core import PydanticCustomError, core_schema

from gsvrd.config import units

Number = TypeVar("Number", int, float)

PATTERN_FIELDS = ("title", "stem", "relpath", "timestamp", "date", "template", "batch", "hash8")
"""What `output_pattern` may name in braces."""

NOT_ALLOWED = "not_allowed"
"""The pydantic error type of a refused value; its context holds `allowed` and `because` (empty if all is said)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one value may be written. `read` raises `ValueError`; its text, if any, says what exactly is wrong."""

    allowed: str
    schema: Mapping[str, Any]
    read: Callable[[object], object]
    show: Callable[[Any], object] = lambda value: value
    """The typed value as a person would write it."""
    many: bool = False
    """A list: in a variable it is written as YAML, `[.mp4, .mov]`."""

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> core_schema.CoreSchema:
        """Pydantic's hook: this rule alone decides about the field."""
        return core_schema.no_info_plain_validator_function(self._check)

    def _check(self, value: object) -> object:
        try:
            return self.read(value)
        except ValueError as error:
            context = {"allowed": self.allowed, "because": "" if value is None else str(error)}
            raise PydanticCustomError(NOT_ALLOWED, "allowed: {allowed}", context) from error


def whole(least: int, most: int) -> Rule:
    """A whole number."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9][0-9_]{0,17}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError
        return _within(value, least, most)

    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Rule(f"a whole number from {least} to {most}", schema, read)


def size(least: int, most: int) -> Rule:
    """Bytes."""
    low, high = units.show_size(least), units.show_size(most)
    return Rule(
        f"a size from {low} to {high}: bytes, or with a unit (kB MB GB TB are powers of 1000, KiB MiB GiB TiB of 1024)",
        {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": units.SIZE_PATTERN}]},
        lambda value: _within(units.parse_size(value), least, most),
        units.show_size,
    )


def duration(least: float, most: float) -> Rule:
    """Seconds."""
    low, high = units.show_duration(least), units.show_duration(most)
    return Rule(
        f"a duration from {low} to {high}: seconds, or with units (250ms, 90s, 5m, 1h30m, 2d)",
        {"anyOf": [{"type": "number"}, {"type": "string", "pattern": units.DURATION_PATTERN}]},
        lambda value: _within(units.parse_duration(value), least, most),
        units.show_duration,
    )


def flag() -> Rule:
    """True or false."""

    def read(value: object) -> bool:
        word = value.strip().lower() if isinstance(value, str) else value
        if word is True or word == "true":
            return True
        if word is False or word == "false":
            return False
        raise ValueError

    return Rule("true or false", {"type": "boolean"}, read)


def choice(literal: object) -> Rule:
    """One of the words of a `Literal`."""
    words: tuple[str, ...] = get_args(literal)

    def read(value: object) -> str:
        word = _text(value).strip()
        if word not in words:
            raise ValueError
        return word

    return Rule(_either(words), {"enum": list(words)}, read)


def auto_or(rule: Rule) -> Rule:
    """The word `auto`, or what `rule` allows."""

    def read(value: object) -> object:
        return "auto" if isinstance(value, str) and value.strip() == "auto" else rule.read(value)

    return Rule(f"auto, or {rule.allowed}", {"anyOf": [{"const": "auto"}, dict(rule.schema)]}, read)


def auto_or_number(least: float, most: float) -> Rule:
    """The word `auto`, which is None, or a number."""

    def read(value: object) -> float | None:
        word = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        if word == "auto" or value is None:
            return None
        if not re.fullmatch(r"\d{1,6}(?:\.\d{1,6})?", word):
            raise ValueError
        return _within(float(word), least, most)

    schema = {"anyOf": [{"const": "auto"}, {"type": "number", "minimum": least, "maximum": most}]}
    return Rule(f"auto, or a number from {least:g} to {most:g}", schema, read, lambda v: "auto" if v is None else v)


def share() -> Rule:
    """A part of a whole, above 0."""

    def read(value: object) -> float:
        word = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        if not re.fullmatch(r"[01]|[01]?\.\d{1,6}", word):
            raise ValueError
        return _within(float(word), 0.01, 1.0)

    return Rule("a share from 0.01 to 1", {"type": "number", "minimum": 0.01, "maximum": 1}, read)


def dollars() -> Rule:
    """A sum of money, as whole micro-dollars; None is no limit."""

    def read(value: object) -> int | None:
        word = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        if word == "none" or value is None:
            return None
        if not re.fullmatch(_MONEY, word):
            raise ValueError
        return round(float(word) * 1_000_000)

    schema = {"anyOf": [{"const": "none"}, {"type": "number", "minimum": 0}]}
    return Rule("none, or US dollars such as 5 or 2.50", schema, read, _show_dollars)


def _show_dollars(micro: int | None) -> object:
    return "none" if micro is None else micro / 1_000_000


def price() -> Rule:
    """What a model costs; see `models.Gemini.prices`."""
    number, day = _MONEY, r"(?:\d{4}-\d\d-\d\d)?"
    rates = rf"{number}(?:/{number})?"
    return text(
        "MODEL INPUT OUTPUT [FROM..UNTIL]: dollars per million tokens, days as 2026-12-31",
        rf"\S+ {rates} {rates}(?: {day}\.\.{day})?",
    )


_MONEY = r"\d{1,9}(?:\.\d{1,6})?"


def text(allowed: str, pattern: str) -> Rule:
    """Text that matches `pattern` as a whole."""

    def read(value: object) -> str:
        found = _text(value)
        if not re.fullmatch(pattern, found):
            raise ValueError
        return found

    return Rule(allowed, {"type": "string", "pattern": f"^(?:{pattern})$"}, read)


def texts(item: Rule) -> Rule:
    """A list of what `item` allows, as a tuple."""

    def read(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError
        return tuple(_item(item, entry) for entry in value)

    schema = {"type": "array", "items": dict(item.schema), "uniqueItems": True}
    return Rule(f"a list, each entry {item.allowed}", schema, read, list, many=True)


def named_values() -> Rule:
    """Texts, or lists of them, by name; whoever knows the names knows the types."""

    def read(value: object) -> dict[str, object]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValueError
        return {_text(name): _named(name, one) for name, one in value.items()}

    one = {"type": ["string", "number", "boolean", "array"]}
    schema = {"type": ["object", "null"], "additionalProperties": one}
    return Rule("a map of names to values", schema, read, many=True)


def _named(name: str, value: object) -> object:
    entries = value if isinstance(value, list | tuple) else [value]
    if all(isinstance(entry, str | int | float) for entry in entries):
        return value
    raise ValueError(f"the value of {name} is neither plain nor a list of plain values")


def directory() -> Rule:
    """A directory, relative to the home or absolute; `~` is expanded."""

    def read(value: object) -> str:
        path = os.path.expanduser(_text(value))
        if not path.strip():
            raise ValueError
        if path.startswith("~"):
            raise ValueError("there is no such user here")
        return path

    return Rule("a directory: a path below the home directory, or an absolute one", {"type": "string"}, read)


def report_name() -> Rule:
    """The names of reports, with fields in braces."""

    def read(value: object) -> str:
        pattern = _text(value)
        _check_pattern(pattern)
        return pattern

    fields = " ".join(f"{{{name}}}" for name in PATTERN_FIELDS)
    return Rule(f"a relative path without '..' that may use {fields}", {"type": "string", "minLength": 1}, read)


def report_folder() -> Rule:
    """A path below the reports directory."""

    def read(value: object) -> str:
        path = _text(value).strip()
        if not path:
            raise ValueError
        _check_below(path)
        return path

    return Rule("a relative path without '..'", {"type": "string", "minLength": 1}, read)


def _check_pattern(pattern: str) -> None:
    """Raise `ValueError` unless `pattern` names a file below the reports directory and uses known fields only."""
    unknown = [name for name in re.findall(r"{([^{}]*)}", pattern) if name not in PATTERN_FIELDS]
    if unknown:
        raise ValueError(f"there is no field {{{unknown[0]}}}")
    literal = re.sub(r"{[^{}]*}", "x", pattern)
    if "{" in literal or "}" in literal:
        raise ValueError("the braces do not match")
    _check_below(literal)
    if not literal.split("/")[-1].strip():
        raise ValueError("it must end in a file name")


def _check_below(path: str) -> None:
    if path.startswith(("/", "~")):
        raise ValueError("it must be relative to the reports directory")
    if {".", ".."} & set(path.split("/")):
        raise ValueError("'.' and '..' are no folders of their own")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("control characters are not allowed")
    return value


def _item(rule: Rule, entry: object) -> object:
    try:
        return rule.read(entry)
    except ValueError as error:
        raise ValueError(f"the entry {entry!r} is not allowed") from error


def _within(value: Number, least: float, most: float) -> Number:
    if not least <= value <= most:
        raise ValueError
    return value


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"
