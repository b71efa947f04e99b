"""The whole way of a video through the analyzer, over both SDKs, against a server that meters."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from support.gemini.clients import Raw
from support.gemini.faults import Fault, Kind, Route
from support.gemini.rules import KEY, Key, Model, Rules
from support.gemini.server import FakeGemini

from gsvrd.analyzers.base import Call, Spent
from gsvrd.analyzers.gemini.analyzer import GeminiAnalyzer
from gsvrd.analyzers.gemini.film import sweep_orphans
from gsvrd.analyzers.gemini.sdk import make_service
from gsvrd.errors import ErrorKind, Snooze, TaskError
from gsvrd.policy.limiter import Lane

Lab = Any
"""Of conftest."""
OURS = "files/gsvrd-00000000-"


def routes(gemini: FakeGemini) -> list[str]:
    return [str(entry.route) for entry in gemini.requests()]


def mark(bench: Any) -> str:
    return str(bench.facts.sha256[:8])


def put(lab: Lab, *names: str, data: bytes = b"x") -> None:
    """Files that are there already."""
    connection = Raw(lab.gemini.url)
    for name in names:
        connection.piece(connection.start(len(data), name), 0, data)
    connection.close()


# The good way


def test_a_video_becomes_an_analysis_with_one_call_of_each_kind(lab: Lab) -> None:
    bench = lab.bench()
    analysis = lab.analyzer().analyze(bench)
    assert mark(bench) in analysis.title
    assert analysis.duration_s == 60.0
    assert analysis.chapters[-1].end_s == 60.0
    assert "gemini-3.8-flash" in analysis.steps[0].how
    assert routes(lab.gemini) == ["upload.start", "upload.chunk", "files.get", "generate", "files.delete"]
    assert lab.gemini.files_alive() == []


def test_every_call_asks_first_and_is_settled_with_what_it_cost(lab: Lab) -> None:
    bench = lab.bench()
    lab.analyzer(max_output_tokens=5000).analyze(bench)
    (call,) = lab.gemini.requests(Route.GENERATE)
    assert bench.spent(Lane.UPLOAD) == [Spent()]
    assert bench.spent(Lane.GENERATE) == [Spent("ok", call.prompt_tokens, call.output_tokens)]
    asked = bench.tickets[1].call
    assert asked == Call(Lane.GENERATE, "gemini-3.8-flash", asked.tokens_in, 5000)
    assert call.prompt_tokens <= asked.tokens_in < 1.3 * call.prompt_tokens + 2000


def test_nothing_is_asked_of_the_service_before_leave_is_given(lab: Lab) -> None:
    bench = lab.bench(refuse={1: Snooze(60.0, "not now")})
    with pytest.raises(Snooze):
        lab.analyzer().analyze(bench)
    assert lab.gemini.requests() == []


def test_the_file_is_waited_for_until_it_is_active(lab: Lab) -> None:
    lab.gemini.rules = Rules(polls_until_active=3)
    lab.analyzer(poll_s=7.0).analyze(lab.bench())
    assert lab.pauses == [7.0] * 3
    assert len(lab.gemini.requests(Route.FILE_GET)) == 4


def test_a_file_that_never_gets_ready_is_trouble_of_the_server(lab: Lab) -> None:
    lab.gemini.rules = Rules(polls_until_active=1000)
    error = lab.failure(lab.bench(), processing_timeout_s=0.0)
    assert error.kind is ErrorKind.SERVER
    assert lab.gemini.requests(Route.GENERATE) == []


def test_the_weight_is_asked_for_where_that_is_wanted(lab: Lab) -> None:
    bench = lab.bench()
    lab.analyzer(count_tokens=True).analyze(bench)
    assert len(lab.gemini.requests(Route.COUNT)) == 1
    (call,) = lab.gemini.requests(Route.GENERATE)
    assert call.prompt_tokens <= bench.tickets[1].call.tokens_in


def test_the_template_hears_of_the_video(lab: Lab) -> None:
    lab.analyzer().analyze(lab.bench())
    assert lab.template.rendered == [{"video_name": "lecture.mp4", "duration_s": 60.0, "part": 1, "parts": 1}]


# What was done is kept


def test_the_next_attempt_takes_the_upload_of_the_last_one(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.OVERLOADED))
    bench = lab.bench()
    assert lab.failure(bench).kind is ErrorKind.SERVER
    assert lab.gemini.files_alive() == [f"files/gsvrd-00000000-{bench.facts.sha256[:16]}-1"]
    lab.analyzer().analyze(bench.next_attempt())
    assert len(lab.gemini.requests(Route.UPLOAD_START)) == 1
    assert lab.gemini.files_alive() == []


def test_an_upload_that_has_expired_is_made_again(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.OVERLOADED))
    bench = lab.bench()
    lab.failure(bench)
    lab.gemini.advance(49 * 3600)
    lab.analyzer().analyze(bench.next_attempt())
    assert len(lab.gemini.requests(Route.UPLOAD_START)) == 2
    assert lab.gemini.files_alive() == []


def test_a_file_that_goes_while_it_is_asked_about_is_sent_once_more(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.FILE_GONE))
    bench = lab.bench()
    lab.analyzer().analyze(bench)
    assert [spent.outcome for spent in bench.spent(Lane.GENERATE)] == [ErrorKind.SERVER, "ok"]
    assert lab.gemini.files_alive() == []


def test_a_file_that_goes_again_and_again_ends_the_attempt(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.FILE_GONE, calls=None))
    assert lab.failure(lab.bench()).kind is ErrorKind.SERVER
    assert len(lab.gemini.requests(Route.GENERATE)) == 2


def test_a_file_that_is_not_ready_after_all_is_looked_at_again(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.FILE_NOT_ACTIVE))
    lab.analyzer().analyze(lab.bench())
    assert len(lab.gemini.requests(Route.FILE_GET)) == 2
    assert len(lab.gemini.requests(Route.UPLOAD_START)) == 1


def test_an_upload_whose_attempt_died_at_its_end_is_found_by_its_name(lab: Lab) -> None:
    bench = lab.bench()
    put(lab, f"files/gsvrd-00000000-{bench.facts.sha256[:16]}-1", data=lab.video.read_bytes())
    lab.analyzer().analyze(bench)
    assert sum(lab.gemini.meter.uploaded().values()) == 1
    assert lab.gemini.files_alive() == []


def test_another_file_of_that_name_is_left_alone(lab: Lab) -> None:
    bench = lab.bench()
    name = f"files/gsvrd-00000000-{bench.facts.sha256[:16]}-1"
    put(lab, name)
    analysis = lab.analyzer().analyze(bench)
    assert mark(bench) in analysis.title
    assert lab.gemini.files_alive() == [name]


def test_an_answer_that_was_paid_for_is_not_asked_for_again(lab: Lab) -> None:
    lab.template.problems = [["The section quiz is missing."]]
    bench = lab.bench(refuse={3: Snooze(60.0, "too many requests")})
    with pytest.raises(Snooze):
        lab.analyzer().analyze(bench)
    assert len(lab.gemini.requests(Route.GENERATE)) == 1
    lab.template.problems = [["The section quiz is missing."]]
    lab.analyzer().analyze(bench.next_attempt())
    assert len(lab.gemini.requests(Route.GENERATE)) == 2, "the answer, and its repair"


def test_a_finished_answer_needs_no_file_any_more(lab: Lab) -> None:
    bench = lab.bench()
    first = lab.analyzer().analyze(bench)
    before = len(lab.gemini.requests())
    again = lab.analyzer().analyze(bench.next_attempt())
    assert again == first
    assert len(lab.gemini.requests()) == before


# Faults


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        (Fault(Kind.KEY_INVALID), ErrorKind.KEY, "API key not valid"),
        (Fault(Kind.KEY_LEAKED), ErrorKind.KEY, "leaked"),
        (Fault(Kind.UNAUTHORIZED), ErrorKind.KEY, "credentials"),
        (Fault(Kind.LOCATION), ErrorKind.KEY, "location"),
        (Fault(Kind.MODEL_GONE), ErrorKind.MODEL, "is not found"),
        (Fault(Kind.BAD_REQUEST), ErrorKind.REQUEST, "invalid argument"),
        (Fault(Kind.INTERNAL), ErrorKind.SERVER, "internal error"),
        (Fault(Kind.OVERLOADED), ErrorKind.SERVER, "overloaded"),
        (Fault(Kind.HTML_502), ErrorKind.SERVER, "502"),
        (Fault(Kind.HTML_200), ErrorKind.SERVER, "not the service's"),
        (Fault(Kind.RESET), ErrorKind.NETWORK, "connection broke"),
        (Fault(Kind.SAFETY), ErrorKind.BLOCKED, "SAFETY"),
        (Fault(Kind.RECITATION), ErrorKind.BLOCKED, "RECITATION"),
        (Fault(Kind.FINISH, text="PROHIBITED_CONTENT"), ErrorKind.BLOCKED, "PROHIBITED_CONTENT"),
        (Fault(Kind.PROMPT_BLOCKED), ErrorKind.BLOCKED, "PROHIBITED_CONTENT"),
    ],
    ids=lambda one: getattr(one, "kind", ""),
)
def test_a_fault_is_named_by_its_kind_with_the_words_of_the_service(
    lab: Lab, trouble: Fault, kind: ErrorKind, words: str
) -> None:
    lab.gemini.fault(trouble)
    bench = lab.bench()
    error = lab.failure(bench)
    assert error.kind is kind
    assert words in str(error)
    assert error.hint
    (spent,) = bench.spent(Lane.GENERATE)
    assert spent.outcome == kind
    assert len(lab.gemini.requests(Route.GENERATE)) == 1
    is_final = kind in (ErrorKind.BLOCKED, ErrorKind.REQUEST)
    assert (lab.gemini.files_alive() == []) is is_final


def test_a_blocked_answer_is_booked_with_what_it_cost(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.SAFETY))
    bench = lab.bench()
    lab.failure(bench)
    (call,) = lab.gemini.requests(Route.GENERATE)
    assert bench.spent(Lane.GENERATE) == [Spent(ErrorKind.BLOCKED, call.prompt_tokens, call.output_tokens)]


@pytest.mark.parametrize(
    ("trouble", "delay_s", "told_s", "is_daily"),
    [
        (Fault(Kind.RATE_MINUTE, delay="38s"), 38.0, 38.0, False),
        (Fault(Kind.RATE_MINUTE, delay="9223372036854775807s"), 3600.0, 3600.0, False),
        (Fault(Kind.RATE_TOKENS, delay="0.2s"), 1.0, 1.0, False),
        (Fault(Kind.RATE_BARE), 30.0, None, False),
        (Fault(Kind.RATE_DAY, delay="38s"), 3600.0, None, True),
    ],
    ids=lambda one: getattr(one, "kind", ""),
)
def test_a_quota_gives_the_attempt_back(
    lab: Lab, trouble: Fault, delay_s: float, told_s: float | None, is_daily: bool
) -> None:
    lab.gemini.fault(trouble)
    bench = lab.bench()
    with pytest.raises(Snooze) as caught:
        lab.analyzer().analyze(bench)
    assert caught.value.delay_s == delay_s
    (spent,) = bench.spent(Lane.GENERATE)
    assert spent == Spent(ErrorKind.QUOTA, retry_after_s=told_s, is_daily=is_daily)
    assert len(lab.gemini.files_alive()) == 1, "kept for the next attempt"


def test_a_full_store_is_cleared_of_our_old_files_only(lab: Lab) -> None:
    put(lab, "files/gsvrd-00000000-young-1")
    lab.gemini.advance(-13 * 3600)
    put(lab, "files/gsvrd-00000000-old-1", "files/somebody-else")
    lab.gemini.advance(13 * 3600)
    lab.gemini.fault(Fault(Kind.STORAGE))
    bench = lab.bench()
    with pytest.raises(Snooze) as caught:
        lab.analyzer().analyze(bench)
    assert caught.value.delay_s == 3600.0
    assert bench.spent(Lane.UPLOAD) == [Spent(ErrorKind.QUOTA, retry_after_s=3600.0)]
    assert sorted(lab.gemini.files_alive()) == ["files/gsvrd-00000000-young-1", "files/somebody-else"]


def test_a_video_that_the_service_cannot_read_fails_and_leaves_nothing(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.FILE_FAILED))
    error = lab.failure(lab.bench())
    assert error.kind is ErrorKind.UNREADABLE
    assert "failed to be processed" in str(error)
    assert lab.gemini.files_alive() == []


def test_a_file_beyond_the_limit_is_not_sent(lab: Lab) -> None:
    error = lab.failure(lab.bench(), max_file_bytes=1000)
    assert error.kind is ErrorKind.TOO_LARGE
    assert lab.gemini.requests() == []


def test_a_remote_file_that_cannot_be_removed_does_not_spoil_the_report(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.INTERNAL, route=Route.FILE_DELETE))
    assert lab.analyzer().analyze(lab.bench()).title


def test_a_key_that_was_mended_is_read_anew(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_GEMINI_KEY", "wrong-key-for-tests")
    analyzer = lab.analyzer()
    with pytest.raises(TaskError) as caught:
        analyzer.analyze(lab.bench())
    assert caught.value.kind is ErrorKind.KEY
    monkeypatch.setenv("TEST_GEMINI_KEY", KEY)
    assert analyzer.analyze(lab.bench()).title


def test_no_key_is_an_error_that_says_where_it_was_looked_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_GEMINI_KEY")
    error = lab.failure(lab.bench())
    assert error.kind is ErrorKind.KEY
    assert "TEST_GEMINI_KEY" in str(error)


# Answers


def test_fences_around_the_answer_are_no_reason_for_a_second_call(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.FENCED_JSON))
    lab.analyzer().analyze(lab.bench())
    assert len(lab.gemini.requests(Route.GENERATE)) == 1


@pytest.mark.parametrize(
    "trouble",
    [Fault(Kind.BAD_JSON), Fault(Kind.TEXT, text="I cannot."), Fault(Kind.NO_CANDIDATES), Fault(Kind.LATE_TIMES)],
    ids=lambda one: str(one.kind),
)
def test_an_unusable_answer_is_mended_once(lab: Lab, trouble: Fault) -> None:
    lab.gemini.fault(trouble)
    bench = lab.bench()
    analysis = lab.analyzer().analyze(bench)
    assert mark(bench) in analysis.title
    assert len(bench.spent(Lane.GENERATE)) == 2


def test_what_the_template_finds_is_told_to_the_model(lab: Lab) -> None:
    lab.template.problems = [["The section quiz is missing."]]
    bench = lab.bench()
    lab.analyzer().analyze(bench)
    first, repair = lab.gemini.requests(Route.GENERATE)
    assert repair.prompt_tokens > first.prompt_tokens + first.output_tokens / 2, "the wrong answer goes along"
    assert bench.tickets[2].call.tokens_in >= repair.prompt_tokens


def test_an_answer_that_stays_unusable_fails_with_its_words_beside_it(lab: Lab) -> None:
    lab.template.problems = [["Too short."], ["Still too short."]]
    bench = lab.bench()
    error = lab.failure(bench)
    assert error.kind is ErrorKind.ANSWER
    assert "Still too short." in str(error)
    assert "A lecture on photosynthesis" in error.detail
    assert len(lab.gemini.requests(Route.GENERATE)) == 2
    lab.analyzer().analyze(bench.next_attempt())
    assert len(lab.gemini.requests(Route.GENERATE)) == 3, "another attempt asks anew"


def test_the_words_beside_the_error_are_bounded(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.TEXT, text="x" * 100_000, calls=None))
    assert len(lab.failure(lab.bench()).detail) == 20_000


def test_a_short_video_whose_answer_is_cut_off_gets_more_room_once(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.MAX_TOKENS))
    bench = lab.bench()
    lab.analyzer(max_output_tokens=4000).analyze(bench)
    assert [ticket.call.tokens_out_most for ticket in bench.tickets[1:]] == [4000, 8000]
    assert [spent.outcome for spent in bench.spent(Lane.GENERATE)] == [ErrorKind.ANSWER, "ok"]


@pytest.mark.parametrize("kind", [Kind.MAX_TOKENS, Kind.MAX_TOKENS_EMPTY])
def test_an_answer_that_is_cut_off_again_fails(lab: Lab, kind: Kind) -> None:
    lab.gemini.fault(Fault(kind, calls=None))
    error = lab.failure(lab.bench(), max_output_tokens=4000)
    assert error.kind is ErrorKind.ANSWER
    assert "max_output_tokens" in error.hint
    assert len(lab.gemini.requests(Route.GENERATE)) == 2


# Long videos


def test_a_long_video_is_studied_in_parts_that_become_one(genai_lab: Lab) -> None:
    lab = genai_lab.lasting(3000.0)
    bench = lab.bench()
    analysis = lab.analyzer(max_duration_s=1100.0, overlap_s=30.0).analyze(bench)
    assert [(v["part"], v["parts"]) for v in lab.template.rendered] == [(1, 3), (2, 3), (3, 3)]
    assert [round(seconds) for _, seconds in lab.template.checked] == [1020, 1020, 1020]
    starts = [chapter.start_s for chapter in analysis.chapters]
    assert starts == sorted(starts)
    assert analysis.duration_s == 3000.0
    assert analysis.chapters[0].start_s == 0.0
    assert analysis.chapters[-1].end_s == pytest.approx(3000.0, abs=2)
    for chapter, following in zip(analysis.chapters, analysis.chapters[1:], strict=False):
        assert chapter.end_s <= following.start_s
        assert following.start_s - chapter.end_s < 40.0, "nothing is lost at the seams"
    assert "in 3 parts" in analysis.steps[0].how
    assert len(lab.gemini.requests(Route.UPLOAD_START)) == 1


def test_the_parts_that_are_finished_are_not_asked_for_again(genai_lab: Lab) -> None:
    lab = genai_lab.lasting(3000.0)
    lab.gemini.fault(Fault(Kind.OVERLOADED, calls=(3,)))
    bench = lab.bench()
    assert lab.failure(bench, max_duration_s=1100.0).kind is ErrorKind.SERVER
    lab.analyzer(max_duration_s=1100.0).analyze(bench.next_attempt())
    assert len(lab.gemini.requests(Route.GENERATE)) == 4


def test_a_part_that_fails_does_not_cost_the_others_again(genai_lab: Lab) -> None:
    lab = genai_lab.lasting(3000.0)
    lab.template.problems = [[], ["Bad."], ["Still bad."]]
    bench = lab.bench()
    assert lab.failure(bench, max_duration_s=1100.0).kind is ErrorKind.ANSWER
    assert len(lab.gemini.requests(Route.GENERATE)) == 3, "part 1; part 2 and its repair"
    lab.analyzer(max_duration_s=1100.0).analyze(bench.next_attempt())
    assert len(lab.gemini.requests(Route.GENERATE)) == 5, "parts 2 and 3"


def test_a_long_video_whose_answer_is_cut_off_is_asked_about_by_halves(genai_lab: Lab) -> None:
    lab = genai_lab.lasting(1200.0)
    lab.gemini.fault(Fault(Kind.MAX_TOKENS))
    bench = lab.bench()
    analysis = lab.analyzer().analyze(bench)
    assert analysis.chapters[-1].end_s == 1200.0
    assert len(bench.spent(Lane.GENERATE)) == 3
    assert bench.tickets[2].call.tokens_in < 0.7 * bench.tickets[1].call.tokens_in


def test_where_there_is_no_more_room_a_shorter_one_is_halved_too(genai_lab: Lab) -> None:
    lab = genai_lab.lasting(300.0)
    lab.gemini.fault(Fault(Kind.MAX_TOKENS))
    lab.analyzer(max_output_tokens=65_536).analyze(lab.bench())
    assert len(lab.gemini.requests(Route.GENERATE)) == 3


def test_what_can_neither_grow_nor_be_halved_is_not_asked_for_again(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.MAX_TOKENS, calls=None))
    assert lab.failure(lab.bench(), max_output_tokens=65_536).kind is ErrorKind.ANSWER
    assert len(lab.gemini.requests(Route.GENERATE)) == 1


def test_halves_are_not_halved_again(genai_lab: Lab) -> None:
    lab = genai_lab.lasting(4800.0)
    lab.gemini.fault(Fault(Kind.MAX_TOKENS, calls=None))
    assert lab.failure(lab.bench()).kind is ErrorKind.ANSWER
    assert len(lab.gemini.requests(Route.GENERATE)) == 2


def test_the_older_sdk_refuses_a_long_video_and_names_what_is_missing(old_lab: Lab) -> None:
    error = old_lab.lasting(3000.0).failure(old_lab.bench(), max_duration_s=1100.0)
    assert error.kind is ErrorKind.TOO_LARGE
    assert "pip install google-genai" in error.hint
    assert old_lab.gemini.requests() == []


def test_a_video_beyond_the_context_is_split_too(genai_lab: Lab) -> None:
    lab = genai_lab
    model = Model(input_limit=100_000)
    lab.duration_s = 1800.0
    lab.gemini.rules = Rules(default_duration_s=1800.0, models={"gemini-3.8-flash": model})
    lab.analyzer(context_tokens=100_000).analyze(lab.bench())
    assert all(call.status == 200 for call in lab.gemini.requests(Route.GENERATE))
    assert len(lab.gemini.requests(Route.GENERATE)) == 3


# Savings


def test_where_the_flex_tier_is_overloaded_the_ordinary_one_is_asked(genai_lab: Lab) -> None:
    lab = genai_lab
    lab.gemini.fault(Fault(Kind.OVERLOADED))
    bench = lab.bench()
    lab.analyzer(flex=True).analyze(bench)
    _, second = lab.gemini.requests(Route.GENERATE)
    assert second.usd == pytest.approx((second.prompt_tokens * 0.75 + second.output_tokens * 3.75) / 1e6)
    assert len(bench.spent(Lane.GENERATE)) == 2


@pytest.mark.parametrize("wishes", [{"fps": 0.2}, {"fps": 2.0}, {"media_resolution": "high"}])
def test_the_estimate_follows_the_pictures_that_are_sent(genai_lab: Lab, wishes: dict[str, Any]) -> None:
    lab = genai_lab.lasting(500.0)
    bench = lab.bench()
    lab.analyzer(**wishes).analyze(bench)
    (call,) = lab.gemini.requests(Route.GENERATE)
    assert call.prompt_tokens <= bench.tickets[1].call.tokens_in < 1.2 * call.prompt_tokens + 2000


# Secrets


def test_the_key_is_told_to_nobody(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench = lab.bench()
    lab.gemini.fault(
        Fault(Kind.RESET, route=Route.UPLOAD_CHUNK, after_bytes=600_000),
        Fault(Kind.KEY_LEAKED, route=Route.GENERATE),
        Fault(Kind.RESET, route=Route.GENERATE, calls=(2,)),
    )
    errors = [lab.failure(bench), lab.failure(bench.next_attempt())]
    analyzer = lab.analyzer()
    analyzer.analyze(bench.next_attempt())
    told = [caplog.text, repr(lab.settings()), repr(analyzer.__dict__), str(bench.made), str(bench.steps)]
    told += [str(vars(record)) for record in caplog.records]
    for error in errors:
        seen: BaseException | None = error
        while seen is not None:
            told.append(f"{seen!r} {vars(seen)}")
            seen = seen.__cause__ or seen.__context__
    assert KEY not in "".join(told)
    assert "upload_id=" not in "".join(told[:5] + [str(vars(error)) for error in errors])
    assert not any(entry.key_in_url for entry in lab.gemini.requests())


# Sweeping


def test_a_sweep_removes_our_files_that_no_task_knows(lab: Lab) -> None:
    put(
        lab,
        f"{OURS}aaaa-1",
        f"{OURS}bbbb-1",
        "files/gsvrd-cccc-1",
        "files/gsvrd-11111111-aaaa-1",
        "files/somebody-else",
    )
    service = make_service(lab.sdk, lab.settings(), KEY)
    assert sweep_orphans(service, OURS, time.time() + 60, lambda name: "bbbb" in name) == [f"{OURS}aaaa-1"]
    left = ["files/gsvrd-00000000-bbbb-1", "files/gsvrd-11111111-aaaa-1", "files/gsvrd-cccc-1", "files/somebody-else"]
    assert sorted(lab.gemini.files_alive()) == left


def test_a_sweep_spares_what_is_young(lab: Lab) -> None:
    put(lab, f"{OURS}aaaa-1")
    service = make_service(lab.sdk, lab.settings(), KEY)
    assert sweep_orphans(service, OURS, time.time() - 60) == []


def test_the_first_video_of_a_worker_sweeps_for_its_own_installation(lab: Lab) -> None:
    put(lab, *(f"files/gsvrd-0badcafe-{name}-1" for name in ("a" * 16, "b" * 16, "c" * 16)), f"{OURS}aaaa-1")
    wanted = {"kept_files": (f"files/gsvrd-0badcafe-{'b' * 16}-1",), "kept_contents": ("c" * 64,)}
    lab.analyzer(installation="0badcafe", started_at=time.time() + 60, **wanted).analyze(lab.bench())
    left = [f"{OURS}aaaa-1", f"files/gsvrd-0badcafe-{'b' * 16}-1", f"files/gsvrd-0badcafe-{'c' * 16}-1"]
    assert sorted(lab.gemini.files_alive()) == left


# After the end


def test_what_a_task_left_is_deleted_by_its_kept_stage_alone(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.OVERLOADED))
    bench = lab.bench()
    lab.failure(bench)
    assert len(lab.gemini.files_alive()) == 1
    analyzer = lab.analyzer()
    analyzer.discard(bench.made)
    assert lab.gemini.files_alive() == []
    analyzer.discard(bench.made)
    assert len(lab.gemini.requests(Route.FILE_DELETE)) == 2, "gone already is as good"


def test_what_cannot_be_deleted_is_an_error_and_what_cannot_be_read_is_none(lab: Lab) -> None:
    lab.gemini.fault(Fault(Kind.OVERLOADED), Fault(Kind.INTERNAL, route=Route.FILE_DELETE))
    bench = lab.bench()
    lab.failure(bench)
    with pytest.raises(TaskError) as caught:
        lab.analyzer().discard(bench.made)
    assert caught.value.kind is ErrorKind.SERVER
    lab.analyzer().discard({"upload": b"{}"})
    assert len(lab.gemini.requests(Route.FILE_DELETE)) == 1


def test_two_analyzers_do_not_mix_their_keys(genai_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = genai_lab
    lab.gemini.rules = Rules(keys={KEY: Key("one"), "second-key-for-tests": Key("two")})
    first: GeminiAnalyzer = lab.analyzer()
    first.analyze(lab.bench())
    monkeypatch.setenv("TEST_GEMINI_KEY", "second-key-for-tests")
    lab.analyzer().analyze(lab.bench())
    first.analyze(lab.bench())
    assert [call.project for call in lab.gemini.requests(Route.GENERATE)] == ["one", "two", "one"]
