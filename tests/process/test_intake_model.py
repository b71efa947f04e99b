"""Random histories of an inbox, played on a real directory before a real intake, against the truth of that directory.

However files are written, renamed, linked, moved in trees, lost from sight or told of too late: what is handed out is
settled at that moment, each state of a file is handed out once, and after quiet nothing that is settled is missing.
`GSVRD_MODEL_EXAMPLES=2000` plays that many new histories of each kind in place of the few that are always the same.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as play
from support.intakes import Door, put
from support.people import LIMIT_S, People, histories, numbers
from support.waiting import eventually
from support.worlds import World, pick
from watchdog.observers.inotify_c import InotifyFD
from watchdog.utils import BaseThread

from gsvrd.clock import ManualClock
from gsvrd.intake.identity import Candidate, Identity
from gsvrd.intake.intake import IntakeSettings, Refusal
from gsvrd.intake.tap import Tell
from gsvrd.intake.watcher import WatchMode

State = tuple[bytes, Identity]
"""A path below the inbox and what lay there."""

SETTLE_S, POLL_S, RESCAN_S = 2.0, 1.0, 30.0
MARK = b"mark.mp4"
"""Dropped to learn that all earlier events have been heard."""

pauses = st.sampled_from([0.0, 0.3, SETTLE_S, 5.0, RESCAN_S + 1])


class Histories(People):
    """What may happen to an inbox and to its intake."""

    watch: ClassVar[WatchMode]

    @initialize()
    def begin(self) -> None:
        self.world = World(os.fsencode(tempfile.mkdtemp(prefix="gsvrd-world-")))
        self.clock = ManualClock()
        self._open()

    def _open(self) -> None:
        wishes = IntakeSettings(self.watch, poll_interval_s=POLL_S, rescan_interval_s=RESCAN_S, settle_s=SETTLE_S)
        self.door = Door(Path(os.fsdecode(self.world.inbox)), wishes, self.clock)
        self.handed: Counter[State] = Counter()
        self.refused: Counter[State] = Counter()
        self.came: Counter[State] = Counter()
        """How often each state came to be: it may be handed out as often."""
        self.since: dict[State, float] = {}
        """When those that are there now came."""
        self.taken: set[State] = set()
        """Handed out and not forgotten."""
        self.observe()
        self.door.__enter__()
        self.listen()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.be_quiet()
            finally:
                self._close()
                self.world.end()

    def _close(self) -> None:
        self.door.__exit__(None, None, None)
        eventually(lambda: not any(isinstance(thread, BaseThread) for thread in threading.enumerate()))

    @rule()
    def lose_events(self) -> None:
        """What comes until the next turn finds no room, as when the kernel's queue is full."""
        self.door.intake._watcher._tell._room = 0

    # -- the daemon --------------------------------------------------------------------------------------------------

    @rule()
    def miss_the_mount(self) -> None:
        """The inbox's file system is away for a while, and the intake sees that."""
        if self.world.is_mounted:
            self.turn(RESCAN_S + 1)
            self.world.unmount()
            self.turn(RESCAN_S + 1)
            self.world.mount()
            self.turn(RESCAN_S + 1)

    @rule(number=numbers)
    def take_away(self, number: int) -> None:
        """A task is done: its source goes to the archive."""
        there = sorted((state for state in self.taken if self.present().get(state[0]) == state[1]), key=repr)
        if self.world.is_mounted and (state := pick(there, number)) is not None:
            path, identity = state
            self.world.link(b"inbox/" + path, b"outside/archived-%d" % len(self.world.files()))
            self.world.remove(b"inbox/" + path)
            self.taken.discard(state)
            self.observe()
            self.door.intake.forget(self.world.inbox + b"/" + path, identity)

    @rule()
    def start_again(self) -> None:
        if self.world.is_mounted:
            self._close()
            self._open()

    @rule(pause=pauses)
    def turn(self, pause: float) -> None:
        self.hear_all()
        self.clock.advance(pause)
        self.rest()

    # -- what must be so ---------------------------------------------------------------------------------------------

    @invariant()
    def observe(self) -> None:
        if hasattr(self, "since"):
            states = set(self.present().items())
            self.came.update(states - set(self.since))
            self.since = {state: self.since.get(state, self.clock.now) for state in states}

    def rest(self) -> None:
        self.door.rest()
        self.judge()

    def judge(self) -> None:
        """What was handed out in the last turns, the directory being as it is."""
        settled, linked = (set(found.items()) for found in (self.world.settled(), self.world.linked()))
        for found in self.door.candidates:
            if (state := self._state(found))[0] != MARK:
                self._judge_one(state, settled, self.handed)
                self.taken.add(state)
                assert state[1].size or self.clock.now - self.since[state] >= SETTLE_S, f"empty, and early: {state}"
        for refusal in self.door.refusals:
            if "folder" not in refusal.facts.message:
                self._judge_one(self._state(refusal), linked, self.refused)
            else:
                assert os.path.isdir(refusal.path)
        self.door.candidates.clear()
        self.door.refusals.clear()

    def _judge_one(self, state: State, allowed: set[State], counted: Counter[State]) -> None:
        assert self.world.is_mounted, f"handed out while the inbox was away: {state}"
        assert state in allowed, f"not so, or not yet: {state}"
        counted[state] += 1
        assert counted[state] <= self.came[state], f"handed out again: {state}"

    def be_quiet(self) -> None:
        """All writers come to an end; after two rounds of scans nothing may be missing."""
        if not self.world.is_mounted:
            self.world.mount()
        for writer in list(self.world.writers):
            self.world.close(writer)
        self.observe()
        self.turn(5.0)  # if it was trouble, the inbox is looked for now
        for _ in range(5):
            self.turn(RESCAN_S + 1)
        assert {path: found for path, found in self.world.settled().items() if (path, found) not in self.taken} == {}
        told = self.taken | set(self.refused)
        assert {path: found for path, found in self.world.linked().items() if (path, found) not in told} == {}

    def present(self) -> dict[bytes, Identity]:
        return self.world.present()

    def _state(self, found: Candidate | Refusal) -> State:
        return found.path.removeprefix(self.world.inbox + b"/"), found.identity

    # -- events come in other threads --------------------------------------------------------------------------------

    def listen(self) -> None:
        """Until the intake knows whether there are events: the test's clock does not tell it to give up."""

    def hear_all(self) -> None:
        """Until all is heard of what has happened."""


