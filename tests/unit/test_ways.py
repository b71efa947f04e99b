"""The analyzers of a worker, and by what a finding is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gsvrd.cli.weighing import Scales
from gsvrd.config.models import AnalyzerChoice, Config
from gsvrd.pool import execute
from gsvrd.pool.execute import Ways


@pytest.fixture
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ways:
    monkeypatch.setenv("GEMINI_API_KEY", "no-key-of-anybody")
    return Ways(Scales(Config(home=tmp_path, analyzer=AnalyzerChoice(use="gemini")), None, 0.0).settings)


def asked(**options: object) -> str:
    return json.dumps({name: [value, "a test"] for name, value in options.items()})


def test_what_was_found_out_in_other_parts_is_another_finding(ways: Ways) -> None:
    template = ways.of("{}").template
    usual, shorter = (ways.key("beef", template, options) for options in ("{}", asked(max_duration=600.0)))
    assert usual != shorter
    assert ways.key("beef", template, asked(max_duration=ways.settings.gemini.max_duration_s)) == usual
    assert ways.key("beef", template, asked(priority=3)) == usual


def test_a_worker_keeps_only_the_analyzers_that_it_used_last(ways: Ways) -> None:
    first, languages = ways.of(asked(language="en")).analyzer, ["de", "fr", "it", "es", "pt", "nl", "sv"]
    assert len(languages) + 1 == execute.ANALYZERS_MOST
    for language in languages:
        ways.of(asked(language=language))
    assert ways.of(asked(language="en")).analyzer is first
    second = ways.of(asked(language="da")).analyzer
    assert ways.of(asked(language="en")).analyzer is first
    assert ways.of(asked(language="da")).analyzer is second
    assert len(ways._made) == execute.ANALYZERS_MOST
    assert "de" not in {language for _, language, _ in ways._made}
