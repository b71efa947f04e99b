"""How many tokens a request weighs, estimated upwards: what is reserved for it must not be passed. Pure."""

from __future__ import annotations

import json
import math

from gsvrd.analyzers.gemini.service import Request
from gsvrd.analyzers.gemini.settings import GeminiSettings

UPWARDS = 1.05
"""Containers and models count seconds differently."""
SOUND_PER_SECOND = 32.0
"""Of the tokens of a second; the rest are its picture."""
_HIGH_RESOLUTION = 4.0
"""How much more a picture weighs."""


def per_second(settings: GeminiSettings) -> float:
    """Tokens of a second of video, with the pictures that are asked for."""
    picture = max(0.0, settings.tokens_per_second - SOUND_PER_SECOND) * (settings.fps or 1.0)
    return SOUND_PER_SECOND + picture * (_HIGH_RESOLUTION if settings.media_resolution == "high" else 1.0)


def of_texts(request: Request, *, with_turns: bool) -> int:
    """Tokens of the system instruction and the schema, and of what is said in the turns."""
    texts = [request.system, json.dumps(request.schema)]
    if with_turns:
        texts += [turn.text for turn in request.turns]
    return sum(map(of_text, texts))


def of_text(text: str) -> int:
    """What a text weighs at most: one for each letter beyond ASCII, one for three others."""
    ascii_letters = sum(1 for letter in text if letter < "\x80")
    return len(text) - ascii_letters + math.ceil(ascii_letters / 3)
