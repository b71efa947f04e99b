"""Work that is as heavy as its file says, for workers under measurement: processor time, sleep and memory, as JSON.

`{"cpu_s": 0.2, "sleep_s": 1, "memory_mb": 300}`; memory is taken first and held to the end. Runs inside gsvrd's own worker
processes; everything else of a file's way is the real one.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gsvrd.intake.identity import Identity, open_checked
from gsvrd.model import report_owner
from gsvrd.pool.messages import Assign, Finished
from gsvrd.pool.settings import WorkSettings
from gsvrd.pool.worker import Desk, Work
from gsvrd.reports.write import temporary_directory, write_report

_REPORT = '---\ntask: "{owner}"\nsource: {name}\n---\n\n# {name}\n\nIt was hard work.\n'
_MB = 1 << 20
_MOST_BYTES = 4096


class Load(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one file asks for."""

    cpu_s: float = 0.0
    sleep_s: float = 0.0
    memory_mb: float = 0.0
    gate: str = ""
    """A file without which it does not end: a test says when."""


def make(settings: bytes) -> Work:
    """The work of one worker."""
    return _Toil(msgspec.json.decode(settings, type=WorkSettings))


@dataclass(frozen=True, slots=True)
class _Toil:
    settings: WorkSettings

    def __call__(self, assign: Assign, desk: Desk) -> Finished:
        fd = open_checked(assign.path, os.fsencode(self.settings.inbox), Identity(*assign.identity))
        try:
            load = msgspec.json.decode(os.read(fd, _MOST_BYTES), type=Load)
        finally:
            os.close(fd)
        bear(load)
        name = desk.reserve(assign.name.replace("/", "-") + ".md")
        temporary = temporary_directory(Path(self.settings.reports), assign.task, assign.attempt)
        text = _REPORT.format(owner=report_owner(assign.task, assign.queued_at), name=assign.name)
        write_report(temporary, name, text, Path(self.settings.work, str(assign.task)))
        return Finished(assign.task, assign.attempt, temporary=str(temporary))


def bear(load: Load) -> None:
    """Do it."""
    held = [bytearray(b"\1" * _MB) for _ in range(int(load.memory_mb))]
    until = time.process_time() + load.cpu_s
    while time.process_time() < until:
        pass
    time.sleep(load.sleep_s)
    while load.gate and not os.path.exists(load.gate):
        time.sleep(0.005)
    del held
