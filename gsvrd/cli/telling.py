"""How `gsvrctl why`, `retry` and `cancel` look on a terminal. Takes the data that `--json` prints; decides nothing.

Names, paths and messages come from files and services: they are printed as they are, never as markup, and what is not
printable is escaped.
"""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from gsvrd.cli.terminal import COLOURS, console, moment, sentences, size_of
from gsvrd.config.document import printable
from gsvrd.policy.spending import dollars

_THEN = {"retry": "tried again after this", "fail": "given up", "release": "given back, not counted as a try"}


def why(facts: dict[str, Any]) -> None:
    """`gsvrctl why`."""
    if facts["file"]:
        _file(facts["file"])
    if facts["list"]:
        _list(facts["list"])
    if facts["awaited"]:
        _awaited(facts["awaited"])
    if facts["task"]:
        if facts["file"]:
            _line("\nAn earlier file of this name:", "dim")
        _task(facts["task"])
    if facts["others"]:
        _line("\nother tasks that may be meant, the newest first:", "dim")
        for other in facts["others"]:
            _line(f"{other['task']}  {other['state']}  {other['name']}", "dim")


def _file(file: dict[str, Any]) -> None:
    _line(file["path"], "bold")
    _line(f"has no task: {file['message']}.", "yellow")
    if file["hint"]:
        _line(_ended(file["hint"]))
    _line(f"{size_of(file['size'])}, last written {moment(file['written_at'])}", "dim")
    if file["configuration"]:
        _line("judged by the default settings, since the configuration has problems (`gsvrd check`)", "yellow")


def _list(told: dict[str, Any]) -> None:
    if told["path"]:
        _line(told["path"], "bold")
    _line(_ended(f"{told['message'][:1].upper()}{told['message'][1:]}"), "yellow")
    _line(told["hint"])
    rows = [("missing", video) for video in told["missing"]] + [("wrong", problem) for problem in told["problems"]]
    if told["errors"]:
        rows.append(("errors", told["errors"]))
    if rows:
        _rows(rows, wrap=False)


def _awaited(told: dict[str, Any]) -> None:
    _line(told["path"], "bold")
    _line(f"awaited: {told['message']}.", "yellow")
    _line(told["hint"])
    if told["options"]:
        _rows(_options(told["options"]))


def _task(task: dict[str, Any]) -> None:
    _line(f"task {task['id']}: {task['name']}", "bold")
    now = task["now"]
    head = Text(task["state"], style=f"bold {COLOURS[task['state']]}")
    head.append(f": {printable(sentences(now['message'] or 'no reason was given', now['hint']))}", style="not bold")
    console.print(head, soft_wrap=False)
    for wait in now["waits"]:
        if wait["until"] is not None:
            _line(f"it is due at {moment(wait['until'])}")
    _timeline(task)
    _places(task)


def _timeline(task: dict[str, Any]) -> None:
    _rows([(moment(entry["at"]), _words(entry, task)) for entry in task["timeline"]])


def _words(entry: dict[str, Any], task: dict[str, Any]) -> str:
    match entry["what"]:
        case "written":
            return f"last written to, {size_of(task['size'])}"
        case "queued":
            return f"queued with priority {task['priority']}"
        case "refused":
            return f"refused: {entry['why']}"
        case "waited":
            return f"waited {_span(entry['seconds'])}{' in line' if not entry['why'] else ''}"
        case "tried_again":
            return f"put back in line by {entry['by']}"
        case "cancelled":
            return entry["why"] if entry["why"].startswith("cancelled") else f"cancelled: {entry['why']}"
        case _:
            return _attempt(entry, task)


def _attempt(entry: dict[str, Any], task: dict[str, Any]) -> str:
    name = f"attempt {entry['number']}, {_span(entry['seconds'])}, worker {entry['worker']}"
    if entry["then"] == "complete":
        return f"{name}: done"
    if entry["stage"]:
        name += f", stage {entry['stage']}"
    if entry["until"] is None:
        return f"{name}: at work"
    if entry["then"] == "cancel":
        return f"{name}: ended, since the task was cancelled"
    cause = entry["cause"] or {"message": "no cause is known", "hint": ""}
    # The hint of the last failure stands at the top.
    hint = "" if entry["then"] == "fail" or not cause["hint"] else f". {cause['hint'].rstrip('.')}"
    return f"{name}: {cause['message'].rstrip('.')}{hint}; {_THEN.get(entry['then'], 'ended')}"


