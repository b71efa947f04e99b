"""`gsvrd selftest`: kill a scratch daemon at every crash point and see that nothing is lost, doubled or left behind.

It works on the file systems of the configuration it is given, in folders of its own beside or in the configured ones, and
never opens what lies there. A daemon of the installed program, with its real workers, is killed at one point, started
again, and judged when it is quiet; the next point is met on the same home, so that histories grow.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from gsvrd import crashpoints
from gsvrd.cli.scratch import WORKERS, Scratch, find_ground, make_clip, until
from gsvrd.cli.verdict import Verdict, judge
from gsvrd.config.models import Config
from gsvrd.config.places import NAMES
from gsvrd.errors import AccessError
from gsvrd.intake.mounts import Mounts
from gsvrd.store.audit import audit

PREFIX = ".selftest-"
_FSYNCS = 21
_BLOCK = b"\0" * 4096
_WHO = "Run the selftest as the user the daemon runs as."
_NO_SECOND = "not here: there is no second file system"

_LEADS = {
    "recover.begun": "publish.linked",
    "abandon.uncommitted": "claim.committed",
    "abandon.committed": "publish.pictures",
    "recover.swept": "publish.pictures",
    "recover.resumed": "complete.committed",
}
"""Where the first daemon dies, that the second has something to mend when it dies at the point in question."""
_HELD = ("release.", "retry.")
"""Points that are met only while workers have something in hand."""
_AFTERMATH_S = 5.0
"""What is cleaned away after a task has ended is gone by then."""


@dataclass(slots=True)
class Trial:
    """What came of one point."""

    point: str
    reached: bool = False
    recovered_s: float | None = None
    """From the kill until all was as it must be."""
    verdict: Verdict = field(default_factory=Verdict)
    skipped: str = ""
    """Why it cannot be tried here."""

    @property
    def killed(self) -> str:
        """Which process died."""
        if not self.reached:
            return "not reached"
        return "worker" if _is_workers(self.point) else "daemon"

    @property
    def is_good(self) -> bool:
        """Tried, with nothing to complain of; or not to be tried here."""
        return bool(self.skipped) or (self.reached and self.verdict.is_clean)


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One of those that the directories lie on."""

    directories: list[str]
    path: str
    kind: str
    fsync_ms: float
    """Half of all times to write and force 4 KiB are shorter."""


@dataclass(slots=True)
class Grounds:
    """The scratch folders."""

    keep: bool
    made: dict[Path, Path] = field(default_factory=dict)
    """By what they lie in."""
    near: dict[str, Path] = field(default_factory=dict)
    """By directory, on its file system."""
    far: Path | None = None
    """On another file system than the inbox: the archive while points of copying are met."""

    def lay(self, place: Path) -> Path:
        """A scratch folder in `place`. Raises `AccessError`."""
        if place not in self.made:
            try:
                self.made[place] = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
            except OSError as error:
                raise AccessError(f"{place} cannot be written: {error.strerror}", _WHO) from error
        return self.made[place]

    def clear(self) -> None:
        """Remove them, unless they are to be kept."""
        for folder in self.made.values():
            if self.keep:
                print(f"Kept: {folder}", file=sys.stderr)  # noqa: T201 (for people; the table goes to stdout)
            else:
                shutil.rmtree(folder)


def selftest(config: Config, points: Sequence[str], *, keep: bool, as_json: bool) -> int:
    """Run it and print what came of it; returns the exit code: 0 when nothing is lost, doubled or stray.

    What ended badly is left there to be looked at. Raises `AccessError` where no scratch folder can be made.
    """
    began = time.monotonic()
    grounds = Grounds(keep)
    try:
        _lay_out(config, grounds)
        systems = _file_systems(grounds)
        trials = _Course(grounds, points).run()
        is_good = all(trial.is_good for trial in trials)
        grounds.keep |= not is_good
    finally:
        grounds.clear()
    say = _print_json if as_json else _print_table
    say(trials, systems, time.monotonic() - began)
    return 0 if is_good else 1


# -- where ---------------------------------------------------------------------------------------------------------------


def _lay_out(config: Config, grounds: Grounds) -> None:
    for name in NAMES:
        grounds.near[name] = grounds.lay(find_ground(getattr(config, name)))
    if not _can_link(grounds.near["inbox"], grounds.near["archive"]):
        grounds.far = grounds.near["archive"]
        return
    for place in (Path("/dev/shm"), Path(tempfile.gettempdir())):  # noqa: S108 (mkdtemp makes what is used)
        if _is_far(grounds.near["inbox"], place):
            grounds.far = grounds.lay(place)
            return


def _is_far(inbox: Path, place: Path) -> bool:
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place) as folder:
        return not _can_link(inbox, Path(folder))


