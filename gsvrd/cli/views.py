"""How `gsvrctl` looks on a terminal. Takes the data that `--json` prints; decides nothing."""

from __future__ import annotations

import time
from typing import Any

from rich.markup import escape
from rich.text import Text

from gsvrd.cli.ending import end
from gsvrd.cli.terminal import COLOURS, console, moment, sentences, since, size_of, table
from gsvrd.config.document import printable
from gsvrd.policy.spending import dollars

_LONG_S = 60.0
"""A message that waits so long is worth a line."""


def status(facts: dict[str, Any]) -> None:
    """`gsvrctl status`."""
    line = Text(facts["state"], style=f"bold {COLOURS.get(facts['state'], '')}")
    line.append(since(facts["since"], facts["last_sign_at"]), style="")
    if facts["reason"]:
        line.append(f": {facts['reason']}", style="")
    console.print(line)
    if not facts["pid"] and facts["pause_wish"]:
        console.print("it will be paused at its next start")
    if facts["pid"]:
        console.print(
            f"pid {facts['pid']}, gsvrd {facts['version']}, analyzer {facts['analyzer']}, "
            f"{facts['workers']['busy']} of {facts['workers']['up']} workers busy{_wanted(facts['workers'])}"
        )
    console.print(" · ".join(f"{number} {state}" for state, number in facts["counts"].items()))
    if facts["machine"] and facts["running"]:
        console.print(_machine(facts["machine"]))
    intake = facts["intake"]
    if intake and intake.get("trouble"):
        console.print(Text(f"inbox: {intake['trouble']}", style="red"))
    if facts["reload"] and facts["reload"]["problem"]:
        console.print(Text(f"last reload refused: {facts['reload']['problem']}", style="red"))
    for held in facts["held"]:
        console.print(Text(f"batch {printable(held['name'])} is held: {printable(held['reason'])}", style="yellow"))
    _webhooks(facts["webhooks"])
    if facts["restored"]:
        console.print(Text(_restored_line(facts["restored"]), style="yellow"))
    if facts["snapshots"]:
        console.print(Text(f"the last snapshot failed: {facts['snapshots']['reason']}", style="red"))
    if facts["progress"]:
        _progress(facts["progress"])
    _running(facts["running"])
    _errors(facts["last_errors"])


def _machine(machine: dict[str, Any]) -> str:
    """Shares that could not be read are not told."""
    cpu, memory = machine["cpu"], machine["memory"]
    shares = [f"CPU {cpu:.0%}" if cpu is not None else "", f"memory {memory:.0%}" if memory is not None else ""]
    return f"machine: {', '.join(filter(None, shares))}; workers hold {size_of(machine['workers_bytes'])}"


def _wanted(workers: dict[str, Any]) -> str:
    """What binds their number; `gsvrctl explain workers` has the words for it."""
    if workers["target"] is None:
        return ""
    number = "" if workers["target"] == workers["up"] else f"{workers['target']} wanted, "
    return f" ({number}bound by {workers['cap']})" if workers["cap"] else f" ({number.rstrip(', ')})" if number else ""


def _webhooks(facts: dict[str, Any]) -> None:
    last = facts["last_dead"]
    if last:
        what = f"webhooks: {facts['dead']} messages were given up, the last to {last['url']}: {last['last_error']}"
        console.print(Text(printable(f"{what} (`gsvrctl webhooks`)"), style="red"))
    if facts["pending"] and time.time() - facts["oldest_at"] > _LONG_S:
        console.print(Text(f"webhooks: {facts['pending']} wait, since {moment(facts['oldest_at'])}", style="yellow"))


def _progress(facts: dict[str, Any]) -> None:
    counts, batches = facts["overall"]["counts"], facts["overall"]["batches"]
    if left := counts["pending"] + counts["running"]:
        ends = end(facts["overall"]["performance"], time.time(), left=left)
        console.print(Text(f"{counts['total'] - left} of {counts['total']} in {batches} open batches; {ends}"))
    for note in facts["notes"]:
        console.print(Text(f"progress file {note['file']}: {note['reason']}", style="yellow"))


