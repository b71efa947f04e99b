"""The listener: /metrics, /healthz and /readyz over HTTP, on a loopback port or a unix socket, in a thread of its own.

It reads one line of a request and nothing of its headers or body. A client has `CLIENT_S` from its first byte to its last,
`REQUEST_BYTES` for all it says, and shares `CLIENTS_MOST` places; whoever is slower or louder is hung up on. Neither the
loop nor a probe waits for a page: pages are made in a thread of their own, one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from gsvrd.daemon.vitals import Vitals

log = structlog.get_logger("gsvrd.metrics")

CLIENT_S = 5.0
CLIENTS_MOST = 16
REQUEST_BYTES = 8192
CLOSE_S = 2.0
"""How long an end of the daemon waits for this thread; it holds nothing that must be kept."""
TEXT = "text/plain; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

_Answer = tuple[str, str, bytes]
"""Status line, type, body."""


class Listener:
    """Serves from the moment it is made; `bound` is a socket that listens, and is closed with it."""

    def __init__(self, bound: socket.socket, vitals: Vitals, page: Callable[[], bytes]) -> None:
        self._socket = bound
        self._vitals = vitals
        self._page = page
        self._clients = 0
        self._making: asyncio.Future[bytes] | None = None
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody. Does not wait for a page that is being made."""
        with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended by itself
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        self._loop.set_exception_handler(_note)
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        start = asyncio.start_unix_server if self._socket.family == socket.AF_UNIX else asyncio.start_server
        server = await start(self._meet, sock=self._socket, limit=REQUEST_BYTES)
        await self._over.wait()
        server.close()
        clients = asyncio.all_tasks() - {asyncio.current_task()}
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= CLIENTS_MOST:
                async with asyncio.timeout(CLIENT_S):
                    await self._serve_one(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # a client's own affair: the next one is served
        finally:
            self._clients -= 1
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            status, kind, body = _text("431 Request Header Fields Too Large", "too much was asked with too many words")
        else:
            status, kind, body = await self._answer(request.partition(b"\r\n")[0])
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{'Allow: GET' if status[:3] == '405' else ''}"
        )
        writer.write(head.rstrip("\r\n").encode() + b"\r\n\r\n" + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _answer(self, line: bytes) -> _Answer:
        words = line.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _text("400 Bad Request", "that is no HTTP request")
        if words[0] != b"GET":
            return _text("405 Method Not Allowed", "only GET")
        match words[1].partition(b"?")[0]:
            case b"/metrics":
                page = await self._made()
                return ("200 OK", PROMETHEUS, page) if page else _text("500 Internal Server Error", "see the log")
            case b"/healthz":
                stuck = "" if self._vitals.is_live else self._vitals.unready()
                return _text("503 Service Unavailable", stuck) if stuck else _text("200 OK", "live")
            case b"/readyz":
                unready = self._vitals.unready()
                return _text("503 Service Unavailable", unready) if unready else _text("200 OK", self._vitals.word)
            case _:
                return _text("404 Not Found", "there are /metrics, /healthz and /readyz")

    async def _made(self) -> bytes:
        """A page; all who ask while one is being made get that one."""
        if self._making is None:
            self._making = self._loop.create_future()
            threading.Thread(target=self._make, args=(self._making,), name="metrics-page", daemon=True).start()
        return await asyncio.shield(self._making)

    def _make(self, making: asyncio.Future[bytes]) -> None:
        """In a thread of its own, which may hang with a file system that does; then nobody gets a page any more."""
        page = self._page()
        with contextlib.suppress(RuntimeError):  # the listener is closed
            self._loop.call_soon_threadsafe(self._hand_out, making, page)

    def _hand_out(self, making: asyncio.Future[bytes], page: bytes) -> None:
        self._making = None
        making.set_result(page)


def bind(listen: tuple[str, int] | Path) -> socket.socket:
    """A socket that listens there. Raises `OSError`; a unix socket that nobody answers any more is replaced."""
    if isinstance(listen, Path):
        return _bind_path(os.fspath(listen))
    family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
    return socket.create_server(listen, family=family, backlog=CLIENTS_MOST)


def _bind_path(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        bound.bind(path)
        os.chmod(path, 0o660)
        bound.listen(CLIENTS_MOST)
    except OSError:
        bound.close()
        raise
    return bound


def _clear(path: str) -> None:
    """Remove what a killed daemon has left; what is no socket, or is one that somebody answers, stays in the way."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return


def _text(status: str, body: str) -> _Answer:
    return status, TEXT, f"{body}\n".encode()


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    log.warning("metrics_listener", problem=str(context.get("message", "")), error=str(context.get("exception", "")))
