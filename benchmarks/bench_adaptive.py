"""Does the daemon find the right number of workers: `python -m benchmarks.bench_adaptive [--quick] [--seconds N]`.

The real daemon with more to do than it can, for so many seconds, once with each fixed number of workers and once left to
itself, all with the same files in the same order: tasks that compute, that wait, both, that want memory, and that compute
beside a neighbour who eats a core. What is done counts by what it asked for, so that nobody gains by doing the small ones
first. The window begins with the daemon's very first start: what it costs to find the number out is in its figure; the last
column leaves the first half out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks import measure
from benchmarks.daemon import Daemon, running
from gsvrd.daemon.beginning import DATABASE
from gsvrd.daemon.cgroups import ControlGroups

SIZES = (1, 2, 4, 8)
QUICK_SIZES = (2, 8)
MOST = 8
_HEADS = (
    "work",
    "workers",
    "done",
    "of the best fixed",
    "changes",
    "requeued for memory",
    "deaths",
    "kernel kills",
    "lost",
    "second half",
)


@dataclass(frozen=True, slots=True)
class Mix:
    """What the files ask for."""

    name: str
    load: Callable[[Random], dict[str, float]]
    weight: Callable[[dict[str, float]], float]
    """Seconds that a task stands for."""
    per_second: float
    """At the most so much weight is done a second; for the number of files."""
    budget: str = "auto"
    neighbour: bool = False


def _cpu(rng: Random) -> dict[str, float]:
    return {"cpu_s": min(4.0, rng.lognormvariate(-0.5, 0.5))}


def _sleep(rng: Random) -> dict[str, float]:
    return {"sleep_s": min(8.0, rng.lognormvariate(0.5, 0.5))}


def _both(rng: Random) -> dict[str, float]:
    return {"cpu_s": rng.uniform(0.1, 0.3), "sleep_s": rng.uniform(0.5, 2.0)}


def _memory(rng: Random) -> dict[str, float]:
    return {"memory_mb": min(500.0, 120.0 * rng.lognormvariate(0.0, 0.5)), "sleep_s": rng.uniform(1.0, 3.0)}


def _of(*names: str) -> Callable[[dict[str, float]], float]:
    return lambda load: sum(load.get(name, 0.0) for name in names)


MIXES = (
    Mix("computes", _cpu, _of("cpu_s"), 2.5),
    Mix("waits", _sleep, _of("sleep_s"), 8.5),
    Mix("both", _both, _of("cpu_s", "sleep_s"), 8.5),
    Mix("wants memory", _memory, _of("sleep_s"), 8.5, budget="1200MB"),
    Mix("computes, beside a neighbour", _cpu, _of("cpu_s"), 2.5, neighbour=True),
)
_QUICK = ("computes", "wants memory")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one window."""

    done: float
    """Weight."""
    late: float
    """Of that, in the second half."""
    changes: int
    requeued: int
    deaths: int
    kills: int
    lost: int


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two kinds of work, two sizes, 15 seconds each")
    parser.add_argument("--seconds", type=float, help="of each window (240)")
    parser.add_argument("--only", help="only this kind of work", choices=[mix.name for mix in MIXES])
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    seconds = options.seconds or (15.0 if options.quick else 240.0)
    measure.print_facts(Path.cwd())
    rows: list[tuple[str, ...]] = []
    for mix in MIXES:
        if options.only in (None, mix.name) and not (options.quick and options.only is None and mix.name not in _QUICK):
            rows += _rows(mix, QUICK_SIZES if options.quick else SIZES, seconds, options.seed)
    measure.print_table(_HEADS, rows)


def _rows(mix: Mix, sizes: tuple[int, ...], seconds: float, seed: int) -> Iterator[tuple[str, ...]]:
    fixed = {size: _run(mix, size, seconds, seed) for size in sizes}
    own = _run(mix, None, seconds, seed)
    best, best_late = max(run.done for run in fixed.values()), max(run.late for run in fixed.values())
    for name, run in (*((str(size), run) for size, run in fixed.items()), ("by itself", own)):
        yield (
            mix.name,
            name,
            f"{run.done:.0f} s",
            f"{run.done / best:.1%}" if best else "-",
            str(run.changes),
            str(run.requeued),
            str(run.deaths),
            str(run.kills),
            str(run.lost),
            f"{run.late / best_late:.1%}" if best_late else "-",
        )


def _run(mix: Mix, size: int | None, seconds: float, seed: int) -> Run:
    home = Path(tempfile.mkdtemp(prefix="gsvrd-adaptive-"))
    try:
        weights = _files(home / "inbox", mix, seconds, seed)
        kills = ControlGroups().read().oom_kills or 0
        with _neighbour(mix.neighbour), running(home, "benchmarks.toil:make", environ=_environ(mix, size)) as daemon:
            began = time.time()
            time.sleep(seconds)
            return _what_came_of_it(daemon, weights, began, time.time(), kills)
    finally:
        shutil.rmtree(home)


def _environ(mix: Mix, size: int | None) -> dict[str, str]:
    fixed = {"GSVRD_WORKERS__ADAPTIVE": "false", "GSVRD_WORKERS__MAX": str(size)}
    return {
        "GSVRD_ANALYZER": "probe",
        "GSVRD_SERVICE__DRAIN": "0s",
        "GSVRD_WORKERS__MEMORY_BUDGET": mix.budget,
        **({"GSVRD_WORKERS__MAX": str(MOST)} if size is None else fixed),
    }


def _files(inbox: Path, mix: Mix, seconds: float, seed: int) -> dict[str, float]:
    """More than can be done; returns what each stands for."""
    inbox.mkdir()
    rng, weights, total = Random(f"{mix.name}-{seed}"), dict[str, float](), 0.0
    while total < 1.2 * mix.per_second * seconds:
        load, name = mix.load(rng), f"{len(weights):06}.mp4"
        (inbox / name).write_text(json.dumps({**load, "name": name}))
        weights[name] = mix.weight(load)
        total += weights[name]
    return weights


def _what_came_of_it(daemon: Daemon, weights: dict[str, float], began: float, ended: float, kills: int) -> Run:
    with closing(sqlite3.connect(daemon.home / "state" / DATABASE, timeout=30)) as conn:
        done = conn.execute("SELECT name, changed_at FROM tasks WHERE state = 'completed'").fetchall()
        (changes,) = conn.execute("SELECT count(*) FROM decisions").fetchone()
        (lost,) = conn.execute("SELECT count(*) FROM tasks WHERE state = 'failed'").fetchone()
        (deaths,) = conn.execute("SELECT count(*) FROM attempts WHERE outcome = 'died'").fetchone()
        (requeued,) = conn.execute("SELECT count(*) FROM attempts WHERE outcome = 'failed'").fetchone()
    half = (began + ended) / 2
    return Run(
        done=sum(weights[name] for name, at in done if at <= ended),
        late=sum(weights[name] for name, at in done if half < at <= ended),
        changes=changes,
        requeued=requeued,
        deaths=deaths,
        kills=(ControlGroups().read().oom_kills or 0) - kills,
        lost=lost,
    )


@contextmanager
def _neighbour(is_there: bool) -> Iterator[None]:
    """Somebody else who computes all the time."""
    if not is_there:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_eat_a_core, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _eat_a_core() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
