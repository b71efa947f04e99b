"""What the courier's child process does: sends messages to webhooks and says what came of each.

`main` is the first thing it runs, as a child of the fork server. It knows neither queue nor database; it gets messages from
`courier.Courier`, each in a thread of its own, and may hang or die at any time: what it did not answer for is sent again.
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from gsvrd import __version__
from gsvrd.logs import redact
from gsvrd.net.guarded import Guard, RefusedTargetError, post
from gsvrd.policy.addresses import parse_target
from gsvrd.policy.webhook import Reply, headers, parse_retry_after, parse_secrets
from gsvrd.pool.channel import Channel
from gsvrd.pool.worker import end_with_the_daemon, settle_signals

_ANSWER_BYTES = 2000
"""Of an answer that is no success: enough to see what the receiver did not like."""


class CourierSettings(msgspec.Struct, frozen=True):
    """What the configuration says of webhooks."""

    secret_file: str = ""
    """Empty: messages are not signed."""
    allowed: tuple[str, ...] = ()
    """Hosts that may be near by."""
    timeout_s: float = 10.0
    """For one delivery, from the name to the answer."""


class Deliver(msgspec.Struct, frozen=True):
    """To the child: one message."""

    id: str
    url: str
    body: bytes


class Delivery(msgspec.Struct, frozen=True, omit_defaults=True):
    """From the child: what came of it; the figures are those of `policy.webhook.Reply`."""

    id: str
    status: int = 0
    error: str = ""
    retry_after_s: float | None = None
    refused: bool = False


def main(connection: socket.socket, lifeline: socket.socket, settings: bytes) -> None:
    """Run until the daemon hangs up or dies."""
    settle_signals()
    end_with_the_daemon(lifeline)
    known = msgspec.msgpack.decode(settings, type=CourierSettings)
    serve(Channel(connection, blocking=True), lambda order: deliver(order, known))
    os._exit(0)


def serve(channel: Channel, work: Callable[[Deliver], Delivery]) -> None:
    """Work on each message that comes, side by side; whoever sends them sees to their order and number."""
    answering = threading.Lock()

    def run(order: Deliver) -> None:
        answer = msgspec.msgpack.encode(work(order))
        with answering:
            channel.send(answer)

    while not channel.closed:
        for message in channel.receive():
            order = msgspec.msgpack.decode(message, type=Deliver)
            threading.Thread(target=run, args=(order,), name=order.id, daemon=True).start()


def deliver(order: Deliver, settings: CourierSettings) -> Delivery:
    """Send one message, once."""
    try:
        reply = _send(order, settings)
    except Exception as error:  # noqa: BLE001 (an edge: it becomes a record, and the other messages go on)
        reply = Reply(error=f"unexpected {type(error).__name__}: {error}")
    return Delivery(order.id, reply.status, reply.error, reply.retry_after_s, reply.refused)


def _send(order: Deliver, settings: CourierSettings) -> Reply:
    try:
        signed = headers(order.id, int(time.time()), order.body, _secrets(settings.secret_file))
    except (OSError, ValueError) as error:
        return Reply(error=f"webhook.secret_file cannot be used: {_said(error)}")
    sent = {"Content-Type": "application/json", "User-Agent": f"gsvrd/{__version__}", **signed}
    guard = Guard(frozenset(settings.allowed), settings.timeout_s)
    try:
        target = parse_target(order.url)
    except ValueError as error:
        return Reply(error=str(error), refused=True)
    try:
        answer = post(target, order.body, sent, guard, _ANSWER_BYTES)
    except RefusedTargetError as error:
        return Reply(error=f"{error}; webhook.allow does not list it", refused=True)
    except (OSError, http.client.HTTPException) as error:
        return Reply(error=_said(error))
    if 200 <= answer.status < 300:
        return Reply(answer.status)
    wait_s = parse_retry_after(answer.headers.get("Retry-After"), time.time())
    return Reply(answer.status, _refusal(answer.status, answer.reason, answer.body), wait_s)


def _secrets(path: str) -> tuple[bytes, ...]:
    """Read for each message: a file that is replaced counts at once."""
    return parse_secrets(Path(path).read_text("utf-8")) if path else ()


def _refusal(status: int, reason: str, body: bytes) -> str:
    """The receiver's words, which are data: on one line, harmless to a terminal, without what looks like a secret."""
    said = redact(" ".join(f"{reason}: {body.decode('utf-8', 'replace')}".split()))
    return f"HTTP {status} {''.join(c if c.isprintable() else '?' for c in said)}".rstrip(": ")


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or "it took too long"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
