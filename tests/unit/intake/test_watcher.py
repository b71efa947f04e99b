"""What the watcher says of itself while it is not known yet whether events come."""

from __future__ import annotations

import os
from pathlib import Path

from gsvrd.clock import ManualClock
from gsvrd.intake.mounts import Mounts
from gsvrd.intake.tap import PROBE, Notice, Word
from gsvrd.intake.watcher import Watcher


class Still(Watcher):
    """Nothing is watched for real: the test tells the news."""

    def _listen(self) -> None:
        self.mode, self.why = "events", "starting"
        self._deadline = self._clock.monotonic() + 2.0


def watcher(inbox: Path) -> Watcher:
    made = Still("auto", os.fsencode(inbox), ManualClock(), lambda name: True, lambda: None, Mounts())
    made.follow(os.stat(inbox))
    return made


def hear(made: Watcher, *news: Notice | bytes) -> str:
    for one in news:
        made._tell(one)
    assert list(made.take(made._clock.monotonic())) == []
    return made.why


def test_a_folder_without_a_watch_says_nothing_about_whether_events_come(tmp_path: Path) -> None:
    made = watcher(tmp_path)
    assert hear(made, Notice(Word.LIMIT)) == "starting"
    assert hear(made, Notice(Word.READY)) == "starting"
    assert "some folders have no watch" in hear(made, PROBE)
    assert made.mode == "events"


def test_a_limit_that_is_met_later_is_told(tmp_path: Path) -> None:
    made = watcher(tmp_path)
    assert hear(made, Notice(Word.READY), PROBE) == "the probe file raised its event"
    assert "some folders have no watch" in hear(made, Notice(Word.LIMIT))
