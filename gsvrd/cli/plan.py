"""`gsvrctl plan`: what would be done, what it would cost and when it would end. Nothing is written, moved or called.

Everything it needs is imported when it runs; the data that `--json` prints is made here, `forecast` has the words.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import click

from gsvrd.cli.common import edge, json_option
from gsvrd.model import TaskState, said

if TYPE_CHECKING:
    from gsvrd.cli.gsvrctl import Place
    from gsvrd.cli.planning import Item
    from gsvrd.cli.weighing import Scales
    from gsvrd.config.models import Config
    from gsvrd.policy.progress import Door, Progress, Waiting
    from gsvrd.store.foresight import Foresight
    from gsvrd.store.standing import Standing

SCHEMA = 1
_FORECAST = ("remaining_s", "finish_at", "per_hour", "binding")


@click.command()
@click.argument("paths", metavar="[PATH...]", nargs=-1)
@json_option
@click.pass_context
@edge
def plan(context: click.Context, paths: tuple[str, ...], as_json: bool) -> None:
    """Say what would be done with the videos in the inbox and in the queue: what is skipped and why, cost and finish time.

    With PATH (videos, folders, manifests) it is said for these instead of the inbox; they may lie anywhere. Costs are
    estimates. Exit codes: 0 done, 66 a PATH that is missing or wrong.
    """
    from gsvrd.cli.lengths import readied

    with readied():
        from gsvrd.config.load import load

        place: Place = context.obj
        config = load(place.places.home, context.find_root().params["config_file"], os.environ)
        facts = _facts(place, config, paths)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        from gsvrd.cli.forecast import plan as show

        show(facts)
    asked_wrong = any(video["source"] == "asked" and video["code"] == "refused" for video in facts["videos"])
    sys.exit(os.EX_NOINPUT if asked_wrong else os.EX_OK)


def _facts(place: Place, config: Config, paths: Sequence[str]) -> dict[str, Any]:
    from gsvrd.cli import status
    from gsvrd.cli.judging import Judging
    from gsvrd.cli.planning import Planning
    from gsvrd.cli.weighing import Scales
    from gsvrd.store.courses import open_for_courses
    from gsvrd.store.foresight import Foresight
    from gsvrd.store.reading import Reading

    conn = open_for_courses(place.database).conn if place.database.exists() else None
    with closing(conn) if conn else nullcontext():
        now = time.time()
        foresight = Foresight(conn) if conn else None
        daemon = status.status(Reading(conn), place.places, place.lock) if conn else status.down(place.places)
        scales = Scales(config, foresight, now)
        items = Planning(config, foresight, daemon, scales.settings.templates).everything(paths)
        Judging(config, scales, foresight).judge(items)
        return {
            "schema": SCHEMA,
            "at": now,
            "pid": daemon["pid"],
            "state": daemon["state"],
            "analyzer": scales.settings.analyzer,
            "model": scales.settings.gemini.model if scales.is_billed else None,
            "answers_measured": scales.has_measured_answers,
            "videos": [_item(item) for item in items],
            "totals": {verdict: _total(items, verdict) for verdict in ("done", "held", "skipped")},
            "finish": _finish(items, config, scales, foresight, now),
            "limits": _limits(items, config, scales, foresight),
        }


def _item(item: Item) -> dict[str, Any]:
    weight = item.weight
    return {
        "name": item.name,
        "path": item.path.decode("utf-8", "backslashreplace") if item.path else None,
        "link": item.link.name if item.link else None,
        "task": item.task,
        "source": item.source,
        "batch": item.batch,
        "verdict": item.verdict,
        "code": item.code,
        "why": item.why,
        "held": item.held,
        "template": item.template,
        "language": item.language,
        "size": item.size,
        "duration_s": None if item.duration_s is None else round(item.duration_s, 1),
        "measured": item.is_measured,
        "calls": weight.calls if weight else None,
        "tokens_in": weight.tokens_in if weight else None,
        "tokens_out": weight.tokens_out if weight else None,
        "cost_micro": weight.cost_micro if weight else None,
        "cost_most_micro": weight.cost_most_micro if weight else None,
    }


def _total(items: Sequence[Item], verdict: str) -> dict[str, Any]:
    """Sums; of money None when a price is not known, and `unknown` is how many could not be weighed."""
    mine = [item for item in items if item.verdict == verdict]
    weights = [item.weight for item in mine if item.weight]
    costs = [weight.cost_micro for weight in weights if weight.cost_micro is not None]
    most = [weight.cost_most_micro for weight in weights if weight.cost_most_micro is not None]
    return {
        "videos": len(mine),
        "size": sum(item.size for item in mine),
        "duration_s": round(sum(item.duration_s or 0.0 for item in mine), 1),
        "unknown": sum(item.weight is None for item in mine) if verdict != "skipped" else 0,
        "calls": sum(weight.calls for weight in weights),
        "tokens_in": sum(weight.tokens_in for weight in weights),
        "tokens_out": sum(weight.tokens_out for weight in weights),
        "cost_micro": sum(costs) if len(costs) == len(weights) else None,
        "cost_most_micro": sum(most) if len(most) == len(weights) else None,
    }


# -- when it ends ----------------------------------------------------------------------------------------------------------


def _finish(
    items: Sequence[Item], config: Config, scales: Scales, foresight: Foresight | None, now: float
) -> dict[str, Any]:
    """The forecast if the daemon went on now with all its workers. What is held, and what needs no study, is left out."""
    from gsvrd.daemon.figures import performance
    from gsvrd.store.standing import Standing

    told: dict[str, Any] = {"per_hour": None, "remaining_s": None, "finish_at": None}
    told["binding"] = {"bound": "unseen", "reason": "No video has been done yet", "until": None}
    if foresight:
        counts = dict.fromkeys((state.value for state in TaskState), 0)
        told = performance(_forecast(items, scales, Standing(foresight.conn), now, config.workers.most), counts)
    return {"workers": config.workers.most, **{name: told[name] for name in _FORECAST}}


def _forecast(items: Sequence[Item], scales: Scales, standing: Standing, now: float, workers: int) -> Progress:
    from gsvrd.policy.progress import ProgressMonitor, Running

    monitor, kind = ProgressMonitor(), scales.settings.analyzer
    seen = standing.service("progress") or {"kind": kind, "kind_since": 0}
    if seen["kind"] == kind:  # else all that is known of is how long another analyzer takes
        for finished in standing.ended(0, kind, seen["kind_since"]):
            monitor.add(finished)
    return monitor.look(
        now,
        running=[
            Running(row["size"], None, max(0.0, now - row["started_at"]), kind=kind) for row in standing.running()
        ],
        waiting=_grouped([item for item in items if item.verdict == "done" and item.code != "known"], kind),
        workers=workers,
        doors=list(_doors(scales, standing, now)),
    )


def _grouped(items: Sequence[Item], kind: str) -> list[Waiting]:
    """A long backlog in groups of about one size, as `ProgressMonitor` wants it."""
    from gsvrd.policy.progress import SINGLY, Waiting

    groups: dict[int, int] = {}
    single = [item for item in items[:-SINGLY] if item.due_at]
    for item in items[:-SINGLY]:
        if not item.due_at:
            groups[item.size >> 25] = groups.get(item.size >> 25, 0) + 1
    waiting = [Waiting((bucket << 25) + (1 << 24), count=count, kind=kind) for bucket, count in groups.items()]
    last = [*single, *items[-SINGLY:]]
    return waiting + [Waiting(item.size, due_at=item.due_at, kind=kind) for item in last]


def _doors(scales: Scales, standing: Standing, now: float) -> Iterator[Door]:
    """What the service's days and the limits on cost will keep from starting."""
    from gsvrd.daemon.figures import doors_ahead
    from gsvrd.daemon.outlook import Allowance

    if scales.is_billed:
        gemini = scales.config.analyzer.gemini
        limits = (gemini.requests_per_day, gemini.cost_limit_day, gemini.cost_limit_total)
        allowance = Allowance(gemini.project, gemini.model, *limits)
        yield from doors_ahead(allowance, standing.used(gemini.project, gemini.model, now))