def _can_link(source: Path, target: Path) -> bool:
    """Whether a file of `source` can have a name in `target`: not what device numbers say, but what happens."""
    file, name = source / ".link", target / ".linked"
    file.touch()
    try:
        os.link(file, name)
        name.unlink()
    except OSError:
        return False
    finally:
        file.unlink()
    return True


def _file_systems(grounds: Grounds) -> list[FileSystem]:
    mounts = Mounts()
    by_folder: dict[Path, list[str]] = {}
    for name, folder in grounds.near.items():
        by_folder.setdefault(folder, []).append(name)
    if grounds.far is not None:
        by_folder.setdefault(grounds.far, []).append("archive of copy.*")
    return [
        FileSystem(names, str(folder.parent), mounts.kind(os.stat(folder).st_dev) or "unknown", _fsync_ms(folder))
        for folder, names in by_folder.items()
    ]


def _fsync_ms(folder: Path) -> float:
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_FSYNCS):
            began = time.perf_counter()
            os.pwrite(file.fileno(), _BLOCK, 0)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return round(statistics.median(times) * 1000, 3)


# -- the course ----------------------------------------------------------------------------------------------------------


class _Course:
    """All points, some at a time; each lane has a home of its own and goes on with it as long as all is well."""

    def __init__(self, grounds: Grounds, points: Sequence[str]) -> None:
        self._grounds = grounds
        self._clip = make_clip()
        self._trials = [Trial(point) for point in points]
        self._todo: queue.SimpleQueue[Trial] = queue.SimpleQueue()
        self._homes = 0
        self._lock = threading.Lock()
        self._scratches: list[Scratch] = []

    def run(self) -> list[Trial]:
        for trial in self._trials:
            if trial.point.startswith("copy.") and self._grounds.far is None:
                trial.skipped = _NO_SECOND
            else:
                self._todo.put(trial)
        lanes = min(len(os.sched_getaffinity(0)) + 1, self._todo.qsize() or 1)  # while one waits for a disk
        executor = ThreadPoolExecutor(lanes)
        try:
            for lane in [executor.submit(self._lane) for _ in range(lanes)]:
                lane.result()
        finally:
            self._abandon()
            executor.shutdown()
        return self._trials

    def _abandon(self) -> None:
        """Nothing of ours goes on, not even when somebody pressed Ctrl-C."""
        while not self._todo.empty():
            self._todo.get()
        for scratch in self._scratches:
            scratch.kill()

    def _lane(self) -> None:
        scratch, last = None, None
        while (trial := self._next()) is not None:
            far = trial.point.startswith("copy.")
            if scratch is not None and (far or not (last and last.is_good) or last.point.startswith("copy.")):
                self._close(scratch, last)
                scratch = None
            scratch = scratch or self._open(far=far)
            _try(scratch, trial)
            last = trial
        if scratch is not None:
            self._close(scratch, last)

    def _next(self) -> Trial | None:
        try:
            return self._todo.get_nowait()
        except queue.Empty:
            return None

    def _open(self, *, far: bool) -> Scratch:
        with self._lock:
            self._homes += 1
            name = str(self._homes)
        folders = {directory: self._grounds.near[directory] / name / directory for directory in NAMES}
        if far and self._grounds.far is not None:
            folders["archive"] = self._grounds.far / name / "archive"
        scratch = Scratch(folders, self._clip)
        self._scratches.append(scratch)
        return scratch

    @staticmethod
    def _close(scratch: Scratch, last: Trial | None) -> None:
        """Stop it, and judge once more what is left when nothing runs any more."""
        if last is None or not last.is_good:
            scratch.kill()
            return
        if code := scratch.stop():
            last.verdict.wrong.append(f"asked to stop, the daemon ended with {code}")
        until(lambda: not scratch.family(), 5.0)
        last.verdict.add(judge(scratch))


def _is_workers(point: str) -> bool:
    return point.startswith("worker.")


# -- one point -----------------------------------------------------------------------------------------------------------


def _try(scratch: Scratch, trial: Trial) -> None:
    """Kill it there, start it again, wait until all is as it must be."""
    if scratch.is_dead():
        scratch.start()
    if not until(lambda: scratch.is_dead() or scratch.is_settled()) or scratch.is_dead():
        trial.verdict.wrong.append(f"the daemon did not start, see {scratch.log}")
        return
    trial.reached = _fell(scratch, trial.point)
    if not trial.reached:
        return
    began = time.monotonic()
    if not _is_workers(trial.point):
        scratch.start()
    trial.verdict = _until_clean(scratch)
    trial.recovered_s = round(time.monotonic() - began, 2)
    if _is_workers(trial.point):
        _judge_death(scratch, trial.verdict)


