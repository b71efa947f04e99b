"""Power cuts: `python -m support.cuts EMPTY_FOLDER --cuts 8 --seed 1` prints what they did as one line of JSON.

A disk is a file, `disk.img`, on an XFS that can clone it: a clone made while the daemon works holds what had reached the
disk at that moment and nothing else, as after a power cut. Clones are mounted in the disk's place, checked against what
could be *seen* when each was made, and a daemon must go on from there. Every second disk has two file systems, the
state on one of its own, so that a sync of one does not happen to write the other.

Needs root and loop devices. `run` starts it in mount and process namespaces of its own: when it ends, however it ends,
its processes, mounts and loop devices end with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from support.onlooker import Head, Onlooker, read_head
from support.storm import PATIENT, VIOLATIONS, Dropped, Findings, Storm, contents, sha256, storm_on, torn_at_sight
from support.waiting import eventually

_NAMESPACES = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
_TOOLS = ("setpriv", "unshare", "mount", "umount", "mkfs.xfs", "mkfs.ext4", "cp")
_BELOW_MB, _DISK_MB, _STATE_MB = 1024, 96, 32
CUTS_A_DISK = 5


@dataclass(frozen=True, slots=True)
class Cuts:
    """What came of them."""

    count: int
    in_work: int
    """With an attempt under way."""
    seen: int
    """Outcomes that were visible before a cut, of all cuts."""
    accepted: int
    """Rows that were there after a cut, of all cuts."""
    findings: Findings


def why_not(folder: Path) -> str:
    """Why this cannot be done here; empty when it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"not installed: {' '.join(missing)}"
    return _run(folder, "--try").stderr.strip()[-500:]


def run(folder: Path, cuts: int, seed: int) -> Cuts:
    """So many, in a scratch directory below `folder`."""
    done = _run(folder, "--cuts", str(cuts), "--seed", str(seed))
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-4000:])
    told = json.loads(done.stdout)
    findings = told.pop("findings")
    found = Findings(findings["files"], *(tuple(findings[name]) for name in VIOLATIONS))
    return Cuts(**told, findings=found)


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Made and removed out here, where nothing is mounted on it.
    with tempfile.TemporaryDirectory(prefix=".cuts-", dir=folder) as name:
        return _run_in(Path(name), *words)