class ByScans(Histories):
    """Nothing is heard: every few seconds the inbox is looked at."""

    watch = "polling"


class ByEvents(Histories):
    """With watchdog; the scan comes every half minute."""

    watch = "auto"

    def listen(self) -> None:
        self.door.until(lambda: self.door.intake.describe()["why"] not in ("not started", "starting"))
        self.rest()

    def hear_all(self) -> None:
        self.listen()
        if not self.world.is_mounted or self.door.intake.trouble:
            return
        mark = self.world.inbox + b"/" + MARK
        put(mark)
        self.door.until(lambda: os.fsdecode(MARK) in self.door.names)
        os.unlink(mark)
        self.door.intake._watcher._tell._room = Tell(lambda: None)._room
        self.judge()


pytestmark = pytest.mark.timeout(LIMIT_S)


@pytest.mark.parametrize(("kind", "examples"), [(ByScans, 120), (ByEvents, 40)])
def test_whatever_happens_each_settled_video_is_handed_out_once_and_none_early(
    kind: type[Histories], examples: int
) -> None:
    play(kind, settings=histories(examples))


def test_the_same_holds_when_most_folders_go_without_a_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = InotifyFD.add_callback

    def limited(self: Any, *wishes: Any) -> Any:
        if len(self._watch_for_wd) >= 2:
            raise OSError(errno.ENOSPC, "the test's limit")
        return watch(self, *wishes)

    monkeypatch.setattr(InotifyFD, "add_callback", limited)
    play(ByEvents, settings=histories(20))
