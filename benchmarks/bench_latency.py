"""From the close of a file to the start of its work, and what an idle daemon costs: `python -m benchmarks.bench_latency
[--quick]`.

Files are dropped one at a time into the real daemon; each is followed while the ones before it are still written,
published and archived. The worker notes when its work began (`noop.make_noted_report`). Then a second daemon, with the
real work and everything it loads beforehand, is left alone.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import measure
from benchmarks.daemon import Daemon, running
from benchmarks.noop import STARTS

_EVERY_S = 0.02
_SETTLED_S = 5.0
"""After its start the daemon scans, loads and remembers; that is not idleness."""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="50 files, 10 s of idleness: to see that it works")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a directory on the disk to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name:
        folder = Path(name)
        measure.print_facts(folder)
        _pick_up(folder / "busy", 50 if options.quick else options.files)
        _idle(folder / "idle", 10.0 if options.quick else options.idle)


def _pick_up(home: Path, files: int) -> None:
    home.mkdir()
    with running(home, "benchmarks.noop:make_noted_report") as daemon:
        closed = _drop_slowly(home / "inbox", files)
        daemon.await_archived(files, 60)
    began = dict(line.rsplit(" ", 1) for line in (home / "state" / STARTS).read_text().splitlines())
    taken = [(int(began[name]) - moment) / 1e6 for name, moment in closed.items()]
    row = [f"{measure.quantile(taken, share):.2f} ms" for share in (0.5, 0.9, 0.99)]
    measure.print_table(
        ("close of a file -> its work begins", "p50", "p90", "p99", "most"),
        [
            (f"{files} files, {1 / _EVERY_S:.0f} a second", *row, f"{max(taken):.2f} ms"),
            ("goal", "2 ms", "", "15 ms", ""),
        ],
    )


def _drop_slowly(inbox: Path, files: int) -> dict[str, int]:
    closed = {}
    for number in range(files):
        path = inbox / f"{number:05}.mp4"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(descriptor, b"not really a video\n" * 50)
        os.close(descriptor)
        closed[path.name] = time.monotonic_ns()
        time.sleep(_EVERY_S)
    return closed


def _idle(home: Path, seconds: float) -> None:
    home.mkdir()
    with running(home, "local") as daemon:
        time.sleep(_SETTLED_S)
        pids = sorted(measure.with_descendants([daemon.pid]))
        cpu, woken = measure.cpu_s(pids), measure.wakeups(pids)
        time.sleep(seconds)
        cpu, woken = measure.cpu_s(pids) - cpu, measure.wakeups(pids) - woken
        measure.print_table(
            ("idle, all processes", "", "goal"),
            [
                ("seconds", f"{seconds:g}", ""),
                ("CPU", f"{cpu * 1000:.1f} ms, {cpu / seconds:.4%}", "none to speak of"),
                ("wake-ups a second", f"{woken / seconds:.2f}", "<= 1"),
            ],
        )
        measure.print_table(("process", "PSS MB"), [(_role(daemon, pid), f"{measure.pss_mb(pid):.1f}") for pid in pids])


def _role(daemon: Daemon, pid: int) -> str:
    if pid == daemon.pid:
        return "daemon"
    process = psutil.Process(pid)
    if "resource_tracker" in " ".join(process.cmdline()):
        return "resource tracker"
    return "fork server" if process.ppid() == daemon.pid else "idle worker"


if __name__ == "__main__":
    main()
