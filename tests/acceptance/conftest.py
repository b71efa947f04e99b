from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon

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
