"""What the control groups of this process allow: processors and memory, as the tightest of all groups above it.

Version 1, version 2 and both at once. Read anew each time, since limits may be changed while the daemon runs. A file that is
missing or says nonsense is no limit; what could not be read is a note. Called by `sampler`; reads files only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_NO_LIMIT_BYTES = 1 << 60
"""Version 1 says no limit with a figure near this or above it."""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """None is: no limit, or not known."""

    cores: float | None = None
    """Processors' worth of time."""
    memory_limit: int | None = None
    """Bytes."""
    memory_used: int | None = None
    """Bytes of the limit that are not free any more, as the tightest group sees it; pages of files that nobody has looked at
    of late are free."""
    memory_held: int | None = None
    """The same, with all pages of files free: what the kernel could not drop if it had to."""
    oom_kills: int | None = None
    """How many processes of the group the kernel has ended for want of memory, ever."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Group:
    """A group's folder and those above it, up to the mount."""

    folders: tuple[Path, ...]
    version: int


@dataclass(slots=True)
class ControlGroups:
    """Those of this process; `root` is another place than `/` in tests."""

    root: Path = field(default_factory=lambda: Path("/"))

    def read(self) -> GroupFacts:
        """What holds now."""
        notes: list[str] = []
        groups = dict(self._groups(notes))
        cpu, memory = groups.get("cpu"), groups.get("memory")
        limit = _lowest(memory) if memory else None
        return GroupFacts(
            cores=_cores(cpu) if cpu else None,
            memory_limit=limit,
            memory_used=_taken(memory, limit, ("inactive_file",)) if memory else None,
            memory_held=_taken(memory, limit, ("inactive_file", "active_file")) if memory else None,
            oom_kills=_oom_kills(memory) if memory else None,
            notes=tuple(notes),
        )

    def _groups(self, notes: list[str]) -> Iterator[tuple[str, _Group]]:
        """The group that counts for each controller: version 1 where it is mounted for it, else version 2."""
        mounts = dict(self._mounts())
        members = dict(self._members(notes))
        for controller in ("cpu", "memory"):
            name = controller if controller in mounts and controller in members else ""
            if name not in mounts or name not in members:
                continue
            inside, point = mounts[name]
            yield controller, _Group(self._chain(members[name], inside, point, notes), 1 if name else 2)

    def _chain(self, member: str, inside: str, point: str, notes: list[str]) -> tuple[Path, ...]:
        top = self.root / point.lstrip("/")
        path, base = PurePosixPath(member), PurePosixPath(inside)
        # In a container the mount may begin at our own group, or the path may be one outside of what is mounted.
        below = path.relative_to(base) if path.is_relative_to(base) else PurePosixPath()
        folder = top / below
        if ".." in below.parts or not folder.is_dir():
            notes.append(f"the control group {member} is not there below {point}; looked at {point} instead")
            return (top,)
        return (folder, *(parent for parent in folder.parents if parent.is_relative_to(top)))

    def _mounts(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """By controller, empty for version 2: what is mounted, and where."""
        for line in _lines(self.root / "proc/self/mountinfo"):
            before, _, after = line.partition(" - ")
            fields, kind = before.split(), after.split()
            if len(fields) < 5 or not kind:
                continue
            where = (_plain(fields[3]), _plain(fields[4]))
            if kind[0] == "cgroup2":
                yield "", where
            elif kind[0] == "cgroup":
                for controller in kind[-1].split(","):
                    yield controller, where

    def _members(self, notes: list[str]) -> Iterator[tuple[str, str]]:
        lines = _lines(self.root / "proc/self/cgroup")
        if not lines:
            notes.append("no control groups")
        for line in lines:
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            for controller in controllers.split(","):
                yield controller, path


def _cores(group: _Group) -> float | None:
    return min((cores for folder in group.folders if (cores := _quota(folder, group.version))), default=None)


def _quota(folder: Path, version: int) -> float | None:
    if version == 1:
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    else:
        words = (_lines(folder / "cpu.max") or [""])[0].split()
        quota, period = (_whole(words[0]), _whole(words[1])) if len(words) == 2 else (None, None)
    return quota / period if quota and period and quota > 0 and period > 0 else None


def _lowest(group: _Group) -> int | None:
    return min((limit for folder in group.folders if (limit := _limit(folder, group.version))), default=None)


def _taken(group: _Group, lowest: int | None, droppable: tuple[str, ...]) -> int | None:
    """Of the lowest limit, what the group with the least room leaves no room for."""
    if lowest is None:
        return None
    both = [(_limit(folder, group.version), _used(folder, group.version, droppable)) for folder in group.folders]
    rooms = [limit - used for limit, used in both if limit is not None and used is not None]
    return lowest - min(rooms) if rooms else None


def _limit(folder: Path, version: int) -> int | None:
    names = ("memory.limit_in_bytes",) if version == 1 else ("memory.max", "memory.high")
    found = [number for name in names if (number := _number(folder / name)) is not None]
    return min((number for number in found if 0 < number < _NO_LIMIT_BYTES), default=None)


def _used(folder: Path, version: int, droppable: tuple[str, ...]) -> int | None:
    used = _number(folder / ("memory.usage_in_bytes" if version == 1 else "memory.current"))
    if used is None:
        return None
    total = "total_" if version == 1 else ""
    return max(0, used - sum(_entry(folder / "memory.stat", f"{total}{name}") or 0 for name in droppable))


def _oom_kills(group: _Group) -> int | None:
    file = "memory.oom_control" if group.version == 1 else "memory.events"
    return _entry(group.folders[0] / file, "oom_kill")


def _entry(path: Path, name: str) -> int | None:
    for line in _lines(path):
        word, _, value = line.partition(" ")
        if word == name:
            return _whole(value)
    return None


def _number(path: Path) -> int | None:
    return _whole((_lines(path) or [""])[0])


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None  # "max", or what no kernel says


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def _plain(path: str) -> str:
    """A path of mountinfo, in which blanks are octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)
