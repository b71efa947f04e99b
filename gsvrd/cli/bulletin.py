"""How `gsvrctl batches`, `batch` and `webhooks` look on a terminal. Takes the data that `--json` prints; decides nothing.

Names, paths and messages come from files and services: they are printed as they are, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
from rich.text import Text

from gsvrd.cli.terminal import COLOURS, console, moment, sentences, table
from gsvrd.config.document import printable
from gsvrd.policy.spending import dollars

STATES = {**COLOURS, "initializing": "cyan"}
_MOST_TASKS = 40
_FIRST = ("running", "failed", "pending", "completed", "cancelled")
_KINDS = {"folder": "a folder", "manifest": "a manifest", "loose": "loose videos"}
_BINDS = {
    "workers": "more workers would end it sooner",
    "parallel": "it is the batch's own limit `parallel` that binds",
    "largest": "the longest video binds",
    "retry": "a video that is tried again later binds",
    "quota": "the service's quota binds",
    "paused": "it is paused",
    "cost": "a cost limit binds",
    "unseen": "too few videos have been done to tell",
}


def batches(facts: dict[str, Any]) -> None:
    """`gsvrctl batches`."""
    if not facts["batches"]:
        console.print("no batches")
        return
    grid = table("no.", "batch", "state", "done", "failed", "left", "came", "spent")
    for batch in facts["batches"]:
        counts = batch["counts"]
        grid.add_row(
            str(batch["number"]),
            Text(printable(batch["name"])),
            Text(batch["state"].lower(), style=STATES[batch["state"].lower()]),
            f"{counts['completed']}/{sum(counts.values())}",
            str(counts["failed"] or ""),
            str(counts["pending"] + counts["running"] or ""),
            moment(batch["created_at"]),
            dollars(batch["cost_micro"]) if batch["requests"] else "",
        )
    console.print(grid)


def batch(facts: dict[str, Any]) -> None:
    """`gsvrctl batch NAME`."""
    _line(f"batch {facts['number']}: {facts['name']}", "bold")
    state = facts["state"].lower()
    head = Text(state, style=f"bold {STATES[state]}")
    if facts["hold"] or state == "paused":
        head.append(f": {printable(facts['hold'] or 'the daemon is paused')}", style="not bold")
    console.print(head, soft_wrap=False)
    _line(_counted(facts))
    _line(_times(facts), "dim")
    if facts["requests"]:
        reserved = f", {dollars(facts['reserved_micro'])} reserved" if facts["reserved_micro"] else ""
        _line(f"{facts['requests']} calls, {facts['tokens']:,} tokens, {dollars(facts['cost_micro'])} spent{reserved}")
    if facts["progress"]:
        _progress(facts["progress"])
    _tasks(facts["tasks"])


def _counted(facts: dict[str, Any]) -> str:
    said = [f"{number} {state}" for state, number in facts["counts"].items() if number]
    reused = f" ({facts['reused']} by a report of the same content)" if facts["reused"] else ""
    return (" · ".join(said) or "no video has come yet") + reused


def _times(facts: dict[str, Any]) -> str:
    said = [f"came as {_KINDS[facts['kind']]} {moment(facts['created_at'])}"]
    if facts["started_at"]:
        said.append(f"begun {moment(facts['started_at'])}")
    if facts["ended_at"]:
        said.append(f"ended {moment(facts['ended_at'])}")
    return ", ".join(said)


def _progress(progress: dict[str, Any]) -> None:
    span, binding = progress["finish_at"], progress["binding"]
    why = bound(binding)
    if span:
        _line(f"{ends(span)}. {why}".rstrip())
    elif binding:
        _line(f"Nobody can say yet when it is done. {why}")


def ends(span: dict[str, float]) -> str:
    """When it is done, and when it is so in nine cases of ten."""
    likely, late = moment(span["p50"]), moment(span["p90"])
    return f"Done about {likely}" if likely == late else f"Done about {likely}, rather sure by {late}"


def bound(binding: dict[str, Any] | None) -> str:
    """What keeps the work from ending sooner, as a sentence; empty when nothing does."""
    if not binding:
        return ""
    reason = "" if binding["bound"] == "unseen" else binding["reason"]
    return sentences(reason or _BINDS[binding["bound"]], "")


def _tasks(tasks: list[dict[str, Any]]) -> None:
    if not tasks:
        return
    ordered = sorted(tasks, key=lambda task: _FIRST.index(task["state"]))
    grid = table("task", "state", "video", "report or reason", "spent")
    for task in ordered[:_MOST_TASKS]:
        spent = dollars(task["cost_micro"]) if task["tokens"] or task["cost_micro"] else ""
        state = Text(task["state"], style=COLOURS[task["state"]])
        grid.add_row(str(task["task"]), state, Text(printable(task["name"])), Text(printable(_last(task))), spent)
    console.print()
    console.print(grid)
    if len(ordered) > _MOST_TASKS:
        _line(f"and {len(ordered) - _MOST_TASKS} more; --json has all of them", "dim")


def _last(task: dict[str, Any]) -> str:
    if task["state"] == "completed":
        return f"{task['reused']} (same content)" if task["reused"] else task["report"] or ""
    if task["state"] == "failed" and task["error"]:
        return sentences(task["error"].get("message", ""), task["error"].get("hint", ""))
    if task["state"] == "running" and task["stage"]:
        return f"{task['stage']}, {task['fraction']:.0%}"
    return str(task["why"])


def steered(facts: dict[str, Any]) -> None:
    """`gsvrctl batch NAME pause`, `resume` and `cancel`."""
    if not facts["done"]:
        name = facts["batch"]["name"] if facts["batch"] else facts["asked"]
        click.echo(f"{click.style('not done:', fg='red')} {printable(name)}: {printable(facts['message'])}", err=True)
        for match in facts["matches"]:
            row = (str(match["number"]), match["state"], match["kind"], moment(match["created_at"]))
            click.echo(f"  {'  '.join(row)}  {printable(match['name'])}", err=True)
        if facts["hint"]:
            click.echo(f"  {printable(facts['hint'])}", err=True)
        return
    found = facts["batch"]
    click.echo(f"batch {found['number']}, {printable(found['name'])}: {_deed(facts)}")
    if facts["message"]:
        click.echo(sentences(printable(facts["message"]), ""))
    if facts["dry_run"]:
        click.echo("Nothing was changed.")
    elif facts["action"] == "cancel":
        click.echo("The videos stay where they are and are not queued again; `gsvrctl retry` takes them back.")


def _deed(facts: dict[str, Any]) -> str:
    counts, would = facts["batch"]["counts"], "would be " if facts["dry_run"] else ""
    if facts["action"] == "cancel":
        videos = "video" if facts["cancelled"] == 1 else "videos"
        return f"{facts['cancelled']} {videos} {would}cancelled"
    rest = f"{counts['running']} running, {counts['pending']} waiting"
    if facts["action"] == "pause":
        return f"{would}paused ({rest}; what runs goes on)"
    return f"{would}resumed ({rest})"


def webhooks(facts: dict[str, Any]) -> None:
    """`gsvrctl webhooks`."""
    if facts["revived"] is not None:
        messages = "message is" if facts["revived"] == 1 else "messages are"
        console.print(f"{facts['revived']} dead {messages} sent again" if facts["revived"] else "nothing to send again")
    oldest = f", the oldest of {moment(facts['oldest_at'])}" if facts["oldest_at"] else ""
    console.print(f"{facts['pending']} waiting{oldest} · {facts['dead']} given up")
    _letters("waiting", facts["waiting"])
    _letters("given up; `gsvrctl webhooks --retry` sends them again", facts["given_up"])


def _letters(title: str, letters: Iterable[dict[str, Any]]) -> None:
    rows = list(letters)
    if not rows:
        return
    console.print(Text(f"\n{title}", style="dim"))
    grid = table("message", "event", "batch", "task", "to", "tries", "why")
    for one in rows:
        grid.add_row(
            one["id"],
            one["event"],
            str(one["batch"] or ""),
            str(one["task"] or ""),
            Text(printable(one["url"])),
            str(one["tries"]),
            Text(printable(one["last_error"])),
        )
    console.print(grid)


def _line(text: str, style: str = "") -> None:
    console.print(Text(printable(text), style=style), soft_wrap=False)
