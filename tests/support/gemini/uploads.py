"""The two resumable upload protocols over one store of sessions. `service` calls it; it takes the lock it is given.

Google's own (`X-Goog-Upload-*`, google-genai and uploaders by hand) and the classic one of googleapiclient
(`Content-Range`, 308). The upload URL is the credential: its requests carry no key.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import refusals
from .body import Body
from .faults import Fault, Kind, Route
from .files import GRAIN, File, Files, Session
from .rules import Rules

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Reply:
    """What goes back. `fault` is for the wire: how the sending goes wrong."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json; charset=UTF-8"
    fault: Fault | None = None
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece:
    """One request to an upload URL, in the words of neither protocol."""

    classic: bool
    offset: int
    final: bool
    asks: bool = False
    """How far did we come?"""
    cancels: bool = False


def route_of(method: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Route:
    """What a request to the upload address is for."""
    if "upload_id" not in query:
        return Route.UPLOAD_START
    command = headers.get("x-goog-upload-command", "")
    if "query" in command or "*/" in headers.get("content-range", ""):
        return Route.UPLOAD_QUERY
    return Route.UPLOAD_CANCEL if "cancel" in command or method == "DELETE" else Route.UPLOAD_CHUNK


def started(session: Session, headers: Mapping[str, str], url: str) -> Reply:
    """The answer that names the upload URL."""
    if "x-goog-upload-protocol" not in headers:
        return Reply(headers={"Location": url}, body=b"")
    told = {"Status": "active", "URL": url, "Control-URL": url, "Chunk-Granularity": str(GRAIN)}
    return Reply(headers={f"X-Goog-Upload-{name}": value for name, value in told.items()}, body=b"")


def announced(headers: Mapping[str, str]) -> tuple[str, int | None]:
    """The type and the size in bytes that the start request promises."""
    size = headers.get("x-goog-upload-header-content-length") or headers.get("x-upload-content-length")
    kind = headers.get("x-goog-upload-header-content-type") or headers.get("x-upload-content-type") or ""
    return kind, int(size) if size else None


def piece_of(method: str, headers: Mapping[str, str]) -> Piece:
    """Read the headers of a request to an upload URL. Raises `Refusal`."""
    command = headers.get("x-goog-upload-command", "")
    if command:
        return Piece(
            classic=False,
            offset=int(headers.get("x-goog-upload-offset") or 0),
            final="finalize" in command,
            asks="query" in command,
            cancels="cancel" in command,
        )
    told = headers.get("content-range")
    if told is None:
        return Piece(classic=True, offset=0, final=True, cancels=method == "DELETE")
    found = _RANGE.fullmatch(told)
    if not found:
        raise refusals.bad_request(f"Content-Range {told!r} cannot be read.")
    if found[1] is None:
        return Piece(classic=True, offset=0, final=False, asks=True)
    return Piece(classic=True, offset=int(found[1]), final=found[3] == str(int(found[2]) + 1))


@dataclass
class Uploads:
    """Takes pieces in. `shown` makes the JSON of a finished file."""

    files: Files
    lock: threading.RLock
    shown: Callable[[File], dict[str, Any]]

    def take(self, rules: Rules, session: Session, piece: Piece, body: Body, now: float, fault: Fault | None) -> Reply:
        """Do what the request says. Raises `Refusal`, and `ConnectionError` when the client breaks off."""
        with self.lock:
            session.turn += 1
            turn = session.turn
            if piece.cancels:
                self.files.cancel(session)
                return Reply(headers={"X-Goog-Upload-Status": "cancelled"})
        if piece.asks:
            return self._progress(session, piece)
        if session.finished:
            return self._done(session.finished, piece)
        if piece.offset != session.received:
            raise refusals.bad_request(f"The offset is {piece.offset}, but {session.received} bytes have come.")
        if not self._received(rules, session, turn, piece, body, fault):
            return Reply(fault=fault)
        if not piece.final:
            return self._progress(session, piece)
        with self.lock:
            session.fails = session.fails or bool(fault and fault.kind is Kind.FILE_FAILED)
            return self._done(self.files.finish(rules, session, now), piece)

    def _received(
        self, rules: Rules, session: Session, turn: int, piece: Piece, body: Body, fault: Fault | None
    ) -> bool:
        """Take the body in, whole grains first; false when the fault's `after_bytes` ended it."""
        limit = fault.after_bytes if fault and fault.kind is Kind.RESET else None
        tail = b""
        for block in body.blocks(GRAIN, limit):
            if len(block) < GRAIN:
                tail = block
                continue
            with self.lock:
                self.files.add(rules, session, turn, block)
        if limit is not None:
            return False
        if tail and not piece.final:
            raise refusals.bad_request(f"A chunk must be a multiple of {GRAIN} bytes.")
        with self.lock:
            self.files.add(rules, session, turn, tail)
        return True

    def _progress(self, session: Session, piece: Piece) -> Reply:
        if piece.classic:
            if session.finished:
                return self._done(session.finished, piece)
            return Reply(308, b"", {"Range": f"bytes=0-{session.received - 1}"} if session.received else {})
        # Whether a query after the end repeats the file is a guess: it does not, so the client must look for its name.
        status = "final" if session.finished else "active"
        received = str(session.received)
        return Reply(body=b"", headers={"X-Goog-Upload-Status": status, "X-Goog-Upload-Size-Received": received})

    def _done(self, file: File, piece: Piece) -> Reply:
        body = json.dumps({"file": self.shown(file)}).encode()
        return Reply(body=body, headers={} if piece.classic else {"X-Goog-Upload-Status": "final"})


def discovery(base: str) -> dict[str, Any]:
    """The discovery document, as far as googleapiclient needs it to upload."""
    upload = {
        "id": "generativelanguage.media.upload",
        "path": "v1beta/files",
        "flatPath": "v1beta/files",
        "httpMethod": "POST",
        "parameters": {},
        "parameterOrder": [],
        "request": {"$ref": "CreateFileRequest"},
        "response": {"$ref": "CreateFileResponse"},
        "supportsMediaUpload": True,
        "mediaUpload": {
            "accept": ["*/*"],
            "protocols": {
                "simple": {"multipart": True, "path": "/upload/v1beta/files"},
                "resumable": {"multipart": True, "path": "/resumable/upload/v1beta/files"},
            },
        },
    }
    holder = {"type": "object", "properties": {"file": {"$ref": "File"}}}
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "generativelanguage:v1beta",
        "name": "generativelanguage",
        "version": "v1beta",
        "protocol": "rest",
        "rootUrl": f"{base}/",
        "baseUrl": f"{base}/",
        "servicePath": "",
        "batchPath": "batch",
        "parameters": {"key": {"type": "string", "location": "query"}, "alt": {"type": "string", "location": "query"}},
        "schemas": {
            "File": {"id": "File", "type": "object", "properties": {"name": {"type": "string"}}},
            "CreateFileRequest": {"id": "CreateFileRequest", **holder},
            "CreateFileResponse": {"id": "CreateFileResponse", **holder},
        },
        "resources": {"media": {"methods": {"upload": upload}}},
    }
