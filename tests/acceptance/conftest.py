from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.gemini.process import Served, serving
from support.gemini.rules import KEY

SAMPLES = Path(__file__).parent.parent / "media" / "samples"


@pytest.fixture
def sample() -> Path:
    return SAMPLES / "lecture-en.mp4"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with the quick analyzer, not started."""
    made = Daemon(tmp_path, {"GSVRD_ANALYZER": "probe"})
    (tmp_path / "inbox").mkdir()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    """What speaks Gemini's protocol; the sample lasts 81.4 seconds."""
    limits = {"concurrent": 2, "requests_per_minute": 400}
    with serving(tmp_path, default_duration_s=81.4, generate_s=0.05, limits=limits) as served:
        yield served


@pytest.fixture
def gemini(daemon: Daemon, server: Served) -> Daemon:
    """A daemon that studies with that, not started."""
    daemon.environ = {"GEMINI_API_KEY": KEY, "GSVRD_GEMINI_BASE_URL": server.url}
    return daemon
