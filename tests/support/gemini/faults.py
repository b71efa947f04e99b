"""Trouble on demand: which call is spoilt, and how. `service` asks the `Script` once for every request.

A `Fault` counts the calls that fit it since it was set, so a script reads the same whatever happened before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from . import refusals
from .refusals import Refusal
from .rules import GIB


class Route(StrEnum):
    """What a request is for; faults name a route or the beginning of one."""

    GENERATE = "generate"
    COUNT = "count"
    UPLOAD_START = "upload.start"
    UPLOAD_CHUNK = "upload.chunk"
    UPLOAD_QUERY = "upload.query"
    UPLOAD_CANCEL = "upload.cancel"
    FILE_GET = "files.get"
    FILE_LIST = "files.list"
    FILE_DELETE = "files.delete"
    MODEL_GET = "models.get"
    DISCOVERY = "discovery"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """What goes wrong."""

    # Refused, with Google's words.
    RATE_MINUTE = "rate_minute"
    RATE_TOKENS = "rate_tokens"
    RATE_DAY = "rate_day"
    RATE_BARE = "rate_bare"
    STORAGE = "storage"
    INTERNAL = "internal"
    OVERLOADED = "overloaded"
    DEADLINE = "deadline"
    UNAUTHORIZED = "unauthorized"
    KEY_INVALID = "key_invalid"
    KEY_LEAKED = "key_leaked"
    LOCATION = "location"
    MODEL_GONE = "model_gone"
    FILE_GONE = "file_gone"
    FILE_NOT_ACTIVE = "file_not_active"
    BAD_REQUEST = "bad_request"
    # On the wire.
    RESET = "reset"
    """The connection is reset: before anything is done, after `after_bytes` of an upload, or with `late` after all."""
    HANG = "hang"
    """Nothing is done and nothing is said for `seconds`, then the connection is reset."""
    TRICKLE = "trickle"
    """The answer comes in small pieces over `seconds`."""
    CUT_BODY = "cut_body"
    """Half of the answer, then the end."""
    HTML_200 = "html_200"
    HTML_502 = "html_502"
    # In the answer of generateContent; all of these are billed.
    BAD_JSON = "bad_json"
    FENCED_JSON = "fenced_json"
    TEXT = "text"
    """The answer is `text`."""
    OTHER_LANGUAGE = "other_language"
    LATE_TIMES = "late_times"
    """Times beyond the end of the video."""
    REPETITION = "repetition"
    SAFETY = "safety"
    RECITATION = "recitation"
    FINISH = "finish"
    """No parts, and `text` is the finish reason."""
    MAX_TOKENS = "max_tokens"
    MAX_TOKENS_EMPTY = "max_tokens_empty"
    PROMPT_BLOCKED = "prompt_blocked"
    NO_CANDIDATES = "no_candidates"
    # In a file.
    FILE_FAILED = "file_failed"


_DEFAULT_ROUTES = {Kind.FILE_FAILED: Route.UPLOAD_CHUNK, Kind.STORAGE: Route.UPLOAD_START}
_UNDONE = frozenset({Kind.HANG, Kind.HTML_200, Kind.HTML_502})


@dataclass(frozen=True, slots=True)
class Fault:
    """Trouble of one kind for the calls that fit."""

    kind: Kind
    route: str = ""
    """A `Route` or its beginning; empty is where the kind belongs (generate, for most), `*` is everywhere."""
    calls: tuple[int, ...] | None = (1,)
    """Which of the fitting calls, counted from 1; None is every one."""
    file: str = ""
    """A part of the name, the display name or the hex hash of a file that the call is about."""
    model: str = ""
    delay: str = "38s"
    """RetryInfo of a refusal for rate; a full store always says `refusals.FOREVER`."""
    seconds: float = 3600.0
    after_bytes: int | None = None
    late: bool = False
    text: str = ""

    @staticmethod
    def from_json(given: Mapping[str, Any]) -> Fault:
        """A fault of a JSON object with the names above. Raises `TypeError` or `ValueError`."""
        made = {**given, "kind": Kind(given["kind"])}
        if made.get("calls") is not None:
            made["calls"] = tuple(made["calls"])
        return Fault(**made)

    @property
    def undone(self) -> bool:
        """The request must have no effect."""
        return self.kind in _UNDONE or (self.cuts_request and self.after_bytes is None)

    @property
    def cuts_request(self) -> bool:
        """The connection ends before all of the request was read."""
        return self.kind is Kind.RESET and not self.late

    def fits(self, route: Route, model: str, names: Iterable[str]) -> bool:
        """May it strike this call?"""
        wanted = self.route or _DEFAULT_ROUTES.get(self.kind, Route.GENERATE)
        if wanted != "*" and not route.startswith(wanted):
            return False
        if self.model and self.model != model:
            return False
        return not self.file or any(self.file in name for name in names)

    def refusal(self, model: str, file: str) -> Refusal | None:
        """The error reply, when the kind is one."""
        make = _REFUSALS.get(self.kind)
        return make(self, model, file) if make else None


_REFUSALS: dict[Kind, Callable[[Fault, str, str], Refusal]] = {
    Kind.RATE_MINUTE: lambda fault, model, _: refusals.over_quota(refusals.PER_MINUTE, model, 10, fault.delay),
    Kind.RATE_TOKENS: lambda fault, model, _: refusals.over_quota(
        refusals.TOKENS_PER_MINUTE, model, 250_000, fault.delay
    ),
    Kind.RATE_DAY: lambda fault, model, _: refusals.over_quota(refusals.PER_DAY, model, 20, fault.delay),
    Kind.RATE_BARE: lambda *_: refusals.exhausted(),
    Kind.STORAGE: lambda *_: refusals.storage_full(20 * GIB),
    Kind.INTERNAL: lambda *_: refusals.internal(),
    Kind.OVERLOADED: lambda *_: refusals.overloaded(),
    Kind.DEADLINE: lambda *_: refusals.deadline(),
    Kind.UNAUTHORIZED: lambda *_: refusals.unauthorized(),
    Kind.KEY_INVALID: lambda *_: refusals.key_invalid(),
    Kind.KEY_LEAKED: lambda *_: refusals.key_leaked(),
    Kind.LOCATION: lambda *_: refusals.location(),
    Kind.MODEL_GONE: lambda _, model, __: refusals.no_model(model),
    Kind.FILE_GONE: lambda _, __, file: refusals.file_gone(file),
    Kind.FILE_NOT_ACTIVE: lambda _, __, file: refusals.file_not_active(file),
    Kind.BAD_REQUEST: lambda *_: refusals.bad_request("Request contains an invalid argument."),
}


@dataclass
class _Counted:
    fault: Fault
    seen: int = 0


@dataclass
class Script:
    """The faults in force. Safe to change while requests run."""

    _counted: list[_Counted] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *faults: Fault) -> None:
        """From the next request on."""
        with self._lock:
            self._counted.extend(_Counted(fault) for fault in faults)

    def clear(self) -> None:
        """All is well again."""
        with self._lock:
            self._counted.clear()

    def strike(self, route: Route, model: str, names: Iterable[str]) -> Fault | None:
        """Count this call and say which fault it meets, the oldest first."""
        struck = None
        known = tuple(names)
        with self._lock:
            for counted in self._counted:
                if not counted.fault.fits(route, model, known):
                    continue
                counted.seen += 1
                if struck is None and (counted.fault.calls is None or counted.seen in counted.fault.calls):
                    struck = counted.fault
        return struck
