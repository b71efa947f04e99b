"""The video at the service: sent when somebody needs it, waited for, sent again if it has gone, removed in the end.

One `Film` lives for one attempt. What was sent is kept as the stage `REMOTE_STAGE`, so that the next attempt finds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict

from gsvrd.analyzers.base import Call, GovernedBench, Spent
from gsvrd.analyzers.gemini.classify import Trouble, verdict_of
from gsvrd.analyzers.gemini.permits import governed
from gsvrd.analyzers.gemini.proxy import make_proxy, worth_it
from gsvrd.analyzers.gemini.service import GeminiService, RemoteFile, ServiceFault
from gsvrd.analyzers.gemini.settings import GeminiSettings
from gsvrd.analyzers.gemini.upload import Parcel, Uploader, mime_of
from gsvrd.errors import ErrorKind, TaskError
from gsvrd.model import REMOTE_STAGE
from gsvrd.policy.limiter import Lane

_NAMES = 9
"""How many names of one content are tried: another task may have sent the same bytes."""
_STALE_S = 12 * 3600.0
"""Files of ours that are older make room when the store is full. Who needs one after all sends it again."""


class Uploaded(BaseModel):
    """What is kept of an upload. `expires_at` is UTC epoch seconds."""

    model_config = ConfigDict(frozen=True)

    name: str
    uri: str
    mime_type: str
    sha256: str
    size_bytes: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Payload:
    """What is sent."""

    path: str
    size_bytes: int
    mime_type: str
    is_proxy: bool


@dataclass
class Reference:
    """A video that the service fetches by itself; in the place of a `Film`. Nothing of it is ours to send or remove."""

    url: str

    def file(self) -> Uploaded:
        """The address. Google finds out by itself what it is."""
        return Uploaded(name="", uri=self.url, mime_type="", sha256="", size_bytes=0, expires_at=0.0)

    def gone(self) -> None:
        """Nothing to forget."""

    def inactive(self) -> None:
        """Nothing to wait for."""

    def remove(self) -> None:
        """Nothing to take away."""


class _NotKeptError(Exception):
    """There is no such stage yet."""


@dataclass
class Film:
    """The bench's video at the service."""

    bench: GovernedBench
    settings: GeminiSettings
    service: GeminiService
    uploader: Uploader
    pause: Callable[[float], None]
    _uploaded: Uploaded | None = field(default=None, init=False)
    _is_active: bool = field(default=False, init=False)
    _sent: int = field(default=0, init=False)

    def file(self) -> Uploaded:
        """The file, ACTIVE. Sends it if it is not there.

        Raises `TaskError` (TOO_LARGE, UNREADABLE, SERVER …), `Snooze`, `ServiceFault`.
        """
        while True:
            if self._uploaded is None:
                self._uploaded = self.bench.keep(REMOTE_STAGE, Uploaded, self._send)
            if self._is_active:
                return self._uploaded
            try:
                self._wait(self._uploaded.name)
                self._is_active = True
            except ServiceFault as fault:
                if verdict_of(fault).trouble is not Trouble.FILE_GONE or self._sent > 1:
                    raise
                self.gone()

    def gone(self) -> None:
        """The service says that there is no such file: the next look sends it again."""
        self._uploaded, self._is_active = None, False
        self.bench.forget(REMOTE_STAGE)

    def inactive(self) -> None:
        """The service says that the file is not ready: the next look waits for it."""
        self._is_active = False

    def remove(self) -> None:
        """Take the file away from the service, if it is there; what stays is taken away by a chore."""
        name = self._uploaded.name if self._uploaded else self._kept_name()
        if not name:
            return
        try:
            delete(self.service, name)
        except ServiceFault as fault:
            structlog.get_logger().warning("gemini_file_left", file=name, reason=str(fault))
            return
        self.gone()

    def _kept_name(self) -> str:
        """What an earlier attempt sent, if this one has not needed it."""
        try:
            return self.bench.keep(REMOTE_STAGE, Uploaded, _not_kept).name
        except _NotKeptError:
            return ""

    def _send(self) -> Uploaded:
        payload = self._payload()
        try:
            return self._send_payload(payload)
        finally:
            if payload.is_proxy:
                Path(payload.path).unlink(missing_ok=True)

    def _payload(self) -> _Payload:
        """The video itself, or a small stand-in where that is worth its making."""
        facts = self.bench.facts
        if worth_it(facts, self.settings.max_file_bytes, self.settings.proxy):
            try:
                proxy = make_proxy(
                    self.bench.source,
                    facts,
                    self.bench.assets / "proxy.mp4",
                    threads=self.bench.threads,
                    progress=lambda share: self.bench.progress("proxy", share),
                )
            except TaskError as error:
                if error.kind is not ErrorKind.UNREADABLE:
                    raise
                structlog.get_logger().warning("gemini_no_proxy", reason=str(error))
            else:
                return _Payload(str(proxy.path), proxy.size_bytes, "video/mp4", is_proxy=True)
        return _Payload(self.bench.source.removeprefix("file:"), facts.size_bytes, mime_of(facts), is_proxy=False)

    def _send_payload(self, payload: _Payload) -> Uploaded:
        facts = self.bench.facts
        if payload.size_bytes > self.settings.max_file_bytes:
            size, most = payload.size_bytes / 1e6, self.settings.max_file_bytes / 1e6
            raise TaskError(
                ErrorKind.TOO_LARGE,
                f"The file has {size:.0f} MB; Gemini takes {most:.0f} MB.",
                "Export the video in a smaller size, for example 1280 x 720.",
            )
        self._sent += 1
        try:
            upload = partial(self._upload, payload)
            file = governed(self.bench, Call(Lane.UPLOAD, self.settings.model), upload, lambda _: Spent())
        except ServiceFault as fault:
            if verdict_of(fault).trouble is Trouble.STORAGE:
                with suppress(ServiceFault):  # of the two, the full store is the one to tell
                    sweep_orphans(self.service, self.settings.prefix, older_than=time.time() - _STALE_S)
            raise
        return Uploaded(
            name=file.name,
            uri=file.uri,
            mime_type=file.mime_type,
            sha256=facts.sha256,
            size_bytes=payload.size_bytes,
            expires_at=file.expires_at,
        )

    def _upload(self, payload: _Payload) -> RemoteFile:
        """Under the first free name, unless this very content lies there: an attempt that died after its last byte."""
        for number in range(1, _NAMES + 1):
            parcel = self._parcel(payload, number)
            try:
                sent = self.uploader.upload(parcel, lambda share: self.bench.progress(REMOTE_STAGE, share))
                return sent or self.service.get(parcel.name)
            except ServiceFault as fault:
                if verdict_of(fault).trouble is not Trouble.TAKEN:
                    raise
            found = self.service.get(parcel.name)
            if found.size_bytes == parcel.size_bytes and found.state != "FAILED":
                return found
        raise ServiceFault(409, "every name for this file is taken", status="ABORTED")

    def _parcel(self, payload: _Payload, number: int) -> Parcel:
        return Parcel(
            path=payload.path,
            size_bytes=payload.size_bytes,
            mime_type=payload.mime_type,
            name=f"{self.settings.stem(self.bench.facts.sha256)}{number}",
            label=f"gsvrd {self.bench.name}"[:200],
        )

    def _wait(self, name: str) -> None:
        """Until the service has looked through the file."""
        deadline = time.monotonic() + self.settings.processing_timeout_s
        while (file := self.service.get(name)).state != "ACTIVE":
            if file.state == "FAILED":
                self.remove()
                raise TaskError(
                    ErrorKind.UNREADABLE,
                    f"Gemini cannot read this video: {file.error or 'no reason given'}",
                    "Export it as MP4 (H.264 with AAC) and drop that.",
                )
            if time.monotonic() > deadline:
                waited = f"{self.settings.processing_timeout_s:.0f} s"
                raise TaskError(ErrorKind.SERVER, f"Gemini has not made the file usable within {waited}.")
            self.bench.progress("processing", 0.0)
            self.pause(self.settings.poll_s)


def sweep_orphans(
    service: GeminiService, prefix: str, older_than: float, alive: Callable[[str], bool] = lambda _: False
) -> list[str]:
    """Delete files of ours that no task knows; returns their names.

    `prefix`: how the names of ours begin. `older_than`: only those made before this wall time. `alive`: whether a task may
    want the file of that name. Raises `ServiceFault`.
    """
    swept = []
    for file in service.files():
        is_ours = file.name.startswith(prefix) and not alive(file.name)
        if is_ours and file.created_at < older_than:
            delete(service, file.name)
            swept.append(file.name)
    return swept


def delete(service: GeminiService, name: str) -> None:
    """See to it that there is no such file. Raises `ServiceFault`."""
    try:
        service.delete(name)
    except ServiceFault as fault:
        if verdict_of(fault).trouble is not Trouble.FILE_GONE:
            raise


def _not_kept() -> Uploaded:
    raise _NotKeptError
