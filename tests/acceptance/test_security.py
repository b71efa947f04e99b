"""What `docs/security.md` promises of a running daemon."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from support.daemon import Daemon
from support.waiting import eventually

from gsvrd.cli import gsvrctl, lengths

NOBODY = 65534


def kernel_says(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def workers(daemon: Daemon) -> list[int]:
    """Those that have begun to work; the fork server, which makes them, keeps its rights."""
    below = psutil.Process(daemon.pid).children(recursive=True)
    return [child.pid for child in below if kernel_says(child.pid)["NoNewPrivs"] == "1"]


def test_whoever_decodes_on_this_machine_alone_has_given_up_the_network(daemon: Daemon, sample: Path) -> None:
    daemon.configure("workers: {min: 1, max: 1}\n")
    daemon.start()
    assert [kernel_says(pid)["Seccomp"] for pid in eventually(lambda: workers(daemon))] == ["0"]  # a link could come
    shutil.copy(sample, daemon.home / "inbox" / "a.mp4")
    daemon.until_counts(completed=1)
    assert [kernel_says(pid)["Seccomp"] for pid in workers(daemon)] == ["2"]
    assert kernel_says(daemon.pid)["Seccomp"] == "0"  # it tells webhooks
    assert daemon.stop() == 0


def test_whoever_reads_lengths_for_a_plan_has_given_up_rights_and_network() -> None:
    with lengths.readied():
        (child,) = lengths._ready
        eventually(lambda: kernel_says(child.pid)["Seccomp"] == "2", 30)
        assert kernel_says(child.pid)["NoNewPrivs"] == "1"


def test_nothing_in_the_state_directory_can_be_read_by_others_whatever_the_umask(daemon: Daemon, sample: Path) -> None:
    before = os.umask(0)
    try:
        daemon.start()
    finally:
        os.umask(before)
    shutil.copy(sample, daemon.home / "inbox" / "a.mp4")
    daemon.until_counts(completed=1)
    assert daemon.ctl("checkpoint", "create").returncode == 0
    state = daemon.home / "state"
    found = {path.relative_to(state): path.lstat().st_mode for path in [state, *state.rglob("*")]}
    assert len(found) > 4
    assert [(path, oct(mode)) for path, mode in found.items() if mode & 0o007] == []
    files = {path: stat.S_IMODE(mode) for path, mode in found.items() if not stat.S_ISDIR(mode)}
    assert {path: oct(mode) for path, mode in files.items() if mode & 0o077} == {}
    assert daemon.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_can_neither_wake_nor_steer_nor_stop_the_daemon(daemon: Daemon) -> None:
    daemon.start()
    state = daemon.home / "state"
    state.chmod(0o755)  # its files shall be enough
    acts: dict[str, Callable[[], None]] = {
        path.name: partial(write_into, path.name) for path in state.iterdir() if not path.is_dir()
    }
    assert {"gsvrd.db", "lock"} <= set(acts)
    acts |= {"new": partial(write_into, "new"), "USR1": partial(os.kill, daemon.pid, signal.SIGUSR1)}
    acts |= {"KILL": partial(os.kill, daemon.pid, signal.SIGKILL)}
    assert done_by(NOBODY, acts, state) == []
    assert done_by(os.geteuid(), {"USR1": acts["USR1"], "lock": acts["lock"]}, state) == ["USR1", "lock"]
    eventually(lambda: daemon.status()["state"] == "paused")
    assert daemon.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(
    "words", [["status"], ["pause"], ["list"], ["cancel", "1"], ["why", "a.mp4"], ["retry", "--failed"]]
)
def test_another_user_is_told_in_a_sentence_that_steering_is_not_theirs(
    daemon: Daemon, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (daemon.home / "state").mkdir(mode=0o700)
    (daemon.home / "state" / "gsvrd.db").touch(mode=0o600)
    said: dict[str, Callable[[], None]] = {"ended": partial(steer, *words)}
    assert done_by(NOBODY, said, daemon.home) == ["ended"]
    told = capfd.readouterr().err
    assert told.startswith("error: you may not use "), told
    assert "Traceback" not in told


def steer(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        gsvrctl.main(words)
    assert ended.value.code == os.EX_NOPERM


def write_into(name: str) -> None:
    os.close(os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_CREAT))


def done_by(user: int, acts: dict[str, Callable[[], None]], folder: Path) -> list[str]:
    """The names of those that `user` may do in `folder`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # nothing may leave this branch
        try:
            os.chdir(folder)
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            for name, act in acts.items():
                try:
                    act()
                except PermissionError:
                    continue
                os.write(writing, f"{name}\n".encode())
            os.write(writing, b"end")
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        *names, end = pipe.read().decode().split("\n")
    os.waitpid(child, 0)
    assert end == "end"
    return names
