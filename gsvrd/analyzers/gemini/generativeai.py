"""google-generativeai: the SDK without support since 2025, over REST. Made by `sdk.make_service` inside a worker.

It can send neither clips nor settings that hold costs down. Its configuration is global to the process.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]

from gsvrd.analyzers.gemini.service import Capability, Endpoint, RemoteFile, Reply, Request, ServiceFault, Turn
from gsvrd.analyzers.gemini.wire import Bounded, file_of, reply_of

with warnings.catch_warnings():
    # It says that it is dead; `sdk` says so once, with what to do about it.
    warnings.simplefilter("ignore", FutureWarning)
    import google.generativeai
    from google.generativeai import client
    from google.generativeai.types import RequestOptions

palm: Any = google.generativeai
"""Its own annotations do not fit what it does."""


class GenerativeaiService:
    """See `GeminiService`. One a process, for one thread at a time: the newest instance is the one that speaks."""

    name = "google-generativeai"
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._wire = Bounded(endpoint.key, endpoint.timeout_s)
        palm.configure(api_key=endpoint.key, transport="rest", client_options={"api_endpoint": endpoint.base_url})
        self._files: Any = client.get_default_file_client()
        speakers: list[Any] = [self._files, client.get_default_generative_client()]
        # The first client takes the loggers below `google` away from everybody; their warnings belong into our log.
        logging.getLogger("google").propagate = True
        for speaker in speakers:
            # There is no public way to this session, and no other to a total deadline and to one request a call.
            session = speaker.transport._session
            session.mount("https://", self._wire)
            session.mount("http://", self._wire)

    def get(self, name: str) -> RemoteFile:
        """Look at a file."""
        return file_of(self._small(lambda options: self._files.get_file(name=name, **options))[0])

    def delete(self, name: str) -> None:
        """Remove a file."""
        self._small(lambda options: self._files.delete_file(name=name, **options))

    def files(self) -> list[RemoteFile]:
        """All files of the project."""
        pages = self._small(lambda options: list(self._files.list_files({"page_size": 100}, **options)))
        return [file_of(told) for page in pages for told in page.get("files") or ()]

    def count(self, request: Request) -> int:
        """Tokens of the turns."""
        model = palm.GenerativeModel(request.model)
        contents = [_content(turn) for turn in request.turns]
        told = self._small(lambda options: model.count_tokens(contents, request_options=RequestOptions(**options)))
        return int(told[0].get("totalTokens") or 0)

    def generate(self, request: Request) -> Reply:
        """Ask the model. What this SDK cannot send was refused before (see `sdk.check`)."""
        model = palm.GenerativeModel(request.model, system_instruction=request.system)
        contents = [_content(turn) for turn in request.turns]
        config: dict[str, Any] = {
            "response_mime_type": "application/json",
            "response_schema": _proto_schema(request.schema),
            "max_output_tokens": request.max_output_tokens,
        }
        if request.temperature is not None:
            config["temperature"] = request.temperature
        told = self._call(
            self._endpoint.timeout_s,
            lambda options: model.generate_content(
                contents, generation_config=config, request_options=RequestOptions(**options)
            ),
        )
        return reply_of(told[0])

    def _small(self, send: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
        return self._call(self._endpoint.small_timeout_s, send)

    def _call(self, timeout_s: float, send: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
        """The JSON of the answers that `send` brings; one, but for lists. Raises `ServiceFault`."""
        self._wire.timeout_s = self._wire.silence_s = timeout_s
        self._wire.payloads.clear()
        try:
            send({"retry": None, "timeout": timeout_s})
        except (ParseError, ValueError, TypeError, AttributeError, KeyError):
            # The SDK stumbles over the answer's shape. It is JSON, or the wire would have refused it.
            fault = ServiceFault(200, "an answer of a form that the SDK does not know")
        else:
            return self._wire.payloads
        raise fault


def _content(turn: Turn) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": turn.text}]
    if turn.video is not None:
        kind = {"mime_type": turn.video.mime_type} if turn.video.mime_type else {}
        parts.insert(0, {"file_data": {"file_uri": turn.video.uri, **kind}})
    return {"role": turn.role, "parts": parts}


def _proto_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema in the words of this SDK's protocol buffers, which know capital types only."""
    made: dict[str, Any] = {"type": str(schema["type"]).upper()}
    if "properties" in schema:
        made["properties"] = {name: _proto_schema(inner) for name, inner in schema["properties"].items()}
    if "items" in schema:
        made["items"] = _proto_schema(schema["items"])
    return made | {key: schema[key] for key in ("required", "description", "enum") if key in schema}
