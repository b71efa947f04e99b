"""What a fault of the service means, and what follows from it. Pure: one table for both SDKs and the uploader.

Known by type and reason first; words in messages, which Google changes, come last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gsvrd.analyzers.base import Spent
from gsvrd.analyzers.gemini.service import ServiceFault
from gsvrd.errors import ErrorKind, Snooze, TaskError

SHORTEST_S = 1.0
LONGEST_S = 3600.0
"""Delays are believed between these two: a full store comes with one of 292 thousand million years."""
_UNSAID_S = 30.0
"""To wait where the service does not say how long."""


class Trouble(StrEnum):
    """Kinds of faults."""

    RATE = "rate"
    """Too much in this minute."""
    DAILY = "daily"
    """Too much today. The delay that comes with it is no use."""
    STORAGE = "storage"
    """The project's files take all the room there is."""
    KEY = "key"
    """The key, or the account or place it is used from, is not accepted."""
    MODEL = "model"
    FILE_GONE = "file_gone"
    """Deleted, expired, or never there."""
    NOT_ACTIVE = "not_active"
    """The file is still being processed, or has failed."""
    TAKEN = "taken"
    """There is a file of that name already."""
    REQUEST = "request"
    """It can never work."""
    SERVER = "server"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What it is; `retry_after_s` where the service named a delay, within sane bounds."""

    trouble: Trouble
    retry_after_s: float | None = None


_KINDS = {
    Trouble.RATE: ErrorKind.QUOTA,
    Trouble.DAILY: ErrorKind.QUOTA,
    Trouble.STORAGE: ErrorKind.QUOTA,
    Trouble.KEY: ErrorKind.KEY,
    Trouble.MODEL: ErrorKind.MODEL,
    Trouble.FILE_GONE: ErrorKind.SERVER,
    Trouble.NOT_ACTIVE: ErrorKind.SERVER,
    Trouble.TAKEN: ErrorKind.SERVER,
    Trouble.REQUEST: ErrorKind.REQUEST,
    Trouble.SERVER: ErrorKind.SERVER,
    Trouble.NETWORK: ErrorKind.NETWORK,
}
_HINTS = {
    Trouble.KEY: "Check the key, its restrictions and its project in Google AI Studio; then `gsvrctl resume`.",
    Trouble.MODEL: "Choose a model that exists in analyzer.gemini.model, for example gemini-3.8-flash.",
    Trouble.REQUEST: "The service says that this can never work; its words are above.",
    Trouble.SERVER: "Nothing to do: it is tried again. If it lasts, check analyzer.gemini.base_url.",
    Trouble.NETWORK: "Check the connection to the internet; it is tried again.",
}
_BILLED_NOTHING = frozenset({Trouble.RATE, Trouble.DAILY, Trouble.STORAGE, Trouble.KEY, Trouble.MODEL, Trouble.REQUEST})
_DELAY = re.compile(r"(?:(\d+)h)?\s*(?:(\d+)m)?\s*(\d+(?:\.\d+)?)s")


def classify(code: int, status: str, message: str, details: Sequence[Mapping[str, Any]]) -> Verdict:
    """What an error means: HTTP `code` (0: no answer came), Google's `status` word, its message and details."""
    if code == 0:
        return Verdict(Trouble.NETWORK)
    if not status:
        # Not the service's own words: a proxy's page, half an answer, a wrong address.
        return Verdict(Trouble.SERVER)
    words = message.lower()
    if code == 429 or status == "RESOURCE_EXHAUSTED":
        return _exhausted(words, details)
    return Verdict(_refused(code, status, words, {str(d.get("reason") or "") for d in details}))


def verdict_of(fault: ServiceFault) -> Verdict:
    """`classify` for a fault."""
    return classify(fault.code, fault.status, str(fault), fault.details)


def spent_on(fault: ServiceFault) -> Spent:
    """How a call that ended so is settled."""
    verdict = verdict_of(fault)
    return Spent(
        outcome=_KINDS[verdict.trouble],
        was_sent=fault.was_sent,
        # Google bills no call that it answers with an error; of all else nobody knows.
        is_known=fault.is_refusal or not fault.was_sent or verdict.trouble in _BILLED_NOTHING,
        retry_after_s=verdict.retry_after_s,
        is_daily=verdict.trouble is Trouble.DAILY,
    )


def error_of(fault: ServiceFault) -> TaskError | Snooze:
    """What the attempt ends with."""
    verdict = verdict_of(fault)
    match verdict.trouble:
        case Trouble.RATE:
            return Snooze(verdict.retry_after_s or _UNSAID_S, f"Gemini wants fewer requests: {_first_line(fault)}")
        case Trouble.DAILY:
            return Snooze(LONGEST_S, f"Gemini's quota of the day is used up: {_first_line(fault)}")
        case Trouble.STORAGE:
            return Snooze(verdict.retry_after_s or LONGEST_S, "Gemini's file store is full")
    said = f"Gemini ({fault.code or 'no answer'}): {fault}"
    return TaskError(_KINDS[verdict.trouble], said, _HINTS.get(verdict.trouble, ""))


def _exhausted(words: str, details: Sequence[Mapping[str, Any]]) -> Verdict:
    quotas = " ".join(_quotas(details)).lower() or words.replace(" ", "")
    if "perday" in quotas:
        return Verdict(Trouble.DAILY)
    if "filestorage" in quotas or "file_storage" in quotas:
        return Verdict(Trouble.STORAGE, _delay(words, details))
    return Verdict(Trouble.RATE, _delay(words, details))


def _refused(code: int, status: str, words: str, reasons: set[str]) -> Trouble:
    if code == 401 or reasons & {"API_KEY_INVALID", "API_KEY_EXPIRED", "SERVICE_DISABLED", "BILLING_DISABLED"}:
        return Trouble.KEY
    if code in (403, 404) and "file" in words and ("may not exist" in words or "not found" in words):
        return Trouble.FILE_GONE
    if code == 403:
        return Trouble.KEY
    if code == 404:
        return Trouble.MODEL if "model" in words else Trouble.REQUEST
    if code == 409:
        return Trouble.TAKEN if status == "ALREADY_EXISTS" else Trouble.SERVER
    if code in (408, 499) or code >= 500 or code < 400:
        return Trouble.SERVER
    if status == "FAILED_PRECONDITION":
        if "active state" in words:
            return Trouble.NOT_ACTIVE
        if "location" in words or "billing" in words:
            return Trouble.KEY
    if code == 400 and "api key" in words:
        return Trouble.KEY
    return Trouble.REQUEST


def _quotas(details: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for detail in details:
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, Mapping):
                yield f"{violation.get('quotaId', '')} {violation.get('quotaMetric', '')}"


def _delay(words: str, details: Sequence[Mapping[str, Any]]) -> float | None:
    told = next((d["retryDelay"] for d in details if "retryDelay" in d), None)
    found = _DELAY.fullmatch(str(told)) or _DELAY.search(words.partition("retry in")[2])
    if not found:
        return None
    hours, minutes, seconds = found.groups()
    delay_s = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
    return min(max(SHORTEST_S, delay_s), LONGEST_S) if math.isfinite(delay_s) else LONGEST_S


def _first_line(fault: ServiceFault) -> str:
    return str(fault).partition("\n")[0][:200]
