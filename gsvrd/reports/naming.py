"""Names for reports and failure records, safe whatever a title or a file name says.

The worker names its report here, the daemon its failure records, the configuration checks `output_pattern`.
Nothing here looks at a disk: a name is a function of the task, so that a repeat after a crash finds the same place.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

FIELDS = ("title", "stem", "relpath", "timestamp", "date", "template", "batch", "hash8")

COMPONENT_BYTES = 200
"""No component is longer in UTF-8: 55 bytes stay free below the usual 255 for a number, `.assets` or a prefix."""
PATH_BYTES = 1000
"""Folders that would make a path longer than this are folded into one."""

_FIELD = re.compile(r"\{([^{}]*)\}")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff<>:"|?*\\/]')
_HIDDEN = re.compile("[\u200b\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff]")
"""Bidi controls and the like: they make a name look like another one."""
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])", re.IGNORECASE | re.ASCII)
_OURS = (".md", ".assets")


@dataclass(frozen=True, slots=True)
class NameFields:
    """What a name may be made of."""

    title: str
    source: str
    """The video's path below the inbox, with suffix; may hold surrogates."""
    queued_at: float
    """UTC epoch seconds at which the task came in; not the time of an attempt, or a repeat would get another name."""
    template: str
    batch: str
    """Empty for a loose file."""
    sha256: str


def check_pattern(pattern: str) -> list[str]:
    """What is wrong with an output pattern, in words; an empty list when it can be used."""
    problems = [
        f"unknown field {{{name}}}; known are {', '.join(FIELDS)}"
        for name in _FIELD.findall(pattern)
        if name not in FIELDS
    ]
    rest = _FIELD.sub("x", pattern)
    if "{" in rest or "}" in rest:
        problems.append("a curly bracket without its partner")
    if not pattern.strip():
        problems.append("is empty")
    if pattern.startswith(("/", "~")):
        problems.append("must be a path below the reports directory, not an absolute one")
    if any(part in (".", "..") for part in rest.split("/")):
        problems.append("'.' and '..' are not allowed as folders")
    if pattern.endswith("/"):
        problems.append("ends in a folder; a file name is missing")
    if _UNSAFE.search(rest.replace("/", "")):
        problems.append('control characters and any of < > : " | ? * \\ are not allowed')
    return problems


def report_name(pattern: str, fields: NameFields) -> str:
    """The report's path below `reports/`: relative, POSIX, ending in `.md`, each component at most 200 bytes.

    Raises `ValueError` when `check_pattern` has something to say.
    """
    if problems := check_pattern(pattern):
        raise ValueError(f"output pattern {pattern!r}: {'; '.join(problems)}")
    values = _values(fields)
    filled = _FIELD.sub(lambda match: values[match[1]], pattern.removesuffix(".md"))
    *folders, last = filled.split("/")
    file = slug(last, COMPONENT_BYTES - len(".md")) + ".md"
    path = "/".join([*(_folder(part) for part in folders if part), file])
    if len(path.encode()) > PATH_BYTES:
        return f"{_digest('/'.join(folders))}/{file}"
    return path


def _values(fields: NameFields) -> dict[str, str]:
    source = PurePosixPath(fields.source)
    at = datetime.fromtimestamp(fields.queued_at, UTC)
    return {
        "title": _flat(fields.title) or _flat(source.stem),
        "stem": _flat(source.stem),
        "relpath": "/".join(_flat(part) for part in (*source.parent.parts, source.stem) if part != "/"),
        "timestamp": at.strftime("%Y%m%dT%H%M%SZ"),
        "date": at.strftime("%Y-%m-%d"),
        "template": _flat(fields.template),
        "batch": _flat(fields.batch),
        "hash8": _flat(fields.sha256[:8]),
    }


def numbered(name: str, n: int) -> str:
    """`dir/name-2.md` for `dir/name.md` and 2: where to go when the place is taken."""
    return f"{name.removesuffix('.md')}-{n}.md"


def assets_name(name: str) -> str:
    """`dir/name.assets`, the directory of the pictures of `dir/name.md`."""
    return name.removesuffix(".md") + ".assets"


def failure_name(source_name: str, number: int = 1) -> str:
    """`talk.mp4.error.json` for `talk.mp4`, the record beside a failed source; `talk.mp4-2.error.json` for number 2."""
    return slug(source_name) + (f"-{number}" if number > 1 else "") + ".error.json"


def slug(text: str, limit: int = COMPONENT_BYTES) -> str:
    """One path component of at most `limit` bytes that every file system takes; unicode stays. Idempotent."""
    name = _flat(text).lstrip(". -").rstrip(". ")
    if not name:
        return "_"
    stem, dot, rest = name.partition(".")
    if _RESERVED.fullmatch(stem.rstrip()):
        name = f"{stem}_{dot}{rest}"
    return _cut(name, limit)


def _flat(text: str) -> str:
    """`text` without anything that cannot stand inside one component."""
    # NFC after the hidden characters are gone, since what they kept apart may now compose.
    composed = unicodedata.normalize("NFC", _HIDDEN.sub("", text))
    return _UNSAFE.sub("_", " ".join(composed.split()))


def _folder(text: str) -> str:
    """A folder's name; never one that a report or its assets directory could have."""
    name = slug(text, COMPONENT_BYTES - 1)
    return name + "_" if name.lower().endswith(_OURS) else name


def _cut(name: str, limit: int) -> str:
    data = name.encode()
    if len(data) <= limit:
        return name
    tail = "~" + _digest(name)
    return data[: limit - len(tail)].decode(errors="ignore").rstrip(". ") + tail


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
