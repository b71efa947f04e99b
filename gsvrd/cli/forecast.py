"""How `gsvrctl plan` looks on a terminal. Takes the data that `--json` prints; decides nothing.

Names and messages come from files: they are printed as they are, never as markup.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.text import Text

from gsvrd.cli.bulletin import bound, ends
from gsvrd.cli.terminal import console, size_of, table
from gsvrd.config.document import printable
from gsvrd.policy.spending import dollars

_MOST = 40


def plan(facts: dict[str, Any]) -> None:
    """`gsvrctl plan`."""
    if not facts["videos"]:
        _line("There is nothing to do: the inbox has nothing new, and nothing waits.")
        return
    _videos([one for one in facts["videos"] if one["verdict"] != "skipped"], billed=facts["model"] is not None)
    _held([one for one in facts["videos"] if one["verdict"] == "held"])
    _skipped([one for one in facts["videos"] if one["verdict"] == "skipped"])
    console.print()
    for verdict, total in facts["totals"].items():
        if total["videos"]:
            _total(verdict, total, facts)
    if facts["totals"]["done"]["videos"]:
        _finish(facts)
    for limit in facts["limits"]:
        spent, wanted = dollars(limit["spent_micro"]), dollars(limit["wanted_micro"])
        what = (
            f"The cost limit {limit['scope']} is {dollars(limit['limit_micro'])}: {spent} are spent, {wanted} wanted."
        )
        _line(what, "yellow")
    _line("Nothing was written, moved or called.", "dim")


def _videos(videos: list[dict[str, Any]], *, billed: bool) -> None:
    if not videos:
        return
    grid = table("video", "template", "language", "length", *(["tokens", "cost"] if billed else []), "")
    for column in grid.columns[1:]:
        column.no_wrap = True
    for one in videos[:_MOST]:
        money = [_tokens(one), _money(one["cost_micro"])] if billed else []
        name = Text(printable(one["name"]))
        grid.add_row(name, one["template"], one["language"], _length(one), *money, Text(_note(one), style="dim"))
    console.print(grid)
    _more(videos)


def _note(one: dict[str, Any]) -> str:
    if one["verdict"] == "held":
        return "held"
    if one["link"]:
        return "a link, fetched first" if one["duration_s"] is None else "a link, at most"
    return {"known": "no call", "unsure": "perhaps known"}.get(
        one["code"], "queued" if one["source"] == "queue" else ""
    )


def _held(videos: list[dict[str, Any]]) -> None:
    reasons = Counter((one["batch"], one["held"]) for one in videos)
    if reasons:
        console.print(Text("\nheld", style="dim"))
    for (batch, why), count in reasons.items():
        _line(f"{count} of {batch}: {why}" if batch else f"{count}: {why}")


def _skipped(videos: list[dict[str, Any]]) -> None:
    if not videos:
        return
    console.print(Text("\nskipped", style="dim"))
    grid = table("", "")
    grid.show_header = False
    for one in videos[:_MOST]:
        grid.add_row(Text(printable(one["name"])), Text(printable(one["why"])))
    console.print(grid)
    _more(videos)


def _more(videos: list[dict[str, Any]]) -> None:
    if len(videos) > _MOST:
        _line(f"and {len(videos) - _MOST} more; --json has all of them", "dim")


def _total(verdict: str, total: dict[str, Any], facts: dict[str, Any]) -> None:
    """A line for those of a verdict."""
    if verdict == "skipped":
        _line(f"{total['videos']} skipped.")
        return
    length = f", {_span(total['duration_s'])} of video" if total["duration_s"] else ""
    words = {"done": "would be done", "held": "held"}[verdict]
    weight = f" {_weight(total, facts)}" if facts["model"] and total["unknown"] < total["videos"] else ""
    unknown = (
        f" {total['unknown']} could not be weighed and are not counted." if facts["model"] and total["unknown"] else ""
    )
    _line(f"{total['videos']} {words} ({size_of(total['size'])}{length}).{weight}{unknown}")


def _weight(total: dict[str, Any], facts: dict[str, Any]) -> str:
    money = "at an unknown price"
    if total["cost_micro"] is not None:
        money = dollars(_cents(total["cost_micro"]))
        if total["cost_most_micro"] > total["cost_micro"]:
            money += f", {dollars(_cents(total['cost_most_micro']))} at most"
    guess = (
        ""
        if facts["answers_measured"] or not total["calls"]
        else ", with the longest answers, since there was none yet"
    )
    calls = "1 call" if total["calls"] == 1 else f"{total['calls']} calls"
    tokens = _rough(total["tokens_in"] + total["tokens_out"])
    return f"{calls} to {facts['model']}, about {tokens:,} tokens: {money}{guess}."


def _finish(facts: dict[str, Any]) -> None:
    finish = facts["finish"]
    why = bound(finish["binding"])
    start = "" if facts["state"] == "running" else f" if the daemon went on now (it is {facts['state']})"
    if not finish["finish_at"]:
        _line(f"Nobody can say yet when it would be done. {why}".rstrip())
        return
    workers = "1 worker" if finish["workers"] == 1 else f"{finish['workers']} workers"
    _line(f"{ends(finish['finish_at'])}{start}, with {workers}. {why}".rstrip())


def _tokens(one: dict[str, Any]) -> str:
    return "?" if one["tokens_in"] is None else f"{one['tokens_in'] + one['tokens_out']:,}"


def _money(micro: int | None) -> str:
    return "?" if micro is None else dollars(_cents(micro))


def _cents(micro: int) -> int:
    """Estimates are not told to a hundredth of a cent; what costs something is never told to be free."""
    return micro if micro < 10_000 else -(-micro // 10_000) * 10_000


def _rough(count: int) -> int:
    """With three digits: it is an estimate."""
    return round(count, min(0, 3 - len(str(count))))


def _length(one: dict[str, Any]) -> str:
    if one["duration_s"] is None:
        return "?"
    return _span(one["duration_s"]) if one["measured"] else f"~{_span(one['duration_s'])}"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _line(text: str, style: str = "") -> None:
    console.print(Text(printable(text), style=style), soft_wrap=False)
