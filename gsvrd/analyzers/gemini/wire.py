"""What both SDKs and the uploader have in common on the wire: reading Google's JSON, and a total deadline over `requests`.

The SDKs differ in what they make of an answer (one drops words it does not know, each has its own exceptions, one puts
URLs into their texts), so answers and errors are read here from the JSON itself. Nothing here imports an SDK.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from gsvrd.analyzers.gemini.service import RemoteFile, Reply, ServiceFault
from gsvrd.logs import redact

CONNECT_S = 30.0
"""To reach the service, and for each block sent."""
_LONGEST = 600
_BLOCK = 1 << 16
_BEARER = re.compile(r"(?i)(upload_id=)[^&\s\"']+")


def clean(text: str, key: str) -> str:
    """The service's words, short and without the key or what opens an upload."""
    without = text.replace(key, "[hidden]") if key else text
    return _BEARER.sub(r"\1[hidden]", redact(without))[:_LONGEST]


def late(timeout_s: float) -> ServiceFault:
    """The deadline passed."""
    return ServiceFault(0, f"no complete answer within {timeout_s:.0f} s")


def payload(code: int, body: bytes, key: str) -> dict[str, Any]:
    """The JSON object of an answer. Raises `ServiceFault` for a refusal and for anything that is no such answer."""
    try:
        told = json.loads(body) if body.strip() else {}
    except ValueError:
        told = None
    if isinstance(told, list) and len(told) == 1:
        told = told[0]
    if 200 <= code < 300 and isinstance(told, dict):
        return told
    error = told.get("error") if isinstance(told, dict) else None
    if isinstance(error, dict) and code >= 400:
        details = error.get("details")
        raise ServiceFault(
            code,
            clean(str(error.get("message") or f"HTTP {code}"), key),
            status=str(error.get("status") or "UNKNOWN"),
            details=[d for d in details if isinstance(d, dict)] if isinstance(details, list) else (),
        )
    raise ServiceFault(code, f"HTTP {code} with an answer that is not the service's")


def file_of(told: Mapping[str, Any]) -> RemoteFile:
    """A File resource."""
    error = told.get("error")
    return RemoteFile(
        name=str(told.get("name") or ""),
        uri=str(told.get("uri") or ""),
        mime_type=str(told.get("mimeType") or ""),
        size_bytes=_whole(told.get("sizeBytes")),
        state=str(told.get("state") or ""),
        created_at=_moment(told.get("createTime")),
        expires_at=_moment(told.get("expirationTime")),
        error=str(error.get("message") or "")[:_LONGEST] if isinstance(error, dict) else "",
    )


def reply_of(told: Mapping[str, Any]) -> Reply:
    """The answer of generateContent."""
    candidate = next(iter(_list(told.get("candidates"))), {})
    parts = _list(_dict(candidate.get("content")).get("parts"))
    usage = _dict(told.get("usageMetadata"))
    tokens_in = _whole(usage.get("promptTokenCount")) + _whole(usage.get("toolUsePromptTokenCount"))
    spoken = _whole(usage.get("candidatesTokenCount")) + _whole(usage.get("thoughtsTokenCount"))
    return Reply(
        text="".join(str(part["text"]) for part in parts if "text" in part and not part.get("thought")),
        finish=str(candidate.get("finishReason") or ""),
        blocked=str(_dict(told.get("promptFeedback")).get("blockReason") or ""),
        model=str(told.get("modelVersion") or ""),
        tokens_in=tokens_in,
        tokens_out=max(spoken, _whole(usage.get("totalTokenCount")) - tokens_in),
        has_usage=bool(usage),
    )


def network_fault(error: Exception) -> ServiceFault:
    """For an exception of `requests` or urllib3; its text has the URL, so only its kind is told."""
    is_unsent = isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(_reason(error), NewConnectionError)
    words = "the service cannot be reached" if is_unsent else "the connection broke"
    return ServiceFault(0, f"{words} ({type(error).__name__})", was_sent=not is_unsent)


NETWORK_ERRORS: tuple[type[Exception], ...] = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
)


class Bounded(HTTPAdapter):
    """Sends once, reads the whole answer within `timeout_s`, follows no redirect, and refuses all that is no answer.

    Mounted on a session of `requests`: google-generativeai's or the uploader's. Raises `ServiceFault` through it, before
    anybody there can think of sending again.
    """

    def __init__(self, key: str, timeout_s: float) -> None:
        super().__init__(max_retries=0)
        self.timeout_s = timeout_s
        """From the start of a call to the last byte of its answer."""
        self.silence_s = timeout_s
        """How long the service may say nothing after all was sent."""
        self.payloads: list[dict[str, Any]] = []
        """The answers since somebody last cleared the list."""
        self._key = key

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        """See `HTTPAdapter.send`."""
        deadline = time.monotonic() + self.timeout_s
        options |= {"stream": True, "timeout": (min(CONNECT_S, self.timeout_s), min(self.silence_s, self.timeout_s))}
        try:
            response = super().send(request, **options)
            body = self._read(response, deadline)
        except NETWORK_ERRORS as error:
            fault = late(self.timeout_s) if _is_timeout(error) else network_fault(error)
        else:
            self.payloads.append(payload(response.status_code, body, self._key))
            response.raw = io.BytesIO(body)
            return response
        # Out of the handler, so that the error whose text has the URL does not travel with the fault.
        raise fault

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        body = bytearray()
        try:
            # `read1` gives what has come; `read` would wait for a full block, however slowly it trickles in.
            while piece := response.raw.read1(_BLOCK, decode_content=True):
                body += piece
                if time.monotonic() > deadline:
                    raise late(self.timeout_s)
        finally:
            response.raw.close()
        return bytes(body)


def _is_timeout(error: Exception) -> bool:
    kinds = (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError)
    return isinstance(error, kinds)


def _reason(error: Exception) -> object:
    """What `requests` wraps: its ConnectionError holds urllib3's, which holds the reason."""
    inner = error.args[0] if error.args else None
    return getattr(inner, "reason", inner)


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _whole(value: Any) -> int:
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


def _moment(value: Any) -> float:
    """UTC epoch seconds of a time stamp, whose fraction may have nine digits; 0 if there is none."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", str(value or "")).replace("Z", "+00:00")
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
