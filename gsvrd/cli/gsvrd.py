"""`gsvrd`: run the daemon, check a configuration, try a video. Heavy parts are imported by the command that needs them."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import click

from gsvrd import __version__
from gsvrd.cli.common import Group, config_option, edge, home_option
from gsvrd.errors import SetupError


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gsvrd")
def main() -> None:
    """Turn videos into lesson plans: drop a video in inbox/, find a report in reports/."""


@main.command()
@home_option
@config_option
@edge
def run(home: Path, config_file: Path | None) -> None:
    """Run the daemon in the foreground.

    \b
    Signals: USR1 pauses, USR2 resumes, HUP reloads the configuration and rescans,
    TERM or INT drains and stops (a second one: at once).
    Exit codes: 0 drained, 64 usage, 65 damaged state, 75 another one runs,
    77 no permission, 78 configuration.
    """
    from gsvrd.daemon.signals import EARLY

    signal.pthread_sigmask(signal.SIG_BLOCK, EARLY)  # before the imports that take time

    import structlog

    from gsvrd import logs
    from gsvrd.config.load import load
    from gsvrd.daemon.run import run as run_daemon

    read = partial(load, home, config_file, os.environ)
    settings = read()
    logs.setup(settings.logs.level, settings.logs.format, process="gsvrd")
    try:
        run_daemon(settings, read)
    except SetupError:
        raise
    except Exception:  # noqa: BLE001 (an edge: the log keeps the traceback, redacted, and the service manager restarts)
        structlog.get_logger("gsvrd").critical("crashed", exc_info=True)
        raise SystemExit(os.EX_SOFTWARE) from None


@main.command()
@home_option
@config_option
@edge
def check(home: Path, config_file: Path | None) -> None:
    """Look for problems in the configuration without starting anything."""
    from gsvrd.config.load import fingerprint, load
    from gsvrd.config.places import find_file
    from gsvrd.daemon.run import verify

    settings = load(home, config_file, os.environ)
    verify(settings)
    used = config_file or find_file(settings.home, os.environ)
    click.echo(f"{used or 'the defaults'}: no problems (configuration {fingerprint(settings)})")


@main.command()
@click.argument("video", type=click.Path(path_type=Path))
@edge
def demo(video: Path) -> None:
    """Try VIDEO: start a daemon on a scratch directory, drop the video, show the report.

    The directory stays, and where it is is said at the end.
    """
    from gsvrd.cli.demo import show
    from gsvrd.config.models import Settings

    video = video.expanduser()  # make does not do it in VIDEO=~/...
    if not video.is_file():
        raise click.BadParameter(f"{video} is no file")
    suffixes = Settings().intake.suffixes
    if video.suffix.lower() not in suffixes:
        raise click.BadParameter(f"{video.name} is not named like a video ({' '.join(suffixes)})")
    raise SystemExit(show(video))
