"""Three ways to speak to the server: the two real SDKs, their own retries off, and HTTP by hand.

Tests of the server use them; so may others that want to ask it something beside the program under test. The SDKs are
imported when a client is made, since google-genai is an extra.
"""

from __future__ import annotations

import http.client
import importlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .rules import KEY

MODEL = "gemini-3.8-flash"


@dataclass(frozen=True)
class Heard:
    """What an SDK makes of an answer."""

    text: str | None
    finish: str
    prompt: int
    output: int


class Sdk(Protocol):
    """The same calls through either SDK, with its own retries off."""

    def upload(self, path: Path, name: str, display_name: str = "") -> str: ...
    def state(self, name: str) -> str: ...
    def names(self) -> list[str]: ...
    def delete(self, name: str) -> None: ...
    def count(self, name: str) -> int: ...
    def generate(self, name: str, schema: Any = None, prompt: str = "Teach it.", **settings: Any) -> Heard: ...
    def code(self, error: BaseException) -> int: ...
    def details(self, error: BaseException) -> list[dict[str, Any]]: ...


class Genai:
    """google-genai."""

    def __init__(self, url: str, key: str, timeout_s: float = 5.0) -> None:
        from google import genai

        self.types: Any = genai.types
        options = self.types.HttpOptions(base_url=url, api_version="v1beta", timeout=int(timeout_s * 1000))
        self.client: Any = genai.Client(api_key=key, http_options=options)
        self._url = url

    def upload(self, path: Path, name: str, display_name: str = "") -> str:
        told = {"mime_type": "video/mp4", "name": name, "display_name": display_name}
        return str(self.client.files.upload(file=str(path), config=told).name)

    def state(self, name: str) -> str:
        return str(self.client.files.get(name=name).state.value)

    def names(self) -> list[str]:
        return [file.name for file in self.client.files.list(config={"page_size": 2})]

    def delete(self, name: str) -> None:
        self.client.files.delete(name=name)

    def parts(self, name: str, prompt: str, **video: Any) -> list[Any]:
        data = self.types.FileData(file_uri=f"{self._url}/v1beta/{name}", mime_type="video/mp4")
        told = self.types.VideoMetadata(**video) if video else None
        parts = [self.types.Part(file_data=data, video_metadata=told), self.types.Part(text=prompt)]
        return [self.types.Content(role="user", parts=parts)]

    def count(self, name: str, **video: Any) -> int:
        return int(
            self.client.models.count_tokens(model=MODEL, contents=self.parts(name, "Teach it.", **video)).total_tokens
        )

    def generate(self, name: str, schema: Any = None, prompt: str = "Teach it.", **settings: Any) -> Heard:
        if schema:
            settings |= {"response_mime_type": "application/json", "response_json_schema": schema.model_json_schema()}
        answer = self.client.models.generate_content(
            model=MODEL, contents=self.parts(name, prompt), config=self.types.GenerateContentConfig(**settings)
        )
        finish = answer.candidates[0].finish_reason.value if answer.candidates else ""
        usage = answer.usage_metadata
        return Heard(answer.text, finish, usage.prompt_token_count, usage.total_token_count - usage.prompt_token_count)

    def code(self, error: BaseException) -> int:
        return int(getattr(error, "code", 0))

    def details(self, error: BaseException) -> list[dict[str, Any]]:
        return list(error.details["error"]["details"])  # type: ignore[attr-defined]


