"""`gsvrctl service` on the image of a machine, with systemd's own tools where they are."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gsvrd.cli.gsvrctl import main
from gsvrd.cli.service_plan import Target, Write, install, unit_text

needs_systemd = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("systemctl", "systemd-sysusers", "systemd-tmpfiles"))),
    reason="needs root and systemd's tools",
)
FILES = (
    "etc/sysusers.d/gsvrd.conf",
    "etc/tmpfiles.d/gsvrd.conf",
    "etc/systemd/system/gsvrd.service",
    "etc/gsvrd/gsvrd.yaml",
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    return root


def service(*words: str) -> Result:
    return CliRunner().invoke(main, ["service", *words])


def contents(root: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path.relative_to(root))] = (status.st_mode, status.st_ino if data else 0, data)
    return found


def test_a_dry_run_says_what_would_be_done_and_does_nothing(image: Path) -> None:
    done = service("install", "--root", str(image), "--dry-run")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert all(line.startswith("would ") for line in lines)
    for file in FILES:
        assert f"would write   {image / file}" in lines
    assert f"would run     systemctl --root={image} enable gsvrd.service" in lines
    assert contents(image) == {"etc": contents(image)["etc"]}


@needs_systemd
def test_what_is_done_is_what_the_dry_run_said(image: Path) -> None:
    said = service("install", "--root", str(image), "--dry-run").output.replace("would ", "")
    done = service("install", "--root", str(image))
    assert done.exit_code == 0, done.output
    assert done.output.startswith(said)


@needs_systemd
def test_the_machine_gets_a_user_directories_and_an_enabled_unit(image: Path) -> None:
    assert service("install", "--root", str(image)).exit_code == 0
    (entry,) = (
        line.split(":") for line in (image / "etc/passwd").read_text().splitlines() if line.startswith("gsvrd:")
    )
    uid, gid = int(entry[2]), int(entry[3])
    assert entry[6] == "/usr/sbin/nologin"
    home = image / "var/lib/gsvrd"
    modes = {"inbox": 0o2770, "reports": 0o2750, "archive": 0o2750, "failed": 0o2750, "state": 0o700}
    for name, mode in modes.items():
        status = (home / name).stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (uid, gid, mode), name
    assert (image / "etc/systemd/system/multi-user.target.wants/gsvrd.service").is_symlink()


@needs_systemd
def test_a_second_installation_changes_nothing(image: Path) -> None:
    service("install", "--root", str(image))
    before = contents(image)
    done = service("install", "--root", str(image))
    assert "write" not in done.output
    assert contents(image) == before


@needs_systemd
def test_an_upgrade_renews_the_unit_and_keeps_configuration_drop_ins_and_work(image: Path) -> None:
    service("install", "--root", str(image), "--offline")
    unit = image / FILES[2]
    fresh = unit.read_text()
    unit.write_text("[Service]\nExecStart=/bin/false\n")
    kept = {
        "etc/gsvrd/gsvrd.yaml": "template: study_notes\n",
        "etc/systemd/system/gsvrd.service.d/override.conf": "[Service]\nMemoryMax=2G\n",
        "var/lib/gsvrd/state/gsvrd.db": "the queue",
        "var/lib/gsvrd/inbox/new.mp4": "a video",
    }
    for name, text in kept.items():
        (image / name).parent.mkdir(exist_ok=True)
        (image / name).write_text(text)
    assert service("install", "--root", str(image)).exit_code == 0
    assert unit.read_text() == fresh
    assert {name: (image / name).read_text() for name in kept} == kept
    assert (image / "etc/systemd/system/gsvrd.service.d/gsvrd-local.conf").exists()


@needs_systemd
def test_uninstalling_leaves_videos_reports_queue_configuration_and_the_drop_ins_of_others(image: Path) -> None:
    service("install", "--root", str(image), "--offline")
    theirs = image / "etc/systemd/system/gsvrd.service.d/override.conf"
    theirs.write_text("[Service]\nMemoryMax=2G\n")
    for folder in ("inbox", "reports", "archive", "failed", "state"):
        (image / "var/lib/gsvrd" / folder / "kept").write_text(folder)
    done = service("uninstall", "--root", str(image))
    assert done.exit_code == 0, done.output
    assert [name for name in FILES if (image / name).exists()] == ["etc/gsvrd/gsvrd.yaml"]
    assert not (image / "etc/systemd/system/multi-user.target.wants/gsvrd.service").is_symlink()
    assert [path.name for path in theirs.parent.iterdir()] == ["override.conf"]
    assert sorted(path.parent.name for path in (image / "var/lib/gsvrd").rglob("kept")) == [
        "archive",
        "failed",
        "inbox",
        "reports",
        "state",
    ]
    again = service("uninstall", "--root", str(image))
    assert (again.exit_code, again.output) == (0, "No service of gsvrd is installed.\n")


@needs_systemd
def test_a_masked_unit_is_not_written_through(image: Path) -> None:
    unit = image / FILES[2]
    unit.parent.mkdir(parents=True)
    unit.symlink_to("/dev/null")
    done = service("install", "--root", str(image))
    assert done.exit_code == os.EX_CANTCREAT
    assert "masked" in done.output
    assert os.readlink(unit) == "/dev/null"


@needs_systemd
def test_offline_is_a_drop_in_that_stays_until_online_is_said(image: Path) -> None:
    drop_in = image / "etc/systemd/system/gsvrd.service.d/gsvrd-local.conf"
    service("install", "--root", str(image), "--offline")
    assert "PrivateNetwork=yes" in drop_in.read_text()
    service("install", "--root", str(image), "--online")
    assert not drop_in.parent.exists()


def test_show_prints_the_files_and_says_how_they_stand(image: Path) -> None:
    unit = image / FILES[2]
    unit.parent.mkdir(parents=True)
    unit.write_text("[Unit]\n")
    shown = service("show", "--root", str(image)).output
    assert f"# {unit}: installed, but it differs" in shown
    assert f"# {image / FILES[0]}: not installed" in shown
    assert "ExecStart=/opt/gsvrd/bin/gsvrd run" in shown


def test_commands_where_the_service_cannot_see_them_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Test's temporary directories lie in /tmp, of which the service has its own."""
    (tmp_path / "gsvrd").touch()
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("gsvrd.cli.service._UNSEEN", (str(tmp_path),))
    done = service("install", "--dry-run")
    assert done.exit_code == os.EX_CONFIG
    assert "may not see" in done.output


