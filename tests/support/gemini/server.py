"""Starts and stops the server: in a thread for most tests, as a process for those that kill the daemon.

    python -m support.gemini.server --port 0 [--rules RULES.json] [--script SCRIPT.json]

prints its base URL on the first line of its output once it listens, and runs until it is killed. In a process its
state is read by `GET /_meter` and changed by `POST /_script` (see `wire.obey`).
"""

from __future__ import annotations

import argparse
import json
import threading
from pathlib import Path
from typing import Self

from gsvrd.clock import Clock, SystemClock

from .faults import Fault
from .meter import Entry, Meter
from .rules import Rules
from .service import Service
from .wire import Server, obey


class FakeGemini:
    """A running server; leave the `with` block to stop it."""

    def __init__(self, rules: Rules | None = None, clock: Clock | None = None, port: int = 0) -> None:
        self._service = Service(rules or Rules(), clock or SystemClock())
        self._server = Server(port, self._service)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="fake-gemini", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def meter(self) -> Meter:
        """What was asked of it."""
        return self._service.meter

    @property
    def rules(self) -> Rules:
        """What it is now; assign to change it."""
        return self._service.rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._service.rules = rules

    def fault(self, *faults: Fault) -> None:
        """Trouble from the next request on."""
        self._service.script.add(*faults)

    def heal(self) -> None:
        """No more trouble."""
        self._service.script.clear()

    def advance(self, seconds: float) -> None:
        """Set its clock forward: files expire, quotas refill."""
        self._service.advance(seconds)

    def files_alive(self) -> list[str]:
        """Names of the stored files, the newest first."""
        with self._service.lock:
            return [file.name for file in self._service.files.alive(self.rules, self._service.now())]

    def requests(self, route: str = "") -> list[Entry]:
        """The log, for routes that begin so."""
        return self.meter.entries(route)

    def stop(self) -> None:
        """Close every connection and the listening socket."""
        self._server.shutdown()
        self._server.close_all()
        self._server.server_close()
        self._thread.join()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="A Gemini server for tests, on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rules", type=Path, help="JSON of Rules")
    parser.add_argument("--script", type=Path, help="JSON as POST /_script takes it")
    options = parser.parse_args()
    rules = Rules.from_json(json.loads(options.rules.read_text())) if options.rules else Rules()
    service = Service(rules, SystemClock())
    if options.script:
        obey(service, json.loads(options.script.read_text()))
    with Server(options.port, service) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever(poll_interval=0.02)


if __name__ == "__main__":
    main()
