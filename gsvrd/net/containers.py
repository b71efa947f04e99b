"""What the first bytes of a download say of it: a container that may hold a video or sound, or a web page. Pure."""

from __future__ import annotations

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""What an MP4 or QuickTime file may begin with, after four bytes of length."""
_STARTS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: WMV, WMA
    b"\x00\x00\x01\xba",  # MPEG programme stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"ID3",
    b"fLaC",
)
_SYNC = 0x47
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script")


def is_video(head: bytes) -> bool:
    """Whether a file that begins so may be a video or a recording of sound."""
    if head[4:8] in _BOXES or head.startswith(_STARTS):
        return True
    if head[:4] in (b"RIFF", b"RF64"):
        return head[8:12] in (b"AVI ", b"WAVE")
    if head[:4] == b"FORM":
        return head[8:12] in (b"AIFF", b"AIFC")
    if head[:1] == b"\xff" and head[1:2] not in (b"\xfe", b"\xff"):  # else a text in UTF-16
        return len(head) > 1 and head[1] & 0xE0 == 0xE0  # MP3 or AAC without a container
    return _is_transport_stream(head, 0, 188) or _is_transport_stream(head, 4, 192)


def is_page(head: bytes) -> bool:
    """Whether it is HTML, whatever the server calls it."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES)


def _is_transport_stream(head: bytes, first: int, step: int) -> bool:
    at = range(first, len(head), step)
    return len(at) > 2 and all(head[i] == _SYNC for i in at)
