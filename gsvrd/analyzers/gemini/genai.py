"""google-genai: the SDK that is maintained, with all capabilities. Made by `sdk.make_service` inside a worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
from google import genai
from google.genai import types

from gsvrd.analyzers.gemini.service import Capability, Endpoint, RemoteFile, Reply, Request, ServiceFault, Turn
from gsvrd.analyzers.gemini.wire import CONNECT_S, file_of, late, payload, reply_of


class GenaiService:
    """See `GeminiService`. Not for more than one thread at a time."""

    name = "google-genai"
    capabilities = frozenset(Capability)

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._hooks = _Hooks(endpoint)
        http = httpx2.Client(
            follow_redirects=False,
            event_hooks={"request": [self._hooks.begin], "response": [self._hooks.read]},
        )
        # It warns that it takes a key from the environment, also when it does not.
        logging.getLogger("google_genai").setLevel(logging.ERROR)
        # Everything is said explicitly: the SDK would take another key, address or product from the environment.
        self._client = genai.Client(
            api_key=endpoint.key,
            vertexai=False,
            http_options=types.HttpOptions(base_url=endpoint.base_url, api_version="v1beta", httpx_client=http),
        )

    def get(self, name: str) -> RemoteFile:
        """Look at a file."""
        return file_of(self._small(lambda: self._client.files.get(name=name))[0])

    def delete(self, name: str) -> None:
        """Remove a file."""
        self._small(lambda: self._client.files.delete(name=name))

    def files(self) -> list[RemoteFile]:
        """All files of the project."""
        pages = self._small(lambda: list(self._client.files.list(config=types.ListFilesConfig(page_size=100))))
        return [file_of(told) for page in pages for told in page.get("files") or ()]

    def count(self, request: Request) -> int:
        """Tokens of the turns."""
        contents = [_content(turn) for turn in request.turns]
        told = self._small(lambda: self._client.models.count_tokens(model=request.model, contents=contents))
        return int(told[0].get("totalTokens") or 0)

    def generate(self, request: Request) -> Reply:
        """Ask the model."""
        contents = [_content(turn) for turn in request.turns]
        config = _config(request)
        told = self._call(
            self._endpoint.timeout_s,
            lambda: self._client.models.generate_content(model=request.model, contents=contents, config=config),
        )
        return reply_of(told[0])

    def _small(self, send: Callable[[], Any]) -> list[dict[str, Any]]:
        return self._call(self._endpoint.small_timeout_s, send)

    def _call(self, timeout_s: float, send: Callable[[], Any]) -> list[dict[str, Any]]:
        """The JSON of the answers that `send` brings; one, but for lists. Raises `ServiceFault`."""
        self._hooks.timeout_s = timeout_s
        self._hooks.payloads.clear()
        try:
            send()
        except httpx2.TransportError as error:
            fault = _fault(error, timeout_s)
        except (ValueError, TypeError, AttributeError, KeyError):
            # The SDK stumbles over the answer's shape. It is JSON, or the hook would have refused it.
            fault = ServiceFault(200, "an answer of a form that the SDK does not know")
        else:
            return self._hooks.payloads
        # Out of the handler, so that nothing of the SDK's error travels with the fault.
        raise fault


class _Hooks:
    """Puts a total deadline on each exchange, and reads each answer before the SDK does."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.timeout_s = endpoint.timeout_s
        self.payloads: list[dict[str, Any]] = []
        self._key = endpoint.key

    def begin(self, request: httpx2.Request) -> None:
        """Set the limits: httpx has them for each operation on the socket only."""
        operation = min(CONNECT_S, self.timeout_s)
        request.extensions = {
            **request.extensions,
            "timeout": {"connect": operation, "write": operation, "pool": operation, "read": self.timeout_s},
            "deadline": time.monotonic() + self.timeout_s,
        }

    def read(self, response: httpx2.Response) -> None:
        """Read all of it, in time. Raises `ServiceFault` for all that is no answer."""
        response.stream = _InTime(response, self.timeout_s)
        self.payloads.append(payload(response.status_code, response.read(), self._key))


class _InTime(httpx2.SyncByteStream):
    """A body that has to come before the deadline of its request, however slowly it trickles."""

    def __init__(self, response: httpx2.Response, timeout_s: float) -> None:
        self._inner = response.stream
        self._extensions = response.request.extensions
        self._timeout_s = timeout_s

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._inner, httpx2.SyncByteStream)  # noqa: S101 - a sync client's stream is; said for mypy
        self._extensions["timeout"]["read"] = max(0.1, self._left_s)
        for piece in self._inner:
            yield piece
            if self._left_s < 0:
                raise late(self._timeout_s)

    @property
    def _left_s(self) -> float:
        return float(self._extensions["deadline"] - time.monotonic())

    def close(self) -> None:
        """Give the connection back."""
        assert isinstance(self._inner, httpx2.SyncByteStream)  # noqa: S101 - as above
        self._inner.close()


def _fault(error: httpx2.TransportError, timeout_s: float) -> ServiceFault:
    if isinstance(error, httpx2.ReadTimeout):
        return late(timeout_s)
    is_unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.ProxyError)
    words = "the service cannot be reached" if is_unsent else "the connection broke"
    return ServiceFault(0, f"{words} ({type(error).__name__})", was_sent=not is_unsent)


def _content(turn: Turn) -> types.Content:
    parts = [types.Part(text=turn.text)]
    video = turn.video
    if video is not None:
        part = types.Part(file_data=types.FileData(file_uri=video.uri, mime_type=video.mime_type or None))
        if (video.start_s, video.end_s, video.fps) != (None, None, None):
            part.video_metadata = types.VideoMetadata(
                start_offset=_offset(video.start_s), end_offset=_offset(video.end_s), fps=video.fps
            )
        parts.insert(0, part)
    return types.Content(role=turn.role, parts=parts)


def _offset(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def _config(request: Request) -> types.GenerateContentConfig:
    thinking, resolution = request.thinking.upper(), request.media_resolution.upper()
    return types.GenerateContentConfig(
        system_instruction=request.system,
        response_mime_type="application/json",
        response_json_schema=request.schema,
        max_output_tokens=request.max_output_tokens,
        temperature=request.temperature,
        thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel(thinking)) if thinking else None,
        media_resolution=types.MediaResolution(f"MEDIA_RESOLUTION_{resolution}") if resolution else None,
        service_tier=types.ServiceTier.FLEX if request.flex else None,
        # Else one call becomes any number of them.
        automatic_continuation=False,
    )
