"""Uploads and stored files: sizes, hashes and states, never the bytes. `service` calls it with its lock held.

A session keeps what arrived in whole grains; what a broken connection left of the last grain is lost, so the client
has to ask how far it came. Only the newest request of a session may add to it: an old connection that wakes up late
writes into nothing.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from . import refusals
from .rules import Rules

GRAIN = 256 * 1024
"""Chunks that are not the last one must be a multiple of this."""
_NAME = re.compile(r"files/[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_HINT = re.compile(r"\[(duration|lang)=([^\]]+)\]")


@dataclass
class File:
    """One stored file. Times are UTC epoch seconds."""

    name: str
    display_name: str
    mime_type: str
    size_bytes: int
    sha256: str
    created_at: float
    fails: bool = False
    polls: int = 0

    @property
    def hints(self) -> Mapping[str, str]:
        """What the display name says of the video: `[duration=90.5]`, `[lang=zh]`."""
        return dict(_HINT.findall(self.display_name))


@dataclass
class Session:
    """One resumable upload."""

    id: str
    number: int
    name: str
    display_name: str
    mime_type: str
    size_bytes: int | None
    received: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    turn: int = 0
    fails: bool = False
    finished: File | None = None


class Files:
    """The store of one project's files. Not thread-safe."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._sessions: dict[str, Session] = {}
        self._numbers = itertools.count(1)

    def start(
        self, rules: Rules, described: Mapping[str, Any], mime_type: str, size: int | None, now: float
    ) -> Session:
        """Open an upload. Raises `Refusal` for a wrong or taken name and for a size beyond the limits."""
        name = str(described.get("name") or "")
        if name and not name.startswith("files/"):
            name = f"files/{name}"
        if name and not _NAME.fullmatch(name):
            raise refusals.bad_request(f"The file name {name!r} must be files/ and up to 40 of a-z, 0-9 and dashes.")
        self._expire(rules, now)
        if name in self._files:
            raise refusals.name_taken(name)
        self._check_size(rules, size or 0)
        session = Session(
            id=secrets.token_urlsafe(16),
            number=next(self._numbers),
            name=name,
            display_name=str(described.get("displayName") or ""),
            mime_type=str(described.get("mimeType") or mime_type or "application/octet-stream"),
            size_bytes=size,
        )
        self._sessions[session.id] = session
        return session

    def session(self, upload_id: str) -> Session:
        """The upload of that id. Raises `Refusal`."""
        found = self._sessions.get(upload_id)
        if found is None:
            raise refusals.no_route("upload")
        return found

    def add(self, rules: Rules, session: Session, turn: int, block: bytes) -> None:
        """Take in a piece. Raises `Refusal` when it is too much, `ConnectionError` when a newer request took over."""
        if session.turn != turn:
            raise ConnectionAbortedError("a newer request of this upload is under way")
        total = session.received + len(block)
        if session.size_bytes is not None and total > session.size_bytes:
            raise refusals.bad_request("More bytes were sent than announced.")
        self._check_size(rules, total)
        session.digest.update(block)
        session.received = total

    def finish(self, rules: Rules, session: Session, now: float) -> File:
        """Make the file. Raises `Refusal` when bytes are missing or the name was taken meanwhile."""
        if session.finished:
            return session.finished
        if session.size_bytes is not None and session.received != session.size_bytes:
            raise refusals.bad_request(f"{session.received} bytes came, {session.size_bytes} were announced.")
        name = session.name or f"files/{secrets.token_hex(6)}"
        if name in self._files:
            raise refusals.name_taken(name)
        session.finished = self._files[name] = File(
            name=name,
            display_name=session.display_name,
            mime_type=session.mime_type,
            size_bytes=session.received,
            sha256=session.digest.hexdigest(),
            created_at=now,
            fails=session.fails,
        )
        return session.finished

    def cancel(self, session: Session) -> None:
        """Forget an upload."""
        self._sessions.pop(session.id, None)

    def get(self, rules: Rules, name: str, now: float) -> File:
        """The file. Raises `Refusal` (403) when it is not there."""
        self._expire(rules, now)
        found = self._files.get(name)
        if found is None:
            raise refusals.file_gone(name)
        return found

    def delete(self, rules: Rules, name: str, now: float) -> None:
        """Remove the file. Raises `Refusal` (403) when it is not there."""
        self.get(rules, name, now)
        del self._files[name]

    def alive(self, rules: Rules, now: float) -> list[File]:
        """All files that have not expired, the newest first."""
        self._expire(rules, now)
        return list(reversed(self._files.values()))

    def open_uploads(self) -> int:
        """How many uploads were begun and neither finished nor cancelled."""
        return sum(1 for session in self._sessions.values() if session.finished is None)

    def _expire(self, rules: Rules, now: float) -> None:
        old = [name for name, file in self._files.items() if file.created_at + rules.keep_s <= now]
        for name in old:
            del self._files[name]

    def _check_size(self, rules: Rules, size: int) -> None:
        if size > rules.max_file_bytes:
            raise refusals.bad_request(f"The file is larger than the limit of {rules.max_file_bytes} bytes.")
        if size + sum(file.size_bytes for file in self._files.values()) > rules.max_storage_bytes:
            raise refusals.storage_full(rules.max_storage_bytes)


def state(rules: Rules, file: File, now: float) -> str:
    """PROCESSING, ACTIVE or FAILED."""
    if file.polls < rules.polls_until_active or now < file.created_at + rules.processing_s:
        return "PROCESSING"
    return "FAILED" if file.fails else "ACTIVE"


def duration_s(rules: Rules, file: File) -> float:
    """How long the video is: by its hash, its size, the hint in its display name, else the default."""
    for known in (file.sha256, str(file.size_bytes)):
        if known in rules.durations:
            return rules.durations[known]
    return float(file.hints.get("duration", rules.default_duration_s))


def as_json(rules: Rules, file: File, now: float, base: str) -> dict[str, Any]:
    """The File resource; its URI lies under `base`."""
    at = state(rules, file, now)
    made: dict[str, Any] = {
        "name": file.name,
        "displayName": file.display_name,
        "mimeType": file.mime_type,
        "sizeBytes": str(file.size_bytes),
        "createTime": _stamp(file.created_at),
        "updateTime": _stamp(file.created_at),
        "expirationTime": _stamp(file.created_at + rules.keep_s),
        # Base64 of the hex digits, not of the digest: recalled, not re-checked.
        "sha256Hash": base64.b64encode(file.sha256.encode()).decode(),
        "uri": f"{base}/v1beta/{file.name}",
        "state": at,
        "source": "UPLOADED",
    }
    if at == "FAILED":
        made["error"] = {"code": 3, "message": "The file failed to be processed."}
    if at == "ACTIVE" and file.mime_type.startswith("video/"):
        made["videoMetadata"] = {"videoDuration": f"{duration_s(rules, file):.3f}s"}
    return made


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
