"""A daemon under fire: what is dropped, what befalls it, and what must be true in the end, as figures.

Used by the tests in `process/` and by `benchmarks.bench_chaos`, which differ in how long they go on. Everything is drawn
from one seed; moments are not, since the machine's are not.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import sqlite3
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from support import illustrated
from support.daemon import Daemon
from support.onlooker import GIVEN_UP_S, MARK, Mourners, Onlooker, end_family, read_head, signal_one
from support.waiting import eventually

PATIENT = "retry: {max_retries: 100, poison_limit: 100}\n"
"""Where workers are shot at: their deaths are not the videos' fault, and nobody but us knows."""
STRICT = "retry: {max_retries: 0, poison_limit: 1}\n"
"""Where only daemons die: that is never a video's fault, and a single attempt charged to one would end it."""
_SETTINGS = "workers: {max: 3, timeout: 3s}\nintake: {rescan_interval: 2s}\n"
START_S = 120.0
"""Of a machine that is very busy."""
LOCKED = os.EX_TEMPFAIL


def tiny_clip() -> bytes:
    """A good video of a few hundred bytes."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as film:
        stream = film.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 32, 32
        for number in range(3):
            picture = np.full((32, 32, 3), 60 * number, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode(None))
    return out.getvalue()


def free_box(data: bytes) -> bytes:
    """An MP4 box that every reader skips: makes another content of the same video."""
    return struct.pack(">I", 8 + len(data)) + b"free" + data


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


VIOLATIONS = ("lost", "doubled", "torn", "innocent", "stray", "database", "orphans")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at a home found; all but `files` are violations, each named."""

    files: int = 0
    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()
    innocent: tuple[str, ...] = ()
    """Failure records of good videos."""
    stray: tuple[str, ...] = ()
    """Temporary files and directories."""
    database: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()

    @property
    def violations(self) -> dict[str, tuple[str, ...]]:
        """Those there are."""
        return {name: getattr(self, name) for name in VIOLATIONS if getattr(self, name)}

    def labelled(self, label: str) -> Findings:
        """The same, each violation with where it was found."""
        return Findings(self.files, *(tuple(f"{label}: {it}" for it in getattr(self, name)) for name in VIOLATIONS))

    def plus(self, other: Findings) -> Findings:
        """Both."""
        return Findings(self.files + other.files, *(getattr(self, name) + getattr(other, name) for name in VIOLATIONS))


@dataclass(frozen=True, slots=True)
class Result:
    """A storm, when it is over."""

    findings: Findings
    happened: dict[str, int]
    restart_s: tuple[float, ...]
    outlived_s: tuple[float, ...]


