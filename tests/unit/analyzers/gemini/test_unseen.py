"""Videos of YouTube, which the service fetches by itself, over both SDKs against a server that meters."""

from __future__ import annotations

from typing import Any

import pytest
from support.gemini.faults import Fault, Kind, Route
from support.gemini.rules import Rules

from gsvrd.analysis import MediaFacts
from gsvrd.analyzers.gemini import unseen
from gsvrd.analyzers.gemini.service import ServiceFault
from gsvrd.errors import ErrorKind, TaskError
from gsvrd.policy.limiter import Lane

Lab = Any
"""Of conftest."""
ID = "aqz-KE-bpKQ"
URL = f"https://www.youtube.com/watch?v={ID}"


def bench_of(lab: Lab, seconds: float = 600.0, **wishes: Any) -> Any:
    lab.gemini.rules = Rules(youtube={ID: seconds})
    bench = lab.bench(link=URL, **wishes)
    bench.facts = MediaFacts(sha256="", size_bytes=0, container="", duration_s=0.0)
    bench.source = ""
    return bench


def test_a_video_of_youtube_is_named_to_the_model_and_never_sent(lab: Lab) -> None:
    bench = bench_of(lab)
    analysis = lab.analyzer().analyze(bench)
    assert [str(entry.route) for entry in lab.gemini.requests()] == ["generate"]
    assert analysis.duration_s == 600.0
    assert analysis.chapters[-1].end_s == 600.0
    assert unseen.gap("en") in analysis.gaps
    assert all(chapter.picture is None for chapter in analysis.chapters)
    assert lab.template.rendered[0]["duration_s"] == 0.0


def test_as_much_is_reserved_as_the_longest_video_that_is_allowed_weighs(lab: Lab) -> None:
    bench = bench_of(lab, 3590.0)
    lab.analyzer(max_duration_s=3600.0).analyze(bench)
    (call,) = lab.gemini.requests(Route.GENERATE)
    (asked,) = (ticket.call for ticket in bench.tickets)
    assert call.prompt_tokens <= asked.tokens_in < 1.1 * call.prompt_tokens
    assert bench.spent(Lane.GENERATE)[0].tokens_in == call.prompt_tokens


def test_a_short_video_reserves_the_same_since_nobody_knows(lab: Lab) -> None:
    bench = bench_of(lab, 60.0)
    lab.analyzer(max_duration_s=3600.0).analyze(bench)
    assert bench.tickets[0].call.tokens_in > 3600 * 100


def test_without_a_limit_of_length_the_whole_context_is_reserved(lab: Lab) -> None:
    bench = bench_of(lab)
    lab.analyzer(max_duration_s=1e6).analyze(bench)
    assert 900_000 < bench.tickets[0].call.tokens_in <= 1_010_000


def test_times_that_the_video_cannot_have_are_mended_once(lab: Lab) -> None:
    bench = bench_of(lab)
    lab.gemini.fault(Fault(Kind.LATE_TIMES))
    assert lab.analyzer(max_duration_s=36_000.0).analyze(bench).duration_s == 600.0
    assert len(lab.gemini.requests(Route.GENERATE)) == 2


def test_a_video_that_is_not_public_fails_for_good_and_closes_no_door(lab: Lab) -> None:
    bench = bench_of(lab)
    lab.gemini.rules = Rules()
    error = lab.failure(bench)
    assert error.kind is ErrorKind.LINK
    assert "must be public" in error.hint
    (spent,) = bench.spent(Lane.GENERATE)
    assert (spent.outcome, spent.tokens_in) == (ErrorKind.LINK, 0)


def test_a_key_that_is_refused_is_still_trouble_of_the_key(lab: Lab) -> None:
    bench = bench_of(lab)
    lab.gemini.fault(Fault(Kind.KEY_LEAKED))
    assert lab.failure(bench).kind is ErrorKind.KEY


def test_an_answer_that_is_cut_off_is_asked_for_with_more_room_and_not_by_halves(lab: Lab) -> None:
    bench = bench_of(lab, 7000.0)
    lab.gemini.fault(Fault(Kind.MAX_TOKENS))
    lab.analyzer(max_output_tokens=6000).analyze(bench)
    assert [ticket.call.tokens_out_most for ticket in bench.tickets] == [6000, 12_000]


def test_an_answer_that_was_paid_for_is_not_asked_for_again(lab: Lab) -> None:
    bench = bench_of(lab)
    lab.template.problems = [["no"], ["no"]]
    with pytest.raises(TaskError):
        lab.analyzer().analyze(bench)
    bench.kept = {}
    lab.analyzer().analyze(bench)
    again = bench.next_attempt()
    again.link = URL
    before = len(lab.gemini.requests())
    lab.analyzer().analyze(again)
    assert len(lab.gemini.requests()) == before


@pytest.mark.parametrize("code", [500, 503, 429])
def test_trouble_of_the_service_is_not_laid_to_the_video(code: int) -> None:
    status = "RESOURCE_EXHAUSTED" if code == 429 else "INTERNAL"
    assert unseen.error_of(ServiceFault(code, "try later", status=status)) is None
