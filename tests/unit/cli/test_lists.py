"""What `gsvrctl why` says of a video that a list names and that is not queued yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsvrd.cli.lists import Desk, awaited
from gsvrd.clock import ManualClock
from gsvrd.config.models import Config
from gsvrd.config.places import Places
from gsvrd.intake.names import printable
from gsvrd.store.opening import open_database
from gsvrd.store.queue import TaskQueue
from gsvrd.store.tracing import OUTSIDE, Tracing


@pytest.mark.parametrize("reason", ["/share is missing or empty: is its file system mounted?", ""])
def test_a_video_that_waits_outside_the_inbox_says_for_what(tmp_path: Path, reason: str) -> None:
    path = "/share/第一課\n.mp4".encode()
    with_rows = open_database(tmp_path / "gsvrd.db", create=True)
    queue = TaskQueue(with_rows, ManualClock())
    queue.add_batch(1, "term", "manifest")
    queue.expect(path, 1, "{}")
    queue.set_service(OUTSIDE, {printable(path): reason} if reason else None)
    queue.commit()
    desk = Desk(Places(tmp_path, {}), Tracing(with_rows), lambda: Config(home=tmp_path), is_up=True)
    found = awaited("第一課\n.mp4", path, desk)
    assert found is not None
    assert found["message"] == f"a list (term) names it, and {reason or 'it has not come yet'}"
    assert found["hint"].startswith("It goes on by itself" if reason else "Put the video there")
