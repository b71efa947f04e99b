"""Does anything get lost or doubled, whatever happens? `python -m benchmarks.bench_chaos [--kills 1000] [--points 80]
[--cuts 100] [--seed 1] [--folder DIR]`; the parts that are named are run, and all three when none is.

Kills strike a working daemon, its workers or all of them at random moments; points kill or fail exact system calls
(`strace`); cuts take the power away (root and loop devices). The harness is that of the tests, `tests/support`. Every
violation is printed with where it was found; the exit status is 1 when there was one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import measure

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # where pytest, too, finds the harness

from support import cuts, points, storm

_STORM_KILLS = 50
"""Kills of one home; then the next begins with another seed, so that a find can be repeated alone."""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, nargs="?", const=1000, help="random kills (1000)")
    parser.add_argument("--points", type=int, nargs="?", const=80, help="kills at exact system calls (80), and errors")
    parser.add_argument("--cuts", type=int, nargs="?", const=100, help="power cuts (100)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a directory on the disk to be used")
    options = parser.parse_args()
    every = options.kills is options.points is options.cuts is None
    found = storm.Findings()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name:
        folder = Path(name)
        measure.print_facts(folder)
        if options.kills or every:
            found = found.plus(_kills(folder / "kills", options.kills or 1000, options.seed))
        if options.points or every:
            found = found.plus(_points(folder / "points", options.points or 80))
        if options.cuts or every:
            found = found.plus(_cuts(folder, options.cuts or 100, options.seed))
    for kind, places in found.violations.items():
        for place in places:
            print(f"{kind}: {place}")
    raise SystemExit(1 if found.violations else 0)


# -- kills ---------------------------------------------------------------------------------------------------------------


def _kills(folder: Path, kills: int, seed: int) -> storm.Findings:
    began, results = time.monotonic(), []
    for number, done in enumerate(range(0, kills, _STORM_KILLS)):
        # Every third storm shoots only at daemons, with no retry allowed: none may be charged to a video.
        spares_workers = number % 3 == 2
        strikes, more = (storm.DAEMON_STRIKES, storm.STRICT) if spares_workers else (storm.ALL_STRIKES, storm.PATIENT)
        with storm.storm_on(folder / str(number), seed * 1000 + number, more) as raging:
            result = raging.rage(min(_STORM_KILLS, kills - done), strikes)
        results.append(result)
        print(f"storm {number}: {len(result.findings.violations)} kinds of violations", file=sys.stderr)
    found = storm.Findings()
    for number, result in enumerate(results):
        found = found.plus(result.findings.labelled(f"storm of seed {seed * 1000 + number}"))
    happened: dict[str, int] = {}
    for result in results:
        for what, count in result.happened.items():
            happened[what] = happened.get(what, 0) + count
    _print_findings(f"{kills} kills, {found.files} files, {time.monotonic() - began:.0f} s", found)
    measure.print_table(("what happened", "times"), sorted(happened.items()))
    _print_times(results)
    return found


def _print_times(results: list[storm.Result]) -> None:
    restarts = [seconds for result in results for seconds in result.restart_s]
    outlived = [seconds for result in results for seconds in result.outlived_s]
    measure.print_table(
        ("seconds", "times", "p50", "p99", "most", "goal"),
        [
            ("start -> ready", *_quantiles(restarts), "p99 <= 2 s"),
            ("daemon dead -> the last of its processes gone", *_quantiles(outlived), "<= 2 s"),
        ],
    )


def _quantiles(seconds: list[float]) -> tuple[object, ...]:
    quantiles = (measure.quantile(seconds, share) for share in (0.5, 0.99))
    return (len(seconds), *(f"{quantile:.2f}" for quantile in quantiles), f"{max(seconds):.2f}")


# -- points --------------------------------------------------------------------------------------------------------------


def _points(folder: Path, count: int) -> storm.Findings:
    if reason := points.why_not():
        print(f"points: left out, {reason}\n")
        return storm.Findings()
    folder.mkdir()
    began = time.monotonic()
    chosen = points.choose(points.reference(folder / "reference"), count)
    hits = [points.kill_at(folder / str(number), point) for number, point in enumerate(chosen)]
    found = _all_of(hits)
    _print_findings(f"{len(hits)} kill points, {_struck(hits)} met, {time.monotonic() - began:.0f} s", found)
    by_call = {
        point.call: [hit for other, hit in zip(chosen, hits, strict=True) if other.call == point.call]
        for point in chosen
    }
    measure.print_table(("call", "points", "met"), [(call, len(some), _struck(some)) for call, some in by_call.items()])
    began = time.monotonic()
    faults = [points.fail_at(folder / f"fault-{number}", fault) for number, fault in enumerate(points.FAULTS)]
    failed = _all_of(faults)
    _print_findings(
        f"{len(faults)} kinds of failing calls, {_struck(faults)} met, {time.monotonic() - began:.0f} s", failed
    )
    return found.plus(failed)


def _all_of(hits: list[points.Hit]) -> storm.Findings:
    found = storm.Findings()
    for hit in hits:
        found = found.plus(hit.findings.labelled(hit.what))
    return found


def _struck(hits: list[points.Hit]) -> int:
    return sum(hit.struck for hit in hits)


# -- cuts ----------------------------------------------------------------------------------------------------------------


def _cuts(folder: Path, count: int, seed: int) -> storm.Findings:
    if reason := cuts.why_not(folder):
        print(f"cuts: left out, {reason}\n")
        return storm.Findings()
    began = time.monotonic()
    done = cuts.run(folder, count, seed)
    _print_findings(f"{count} power cuts, {time.monotonic() - began:.0f} s", done.findings)
    measure.print_table(
        ("of all cuts", ""),
        [
            ("cuts with an attempt under way", done.in_work),
            ("outcomes seen before", done.seen),
            ("rows on the disk after", done.accepted),
        ],
    )
    return done.findings


def _print_findings(title: str, found: storm.Findings) -> None:
    counts = [len(getattr(found, kind)) for kind in storm.VIOLATIONS]
    measure.print_table((title, *storm.VIOLATIONS), [("", *counts)])


if __name__ == "__main__":
    main()