class Named:
    """google-generativeai over REST. Its settings are global: the newest instance is the one that speaks."""

    def __init__(self, url: str, key: str, timeout_s: float = 5.0) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            genai: Any = importlib.import_module("google.generativeai")
            client: Any = importlib.import_module("google.generativeai.client")
        client.GENAI_API_DISCOVERY_URL = url + "/$discovery/rest"
        genai.configure(api_key=key, transport="rest", client_options={"api_endpoint": url})
        self.genai = genai
        self._files = client.get_default_file_client()
        self._timeout_s = timeout_s
        self._options: Any = genai.types.RequestOptions(retry=None, timeout=timeout_s)
        self._url = url

    def upload(self, path: Path, name: str, display_name: str = "") -> str:
        made = self.genai.upload_file(str(path), mime_type="video/mp4", name=name, display_name=display_name)
        return str(made.name)

    def state(self, name: str) -> str:
        return str(self._files.get_file(name=name, retry=None, timeout=self._timeout_s).state.name)

    def names(self) -> list[str]:
        return [file.name for file in self.genai.list_files(page_size=2)]

    def delete(self, name: str) -> None:
        self.genai.delete_file(name)

    def _contents(self, name: str, prompt: str) -> list[Any]:
        return [{"file_data": {"file_uri": f"{self._url}/v1beta/{name}", "mime_type": "video/mp4"}}, prompt]

    def count(self, name: str) -> int:
        model = self.genai.GenerativeModel(MODEL)
        counted = model.count_tokens(self._contents(name, "Teach it."), request_options=self._options)
        return int(counted.total_tokens)

    def generate(self, name: str, schema: Any = None, prompt: str = "Teach it.", **settings: Any) -> Heard:
        if schema:
            settings |= {"response_mime_type": "application/json", "response_schema": schema}
        answer = self.genai.GenerativeModel(MODEL).generate_content(
            self._contents(name, prompt), generation_config=settings, request_options=self._options
        )
        candidates = answer.candidates
        parts = candidates[0].content.parts if candidates else []
        finish = candidates[0].finish_reason if candidates else ""
        usage = answer.usage_metadata
        return Heard(
            "".join(part.text for part in parts) if parts else None,
            getattr(finish, "name", str(finish)),
            usage.prompt_token_count,
            usage.total_token_count - usage.prompt_token_count,
        )

    def code(self, error: BaseException) -> int:
        return int(getattr(error, "code", 0) or getattr(getattr(error, "resp", None), "status", 0))

    def details(self, error: BaseException) -> list[dict[str, Any]]:
        return list(error.response.json()["error"]["details"])  # type: ignore[attr-defined]


class Raw:
    """HTTP by hand, on one connection."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, Any, bytes]:
        self.send(method, target, body, **headers)
        return self.answer()

    def send(self, method: str, target: str, body: bytes = b"", **headers: str) -> None:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, target, body, told)

    def answer(self) -> tuple[int, Any, bytes]:
        response = self.connection.getresponse()
        return response.status, response.headers, response.read()

    def start(self, size: int, name: str = "") -> str:
        """Open an upload; the target of its URL."""
        status, headers, body = self.ask(
            "POST",
            "/upload/v1beta/files",
            json.dumps({"file": {"name": name} if name else {}}).encode(),
            x_goog_api_key=KEY,
            x_goog_upload_protocol="resumable",
            x_goog_upload_command="start",
            x_goog_upload_header_content_length=str(size),
        )
        assert status == 200, body
        return str(headers["X-Goog-Upload-URL"]).split("/", 3)[3].join(["/", ""])

    def piece(self, target: str, offset: int, data: bytes, command: str = "upload, finalize") -> tuple[int, Any, bytes]:
        return self.ask("POST", target, data, x_goog_upload_command=command, x_goog_upload_offset=str(offset))

    def received(self, target: str) -> int:
        _, headers, _ = self.ask("POST", target, x_goog_upload_command="query")
        return int(headers["X-Goog-Upload-Size-Received"])

    def generate(self, name: str = "") -> None:
        """Ask and do not wait."""
        parts: list[dict[str, Any]] = [{"text": "Teach it."}]
        if name:
            parts.append({"fileData": {"fileUri": f"http://x/v1beta/{name}", "mimeType": "video/mp4"}})
        body = json.dumps({"contents": [{"parts": parts}]}).encode()
        self.send("POST", f"/v1beta/models/{MODEL}:generateContent", body, x_goog_api_key=KEY)

    def close(self) -> None:
        self.connection.close()
