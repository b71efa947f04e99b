"""`gsvrd`: run the daemon, check a configuration, try a video. Heavy parts are imported by the command that needs them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from gsvrd import __version__
from gsvrd.cli.common import Group, config_option, edge, home_option
from gsvrd.cli.shells import completion, manual
from gsvrd.cli.tune import tune
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
    os.umask(0o027)

    from gsvrd.daemon.service import Notifier
    from gsvrd.pool.forkserver import start_early

    notifier = Notifier(os.environ)  # takes out of the environment what no child may have
    start_early()  # it loads while we do

    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # structlog would load it for tracebacks we never print

    import structlog

    from gsvrd import logs
    from gsvrd.config.load import load
    from gsvrd.daemon.beginning import Beginning

    read = partial(load, home, config_file, os.environ)
    try:
        settings = read()
        logs.setup(settings.logs.level, settings.logs.format, process="gsvrd")
        beginning = Beginning(settings)  # it looks for damage while we load

        from gsvrd.daemon.run import run as run_daemon

        run_daemon(settings, read, notifier, beginning=beginning)
    except SetupError as error:
        notifier.status(f"{str(error).rstrip('.')}. {error.hint}")
        if not logs.is_journal():
            raise
        logs.setup("info", "auto", process="gsvrd")
        structlog.get_logger("gsvrd").critical("cannot_start", error=str(error), hint=error.hint)
        raise SystemExit(error.exit_code) from None
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


@main.command()
@home_option
@config_option
@click.option("--points", default="", help="Only these, with commas between.", show_default="all")
@click.option("--list-points", is_flag=True, help="Say which points there are, and do nothing.")
@click.option("--keep", is_flag=True, help="Leave the scratch folders there and say where.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@edge
def selftest(home: Path, config_file: Path | None, points: str, list_points: bool, keep: bool, as_json: bool) -> None:
    """Kill a scratch daemon at every crash point, on these file systems, and see that nothing is lost or done twice.

    It works in hidden folders of its own beside the configured directories (or in them, where they are mounted by
    themselves) and removes them; a daemon that runs there meanwhile is not disturbed.

    \b
    Exit codes: 0 nothing is lost, doubled or stray; 1 something is, or a point was not reached;
    64 usage, 77 no permission, 78 configuration.
    """
    from gsvrd.cli.selftest import selftest as run_selftest
    from gsvrd.config.load import load
    from gsvrd.crashpoints import POINTS

    if list_points:
        import json

        click.echo(json.dumps(dict(POINTS), indent=2) if as_json else _in_columns(POINTS))
        return
    wanted = tuple(filter(None, points.split(","))) or tuple(POINTS)
    if unknown := [point for point in wanted if point not in POINTS]:
        raise click.BadParameter(f"there is no point {unknown[0]!r}; --list-points says which there are")
    raise SystemExit(run_selftest(load(home, config_file, os.environ), wanted, keep=keep, as_json=as_json))


for command in (tune, completion, manual):
    main.add_command(command)


def _in_columns(points: Mapping[str, str]) -> str:
    width = max(map(len, points))
    return "\n".join(f"{name:<{width}}  {what}" for name, what in points.items())
