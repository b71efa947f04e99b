"""A receiver of webhooks that does as it is told: answers, redirects, hangs, drips, hangs up, goes and comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from support import loopback
from support.loopback import Loopback

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
class Receiver(Loopback):
    """Listens on loopback. `acts` is what it does with one request after the other; after those it says 204."""

    acts: list[Act] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    path = "/hook"

    @property
    def ids(self) -> list[str]:
        return [got.id for got in self.got]


class Handler(loopback.Handler):
    @property
    def receiver(self) -> Receiver:
        return cast(Receiver, self.server.owner)

    def do_POST(self) -> None:  # noqa: N802 (as `http.server` calls it)
        receiver = self.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        act = receiver.acts.pop(0) if receiver.acts else say(204)
        receiver.got.append(Got(self.path, self.lower_headers(), body))
        act(self)


Receiver.handler = Handler


def say(status: int, body: bytes = b"", **headers: str) -> Act:
    """An answer."""

    return lambda handler: handler.answer(status, body, **headers)


def hang(handler: Handler) -> None:
    """No answer before the receiver is released."""
    handler.receiver.released.wait()
    say(204)(handler)


def hang_up(handler: Handler) -> None:
    """The connection ends without an answer."""
    handler.close_connection = True


def drip(handler: Handler) -> None:
    """A head that comes byte by byte, and never all of it."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.receiver.released.wait(0.02):
        handler.wfile.write(b"x")


def flood(handler: Handler) -> None:
    """A refusal with a body that never ends."""
    handler.wfile.write(b"HTTP/1.1 500 Flood\r\n\r\n")
    while not handler.receiver.released.is_set():
        handler.wfile.write(b"x" * 65536)


def babble(handler: Handler) -> None:
    """Something that is no HTTP."""
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
    handler.close_connection = True
