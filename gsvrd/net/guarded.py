"""Connections to URLs that users wrote: resolved here, checked, and only then opened, to the very address that was checked.

Called by processes that may be slow or die (the courier, workers that fetch a video), never by the loop. No proxy of the
environment is used, since it would do the resolving; no redirect is followed here, since it leads somewhere else: whoever
wants to follow one asks anew, and it is checked anew.
One deadline holds from the first question to the resolver to the last byte, however slowly the other side drips.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from email.message import Message
from functools import cache
from typing import TYPE_CHECKING

from gsvrd.policy.addresses import Address, Target, objection

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Resolver = Callable[[str, int], list[Address]]
"""From a host and a port to addresses; raises `OSError`."""

CONNECT_S = 5.0
"""For each address of a host."""


class RefusedTargetError(Exception):
    """The configuration does not allow a connection to this target; none was opened."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may be connected to, and how long all of it may take."""

    allowed: Container[str]
    """Hosts, as `policy.addresses.plain_host` spells them, that may be near by."""
    timeout_s: float
    resolve: Resolver | None = None
    """Instead of the machine's."""
    tls: ssl.SSLContext | None = None
    """Instead of the machine's certificates."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    reason: str
    headers: Message
    body: bytes
    """The beginning, as far as it was asked for."""


class Deadline:
    """A moment, and how far it is; with `silence_s` never farther than that, for what is to come bit by bit."""

    def __init__(self, timeout_s: float, silence_s: float | None = None) -> None:
        self._ends_at = time.monotonic() + timeout_s
        self._silence_s = silence_s

    def left_s(self) -> float:
        """Seconds; raises `TimeoutError` when none is left."""
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it took too long")
        return left_s if self._silence_s is None else min(left_s, self._silence_s)

    @property
    def is_over(self) -> bool:
        """Whether the moment has come."""
        return time.monotonic() >= self._ends_at


def post(target: Target, body: bytes, headers: Mapping[str, str], guard: Guard, most_bytes: int) -> Answer:
    """Send a body and read the answer: of a success nothing more than its head, else at most `most_bytes` of the body.

    Raises `RefusedTargetError`, `OSError` (also for TLS and time) or `http.client.HTTPException`.
    """
    deadline = Deadline(guard.timeout_s)
    connection = connect(target, guard, deadline)
    try:
        connection.request("POST", target.path, body, {"Accept-Encoding": "identity", **headers})
        with connection.getresponse() as answer:
            said = b"" if 200 <= answer.status < 300 else _beginning(answer, most_bytes)
            return Answer(answer.status, answer.reason, answer.headers, said)
    finally:
        connection.close()


def _beginning(answer: http.client.HTTPResponse, most_bytes: int) -> bytes:
    """The status is known; that the body does not come changes nothing."""
    try:
        return answer.read(most_bytes)
    except (OSError, http.client.HTTPException):
        return b""


def connect(target: Target, guard: Guard, deadline: Deadline) -> http.client.HTTPConnection:
    """A connection to `target` that is open and was checked; `Host` and SNI name the host, not the address.

    Raises `RefusedTargetError` before anything was opened, or `OSError`.
    """
    addresses = _resolved(target, guard.resolve or resolve, deadline)
    if because := objection(target, addresses, guard.allowed):
        raise RefusedTargetError(because)
    connected = _open(addresses, target.port, deadline)
    try:
        if target.scheme == "https":
            tls = guard.tls or _tls()
            connected.settimeout(deadline.left_s())
            connected = tls.wrap_socket(connected, server_hostname=target.host)
    except BaseException:
        connected.close()
        raise
    return _Connection(target, _Timed(connected, deadline))


@cache
def _tls() -> ssl.SSLContext:
    """With the machine's certificates, which take a while to load."""
    return ssl.create_default_context()


def resolve(host: str, port: int) -> list[Address]:
    """What the machine's resolver says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(entry[4][0])) for entry in found]


def _resolved(target: Target, resolver: Resolver, deadline: Deadline) -> list[Address]:
    """In a thread: the C library's resolver knows no deadline, and a name that hangs must not hold its caller."""
    addresses: list[Address] = []
    errors: list[OSError] = []

    def ask() -> None:
        try:
            addresses.extend(resolver(target.host, target.port))
        except OSError as error:
            errors.append(error)
        except UnicodeError:  # a label that is too long for DNS
            errors.append(OSError("no such name can exist"))

    asking = threading.Thread(target=ask, name="resolver", daemon=True)
    asking.start()
    asking.join(deadline.left_s())
    if errors:
        raise OSError(f"the host is not found: {errors[0].strerror or errors[0]}") from errors[0]
    if asking.is_alive() or not addresses:
        raise TimeoutError(
            "the host's address was not found in time" if asking.is_alive() else "the host has no address"
        )
    return addresses


def _open(addresses: list[Address], port: int, deadline: Deadline) -> socket.socket:
    error = OSError("the host has no address")
    for address in dict.fromkeys(addresses):
        try:
            # A literal: nobody is asked again, so the answer cannot have changed since the check.
            connected = socket.create_connection((str(address), port), min(CONNECT_S, deadline.left_s()))
        except OSError as failed:
            error = failed
        else:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
    raise error


class _Timed:
    """The part of a socket that `http.client` uses, with one deadline for all of it instead of one for each call."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline
        self._is_read = False

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(self._deadline.left_s())
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._is_read = True
        return io.BufferedReader(_Incoming(self._socket, self._deadline))

    def close(self) -> None:
        """`http.client` closes before it reads the last answer; then the reader's end is the socket's."""
        if not self._is_read:
            self._socket.close()


class _Incoming(io.RawIOBase):
    """Its reading side."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._socket.settimeout(self._deadline.left_s())
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        self._socket.close()
        super().close()


class _Connection(http.client.HTTPConnection):
    """Open from the start, and never opened again: that would resolve anew, unchecked."""

    auto_open = 0

    def __init__(self, target: Target, connected: _Timed) -> None:
        self.default_port = http.client.HTTPS_PORT if target.scheme == "https" else http.client.HTTP_PORT
        super().__init__(target.host, target.port)
        self.sock = connected
