"""The seam between the analyzer and the SDKs: five calls, plain data, one kind of exception.

`genai` and `generativeai` implement it, `upload` stands beside it for both. Nothing here imports an SDK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol


class Capability(StrEnum):
    """What not every SDK can send."""

    FPS = "fps"
    CLIP = "clip"
    MEDIA_RESOLUTION = "media_resolution"
    THINKING = "thinking"
    FLEX = "flex"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom to call, with what. The key is not shown by `repr`."""

    base_url: str
    key: str = field(repr=False)
    timeout_s: float
    """For a generate call; small calls get a minute at most."""

    @property
    def small_timeout_s(self) -> float:
        """For calls that have nothing to think about."""
        return min(60.0, self.timeout_s)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at the service. Times are UTC epoch seconds."""

    name: str
    """`files/…`."""
    uri: str
    mime_type: str
    size_bytes: int
    state: str
    """PROCESSING, ACTIVE or FAILED."""
    created_at: float
    expires_at: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class Video:
    """A video part of a request; without offsets all of it."""

    uri: str
    mime_type: str
    """Empty for a video that the service fetches by itself."""
    start_s: float | None = None
    end_s: float | None = None
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Literal["user", "model"]
    text: str
    video: Video | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A generate call."""

    model: str
    system: str
    turns: Sequence[Turn]
    schema: Mapping[str, Any]
    """JSON Schema without references and alternatives, so that both SDKs can send it."""
    max_output_tokens: int
    temperature: float | None = None
    thinking: str = ""
    media_resolution: str = ""
    flex: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a generate call that was answered. Tokens are those billed."""

    text: str
    finish: str
    """Google's word, `STOP` when all is well; empty if there is no candidate."""
    blocked: str
    """Why the prompt was refused; empty if it was not."""
    model: str
    """The version that answered."""
    tokens_in: int
    tokens_out: int
    """Thinking included."""
    has_usage: bool
    """False if the reply does not say what it cost."""


class ServiceFault(Exception):  # noqa: N818 - a fault of the service or of the way to it
    """A call that was not answered as it should be. Holds neither the key nor an upload URL."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        status: str = "",
        details: Sequence[Mapping[str, Any]] = (),
        was_sent: bool = True,
    ) -> None:
        """`code` is HTTP's, or 0 when no answer came; `was_sent` is False only if the service provably saw nothing."""
        super().__init__(message)
        self.code = code
        self.status = status
        self.details = details
        self.was_sent = was_sent

    @property
    def is_refusal(self) -> bool:
        """The service said in its own words that it did not do the work, so nothing was billed."""
        return bool(self.status)


class GeminiService(Protocol):
    """One SDK. Every call is sent once, ends within its timeout, and raises `ServiceFault`."""

    @property
    def name(self) -> str:
        """The SDK's name in the configuration."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can send."""
        ...

    def get(self, name: str) -> RemoteFile:
        """Look at a file."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file."""
        ...

    def files(self) -> list[RemoteFile]:
        """All files of the project."""
        ...

    def count(self, request: Request) -> int:
        """Tokens of the request's turns; the system instruction is not counted."""
        ...

    def generate(self, request: Request) -> Reply:
        """Ask the model."""
        ...
