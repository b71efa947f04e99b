from __future__ import annotations

import os
from pathlib import Path

import pytest

from gsvrd.intake.mounts import Mounts, is_remote

TABLE = r"""
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
42 27 0:51 / /srv/in\040box rw,relatime shared:9 master:2 - nfs4 server:/in rw
43 27 0:52 / /srv/cloud rw - fuse.rclone remote: rw
""".lstrip()


def test_the_type_of_a_file_system_is_found_by_its_device_number(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    mounts = Mounts(table)
    assert mounts.kind(os.makedev(98, 0)) == "ext3"
    assert mounts.is_remote(os.makedev(0, 51))
    assert mounts.is_remote(os.makedev(0, 52))
    assert mounts.kind(os.makedev(7, 7)) == ""
    assert not mounts.is_remote(os.makedev(7, 7))


def test_a_remount_is_seen_after_forgetting(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    mounts = Mounts(table)
    assert mounts.is_remote(os.makedev(0, 51))
    table.write_text(TABLE.replace("nfs4", "tmpfs"))
    mounts.forget()
    assert not mounts.is_remote(os.makedev(0, 51))


def test_the_machines_own_table_can_be_read() -> None:
    assert Mounts().kind(os.stat("/proc").st_dev) == "proc"


@pytest.mark.parametrize(("kind", "remote"), [("cifs", True), ("fuse.sshfs", True), ("fuseblk", False), ("xfs", False)])
def test_what_others_write_to_is_remote(kind: str, remote: bool) -> None:
    assert is_remote(kind) is remote
