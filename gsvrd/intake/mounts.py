"""Which file systems other machines or programs write to, where neither inotify nor leases tell the truth.

Asked by the watcher (events or polling?) and by the settle check (is a lease to be believed?). On NFS a read lease is
refused for ever unless the server delegates, and changes made by other hosts raise no event.
"""

from __future__ import annotations

import os
from pathlib import Path

_REMOTE = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gfs2", "ocfs2", "coda", "ncpfs"),
        *("orangefs", "pvfs2", "beegfs", "gpfs", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "fuse", "acfs", "panfs"),
    }
)


def is_remote(kind: str) -> bool:
    """Whether a file system type (as /proc/self/mountinfo names it) may change behind the kernel's back.

    `fuseblk` (ntfs-3g, exfat) is a local disk and stays local; every other FUSE file system counts as remote.
    """
    return kind in _REMOTE or kind.startswith("fuse.")


class Mounts:
    """File system types by device number, remembered."""

    def __init__(self, table: Path = Path("/proc/self/mountinfo")) -> None:
        """`table` is read when a device is met for the first time."""
        self._table = table
        self._kinds: dict[int, str] = {}

    def kind(self, device: int) -> str:
        """The type of the file system with this `st_dev`; "" when unknown (btrfs), which counts as local."""
        if device not in self._kinds:
            self._kinds = {device: "", **self._read()}
        return self._kinds[device]

    def forget(self) -> None:
        """Read the table anew: a device number may come back as something else after a remount."""
        self._kinds.clear()

    def is_remote(self, device: int) -> bool:
        """Whether the file system with this `st_dev` may change behind the kernel's back."""
        return is_remote(self.kind(device))

    def _read(self) -> dict[int, str]:
        kinds: dict[int, str] = {}
        try:
            lines = self._table.read_text("utf-8", "surrogateescape").splitlines()
        except OSError:  # no /proc in this sandbox: all local
            return kinds
        for line in lines:
            fields, _, tail = line.partition(" - ")
            major, _, minor = fields.split(" ", 3)[2].partition(":")
            kinds[os.makedev(int(major), int(minor))] = tail.split(" ", 1)[0]
        return kinds
