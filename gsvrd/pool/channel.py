"""One end of the pipe between the daemon and a worker: whole messages, length first.

The daemon's end never blocks: a worker that is stopped in the middle of a message must not stop the loop. The worker's end
blocks. A broken pipe on a write is the same as the end of the file on a read: the other side is gone.
"""

from __future__ import annotations

import socket
import struct

_LENGTH = struct.Struct("<I")
_READ_BYTES = 1 << 16
MAX_MESSAGE_BYTES = 64 << 20
"""A longer message means that the other side lost its mind; it is treated as gone."""


class Channel:
    """Frames over a connected stream socket."""

    __slots__ = ("_blocks", "_buffer", "_outgoing", "_socket", "closed")

    def __init__(self, connected: socket.socket, *, blocking: bool) -> None:
        connected.setblocking(blocking)
        self._socket = connected
        self._blocks = blocking
        self._buffer = bytearray()
        self._outgoing = bytearray()
        self.closed = False
        """The other side is gone; what arrived before that may still be read."""

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def send(self, message: bytes) -> None:
        """Send, or queue what the kernel does not take now; a gone receiver is noted, not raised."""
        framed = _LENGTH.pack(len(message)) + message
        if not self._outgoing:  # nearly always: then there is nothing to copy
            framed = framed[self._push(framed) :]
        if framed:
            self._outgoing += framed
            self.flush()

    def flush(self) -> None:
        """Send what is queued, as far as the kernel takes it."""
        while self._outgoing and (sent := self._push(self._outgoing)):
            del self._outgoing[:sent]

    def _push(self, data: bytes | bytearray) -> int:
        """How many bytes the kernel took; none when it has no room or the other side is gone."""
        if self.closed:
            return 0
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.closed = True
            return 0

    @property
    def waiting(self) -> bool:
        """Whether something is queued that the kernel did not take yet."""
        return bool(self._outgoing) and not self.closed

    def receive(self) -> list[bytes]:
        """The whole messages that can be had now; a blocking end waits for at least one, or for the end of the file."""
        messages = self._split()
        while not self.closed and not (messages and self._blocks):
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
                break
            if not self._buffer and _is_one_message(data):  # nearly always: then there is nothing to copy
                messages.append(data[_LENGTH.size :])
            else:
                self._buffer += data
                messages += self._split()
            if len(data) < _READ_BYTES and not self._blocks:
                break
        return messages

    def _split(self) -> list[bytes]:
        messages: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > MAX_MESSAGE_BYTES:
                self.closed = True
                break
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(bytes(self._buffer[start + _LENGTH.size : end]))
            start = end
        if start:
            del self._buffer[:start]
        return messages

    def close_later(self) -> None:
        """Say that nothing more will be sent; what the other side still has to say can be read."""
        if not self.closed:
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Hang up."""
        self.closed = True
        self._socket.close()


def _is_one_message(data: bytes) -> bool:
    return len(data) >= _LENGTH.size and _LENGTH.unpack_from(data)[0] == len(data) - _LENGTH.size
