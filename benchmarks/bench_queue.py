"""No-op tasks through queue and pool, beside others: `python -m benchmarks.bench_queue [--quick]`.

Every contestant runs every discipline once a round, interleaved, so that a machine that slows down slows all of them.
Two classes are kept apart: what survives a kill of every process, and what survives a power cut (an fsync before each
answer). gsvrd as it is installed belongs to the second; in the first it is run with `synchronous = NORMAL` to be like the
others. CPU is user and system of all processes, the producer and services included.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure, race
from benchmarks.peers.base import NAMES, Peer, Safety, load
from benchmarks.race import Discipline, Result


@dataclass(frozen=True, slots=True)
class Event:
    """One discipline in one class, with so many tasks."""

    discipline: Discipline
    safety: Safety
    tasks: int
    slow_tasks: int

    def tasks_of(self, name: str) -> int:
        """A contestant with an fsync a task, or with a cost that grows with the backlog, gets fewer."""
        is_fast = name in ("gsvrd", "memory") or (name == "raw" and self.safety == "kill")
        return self.tasks if is_fast else self.slow_tasks

    @property
    def title(self) -> str:
        """For the table."""
        how = {"one": "one by one, end to end", "bulk": "in bulk, end to end", "drain": "drain"}[self.discipline]
        return f"{how}; {_CLASS[self.safety]}"


_CLASS = {"kill": "survives a kill", "power": "survives a power cut"}
_PROGRAMME = (
    Event("one", "kill", 3000, 2000),
    Event("bulk", "kill", 5000, 2000),
    Event("drain", "kill", 5000, 2000),
    Event("one", "power", 1000, 500),
    Event("bulk", "power", 4000, 500),
    Event("drain", "power", 4000, 500),
)
Results = dict[tuple[Event, str], list[Result]]


def main() -> None:
    """Run, then print the table and the goals."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round, a fifth of the tasks: to see that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a directory on the disk to be measured")
    parser.add_argument("--only", default=",".join(NAMES), help="contestants, comma-separated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as folder:
        measure.print_facts(Path(folder))
        names = _present(options.only.split(","))
        results = _run(names, 1 if options.quick else options.rounds, options.quick, Path(folder))
    measure.print_table(
        ("discipline", "contestant", "tasks/s: median (least-most)", "CPU s per 1,000"), _lines(results)
    )
    measure.print_table(("goal", "reached", "gsvrd", "beside"), _goals(results))


def _present(names: list[str]) -> list[str]:
    there = []
    for name in names:
        lack = load(name).missing()
        if lack:
            print(f"left out: {load(name).TITLE} ({lack})")
        else:
            there.append(name)
    return there


def _run(names: list[str], rounds: int, quick: bool, folder: Path) -> Results:
    results: Results = defaultdict(list)
    for _ in range(rounds):
        for event in _PROGRAMME:
            for name in names:
                if _takes_part(load(name), event):
                    tasks = event.tasks_of(name) // (5 if quick else 1)
                    results[event, name].append(race.run(name, event.discipline, event.safety, tasks, folder))
    return results


def _takes_part(peer: Peer, event: Event) -> bool:
    if not peer.SAFETIES:  # in memory: what it does is the same in every class, and there is no backlog to drain
        return event.safety == "kill" and event.discipline != "drain"
    return event.safety in peer.SAFETIES


def _lines(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            event.title,
            load(name).TITLE,
            measure.spread([run.rate for run in runs]),
            measure.spread([run.cpu_s_per_thousand for run in runs], "{:.3f}"),
        )
        for (event, name), runs in results.items()
    ]


def _goals(results: Results) -> list[tuple[str, ...]]:
    """The goals of the project, as ratios of medians of this run."""
    rates = {key: statistics.median(run.rate for run in runs) for key, runs in results.items()}
    lines = []
    for event in _PROGRAMME:
        ours = rates.get((event, "gsvrd"))
        if ours is None:
            continue
        peers = {name: rates[event, name] for name in ("litequeue", "huey", "dramatiq") if (event, name) in rates}
        if event.discipline != "drain" and peers:
            best = max(peers, key=lambda name: peers[name])
            lines.append(_ratio(f"{event.title}: >= 5 x best durable peer", ours, load(best).TITLE, peers[best]))
        if (event, "raw") in rates:
            goal = ">= 20 x" if (event.discipline, event.safety) == ("drain", "power") else ">= 1.0 x"
            lines.append(_ratio(f"{event.title}: {goal} raw SQLite", ours, load("raw").TITLE, rates[event, "raw"]))
        cpu = statistics.median(run.cpu_s_per_thousand for run in results[event, "gsvrd"])
        lines.append((f"{event.title}: <= 0.080 CPU s per 1,000", f"{cpu:.3f}", "", ""))
    return lines


def _ratio(goal: str, ours: float, name: str, theirs: float) -> tuple[str, ...]:
    return goal, f"{ours / theirs:.1f} x", f"{ours:,.0f}/s", f"{name}: {theirs:,.0f}/s"


if __name__ == "__main__":
    main()
