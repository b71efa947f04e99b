"""What both commands share: finding the home and the configuration, and ending with a sentence instead of a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from gsvrd.errors import GsvrdError, SetupError

P = ParamSpec("P")
T = TypeVar("T")

EXIT_DOWN = 3
"""The daemon does not run; the figure LSB init scripts and `systemctl status` use."""
RIGHTS_HINT = "Be the user that the daemon runs as, such as with `sudo -u gsvrd`."

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="GSVRD_HOME",
    default=Path(),
    show_default="the current directory",
    help="Directory that holds inbox/, reports/, archive/, failed/ and state/.",
)
config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="GSVRD_CONFIG",
    show_default="config/gsvrd.yaml in the home, if there is one",
    help="Configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON; the fields are in docs/status.md.")


def edge(function: Callable[P, T]) -> Callable[P, T]:
    """Errors of ours end the command with a sentence on stderr and their exit code."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except GsvrdError as error:
            fail(str(error), error.hint, error.exit_code if isinstance(error, SetupError) else os.EX_SOFTWARE)
            raise AssertionError from None
        except PermissionError as error:
            fail(f"you may not use {error.filename or 'this'}", RIGHTS_HINT, os.EX_NOPERM)
            raise AssertionError from None

    return wrapped


def fail(message: str, hint: str, exit_code: int) -> None:
    """Say what is wrong on stderr and exit."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
    if hint:
        click.echo(f"  {hint}", err=True)
    sys.exit(exit_code)


class Group(click.Group):
    """Usage errors end with the exit code of sysexits, not with click's 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """See click."""
        click.UsageError.exit_code = os.EX_USAGE
        return super().main(*args, **kwargs)
