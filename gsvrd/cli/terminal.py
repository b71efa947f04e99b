"""What all views of the commands are made of: one console, and how moments, sizes and sentences are written."""

from __future__ import annotations

import sys
from datetime import datetime

from rich.console import Console
from rich.table import Table

COLOURS = {
    "running": "green",
    "paused": "yellow",
    "draining": "yellow",
    "blocked": "red",
    "stopped": "red",
    "pending": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "dim",
}

_PIPED_COLUMNS = 200
"""Whoever reads a pipe wants rows whole; 80 columns would break names in the middle."""
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPED_COLUMNS)


def sentences(message: str, hint: str) -> str:
    """A message and its hint as whole sentences."""
    ended = message if message.endswith((".", "!", "?", "。")) else f"{message}."
    return f"{ended[:1].upper()}{ended[1:]} {hint}".strip()


def table(*columns: str) -> Table:
    """A plain table."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def moment(at: float) -> str:
    """A wall time; without its day if that is today."""
    then = datetime.fromtimestamp(at).astimezone()
    is_today = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M")


def since(at: float | None, last_sign_at: float | None) -> str:
    """Since when it is so, or, of a daemon that ended without a word, after which moment; empty when nobody knows."""
    if at is not None:
        return f" since {moment(at)}"
    return "" if last_sign_at is None else f" some time after {moment(last_sign_at)}, its last sign of life"


def size_of(size: float) -> str:
    """Bytes in few digits."""
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
