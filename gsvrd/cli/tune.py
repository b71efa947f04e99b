"""`gsvrd tune`: what the number of workers would have been with other settings, by readings that were recorded.

The daemon records one every ten seconds while there is work, and keeps half a day of them. `--export` writes them to a file,
one JSON object a line; without `--replay` they are taken from the database of the home.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import click

from gsvrd.cli.common import config_option, edge, fail, home_option

SCHEMA = 1
_HEAD = {"kind": "gsvrd-readings", "schema": SCHEMA}


@click.command()
@home_option
@config_option
@click.option("--replay", type=click.File(encoding="utf-8"), help="A file of readings, instead of those in the home.")
@click.option(
    "--export", "target", type=click.File("w", encoding="utf-8"), help="Write the readings there (- is stdout)."
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Another setting, such as max=12; many times."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@edge
def tune(
    home: Path,
    config_file: Path | None,
    replay: TextIO | None,
    target: TextIO | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run recorded readings through other settings, and print where the number of workers would differ.

    It tells the next step at each reading, not what would have come of it: with more workers, later readings would have been
    others. Keys: min, max, initial, tick_s, cooldown_s, cpu_high, memory_high, api_error_high, response_high_s, history.
    """
    values = dict(map(_pair, settings))
    readings = _from_file(replay) if replay else _from_home(home, config_file)
    if target is not None:
        _export(readings, target)
        return
    try:
        facts = _compared(readings, values)
    except ValueError as error:
        raise click.UsageError(f"--set: {error}") from error
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for line in _told(facts):
        click.echo(line)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name or not value:
        raise click.UsageError(f"--set {text}: it is KEY=VALUE, such as max=12")
    return name.strip(), value.strip()


def _from_home(home: Path, config_file: Path | None) -> Iterator[Any]:
    from gsvrd.config.places import find_places
    from gsvrd.store.decisions import readings
    from gsvrd.store.reading import open_for_reading

    places = find_places(home, config_file, os.environ)
    yield from readings(open_for_reading(places.state / "gsvrd.db").conn)


def _from_file(file: TextIO) -> Iterator[Any]:
    import msgspec

    from gsvrd.policy.replay import Reading

    for number, line in enumerate(file, 1):
        try:
            if number == 1:
                if json.loads(line) != _HEAD:
                    raise ValueError("the first line is not that of readings of this version")
                continue
            yield msgspec.json.decode(line, type=Reading)
        except (ValueError, msgspec.MsgspecError) as error:
            hint = "Such a file is written by `gsvrd tune --export FILE`."
            fail(f"{file.name}:{number}: {error}", hint, os.EX_DATAERR)


def _export(readings: Iterable[Any], target: TextIO) -> None:
    import msgspec

    target.write(json.dumps(_HEAD) + "\n")
    for reading in readings:
        target.write(msgspec.json.encode(reading).decode() + "\n")


def _compared(readings: Iterable[Any], values: dict[str, str]) -> dict[str, Any]:
    from gsvrd.policy.replay import replay

    total, other, rows, last = 0, 0, [], None
    for one in replay(readings, values):
        total += 1
        other += one.differs
        if one.differs and (one.was, one.now) != last:
            rows.append(asdict(one))
        last = (one.was, one.now) if one.differs else None
    return {"schema": SCHEMA, "set": values, "readings": total, "differing": other, "differences": rows}


def _told(facts: dict[str, Any]) -> Iterator[str]:
    from gsvrd.cli.terminal import moment

    if not facts["readings"]:
        yield "There are no readings yet: the daemon records one every ten seconds while there is work."
        return
    for row in facts["differences"]:
        yield f"{moment(row['at'])}  {row['was']} ({row['was_cap']}) would be {row['now']} ({row['now_cap']})"
    yield f"{facts['differing']} of {facts['readings']} decisions differ."
