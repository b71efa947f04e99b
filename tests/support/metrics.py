"""Asking a daemon, or a part of one, for its metrics and probes."""

from __future__ import annotations

import socket
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

At = tuple[str, int] | Path
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def dial(at: At) -> socket.socket:
    if not isinstance(at, Path):
        return socket.create_connection(at, timeout=20.0)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(20.0)
    made.connect(str(at))
    return made


def talk(at: At, said: bytes) -> bytes:
    """All that is answered; empty when it hangs up without a word."""
    with dial(at) as client:
        try:
            client.sendall(said)
            return hear(client)
        except (BrokenPipeError, ConnectionResetError):
            return b""


def hear(client: socket.socket) -> bytes:
    heard = b""
    while some := client.recv(65536):
        heard += some
    return heard


def get(at: At, path: str) -> tuple[int, str]:
    """Status and body."""
    head, _, body = talk(at, f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode()).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body.decode()


def samples(text: str) -> Samples:
    """Values by name and labels, as the client library's own parser reads them."""
    families = text_string_to_metric_families(text)
    found = (sample for family in families for sample in family.samples)
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in found}
