"""Links that people write, in the one form that everything else knows. Pure: nothing is resolved or opened here.

Called wherever a link enters (manifests, dropped shortcuts, the command line) and by whoever fetches one. What is shown of
a link is its `name`: a query may hold a key, and never leaves the queue.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from gsvrd.config.document import printable
from gsvrd.policy.addresses import Target, parse_target

_YOUTUBE = frozenset({"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com"})
_EMBEDDED = frozenset({"youtube-nocookie.com", "www.youtube-nocookie.com"})
_SHORT = frozenset({"youtu.be", "www.youtu.be"})
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_BEFORE_ID = frozenset({"shorts", "embed", "live", "v"})
_LONGEST_NAME = 120
_LARGEST = (1 << 63) - 1
_PLAYLIST = "this is a playlist of YouTube; name the videos in it one by one"
_NO_VIDEO = "this page of YouTube is none of a video; open the video and copy its address"


@dataclass(frozen=True, slots=True)
class Link:
    """An address that may lead to a video."""

    url: str
    """Canonical: two spellings of one address are the same here. May hold secrets in its query."""
    video: str = ""
    """The eleven letters of a video of YouTube; empty for any other address."""

    @property
    def name(self) -> str:
        """The link for people, logs and reports: without its query, which may be a key."""
        if self.video:
            return f"https://youtu.be/{self.video}"
        bare, question, _ = self.url.partition("?")
        return _shortened(printable(bare)) + ("?…" if question else "")

    @property
    def file(self) -> str:
        """What a file of it would be called; not made safe for a disk."""
        if self.video:
            return f"youtube-{self.video}"
        path = urlsplit(self.url).path.rstrip("/")
        return unquote(path.rpartition("/")[2]) or urlsplit(self.url).hostname or "link"

    def identity(self, wishes: object) -> int:
        """A figure that SQLite can keep, the same for the same link with the same `wishes` (anything with a `repr`)."""
        digest = hashlib.sha256(f"{self.url} {wishes!r}".encode()).digest()
        return int.from_bytes(digest[:8], "big") & _LARGEST


def parse_link(text: str) -> Link:
    """The link in one form. Raises `ValueError` with a sentence for people that does not repeat the link."""
    target = parse_target(text.strip())
    if target.host in _YOUTUBE | _EMBEDDED | _SHORT:
        video = _video(target)
        return Link(f"https://www.youtube.com/watch?v={video}", video)
    return Link(_spelled(target))


def _spelled(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    port = "" if target.port == {"http": 80, "https": 443}[target.scheme] else f":{target.port}"
    return f"{target.scheme}://{host}{port}{target.path}"


def _video(target: Target) -> str:
    """Which video of YouTube is meant; where in it to begin, and which list it is in, is for players."""
    path, _, query = target.path.partition("?")
    parts, asked = [part for part in path.split("/") if part], parse_qs(query)
    if target.host in _SHORT:
        found = parts[0] if len(parts) == 1 else ""
    elif len(parts) == 2 and parts[0] in _BEFORE_ID:
        found = parts[1]
    else:
        found = asked.get("v", [""])[0] if parts == ["watch"] else ""
    if _ID.fullmatch(found) and found != "videoseries":
        return found
    raise ValueError(_PLAYLIST if "list" in asked or parts[:1] == ["playlist"] else _NO_VIDEO)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"
