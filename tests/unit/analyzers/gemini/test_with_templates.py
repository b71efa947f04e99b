"""The analyzer with the templates that ship: what they ask for can be asked, and their checks take what comes back."""

from __future__ import annotations

from typing import Any

import pytest
from support.gemini.faults import Fault, Kind, Route
from support.gemini.rules import Rules

from gsvrd.analyzers.gemini.analyzer import GeminiAnalyzer
from gsvrd.errors import ErrorKind, TaskError
from gsvrd.templates.load import load_templates
from gsvrd.templates.model import ModelSettings

Lab = Any
"""Of conftest."""
NAMES = sorted(load_templates(None))


def analyzer(lab: Lab, name: str, **values: object) -> GeminiAnalyzer:
    return GeminiAnalyzer(lab.settings(), load_templates(None)[name], values, pause=lab.pauses.append)


@pytest.mark.parametrize("name", NAMES)
def test_every_template_gives_an_analysis_with_what_it_requires(lab: Lab, name: str) -> None:
    analysis = analyzer(lab, name).analyze(lab.bench())
    for section in load_templates(None)[name].output.required:
        assert getattr(analysis, section), section
    assert len(lab.gemini.requests(Route.GENERATE)) == 1, "a good answer needs no repair"


@pytest.mark.parametrize("kind", [Kind.LATE_TIMES, Kind.REPETITION, Kind.OTHER_LANGUAGE])
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


# How the model is run

WISHES = ModelSettings.model_validate({"temperature": "0.3", "max_output_tokens": 5000, "thinking": "high"})


def sent(lab: Lab, wishes: ModelSettings, **chosen: Any) -> tuple[int | None, str, float | None]:
    """What a request says of it: the longest answer, the thinking, the temperature."""
    lab.template.model = wishes
    lab.analyzer(**chosen).analyze(lab.bench())
    call = lab.gemini.requests(Route.GENERATE)[-1]
    return call.max_output_tokens, call.thinking_level, call.temperature


def test_a_template_says_how_the_model_is_run(genai_lab: Lab) -> None:
    bench = genai_lab.bench()
    assert sent(genai_lab, WISHES) == (5000, "HIGH", 0.3)
    assert sent(genai_lab, ModelSettings()) == (32_768, "", None)
    genai_lab.template.model = WISHES
    genai_lab.analyzer().analyze(bench)
    assert bench.tickets[1].call.tokens_out_most == 5000, "what is sent is what is reserved"


def test_what_the_configuration_says_goes_before_the_template(genai_lab: Lab) -> None:
    assert sent(genai_lab, WISHES, thinking="low") == (5000, "LOW", 0.3)


def test_a_wish_for_thinking_is_dropped_where_it_cannot_be_sent(genai_lab: Lab, old_lab: Lab) -> None:
    assert sent(old_lab, WISHES) == (5000, "", 0.3)
    assert sent(genai_lab, WISHES, model="gemini-2.5-flash") == (5000, "", 0.3)
