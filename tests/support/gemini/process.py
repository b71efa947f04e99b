"""The fake server as a process of its own, so that a daemon killed with -9 does not disturb it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2]


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str

    def meter(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/_meter") as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def script(self, **orders: Any) -> None:
        request = urllib.request.Request(f"{self.url}/_script", json.dumps(orders).encode(), method="POST")
        with urllib.request.urlopen(request):
            pass


@contextmanager
def serving(folder: Path, **rules: Any) -> Iterator[Served]:
    path = folder / "rules.json"
    path.write_text(json.dumps(rules))
    command = [sys.executable, "-m", "support.gemini.server", "--port", "0", "--rules", str(path)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    try:
        yield Served(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
