"""What people and programs do to an inbox, as rules for state machines; see `worlds`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from support.worlds import FOLDERS, NAMES, World, pick

numbers = st.integers(0, 99)
names = st.sampled_from(sorted(NAMES))
folders = st.sampled_from([(b"inbox/" + name).rstrip(b"/") for name in FOLDERS] + [b"outside", b"outside/term"])
contents = st.sampled_from([b"", b"first bytes", b"other bytes", b"more than all the others"])

WISHED = int(os.environ.get("GSVRD_MODEL_EXAMPLES", "0"))
LIMIT_S = 0 if WISHED else 120
"""For the tests that play histories; 0 is none."""


def histories(examples: int) -> settings:
    """So many histories, always the same; or as many new ones as the environment asks for."""
    return settings(
        max_examples=WISHED or examples,
        stateful_step_count=30,
        derandomize=not WISHED,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class People(RuleBasedStateMachine):
    """They work on files and whole trees, and somebody pulls the plug of the disk."""

    world: World

    @rule(folder=folders, name=names, data=contents)
    def drop(self, folder: bytes, name: bytes, data: bytes) -> None:
        self.world.put(folder + b"/" + name, data)

    @rule(folder=folders, name=names, data=contents)
    def begin_to_write(self, folder: bytes, name: bytes, data: bytes) -> None:
        self.world.write(folder + b"/" + name, data, os.O_TRUNC)

    @rule(number=numbers, data=contents)
    def open_again(self, number: int, data: bytes) -> None:
        if (path := pick(self.world.files(), number)) is not None:
            self.world.write(path, data, os.O_APPEND)

    @rule(number=numbers, data=contents)
    def write_on(self, number: int, data: bytes) -> None:
        if (writer := pick(self.world.writers, number)) is not None:
            self.world.go_on(writer, data)

    @rule(number=numbers, size=st.sampled_from([0, 5, 11]))
    def cut(self, number: int, size: int) -> None:
        if (writer := pick(self.world.writers, number)) is not None:
            self.world.cut(writer, size)

    @rule(number=numbers)
    def close(self, number: int) -> None:
        if (writer := pick(self.world.writers, number)) is not None:
            self.world.close(writer)

    @rule(number=numbers, folder=folders, name=names)
    def rename(self, number: int, folder: bytes, name: bytes) -> None:
        if (path := pick(self.world.files(), number)) is not None:
            self.world.rename(path, folder + b"/" + name)

    @rule(number=numbers, folder=folders)
    def rename_tree(self, number: int, folder: bytes) -> None:
        if (path := pick(self.world.folders(), number)) is not None:
            self.world.rename(path, folder)

    @rule(number=numbers, folder=folders)
    def move_tree_into(self, number: int, folder: bytes) -> None:
        if (path := pick(self.world.folders(), number)) is not None:
            self.world.rename(path, folder + b"/inner")

    @rule(number=numbers, folder=folders, name=names)
    def link(self, number: int, folder: bytes, name: bytes) -> None:
        if (path := pick(self.world.files(), number)) is not None:
            self.world.link(path, folder + b"/" + name)

    @rule(number=numbers, folder=folders, name=names)
    def copy(self, number: int, folder: bytes, name: bytes) -> None:
        if (path := pick(self.world.files(), number)) is not None:
            self.world.copy(path, folder + b"/" + name)

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        if (path := pick(self.world.files(), number)) is not None:
            self.world.remove(path)

    @rule(number=numbers)
    def remove_tree(self, number: int) -> None:
        if (path := pick(self.world.folders(), number)) is not None:
            self.world.remove_tree(path)

    @precondition(lambda self: self.world.is_mounted)
    @rule()
    def unmount(self) -> None:
        self.world.unmount()

    @precondition(lambda self: not self.world.is_mounted)
    @rule()
    def mount(self) -> None:
        self.world.mount()
