"""How `gsvrctl` looks on a terminal. Takes the data that `--json` prints; decides nothing."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gsvrd.policy.spending import dollars

_COLOURS = {
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
_console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPED_COLUMNS)


def status(facts: dict[str, Any]) -> None:
    """`gsvrctl status`."""
    line = Text(facts["state"], style=f"bold {_COLOURS.get(facts['state'], '')}")
    if facts["since"]:
        line.append(f" since {_moment(facts['since'])}", style="")
    if facts["reason"]:
        line.append(f": {facts['reason']}", style="")
    _console.print(line)
    if not facts["pid"] and facts["pause_wish"]:
        _console.print("it will be paused at its next start")
    if facts["pid"]:
        _console.print(
            f"pid {facts['pid']}, gsvrd {facts['version']}, analyzer {facts['analyzer']}, "
            f"{facts['workers']['busy']} of {facts['workers']['up']} workers busy"
        )
    _console.print(" · ".join(f"{number} {state}" for state, number in facts["counts"].items()))
    if facts["machine"] and facts["running"]:
        machine = facts["machine"]
        workers = _size(machine["workers_bytes"])
        _console.print(f"machine: CPU {machine['cpu']:.0%}, memory {machine['memory']:.0%}; workers hold {workers}")
    intake = facts["intake"]
    if intake and intake.get("trouble"):
        _console.print(Text(f"inbox: {intake['trouble']}", style="red"))
    if facts["reload"] and facts["reload"]["problem"]:
        _console.print(Text(f"last reload refused: {facts['reload']['problem']}", style="red"))
    _running(facts["running"])
    _errors(facts["last_errors"])


def _running(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = _table("task", "video", "stage", "done", "time", "worker")
    for row in rows:
        name = escape(row["name"])
        table.add_row(
            str(row["task"]),
            name,
            row["stage"],
            f"{row['fraction']:.0%}",
            f"{row['seconds']:.0f} s",
            str(row["worker"]),
        )
    _console.print(table)


def _errors(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    _console.print("\nlast errors")
    table = _table("task", "when", "video", "what")
    for row in rows:
        what = escape(_sentences(row["message"], row["hint"]))
        table.add_row(str(row["task"]), _moment(row["at"]), escape(row["name"]), what)
    _console.print(table)


def tasks(rows: list[dict[str, Any]]) -> None:
    """`gsvrctl list`."""
    if not rows:
        _console.print("no tasks")
        return
    table = _table("task", "state", "changed", "size", "video", "report or reason")
    for row in rows:
        state = f"[{_COLOURS[row['state']]}]{row['state']}[/]"
        last = row["report"] if row["state"] == "completed" else row["why"]
        table.add_row(
            str(row["task"]),
            state,
            _moment(row["changed_at"]),
            _size(row["size"]),
            escape(row["name"]),
            escape(last or ""),
        )
    _console.print(table)


def task(facts: dict[str, Any]) -> None:
    """`gsvrctl show`."""
    _console.print(Text(f"task {facts['id']}: {facts['name']}", style="bold"))
    _console.print(f"{facts['state']}, {_size(facts['size'])}, source now in {facts['home']}")
    if facts["report"]:
        _console.print(f"report: {escape(facts['report'])}")
    if facts["sha256"]:
        _console.print(f"sha256: {facts['sha256']}")
    if facts["error"]:
        _console.print(Text(_sentences(facts["error"]["message"], facts["error"]["hint"]), style="red"))
    table = _table("when", "what", "attempt", "who", "why")
    for event in facts["events"]:
        table.add_row(
            _moment(event["at"]), event["change"], str(event["attempt"] or ""), event["actor"], escape(event["why"])
        )
    _console.print(table)


def _sentences(message: str, hint: str) -> str:
    ended = message if message.endswith((".", "!", "?", "。")) else f"{message}."
    return f"{ended[:1].upper()}{ended[1:]} {hint}".strip()


def spending(facts: dict[str, Any]) -> None:
    """`gsvrctl spend`."""
    table = _table("what", "calls", "tokens", "spent", "reserved")
    for group in ("today", "month", "total", "models", "batches"):
        for line in facts[group]:
            name = line["name"] if group in ("models", "batches") else group
            amounts = (dollars(line["settled"]), dollars(line["reserved"]))
            table.add_row(escape(name), str(line["requests"]), str(line["tokens"]), *amounts)
    _console.print(table)


def templates(rows: list[dict[str, Any]]) -> None:
    """`gsvrctl templates`."""
    table = _table("template", "version", "what it makes")
    for row in rows:
        table.add_row(escape(row["name"]), str(row["version"]), escape(row["description"]))
    _console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _moment(at: float) -> str:
    moment = datetime.fromtimestamp(at).astimezone()
    is_today = moment.date() == datetime.now().astimezone().date()
    return moment.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M")


def _size(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
