"""Shortcuts to a web page, as desktops write them when a link is dragged into a folder: `.url` and `.webloc`. Pure.

Called by the daemon's filing thread when one has settled, by workers, and by `gsvrctl plan`.
"""

from __future__ import annotations

import os
import plistlib
import re
from xml.parsers.expat import ExpatError

from gsvrd.errors import ErrorKind, TaskError
from gsvrd.policy.links import Link, parse_link

LARGEST_BYTES = 64 * 1024
_SECTION = re.compile(r"\[\s*InternetShortcut\s*\]", re.IGNORECASE)
_ADDRESS = re.compile(r"URL\s*=\s*(.*)", re.IGNORECASE)
_BROKEN_PLIST = (
    plistlib.InvalidFileException,
    ExpatError,
    ValueError,
    OverflowError,
    IndexError,
    KeyError,
    RecursionError,
)
_HOW = "Drag the address from the browser into the inbox again, or write it into a list (.txt)."


def read_shortcut(descriptor: int, name: bytes) -> Link:
    """The link in an open file called `name`. Raises `TaskError` (EMPTY, LINK) in words, and OSError."""
    data = os.pread(descriptor, LARGEST_BYTES + 1, 0)
    if not data.strip():
        raise TaskError(ErrorKind.EMPTY, "the shortcut is empty", _HOW)
    if len(data) > LARGEST_BYTES:
        raise TaskError(ErrorKind.LINK, f"it is larger than {LARGEST_BYTES // 1024} KiB: no shortcut to a page", _HOW)
    try:
        return parse_link(_address(data, name))
    except ValueError as error:
        raise TaskError(ErrorKind.LINK, f"the shortcut cannot be used: {error}", _HOW) from error


def _address(data: bytes, name: bytes) -> str:
    """Raises `ValueError` with a sentence."""
    if name.lower().endswith(b".webloc"):
        return _of_plist(data)
    lines = [line.strip() for line in _text(data).splitlines() if line.strip()]
    if not any(_SECTION.fullmatch(line) for line in lines):
        if len(lines) == 1:
            return lines[0]
        raise ValueError("it holds no link")
    for line in lines[next(i for i, line in enumerate(lines) if _SECTION.fullmatch(line)) + 1 :]:
        if line.startswith("["):
            break
        if found := _ADDRESS.fullmatch(line):
            return found[1].strip().strip('"')
    raise ValueError("it holds no link")


def _of_plist(data: bytes) -> str:
    try:
        found = plistlib.loads(data)
    except _BROKEN_PLIST:
        raise ValueError("it is no property list") from None
    address = found.get("URL") if isinstance(found, dict) else None
    if not isinstance(address, str):
        raise ValueError("it holds no link")
    return address


def _text(data: bytes) -> str:
    for encoding in ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError("it is no text")
