"""What the readers of the manifest formats give to `manifest`, and turning a file's bytes into text.

Knows neither options nor videos; touches no disk.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, field

from gsvrd.config.document import Document, Place, Problem

_WORKBOOK = b"PK\x03\x04"
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_GUESSES = ("utf-8-sig", "gb18030")
"""Excel in China writes GB18030 when it is asked for a plain CSV. Few texts that are no UTF-8 are none of that either."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row as written; cells that say nothing are left out."""

    line: int
    cells: dict[str, str]
    lines: dict[str, int] = field(default_factory=dict)
    """Of cells that stand on lines of their own."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One manifest as written. `entries` may be read once; it raises `Refused`."""

    entries: Iterable[Entry | Problem]
    name: str = ""
    options: Document | None = None
    """Those of the whole batch; their keys are paths of one name."""
    line: int = 0
    """Where `name` was written."""


class Refused(Exception):  # noqa: N818 (it never leaves the intake as an exception)
    """Nothing of the manifest is used, for one reason. Raised by the readers, caught by `read_manifest`."""

    def __init__(self, source: str, line: int, what: str) -> None:
        super().__init__(what)
        self.problem = Problem(Place(source, line), what)


def decode(data: bytes, source: str) -> str:
    """The text of a manifest, its lines ending in a line feed. Raises `Refused`: empty, binary, of no known encoding."""
    if data.startswith((_WORKBOOK, _OLD_WORKBOOK)):
        raise Refused(source, 0, "is a workbook, not text; in Excel choose Save As, CSV UTF-8")
    text = _text(data, source)
    if "\0" in text:
        raise Refused(source, 0, "is no text file")
    if not text.strip():
        raise Refused(source, 0, "is empty; a manifest names at least one video")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _text(data: bytes, source: str) -> str:
    for encoding in ("utf-16",) if data.startswith(_UTF_16) else _GUESSES:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    if b"\0" in data:
        raise Refused(source, 0, "is no text file")
    raise Refused(source, 0, "is text in an unknown encoding; save it as UTF-8")
