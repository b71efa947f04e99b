"""Entries for the journal of systemd, with fields that `journalctl -o json` shows, and a bound on how many come.

The native protocol (systemd's JOURNAL_NATIVE_PROTOCOL): one datagram an entry, `NAME=value` a line, and a value with line
breaks after its length. Used by `logs` alone, and only where standard error is the journal's; knows nothing of levels' words
or secrets.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SOCKET = "/run/systemd/journal/socket"
PATIENCE_S = 1.0
"""How long an entry waits for a busy journal."""
BURST, WINDOW_S = 500, 10.0
"""So many entries of one event are written in a window; the journal itself drops what comes faster than 10,000 in 30 s."""

_KNOWN = re.compile(
    r"message|priority|syslog_|code_|errno|message_id|documentation|tid|unit|user_unit|invocation_id|object_"
)
"""Names that mean something to the journal; a value of ours with one gets another."""
_LONGEST_NAME = 64


class Journal:
    """The way to the journal, which takes few entries ahead; where it takes none, the caller has to find another way."""

    def __init__(self, address: str = SOCKET) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(PATIENCE_S)

    def send(self, message: str, priority: int, values: Mapping[str, Any]) -> None:
        """Write one entry; raises `OSError` when it is not taken (nobody there, too large, too busy)."""
        fields = {"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": "gsvrd", **dict(_named(values))}
        data = b"".join(_field(name, value) for name, value in fields.items())
        self._socket.sendto(data, self._address)


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if value is not None:
            plain = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_") or "VALUE"
            foreign = plain[0].isdigit() or _KNOWN.match(plain.lower())
            yield (f"GSVRD_{plain}" if foreign else plain)[:_LONGEST_NAME], value


def _field(name: str, value: object) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    data = text.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return b"%b=%b\n" % (name.encode(), data)
    return b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(data)), data)


@dataclass(slots=True)
class Flood:
    """Lets at most `burst` entries of one event through in each window of `window_s` seconds."""

    now: Callable[[], float]
    """Monotonic seconds."""
    burst: int = BURST
    window_s: float = WINDOW_S
    _ends: float = 0.0
    _seen: dict[str, int] = field(default_factory=dict)

    def admits(self, event: str) -> bool:
        """Whether an entry of `event` is written; to be asked once for each, after `ended`."""
        self._seen[event] = number = self._seen.get(event, 0) + 1
        return number <= self.burst

    def ended(self) -> dict[str, int]:
        """When a window has just ended: how many entries of which events it did not let through."""
        if (now := self.now()) < self._ends:
            return {}
        kept_back = self.kept_back()
        self._ends = now + self.window_s
        self._seen.clear()
        return kept_back

    def kept_back(self) -> dict[str, int]:
        """How many entries of which events this window did not let through so far."""
        return {event: number - self.burst for event, number in self._seen.items() if number > self.burst}

    def has_begun(self, event: str) -> bool:
        """Whether the last entry of `event` was the first to be kept back."""
        return self._seen.get(event, 0) == self.burst + 1
