"""The picture of a batch's course, as SVG: who worked when, how much was completed when. Pure; called by `summary_files`.

It is small, has no script and loads nothing, and is readable on light and dark pages. Times without work are cut out of the
axis, so that a course that gets a lesson a week does not become a row of hairs. Text is folded and escaped for XML.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise
from operator import attrgetter

from gsvrd.model import OutcomeKind
from gsvrd.policy.results import BatchResult, Stretch, busy_s
from gsvrd.reports import escape
from gsvrd.reports.summary import title_of
from gsvrd.reports.summary_labels import SummaryLabels, duration, summary_labels

WIDTH, LEFT, RIGHT = 960, 44, 16
_TOP, _BARS_HEIGHT, _BETWEEN, _BOTTOM = 66, 96, 34, 30
_PLOT = WIDTH - LEFT - RIGHT
_GAP_SHARE, _GAP_LEAST_S, _GAP_PX, _GAPS_PX = 0.2, 60.0, 16.0, 220.0
"""A pause longer than this share of the work, and than so long, is cut; how wide one is drawn, and all are at most."""
_SMALLEST_PX = 2.0
"""Bars narrower than this are drawn together."""
_STEPS_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200),
    *(86400 * days for days in (1, 2, 7, 14, 28, 91, 364)),
)
_TICK_PX, _BAR_PX, _CHARACTER_PX = 90.0, 15.0, 6.6
_TITLE_CHARACTERS, _TIP_CHARACTERS = 90, 200
_NO_XML = re.compile("[\ufffe\uffff\U0001fffe-\U0010ffff]|[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_KINDS = {OutcomeKind.SUCCEEDED: "ok"} | dict.fromkeys(
    (OutcomeKind.FAILED, OutcomeKind.DIED, OutcomeKind.TIMED_OUT), "bad"
)
_BACK = "back"
# Not by colour alone: what went wrong is hollow, what was given back is thin.
_STYLE = """
.page{fill:#fff}text{fill:#24292f;font:12px system-ui,'Segoe UI','Noto Sans','Noto Sans CJK SC','Microsoft YaHei',sans-serif}
.title{font-size:16px;font-weight:600}.soft{fill:#57606a}.grid{stroke:#d0d7de}.cut{fill:#f0f2f4}
.ok{fill:#1a7f64}.bad{fill:#fbe3df;stroke:#b3261e;stroke-width:1.5}.back{fill:#8c959f}.rate{fill:#2f6fb5}
@media(prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#e6edf3}.soft{fill:#9198a1}.grid{stroke:#30363d}
.cut{fill:#1b222b}.ok{fill:#3fb68b}.bad{fill:#3c1618;stroke:#ff7b72}.back{fill:#6e7681}.rate{fill:#58a6ff}}
"""


def svg_head(mark: str) -> str:
    """How the picture of a batch begins. The mark is one of ours: digits, letters and a dash."""
    return f'<svg xmlns="http://www.w3.org/2000/svg" data-summary-of="{_xml(mark)}" '


def plot(result: BatchResult, language: str) -> str:
    """The picture, ending in one newline."""
    labels = summary_labels(language)
    course = result.course
    lanes = 1 + max((stretch.lane for stretch in course), default=0)
    lane_px = 22 if lanes <= 8 else max(6, 176 // lanes)
    floor = _TOP + lanes * lane_px
    height = floor + _BETWEEN + _BARS_HEIGHT + _BOTTOM
    parts = [
        f'{svg_head(result.mark)}width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{_xml(title_of(result, labels), _TITLE_CHARACTERS)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="{LEFT}" y="26">{_xml(title_of(result, labels), _TITLE_CHARACTERS)}</text>',
    ]
    if course:
        axis = _axis(course)
        parts += [
            *_legend(course, labels),
            *_cuts(axis, floor, height, labels),
            *_lanes(course, axis, lane_px, lanes, labels),
            *_rates(course, axis, floor + _BETWEEN, labels),
            *_times(axis, height - _BOTTOM),
        ]
    else:
        parts.append(f'<text class="soft" x="{LEFT}" y="{_TOP}">{_xml(labels.nothing_ran)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


# -- the axis ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Span:
    """A time of work on the axis."""

    begin: float
    end: float
    x: float
    width: float

    def at(self, moment: float) -> float:
        """Where a moment is; it lies in the span."""
        share = (moment - self.begin) / (self.end - self.begin)
        return self.x + self.width * min(1.0, max(0.0, share))


@dataclass(frozen=True, slots=True)
class _Axis:
    """The times of work, without the long pauses between them; at least one."""

    spans: tuple[_Span, ...]

    def index(self, moment: float) -> int:
        """In which span a moment is."""
        return max(0, bisect_right(self.spans, moment, key=attrgetter("begin")) - 1)

    def at(self, moment: float) -> float:
        """Where a moment is."""
        return self.spans[self.index(moment)].at(moment)

    def step(self, wanted_px: float) -> float:
        """Seconds between marks that are at least so far apart, if there are such."""
        first = self.spans[0]
        least_s = wanted_px * (first.end - first.begin) / first.width
        return next((step for step in _STEPS_S if step >= least_s), _STEPS_S[-1])


def _axis(course: Sequence[Stretch]) -> _Axis:
    least_s = max(_GAP_LEAST_S, _GAP_SHARE * busy_s(course))
    times: list[list[float]] = []
    for stretch in course:
        if times and stretch.started_at - times[-1][1] <= least_s:
            times[-1][1] = max(times[-1][1], stretch.ended_at)
        else:
            times.append([stretch.started_at, max(stretch.ended_at, stretch.started_at + 0.001)])
    gap_px = min(_GAP_PX, _GAPS_PX / len(times))
    scale = (_PLOT - gap_px * (len(times) - 1)) / sum(end - begin for begin, end in times)
    spans, x = [], float(LEFT)
    for begin, end in times:
        spans.append(_Span(begin, end, x, scale * (end - begin)))
        x += scale * (end - begin) + gap_px
    return _Axis(tuple(spans))


def _cuts(axis: _Axis, floor: float, height: float, labels: SummaryLabels) -> Iterator[str]:
    for before, after in pairwise(axis.spans):
        x, width = before.x + before.width, after.x - before.x - before.width
        tip = _xml(labels.idle.format(duration(after.begin - before.end, labels)))
        for top, tall in ((_TOP, floor - _TOP), (floor + _BETWEEN, _BARS_HEIGHT)):
            yield f'<rect class="cut" x="{x:.1f}" y="{top}" width="{width:.1f}" height="{tall}"><title>{tip}</title></rect>'


def _times(axis: _Axis, y: float) -> Iterator[str]:
    """Clock times below the axis where there is room: the starts, and between them round ones."""
    step = axis.step(_TICK_PX)
    right, date = 0.0, ""
    for span, after in zip(axis.spans, (*axis.spans[1:], None), strict=True):
        first = step * (span.begin // step + 1)
        rounds = [first + step * number for number in range(int((span.end - first) // step) + 1)]
        for moment in (span.begin, *rounds):
            x, at = span.at(moment), datetime.fromtimestamp(moment, UTC)
            text = at.strftime("%H:%M:%S" if step < 60 else "%H:%M")
            if (today := at.strftime("%Y-%m-%d")) != date:
                text = f"{today} {text}{'' if date else ' UTC'}"
            end = x + _CHARACTER_PX * (len(text) + 2)
            # A start goes before a round time, and the picture's edge before all.
            if x < right or end > (after.x if after and moment != span.begin else WIDTH + 2 * _CHARACTER_PX):
                continue
            right, date = end, today
            yield f'<path class="grid" d="M{x:.1f} {y}v5"/><text class="soft" x="{x:.1f}" y="{y + 18}">{text}</text>'


# -- who worked when -----------------------------------------------------------------------------------------------------


def _legend(course: Sequence[Stretch], labels: SummaryLabels) -> Iterator[str]:
    """Of the kinds that occur, behind the heading of the upper half."""
    words = {"ok": labels.succeeded, "bad": labels.went_wrong, _BACK: labels.given_back}
    x = LEFT + 28 + sum(_width(char) for char in labels.workers)
    yield f'<text x="{LEFT}" y="{_TOP - 12}">{_xml(labels.workers)}</text>'
    kinds = {_kind(stretch) for stretch in course}
    for kind in (kind for kind in words if kind in kinds):
        yield _bar(kind, x, _TOP - 22, 12, 12)
        yield f'<text class="soft" x="{x + 18:.1f}" y="{_TOP - 12}">{_xml(words[kind])}</text>'
        x += 42 + sum(_width(char) for char in words[kind])


def _width(char: str) -> float:
    return 12.0 if char > "\u2e80" else _CHARACTER_PX


def _lanes(course: Sequence[Stretch], axis: _Axis, lane_px: int, lanes: int, labels: SummaryLabels) -> Iterator[str]:
    every = -(-14 // lane_px)  # lanes between two numbers, so that they do not touch
    for lane in range(lanes):
        y = _TOP + lane * lane_px
        yield f'<path class="grid" d="M{LEFT} {y + lane_px / 2:g}h{_PLOT}"/>'
        if lane % every == 0:
            yield f'<text class="soft" x="{LEFT - 10}" y="{y + lane_px / 2 + 4:g}" text-anchor="end">{lane + 1}</text>'
        tall = max(4, lane_px - 6)
        for bar in _bars([stretch for stretch in course if stretch.lane == lane], axis):
            tip = _tip(bar, labels)
            yield _bar(bar.kind, bar.x, y + (lane_px - tall) / 2, max(bar.width, 0.8), tall, tip)


@dataclass(frozen=True, slots=True)
class _Bar:
    """One attempt, or several in a row that are too narrow to be told apart."""

    kind: str
    x: float
    width: float
    attempts: tuple[Stretch, ...]


def _bars(lane: Sequence[Stretch], axis: _Axis) -> Iterator[_Bar]:
    def grouped(pair: tuple[int, Stretch]) -> tuple[str, int]:
        number, stretch = pair
        x = axis.at(stretch.started_at)
        is_wide = axis.at(stretch.ended_at) - x >= _SMALLEST_PX
        # A wide one is alone; narrow ones share a column twice as wide as the least.
        return _kind(stretch), -1 - number if is_wide else int(x / (2 * _SMALLEST_PX))

    for (kind, _), pairs in groupby(enumerate(lane), grouped):
        together = tuple(stretch for _, stretch in pairs)
        x = axis.at(together[0].started_at)
        yield _Bar(kind, x, axis.at(together[-1].ended_at) - x, together)


def _kind(stretch: Stretch) -> str:
    return _KINDS.get(stretch.outcome, _BACK)


def _bar(kind: str, x: float, y: float, width: float, tall: float, tip: str = "") -> str:
    if kind == _BACK:
        y, tall = y + tall / 3, tall / 3
    inside = f"<title>{_xml(tip, _TIP_CHARACTERS)}</title>" if tip else ""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{tall:.1f}" rx="1.5">{inside}</rect>'
    )


def _tip(bar: _Bar, labels: SummaryLabels) -> str:
    word = {"ok": labels.succeeded, "bad": labels.went_wrong, _BACK: labels.given_back}[bar.kind]
    if len(bar.attempts) > 1:
        return f"{labels.attempts[1].format(len(bar.attempts))} · {word}"
    only = bar.attempts[0]
    attempt = labels.attempt.format(only.attempt)
    # The name last: it may be long.
    return f"{word} · {duration(only.ended_at - only.started_at, labels)} · {attempt} · {escape.fold(only.video)}"


# -- how much was completed when -------------------------------------------------------------------------------------------


def _rates(course: Sequence[Stretch], axis: _Axis, top: float, labels: SummaryLabels) -> Iterator[str]:
    step = axis.step(_BAR_PX)
    counts: dict[tuple[int, int], int] = {}
    for stretch in course:
        if stretch.outcome is OutcomeKind.SUCCEEDED:
            column = _column(axis, stretch.ended_at, step)
            counts[column] = counts.get(column, 0) + 1
    most = max(counts.values(), default=0)
    foot = top + _BARS_HEIGHT
    yield f'<text x="{LEFT}" y="{top - 8}">{_xml(labels.throughput.format(_step_name(step, labels)))}</text>'
    yield f'<path class="grid" d="M{LEFT} {foot}h{_PLOT}"/>'
    if most:
        yield f'<path class="grid" d="M{LEFT} {top}h{_PLOT}"/>'
        yield f'<text class="soft" x="{LEFT - 10}" y="{top + 4}" text-anchor="end">{most}</text>'
        yield f'<text class="soft" x="{LEFT - 10}" y="{foot + 4}" text-anchor="end">0</text>'
    for (index, number), count in sorted(counts.items()):
        span = axis.spans[index]
        x, end = span.at(span.begin + number * step), span.at(span.begin + (number + 1) * step)
        tall = _BARS_HEIGHT * count / most
        yield (
            f'<rect class="rate" x="{x:.1f}" y="{foot - tall:.1f}" width="{max(1.0, end - x - 1):.1f}" height="{tall:.1f}">'
            f"<title>{count}</title></rect>"
        )


def _column(axis: _Axis, moment: float, step: float) -> tuple[int, int]:
    """In which span and which of its columns a moment is; the end of a span belongs to its last column."""
    index = axis.index(moment)
    span = axis.spans[index]
    last = max(0, -(-(span.end - span.begin) // step) - 1)
    return index, int(min(last, max(0.0, moment - span.begin) // step))


def _step_name(step: float, labels: SummaryLabels) -> str:
    hour, minute, second = labels.units
    if step % 3600 == 0:
        return f"{step // 3600:g}{hour}"
    return f"{step // 60:g}{minute}" if step % 60 == 0 else f"{step:g}{second}"


def _xml(text: str, most: int = 10_000) -> str:
    """For text and for attributes; without the characters that XML does not know."""
    folded = _NO_XML.sub("", escape.fold(text))
    return html.escape(folded if len(folded) <= most else folded[: most - 1] + "…")