@dataclass
class Dropped:
    """What people have put into the inbox so far, by its name below it."""

    clip: bytes
    chance: random.Random
    good: dict[str, bytes] = field(default_factory=dict)
    bad: dict[str, bytes] = field(default_factory=dict)

    def drop(self, inbox: Path, count: int) -> None:
        """So many more: most are good, some have the content of another, some are no videos."""
        for _ in range(count):
            number = len(self.good) + len(self.bad)
            folder = self.chance.choice(("", "", "week 1/", "第二周/"))
            name, dice = f"{folder}{number:04}.mp4", self.chance.random()
            if dice < 0.15:
                worthless = self.chance.choice((b"", b"no video", self.clip[: len(self.clip) // 3]))
                self.put(inbox, name, worthless, good=False)
            elif dice < 0.3 and self.good:
                self.put(inbox, name, self.chance.choice(list(self.good.values())))
            else:
                self.put(inbox, name, self.clip + free_box(f"{number}-{self.chance.random()}".encode()))

    def put(self, inbox: Path, name: str, data: bytes, *, good: bool = True) -> None:
        """This one; nothing is synced, as with nearly all programs that write videos."""
        (self.good if good else self.bad)[name] = data
        path = inbox / name
        path.parent.mkdir(exist_ok=True)
        if self.chance.random() < 0.5:
            path.write_bytes(data)
            return
        hidden = path.with_name(f".{path.name}.part")  # as browsers and rsync do
        hidden.write_bytes(data)
        hidden.rename(path)

    def __len__(self) -> int:
        return len(self.good) + len(self.bad)


# -- what must be true in the end ----------------------------------------------------------------------------------------


def look_at(home: Path, dropped: Dropped) -> Findings:
    """Compare the folders of a quiet daemon with what was dropped."""
    reports = {str(path): read_head(path) for path in (home / "reports").rglob("*.md") if path.name != "_summary.md"}
    wanted = [(name, sha256(data)) for name, data in dropped.good.items()]
    lost, doubled = _compare("report", wanted, [(head.source, head.sha256) for head in reports.values() if head])
    failures = [_failed_source(path) for path in (home / "failed").rglob("*.error.json")]
    innocent = [name for name in failures if name in dropped.good]
    missing, twice = _compare("failure record", dropped.bad, [name for name in failures if name not in dropped.good])
    lost, doubled = lost + missing, doubled + twice
    for folder, files in (("archive", dropped.good), ("failed", dropped.bad), ("inbox", {})):
        missing, twice = _compare(folder, files.items(), contents(home / folder).items())
        lost, doubled = lost + missing, doubled + twice
    stray = [*home.rglob(".gsvrd-*"), *(home / "state" / "work").iterdir()]
    return Findings(
        len(dropped),
        tuple(lost),
        tuple(doubled),
        tuple(path for path, head in reports.items() if head is None),
        tuple(innocent),
        tuple(map(str, stray)),
    )


def _compare(what: str, wanted: Iterable[Any], found: Iterable[Any]) -> tuple[list[str], list[str]]:
    want, have = Counter(list(wanted)), Counter(list(found))
    return [f"{what}: {_name(it)}" for it in want - have], [f"{what}: {_name(it)}" for it in have - want]


def _name(item: Any) -> str:
    return str(item[0]) if isinstance(item, tuple) else str(item)


def _failed_source(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["source"])
    except (ValueError, LookupError):
        return f"unreadable {path}"


def contents(root: Path) -> dict[str, bytes]:
    """The videos below `root`."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.mp4") if path.is_file()}


def look_at_database(home: Path, dropped: Dropped) -> Findings:
    """With the daemon stopped."""
    with closing(sqlite3.connect(home / "state" / "gsvrd.db")) as conn:

        def ask(sql: str) -> list[tuple[Any, ...]]:
            return conn.execute(sql).fetchall()

        twice = "SELECT task FROM events WHERE change IN ('complete', 'fail') GROUP BY task HAVING count(*) <> 1"
        found = {
            "integrity": ask("PRAGMA integrity_check") != [("ok",)],
            "rows": sorted(ask("SELECT name, state, home FROM tasks"))
            != sorted(
                [(name, "completed", "archive") for name in dropped.good]
                + [(name, "failed", "failed") for name in dropped.bad]
            ),
            "open attempts": bool(ask("SELECT * FROM attempts WHERE ended_at IS NULL OR outcome IS NULL")),
            "ended twice": bool(ask(twice)),
            "stages kept": bool(ask("SELECT * FROM stages")),
        }
    return Findings(database=tuple(name for name, is_so in found.items() if is_so))


def torn_at_sight(onlooker: Onlooker) -> Findings:
    """What an onlooker saw, as violations."""
    return Findings(torn=tuple(f"at first sight: {path}" for path in onlooker.torn))


# -- what befalls the daemon ---------------------------------------------------------------------------------------------


@dataclass
class Storm:
    """A daemon, what was dropped into its inbox, and all that may happen to both."""

    daemon: Daemon
    dropped: Dropped
    happened: Counter[str] = field(default_factory=Counter)
    restart_s: list[float] = field(default_factory=list)
    mourners: Mourners = field(default_factory=Mourners)
    struck: set[int] = field(default_factory=set)
    """Workers that died by our hand."""
    starts: int = 0
    _log_from: int = 0
    _started_at: float = 0.0

    @property
    def chance(self) -> random.Random:
        return self.dropped.chance

    @property
    def inbox(self) -> Path:
        return self.daemon.home / "inbox"

    # -- start and end ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The next one; nobody waits for it."""
        self.starts += 1
        self.daemon.environ[MARK] = self.mark
        log = self.daemon.log_path
        self._log_from = log.stat().st_size if log.exists() else 0
        self._started_at = time.monotonic()
        self.daemon.start(wait=False)

    @property
    def mark(self) -> str:
        """Of the daemon started last and of all that came from it."""
        return f"{self.daemon.home} {self.starts}"

    def until_ready(self) -> None:
        """Every start that is waited for must get so far."""
        eventually(self._is_ready, START_S)
        self.restart_s.append(time.monotonic() - self._started_at)

    def _is_ready(self) -> bool:
        self.daemon.died()
        with self.daemon.log_path.open("rb") as log:
            log.seek(self._log_from)
            return b'"ready", "process": "gsvrd"' in log.read()

    def _own_up(self) -> None:
        """A video whose worker we have struck twice may be given up: then it must lie where failed ones lie."""
        for name in {_failed_source(path) for path in (self.daemon.home / "failed").rglob("*.error.json")}:
            if name in self.dropped.good and self._struck_twice(name):
                self.happened["video given up for our strikes"] += 1
                self.dropped.bad[name] = self.dropped.good.pop(name)

    def _struck_twice(self, name: str) -> bool:
        deaths = (
            "SELECT a.worker FROM attempts a JOIN tasks t ON t.id = a.task WHERE t.name = ? AND a.error IS NOT NULL"
        )
        with closing(sqlite3.connect(self.daemon.home / "state" / "gsvrd.db")) as conn:
            workers = [worker for (worker,) in conn.execute(deaths, (name,))]
        return sum(worker in self.struck for worker in workers) >= 2

    def kill_all(self) -> None:
        """The daemon and all that came from it."""
        end_family(self.mark)
        assert self.daemon.process is not None
        self.daemon.process.wait(START_S)

    def stop(self) -> int:
        """Drain the daemon, which is a child of `strace` where that is before it; its exit status."""
        process = self.daemon.process
        assert process is not None
        if process.poll() is None:
            os.kill(int((self.daemon.home / "state" / "lock").read_text()), signal.SIGTERM)
        return process.wait(60)

    def is_quiet(self) -> bool:
        """All that was dropped has ended, and the daemon lives."""
        self.daemon.died()
        return self.has_finished()

    def has_finished(self) -> bool:
        """All that was dropped has ended."""
        ended = self.count("state IN ('completed', 'failed') AND home IN ('archive', 'failed')")
        return ended == len(self.dropped) and not contents(self.inbox)

    def count(self, where: str) -> int:
        """How many tasks are so."""
        path = self.daemon.home / "state" / "gsvrd.db"
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as conn:
                (found,) = conn.execute(f"SELECT count(*) FROM tasks WHERE {where}").fetchone()
        except sqlite3.OperationalError:
            return 0  # not made yet
        return int(found)

    # -- strikes ---------------------------------------------------------------------------------------------------------

    def strike(self, strikes: dict[str, int]) -> None:
        """One of these, drawn by their weights; half of them aimed at work in progress."""
        if self.chance.random() < 0.5:
            self.aim()
        else:
            self.pause_a_moment(0.25)
        (name,) = self.chance.choices(list(strikes), list(strikes.values()))
        self.happened[name] += 1
        getattr(self, name)()

    def pause_a_moment(self, most_s: float) -> None:
        time.sleep(self.chance.random() * most_s)  # not to wait for something: the moment is what is random

    def aim(self) -> None:
        """A moment at which something runs, if one comes soon."""
        end = time.monotonic() + 1.0
        while time.monotonic() < end and not self.count("state = 'running'"):
            time.sleep(0.001)
        self.happened["aimed at work"] += 1
        self.pause_a_moment(0.06)

    def kill_worker(self) -> None:
        self._hit_worker(signal.SIGKILL)

    def crash_worker(self) -> None:
        self._hit_worker(signal.SIGSEGV)

    def stop_worker(self) -> None:
        """It stands still until its deadline ends it, or its daemon dies."""
        self._hit_worker(signal.SIGSTOP)

    def _hit_worker(self, number: signal.Signals) -> None:
        workers, which = self.workers(), self.chance.random()
        if workers:
            struck = workers[int(which * len(workers))]
            self.struck.add(struck.pid)
            signal_one(struck, number)

    def kill_fork_server(self) -> None:
        """With it the pool loses sight of all workers."""
        for child in self._descendants():
            with contextlib.suppress(psutil.Error):
                if is_worker(child):
                    self.struck.add(child.pid)
                elif "multiprocessing.forkserver" in " ".join(child.cmdline()):
                    signal_one(child, signal.SIGKILL)

    def kill_daemon(self) -> None:
        self._replace(lambda old: old.kill(), young=True)

    def kill_tree(self) -> None:
        def fell(old: subprocess.Popen[bytes]) -> None:
            for one in (psutil.Process(old.pid), *children):
                signal_one(one, signal.SIGKILL)

        children = self._descendants()
        self._replace(fell, young=True)

    def drain(self) -> None:
        self._replace(lambda old: old.send_signal(signal.SIGTERM))

    def stop_now(self) -> None:
        def twice(old: subprocess.Popen[bytes]) -> None:
            old.send_signal(signal.SIGTERM)
            old.send_signal(signal.SIGTERM)

        self._replace(twice)

    def _replace(self, end: Callable[[subprocess.Popen[bytes]], object], *, young: bool = False) -> None:
        """End the daemon. Half the time the next is started at once beside it; sometimes that one dies young, too."""
        old, mark = self.daemon.process, self.mark
        assert old is not None
        end(old)
        if self.chance.random() < 0.5:
            self.start()
            beside = self.daemon.process
            if young and self.chance.random() < 0.5:
                self.happened["died young"] += 1
                self.pause_a_moment(1.0)
                self._end_young()
            self._await_end(old, mark)
            assert beside is not None
            if beside.poll() == LOCKED:  # the old one took its time, and there may be only one
                self.start()
        else:
            self._await_end(old, mark)
            self.start()

    def _end_young(self) -> None:
        young = self.daemon.process
        assert young is not None
        young.kill()
        young.wait()
        self.mourners.mourn(self.mark)
        self.start()

    def _await_end(self, old: subprocess.Popen[bytes], mark: str) -> None:
        assert old.wait(30) in (0, -signal.SIGKILL), self.daemon.log[-4000:]
        self.mourners.mourn(mark)

    def workers(self) -> list[psutil.Process]:
        """Those of the daemon started last."""
        return [child for child in self._descendants() if is_worker(child)]

    def _descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.daemon.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    # -- the whole -------------------------------------------------------------------------------------------------------

    def rage(self, kills: int, strikes: dict[str, int]) -> Result:
        """Drop and strike so many times; then let it finish, look, stop it and look again."""
        with Onlooker(self.daemon.home / "reports").watching() as onlooker:
            self.dropped.drop(self.inbox, 4)
            self.start()
            for _ in range(kills):
                self.until_ready()
                self.dropped.drop(self.inbox, self.chance.randint(1, 3))
                self.strike(strikes)
            self.until_ready()
            found = self.settle()
        outlived = self.mourners.finish()
        orphans = Findings(orphans=tuple(f"{seconds:.1f} s" for seconds in outlived if seconds >= GIVEN_UP_S))
        found = found.plus(torn_at_sight(onlooker)).plus(orphans)
        return Result(found, dict(self.happened), tuple(self.restart_s), tuple(outlived))

    def settle(self, timeout_s: float = 90.0) -> Findings:
        """When everything has ended, all must be in its place; and when the daemon was stopped, too."""
        with contextlib.suppress(AssertionError):  # what is missing is told by name below
            eventually(self.is_quiet, timeout_s)
        status = self.stop()
        self.mourners.mourn(self.mark)
        self._own_up()
        found = look_at(self.daemon.home, self.dropped).plus(look_at_database(self.daemon.home, self.dropped))
        return found.plus(Findings(database=() if status == 0 else (f"stopped with {status}",)))


ALL_STRIKES = {
    "kill_daemon": 4,
    "kill_tree": 4,
    "kill_worker": 4,
    "crash_worker": 2,
    "stop_worker": 1,
    "drain": 2,
    "stop_now": 2,
    "kill_fork_server": 1,
}
DAEMON_STRIKES = {"kill_daemon": 1, "kill_tree": 1, "drain": 1, "stop_now": 1}


def is_worker(process: psutil.Process) -> bool:
    """Workers leave the daemon's session as their first deed; the fork server and the resource tracker do not."""
    try:
        return os.getsid(process.pid) == process.pid
    except ProcessLookupError:
        return False


@contextmanager
def storm_on(home: Path, seed: int, more: str = PATIENT) -> Iterator[Storm]:
    """A storm about to begin, on `home`; `more` is of its configuration."""
    (home / "inbox").mkdir(parents=True, exist_ok=True)
    daemon = Daemon(home, illustrated.environ(), illustrated.prefix())
    daemon.configure(_SETTINGS + more)
    storm = Storm(daemon, Dropped(tiny_clip(), random.Random(seed)))
    try:
        yield storm
    finally:
        for start in range(storm.starts + 1):
            end_family(f"{home} {start}")
