"""Work that does nothing, for workers under measurement. Runs inside gsvrd's own worker processes."""

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

STARTS = "starts"
"""In the state directory: one line for each attempt, the file's name and when its work began (monotonic, ns)."""

_REPORT = '---\ntask: "{owner}"\nsource: {name}\n---\n\n# {name}\n\nNothing was looked at.\n'


def make(settings: bytes) -> Work:
    """No file, no report."""
    return _nothing


def _nothing(assign: Assign, desk: Desk) -> Finished:
    return Finished(assign.task, assign.attempt)


def make_report(settings: bytes) -> Work:
    """The whole way of a file but the analysis: open it, have a name reserved, write a tiny report."""
    return _ReportWork(msgspec.json.decode(settings, type=WorkSettings))


def make_noted_report(settings: bytes) -> Work:
    """The same, and note when it began."""
    decoded = msgspec.json.decode(settings, type=WorkSettings)
    starts = Path(decoded.work).parent / STARTS
    return _ReportWork(decoded, os.open(starts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))


@dataclass(frozen=True, slots=True)
class _ReportWork:
    settings: WorkSettings
    starts: int | None = None

    def __call__(self, assign: Assign, desk: Desk) -> Finished:
        if self.starts is not None:
            os.write(self.starts, f"{assign.name} {time.monotonic_ns()}\n".encode())
        os.close(open_checked(assign.path, os.fsencode(self.settings.inbox), Identity(*assign.identity)))
        name = desk.reserve(assign.name.replace("/", "-") + ".md")
        temporary = temporary_directory(Path(self.settings.reports), assign.task, assign.attempt)
        text = _REPORT.format(owner=report_owner(assign.task, assign.queued_at), name=assign.name)
        write_report(temporary, name, text, Path(self.settings.work, str(assign.task)))
        return Finished(assign.task, assign.attempt, temporary=str(temporary))
