"""A hundred thousand files that are there at the start, and a flood of new ones: `python -m benchmarks.bench_intake
[--quick]`.

The real daemon, paused, so that it only finds, settles, syncs and queues. Meanwhile it is told again and again to pause,
and the time taken until its loop says so; `gsvrctl status` is called, too. Beside it, in the same run: one process that
does nothing but walk and insert, and a plain watchdog handler that inserts a row for each event of the flood.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import measure
from benchmarks.daemon import Daemon, running

_BIN = Path(sys.executable).parent
_CONTENT = b"not really a video\n"
_FOLDERS = 20
_LIMIT_S = 900.0
_QUIET_S = 5.0
"""After so long without another row the naive handler has had all it will get."""
_SIGNAL_EVERY_S = 0.1


@dataclass(slots=True)
class Watch:
    """Asks the daemon for a sign of life, and sees how long it takes; a thread of the referee's."""

    daemon: Daemon
    answers_ms: list[float] = field(default_factory=list)
    statuses_s: list[float] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """While the block runs."""
        threads = [threading.Thread(target=target) for target in (self._signal, self._ask)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def _signal(self) -> None:
        with (self.daemon.home / "log").open("rb") as log:
            while not self._is_over.wait(_SIGNAL_EVERY_S):
                log.seek(0, os.SEEK_END)
                began = time.perf_counter()
                os.kill(self.daemon.pid, signal.SIGUSR1)
                said = b""
                while b'"SIGUSR1"' not in said and time.perf_counter() - began < _LIMIT_S:
                    time.sleep(0.0005)
                    said += log.read()
                self.answers_ms.append((time.perf_counter() - began) * 1000)

    def _ask(self) -> None:
        while not self._is_over.wait(1.0):
            began = time.perf_counter()
            status(self.daemon.home)
            self.statuses_s.append(time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one discipline."""

    title: str
    files: int
    seconds: float
    queued: int
    overflows: str = "-"
    peak_mb: str = "-"
    cpu_s: float | None = None
    watch: Watch | None = None

    def line(self) -> tuple[str, ...]:
        """For the table."""
        answers = status_s = "-"
        if self.watch is not None:
            answers = f"{measure.quantile(self.watch.answers_ms, 0.99):.0f}, {max(self.watch.answers_ms):.0f} ms"
            status_s = f"{max(self.watch.statuses_s, default=0.0):.2f} s"
        missed = f"{self.files - self.queued:,}"
        cpu_s = "-" if self.cpu_s is None else f"{self.cpu_s:.1f}"
        return self.title, f"{self.seconds:.1f}", cpu_s, missed, self.overflows, self.peak_mb, answers, status_s


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the files: to see that it works")
    parser.add_argument("--files", type=int, default=100_000, help="that are there at the start")
    parser.add_argument("--flood", type=int, default=60_000, help="that come while it runs")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a directory on the disk to be measured")
    options = parser.parse_args()
    files, flood = (count // (10 if options.quick else 1) for count in (options.files, options.flood))
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name:
        folder = Path(name)
        measure.print_facts(folder)
        ours = _through_the_daemon(folder / "daemon", files, flood)
        figures = [
            ours[0],
            _floor(folder / "daemon" / "inbox", files + flood),
            ours[1],
            _naive(folder / "naive", flood),
        ]
    heads = (
        "what",
        "seconds",
        "CPU s",
        "missed",
        "overflows",
        "peak MB",
        "answer to SIGUSR1: p99, most",
        "status, most",
    )
    goal = ("goal", "", "", "0", "", "< 150", "most < 100 ms", "< 1 s")
    measure.print_table(heads, [*(one.line() for one in figures), goal])


# -- the daemon ----------------------------------------------------------------------------------------------------------


def _through_the_daemon(home: Path, files: int, flood: int) -> tuple[Figures, Figures]:
    drop(home / "inbox", files, "old")
    _ctl(home, "pause")  # before the start: the wish is kept
    began = time.perf_counter()
    with running(home, "benchmarks.noop:make_report") as daemon:
        scan = _until_queued(f"gsvrd: {files:,} files there at the start", daemon, files, files, began)
        measure.await_that(lambda: status(home)["intake"]["why"] != "starting", _LIMIT_S, every_s=0.2)
        _forget_peak(daemon.pid)
        writer = _writing(home / "inbox", flood)
        rush = _until_queued(f"gsvrd: {flood:,} come while it runs", daemon, files + flood, flood, time.perf_counter())
        writer.wait()
        return scan, rush


def _until_queued(title: str, daemon: Daemon, total: int, files: int, began: float) -> Figures:
    cpu_s = measure.cpu_s([daemon.pid])
    with Watch(daemon).watching() as watch:
        try:
            measure.await_that(lambda: daemon.count("1") >= total, _LIMIT_S, every_s=0.25)
        except TimeoutError:
            print(f"{title}: not all are queued after {_LIMIT_S:.0f} s")
        seconds, cpu_s = time.perf_counter() - began, measure.cpu_s([daemon.pid]) - cpu_s
    queued = files - (total - daemon.count("1"))
    overflows = str(status(daemon.home)["intake"]["overflows"])
    return Figures(title, files, seconds, queued, overflows, f"{_peak_mb(daemon.pid):.0f}", cpu_s, watch)


def status(home: Path) -> dict[str, dict[str, object]]:
    """As a person would ask for it."""
    told: dict[str, dict[str, object]] = json.loads(_ctl(home, "status", "--json"))
    return told


def _ctl(home: Path, *words: str) -> str:
    command = [str(_BIN / "gsvrctl"), "--home", str(home), *words]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout


def _peak_mb(pid: int) -> float:
    """Resident memory of the daemon's own process at its most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


# -- files ---------------------------------------------------------------------------------------------------------------


def drop(inbox: Path, files: int, stem: str) -> None:
    """So many tiny files in some folders."""
    for folder in range(_FOLDERS):
        (inbox / f"folder{folder}").mkdir(parents=True, exist_ok=True)
    for number in range(files):
        with (inbox / f"folder{number % _FOLDERS}" / f"{stem}{number}.mp4").open("wb") as file:
            file.write(_CONTENT)


_WRITER = """
import sys
from pathlib import Path
from benchmarks.bench_intake import drop

drop(Path(sys.argv[1]), int(sys.argv[2]), "new")
"""


def _writing(inbox: Path, files: int) -> subprocess.Popen[bytes]:
    """A process of its own drops them as fast as it can."""
    return subprocess.Popen([sys.executable, "-c", _WRITER, inbox, str(files)])


# -- beside it -----------------------------------------------------------------------------------------------------------

_TABLE = "CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER)"


def _floor(inbox: Path, files: int) -> Figures:
    """The limit: walk, stat, insert in one transaction; nothing settled, nothing synced, nobody answered meanwhile."""
    began, cpu_s = time.perf_counter(), time.process_time()
    with closing(sqlite3.connect(inbox.parent / "floor.db")) as conn, conn:
        conn.execute(_TABLE)
        for parent, _, names in os.walk(inbox):
            found = ((path, os.stat(path)) for path in (os.path.join(parent, name) for name in names))
            conn.executemany("INSERT INTO files VALUES (?, ?, ?)", ((p, s.st_size, s.st_mtime_ns) for p, s in found))
        (rows,) = conn.execute("SELECT count(*) FROM files").fetchone()
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    return Figures(f"walk and insert alone, {files:,} files", files, seconds, rows, cpu_s=cpu_s)


_NAIVE = """
import sqlite3, sys, time
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

conn = sqlite3.connect(sys.argv[2], check_same_thread=False, isolation_level=None)
conn.execute("PRAGMA journal_mode = WAL")
conn.execute("PRAGMA synchronous = FULL")

class Handler(FileSystemEventHandler):
    def on_closed(self, event):
        conn.execute("INSERT OR IGNORE INTO files VALUES (?, 0, 0)", (event.src_path,))

observer = Observer()
observer.schedule(Handler(), sys.argv[1], recursive=True)
observer.start()
print("ready", flush=True)
time.sleep(100_000)
"""


def _naive(home: Path, files: int) -> Figures:
    """The usual way: a handler, and a row a file that was closed."""
    inbox, path = home / "inbox", home / "naive.db"
    drop(inbox, 0, "")
    with closing(sqlite3.connect(path, timeout=60)) as conn:
        conn.execute(_TABLE)
    handler = subprocess.Popen([sys.executable, "-c", _NAIVE, inbox, path], stdout=subprocess.PIPE)
    try:
        assert handler.stdout is not None
        handler.stdout.readline()
        began = last = time.perf_counter()
        writer, rows = _writing(inbox, files), 0
        while rows < files and (writer.poll() is None or time.perf_counter() - last < _QUIET_S):
            time.sleep(0.25)
            with closing(sqlite3.connect(path, timeout=60)) as conn:
                (now,) = conn.execute("SELECT count(*) FROM files").fetchone()
            rows, last = now, time.perf_counter() if now != rows else last
        cpu_s = measure.cpu_s([handler.pid])
    finally:
        handler.kill()
        handler.wait()
    return Figures(f"a plain watchdog handler, {files:,} come", files, last - began, rows, "not told", cpu_s=cpu_s)


if __name__ == "__main__":
    main()
