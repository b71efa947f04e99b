"""A real daemon of the installed command, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from support.waiting import eventually

BIN = Path(sys.executable).parent


def environment(**more: str) -> dict[str, str]:
    ours = ("GSVRD_", "GEMINI_", "GOOGLE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **more}


@dataclass
class Daemon:
    """A home directory and, when started, the daemon on it."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        return self.home / "daemon.log"

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def configure(self, text: str) -> None:
        (self.home / "config").mkdir(exist_ok=True)
        (self.home / "config" / "gsvrd.yaml").write_text(text)

    def start(self, *, wait: bool = True) -> Daemon:
        before = self.log.count('"ready"')
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, str(BIN / "gsvrd"), "run", "--home", str(self.home)],
                stdout=log,
                stderr=log,
                env=environment(**self.environ),
                start_new_session=True,
            )
        if wait:
            eventually(lambda: self.log.count('"ready"') > before or self.died(), 30)
        return self

    def died(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        return False

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self, timeout_s: float = 60.0) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def workers(self) -> list[psutil.Process]:
        pids = self.status()["workers"]["pids"]
        found = []
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):  # what status says may be a moment old
                found.append(psutil.Process(pid))
        return found

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "gsvrctl", "--home", str(self.home), *words],
            capture_output=True,
            text=True,
            env=environment(**self.environ),
            timeout=60,
        )

    def status(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.ctl("status", "--json").stdout)
        return facts

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.status()["counts"]
        return counts

    def drop(self, source: Path, name: str | None = None) -> Path:
        target = self.home / "inbox" / (name or source.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        return target

    def until_counts(self, timeout_s: float = 60.0, **wanted: int) -> None:
        def met() -> bool:
            self.died()
            counts = self.counts()
            return all(counts[name] == value for name, value in wanted.items())

        eventually(met, timeout_s)

    def files(self, folder: str) -> list[str]:
        root = self.home / folder
        found = (path for path in root.rglob("*") if not path.is_dir() and not path.name.startswith("_summary"))
        return sorted(str(path.relative_to(root)) for path in found)
