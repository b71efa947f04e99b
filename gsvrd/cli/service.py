"""`gsvrctl service install|uninstall|show`: gsvrd as a service of systemd. What is done is planned in `service_plan`."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

import click

import gsvrd
from gsvrd.cli.common import edge, fail
from gsvrd.cli.service_plan import Folder, Keep, Remove, Run, Step, Target, Write, install, master, uninstall, unit_text

_UNSEEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - named, not used
"""The service has no sight of these, so nothing of ours may lie there."""

_user = click.option("--user", is_flag=True, help="For your own manager (systemctl --user), without root.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_root = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    default=Path("/"),
    help="Prepare the image of a machine below this directory instead, with the commands in /opt/gsvrd/bin.",
)


@click.group()
def service() -> None:
    """Make gsvrd a service of systemd, or take that back."""


@service.command(name="install")
@_user
@_root
@_dry_run
@click.option(
    "--offline/--online", default=None, help="Without any network, for analyzer: local.", show_default="as it is"
)
@edge
def install_service(user: bool, root: Path, dry_run: bool, offline: bool | None) -> None:
    """Install the service, or bring it up to this version.

    Videos, reports, the queue and a configuration that is there are never touched.
    """
    if user and offline is not None:
        raise click.UsageError("--offline needs rights that a user's own manager does not have")
    target = _target(user, root)
    _see_commands(target)
    _carry_out(install(target, offline=offline), target, dry_run)
    if not dry_run:
        click.echo(_next(target))


@service.command(name="uninstall")
@_user
@_root
@_dry_run
@edge
def uninstall_service(user: bool, root: Path, dry_run: bool) -> None:
    """Stop the service and take it away.

    Videos, reports, the queue, the configuration, the key and the user stay.
    """
    target = _target(user, root)
    steps = uninstall(target)
    if not steps:
        click.echo("No service of gsvrd is installed.")
    _carry_out(steps, target, dry_run)


@service.command(name="show")
@_user
@_root
@edge
def show_service(user: bool, root: Path) -> None:
    """Print the files of the service as `install` would write them, and whether they lie there like that."""
    target = _target(user, root)
    texts = {path: master(name) for path, name in target.lists.items()} | {target.unit: unit_text(target)}
    for path, text in texts.items():
        click.echo(f"# {path}: {_standing(path, text)}\n{text}")
    click.echo(f"# {target.offline}: {_standing(target.offline, master(target.offline.name))}")
    click.echo(f"# {target.configuration}: {'there' if target.configuration.exists() else 'missing'}")


def _standing(path: Path, text: str) -> str:
    if not os.path.lexists(path):
        return "not installed"
    try:
        return "installed" if path.read_text(encoding="utf-8") == text else "installed, but it differs"
    except (OSError, UnicodeDecodeError):
        return "cannot be read"


def _target(user: bool, root: Path) -> Target:
    if user and root != Path("/"):
        raise click.UsageError("--user and --root do not go together")
    return Target(root, Path(sys.executable).parent, user) if root == Path("/") else Target(root)


def _see_commands(target: Target) -> None:
    """Refuse to install a unit that could not start."""
    if target.root != Path("/"):
        return
    if not (target.commands / "gsvrd").exists():
        fail(
            f"there is no gsvrd in {target.commands}", "Install the package, in /opt/gsvrd for example.", os.EX_NOINPUT
        )
    if target.user:
        return
    parts = (target.commands, Path(sys.base_prefix), Path(gsvrd.__file__))
    for part in parts:
        for folder in _UNSEEN:
            if part.resolve().is_relative_to(folder) or part.is_relative_to(folder):
                hint = "Install it elsewhere: python3 -m venv /opt/gsvrd && /opt/gsvrd/bin/pip install gsvrd"
                fail(f"{part} is in {folder}, which the service may not see", hint, os.EX_CONFIG)


def _carry_out(steps: list[Step], target: Target, dry_run: bool) -> None:
    if not dry_run:
        if not (target.user or os.geteuid() == 0):
            fail("a service of the machine needs root", "Use sudo, or --user, or --dry-run to look.", os.EX_NOPERM)
        for step in steps:
            if isinstance(step, Run) and shutil.which(step.words[0]) is None:
                fail(f"there is no {step.words[0]} here", "Is this a machine with systemd?", os.EX_UNAVAILABLE)
    for step in steps:
        click.echo(f"would {step}" if dry_run else str(step))
        if not dry_run:
            _do(step)


def _do(step: Step) -> None:
    try:
        match step:
            case Write():
                _write(step.path, step.text)
            case Folder():
                step.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            case Remove():
                step.path.unlink()
                with contextlib.suppress(OSError):  # drop-ins of the administrator keep it
                    step.path.parent.rmdir() if step.path.parent.suffix == ".d" else None
            case Run():
                _run(step.words)
            case Keep():
                pass
    except OSError as error:
        code = os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_CANTCREAT
        fail(f"{error.filename or step}: {error.strerror}", "What was done so far may be done again.", code)


def _write(path: Path, text: str) -> None:
    """All of it or nothing; never through a link, which may lead to /dev/null (a masked unit) or to a shared file."""
    import tempfile

    if path.is_symlink():
        fail(
            f"{path} is a link to {path.readlink()}",
            "A masked unit? systemctl unmask it, or remove the link.",
            os.EX_CANTCREAT,
        )
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with open(handle, "w", encoding="utf-8") as file:
        os.fchmod(handle, 0o644)
        file.write(text)
        file.flush()
        os.fsync(handle)
    Path(made).replace(path)


def _run(words: tuple[str, ...]) -> None:
    import subprocess

    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - words of ours
    if done.returncode:
        fail(f"{' '.join(words)}: {done.stderr.strip() or f'exit code {done.returncode}'}", "", os.EX_OSERR)


def _next(target: Target) -> str:
    ctl = "systemctl --user" if target.user else "systemctl"
    return (
        f"Installed. Settings: {target.configuration}\nStart it, or after an upgrade start it anew: {ctl} restart gsvrd"
    )
