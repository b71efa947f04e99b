"""`gsvrd demo VIDEO`: the whole way of one video, shown as it happens, on a scratch directory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gsvrd.store.reading import open_for_reading

POLL_S = 0.1
_console = Console(highlight=False)


def show(video: Path) -> int:
    """Run it; returns the exit code: 0 when there is a report, 1 when the video failed."""
    home = Path(tempfile.mkdtemp(prefix="gsvrd-demo-"))
    (home / "inbox").mkdir()
    _console.print(f"A daemon starts on [bold]{home}[/]; {video.name} is dropped into its inbox/.")
    with _daemon(home) as process:
        shutil.copy(video, home / "inbox" / video.name)
        task = _follow(home, process)
    if task["state"] != "completed":
        return _show_failure(home, task)
    report = home / "reports" / task["report"]
    print(report.read_text())  # noqa: T201 (this is what the command is for)
    _console.print(f"\nThe report:   [bold]{report}[/]\nIts pictures: {report.with_suffix('.assets')}")
    _console.print(f"The video is now in {home / 'archive'}; the daemon's log is {home / 'daemon.log'}.")
    return 0


@contextmanager
def _daemon(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GSVRD_")}
    environ["GSVRD_ANALYZER"] = "local"  # a demo sends nothing anywhere, also where there is a key
    command = [sys.executable, "-m", "gsvrd", "run", "--home", str(home)]
    with (home / "daemon.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environ)  # noqa: S603 (our own command)
        try:
            _wait_for_database(home, process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait_for_database(home: Path, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        if (home / "state" / "gsvrd.db").exists() and "ready" in (home / "daemon.log").read_text():
            return
        time.sleep(POLL_S)
    _console.print((home / "daemon.log").read_text())
    raise SystemExit(process.returncode)


def _follow(home: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Show stages until the one task has ended; returns its row. Ends the command if the daemon ends."""
    reading = open_for_reading(home / "state" / "gsvrd.db")
    columns = (TextColumn("{task.description:<10}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=_console) as progress:
        bars: dict[str, Any] = {}
        while True:
            found = reading.tasks(None, 1)
            if found and found[0]["state"] in ("completed", "failed", "cancelled"):
                for bar in bars.values():
                    progress.update(bar, completed=100)
                return dict(found[0])
            if process.poll() is not None:
                _console.print((home / "daemon.log").read_text())
                raise SystemExit(process.returncode or 1)
            for row in reading.running():
                stage = row["stage"] or "start"
                if stage not in bars:
                    for bar in bars.values():
                        progress.update(bar, completed=100)
                    bars[stage] = progress.add_task(stage, total=100)
                progress.update(bars[stage], completed=100 * row["fraction"])
            time.sleep(POLL_S)


def _show_failure(home: Path, task: dict[str, Any]) -> int:
    for record in sorted((home / "failed").glob("*.error.json")):
        facts = json.loads(record.read_text())
        _console.print(f"[red]{facts['what']}[/]: {facts['why'].rstrip('.')}. {facts['what_to_do']}")
        _console.print(f"The record: {record}")
    return 1
