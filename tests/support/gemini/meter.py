"""What was asked of the server: every request, how many at once, the worst minute, the money.

Only `service` and `wire` write. A call leaves its lane before the last byte of the answer goes out: a client that has
the answer may call again at once, and must not be counted twice. Keys are never kept.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from .faults import Kind, Route

MINUTE_S = 60.0
_HARMLESS = ("", Kind.TRICKLE, Kind.FENCED_JSON)
PACIFIC = ZoneInfo("America/Los_Angeles")


def pacific_day(at: float) -> str:
    """The day that Google's daily limits count in, for UTC epoch seconds."""
    return datetime.fromtimestamp(at, PACIFIC).date().isoformat()


def lane_of(route: Route) -> str:
    """`generate`, `upload`, `files` …: the first word of the route."""
    return route.split(".")[0]


@dataclass
class Entry:
    """One request. Times are UTC epoch seconds of the server's clock."""

    at: float
    method: str
    path: str
    """Without the query, which may hold a key."""
    route: Route = Route.UNKNOWN
    number: int = 0
    project: str = ""
    model: str = ""
    status: int = 0
    """Of the reply; 0 when none was sent."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    """Candidates and thoughts."""
    usd: float = 0.0
    at_once: int = 0
    """Calls in the same lane while this one began, itself included."""
    bytes_in: int = 0
    files: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    """Hex SHA-256 of those files that were there."""
    upload: str = ""
    """Which upload session, by its number."""
    max_output_tokens: int | None = None
    thinking_level: str = ""
    temperature: float | None = None
    """Of a generate request, as it came."""
    key_in_url: bool = False
    fault: str = ""
    came: int = 0
    """Coming and leaving of all calls, numbered: an order that no clock can spoil."""
    left: int = 0
    ended_at: float | None = None
    delivered: bool = False
    """The reply was written in full while the client still listened."""

    @property
    def lane(self) -> str:
        """What it competes in."""
        return lane_of(self.route)


class Meter:
    """The log and what follows from it. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._moves = itertools.count(1)
        self._entries: list[Entry] = []
        self._inside: dict[int, Entry] = {}
        self._peaks: Counter[str] = Counter()

    def begin(self, entry: Entry) -> None:
        """A request of a known route enters its lane."""
        with self._lock:
            entry.number, entry.came = next(self._numbers), next(self._moves)
            self._entries.append(entry)
            self._inside[entry.number] = entry
            entry.at_once = sum(1 for other in self._inside.values() if other.lane == entry.lane)
            self._peaks[entry.lane] = max(self._peaks[entry.lane], entry.at_once)

    def leave(self, entry: Entry, at: float) -> None:
        """It no longer counts as being worked on. A second time changes nothing."""
        with self._lock:
            if self._inside.pop(entry.number, None) is not None:
                entry.ended_at, entry.left = at, next(self._moves)

    def inside(self, project: str, model: str) -> int:
        """How many generate calls are being worked on for this project and model."""
        with self._lock:
            return sum(
                1
                for entry in self._inside.values()
                if entry.route is Route.GENERATE and (entry.project, entry.model) == (project, model)
            )

    def entries(self, route: str = "") -> list[Entry]:
        """All requests whose route begins so, in the order they came."""
        with self._lock:
            return [entry for entry in self._entries if entry.route.startswith(route)]

    def peak(self, lane: str) -> int:
        """The most calls that were in that lane at once."""
        with self._lock:
            return self._peaks[lane]

    def peak_upload_sessions(self) -> int:
        """The most uploads that were under way at once, each from its first request to its last."""
        spans: dict[str, list[int]] = {}
        for entry in self.entries("upload"):
            if entry.upload:
                span = spans.setdefault(entry.upload, [entry.came, entry.came])
                span[1] = max(span[1], entry.left, entry.came)
        edges = sorted([(span[0], 1) for span in spans.values()] + [(span[1], -1) for span in spans.values()])
        return max(itertools.accumulate(step for _, step in edges), default=0)

    def worst_minute(self, project: str, model: str) -> tuple[int, int]:
        """The most generate requests, and the most prompt tokens, that were asked for in any 60 seconds."""
        calls = [entry for entry in self.entries(Route.GENERATE) if (entry.project, entry.model) == (project, model)]
        first = requests = tokens = running = 0
        for last, entry in enumerate(calls):
            running += entry.prompt_tokens
            while calls[first].at <= entry.at - MINUTE_S:
                running -= calls[first].prompt_tokens
                first += 1
            requests = max(requests, last - first + 1)
            tokens = max(tokens, running)
        return requests, tokens

    def usd(self) -> float:
        """What all of it cost, in US dollars."""
        return sum(entry.usd for entry in self.entries())

    def answered(self) -> Counter[str]:
        """How often each video (hex SHA-256) got a good analysis that reached the client."""
        good = (e for e in self.entries(Route.GENERATE) if e.status == 200 and e.delivered and e.fault in _HARMLESS)
        return Counter(digest for entry in good for digest in entry.hashes)

    def uploaded(self) -> Counter[str]:
        """How often each video (hex SHA-256) was uploaded to its end, whether or not the client heard of it."""
        return Counter(digest for entry in self.entries(Route.UPLOAD_CHUNK) for digest in entry.hashes)

    def summary(self) -> dict[str, Any]:
        """All figures as JSON data, the requests in full at the end."""
        entries = self.entries()
        generates = [entry for entry in entries if entry.route is Route.GENERATE]
        minutes: dict[str, Any] = {}
        days: dict[str, Counter[str]] = defaultdict(Counter)
        for project, model in sorted({(entry.project, entry.model) for entry in generates}):
            requests, tokens = self.worst_minute(project, model)
            minutes[f"{project}/{model}"] = {"requests": requests, "tokens": tokens}
        for entry in generates:
            days[f"{entry.project}/{entry.model}"][pacific_day(entry.at)] += 1
        return {
            "requests": len(entries),
            "by_route": _counted(entry.route for entry in entries),
            "by_status": _counted(str(entry.status) for entry in entries),
            "peak": {lane: self.peak(lane) for lane in sorted({entry.lane for entry in entries})},
            "peak_upload_sessions": self.peak_upload_sessions(),
            "worst_minute": minutes,
            "by_day": {name: dict(count) for name, count in days.items()},
            "usd": self.usd(),
            "prompt_tokens": sum(entry.prompt_tokens for entry in entries if entry.usd),
            "output_tokens": sum(entry.output_tokens for entry in entries),
            "keys_in_url": sum(entry.key_in_url for entry in entries),
            "answered": dict(self.answered()),
            "uploaded": dict(self.uploaded()),
            "entries": [asdict(entry) for entry in entries],
        }


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))
