"""The rules of template files that the configuration has no use for. See `gsvrd.config.rules` for what a rule is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gsvrd.config.rules import Rule

LONGEST_PROMPT = 40_000
"""Characters of one prompt text. It bounds the time a prompt can take to make, too."""


def number(least: float, most: float) -> Rule:
    """A number that may have a fraction."""

    def read(value: object) -> float:
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,9}(\.\d{0,9})?", value.strip(), re.ASCII):
            value = float(value)
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError
        return float(value)

    schema = {"type": "number", "minimum": least, "maximum": most}
    return Rule(f"a number from {least:g} to {most:g}", schema, read)


def prose(most: int = LONGEST_PROMPT) -> Rule:
    """Text of many lines."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise ValueError
        if len(value) > most:
            raise ValueError(f"it has {len(value)} characters")
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", value):
            raise ValueError("control characters are not allowed")
        return value

    return Rule(f"text, of {most} characters at most", {"type": "string", "maxLength": most}, read)


def one_of(words: Sequence[str]) -> Rule:
    """One of `words`."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value.strip() not in words:
            raise ValueError
        return value.strip()

    return Rule(f"one of {', '.join(words)}", {"enum": list(words)}, read)


def anything() -> Rule:
    """Whatever was written: another rule judges it."""
    return Rule("a value", {}, lambda value: value)
