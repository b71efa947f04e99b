"""The analyzer with the templates that ship: what they ask for can be asked, and their checks take what comes back."""

from __future__ import annotations

from typing import Any

import pytest
from support.gemini.faults import Fault, Kind, Route
from support.gemini.rules import Rules

from gsvrd.analyzers.gemini import GeminiAnalyzer
from gsvrd.errors import ErrorKind, TaskError
from gsvrd.templates.load import load_templates

Lab = Any
"""Of conftest."""
NAMES = sorted(load_templates(None))


def analyzer(lab: Lab, name: str, **values: object) -> GeminiAnalyzer:
    template = load_templates(None)[name]
    settings = lab.settings(max_output_tokens=template.model.max_output_tokens)
    return GeminiAnalyzer(settings, template, values, pause=lab.pauses.append)


@pytest.mark.parametrize("name", NAMES)
def test_every_template_gives_an_analysis_with_what_it_requires(lab: Lab, name: str) -> None:
    analysis = analyzer(lab, name).analyze(lab.bench())
    for section in load_templates(None)[name].output.required:
        assert getattr(analysis, section), section
    assert len(lab.gemini.requests(Route.GENERATE)) == 1, "a good answer needs no repair"


@pytest.mark.parametrize("kind", [Kind.LATE_TIMES, Kind.REPETITION])
def test_what_a_template_refuses_is_mended(lab: Lab, kind: Kind) -> None:
    lab.gemini.fault(Fault(kind))
    analysis = analyzer(lab, "chinese_transcript").analyze(lab.bench())
    assert analysis.language == "zh"
    assert len(lab.gemini.requests(Route.GENERATE)) == 2


def test_the_wrong_language_is_noticed(lab: Lab) -> None:
    lab.gemini.rules = Rules(language="en")
    with pytest.raises(TaskError, match="asked for was zh") as caught:
        analyzer(lab, "chinese_transcript").analyze(lab.bench())
    assert caught.value.kind is ErrorKind.ANSWER


def test_a_wrong_value_fails_before_anything_is_sent(lab: Lab) -> None:
    with pytest.raises(TaskError, match="quiz_questions") as caught:
        analyzer(lab, "comprehensive_lesson", quiz_questions="many").analyze(lab.bench())
    assert caught.value.kind is ErrorKind.REQUEST
    assert lab.gemini.requests() == []


def test_the_values_of_a_template_reach_it(lab: Lab) -> None:
    analyzer(lab, "comprehensive_lesson", quiz_questions=3).analyze(lab.bench())
    without = lab.gemini.requests(Route.GENERATE)[0].prompt_tokens
    analyzer(lab, "comprehensive_lesson", audience="x" * 290).analyze(lab.bench())
    assert lab.gemini.requests(Route.GENERATE)[1].prompt_tokens > without + 40