# -- what would stop it ----------------------------------------------------------------------------------------------------


def _limits(items: Sequence[Item], config: Config, scales: Scales, foresight: Foresight | None) -> list[dict[str, Any]]:
    """The limits on cost that would stop it, by what is expected: `scope`, `limit_micro`, `spent_micro`, `wanted_micro`."""
    if not scales.is_billed:
        return []
    gemini, done = config.analyzer.gemini, [item for item in items if item.verdict == "done"]
    everything = foresight.sums(None) if foresight else None
    scopes = [
        ("in total", gemini.cost_limit_total, everything.total.settled if everything else 0, done),
        ("today", gemini.cost_limit_day, everything.day.settled if everything else 0, done),
    ]
    for batch, number, limit, mine in _by_batch(done, gemini.cost_limit_batch):
        spent = foresight.sums(number).batch.settled if foresight and number is not None else 0
        scopes.append((f"for the batch {batch}", limit, spent, mine))
    return [
        {"scope": scope, "limit_micro": limit, "spent_micro": spent, "wanted_micro": wanted}
        for scope, limit, spent, mine in scopes
        if limit is not None and spent + (wanted := sum(_cost(item) for item in mine)) > limit
    ]


def _by_batch(items: Sequence[Item], usual: int | None) -> list[tuple[str, int | None, int | None, list[Item]]]:
    batches: dict[tuple[str, int | None], list[Item]] = {}
    for item in items:
        batches.setdefault((item.batch, item.batch_number), []).append(item)
    return [
        (name, number, said(mine[0].options, "cost_limit", usual), mine)
        for (name, number), mine in batches.items()
        if name
    ]


def _cost(item: Item) -> int:
    return (item.weight.cost_micro or 0) if item.weight else 0
