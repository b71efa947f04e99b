from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import structlog

from gsvrd.config.load import load
from gsvrd.daemon.beginning import warn_of_a_share
from gsvrd.daemon.service import Notifier
from gsvrd.daemon.settings import analyzer_of
from gsvrd.intake.mounts import Mounts


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(tmp_path / "notify"))
    made.setblocking(False)
    return made


def test_a_reason_with_line_breaks_says_nothing_else_to_the_manager(manager: socket.socket, tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notifier.status("paused by\nMAINPID=1\nREADY=1 " + 2000 * "x")
    said = manager.recv(4096).decode()
    assert said.startswith("STATUS=paused by MAINPID=1 READY=1 xxx")
    assert "\n" not in said
    assert len(said) < 600
    manager.close()


@pytest.mark.parametrize(("text", "analyzer"), [("", "local"), ("a key", "gemini"), (None, "local")])
def test_an_empty_credential_is_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, analyzer: str
) -> None:
    """The unit that is shipped names a file that is empty until somebody writes a key there."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    if text is not None:
        (tmp_path / "gemini-api-key").write_text(text)
    assert analyzer_of(load(tmp_path, None, {})) == analyzer


@pytest.mark.parametrize(("kind", "warnings"), [("nfs4", 1), ("fuse.sshfs", 1), ("ext4", 0)])
def test_a_database_on_a_share_is_told_in_the_log(tmp_path: Path, kind: str, warnings: int) -> None:
    device = tmp_path.stat().st_dev
    table = tmp_path / "mountinfo"
    table.write_text(f"26 1 {os.major(device)}:{os.minor(device)} / / rw - {kind} server:/x rw\n")
    with structlog.testing.capture_logs() as entries:
        warn_of_a_share(tmp_path, Mounts(table))
    assert [entry["event"] for entry in entries] == ["state_on_a_share"] * warnings
    assert all(entry["file_system"] == kind and "directories.state" in entry["hint"] for entry in entries)
