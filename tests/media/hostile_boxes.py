"""Breaks a good mp4 on purpose: each function takes its bytes and gives back bytes that lie or are damaged.

`make_hostile` calls it. An mp4 is a tree of boxes, each with a length and a name of four letters.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_QUARTER_TURN = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and length of every box, parents before their children."""
    end = len(data) if end is None else end
    while start < end:
        length, name = struct.unpack_from(">I4s", data, start)
        yield name, start, length
        if name in _PARENTS:
            yield from boxes(data, start + 8, start + length)
        start += length


def find(data: bytes, name: bytes) -> tuple[int, int]:
    """Offset and length of the first box of that name. Raises `LookupError`."""
    for found, start, length in boxes(data):
        if found == name:
            return start, length
    raise LookupError(f"no box {name!r}")


def unique(data: bytes, number: int) -> bytes:
    """The same video with other bytes: files with one content are studied only once."""
    return data + struct.pack(">I4sI", 12, b"free", number)


def without_index(data: bytes) -> bytes:
    """No `moov`: what a recorder leaves behind that was switched off."""
    start, length = find(data, b"moov")
    return data[:start] + data[start + length :]


def truncated(data: bytes, share: float = 0.5) -> bytes:
    """The front part of the media data; the index, which comes first, still promises all of it."""
    start, length = find(data, b"mdat")
    return data[: start + round(length * share)]


def damaged(data: bytes, rubbish: bytes) -> bytes:
    """Rubbish over the middle of the media data."""
    start, length = find(data, b"mdat")
    middle = start + (length - len(rubbish)) // 2
    return data[:middle] + rubbish + data[middle + len(rubbish) :]


def long_headers(data: bytes, hours: int) -> bytes:
    """Every header says that the film lasts so many hours; the samples know better."""
    changed = bytearray(data)
    movie = find(data, b"mvhd")[0]
    ticks = struct.unpack_from(">I", data, movie + 20)[0]
    struct.pack_into(">I", changed, movie + 24, hours * 3600 * ticks)
    for name, start, _ in boxes(data):
        if name == b"tkhd":
            struct.pack_into(">I", changed, start + 28, hours * 3600 * ticks)
        elif name == b"mdhd":
            own = struct.unpack_from(">I", data, start + 20)[0]
            struct.pack_into(">I", changed, start + 24, min(hours * 3600 * own, 0xFFFFFFFF))
    return bytes(changed)


def slow_samples(data: bytes) -> bytes:
    """The index itself says that every sample lasts most of a day."""
    changed = bytearray(data)
    for name, start, _ in boxes(data):
        if name == b"stts":
            for entry in range(struct.unpack_from(">I", data, start + 12)[0]):
                struct.pack_into(">I", changed, start + 20 + 8 * entry, 0x3FFFFFFF)
    return bytes(changed)


def huge_media(data: bytes) -> bytes:
    """`mdat` claims five terabytes. The longer header takes the place of the empty `free` box before it."""
    (gap, length), (start, _) = find(data, b"free"), find(data, b"mdat")
    if (length, gap + length) != (8, start):
        raise LookupError("no empty box before mdat")
    return data[:gap] + struct.pack(">I4sQ", 1, b"mdat", 5 << 40) + data[start + 8 :]


def many_samples(data: bytes) -> bytes:
    """`stsz` claims four thousand million samples."""
    changed = bytearray(data)
    struct.pack_into(">I", changed, find(data, b"stsz")[0] + 16, 0xFFFFFFF0)
    return bytes(changed)


def wide_header(data: bytes, side: int) -> bytes:
    """Track header and sample entry say `side` x `side` pixels; the stream says what is true."""
    changed = bytearray(data)
    struct.pack_into(">II", changed, find(data, b"tkhd")[0] + 84, side << 16, side << 16)
    struct.pack_into(">HH", changed, data.index(b"avc1", find(data, b"stsd")[0]) + 28, side, side)
    return bytes(changed)


def turned(data: bytes) -> bytes:
    """The display matrix of the first track asks for a quarter turn, as phones write it."""
    at = find(data, b"tkhd")[0] + 48
    return data[:at] + _QUARTER_TURN + data[at + len(_QUARTER_TURN) :]


def unknown_codec(data: bytes) -> bytes:
    """A picture track in a format nobody knows."""
    at = data.index(b"avc1", find(data, b"stsd")[0])
    return data[:at] + b"zqzq" + data[at + 4 :]


def nested(depth: int) -> bytes:
    """`moov` in `moov` in `moov` …"""
    inner = b""
    for _ in range(depth):
        inner = struct.pack(">I4s", 8 + len(inner), b"moov") + inner
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 512) + inner
