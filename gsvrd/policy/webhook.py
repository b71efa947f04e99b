"""Webhooks: how a message is signed, and what its receiver's answer leads to.

Pure: the courier's child signs with a time it is given, the daemon passes figures and a random number and carries the
verdict out. Headers and signature are those of Standard Webhooks, so that receivers find a library for them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from enum import StrEnum

BACKOFF_S, BACKOFF_MOST_S = 2.0, 3600.0
"""Before the second try at most the first, then twice as much each time; the true wait is anything below (full jitter)."""
RETRY_AFTER_MOST_S = 3600.0
FEW_TRIES = 3
"""After so many an answer is believed that says the message itself is wrong; and no message gets fewer, however old."""

_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)
_GONE = 410
_PASSING = frozenset({408, 425, 429})
"""Refusals that have nothing to do with the message."""


# -- signing -------------------------------------------------------------------------------------------------------------


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """The keys in a secret file: base64 of 24 to 64 bytes a line, with or without `whsec_`; the newest first.

    Raises `ValueError` with the number of the line, never with what is in it.
    """
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    secrets = tuple(_secret(number, line) for number, line in lines if line and not line.startswith("#"))
    if not secrets:
        raise ValueError("there is no secret in it")
    return secrets


def _secret(number: int, line: str) -> bytes:
    try:
        secret = base64.b64decode(line.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"line {number} is not base64") from None
    if len(secret) not in _SECRET_BYTES:
        raise ValueError(f"line {number} holds {len(secret)} bytes, and a secret has 24 to 64")
    return secret


def headers(message_id: str, timestamp: int, body: bytes, secrets: Iterable[bytes]) -> dict[str, str]:
    """What goes with a message that is sent at `timestamp` (UTC epoch seconds), signed with every secret there is."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    signatures = [base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets]
    made = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if signatures:
        made["webhook-signature"] = " ".join(f"v1,{signature}" for signature in signatures)
    return made


# -- judging -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one try."""

    status: int = 0
    """Of HTTP; 0 where none came back."""
    error: str = ""
    """What went wrong, for people; empty when nothing did."""
    retry_after_s: float | None = None
    refused: bool = False
    """Nothing was sent, and never will be with this address and this configuration."""


class Fate(StrEnum):
    """What becomes of the message."""

    DELIVERED = "delivered"
    AGAIN = "again"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A fate, and for `AGAIN` how long to wait."""

    fate: Fate
    delay_s: float = 0.0


def judge(reply: Reply, *, tries: int, age_s: float, give_up_s: float, chance: float) -> Verdict:
    """What follows from a try. `tries` counts it; `age_s` is the message's; `chance` in [0, 1) spreads the delays."""
    if 200 <= reply.status < 300:
        return Verdict(Fate.DELIVERED)
    if reply.refused or reply.status == _GONE:
        return Verdict(Fate.DEAD)
    blames_message = 300 <= reply.status < 500 and reply.status not in _PASSING
    if tries >= FEW_TRIES and (blames_message or age_s >= give_up_s):
        return Verdict(Fate.DEAD)
    backoff_s = chance * min(BACKOFF_MOST_S, BACKOFF_S * 2.0 ** min(tries - 1, 30))
    return Verdict(Fate.AGAIN, max(backoff_s, min(reply.retry_after_s or 0.0, RETRY_AFTER_MOST_S)))


def parse_retry_after(value: str | None, wall: float) -> float | None:
    """Seconds from a `Retry-After` header, which holds seconds or a date; None if it is missing or none of both."""
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    date = parsedate_tz(text)
    if date is None:
        return None
    try:
        return max(0.0, mktime_tz(date) - wall)
    except (ValueError, OverflowError):
        return None
