"""The whole way of a file, from the inbox by a report into the archive, with no analysis: `python -m
benchmarks.bench_overhead [--quick]`.

The real daemon with two workers; only what the workers do is replaced (`noop.make_report`). Beside it, one process that
does nothing but the bare operations that the promises ask for, one file after the other.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.daemon import running

_CONTENT = b"not really a video\n" * 50
_STRACE = ("strace", "-f", "-c", "-e", "trace=fsync,fdatasync")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run."""

    files: int
    seconds: float
    cpu_s: float
    fsyncs: float | None

    def line(self, title: str) -> tuple[str, ...]:
        """For the table."""
        fsyncs = "-" if self.fsyncs is None else f"{self.fsyncs:.1f}"
        thousand = f"{self.cpu_s / self.files * 1000:.2f}"
        return title, f"{self.files:,}", f"{self.files / self.seconds:,.0f}", thousand, fsyncs


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="500 files: to see that it works")
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a directory on the disk to be measured")
    options = parser.parse_args()
    files = 500 if options.quick else options.files
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name:
        folder = Path(name)
        measure.print_facts(folder)
        fsyncs = _fsyncs_a_file(folder / "traced", 100 if options.quick else 300)
        ours = _through_the_daemon(folder / "daemon", files, fsyncs)
        bare = _bare(folder / "bare", min(files, 1000))
    rows = [ours.line("gsvrd, inbox to archive"), bare.line("the bare file operations, one process")]
    measure.print_table(("what", "files", "files/s", "CPU s per 1,000", "fsyncs a file"), rows)


def _through_the_daemon(home: Path, files: int, fsyncs: float | None) -> Figures:
    home.mkdir()
    with running(home, "benchmarks.noop:make_report") as daemon:
        cpu, began = measure.cpu_s([daemon.pid]), time.perf_counter()
        _drop(home / "inbox", files)
        daemon.await_archived(files, 600)
        return Figures(files, time.perf_counter() - began, measure.cpu_s([daemon.pid]) - cpu, fsyncs)


def _fsyncs_a_file(home: Path, files: int) -> float | None:
    """Counted in a run of its own, since counting is slow; the start and the end, without files, are taken off."""
    if shutil.which("strace") is None:
        return None
    return (_traced(home / "some", files) - _traced(home / "none", 0)) / files


def _traced(home: Path, files: int) -> int:
    home.mkdir(parents=True)
    counts = home / "counts"
    with running(home, "benchmarks.noop:make_report", before=(*_STRACE, "-o", str(counts))) as daemon:
        _drop(home / "inbox", files)
        daemon.await_archived(files, 600)
    rows = [line.split() for line in counts.read_text().splitlines()]
    return sum(int(row[3]) for row in rows if row and row[-1] in ("fsync", "fdatasync"))


def _drop(inbox: Path, files: int) -> None:
    for number in range(files):
        (inbox / f"{number:05}.mp4").write_bytes(_CONTENT)


def _bare(folder: Path, files: int) -> Figures:
    """Write, sync and place a report; link the source elsewhere and unlink it; sync what the names are in."""
    inbox, reports, archive = (folder / name for name in ("inbox", "reports", "archive"))
    for place in (inbox, reports, archive):
        place.mkdir(parents=True)
    _drop(inbox, files)
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(files):
        name = f"{number:05}.mp4"
        _sync(inbox / name)
        temporary = reports / f".{name}"
        temporary.write_bytes(b"# A report\n")
        _sync(temporary)
        temporary.rename(reports / f"{name}.md")
        _sync(reports)
        os.link(inbox / name, archive / name)
        _sync(archive)
        (inbox / name).unlink()
    return Figures(files, time.perf_counter() - began, time.process_time() - cpu, 4.0)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


if __name__ == "__main__":
    main()
