"""Metrics and probes of a real daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.metrics import dial, free_port, get, samples
from support.waiting import eventually


def test_what_happens_to_a_video_shows_on_the_page_and_in_the_file_until_the_end(daemon: Daemon, sample: Path) -> None:
    at = ("127.0.0.1", free_port())
    daemon.configure(f"metrics: {{listen: '127.0.0.1:{at[1]}', textfile: gsvrd.prom}}\nservice: {{drain: 0s}}")
    daemon.start()
    assert get(at, "/readyz") == (200, "running\n")
    daemon.drop(sample)
    daemon.until_counts(completed=1)
    eventually(lambda: samples(get(at, "/metrics")[1])["gsvrd_transitions_total", (("change", "complete"),)] == 1)
    found = samples(get(at, "/metrics")[1])
    assert found["gsvrd_attempt_duration_seconds_count", (("outcome", "succeeded"),)] == 1
    assert found["gsvrd_stage_duration_seconds_count", (("stage", "render"),)] == 1
    assert found["gsvrd_workers", ()] == daemon.status()["workers"]["up"]
    assert get(at, "/healthz") == (200, "live\n")
    daemon.ctl("pause")
    eventually(lambda: get(at, "/readyz") == (200, "paused\n"))
    assert daemon.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        dial(at)
    last = samples((daemon.home / "state" / "gsvrd.prom").read_text())
    assert last["gsvrd_state", (("state", "stopped"),)] == 1
    assert last["gsvrd_tasks", (("state", "completed"),)] == 1


def test_a_daemon_that_was_killed_leaves_its_socket_and_the_next_one_takes_its_place(daemon: Daemon) -> None:
    at = daemon.home / "state" / "m.sock"
    daemon.configure("metrics: {listen: 'unix:m.sock'}")
    daemon.start()
    assert get(at, "/healthz") == (200, "live\n")
    daemon.kill()
    assert at.is_socket()
    daemon.start()
    assert get(at, "/healthz") == (200, "live\n")


def test_a_reload_starts_moves_and_ends_it_and_one_that_cannot_be_is_refused(daemon: Daemon) -> None:
    first, second = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    daemon.start()
    daemon.configure(f"metrics: {{listen: '127.0.0.1:{first[1]}'}}")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: _is_ready(first))
    with dial(first):
        daemon.configure("metrics: {listen: '192.0.2.1:9478', allow_remote: true}")
        daemon.signal(signal.SIGHUP)
        eventually(lambda: "nobody can listen" in daemon.status()["reload"]["problem"])
    assert _is_ready(first)
    daemon.configure(f"metrics: {{listen: '127.0.0.1:{second[1]}'}}")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: _is_ready(second))
    assert not _is_ready(first)


def _is_ready(at: tuple[str, int]) -> bool:
    try:
        return get(at, "/readyz")[0] == 200
    except ConnectionRefusedError:
        return False


def test_an_address_that_others_reach_wants_to_be_allowed(daemon: Daemon) -> None:
    daemon.configure("metrics: {listen: '0.0.0.0:9478'}")
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(30) == 78
    assert "metrics.allow_remote does not allow that" in daemon.log


def test_a_daemon_without_metrics_loads_nothing_for_them() -> None:
    code = "import json, sys, gsvrd.daemon.run; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert "gsvrd.daemon.metrics.station" in loaded
    heavy = ("prometheus_client", "gsvrd.daemon.metrics.page", "gsvrd.daemon.metrics.listener")
    assert not set(heavy).intersection(loaded)
