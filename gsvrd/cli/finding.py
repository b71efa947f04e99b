"""A finding of `gsvrctl doctor`: what was looked at, how it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad it is; the worst one is the exit code of the command, but for notes."""

    GOOD = 0
    NOTE = -1
    """Worth knowing, and nothing need be done."""
    WARNING = 1
    """It works, worse than it could, or not for long."""
    ERROR = 2
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is for programs and stays; the words may change."""

    code: str
    level: Level
    message: str
    hint: str = ""
    """What to do; empty when nothing need be done."""


def good(code: str, message: str) -> Finding:
    """All is well."""
    return Finding(code, Level.GOOD, message)


def note(code: str, message: str, hint: str = "") -> Finding:
    """Worth knowing."""
    return Finding(code, Level.NOTE, message, hint)


def warning(code: str, message: str, hint: str) -> Finding:
    """Worse than it could be."""
    return Finding(code, Level.WARNING, message, hint)


def error(code: str, message: str, hint: str) -> Finding:
    """It does not work."""
    return Finding(code, Level.ERROR, message, hint)