def test_a_users_service_lies_in_that_users_directories() -> None:
    environ = {"HOME": "/home/an a", "XDG_CONFIG_HOME": "/home/an a/c%"}
    target = Target(commands=Path("/home/an a/v/bin"), user=True, environ=environ)
    steps = install(target, offline=None)
    written = [str(step.path) for step in steps if isinstance(step, Write)]
    assert written == ["/home/an a/c%/systemd/user/gsvrd.service", "/home/an a/c%/gsvrd/gsvrd.yaml"]
    text = unit_text(target)
    assert 'Environment="GSVRD_CONFIG=/home/an a/c%%/gsvrd/gsvrd.yaml"' in text
    assert "ExecStart=/home/an\\x20a/v/bin/gsvrd run\n" in text
    assert "WantedBy=default.target" in text
    for word in ("User=", "StateDirectory", "Protect", "/var/lib", "/etc"):
        assert word not in text
    assert str(steps[-1]) == "run     systemctl --user enable gsvrd.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_a_users_unit_has_nothing_systemd_would_complain_about(tmp_path: Path) -> None:
    commands = tmp_path / "a b" / "bin"
    commands.mkdir(parents=True)
    for name in ("gsvrd", "gsvrctl"):
        (commands / name).symlink_to("/bin/true")
    unit = tmp_path / "gsvrd.service"
    unit.write_text(unit_text(Target(commands=commands, user=True, environ={"HOME": str(tmp_path)})))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", unit],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "notice", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_guide_needs_ten_commands_at_most() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text()
    commands = guide.split("```console\n")[1].split("\n```")[0].splitlines()
    assert len(commands) <= 10
    assert "sudo /opt/gsvrd/bin/gsvrctl service install" in commands
