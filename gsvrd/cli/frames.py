"""The pictures of `gsvrctl watch`: one of a given size for terminals, one line for pipes. Decides nothing, reads nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gsvrd.cli.ending import end, lasting, short_end, speed
from gsvrd.cli.terminal import COLOURS, moment, sentences, since

Facts = dict[str, Any]

_STATES = {"PAUSED": "yellow", "CANCELLED": "dim", "COMPLETED": "green", "RUNNING": "green", "INITIALIZING": "cyan"}
_WIDE = 100


def console() -> Console:
    """One for whole pictures: rows are cut, never wrapped."""
    return Console(highlight=False)


def frame(facts: Facts, size: ConsoleDimensions) -> RenderableType:
    """The picture; no higher and no wider than `size`."""
    lines = [*_head(facts), *_closed(facts)]
    room = size.height - len(lines) - 1  # the last line of a terminal is left for its cursor
    for part in _parts(facts, size.width, room):
        above = 1 + bool(part.title) + part.has_header
        shown = min(part.wanted, room - above)
        is_cut = part.is_counted and shown < part.total
        if is_cut:
            shown = min(shown, room - above - 1)
        if shown < 1:
            continue
        title = [Text(part.title, style="dim")] if part.title else []
        more = [Text(f"… and {part.total - shown} more", style="dim")] if is_cut else []
        lines += [Text(""), *title, part.draw(shown), *more]
        room -= above + shown + is_cut
    return Group(*lines)


def _head(facts: Facts) -> list[RenderableType]:
    counts, performance = facts["counts"], facts["performance"]
    done, total = _ended(counts), sum(counts.values())
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(justify="right", no_wrap=True)
    bar.add_row(ProgressBar(total=max(1, total), completed=done), f"{100 * done // total}%" if total else "–")
    return [
        _first(facts),
        _cut(_counts(counts).append(_workers(facts) if facts["pid"] else "", style="dim")),
        bar,
        _cut(Text(end(performance, facts["at"], left=total - done) if facts["pid"] else _without(counts))),
        *([_cut(Text(words, style="dim"))] if (words := speed(performance)) and facts["pid"] else []),
    ]


def _first(facts: Facts) -> RenderableType:
    batch = facts["batch"]
    words = Text(batch["name"] if batch else "gsvrd", style="bold")
    if batch:
        words.append(f" {batch['state'].lower()}", style=f"bold {_STATES[batch['state']]}")
        words.append(f": {batch['hold']}" if batch["hold"] else "")
        words.append(" · daemon", style="dim")
    words.append(f" {facts['state']}", style=f"bold {COLOURS.get(facts['state'], '')}")
    words.append(since(facts["since"], facts["last_sign_at"]), style="")
    if facts["reason"] and facts["state"] != "blocked":
        words.append(f": {facts['reason']}", style="")
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    line.add_row(words, Text(time.strftime("%H:%M:%S", time.localtime(facts["at"])), style="dim"))
    return line


def _counts(counts: dict[str, int]) -> Text:
    line = Text(f"{_ended(counts)} of {sum(counts.values())} done")
    for state, word in (
        ("running", "running"),
        ("pending", "waiting"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
    ):
        if counts[state] or state in ("running", "pending"):
            line.append(" · ", style="dim")
            line.append(f"{counts[state]} {word}", style=COLOURS[state] if counts[state] else "dim")
    return line


def _workers(facts: Facts) -> str:
    """How many there are and should be, and what binds that."""
    up, target, cap = (facts["workers"].get(name) for name in ("up", "target", "cap"))
    if target is None:
        return ""
    number = f"{up} workers" if up == target else f"{up} workers, {target} wanted"
    return f" · {number} ({cap})" if cap else f" · {number}"


def _closed(facts: Facts) -> list[RenderableType]:
    """Doors that are closed, batches that are held and files that cannot be written, a line each."""
    lines = [Text(f"closed: {door['reason']}", style="red") for door in facts["doors"].values()]
    lines += [
        Text(f"progress file {note['file']}: {note['reason']}", style="yellow")
        for note in facts["notes"]
        if facts["batch"] is None or note["batch"] == facts["batch"]["name"]
    ]
    return [_cut(line) for line in lines[:4]]


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows that belong together."""

    title: str
    total: int
    wanted: int
    draw: Callable[[int], Table]
    """A table of so many of them."""
    has_header: bool = False
    is_counted: bool = False
    """Whether it is said how many are not shown."""


