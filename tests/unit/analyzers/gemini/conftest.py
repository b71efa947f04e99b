"""A bench for one attempt whose stages survive to the next, and a daemon that says yes to every call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel
from support.gemini.rules import KEY, Rules
from support.gemini.server import FakeGemini

from gsvrd.analysis import Analysis, MediaFacts
from gsvrd.analyzers.base import Call, Spent
from gsvrd.analyzers.gemini import sdk
from gsvrd.analyzers.gemini.analyzer import GeminiAnalyzer
from gsvrd.analyzers.gemini.settings import GeminiSettings, SdkName
from gsvrd.errors import TaskError
from gsvrd.policy.limiter import Lane
from gsvrd.templates.model import ModelSettings

Kept = TypeVar("Kept", bound=BaseModel)
MODEL = "gemini-3.8-flash"
DURATION_S = 60.0
SDKS: tuple[SdkName, ...] = ("google-genai", "google-generativeai")


@dataclass
class Ticket:
    """A permit that counts how often it is settled."""

    call: Call
    settled: list[Spent] = field(default_factory=list)

    def settle(self, spent: Spent) -> None:
        self.settled.append(spent)


@dataclass
class Bench:
    """A `GovernedBench`. `kept` outlives it, as it does in the daemon; what is kept comes back in the next attempt only."""

    source: str
    name: str
    facts: MediaFacts
    assets: Path
    kept: dict[str, bytes]
    sidecars: Sequence[Path] = ()
    link: str = ""
    threads: int = 1
    language: str = "auto"
    tickets: list[Ticket] = field(default_factory=list)
    steps: list[tuple[str, float]] = field(default_factory=list)
    made: dict[str, bytes] = field(default_factory=dict)
    refuse: dict[int, Exception] = field(default_factory=dict)
    """Calls by their number, from 1, that may not start."""
    asked: int = 0

    def progress(self, step: str, fraction: float) -> None:
        self.steps.append((step, fraction))

    def keep(self, stage: str, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
        if stage in self.kept:
            return kind.model_validate_json(self.kept[stage])
        result = make()
        self.made[stage] = result.model_dump_json().encode()
        return result

    def ask(self, call: Call) -> Ticket:
        self.asked += 1
        if self.asked in self.refuse:
            raise self.refuse[self.asked]
        assert all(ticket.settled for ticket in self.tickets), "a call begins while another is not settled"
        self.tickets.append(Ticket(call))
        return self.tickets[-1]

    def forget(self, stage: str) -> None:
        self.kept.pop(stage, None)
        self.made.pop(stage, None)

    def next_attempt(self) -> Bench:
        """The bench of the attempt that follows."""
        kept = self.kept | self.made
        return Bench(self.source, self.name, self.facts, self.assets, kept, language=self.language)

    def spent(self, lane: Lane) -> list[Spent]:
        """What was settled in a lane. Every permit is settled once."""
        assert all(len(ticket.settled) == 1 for ticket in self.tickets)
        return [ticket.settled[0] for ticket in self.tickets if ticket.call.lane is lane]


@dataclass
class Words:
    """A rendered prompt."""

    system: str
    user: str


@dataclass
class PlainTemplate:
    """A template that finds nothing wrong, or what it is told to find, answer by answer."""

    problems: list[list[str]] = field(default_factory=list)
    model: ModelSettings = field(default_factory=ModelSettings)
    rendered: list[dict[str, object]] = field(default_factory=list)
    checked: list[tuple[Analysis, float]] = field(default_factory=list)

    def render(self, values: Any) -> Words:
        self.rendered.append(dict(values))
        return Words("You are a teacher. Language: en. Times as MM:SS.", f"Study {values['video_name']}.")

    def check(self, analysis: Analysis, duration_s: float) -> list[str]:
        self.checked.append((analysis, duration_s))
        return self.problems.pop(0) if self.problems else []


@dataclass
class Lab:
    """A server, a template, and an analyzer over one SDK."""

    gemini: FakeGemini
    sdk: SdkName
    video: Path
    template: PlainTemplate
    pauses: list[float]
    duration_s: float = DURATION_S

    def settings(self, **wishes: Any) -> GeminiSettings:
        given = {"sdk": self.sdk, "base_url": self.gemini.url, "key_source": "env:TEST_GEMINI_KEY", "timeout_s": 10.0}
        return GeminiSettings(**{"model": MODEL, **given, **wishes})

    def analyzer(self, **wishes: Any) -> GeminiAnalyzer:
        return GeminiAnalyzer(self.settings(**wishes), self.template, pause=self.pauses.append)

    def lasting(self, seconds: float) -> Lab:
        """The same with a video of another length."""
        self.duration_s = self.template_duration(seconds)
        return self

    def template_duration(self, seconds: float) -> float:
        self.gemini.rules = Rules(default_duration_s=seconds)
        return seconds

    def bench(self, **wishes: Any) -> Bench:
        data = self.video.read_bytes()
        facts = MediaFacts(
            sha256=hashlib.sha256(data).hexdigest(),
            size_bytes=len(data),
            container="mov,mp4,m4a,3gp,3g2,mj2",
            duration_s=self.duration_s,
            video_codec="h264",
            audio_codec="aac",
        )
        return Bench(f"file:{self.video}", self.video.name, facts, self.video.parent, {}, **wishes)

    def failure(self, bench: Bench, **wishes: Any) -> TaskError:
        """How an attempt fails."""
        with pytest.raises(TaskError) as caught:
            self.analyzer(**wishes).analyze(bench)
        return caught.value


@pytest.fixture
def gemini() -> Iterator[FakeGemini]:
    with FakeGemini() as server:
        yield server


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "lecture.mp4"
    path.write_bytes(bytes(range(256)) * 8192)
    return path


def _lab(sdk_name: SdkName, gemini: FakeGemini, video: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    if not sdk.is_installed(sdk_name):
        pytest.skip(f"{sdk_name} is not installed")
    monkeypatch.setenv("TEST_GEMINI_KEY", KEY)
    monkeypatch.setenv("GEMINI_API_KEY", "wrong-key-of-the-environment")
    return Lab(gemini, sdk_name, video, PlainTemplate(), [])


@pytest.fixture(params=SDKS)
def lab(request: pytest.FixtureRequest, gemini: FakeGemini, video: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Over each SDK."""
    return _lab(request.param, gemini, video, monkeypatch)


@pytest.fixture
def genai_lab(gemini: FakeGemini, video: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return _lab("google-genai", gemini, video, monkeypatch)


@pytest.fixture
def old_lab(gemini: FakeGemini, video: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return _lab("google-generativeai", gemini, video, monkeypatch)
