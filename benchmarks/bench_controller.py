"""How good is the controller: `python -m benchmarks.bench_controller [--seed N] [--random N] [--ablate | --eta]`.

Plays every named scenario, and as many random ones as asked for, with the daemon's controller, its rivals and each fixed
size. A share is of the best fixed size, found by sweep with the same admission, limiter and retries. Any seed may be given;
those below 1000 were in use while the controller was made, and the default is none of them. `--ablate` leaves out one part
at a time, `--eta` shows how good the forecast of the end is while the controller works.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure
from benchmarks.simulator import scenarios
from benchmarks.simulator.ablations import PARTS
from benchmarks.simulator.contest import NAMES, Row, contest, settings_of
from benchmarks.simulator.engine import Engine, Outcome
from benchmarks.simulator.forecast import Forecast, forecasts
from benchmarks.simulator.world import Scenario

_HEADS = ("scenario", "best", "who", "share", "p95 in system", "429s", "kills", "lost", "changes/h", "mean size")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--seed", type=int, default=5000, help="of the named scenarios, and the first of the random ones"
    )
    parser.add_argument("--random", type=int, default=80, help="how many random scenarios")
    parser.add_argument("--only", default="", help="part of the names of the scenarios to play")
    parser.add_argument("--ablate", action="store_true", help="what each part of the controller is worth")
    parser.add_argument("--eta", action="store_true", help="how good the forecast of the end is")
    options = parser.parse_args()
    measure.print_facts(Path.cwd())
    named = [scenarios.named(one.__name__, options.seed) for one in scenarios.NAMED if options.only in one.__name__]
    fresh = [scenarios.anything(options.seed + number) for number in range(options.random)]
    if options.ablate:
        _ablate(named, fresh)
    elif options.eta:
        _forecast(named, fresh)
    else:
        _compare(named, fresh)


def _compare(named: Sequence[Scenario], fresh: Sequence[Scenario]) -> None:
    measure.print_table(_HEADS, [_cells(row) for scenario in named for row in contest(scenario, NAMES)])
    rows = [row for scenario in fresh for row in contest(scenario, NAMES)]
    if rows:
        measure.print_table(("of random scenarios", *_SUMMARY), [(who, *_summary(rows, who)) for who in NAMES])


_SUMMARY = ("mean share", "at least 95 %", "least", "429s", "kills", "lost", "changes/h: median", "most")


def _summary(rows: Sequence[Row], who: str) -> tuple[str, ...]:
    found = [row for row in rows if row.who == who]
    shares = [row.share for row in found]
    changes = [row.changes_per_hour for row in found]
    return (
        f"{statistics.mean(shares):.1%}",
        f"{sum(share >= 0.95 for share in shares) / len(shares):.0%}",
        f"{min(shares):.1%}",
        f"{sum(row.outcome.refused for row in found) / max(1, sum(row.outcome.calls for row in found)):.2%}",
        str(sum(row.outcome.kills for row in found)),
        str(sum(row.outcome.lost for row in found)),
        f"{statistics.median(changes):.1f}",
        f"{max(changes):.1f}",
    )


def _cells(row: Row) -> tuple[str, ...]:
    outcome = row.outcome
    return (
        row.scenario,
        str(row.best),
        row.who,
        f"{row.share:.1%}",
        f"{measure.quantile(outcome.stays, 0.95) / 60:.0f} min" if outcome.stays else "-",
        f"{outcome.refused / outcome.calls:.1%}" if outcome.calls else "-",
        str(outcome.kills),
        str(outcome.lost),
        f"{row.changes_per_hour:.1f}",
        f"{outcome.worker_seconds / outcome.seconds:.1f}",
    )


def _ablate(named: Sequence[Scenario], fresh: Sequence[Scenario]) -> None:
    """Beside the whole controller, scenario by scenario."""
    whole = {scenario: _without("nothing left out", scenario) for scenario in [*named, *fresh]}
    rows = []
    for name in PARTS:
        found = {scenario: _without(name, scenario) for scenario in whole}
        costs = {scenario: one.per_hour / whole[scenario].per_hour - 1.0 for scenario, one in found.items()}
        worst = min(costs, key=lambda scenario: costs[scenario])
        changes = [one.changes * 3600.0 / max(3600.0, one.seconds) for one in found.values()]
        size = statistics.mean(one.worker_seconds / one.seconds for one in found.values())
        rows.append(
            (
                name,
                f"{statistics.mean(costs.values()):+.1%}",
                f"{costs[worst]:+.1%} in {worst.name} {worst.seed}",
                f"{statistics.mean(changes):.1f}",
                f"{max(changes):.1f}",
                f"{size:.1f}",
            )
        )
    measure.print_table(("without", "work an hour", "the least", "changes/h", "most", "mean size"), rows)


def _without(part: str, scenario: Scenario) -> Outcome:
    return Engine(scenario, PARTS[part](settings_of(scenario))).run()


def _forecast(named: Sequence[Scenario], fresh: Sequence[Scenario]) -> None:
    groups = [(scenario.name, forecasts(scenario)) for scenario in named]
    groups.append(("random", [one for scenario in fresh for one in forecasts(scenario)]))
    everything = [one for _, found in groups for one in found]
    groups.append(("all, nothing unforeseeable later", [one for one in everything if one.foreseeable]))
    groups.append(("all, the rest", [one for one in everything if not one.foreseeable]))
    groups.append(("all", everything))
    rows = [_forecast_row(name, found) for name, found in groups if found]
    measure.print_table(("scenario", "looks", "mean error of p50", "truth below p90", "in p10..p90"), rows)


def _forecast_row(name: str, found: Sequence[Forecast]) -> tuple[str, ...]:
    return (
        name,
        str(len(found)),
        f"{statistics.mean(abs(one.error) for one in found):.1%}",
        f"{sum(one.truth_s <= one.span.p90 for one in found) / len(found):.0%}",
        f"{sum(one.span.p10 <= one.truth_s <= one.span.p90 for one in found) / len(found):.0%}",
    )


if __name__ == "__main__":
    main()
