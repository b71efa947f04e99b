"""`gsvrctl reload`: have the daemon read its configuration again, and say how that went; `systemctl reload` waits for it."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import click

from gsvrd.cli.common import EXIT_DOWN, edge, fail

_PATIENCE_S = 30.0
"""How long the loop may take: longer than any turn of it, shorter than what systemd gives a reload."""


@click.command()
@click.pass_obj
@edge
def reload(place: Any) -> None:
    """Read the configuration again and look through the inbox.

    Returns when that is done; a configuration that is refused leaves the one in effect, and the exit code is 78.
    """
    from gsvrd.daemon.service import holder
    from gsvrd.store.reading import open_for_reading

    pid = holder(place.lock)
    if pid is None:
        fail(f"the daemon in {place.places.home} does not run", "It reads the configuration when it starts.", EXIT_DOWN)
        return
    reading = open_for_reading(place.database)
    before = reading.service("reload")
    os.kill(pid, signal.SIGHUP)
    end = time.monotonic() + _PATIENCE_S
    while (told := reading.service("reload")) == before:
        if time.monotonic() >= end:
            fail(f"the daemon (pid {pid}) did not confirm within {_PATIENCE_S:.0f} s", "See its log.", os.EX_TEMPFAIL)
        time.sleep(0.02)
    if told["problem"]:
        fail(f"the configuration is refused: {told['problem']}", "The one before stays in effect.", os.EX_CONFIG)
    click.echo(f"The daemon (pid {pid}) has read its configuration again.")
    sys.exit(os.EX_OK)
