"""Kills before exact system calls, and calls that fail for a while; the daemon is the installed one under `strace`."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import points

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(reason := points.why_not()), reason=reason or "-"),
]


def test_a_kill_before_any_call_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    chosen = points.choose(points.reference(tmp_path / "reference"), 18)
    assert len(chosen) == 18
    hits = [points.kill_at(tmp_path / str(number), point) for number, point in enumerate(chosen)]
    assert {hit.what: hit.findings.violations for hit in hits if hit.findings.violations} == {}
    assert sum(hit.struck for hit in hits) >= 12, hits


@pytest.mark.parametrize("call", ["fsync", "linkat"])
def test_calls_that_fail_for_a_while_tear_nothing_lose_nothing_and_blame_no_video(tmp_path: Path, call: str) -> None:
    hit = points.fail_at(tmp_path / "home", points.Fault(call, "EIO", "reports"))
    assert hit.struck
    assert hit.findings.violations == {}


def test_points_are_spread_over_all_calls_from_first_to_last() -> None:
    chosen = points.choose({"fsync": [3, 4, 5, 9], "rmdir": [2], "pwrite64": list(range(1, 102))}, 8)
    assert [(point.call, point.number) for point in chosen] == [
        *(("fsync", number) for number in (3, 4, 5, 9)),
        ("rmdir", 2),
        *(("pwrite64", number) for number in (1, 51, 101)),
    ]
