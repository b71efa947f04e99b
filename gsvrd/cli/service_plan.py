"""What it takes to make gsvrd a service of systemd, or to take that back: plain steps, in order, nothing done yet.

Called by `gsvrctl service`. The files themselves are the masters in systemd/ and config/ of a clone; a wheel carries them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gsvrd

UNIT = "gsvrd.service"
_COMMANDS = "/opt/gsvrd/bin/"
"""Where the shipped unit says that our commands are."""
_NOT_FOR_USERS = (
    "User=",
    "Group=",
    "After=",
    "Wants=",
    "StateDirectory",
    "LoadCredential=",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "DevicePolicy=",
    "Private",
    "Protect",
    "RemoveIPC=",
    "Environment=",
    "WorkingDirectory=",
    "WantedBy=",
)
"""What a user's manager cannot do, or does elsewhere."""


@dataclass(frozen=True, slots=True)
class Write:
    """Put a file of ours in place; one that is there is replaced."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"write   {self.path}"


@dataclass(frozen=True, slots=True)
class Keep:
    """Leave something alone."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"keep    {self.path} ({self.why})"


@dataclass(frozen=True, slots=True)
class Folder:
    """Make a private directory, if it is not there."""

    path: Path

    def __str__(self) -> str:
        return f"mkdir   {self.path}"


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a file of ours away."""

    path: Path

    def __str__(self) -> str:
        return f"remove  {self.path}"


@dataclass(frozen=True, slots=True)
class Run:
    """Have systemd do something."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"run     {' '.join(self.words)}"


Step = Write | Keep | Folder | Remove | Run


@dataclass(frozen=True, slots=True)
class Target:
    """Where the service goes: the machine, an image of one below `root`, or one user's own manager."""

    root: Path = Path("/")
    commands: Path = Path(_COMMANDS)
    """The directory of `gsvrd` and `gsvrctl`, as the service will see it."""
    user: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def unit(self) -> Path:
        """The unit."""
        return self._settings / "systemd" / ("user" if self.user else "system") / UNIT

    @property
    def offline(self) -> Path:
        """The drop-in that takes the network away."""
        return self.unit.with_name(f"{UNIT}.d") / "gsvrd-local.conf"

    @property
    def configuration(self) -> Path:
        """The file that people edit."""
        return self._settings / "gsvrd" / "gsvrd.yaml"

    @property
    def home(self) -> Path:
        """What holds the inbox and all that matters."""
        if self.user:
            return self._own("XDG_DATA_HOME", ".local/share") / "gsvrd"
        return self.root / "var/lib/gsvrd"

    @property
    def lists(self) -> dict[Path, str]:
        """The lists of users and directories, with the names of their masters."""
        if self.user:
            return {}
        return {
            self._settings / "sysusers.d" / "gsvrd.conf": "gsvrd.sysusers.conf",
            self._settings / "tmpfiles.d" / "gsvrd.conf": "gsvrd.tmpfiles.conf",
        }

    @property
    def _settings(self) -> Path:
        return self._own("XDG_CONFIG_HOME", ".config") if self.user else self.root / "etc"

    def _own(self, variable: str, usual: str) -> Path:
        return Path(self.environ.get(variable) or Path(self.environ.get("HOME", "~")).expanduser() / usual)

    def tool(self, name: str, *words: str) -> Run:
        """One of systemd's tools, on this target."""
        where = ("--user",) if self.user else () if self.root == Path("/") else (f"--root={self.root}",)
        return Run((name, *where, *words))

    @property
    def is_running(self) -> bool:
        """Whether a manager is there that should hear of the change; an image has none."""
        return self.user or (self.root == Path("/") and Path("/run/systemd/system").is_dir())


def master(name: str) -> str:
    """The text of a file that is shipped: beside the code in a wheel, else in the clone."""
    package = Path(gsvrd.__file__).parent
    clone = package.parent / ("config" if name == "gsvrd.yaml" else "systemd") / name
    shipped = package / "unit" / name
    return (shipped if shipped.exists() else clone).read_text(encoding="utf-8")


def unit_text(target: Target) -> str:
    """The unit for `target`, with its commands; a user's one has only what that user's manager can do."""
    text = master(UNIT).replace(_COMMANDS, _quoted(target.commands))
    if not target.user:
        return text
    kept = [line for line in text.splitlines() if not line.startswith((*_NOT_FOR_USERS, "#"))]
    places = (f"GSVRD_HOME={target.home}", f"GSVRD_CONFIG={target.configuration}")
    at = kept.index("[Service]") + 1
    kept[at:at] = [
        *(f'Environment="{_escaped(place)}"' for place in places),
        f"WorkingDirectory={_escaped(target.home)}",
    ]
    lines = [
        "# gsvrd as a service of one user, made by `gsvrctl service install --user`.",
        *kept,
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def _quoted(folder: Path) -> str:
    """For the start of a command in a unit; systemd takes the backslash before a blank."""
    return _escaped(folder).rstrip("/").replace(" ", "\\x20") + "/"


def _escaped(path: Path | str) -> str:
    return str(path).replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"')


def install(target: Target, *, offline: bool | None) -> list[Step]:
    """Make it a service, or bring it up to this version. `offline`: without network; None leaves that as it is."""
    steps: list[Step] = [_put(path, master(name)) for path, name in target.lists.items()]
    steps.append(_put(target.unit, unit_text(target)))
    if offline:
        steps.append(_put(target.offline, master(target.offline.name)))
    elif offline is False and os.path.lexists(target.offline):
        steps.append(Remove(target.offline))
    if os.path.lexists(target.configuration):
        steps.append(Keep(target.configuration, "yours"))
    else:
        steps.append(Write(target.configuration, master("gsvrd.yaml")))
    if target.user:
        steps.append(Folder(target.home))
    else:
        steps += [
            target.tool("systemd-sysusers", "gsvrd.conf"),
            target.tool("systemd-tmpfiles", "--create", "gsvrd.conf"),
        ]
    if target.is_running:
        steps.append(target.tool("systemctl", "daemon-reload"))
    steps.append(target.tool("systemctl", "enable", UNIT))
    return steps


def uninstall(target: Target) -> list[Step]:
    """Take the service away; videos, reports, the queue, the configuration, the key and the user stay."""
    ours = [path for path in (target.offline, target.unit, *target.lists) if os.path.lexists(path)]
    if not ours:
        return []
    steps: list[Step] = []
    if target.unit in ours:
        now = ("--now",) if target.is_running else ()
        steps.append(target.tool("systemctl", "disable", *now, UNIT))
    steps += [Remove(path) for path in ours]
    if target.is_running:
        steps.append(target.tool("systemctl", "daemon-reload"))
    left = (target.home, target.configuration)
    return steps + [Keep(path, "yours") for path in left if os.path.lexists(path)]


def _put(path: Path, text: str) -> Step:
    try:
        same = not path.is_symlink() and path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        same = False
    return Keep(path, "as it should be") if same else Write(path, text)
