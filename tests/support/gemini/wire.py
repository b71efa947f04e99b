"""HTTP on loopback: reads requests, sends replies, and spoils the sending when a fault says so.

`server` starts it. The control address (`/_meter`, `/_script`) is for tests that run the server as a process.
"""

from __future__ import annotations

import json
import select
import socket
import socketserver
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .body import Body
from .faults import Fault, Kind
from .rules import Rules
from .service import Call, Request, Service
from .uploads import Reply

_TICK_S = 0.05
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Server(ThreadingHTTPServer):
    """A thread for each connection. `stopping` ends every wait."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, port: int, service: Service) -> None:
        self.service = service
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        """Without the look-up of the host's name that HTTPServer does: there may be nobody to ask."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, so that `close_all` can end it."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget it again."""
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection is no news here; anything else is a fault of this server and must be seen."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close_all(self) -> None:
        """End every wait and every connection, as a machine does that goes down."""
        self.stopping.set()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # It ended by itself.


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        """Every method goes the same way."""
        parts = urlsplit(self.path)
        if parts.path.startswith("/_"):
            self._send(self._control(parts.path))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = None if headers.get("transfer-encoding") == "chunked" else int(headers.get("content-length") or 0)
        request = Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers=headers,
            body=Body(self.rfile, length),
            base=f"http://{headers.get('host', '127.0.0.1')}",
        )
        self._serve(self.server.service.enter(request))

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server looks for these names

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the meter is the log."""

    def _serve(self, call: Call) -> None:
        try:
            reply = self.server.service.reply(call)
            fault = reply.fault
            if fault is None or not fault.cuts_request:
                call.request.body.drain()
            if reply.wait_s and not self._wait(reply.wait_s):
                self._reset()
            if fault is None:
                self._deliver(call, self._head(reply) + reply.body)
            else:
                self._spoil(call, reply, fault)
        finally:
            self._leave(call)

    def _leave(self, call: Call) -> None:
        self.server.service.meter.leave(call.entry, self.server.service.now())

    def _deliver(self, call: Call, rest: bytes) -> None:
        """Send the end of an answer; the books are closed before, for the client may look into them at once."""
        self._leave(call)
        call.entry.delivered = True
        try:
            self.wfile.write(rest)
        except OSError:
            call.entry.delivered = False
            raise

    def _spoil(self, call: Call, reply: Reply, fault: Fault) -> None:
        """Send badly, or not at all."""
        data = self._head(reply) + reply.body
        if fault.kind is Kind.TRICKLE:
            self._trickle(call, data, fault.seconds)
            return
        if fault.kind is Kind.CUT_BODY:
            self._leave(call)
            self.wfile.write(data[: len(data) - max(len(reply.body) // 2, 1)])
            self.close_connection = True
            return
        if fault.kind is Kind.HANG:
            self._wait(fault.seconds)
        self._leave(call)
        self._reset()

    def _trickle(self, call: Call, data: bytes, seconds: float) -> None:
        pieces = max(min(int(seconds / _TICK_S), len(data) - 1), 1)
        size = (len(data) - 1) // pieces or 1
        for start in range(0, len(data) - 1, size):
            self.wfile.write(data[start : min(start + size, len(data) - 1)])
            if not self._wait(seconds / pieces):
                self._reset()
        self._deliver(call, data[-1:])

    def _send(self, reply: Reply) -> None:
        self.wfile.write(self._head(reply) + reply.body)

    def _head(self, reply: Reply) -> bytes:
        status = reply.status or 200
        phrase = self.responses[status][0] if status in self.responses else ""
        lines = [
            f"HTTP/1.1 {status} {phrase}",
            f"Content-Length: {len(reply.body)}",
            f"Date: {self.date_time_string()}",
        ]
        if reply.body:
            lines.append(f"Content-Type: {reply.content_type}")
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _wait(self, seconds: float) -> bool:
        """Real time; false when the client went away or the server stops."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.server.stopping.is_set():
                return False
            readable, _, _ = select.select([self.connection], [], [], min(left, _TICK_S))
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return False
            if readable:
                self.server.stopping.wait(min(left, _TICK_S))  # A client that talks on: do not spin.
        return True

    def _reset(self) -> None:
        """Close with a reset, not an orderly end. Never returns."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self.rfile.close()
        self.connection.close()
        raise ConnectionAbortedError("reset on purpose")

    def _control(self, path: str) -> Reply:
        service = self.server.service
        given = Body(self.rfile, int(self.headers.get("content-length") or 0)).all()
        if path == "/_meter":
            return Reply(body=json.dumps(state(service)).encode())
        try:
            obey(service, json.loads(given or b"{}"))
        except (TypeError, ValueError, KeyError) as error:
            return Reply(400, json.dumps({"error": str(error)}).encode())
        return Reply()


def state(service: Service) -> dict[str, Any]:
    """All that the server knows, as JSON data."""
    with service.lock:
        alive = [file.name for file in service.files.alive(service.rules, service.now())]
        uploading = service.files.open_uploads()
    return {**service.meter.summary(), "files_alive": alive, "open_uploads": uploading}


def obey(service: Service, orders: dict[str, Any]) -> None:
    """`clear` the faults, replace the `rules`, add `faults`, `advance_s` the clock. Raises on what it cannot read."""
    faults = [Fault.from_json(one) for one in orders.get("faults", [])]
    rules = Rules.from_json(orders["rules"]) if "rules" in orders else service.rules
    unknown = set(orders) - {"clear", "rules", "faults", "advance_s"}
    if unknown:
        raise ValueError(f"unknown orders: {sorted(unknown)}")
    if orders.get("clear"):
        service.script.clear()
    service.rules = rules
    service.script.add(*faults)
    service.advance(float(orders.get("advance_s", 0.0)))
