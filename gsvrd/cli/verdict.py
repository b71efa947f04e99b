"""What must be true of a scratch daemon once it is quiet, whatever befell it: each file ended as one thing, and whole.

Called by `gsvrd selftest`. It looks; it changes nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from gsvrd.cli.scratch import Scratch
from gsvrd.store.audit import audit

TEMPORARY = ".gsvrd-"
"""So the names of all begin that may lie outside the state directory for a while."""


@dataclass(slots=True)
class Verdict:
    """What is not as it must be, each a sentence."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """In the database, or in how the daemon behaved."""

    @property
    def is_clean(self) -> bool:
        """Nothing to complain of."""
        return not self.complaints

    @property
    def complaints(self) -> list[str]:
        """All of them."""
        return self.lost + self.doubled + self.stray + self.wrong

    def add(self, other: Verdict) -> None:
        """What another look found, too."""
        self.lost += other.lost
        self.doubled += other.doubled
        self.stray += other.stray
        self.wrong += other.wrong


def judge(scratch: Scratch) -> Verdict:
    """Look at everything of a daemon that is quiet or gone."""
    verdict = Verdict()
    _judge_reports(scratch, verdict)
    _judge_records(scratch, verdict)
    _judge_sources(scratch, verdict, "archive", scratch.good | scratch.subtitles)
    _judge_sources(scratch, verdict, "failed", scratch.bad)
    _judge_database(scratch, verdict)
    verdict.stray += [f"left behind: {path}" for path in _leftovers(scratch)]
    verdict.stray += [f"process {process.pid} lives on" for process in scratch.strays()]
    return verdict


def _judge_reports(scratch: Scratch, verdict: Verdict) -> None:
    root = scratch.directories["reports"]
    mds = (path for path in root.rglob("*.md") if path.name != "_summary.md")
    reports = [path for path in mds if not path.parent.name.startswith(TEMPORARY)]
    found = Counter(map(_head, reports))
    expected = Counter(scratch.expected_reports)
    verdict.lost += [f"no report of {source}" for source, _ in (expected - found).elements()]
    verdict.doubled += [f"a report too many, of {source}" for source, _ in (found - expected).elements()]
    for path in reports:
        if not any(path.with_suffix(".assets").glob("*")):
            verdict.lost.append(f"no pictures of {path.name}")
    for path in root.rglob("*.assets"):
        if not path.with_suffix(".md").exists():
            verdict.stray.append(f"pictures without a report: {path}")


def _head(report: Path) -> tuple[str, str]:
    """Source and hash that a report names; one that is torn names nothing that is expected."""
    try:
        head = yaml.safe_load(report.read_text().split("---\n", 2)[1])
        return str(head["source"]), str(head["sha256"])
    except (ValueError, IndexError, KeyError, TypeError, yaml.YAMLError):
        return f"nothing: {report} is torn", ""


def _judge_records(scratch: Scratch, verdict: Verdict) -> None:
    records = scratch.directories["failed"].rglob("*.error.json")
    found = Counter(_source(path) for path in records if not path.name.startswith(TEMPORARY))
    expected = Counter(dict.fromkeys(scratch.bad, 1))
    verdict.lost += [f"no failure record of {name}" for name in (expected - found).elements()]
    verdict.doubled += [f"a failure record too many, of {name}" for name in (found - expected).elements()]


def _source(record: Path) -> str:
    """What a failure record is about."""
    try:
        return str(json.loads(record.read_text())["source"])
    except (ValueError, KeyError, TypeError):
        return f"nothing: {record} is torn"


def _judge_sources(scratch: Scratch, verdict: Verdict, folder: str, expected: dict[str, bytes]) -> None:
    root = scratch.directories[folder]
    found = {str(path.relative_to(root)): path.read_bytes() for path in _files(root) if path.suffix != ".json"}
    for name, data in expected.items():
        if name not in found:
            verdict.lost.append(f"{name} is not in {folder}")
        elif found[name] != data:
            verdict.lost.append(f"{name} in {folder} has other bytes than it had")
    verdict.doubled += [f"a file too many in {folder}: {name}" for name in found.keys() - expected.keys()]


def _files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file() and not path.name.startswith(TEMPORARY))


def _leftovers(scratch: Scratch) -> Iterator[Path]:
    for folder in scratch.directories.values():
        yield from folder.rglob(f"{TEMPORARY}*")
    yield from (path for path in scratch.directories["inbox"].rglob("*") if not path.is_dir())
    yield from (scratch.directories["state"] / "work").glob("*")


def _judge_database(scratch: Scratch, verdict: Verdict) -> None:
    books = audit(scratch.database)
    if books.integrity != "ok":
        verdict.wrong.append(f"the database is damaged: {books.integrity}")
    found = Counter(books.tasks)
    expected = Counter((name, "completed", "archive") for name in scratch.good)
    expected.update((name, "failed", "failed") for name in scratch.bad)
    verdict.lost += [f"no row says that {name} is {state}" for name, state, _ in (expected - found).elements()]
    verdict.doubled += [f"a row too many: {name} is {state}" for name, state, _ in (found - expected).elements()]
    verdict.doubled += [f"{name} ended {times} times" for name, times in books.ended_again]
    verdict.wrong += [f"attempt {number} at {name} never ended" for name, number in books.open_attempts]
    verdict.stray += [f"the result of {stage} of {name} is kept for nothing" for name, stage in books.stale_stages]
