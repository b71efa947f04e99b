"""A receiver of webhooks that does as it is told: answers, redirects, hangs, drips, hangs up, goes and comes back."""

from __future__ import annotations

import ssl
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
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """Listens on loopback. `acts` is what it does with one request after the other; after those it says 204."""

    acts: list[Act] = field(default_factory=list)
    port: int = 0
    tls: ssl.SSLContext | None = None
    got: list[Got] = field(default_factory=list)
    connections: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    _server: Server | None = None

    def __enter__(self) -> Receiver:
        self._server = Server(self)
        self.port = self._server.server_address[1]
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    @property
    def ids(self) -> list[str]:
        return [got.id for got in self.got]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(("127.0.0.1", receiver.port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.receiver.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken pipes are what many tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        act = receiver.acts.pop(0) if receiver.acts else say(204)
        receiver.got.append(Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        act(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


def say(status: int, body: bytes = b"", **headers: str) -> Act:
    """An answer."""

    def act(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return act


def hang(handler: Handler) -> None:
    """No answer before the receiver is released."""
    handler.server.receiver.released.wait()
    say(204)(handler)


def hang_up(handler: Handler) -> None:
    """The connection ends without an answer."""
    handler.close_connection = True


def drip(handler: Handler) -> None:
    """A head that comes byte by byte, and never all of it."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.receiver.released.wait(0.02):
        handler.wfile.write(b"x")


def flood(handler: Handler) -> None:
    """A refusal with a body that never ends."""
    handler.wfile.write(b"HTTP/1.1 500 Flood\r\n\r\n")
    while not handler.server.receiver.released.is_set():
        handler.wfile.write(b"x" * 65536)


def babble(handler: Handler) -> None:
    """Something that is no HTTP."""
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
    handler.close_connection = True
