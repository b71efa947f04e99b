"""What the configuration says about metrics, in this room's words. Light: it is made when all is off, too."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gsvrd.policy.limiter import APILimits
from gsvrd.policy.spending import CostLimits


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """`listen` is an address and port, or the path of a unix socket; None is off. So is `textfile`."""

    listen: tuple[str, int] | Path | None
    textfile: Path | None
    textfile_s: float
    """Seconds between two writes of it."""
    project: str
    model: str
    """The configured one; empty when no service is asked."""
    limits: APILimits
    cost: CostLimits
    directories: Mapping[str, Path]


def parse_listen(text: str, state: Path) -> tuple[str, int] | Path | None:
    """From `metrics.listen`, which the configuration has checked; a socket's path starts at the state directory."""
    if not text:
        return None
    if text.startswith("unix:"):
        return state / text.removeprefix("unix:")
    host, _, port = text.rpartition(":")
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)
