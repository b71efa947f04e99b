"""What the web servers of the tests have in common: they listen on loopback, in threads, and let go at the end."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self


@dataclass(kw_only=True)
class Loopback:
    """Use it as a context manager. `released` ends what a handler waits for."""

    handler: ClassVar[type[Handler]]
    path: ClassVar[str]
    """Of `url`, where no other is named."""
    port: int = 0
    tls: ssl.SSLContext | None = None
    connections: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    _server: Server | None = None

    def __enter__(self) -> Self:
        self._server = Server(self)
        self.port = self._server.server_address[1]
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.released.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str = "", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path or self.path}"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, owner: Loopback) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", owner.port), owner.handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.owner.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken pipes are what many tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def lower_headers(self) -> dict[str, str]:
        """With names in small letters."""
        return {name.lower(): value for name, value in self.headers.items()}

    def head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """A whole answer; `headers` with `_` for `-`."""
        self.head(status, **{"Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""
