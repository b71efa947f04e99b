"""`gsvrctl doctor`: what keeps gsvrd from working well here, and what to do. The daemon may be up or down.

It writes nothing but a probe file in the inbox and its mounts, which it removes, and asks nobody outside unless `--online`
says so. What is looked at is in `doctor_places`, `doctor_machine`, `doctor_state` and `doctor_key`, imported when it runs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gsvrd.cli.common import edge, json_option
from gsvrd.cli.finding import Finding, Level, error, good

if TYPE_CHECKING:
    from gsvrd.cli.gsvrctl import Place
    from gsvrd.config.models import Config

SCHEMA = 1
_WORDS = {Level.GOOD: "good", Level.NOTE: "note", Level.WARNING: "warning", Level.ERROR: "error"}
_COLOURS = {Level.GOOD: "green", Level.NOTE: "cyan", Level.WARNING: "yellow", Level.ERROR: "red"}


@click.command()
@click.option("--online", is_flag=True, help="Also ask the service whether it takes the key.")
@json_option
@click.pass_context
@edge
def doctor(context: click.Context, online: bool, as_json: bool) -> None:
    """Look for what keeps gsvrd from working well here, and say what to do.

    Run it as the user the daemon runs as. Exit codes: 0 nothing is wrong, 1 a warning, 2 an error.
    """
    place: Place = context.obj
    findings = list(_examine(place, context.find_root().params["config_file"], online=online))
    if as_json:
        click.echo(json.dumps(_facts(findings), ensure_ascii=False, indent=2))
    else:
        _show(findings)
    sys.exit(max(0, *(finding.level for finding in findings)))


def _examine(place: Place, config_file: os.PathLike[str] | None, *, online: bool) -> Iterator[Finding]:
    from gsvrd.cli import doctor_key, doctor_machine, doctor_places, doctor_state
    from gsvrd.daemon.service import holder

    pid = holder(place.lock)
    config, configuration = _configuration(place, config_file)
    yield configuration
    yield from doctor_machine.look(pid, config)
    yield from doctor_state.look(place.database, pid)
    yield from doctor_places.look(place.places.directories)
    if config is not None:
        yield from doctor_key.look(config, pid, online=online)


def _configuration(place: Place, config_file: os.PathLike[str] | None) -> tuple[Config | None, Finding]:
    from pathlib import Path

    from gsvrd.config.load import load
    from gsvrd.config.places import find_file
    from gsvrd.errors import GsvrdError

    file = Path(config_file) if config_file else find_file(place.places.home, os.environ)
    try:
        config = load(place.places.home, file, os.environ)
    except GsvrdError as problem:
        return None, error("configuration", str(problem), f"{problem.hint} The defaults were looked at.".strip())
    return config, good("configuration", f"{file or 'the defaults'}: no problems")


def _facts(findings: list[Finding]) -> dict[str, object]:
    rows = [
        {"code": one.code, "level": _WORDS[one.level], "message": one.message, "hint": one.hint} for one in findings
    ]
    return {"schema": SCHEMA, "worst": _WORDS[max(max(one.level for one in findings), Level.GOOD)], "findings": rows}


def _show(findings: list[Finding]) -> None:
    from rich.text import Text

    from gsvrd.cli.terminal import console
    from gsvrd.config.document import printable

    for finding in findings:
        line = Text(f"{_WORDS[finding.level]:8}", style=_COLOURS[finding.level])
        console.print(line.append(printable(finding.message), style=""))
        if finding.hint:
            console.print(Text(f"{'':8}{printable(finding.hint)}", style="dim"))
