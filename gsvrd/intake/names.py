"""Which names below the inbox are videos, judged by the name alone. Called for each entry of a scan and for each event.

Nothing here touches a file. Names are bytes, since a Linux name need not be text in any encoding.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable

VIDEO_SUFFIXES = (
    *("mp4", "mov", "avi", "mkv", "webm", "m4v", "mpg", "mpeg", "ts", "m2ts", "mts"),
    *("wmv", "asf", "flv", "f4v", "ogv", "3gp", "3g2", "vob", "divx"),
)

CONTROL_FILE = b".aria2"
"""While `<name>.aria2` lies beside a file, aria2 is not done with it, though it may have closed it for now."""
PLACE_HOLDER = b".part"
"""While `<name>.part` lies beside an empty file, a browser keeps the final name free for what it is downloading."""

MANIFEST_SUFFIXES = (b".csv", b".txt", b".yaml", b".yml")
LINK_SUFFIXES = (b".url", b".webloc")
"""Shortcuts to a web page, as desktops write them."""
ERRORS_SUFFIX = b".errors.txt"
"""Beside a manifest: what is wrong with it."""
OPTIONS_FILE = b"gsvrd.yaml"
"""A folder's own options."""

_UNFINISHED = frozenset(
    {b"part", b"partial", b"crdownload", b"download", b"tmp", b"temp", b"filepart", b"!qb", b"aria2"}
)
_UNFINISHED_INNER = _UNFINISHED - {b"download"}  # `intro.download.mp4` may well be a title; `intro.temp.mp4` is not
_NOT_OURS = frozenset(
    {b"@eadir", b"#recycle", b"$recycle.bin", b"system volume information", b"lost+found", b"__macosx"}
)  # folders of servers and desktops; @eaDir holds a folder named like each video
_SHORT_SUFFIX = re.compile(rb"\.[A-Za-z][A-Za-z0-9]{1,4}\Z")


class NameRules:
    """The rules of one configuration."""

    def __init__(self, suffixes: Iterable[str] = VIDEO_SUFFIXES, ignore: Iterable[str] = ()) -> None:
        """`suffixes` with or without a dot; `ignore` are glob patterns. Letter case does not matter in either."""
        self._suffixes = frozenset(os.fsencode(suffix.lstrip(".").lower()) for suffix in suffixes)
        patterns = [fnmatch.translate(pattern) for pattern in ignore]
        self._ignore = re.compile("|".join(patterns), re.IGNORECASE) if patterns else None

    def is_video(self, name: bytes) -> bool:
        """Whether a single name (no folders) is that of a finished video."""
        if name[:1] in (b".", b"~"):
            return False
        pieces = name.lower().split(b".")
        if len(pieces) < 2 or pieces[-1] not in self._suffixes or pieces[-1] in _UNFINISHED:
            return False
        if len(pieces) > 2 and pieces[-2] in _UNFINISHED_INNER:
            return False
        return not self._is_ignored(name)

    def is_manifest(self, name: bytes) -> bool:
        """Whether a single name is that of a list of videos. What is in a `.txt` decides further."""
        lower = name.lower()
        if name[:1] in (b".", b"~") or lower == OPTIONS_FILE or lower.endswith(ERRORS_SUFFIX):
            return False
        return lower.endswith(MANIFEST_SUFFIXES) and not self._is_ignored(name)

    def is_shortcut(self, name: bytes) -> bool:
        """Whether a single name is that of a file that holds one link."""
        return is_shortcut(name) and not self._is_ignored(name)

    def is_source(self, name: bytes) -> bool:
        """Whether a file of this name may become a task."""
        return self.is_video(name) or self.is_shortcut(name)

    def is_wanted(self, name: bytes) -> bool:
        """Whether a file of this name is worth a look."""
        return self.is_source(name) or self.is_manifest(name)

    def is_folder(self, name: bytes) -> bool:
        """Whether a folder of this name is looked into."""
        return name[:1] != b"." and name.lower() not in _NOT_OURS and not self._is_ignored(name)

    def is_refused_as_link(self, name: bytes) -> bool:
        """Whether a symbolic link of this name is worth a word: it looks like a video or a folder.

        The link is not followed to find out what it is: its target may hang, and is none of our business.
        """
        return self.is_video(name) or (self.is_folder(name) and _SHORT_SUFFIX.search(name) is None)

    def admits(self, relative: bytes) -> bool:
        """Whether a scan would come by `relative`: its folders are looked into and no pattern excludes it."""
        return not self.is_excluded(relative) and all(self.is_folder(part) for part in relative.split(b"/")[:-1])

    def is_excluded(self, relative: bytes) -> bool:
        """Whether an `ignore` pattern speaks of the path as a whole (`drafts/*`)."""
        return b"/" in relative and self._is_ignored(relative)

    def _is_ignored(self, name: bytes) -> bool:
        return self._ignore is not None and self._ignore.match(os.fsdecode(name)) is not None


def is_shortcut(name: bytes) -> bool:
    """Whether a single name is that of a shortcut, whatever the configuration says."""
    return name[:1] not in (b".", b"~") and name.lower().endswith(LINK_SUFFIXES)


def printable(name: bytes) -> str:
    r"""The name for people: bytes that are not UTF-8 as \xNN, invisible characters as \xNN or \uNNNN."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape keeps the byte 0xNN as U+DCNN
        code -= 0xDC00
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
