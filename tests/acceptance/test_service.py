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

from gsvrd.config.models import Settings

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


def test_the_manager_hears_what_is_wrong_with_a_broken_configuration(
    daemon: Daemon, manager: Manager, tmp_path: Path
) -> None:
    daemon.environ |= {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    daemon.configure("workers: {most: 3}\n")
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(60) == os.EX_CONFIG
    (status,) = (line for line in manager.listen() if line.startswith("STATUS="))
    assert "workers.most" in status
    assert "READY=1" not in manager.heard


def test_the_status_counts_videos_and_has_no_line_break(daemon: Daemon, manager: Manager, tmp_path: Path) -> None:
    daemon.environ |= {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    daemon.start()
    daemon.ctl("pause")
    (daemon.home / "inbox" / "a.mp4").write_bytes(b"no video")
    eventually(lambda: "STATUS=paused by SIGUSR1 (gsvrctl pause); 0 under way, 1 waiting" in manager.listen(), 30)
    daemon.ctl("resume")
    eventually(lambda: "STATUS=running; nothing to do" in manager.listen(), 30)


def test_a_reload_by_command_returns_when_it_is_done_and_tells_of_a_refusal(daemon: Daemon) -> None:
    down = daemon.ctl("reload")
    assert (down.returncode, "does not run" in down.stderr) == (3, True)
    daemon.start()
    assert daemon.ctl("reload").returncode == 0
    assert daemon.status()["reload"]["problem"] == ""
    daemon.configure("nonsense: 1\n")
    refused = daemon.ctl("reload")
    assert refused.returncode == os.EX_CONFIG
    assert "nonsense: unknown key" in refused.stderr


# -- the unit ------------------------------------------------------------------------------------------------------------

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")


@pytest.fixture(params=("as shipped", "offline"))
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit with commands that exist here, and with or without the drop-in."""
    text = UNIT.read_text()
    for command in ("gsvrd run", "gsvrctl reload"):
        assert f"=/opt/gsvrd/bin/{command}\n" in text
        text = text.replace(f"/opt/gsvrd/bin/{command}", "/bin/true")
    made = tmp_path / "gsvrd.service"
    made.write_text(text)
    if request.param == "offline":
        folder = tmp_path / "gsvrd.service.d"
        folder.mkdir()
        shutil.copy(UNIT.with_name("gsvrd-local.conf"), folder)
    return made


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "SYSTEMD_LOG_LEVEL": "notice"}
    command = ["systemd-analyze", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)


@needs_analyze
def test_the_shipped_unit_has_nothing_systemd_would_complain_about(unit: Path) -> None:
    done = analyze("verify", "--man=no", unit)
    # It exits with 0 for unknown keys, so what it says counts.
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_analyze
def test_the_shipped_unit_exposes_little(unit: Path) -> None:
    """In tenths: 1.5 is the gate, 1.1 what is shipped, 0.8 what a service without network may have."""
    for threshold in (15, 8 if (unit.parent / "gsvrd.service.d").exists() else 11):
        done = analyze("security", "--offline=true", f"--threshold={threshold}", "--no-pager", unit)
        assert done.returncode == 0, done.stdout[-400:]


def test_the_unit_says_what_the_daemon_needs() -> None:
    lines = UNIT.read_text().splitlines()
    for line in ("Type=notify", "KillMode=mixed", "Restart=on-failure", "RestartPreventExitStatus=64 65 77 78"):
        assert line in lines


def test_the_unit_gives_more_time_to_stop_than_running_tasks_have() -> None:
    (line,) = (line for line in UNIT.read_text().splitlines() if line.startswith("TimeoutStopSec="))
    assert float(line.partition("=")[2]) >= 2 * Settings().service.drain
