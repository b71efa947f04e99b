"""The daemon as a service: what it tells the service manager, and the unit that is shipped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.waiting import eventually

UNIT = Path(__file__).parents[2] / "systemd" / "gsvrd.service"


class Manager:
    """The receiving end of sd_notify."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        while True:
            try:
                self.heard += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_the_manager_hears_ready_status_reloading_watchdog_and_stopping(
    daemon: Daemon, manager: Manager, tmp_path: Path
) -> None:
    daemon.environ |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    daemon.start()
    eventually(lambda: "READY=1" in manager.listen())
    eventually(lambda: manager.listen().count("WATCHDOG=1") >= 3)
    daemon.ctl("pause")
    eventually(lambda: any(line.startswith("STATUS=paused") for line in manager.listen()))
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "RELOADING=1" in manager.listen())
    eventually(lambda: manager.listen().count("READY=1") == 2)
    assert daemon.stop() == 0
    assert "STOPPING=1" in manager.listen()


def test_a_stopped_loop_sends_no_watchdog(daemon: Daemon, manager: Manager, tmp_path: Path) -> None:
    """The pings come from the loop: with it stopped there is nobody who could send one."""
    daemon.environ |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000"}
    daemon.start()
    eventually(lambda: manager.listen().count("WATCHDOG=1") >= 3)
    daemon.signal(signal.SIGSTOP)
    stat = Path(f"/proc/{daemon.pid}/stat")
    eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    manager.listen()
    manager.heard.clear()
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    assert children
    for child in children:
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{child}/environ").read_bytes()
    assert manager.listen() == []
    daemon.signal(signal.SIGCONT)
    eventually(lambda: "WATCHDOG=1" in manager.listen())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_the_shipped_unit_has_nothing_systemd_would_complain_about(tmp_path: Path) -> None:
    command = "/opt/gsvrd/bin/gsvrd"
    text = UNIT.read_text()
    assert f"ExecStart={command} run" in text
    unit = tmp_path / "gsvrd.service"
    unit.write_text(text.replace(command, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "notice"},
    )
    # It exits with 0 for unknown keys, so what it says counts.
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_says_what_the_daemon_needs() -> None:
    lines = UNIT.read_text().splitlines()
    for line in ("Type=notify", "KillMode=mixed", "Restart=on-failure", "RestartPreventExitStatus=64 65 77 78"):
        assert line in lines