def _running(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    grid = table("task", "video", "stage", "done", "time", "worker")
    for row in rows:
        name = escape(row["name"])
        grid.add_row(
            str(row["task"]),
            name,
            row["stage"],
            f"{row['fraction']:.0%}",
            f"{row['seconds']:.0f} s",
            str(row["worker"]),
        )
    console.print(grid)


def _errors(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    console.print("\nlast errors")
    grid = table("task", "when", "video", "what")
    for row in rows:
        what = escape(sentences(row["message"], row["hint"]))
        grid.add_row(str(row["task"]), moment(row["at"]), escape(row["name"]), what)
    console.print(grid)


def tasks(rows: list[dict[str, Any]]) -> None:
    """`gsvrctl list`."""
    if not rows:
        console.print("no tasks")
        return
    grid = table("task", "state", "changed", "size", "video", "report or reason")
    for row in rows:
        state = f"[{COLOURS[row['state']]}]{row['state']}[/]"
        last = row["report"] if row["state"] == "completed" else row["why"]
        grid.add_row(
            str(row["task"]),
            state,
            moment(row["changed_at"]),
            size_of(row["size"]),
            escape(row["name"]),
            escape(last or ""),
        )
    console.print(grid)


def task(facts: dict[str, Any]) -> None:
    """`gsvrctl show`."""
    console.print(Text(f"task {facts['id']}: {facts['name']}", style="bold"))
    console.print(f"{facts['state']}, {size_of(facts['size'])}, source now in {facts['home']}")
    if facts["report"]:
        console.print(f"report: {escape(facts['report'])}")
    if facts["sha256"]:
        console.print(f"sha256: {facts['sha256']}")
    if facts["error"]:
        console.print(Text(sentences(facts["error"]["message"], facts["error"]["hint"]), style="red"))
    grid = table("when", "what", "attempt", "who", "why")
    for event in facts["events"]:
        grid.add_row(
            moment(event["at"]), event["change"], str(event["attempt"] or ""), event["actor"], escape(event["why"])
        )
    console.print(grid)


def spending(facts: dict[str, Any]) -> None:
    """`gsvrctl spend`."""
    grid = table("what", "calls", "tokens", "spent", "reserved")
    for group in ("today", "month", "total", "models", "batches"):
        for line in facts[group]:
            name = line["name"] if group in ("models", "batches") else group
            amounts = (dollars(line["settled"]), dollars(line["reserved"]))
            grid.add_row(escape(name), str(line["requests"]), str(line["tokens"]), *amounts)
    console.print(grid)


def templates(rows: list[dict[str, Any]]) -> None:
    """`gsvrctl templates`."""
    grid = table("template", "version", "what it makes")
    for row in rows:
        grid.add_row(escape(row["name"]), str(row["version"]), escape(row["description"]))
    console.print(grid)


def checkpoint(facts: dict[str, Any]) -> None:
    """`gsvrctl checkpoint create`."""
    console.print(f"made {facts['name']} ({size_of(facts['size_bytes'])})")


def checkpoints(rows: list[dict[str, Any]]) -> None:
    """`gsvrctl checkpoint list`."""
    if not rows:
        console.print("no snapshots")
        return
    grid = table("snapshot", "made", "why", "size", "tables", "gsvrd", "configuration", "tasks")
    for row in rows:
        tasks = " · ".join(f"{number} {state}" for state, number in row["counts"].items() if number)
        grid.add_row(
            escape(row["name"]),
            moment(row["at"]),
            escape(row["reason"]),
            size_of(row["size_bytes"]),
            str(row["schema"]),
            escape(row["program"]),
            escape(row["configuration"]),
            Text(row["problem"], style="red") if row["problem"] else tasks,
        )
    console.print(grid)


def verified(rows: list[dict[str, Any]]) -> None:
    """`gsvrctl checkpoint verify`."""
    for row in rows:
        console.print(Text(row["problem"] or f"{row['name']} is good", style="red" if row["problem"] else ""))
    if not rows:
        console.print("no snapshots")


def restored(facts: dict[str, Any]) -> None:
    """`gsvrctl checkpoint restore`."""
    console.print(Text(_restored_line(facts)))


def _restored_line(facts: dict[str, Any]) -> str:
    source = f"the snapshot {facts['snapshot']}" if facts["snapshot"] else "a fresh database"
    aside = f"; the former one lies beside it as {facts['aside']}" if facts["aside"] else ""
    return f"the database was replaced by {source} ({facts['why']}){aside}"