def _run_in(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [*_NAMESPACES, sys.executable, "-m", "support.cuts", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)


# -- disks ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Disk:
    """`disk.img` below, and where it is mounted."""

    below: Path
    home: Path
    two: bool
    """Whether the state has a file system of its own."""

    @property
    def image(self) -> Path:
        return self.below / "disk.img"

    def make(self) -> None:
        """An empty one."""
        _sparse(self.image, _DISK_MB + _STATE_MB)
        for part, size_mb in ((self.image, _DISK_MB), (self.below / "part", _STATE_MB)):
            if part is not self.image:
                _sparse(part, size_mb)
            _do("mkfs.ext4", "-q", "-F", str(part), f"{size_mb}M")
        _do("dd", f"if={self.below / 'part'}", f"of={self.image}", "bs=1M", f"seek={_DISK_MB}", "conv=notrunc,sparse")

    @contextmanager
    def mounted(self, image: Path) -> Iterator[None]:
        """This image, the disk's own or a clone of it, in its place."""
        self.home.mkdir(exist_ok=True)
        state = self.home / "state"
        with _mount(image, self.home, 0, _DISK_MB):
            if not self.two:
                yield
                return
            state.mkdir(exist_ok=True)
            with _mount(image, state, _DISK_MB, _STATE_MB):
                yield

    def cut(self, number: int) -> Path:
        """What is on the disk now."""
        clone = self.below / f"cut-{number}.img"
        _do("cp", "--reflink=always", str(self.image), str(clone))
        return clone


@contextmanager
def disk_in(folder: Path, *, two: bool) -> Iterator[Disk]:
    """A disk on a cloning file system in `folder`, which is made."""
    folder.mkdir()
    below = folder / "below"
    below.mkdir()
    _sparse(folder / "below.img", _BELOW_MB)
    _do("mkfs.xfs", "-q", "-m", "reflink=1", str(folder / "below.img"))
    with _mount(folder / "below.img", below):
        disk = Disk(below, folder / "home", two)
        disk.make()
        yield disk
    (folder / "below.img").unlink()


@contextmanager
def _mount(image: Path, place: Path, offset_mb: int = 0, size_mb: int = 0) -> Iterator[None]:
    part = f",offset={offset_mb << 20},sizelimit={size_mb << 20}" if size_mb else ""
    _do("mount", "-o", f"loop{part}", str(image), str(place))
    try:
        yield
    finally:
        _unmount(place)


def _unmount(place: Path) -> None:
    """The loop device goes with it. Who was killed a moment ago may still hold it."""

    def done() -> bool:
        with contextlib.suppress(OSError):
            _do("umount", str(place))
        return not place.is_mount()

    eventually(done, 30)


def _sparse(path: Path, size_mb: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_mb << 20)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


# -- cuts ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut:
    """What could be seen just before, and what was on the disk."""

    image: Path
    good: dict[str, bytes]
    bad: dict[str, bytes]
    rows: dict[str, str]
    """States by name."""
    reports: frozenset[Head]
    failures: frozenset[str]


@dataclass(slots=True)
class Tally:
    """Sums over all cuts."""

    in_work: int = 0
    seen: int = 0
    accepted: int = 0
    findings: Findings = field(default_factory=Findings)


def cut_one_disk(folder: Path, count: int, seed: int, *, two: bool, tally: Tally) -> None:
    """A daemon at work on a new disk, `count` cuts, and each followed to its end."""
    with disk_in(folder, two=two) as disk:
        with disk.mounted(disk.image), storm_on(disk.home, seed, PATIENT) as storm:
            cuts = list(_work_and_cut(storm, disk, count, tally))
        for number, cut in enumerate(cuts):
            found = _follow(disk, cut, seed, tally)
            label = f"cut {number} of seed {seed}, {'two file systems' if two else 'one'}"
            tally.findings = tally.findings.plus(found.labelled(label))
            cut.image.unlink()


def _work_and_cut(storm: Storm, disk: Disk, count: int, tally: Tally) -> Iterator[Cut]:
    with Onlooker(disk.home / "reports").watching() as onlooker:
        storm.dropped.drop(storm.inbox, 3)
        storm.start()
        storm.until_ready()
        for number in range(count):
            storm.dropped.drop(storm.inbox, storm.chance.randint(1, 4))
            if storm.chance.random() < 0.6:
                storm.aim()
            else:
                storm.pause_a_moment(0.4)
            good, bad = dict(storm.dropped.good), dict(storm.dropped.bad)
            rows = read_rows(disk.home / "state" / "gsvrd.db")
            reports = frozenset(filter(None, onlooker.seen.copy().values()))
            failures = frozenset(_failures(disk.home / "failed"))
            cut = Cut(disk.cut(number), good, bad, rows, reports, failures)
            tally.in_work += "running" in rows.values()
            tally.seen += len(reports) + len(failures)
            yield cut
        storm.kill_all()
    tally.findings = tally.findings.plus(torn_at_sight(onlooker))


def _failures(failed: Path) -> Iterator[str]:
    for path in failed.rglob("*.error.json"):
        yield str(json.loads(path.read_bytes())["source"])


def read_rows(database: Path) -> dict[str, str]:
    """State of each task by its name."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as conn:
        try:
            return dict(conn.execute("SELECT name, state FROM tasks"))
        except sqlite3.OperationalError:
            return {}  # no tables yet


def _follow(disk: Disk, cut: Cut, seed: int, tally: Tally) -> Findings:
    """Mount what the cut left; what was seen must be there; then a daemon finishes, and all must be as if nothing was."""
    with disk.mounted(cut.image):
        rows = _rows_of_copy(disk.home / "state")
        tally.accepted += len(rows)
        found = Findings(lost=tuple(_missing(disk.home, cut, rows)))
        with storm_on(disk.home, seed, PATIENT) as storm:
            storm.dropped = _what_is_left(disk.home, cut, rows)
            storm.start()
            storm.until_ready()
            return found.plus(storm.settle())


def _rows_of_copy(state: Path) -> dict[str, str]:
    """Opening a database after a cut changes it: look at a copy."""
    with tempfile.TemporaryDirectory() as name:
        for path in state.glob("gsvrd.db*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, name)
        copy = Path(name, "gsvrd.db")
        if not copy.exists():
            return {}
        with closing(sqlite3.connect(copy)) as conn:
            conn.execute("PRAGMA user_version")
        return read_rows(copy)


def _missing(home: Path, cut: Cut, rows: dict[str, str]) -> Iterator[str]:
    ended = ("completed", "failed", "cancelled")
    for name, state in cut.rows.items():
        if name not in rows or (state in ended and rows[name] != state):
            yield f"row seen as {state}: {name} is {rows.get(name)}"
    reports = {read_head(path) for path in (home / "reports").rglob("*.md") if path.name != "_summary.md"}
    sources = [contents(home / folder) for folder in ("inbox", "archive", "failed")]
    for name, state in rows.items():
        data = (cut.good | cut.bad).get(name)
        if data is None:
            yield f"row of a file nobody dropped: {name}"
        elif all(folder.get(name) != data for folder in sources):
            yield f"source of an accepted file: {name}"
        elif state == "completed" and Head(name, sha256(data)) not in reports:
            yield f"report of a completed task: {name}"


def _what_is_left(home: Path, cut: Cut, rows: dict[str, str]) -> Dropped:
    """What is accepted must be done as it was dropped; of the rest, what the cut left, whatever it is."""
    kept = {head.source for head in cut.reports} | cut.failures | set(rows) | set(cut.rows)
    left = Dropped(b"", random.Random(0))
    left.good = {name: data for name, data in cut.good.items() if name in kept}
    left.bad = {name: data for name, data in cut.bad.items() if name in kept}
    for name, data in contents(home / "inbox").items():
        if name not in kept:
            (left.good if cut.good.get(name) == data else left.bad)[name] = data
    return left


# -- the command ---------------------------------------------------------------------------------------------------------


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cuts", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--try", dest="only_try", action="store_true", help="only see whether a disk can be made")
    options = parser.parse_args()
    if options.only_try:
        _try(options.folder / "disk")
        return
    tally = Tally()
    for number, done in enumerate(range(0, options.cuts, CUTS_A_DISK)):
        place, count = options.folder / str(number), min(CUTS_A_DISK, options.cuts - done)
        cut_one_disk(place, count, options.seed * 1000 + number, two=number % 2 == 0, tally=tally)
    cuts = Cuts(options.cuts, tally.in_work, tally.seen, tally.accepted, tally.findings)
    print(json.dumps(asdict(cuts)))


def _try(folder: Path) -> None:
    try:
        with disk_in(folder, two=True) as disk, disk.mounted(disk.cut(0)):
            pass
    except OSError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
