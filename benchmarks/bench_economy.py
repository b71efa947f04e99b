"""What an hour of video costs, and what a stand-in for the upload saves: `python -m benchmarks.bench_economy [--quick]`.

Makes the stand-in of each sample lecture and of each real video that `tests/media/fetch_real.py` has fetched, and
reckons for an hour: bytes to send, CPU seconds, and seconds on a line. Then the tokens and the money of that hour, by the
default price table; they are arithmetic, not bills, and are the same for original and stand-in.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import measure
from gsvrd.analysis import MediaFacts
from gsvrd.analyzers.gemini.proxy import Proxy, make_proxy, worth_it
from gsvrd.analyzers.limits import MediaLimits
from gsvrd.analyzers.probe import probe
from gsvrd.config.models import Gemini
from gsvrd.errors import TaskError

_MEDIA = Path(__file__).parents[1] / "tests" / "media"
_REAL = _MEDIA / ".cache" / "real"
_HOUR_S = 3600
_LEAST_S = 10.0
"""Of shorter videos an hour cannot be told: the first picture outweighs the rest."""
_LINE_BITS = 20_000_000
_ANSWER_TOKENS = 10_000
_SOUND_TOKENS = 32
"""A second of sound."""
_PICTURE_TOKENS = {"2.x": {"default": 258, "low": 66, "high": 258}, "3.x": {"default": 70, "low": 70, "high": 280}}
"""One picture, by the generation of the model and the resolution asked for."""
_LONG_PROMPT = 200_000


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    facts: MediaFacts
    proxy: Proxy

    def hourly(self, value: float) -> float:
        """`value` of the whole video, for an hour."""
        return value * _HOUR_S / self.facts.duration_s


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the two sample lectures only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=50.0, help="seconds; no further video is begun after them")
    parser.add_argument("--model", default=Gemini().model)
    parser.add_argument("videos", nargs="*", type=Path, help="others than the samples")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure.print_facts(Path(name))
        videos = options.videos or _videos(options.quick)
        rows = _rows(videos, Path(name) / "proxy.mp4", options.threads, options.budget)
    _print_sizes(rows)
    _print_money(options.model, datetime.now(UTC).date().isoformat())


def _videos(quick: bool) -> list[Path]:
    samples = sorted((_MEDIA / "samples").glob("*.mp4"))
    real = sorted(path for path in _REAL.rglob("*") if path.suffix in (".mp4", ".avi", ".webm", ".mkv", ".mov"))
    return samples if quick else samples + real


def _rows(videos: list[Path], target: Path, threads: int, budget_s: float) -> list[_Row]:
    rows, end = [], time.monotonic() + budget_s
    for path in videos:
        if time.monotonic() > end:
            print(f"left out for want of time: {path.name} and what follows", file=sys.stderr)
            break
        try:
            facts = probe(f"file:{path}", size_bytes=path.stat().st_size, sha256="", limits=MediaLimits())
            if facts.duration_s >= _LEAST_S and facts.video_codec:
                made = make_proxy(f"file:{path}", facts, target, threads=threads, progress=lambda _: None)
                rows.append(_Row(path.name, facts, made))
        except TaskError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
    return rows


def _print_sizes(rows: list[_Row]) -> None:
    measure.print_table(
        (
            *("for an hour of", "picture", "MB", "MB stand-in", "saved", "CPU s"),
            *(f"line s saved at {_LINE_BITS / 1e6:.0f} Mbit/s", "auto takes it"),
        ),
        map(_size_cells, rows),
    )


def _size_cells(row: _Row) -> tuple[str, ...]:
    facts, before, after = row.facts, row.hourly(row.facts.size_bytes), row.hourly(row.proxy.size_bytes)
    hour = facts.model_copy(update={"duration_s": float(_HOUR_S), "size_bytes": round(before)})
    return (
        row.name,
        f"{facts.video_codec} {facts.width} x {facts.height}",
        f"{before / 1e6:,.0f}",
        f"{after / 1e6:,.0f}",
        f"{1 - after / before:.0%}",
        f"{row.hourly(row.proxy.cpu_s):,.0f}",
        f"{(before - after) * 8 / _LINE_BITS:,.0f}",
        "yes" if worth_it(hour, Gemini().max_file_size, "auto") else "no",
    )


def _print_money(model: str, day: str) -> None:
    generation = "2.x" if model.startswith("gemini-2") else "3.x"
    usual = _tokens(generation, "default", 1.0)
    rows = []
    for resolution in ("default", "low", "high"):
        for fps in (1.0, 0.2):
            tokens = _tokens(generation, resolution, fps)
            dollars = _dollars(model, day, tokens)
            saved = f"{1 - dollars / _dollars(model, day, usual):+.0%}"
            rows.append((resolution, f"{fps:g}", f"{tokens:,}", f"{dollars:.3f}", f"{dollars / 2:.3f}", saved))
    heads = ("resolution", "fps", "tokens in", "$", "$ flex", "saved")
    print(f"An hour with sound, {model} on {day}, {_ANSWER_TOKENS:,} tokens out:\n")
    measure.print_table(heads, rows)


def _tokens(generation: str, resolution: str, fps: float) -> int:
    return round(_HOUR_S * (_PICTURE_TOKENS[generation][resolution] * fps + _SOUND_TOKENS))


def _dollars(model: str, day: str, tokens_in: int) -> float:
    """By the default table, whose lines are `MODEL INPUT OUTPUT [FROM..UNTIL]`."""
    for line in Gemini().prices:
        name, price_in, price_out, *days = line.split()
        start, _, end = days[0].partition("..") if days else ("", "", "")
        if name == model and start <= day and (not end or day <= end):
            return (tokens_in * _rate(price_in, tokens_in) + _ANSWER_TOKENS * _rate(price_out, tokens_in)) / 1e6
    raise SystemExit(f"no price is known for {model} on {day}")


def _rate(text: str, tokens_in: int) -> float:
    near, _, far = text.partition("/")
    return float(far if far and tokens_in > _LONG_PROMPT else near)


if __name__ == "__main__":
    main()