def _parts(facts: Facts, width: int, room: int) -> Iterator[_Part]:
    """What is below the head, the most important first; what is at the end is left out first."""
    busy, batches, errors, done = facts["running"], facts["batches"], facts["errors"], facts["done"]
    share = max(3, room // 3)
    most = max(share, room - 12)
    yield _Part("", len(busy), min(len(busy), most), lambda rows: _running(busy[:rows]), True, True)
    if len(batches) > 1:
        draw = partial(_batches, batches, facts["at"], width)
        yield _Part("", len(batches), min(len(batches), share), draw, True, True)
    yield _Part("last errors", len(errors), min(len(errors), 3 if done else share), lambda rows: _errors(errors[:rows]))
    yield _Part("last completed", len(done), len(done), lambda rows: _done(done[:rows], width))


def _running(rows: Sequence[Facts]) -> Table:
    right = ("worker", "task", "done", "time")
    table = _table("worker", "task", "video", "stage", "done", "time", wide="video", right=right)
    for row in rows:
        figures = (f"{row['fraction']:.0%}" if row["stage"] else "", lasting(row["seconds"]))
        table.add_row(str(row["worker"]), str(row["task"]), Text(row["name"]), Text(row["stage"]), *figures)
    return table


def _batches(batches: Sequence[Facts], now: float, width: int, rows: int) -> Table:
    table = _table("batch", "state", "done", "failed", "end", wide="batch", right=("done", "failed"))
    table.columns[-1].max_width = max(20, width * 2 // 5)
    for row in batches[:rows]:
        counts = row["counts"]
        table.add_row(
            Text(row["name"]),
            Text(row["state"].lower(), style=_STATES[row["state"]]),
            f"{_ended(counts)}/{sum(counts.values())}",
            str(counts["failed"] or ""),
            Text(row["hold"] or short_end(row["performance"], now)),
        )
    return table


def _errors(rows: Sequence[Facts]) -> Table:
    table = _table("", "", "", wide="", header=False)
    for row in rows:
        error = row["error"] or {}
        what = sentences(error.get("message", ""), error.get("hint", ""))
        table.add_row(moment(row["at"]), Text(row["name"]), Text(what, style="red"))
    table.columns[1].max_width = 30
    table.columns[2].ratio = 1
    return table


def _done(rows: Sequence[Facts], width: int) -> Table:
    table = _table("", "", "", *([""] if width >= _WIDE else []), header=False)
    for column in (1, *([3] if width >= _WIDE else [])):
        table.columns[column].ratio = 1
    table.columns[2].justify = "right"
    for row in rows:
        report = Text(row["reused"] or row["report"] or "", style="dim")
        cells = (moment(row["at"]), Text(row["name"]), lasting(row["seconds"]), report)
        table.add_row(*cells[: len(table.columns)])
    return table


def _table(*columns: str, wide: str = "", right: Sequence[str] = (), header: bool = True) -> Table:
    """Every row is one line, whatever is in it."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=header, expand=True)
    for column in columns:
        table.add_column(
            column,
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if column and column == wide else None,
            justify="right" if column in right else "left",
        )
    return table


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


# -- words ---------------------------------------------------------------------------------------------------------------


def gist(facts: Facts) -> object:
    """What has to change for another line in a pipe."""
    binding = (facts["performance"] or {}).get("binding") or {}
    state = facts["batch"] and facts["batch"]["state"]
    return state, facts["state"], facts["reason"], tuple(facts["counts"].items()), binding.get("bound")


def line(facts: Facts) -> str:
    """One line for a pipe."""
    counts, batch = facts["counts"], facts["batch"]
    total, done = sum(counts.values()), _ended(counts)
    state = batch["state"].lower() if batch else facts["state"]
    parts = [f"{time.strftime('%H:%M:%S', time.localtime(facts['at']))} {state}", _counts(counts).plain]
    if facts["pid"]:
        parts.append(end(facts["performance"], facts["at"], left=total - done))
    else:
        parts.append(_without(counts))
    reason = (batch and batch["hold"]) or facts["reason"]
    if reason and reason not in parts[-1]:
        parts.append(reason)
    return "; ".join(parts)


def _without(counts: dict[str, int]) -> str:
    left = counts["pending"] + counts["running"]
    return (
        f"{left} wait for the daemon, which does not run" if left else "the daemon does not run; nothing waits for it"
    )


def _ended(counts: dict[str, int]) -> int:
    return counts["completed"] + counts["failed"] + counts["cancelled"]
