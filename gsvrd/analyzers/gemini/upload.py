"""Sends a file to the service so that a break costs seconds, not the upload. Both SDKs use it: neither can resume.

Google's resumable protocol, one request for all the bytes that are left: memory stays flat, and after a break the
service says how far it came. The key goes into a header of the first request; the others carry none, since the
upload's URL is their credential. That URL stays in this module.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import requests

from gsvrd.analysis import MediaFacts
from gsvrd.analyzers.gemini.service import Endpoint, RemoteFile, ServiceFault
from gsvrd.analyzers.gemini.settings import GOOGLE
from gsvrd.analyzers.gemini.wire import Bounded, file_of, late
from gsvrd.errors import ErrorKind, TaskError

_BREAKS = 5
"""Breaks in a row between which nothing arrived."""
_SILENCE_S = 120.0
"""To be told that the last byte has arrived."""
_MIME = (
    # What the container's name holds, the type with pictures, the type without.
    ("webm", "video/webm", "audio/webm"),
    ("mp4", "video/mp4", "audio/mp4"),
    ("mpegts", "video/mpeg", "audio/mpeg"),
    ("mpeg", "video/mpeg", "audio/mpeg"),
    ("avi", "video/avi", "audio/mpeg"),
    ("flv", "video/x-flv", "audio/mpeg"),
    ("asf", "video/wmv", "audio/mpeg"),
    ("wav", "video/mp4", "audio/wav"),
    ("flac", "video/mp4", "audio/flac"),
    ("ogg", "video/webm", "audio/ogg"),
    ("mp3", "video/mp4", "audio/mp3"),
    ("aac", "video/mp4", "audio/aac"),
)


def mime_of(facts: MediaFacts) -> str:
    """The type the service is told; it looks into the file itself, but refuses unknown ones."""
    for word, seen, heard in _MIME:
        if word in facts.container:
            return seen if facts.video_codec else heard
    return "video/mp4" if facts.video_codec else "audio/mp4"


@dataclass(frozen=True, slots=True)
class Parcel:
    """A file to send."""

    path: str
    size_bytes: int
    mime_type: str
    name: str
    """`files/…`, of our choosing."""
    label: str
    """For people who look into the store."""


class Uploader:
    """Sends one file at a time. `pause` waits between a break and the next try."""

    def __init__(self, endpoint: Endpoint, timeout_s: float, pause: Callable[[float], None] = time.sleep) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._pause = pause
        self._wire = Bounded(endpoint.key, timeout_s)
        self._session = requests.Session()
        # Its DEBUG lines have the URL of the upload.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
        self._session.mount("https://", self._wire)
        self._session.mount("http://", self._wire)

    def upload(self, parcel: Parcel, progress: Callable[[float], None]) -> RemoteFile | None:
        """The file as the service has it now; None if it has all of it and its last word was lost (look by its name).

        `progress` hears the sent share. Raises `ServiceFault`, and `TaskError` if the source cannot be read to its end.
        """
        deadline = time.monotonic() + self._timeout_s
        url = self._start(parcel)
        offset: int | None = 0
        arrived = breaks = 0
        while True:
            try:
                if offset is None:
                    offset, is_done = self._ask(url, deadline)
                    if is_done:
                        return None
                    breaks = 0 if offset > arrived else breaks
                    arrived = offset
                return self._send(url, parcel, offset, deadline, progress)
            except ServiceFault as fault:
                if not _is_break(fault, resumed=arrived > 0) or breaks == _BREAKS or time.monotonic() > deadline:
                    raise _known(fault) from None
            offset = None  # only the service knows
            self._pause(max(0.0, min(2.0**breaks, deadline - time.monotonic())))
            breaks += 1

    def _start(self, parcel: Parcel) -> str:
        """Open an upload; its URL."""
        answer = self._post(
            f"{self._endpoint.base_url}/upload/v1beta/files",
            json.dumps({"file": {"name": parcel.name, "displayName": parcel.label}}).encode(),
            self._endpoint.small_timeout_s,
            {
                "x-goog-api-key": self._endpoint.key,
                "Content-Type": "application/json",
                "X-Goog-Upload-Protocol": "resumable",
                "X-Goog-Upload-Command": "start",
                "X-Goog-Upload-Header-Content-Length": str(parcel.size_bytes),
                "X-Goog-Upload-Header-Content-Type": parcel.mime_type,
            },
        )
        url = answer.headers.get("X-Goog-Upload-URL", "")
        if not url:
            raise ServiceFault(answer.status_code, "no place to send the file to was named")
        return _pinned(url, self._endpoint.base_url)

    def _send(
        self, url: str, parcel: Parcel, offset: int, deadline: float, progress: Callable[[float], None]
    ) -> RemoteFile:
        """Send the rest, and end the upload."""
        with open(parcel.path, "rb", buffering=0) as file:
            rest = _Rest(file.fileno(), offset, parcel.size_bytes, deadline, progress)
            answer = self._post(
                url,
                rest if len(rest) else b"",
                deadline - time.monotonic(),
                {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": str(offset)},
            )
        told = answer.json().get("file")
        if not isinstance(told, dict):
            raise ServiceFault(200, "the answer names no file")
        return file_of(told)

    def _ask(self, url: str, deadline: float) -> tuple[int, bool]:
        """How many bytes have arrived, and whether the file is complete."""
        timeout_s = min(self._endpoint.small_timeout_s, deadline - time.monotonic())
        answer = self._post(url, b"", timeout_s, {"X-Goog-Upload-Command": "query"})
        status = answer.headers.get("X-Goog-Upload-Status", "")
        if status not in ("active", "final"):
            raise _given_up()
        return int(answer.headers.get("X-Goog-Upload-Size-Received") or 0), status == "final"

    def _post(self, url: str, body: bytes | _Rest, timeout_s: float, headers: dict[str, str]) -> requests.Response:
        if timeout_s <= 0:
            raise late(self._timeout_s)
        self._wire.timeout_s, self._wire.silence_s = timeout_s, _SILENCE_S
        self._wire.payloads.clear()
        return self._session.post(url, data=body, headers=headers, allow_redirects=False)


class _Rest:
    """The bytes of a file from `offset` on, read as they are sent."""

    def __init__(self, fd: int, offset: int, size: int, deadline: float, progress: Callable[[float], None]) -> None:
        self._fd = fd
        self._offset = offset
        self._size = size
        self._deadline = deadline
        self._progress = progress

    def __len__(self) -> int:
        return self._size - self._offset

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(1 << 16):
            yield block

    def read(self, size: int) -> bytes:
        """The next block. Raises `ServiceFault` past the deadline, `TaskError` when the source ends early."""
        if time.monotonic() > self._deadline:
            raise ServiceFault(0, "the upload took too long")
        wanted = min(size, len(self))
        try:
            block = os.pread(self._fd, wanted, self._offset)
        except OSError as error:
            hint = "Check the disk that the inbox is on."
            raise TaskError(ErrorKind.PLACE, f"the video cannot be read: {error.strerror}", hint) from error
        if wanted and not block:
            raise TaskError(ErrorKind.CHANGED, "the file became shorter while it was sent", "Nothing to do.")
        self._offset += len(block)
        self._progress(self._offset / max(1, self._size))
        return block


def _is_break(fault: ServiceFault, *, resumed: bool) -> bool:
    """Whether the upload may be gone on with; a late byte of the broken connection can make a resumed offset wrong."""
    return fault.code == 408 or fault.code >= 500 or fault.code < 400 or (resumed and fault.code in (400, 416))


def _known(fault: ServiceFault) -> ServiceFault:
    """A session that the service has forgotten is no wrong request: the next attempt opens another."""
    return _given_up() if fault.code in (404, 410) else fault


def _given_up() -> ServiceFault:
    return ServiceFault(409, "the upload was given up by the service", status="ABORTED")


def _pinned(url: str, base_url: str) -> str:
    """The upload's URL at the address that was configured: behind a gateway Google names its own."""
    if base_url == GOOGLE:
        return url
    base, given = urlsplit(base_url), urlsplit(url)
    path = given.path if given.path.startswith(base.path) else base.path + given.path
    return urlunsplit((base.scheme, base.netloc, path, given.query, ""))
