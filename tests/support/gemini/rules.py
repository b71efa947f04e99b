"""What the pretended account is: its keys, models, prices and limits. Given at the start; a test may replace it.

Figures are defaults for tests, not facts about Google's price list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

KEY = "fake-key-for-tests"
GIB = 1 << 30
PROJECT = "project-1"

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class Key:
    """An API key: limits are counted per project; `status` other than 200 refuses it (401 or 403)."""

    project: str = PROJECT
    status: int = 200


@dataclass(frozen=True, slots=True)
class Model:
    """A model: US dollars for a million tokens, tokens for a picture and for a second of sound, sizes of the context."""

    input_usd: float = 0.75
    output_usd: float = 3.75
    frame_tokens: int = 70
    frame_tokens_low: int = 70
    frame_tokens_high: int = 280
    sound_tokens: int = 32
    input_limit: int = 1_048_576
    output_limit: int = 65_536
    has_levels: bool = True
    """Of thinking; older models have a budget instead."""
    served_as: str = ""
    """A retired model is answered, and billed, by this one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """For each project and model; None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    concurrent: int | None = None


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "gemini-3.8-flash": Model(),
        "gemini-3.5-flash-lite": Model(input_usd=0.30, output_usd=2.50),
        "gemini-3.5-flash": Model(input_usd=1.50, output_usd=9.00),
        "gemini-2.5-flash": Model(
            frame_tokens=258, frame_tokens_low=66, has_levels=False, served_as="gemini-3.5-flash-lite"
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Rules:
    """All of it."""

    keys: Mapping[str, Key] = field(default_factory=lambda: {KEY: Key()})
    models: Mapping[str, Model] = field(default_factory=lambda: dict(MODELS))
    limits: Limits = Limits()
    polls_until_active: int = 0
    """How many looks at a file still say PROCESSING."""
    processing_s: float = 0.0
    max_file_bytes: int = 2 * GIB
    max_storage_bytes: int = 20 * GIB
    keep_s: float = 48 * 3600.0
    durations: Mapping[str, float] = field(default_factory=dict)
    """Seconds of a video by the hex SHA-256 of its bytes, or by its size in bytes as text."""
    default_duration_s: float = 60.0
    youtube: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the public videos of YouTube, by their eleven letters; there are no others."""
    generate_s: float = 0.0
    """Real seconds an answer takes."""
    thoughts_tokens: int = 40
    """Tokens thought before an answer when the request does not limit thinking."""
    language: str = ""
    """Answer in this language (`en`, `zh`), whatever the request says."""

    @staticmethod
    def from_json(given: Mapping[str, Any]) -> Rules:
        """The rules of a JSON object with the names above. Raises `TypeError` on an unknown name."""
        made = dict(given)
        if "limits" in made:
            made["limits"] = Limits(**made["limits"])
        for name, kind in (("keys", Key), ("models", Model)):
            if name in made:
                made[name] = _each(kind, made[name])
        return Rules(**made)


def _each(kind: type[_Kind], given: Mapping[str, Any]) -> dict[str, _Kind]:
    return {name: kind(**fields) for name, fields in given.items()}
