"""A web server that has videos: honest by default, with ranges and an ETag; or it lies, hangs, drips and breaks off."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Act = Callable[["Handler"], None]


@dataclass(frozen=True)
class Got:
    """A request as it came."""

    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


@dataclass
class Shelf:
    """Listens on loopback. `acts` is what it does with one request after the other; after those it gives `data`."""

    data: bytes = b""
    acts: list[Act] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    _server: Server | None = None

    def __enter__(self) -> Shelf:
        self._server = Server(self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str = "/talk.mp4", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.data).hexdigest()[:16]}"'


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken pipes are what many tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    @property
    def shelf(self) -> Shelf:
        return self.server.shelf

    def do_GET(self) -> None:
        shelf = self.shelf
        shelf.got.append(Got(self.path, {name.lower(): value for name, value in self.headers.items()}))
        (shelf.acts.pop(0) if shelf.acts else give())(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""

    def head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


def say(status: int, body: bytes = b"", **headers: str) -> Act:
    """An answer."""

    def act(handler: Handler) -> None:
        handler.head(status, **{"Content-Length": str(len(body)), **headers})
        handler.wfile.write(body)

    return act


def give(most: int | None = None, **headers: str) -> Act:
    """The video, from where it is asked for; after `most` bytes the connection breaks."""

    def act(handler: Handler) -> None:
        data, etag = handler.shelf.data, handler.shelf.etag
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        at = int(asked[1]) if asked and handler.headers.get("If-Range") in (None, etag) else 0
        told = {"Content-Type": "video/mp4", "ETag": etag, "Content-Length": str(len(data) - at)}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        if at:
            told["Content-Range"] = f"bytes {at}-{len(data) - 1}/{len(data)}"
        handler.head(206 if at else 200, **told)
        handler.wfile.write(data[at:] if most is None else data[at : at + most])
        handler.close_connection = True

    return act


def stall(after: int) -> Act:
    """So many bytes, and then nothing until the shelf is released."""

    def act(handler: Handler) -> None:
        data = handler.shelf.data
        handler.head(200, Content_Type="video/mp4", ETag=handler.shelf.etag, Content_Length=str(len(data)))
        handler.wfile.write(data[:after])
        handler.shelf.released.wait(60)
        handler.close_connection = True

    return act


def flood(handler: Handler) -> None:
    """A video that never ends."""
    handler.head(200, Content_Type="video/mp4")
    handler.wfile.write(handler.shelf.data[:4096])
    while not handler.shelf.released.is_set():
        handler.wfile.write(b"x" * 65536)


def go_to(location: str, status: int = 302) -> Act:
    """A redirect."""
    return say(status, Location=location)
