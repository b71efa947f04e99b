"""The body of a request, read piece by piece: an upload is never held in memory. `wire` makes it, `service` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedIOBase

_LARGEST = 64 * 1024 * 1024
"""No JSON request of a test is larger."""


class Body:
    """`length` bytes of a stream, or chunks of HTTP's transfer coding when that is None."""

    def __init__(self, stream: BufferedIOBase, length: int | None) -> None:
        self._stream = stream
        self._left = length if length is not None else 0
        self._chunked = length is None
        self.taken = 0
        """Bytes that arrived so far."""

    def blocks(self, size: int, limit: int | None = None) -> Iterator[bytes]:
        """Blocks of `size` bytes, the last one shorter, at most `limit` bytes in all.

        Raises `ConnectionError` when the client stops in the middle.
        """
        rest = b""
        while limit is None or limit > 0:
            piece = self._read(size - len(rest) if limit is None else min(size - len(rest), limit))
            if not piece:
                break
            limit = None if limit is None else limit - len(piece)
            rest += piece
            if len(rest) == size:
                yield rest
                rest = b""
        if rest:
            yield rest

    def all(self) -> bytes:
        """Everything that is left. Raises `ConnectionError`, and `ValueError` when it is absurdly much."""
        whole = bytearray()
        for block in self.blocks(1 << 16):
            whole += block
            if len(whole) > _LARGEST:
                raise ValueError("the request is too large")
        return bytes(whole)

    def drain(self) -> None:
        """Throw away what is left, so that the connection can carry the next request. Raises `ConnectionError`."""
        for _ in self.blocks(1 << 16):
            pass

    def _read(self, size: int) -> bytes:
        """Up to `size` bytes; nothing at the end."""
        if self._chunked and not self._left:
            self._next_chunk()
        if not self._left:
            return b""
        piece = self._stream.read(min(size, self._left))
        self.taken += len(piece)
        self._left -= len(piece)
        if self._chunked and not self._left and piece:
            self._stream.readline()
        if not piece:
            raise ConnectionError("the client stopped in the middle of a body")
        return piece

    def _next_chunk(self) -> None:
        line = self._stream.readline()
        if not line.strip():
            raise ConnectionError("the client stopped between two chunks")
        self._left = int(line.split(b";")[0], 16)
        if not self._left:
            self._chunked = False
            self._stream.readline()