def _fell(scratch: Scratch, point: str) -> bool:
    """Give it something to do and have it die at `point`; False when it did not come there."""
    if point in _LEADS:
        if not _fell(scratch, _LEADS[point]):
            return False
        crashpoints.arm(scratch.armed, point)
        scratch.start()
    elif point.startswith(_HELD):
        _fell_held(scratch, point)
    else:
        crashpoints.arm(scratch.armed, point)
        scratch.drop()
    return _wait_for_death(scratch, point)


def _fell_held(scratch: Scratch, point: str) -> None:
    """Tasks are in the hands of workers that do not move; then the daemon is stopped, or the workers are killed."""
    scratch.drop()
    until(lambda: scratch.is_settled() and len(scratch.workers()) == WORKERS)
    workers = scratch.workers()
    crashpoints.arm(scratch.armed, point)
    for worker in workers:
        worker.suspend()
    try:
        scratch.drop()
        until(scratch.is_running_something)
        if point.startswith("release."):
            scratch.signal(signal.SIGTERM)
        else:
            for worker in workers:
                worker.kill()
        until(scratch.is_dead)
    finally:
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.resume()


def _wait_for_death(scratch: Scratch, point: str) -> bool:
    def is_taken() -> bool:
        return not (scratch.armed / point).exists()

    until(lambda: is_taken() or scratch.is_dead() or scratch.is_settled())
    until(is_taken, _AFTERMATH_S)  # what is last is reached when all seems settled
    return is_taken() and (_is_workers(point) or until(scratch.is_dead))


def _until_clean(scratch: Scratch) -> Verdict:
    """The verdict when all is well, or the one that stands when it does not become so."""
    latest = Verdict()

    def is_clean() -> bool:
        nonlocal latest
        with contextlib.suppress(FileNotFoundError):  # something is just being cleaned away
            latest = judge(scratch)
            return latest.is_clean
        return False

    is_quiet = until(lambda: scratch.is_dead() or scratch.is_settled()) and not scratch.is_dead()
    if not until(is_clean, _AFTERMATH_S) or not is_quiet:
        word = "ended by itself" if scratch.is_dead() else "is quiet" if is_quiet else "does not become quiet"
        latest.wrong.append(f"the daemon {word}, see {scratch.log}")
    return latest


def _judge_death(scratch: Scratch, verdict: Verdict) -> None:
    """One worker has died and no daemon: that is on record once, and the video was tried again."""
    deaths = [name for name in audit(scratch.database).deaths if name in scratch.newest]
    if len(deaths) != 1:
        verdict.wrong.append(f"one worker was killed, {len(deaths)} deaths are on record")


# -- what is said --------------------------------------------------------------------------------------------------------


def _print_table(trials: Sequence[Trial], systems: Sequence[FileSystem], seconds: float) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("point", no_wrap=True)
    table.add_column("killed")
    for name in ("recovered in s", "lost", "doubled", "stray"):
        table.add_column(name, justify="right")
    for trial in trials:
        found = trial.verdict
        counts = [str(len(part)) for part in (found.lost, found.doubled, found.stray)]
        recovered = "-" if trial.recovered_s is None else f"{trial.recovered_s:.2f}"
        style = None if trial.is_good else "red"
        table.add_row(trial.point, trial.skipped or trial.killed, recovered, *counts, style=style)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for trial in trials:
        for complaint in trial.verdict.complaints:
            console.print(f"{trial.point}: {complaint}", style="red", markup=False, soft_wrap=True)
    for system in systems:
        names = ", ".join(system.directories)
        line = f"{names}: {system.kind} at {system.path}, fsync {system.fsync_ms:.2f} ms"
        console.print(line, markup=False, soft_wrap=True)
    console.print(_summary(trials, seconds), markup=False)


def _summary(trials: Sequence[Trial], seconds: float) -> str:
    reached = sum(trial.reached for trial in trials)
    bad = sum(not trial.is_good for trial in trials)
    end = f"{bad} of them ended badly" if bad else "nothing lost, doubled or stray"
    return f"{reached} of {len(trials)} points reached in {seconds:.0f} s: {end}."


def _print_json(trials: Sequence[Trial], systems: Sequence[FileSystem], seconds: float) -> None:
    facts = {
        "ok": all(trial.is_good for trial in trials),
        "seconds": round(seconds, 1),
        "file_systems": [asdict(system) for system in systems],
        "points": [{**asdict(trial), "killed": trial.killed, "ok": trial.is_good} for trial in trials],
    }
    print(json.dumps(facts, indent=2))  # noqa: T201 (what --json is for)
