"""Power cuts of a real disk under a working daemon; see `support.cuts`."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import cuts


@pytest.mark.timeout(900)
def test_a_power_cut_loses_nothing_that_was_accepted_and_nothing_that_was_seen(tmp_path: Path) -> None:
    if reason := cuts.why_not(tmp_path):
        pytest.skip(reason)
    done = cuts.run(tmp_path, cuts=8, seed=1)
    assert done.findings.violations == {}
    assert done.accepted > 8
    assert done.findings.files > 8