def _places(task: dict[str, Any]) -> None:
    where = task["where"]
    files = {"source": where["source"], "report": where["report"]}
    rows = [("batch", f"{task['batch']['name']} ({task['batch']['number']})")] if task["batch"] else []
    rows += [
        (name, file["path"] if file["exists"] else f"{file['path']} (not there any more)")
        for name, file in files.items()
        if file
    ]
    if where["failure_record"]:
        rows.append(("record", where["failure_record"]))
    if task["kept_stages"]:
        kept = ", ".join(stage["stage"] for stage in task["kept_stages"])
        rows.append(("kept", f"{kept}: not done again by the next attempt"))
    _rows([*rows, *_options(task["options"]), *_cost(task["cost"])], wrap=False)


def _options(options: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [("option", f"{one['name']}: {_value(one)} (said in {one['origin']})") for one in options]


def _value(option: dict[str, Any]) -> str:
    value = option["value"]
    if option["name"] == "cost_limit" and isinstance(value, int):
        return dollars(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cost(cost: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for call in cost["calls"]:
        tokens = call["tokens_in"] + call["tokens_out"] + call["tokens_thoughts"]
        unknown = f" ({call['unknown']} of unknown end, at the worst case)" if call["unknown"] else ""
        calls = "1 call" if call["calls"] == 1 else f"{call['calls']} calls"
        amount = f"{tokens} tokens, {dollars(call['cost_micro'])}" if call["lane"] == "generate" else "no charge"
        rows.append(("cost", f"{calls} to {call['model'] or 'the service'} ({call['lane']}): {amount}{unknown}"))
    if cost["reserved_micro"]:
        rows.append(("cost", f"reserved for calls under way: {dollars(cost['reserved_micro'])}"))
    return rows


def operated(facts: dict[str, Any]) -> None:
    """`gsvrctl retry` and `cancel`: what was done on standard output, what was not on standard error."""
    done = [result for result in facts["results"] if result["done"]]
    for result in done:
        click.echo(f"task {result['task']}, {printable(result['name'])}: {_deed(facts, result)}")
    if done:
        click.echo(_NOTES[facts["action"], facts["dry_run"]])
    elif not facts["results"]:
        click.echo("There is nothing to retry.")
    for result in facts["results"]:
        if not result["done"]:
            _not_done(result)


def _deed(facts: dict[str, Any], result: dict[str, Any]) -> str:
    would = "would be " if facts["dry_run"] else ""
    if facts["action"] == "retry":
        return f"{would}back in line"
    if result["before"] != "running":
        return f"{would}cancelled"
    return f"{would}cancelled{'; its attempt is being ended' if facts['pid'] and not facts['dry_run'] else ''}"


_NOTES = {
    ("cancel", False): "The video stays where it is and is not queued again; `gsvrctl retry` takes it back.",
    ("cancel", True): "Nothing was changed. The video would stay where it is and not be queued again.",
    ("retry", False): "Each has all its attempts again; what it has found out already is kept.",
    ("retry", True): "Nothing was changed.",
}


def _not_done(result: dict[str, Any]) -> None:
    name = printable(result["asked"])
    if result["name"]:
        name = f"task {result['task']}, {printable(result['name'])}"
    click.echo(f"{click.style('not done:', fg='red')} {name}: {printable(result['message'])}", err=True)
    for match in result["matches"]:
        click.echo(f"  {match['task']}  {match['state']}  {printable(match['name'])}", err=True)
    if result["hint"]:
        click.echo(f"  {printable(result['hint'])}", err=True)


def _line(text: str, style: str = "") -> None:
    console.print(Text("\n" * text.startswith("\n") + printable(text.lstrip("\n")), style=style))


def _rows(rows: list[tuple[str, str]], *, wrap: bool = True) -> None:
    """Two columns after an empty line. Paths are not wrapped, so that they can be copied; no line ends in spaces."""
    console.print()
    indent = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        words = Text(printable(text))
        lines = words.wrap(console, max(20, console.width - indent)) if wrap else [words]
        for number, line in enumerate(lines):
            line.rstrip()
            console.print(Text.assemble((("" if number else name).ljust(indent), "dim"), line))


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?", "。")) else f"{text}."


def _span(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
