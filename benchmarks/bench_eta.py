"""How good is the forecast of the end: `python -m benchmarks.bench_eta [--quick] [--seed N]`.

Simulated batches of every shape of `batches.py`, looked at when 10, 25, 50, 75 and 90 % are done. Beside the forecast stand
the plan's formula, remaining x mean, and the same shared among the workers. Any seed may be given: those in use while the
forecast was made were below 200, and the default is none of them. Last, what a look costs with a backlog of 100,000.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from benchmarks import measure
from benchmarks.batches import DONE_SHARES, SHAPES, Batch, Look, looks
from gsvrd.model import OutcomeKind
from gsvrd.policy.progress import SINGLY, Finished, ProgressMonitor, Running, Waiting

_HEADS = (
    "what",
    "looks",
    "error of p50",
    "median error",
    "remaining x mean",
    "the same / workers",
    "bias",
    "truth below p90",
    "in p10..p90",
)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="5 batches of each shape instead of 20")
    parser.add_argument("--seed", type=int, default=20_000, help="of the first batch of each shape")
    options = parser.parse_args()
    measure.print_facts(Path.cwd())
    by_shape = {shape.__name__: _looks(shape, options.seed, 5 if options.quick else 20) for shape in SHAPES}
    everything = [look for found in by_shape.values() for look in found]
    rows = [_row(name.replace("_", " "), found) for name, found in by_shape.items()]
    rows += [_row(f"all, {share:.0%} done", [x for x in everything if x.share == share]) for share in DONE_SHARES]
    rows.append(_row("all, nothing unforeseeable later", [look for look in everything if look.foreseeable]))
    rows.append(_row("all", everything))
    rows.append(("goal", "", "20 %", "", "", "", "", "85-95 %", "80-95 %"))
    measure.print_table(_HEADS, rows)
    measure.print_table(
        ("what waits", "groups", "CPU of a look, nothing new", "of one after an attempt ended"), _costs()
    )


def _looks(shape: Callable[[Random], Batch], first: int, count: int) -> list[Look]:
    found = list[Look]()
    for seed in range(first, first + count):
        rng = Random(f"{shape.__name__}-{seed}")
        found += looks(shape(rng), rng)
    return found


def _row(title: str, found: Sequence[Look]) -> tuple[str, ...]:
    errors = [look.error for look in found]
    return (
        title,
        str(len(found)),
        _percent([abs(error) for error in errors]),
        f"{measure.quantile([abs(error) for error in errors], 0.5):.0%}",
        _percent([abs(look.naive_s / look.truth_s - 1) for look in found]),
        _percent([abs(look.shared_s / look.truth_s - 1) for look in found]),
        f"{sum(errors) / len(errors):+.0%}",
        _percent([look.truth_s <= look.span.p90 for look in found]),
        _percent([look.span.p10 <= look.truth_s <= look.span.p90 for look in found]),
    )


def _percent(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.1%}"


def _costs() -> list[tuple[str, ...]]:
    """In milliseconds of CPU, the median of some."""
    rng, rows = Random(1), list[tuple[str, ...]]()
    sizes = [int(3e8 * rng.lognormvariate(0.0, 0.8)) for _ in range(100_000)]
    groups = dict[int, int]()
    for size in sizes[:-SINGLY]:
        groups[size >> 25] = groups.get(size >> 23, 0) + 1
    grouped = [Waiting((bucket << 25) + (1 << 24), count=count) for bucket, count in groups.items()]
    grouped += [Waiting(size) for size in sizes[-SINGLY:]]
    for title, waiting in (("100,000", grouped), ("100", [Waiting(size) for size in sizes[:100]])):
        monitor = ProgressMonitor()
        for number in range(300):
            monitor.add(Finished(sizes[number], None, rng.uniform(50, 300), number, OutcomeKind.SUCCEEDED))
        same, fresh = [], []
        for number in range(10):
            fresh.append(_ms(monitor, waiting))
            same.append(_ms(monitor, waiting))
            monitor.add(Finished(sizes[number], None, rng.uniform(50, 300), number, OutcomeKind.SUCCEEDED))
        rows.append(
            (
                title,
                str(len(waiting)),
                f"{measure.quantile(same, 0.5):.1f} ms",
                f"{measure.quantile(fresh, 0.5):.1f} ms",
            )
        )
    return rows


def _ms(monitor: ProgressMonitor, waiting: Sequence[Waiting]) -> float:
    running = [Running(300_000_000, 1800.0, 60.0 * number) for number in range(8)]
    start = time.thread_time()
    monitor.look(1000.0, running=running, waiting=waiting, workers=8)
    return (time.thread_time() - start) * 1000


if __name__ == "__main__":
    main()
