"""A throw-away machine that boots systemd as PID 1, over an overlay of this machine's root; nothing of it outlives a test.

It has its own processes, mounts, control groups, network (a loopback alone) and memory of changes, and can be booted again
with what was written before. It cannot set the clock or settings of the kernel.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.waiting import eventually

SCRIPT = Path(__file__).with_name("boot.sh")
CLONE = Path(__file__).parents[2]
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")
TOOLS = ("unshare", "nsenter", "setpriv", "pivot_root", "chroot")
PYTHON, PACKAGES, SHARED = "/opt/python", "/opt/packages", "/opt/shared"
"""Where the machine has this interpreter, the packages of this environment, and a folder that the test fills."""


def missing() -> str:
    """Why no machine can be booted here; empty when one can."""
    if os.geteuid() != 0:
        return "booting a machine needs root"
    if not Path("/lib/systemd/systemd").exists():
        return "no systemd on this machine"
    if lacking := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"no {lacking[0]} on this machine"
    if _groups() is None:
        return "no control groups of version 2 here"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--net", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
    )
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def _groups() -> Path | None:
    """Where the control groups of version 2 are mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return Path(line.split()[4])
    return None


def limits_memory() -> bool:
    """Whether MemoryMax= has an effect in such a machine."""
    groups = _groups()
    return groups is not None and "memory" in (groups / "cgroup.subtree_control").read_text().split()


@dataclass
class Machine:
    """One machine; make it with `machine`."""

    folder: Path
    holder: subprocess.Popen[bytes]
    init: int = 0
    _booted: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def shared(self) -> Path:
        """What it sees as /opt/shared."""
        return self.folder.parent / "shared"

    @property
    def _group(self) -> Path:
        groups = _groups()
        assert groups is not None
        return groups / f"gsvrd-test-{self.holder.pid}"

    def prepare(self, command: str) -> None:
        """Run a shell command in it before it is booted."""
        words = [
            "nsenter",
            f"--mount=/proc/{self.holder.pid}/ns/mnt",
            "chroot",
            f"{self.folder}/root",
            "sh",
            "-ec",
            command,
        ]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    def boot(self) -> None:
        """Switch it on."""
        self._group.mkdir()
        words = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "unshare", "--mount", "--propagation", "private"]
        words += [
            "--pid",
            "--fork",
            "--kill-child",
            "--cgroup",
            "--ipc",
            "--uts",
            "--net",
            "sh",
            str(SCRIPT),
            "init",
            str(self.folder),
        ]
        self._booted = subprocess.Popen(
            [*DIE_WITH_US, "sh", "-c", f'echo $$ > {self._group}/cgroup.procs; exec "$@"', "sh", *words],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder.parent / "console").open("ab"),
            stderr=subprocess.STDOUT,
        )
        eventually(self._has_init, 30)
        eventually(lambda: self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"), 60)

    def _has_init(self) -> bool:
        assert self._booted is not None
        assert self._booted.poll() is None, (self.folder.parent / "console").read_text()
        children = Path(f"/proc/{self._booted.pid}/task/{self._booted.pid}/children").read_text().split()
        if not children:
            return False
        self.init = int(children[0])
        return Path(f"/proc/{self.init}/comm").read_text() == "systemd\n"

    def run(self, *words: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        command = ["nsenter", "-t", str(self.init), "-m", "-p", "-C", "-i", "-u", "-n", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)

    def say(self, *words: str, timeout_s: float = 120.0) -> str:
        """What a command in it prints, which has to go well."""
        done = self.run(*words, timeout_s=timeout_s)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def shut_down(self) -> None:
        """Switch it off in good order."""
        os.kill(self.init, signal.SIGRTMIN + 4)
        self._gone(120)

    def crash(self) -> None:
        """Pull its plug."""
        os.kill(self.init, signal.SIGKILL)
        self._gone(30)

    def _gone(self, timeout_s: float) -> None:
        assert self._booted is not None
        self._booted.wait(timeout_s)
        self.init, self._booted = 0, None
        eventually(self._without_group, 30)

    def _without_group(self) -> bool:
        try:
            for group in sorted(self._group.rglob("*/"), reverse=True):
                group.rmdir()
            self._group.rmdir()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Leave nothing behind."""
        if self.init:
            self.crash()
        self.holder.kill()
        self.holder.wait()


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A machine with this interpreter and its packages, not booted; `folder` must be empty."""
    mounted, shared = folder / "machine", folder / "shared"
    mounted.mkdir()
    shared.mkdir()
    binds = [sysconfig.get_path("purelib"), PACKAGES, str(shared), SHARED]
    if sys.base_prefix != "/usr":
        binds += [sys.base_prefix, PYTHON]
    holder = subprocess.Popen(
        [
            *DIE_WITH_US,
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            str(SCRIPT),
            "hold",
            str(mounted),
            *binds,
        ],
        stdin=subprocess.DEVNULL,
    )
    made = Machine(mounted, holder)
    try:
        eventually(lambda: Path(f"/proc/{holder.pid}/root{mounted}/held").exists() or holder.poll() is not None, 30)
        assert holder.poll() is None
        made.prepare(_QUIET + _LIBRARIES)
        yield made
    finally:
        made.close()


_QUIET = """
rm -rf /etc/systemd/system/multi-user.target.wants /etc/systemd/system/timers.target.wants
systemctl --root=/ --quiet mask console-getty.service systemd-sysctl.service systemd-timesyncd.service
systemctl --root=/ --quiet set-default multi-user.target
"""
"""What belongs to the host does not start."""
_LIBRARIES = f"""
echo {PYTHON}/lib > /etc/ld.so.conf.d/00-gsvrd-test.conf
ldconfig
"""
"""An interpreter with a library of its own names it by its place on the host, which may be one that only root sees."""


def install(onto: Machine) -> None:
    """What `docs/deploy.md` does by pip, from a wheel built here and the packages of this environment: without network."""
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(onto.shared), str(CLONE)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    python = "/usr/bin/python3" if sys.base_prefix == "/usr" else f"{PYTHON}/bin/python3"
    onto.prepare(
        f"{python} -m venv --without-pip /opt/gsvrd\n"
        f"PYTHONPATH={PACKAGES} /opt/gsvrd/bin/python -m pip --quiet --no-cache-dir install --no-index --no-deps"
        f" --no-warn-script-location {SHARED}/gsvrd-*.whl\n"
        f"for folder in /opt/gsvrd/lib/python*/site-packages; do echo {PACKAGES} > $folder/packages.pth; done\n"
    )
