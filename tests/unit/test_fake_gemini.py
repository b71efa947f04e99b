"""The pretended Gemini, spoken to by both real SDKs and by hand: if it lies, every test of the analyzer does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field
from support.gemini.clients import MODEL, Genai, Named, Raw, Sdk
from support.gemini.faults import Fault, Kind
from support.gemini.meter import PACIFIC
from support.gemini.refusals import FOREVER, PER_DAY, PER_MINUTE, STORAGE, TOKENS_PER_MINUTE
from support.gemini.rules import KEY, Key, Limits, Rules
from support.gemini.server import FakeGemini

from gsvrd.analysis import Analysis
from gsvrd.clock import ManualClock

GRAIN = 256 * 1024
VIDEO = bytes(range(256)) * 4096
"""A megabyte that is no video: the server never looks inside."""
SHA = hashlib.sha256(VIDEO).hexdigest()
Eventually = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that took its key from there would be refused."""
    monkeypatch.setenv("GOOGLE_API_KEY", "wrong-key-of-the-environment")
    monkeypatch.setenv("GEMINI_API_KEY", "wrong-key-of-the-environment")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 24, 12, 0, tzinfo=PACIFIC).timestamp())


@pytest.fixture
def gemini(clock: ManualClock) -> Iterator[FakeGemini]:
    with FakeGemini(clock=clock) as server:
        yield server


Make = Callable[..., Sdk]


@pytest.fixture(params=["google-genai", "google-generativeai"])
def make(request: pytest.FixtureRequest, gemini: FakeGemini) -> Make:
    if request.param == "google-genai":
        pytest.importorskip("google.genai")

    def made(key: str = KEY, timeout_s: float = 5.0) -> Sdk:
        return (Genai if request.param == "google-genai" else Named)(gemini.url, key, timeout_s)

    return made


@pytest.fixture
def sdk(make: Make) -> Sdk:
    return make()


@pytest.fixture
def genai(gemini: FakeGemini) -> Genai:
    pytest.importorskip("google.genai")
    return Genai(gemini.url, KEY)


@pytest.fixture
def raw(gemini: FakeGemini) -> Iterator[Callable[[], Raw]]:
    made: list[Raw] = []

    def connect() -> Raw:
        made.append(Raw(gemini.url))
        return made[-1]

    yield connect
    for one in made:
        one.close()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "lecture.mp4"
    path.write_bytes(VIDEO)
    return path


@pytest.fixture
def stored(gemini: FakeGemini, raw: Callable[[], Raw]) -> str:
    """A file that is there already."""
    one = raw()
    one.piece(one.start(len(VIDEO), "files/gsvrd-7-1"), 0, VIDEO)
    return "files/gsvrd-7-1"


class Part(BaseModel):
    title: str
    start: float
    end: float
    points: list[str] = Field(min_length=4, max_length=4)


class Lesson(BaseModel):
    title: str
    language: str
    chapters: list[Part]
    note: str | None = None


PLAIN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "level": {"type": "string", "enum": ["easy", "hard"]},
        "chapters": {"type": "array", "items": {"type": "object", "properties": {"start": {"type": "string"}}}},
    },
    "required": ["title"],
}
"""What google-generativeai sends with numbers for types."""


def _error(call: Callable[[], object]) -> BaseException:
    """Whatever the call raises: which class it is, is what is tested."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the classes of two SDKs and of the network
        call()
    return caught.value


def _quota(sdk: Sdk, error: BaseException) -> tuple[str, str]:
    """The quotaId and the delay of a 429."""
    assert sdk.code(error) == 429
    found = {detail["@type"].rsplit(".", 1)[-1]: detail for detail in sdk.details(error)}
    assert found["Help"]["links"]
    return found["QuotaFailure"]["violations"][0]["quotaId"], found["RetryInfo"]["retryDelay"]


# The good way


def test_a_video_goes_all_the_way_through_either_sdk(sdk: Sdk, gemini: FakeGemini, video: Path) -> None:
    gemini.rules = Rules(polls_until_active=2)
    name = sdk.upload(video, "files/gsvrd-1-1", "lecture [duration=90]")
    assert name == "files/gsvrd-1-1"
    states = [sdk.state(name) for _ in range(3)]
    assert states[0] == "PROCESSING"
    assert states[-1] == "ACTIVE"
    counted = sdk.count(name)
    heard = sdk.generate(name)
    assert heard.prompt == counted == 90 * (70 + 32) + 3
    assert heard.finish == "STOP"
    assert SHA[:8] in (heard.text or "")
    assert sdk.names() == [name]
    sdk.delete(name)
    assert gemini.files_alive() == []
    assert gemini.meter.answered() == {SHA: 1}
    assert gemini.meter.uploaded() == {SHA: 1}
    assert gemini.meter.peak_upload_sessions() == 1


def test_google_genai_uploads_in_chunks_and_google_sees_every_byte(
    genai: Genai, gemini: FakeGemini, tmp_path: Path
) -> None:
    path = tmp_path / "long.mp4"
    path.write_bytes(VIDEO * 9)
    genai.upload(path, "files/gsvrd-1-1")
    chunks = gemini.requests("upload.chunk")
    assert [chunk.bytes_in for chunk in chunks] == [8 << 20, 1 << 20]
    assert chunks[1].hashes == [hashlib.sha256(VIDEO * 9).hexdigest()]


def test_a_long_list_of_files_comes_in_pages(sdk: Sdk, gemini: FakeGemini, raw: Callable[[], Raw]) -> None:
    one = raw()
    for number in range(5):
        one.piece(one.start(3, f"files/gsvrd-{number}"), 0, b"abc")
    assert sdk.names() == [f"files/gsvrd-{number}" for number in (4, 3, 2, 1, 0)]
    assert len(gemini.requests("files.list")) == 3


def test_a_name_that_is_taken_is_refused_with_409(sdk: Sdk, stored: str, video: Path) -> None:
    error = _error(lambda: sdk.upload(video, stored))
    assert "409" in str(error)


def test_only_the_named_sdk_puts_the_key_into_urls_and_the_meter_never_keeps_it(
    make: Make, gemini: FakeGemini, video: Path
) -> None:
    sdk = make()
    sdk.generate(sdk.upload(video, "files/gsvrd-1-1"))
    by_url = {str(entry.route) for entry in gemini.requests() if entry.key_in_url}
    assert by_url == ({"discovery", "upload.start", "upload.chunk"} if isinstance(sdk, Named) else set())
    assert KEY not in json.dumps(gemini.meter.summary())


def test_clips_and_frame_rate_weigh_what_is_looked_at(genai: Genai, gemini: FakeGemini, stored: str) -> None:
    whole = genai.count(stored)
    clip = genai.count(stored, fps=0.5, start_offset="10s", end_offset="30s")
    assert whole - 3 == 60 * (70 + 32)
    assert clip - 3 == 10 * 70 + 20 * 32


def test_money_is_tokens_by_the_price_of_the_model_that_served(genai: Genai, gemini: FakeGemini, stored: str) -> None:
    plain = genai.generate(stored)
    genai.generate(stored, service_tier="flex")
    first, second = gemini.requests("generate")
    assert first.usd == pytest.approx((plain.prompt * 0.75 + plain.output * 3.75) / 1e6)
    assert second.usd == pytest.approx(first.usd / 2)
    answer = genai.client.models.generate_content(model="gemini-2.5-flash", contents=["Hello"])
    assert answer.model_version == "gemini-3.5-flash-lite"
    usage = answer.usage_metadata
    output = usage.candidates_token_count + usage.thoughts_token_count
    assert gemini.requests("generate")[2].usd == pytest.approx((usage.prompt_token_count * 0.30 + output * 2.50) / 1e6)


# Answers


def test_an_answer_fits_a_schema_of_either_kind(make: Make, gemini: FakeGemini, stored: str) -> None:
    sdk = make()
    heard = sdk.generate(stored, Lesson if isinstance(sdk, Genai) else PLAIN)
    told = json.loads(heard.text or "")
    assert SHA[:8] in told["title"]
    if isinstance(sdk, Genai):
        lesson = Lesson.model_validate(told)
        edges = [edge for chapter in lesson.chapters for edge in (chapter.start, chapter.end)]
        assert edges == sorted(edges)
        assert edges[-1] <= 60
    else:
        assert told["level"] in ("easy", "hard")
        assert all(chapter["start"].startswith("0:00:") for chapter in told["chapters"])


def test_the_answer_can_be_the_analysis_of_this_project(genai: Genai, gemini: FakeGemini, stored: str) -> None:
    gemini.rules = Rules(durations={SHA: 3700.0})
    lesson = Analysis.model_validate_json(genai.generate(stored, Analysis).text or "")
    assert lesson.duration_s == 3700
    assert lesson.chapters[-1].end_s > 3600
    sentences = [line.text for line in lesson.transcript]
    assert len(set(sentences)) == len(sentences) == 30


def test_the_language_asked_for_is_the_language_of_the_answer(genai: Genai, gemini: FakeGemini, stored: str) -> None:
    chinese = json.loads(genai.generate(stored, Lesson, "Write the lesson. Language: zh").text or "")
    english = json.loads(genai.generate(stored, Lesson, "请写教案。language: en").text or "")
    assert chinese["language"] == "zh"
    assert "光合作用" in chinese["title"]
    assert english["language"] == "en"
    gemini.fault(Fault(Kind.OTHER_LANGUAGE))
    assert json.loads(genai.generate(stored, Lesson, "Language: zh").text or "")["language"] == "en"


def test_an_answer_beyond_the_limit_on_tokens_is_cut_and_thoughts_come_first(sdk: Sdk, stored: str) -> None:
    whole = sdk.generate(stored)
    cut = sdk.generate(stored, max_output_tokens=60)
    none = sdk.generate(stored, max_output_tokens=40)
    assert (cut.finish, cut.output) == ("MAX_TOKENS", 60)
    assert (whole.text or "").startswith(cut.text or "?")
    assert (none.text, none.finish, none.output) == (None, "MAX_TOKENS", 40)


@pytest.mark.parametrize(
    ("kind", "finish", "has_text"),
    [
        (Kind.SAFETY, "SAFETY", False),
        (Kind.RECITATION, "RECITATION", False),
        (Kind.MAX_TOKENS, "MAX_TOKENS", True),
        (Kind.MAX_TOKENS_EMPTY, "MAX_TOKENS", False),
        (Kind.PROMPT_BLOCKED, "", False),
        (Kind.NO_CANDIDATES, "", False),
    ],
)
def test_a_spoilt_answer_is_heard_as_such_and_billed(
    sdk: Sdk, gemini: FakeGemini, stored: str, kind: Kind, finish: str, has_text: bool
) -> None:
    gemini.fault(Fault(kind))
    heard = sdk.generate(stored)
    assert heard.finish == finish
    assert bool(heard.text) == has_text
    assert gemini.meter.usd() > 0
    assert gemini.meter.answered() == {}
    assert sdk.generate(stored).finish == "STOP"


@pytest.mark.filterwarnings("ignore:SOMETHING_NEW")
def test_spoilt_texts_are_spoilt_as_named(genai: Genai, gemini: FakeGemini, stored: str) -> None:
    texts = {}
    for kind in (Kind.BAD_JSON, Kind.FENCED_JSON, Kind.REPETITION, Kind.LATE_TIMES):
        gemini.fault(Fault(kind))
        texts[kind] = genai.generate(stored, Lesson).text or ""
    gemini.fault(Fault(Kind.TEXT, text='{"title": 7}'))
    assert genai.generate(stored, Lesson).text == '{"title": 7}'
    with pytest.raises(json.JSONDecodeError):
        json.loads(texts[Kind.BAD_JSON])
    assert texts[Kind.FENCED_JSON].startswith("```json\n")
    Lesson.model_validate_json(texts[Kind.FENCED_JSON].removeprefix("```json\n").removesuffix("\n```"))
    assert texts[Kind.REPETITION].count(" again and again") == 400
    assert json.loads(texts[Kind.LATE_TIMES])["chapters"][0]["start"] > 60
    gemini.fault(Fault(Kind.FINISH, text="SOMETHING_NEW"))
    assert genai.generate(stored).finish == "SOMETHING_NEW"


# Errors

REFUSALS = [
    (Kind.RATE_MINUTE, 429, "RESOURCE_EXHAUSTED", "TooManyRequests"),
    (Kind.RATE_TOKENS, 429, "RESOURCE_EXHAUSTED", "TooManyRequests"),
    (Kind.RATE_DAY, 429, "RESOURCE_EXHAUSTED", "TooManyRequests"),
    (Kind.RATE_BARE, 429, "RESOURCE_EXHAUSTED", "TooManyRequests"),
    (Kind.INTERNAL, 500, "INTERNAL", "InternalServerError"),
    (Kind.OVERLOADED, 503, "UNAVAILABLE", "ServiceUnavailable"),
    (Kind.DEADLINE, 504, "DEADLINE_EXCEEDED", "GatewayTimeout"),
    (Kind.UNAUTHORIZED, 401, "UNAUTHENTICATED", "Unauthorized"),
    (Kind.KEY_INVALID, 400, "INVALID_ARGUMENT", "BadRequest"),
    (Kind.KEY_LEAKED, 403, "PERMISSION_DENIED", "Forbidden"),
    (Kind.LOCATION, 400, "FAILED_PRECONDITION", "BadRequest"),
    (Kind.MODEL_GONE, 404, "NOT_FOUND", "NotFound"),
    (Kind.FILE_GONE, 403, "PERMISSION_DENIED", "Forbidden"),
    (Kind.FILE_NOT_ACTIVE, 400, "FAILED_PRECONDITION", "BadRequest"),
    (Kind.BAD_REQUEST, 400, "INVALID_ARGUMENT", "BadRequest"),
]


@pytest.mark.parametrize(("kind", "code", "status", "named"), REFUSALS, ids=lambda value: str(value))
def test_each_refusal_reaches_either_sdk_as_its_own_class(
    sdk: Sdk, gemini: FakeGemini, stored: str, kind: Kind, code: int, status: str, named: str
) -> None:
    gemini.fault(Fault(kind, calls=None))
    error = _error(lambda: sdk.generate(stored))
    assert sdk.code(error) == code
    if isinstance(sdk, Genai):
        assert type(error).__name__ == ("ServerError" if code >= 500 else "ClientError")
        assert error.status == status  # type: ignore[attr-defined]
    else:
        assert type(error).__name__ == named
        assert error.response.json()["error"]["status"] == status  # type: ignore[attr-defined]
    # google-auth repeats a 401 twice in silence; everything else is one call.
    calls = 3 if code == 401 and isinstance(sdk, Named) else 1
    assert [entry.status for entry in gemini.requests("generate")] == [code] * calls
    assert gemini.meter.usd() == 0
    gemini.heal()
    assert sdk.generate(stored).finish == "STOP"


WIRE = [
    (Fault(Kind.RESET), "ReadError", "ConnectionError", False),
    (Fault(Kind.RESET, late=True), "ReadError", "ConnectionError", True),
    (Fault(Kind.HANG, seconds=30), "ReadTimeout", "ReadTimeout", False),
    (Fault(Kind.CUT_BODY), "RemoteProtocolError", "ChunkedEncodingError", True),
    (Fault(Kind.HTML_200), "JSONDecodeError", "ParseError", False),
    (Fault(Kind.HTML_502), "ServerError", "BadGateway", False),
]


@pytest.mark.parametrize(("fault", "new", "named", "billed"), WIRE, ids=lambda value: getattr(value, "kind", None))
def test_each_fault_of_the_wire_reaches_either_sdk_as_its_own_class(
    make: Make, gemini: FakeGemini, stored: str, fault: Fault, new: str, named: str, billed: bool
) -> None:
    gemini.fault(fault)
    sdk = make(timeout_s=0.4)
    error = _error(lambda: sdk.generate(stored))
    assert type(error).__name__ == (new if isinstance(sdk, Genai) else named)
    assert (gemini.meter.usd() > 0) is billed
    assert gemini.meter.answered() == {}
    assert sdk.generate(stored).finish == "STOP"


def test_a_trickle_outlives_the_timeout_of_either_sdk(make: Make, gemini: FakeGemini, stored: str) -> None:
    gemini.fault(Fault(Kind.TRICKLE, seconds=0.8))
    assert make(timeout_s=0.4).generate(stored).finish == "STOP"
    (call,) = gemini.requests("generate")
    assert call.delivered


def test_faults_strike_the_calls_the_routes_and_the_files_they_name(
    genai: Genai, gemini: FakeGemini, raw: Callable[[], Raw]
) -> None:
    one = raw()
    for name in ("files/gsvrd-1-1", "files/gsvrd-2-1"):
        one.piece(one.start(3, name), 0, b"abc")
    gemini.fault(Fault(Kind.OVERLOADED, calls=(2, 3), file="gsvrd-2"), Fault(Kind.INTERNAL, route="files", calls=None))
    outcomes = []
    for name in ("files/gsvrd-2-1", "files/gsvrd-1-1", "files/gsvrd-2-1", "files/gsvrd-2-1", "files/gsvrd-2-1"):
        one.generate(name)
        outcomes.append(one.answer()[0])
    assert outcomes == [200, 200, 503, 503, 200]
    assert genai.code(_error(lambda: genai.state("files/gsvrd-1-1"))) == 500


def test_keys_are_refused_as_google_does(make: Make, gemini: FakeGemini, stored: str) -> None:
    gemini.rules = Rules(keys={KEY: Key(), "old": Key(status=401), "leaked": Key(status=403)})
    for key, code in (("nobody's", 400), ("old", 401), ("leaked", 403)):
        sdk = make(key)
        error = _error(partial(sdk.generate, stored))
        assert sdk.code(error) == code
        if code == 400:
            assert sdk.details(error)[0]["reason"] == "API_KEY_INVALID"
    assert make().generate(stored).finish == "STOP"


def test_no_key_at_all_is_403(raw: Callable[[], Raw]) -> None:
    status, _, body = raw().ask("GET", "/v1beta/files")
    assert status == 403
    assert json.loads(body)["error"]["status"] == "PERMISSION_DENIED"


def test_an_unknown_model_is_404_and_a_known_one_tells_its_limits(genai: Genai) -> None:
    assert genai.client.models.get(model=MODEL).input_token_limit == 1_048_576
    error = _error(lambda: genai.client.models.get(model="gemini-0-none"))
    assert genai.code(error) == 404
    error = _error(lambda: genai.client.models.generate_content(model="gemini-0-none", contents=["Hello"]))
    assert genai.code(error) == 404


def test_a_prompt_beyond_the_context_is_refused_with_both_figures(
    genai: Genai, gemini: FakeGemini, stored: str
) -> None:
    gemini.rules = Rules(default_duration_s=20_000)
    error = _error(lambda: genai.generate(stored))
    assert genai.code(error) == 400
    assert "2040003" in str(error)
    assert "1048576" in str(error)


# Files


def test_a_file_that_is_not_active_is_refused_and_a_failed_one_says_so(
    sdk: Sdk, gemini: FakeGemini, clock: ManualClock, video: Path
) -> None:
    gemini.rules = Rules(processing_s=10)
    gemini.fault(Fault(Kind.FILE_FAILED, file="gsvrd-2"))
    good, bad = sdk.upload(video, "files/gsvrd-1-1"), sdk.upload(video, "files/gsvrd-2-1")
    error = _error(lambda: sdk.generate(good))
    assert sdk.code(error) == 400
    assert "not in an ACTIVE state" in str(error)
    clock.advance(9.9)
    assert sdk.state(good) == "PROCESSING"
    clock.advance(0.1)
    assert (sdk.state(good), sdk.state(bad)) == ("ACTIVE", "FAILED")


def test_a_file_lives_48_hours_and_is_then_403(sdk: Sdk, gemini: FakeGemini, clock: ManualClock, stored: str) -> None:
    clock.advance(48 * 3600 - 1)
    assert sdk.state(stored) == "ACTIVE"
    clock.advance(1)
    for call in (lambda: sdk.state(stored), lambda: sdk.generate(stored), lambda: sdk.delete(stored)):
        error = _error(call)
        assert sdk.code(error) == 403
        assert "may not exist" in str(error)


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(gemini: FakeGemini, sdk: Sdk, video: Path) -> None:
    gemini.rules = Rules(max_file_bytes=len(VIDEO))
    sdk.upload(video, "files/gsvrd-1-1")
    gemini.rules = Rules(max_file_bytes=len(VIDEO) - 1)
    assert "400" in str(_error(lambda: sdk.upload(video, "files/gsvrd-2-1")))
    assert gemini.files_alive() == ["files/gsvrd-1-1"]


def test_a_full_store_is_429_for_ever_until_something_is_deleted(
    genai: Genai, gemini: FakeGemini, stored: str, video: Path
) -> None:
    gemini.rules = Rules(max_storage_bytes=2 * len(VIDEO) - 1)
    error = _error(lambda: genai.upload(video, "files/gsvrd-8-1"))
    assert _quota(genai, error) == (STORAGE, FOREVER)
    genai.delete(stored)
    assert genai.upload(video, "files/gsvrd-8-1") == "files/gsvrd-8-1"


def test_bad_names_are_refused(raw: Callable[[], Raw]) -> None:
    for name in ("files/Upper", "files/-dash", "files/" + "x" * 41, "files/a/b"):
        with pytest.raises(AssertionError, match="400"):
            raw().start(3, name)
    assert raw().start(3, "files/" + "x" * 40)


# Uploads that break


def test_an_upload_that_breaks_goes_on_where_the_server_says(gemini: FakeGemini, raw: Callable[[], Raw]) -> None:
    gemini.fault(Fault(Kind.RESET, route="upload.chunk", after_bytes=600_000))
    target = raw().start(len(VIDEO), "files/gsvrd-1-1")
    with pytest.raises(ConnectionError):
        raw().piece(target, 0, VIDEO)
    assert gemini.files_alive() == []
    come = raw().received(target)
    assert come == 2 * GRAIN
    status, headers, body = raw().piece(target, come, VIDEO[come:])
    assert (status, headers["X-Goog-Upload-Status"]) == (200, "final")
    assert json.loads(body)["file"]["name"] == "files/gsvrd-1-1"
    assert gemini.meter.uploaded() == {SHA: 1}


def test_a_client_that_dies_in_the_middle_leaves_whole_grains(
    gemini: FakeGemini, raw: Callable[[], Raw], eventually: Eventually
) -> None:
    target = raw().start(len(VIDEO))
    dying = raw()
    dying.connection.putrequest("POST", target)
    for name, value in (("Content-Length", len(VIDEO)), ("X-Goog-Upload-Command", "upload, finalize")):
        dying.connection.putheader(name, str(value))
    dying.connection.endheaders(VIDEO[: GRAIN + 5])
    eventually(lambda: len(gemini.requests("upload.chunk")) == 1, 5)
    come = raw().received(target)
    assert come in (0, GRAIN)
    # The old connection wakes up again; what it still has to say must not count.
    with suppress(ConnectionError):
        dying.connection.send(VIDEO[GRAIN + 5 :])
    eventually(lambda: gemini.requests("upload.chunk")[0].left, 5)
    assert raw().received(target) == come
    status, _, _ = raw().piece(target, come, VIDEO[come:])
    assert status == 200
    assert gemini.meter.uploaded() == {SHA: 1}


def test_a_lost_last_answer_leaves_a_file_under_the_chosen_name(
    gemini: FakeGemini, raw: Callable[[], Raw], genai: Genai
) -> None:
    gemini.fault(Fault(Kind.RESET, route="upload.chunk", late=True))
    target = raw().start(len(VIDEO), "files/gsvrd-1-1")
    with pytest.raises(ConnectionError):
        raw().piece(target, 0, VIDEO)
    assert genai.state("files/gsvrd-1-1") == "ACTIVE"
    assert raw().received(target) == len(VIDEO)


def test_a_wrong_offset_a_broken_grain_and_missing_bytes_are_refused(raw: Callable[[], Raw]) -> None:
    one = raw()
    target = one.start(len(VIDEO))
    assert one.piece(target, GRAIN, VIDEO[GRAIN:])[0] == 400
    assert one.piece(target, 0, VIDEO[: GRAIN + 1], "upload")[0] == 400
    come = one.received(target)
    assert one.piece(target, come, VIDEO[come : come + GRAIN])[0] == 400
    assert one.piece(target, come + GRAIN, VIDEO[come + GRAIN :] + b"x")[0] == 400


def test_a_body_in_transfer_chunks_is_taken_too(gemini: FakeGemini, raw: Callable[[], Raw]) -> None:
    one = raw()
    target = one.start(len(VIDEO))
    one.connection.request(
        "POST",
        target,
        iter([VIDEO[:1000], VIDEO[1000:]]),
        {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"},
        encode_chunked=True,
    )
    assert one.answer()[0] == 200
    assert gemini.meter.uploaded() == {SHA: 1}


def test_the_classic_protocol_answers_308_until_the_last_piece(gemini: FakeGemini, raw: Callable[[], Raw]) -> None:
    one = raw()
    size = len(VIDEO)
    start = f"/resumable/upload/v1beta/files?key={KEY}&uploadType=resumable"
    _, headers, _ = one.ask("POST", start, b"{}", x_upload_content_length=str(size))
    target = "/" + headers["Location"].split("/", 3)[3]
    status, headers, _ = one.ask("PUT", target, VIDEO[:GRAIN], content_range=f"bytes 0-{GRAIN - 1}/{size}")
    assert (status, headers["Range"]) == (308, f"bytes=0-{GRAIN - 1}")
    status, headers, _ = one.ask("PUT", target, content_range=f"bytes */{size}")
    assert (status, headers["Range"]) == (308, f"bytes=0-{GRAIN - 1}")
    assert one.ask("PUT", target, VIDEO[GRAIN:], content_range=f"bytes {GRAIN}-{size - 1}/{size}")[0] == 200
    assert gemini.meter.uploaded() == {SHA: 1}


def test_uploads_under_way_at_once_are_counted_from_first_to_last_request(
    gemini: FakeGemini, raw: Callable[[], Raw]
) -> None:
    one = raw()
    first = one.start(3)
    second = one.start(3)
    one.piece(first, 0, b"abc")
    one.piece(second, 0, b"abc")
    one.start(3)
    assert gemini.meter.peak_upload_sessions() == 2
    assert gemini.meter.peak("upload") == 1


# Limits


def test_requests_a_minute_are_refused_exactly_beyond_the_limit(
    sdk: Sdk, gemini: FakeGemini, clock: ManualClock, stored: str
) -> None:
    gemini.rules = Rules(limits=Limits(requests_per_minute=3))
    for _ in range(3):
        sdk.generate(stored)
        clock.advance(10)
    assert _quota(sdk, _error(lambda: sdk.generate(stored))) == (PER_MINUTE, "30.000s")
    clock.advance(29.5)
    assert _quota(sdk, _error(lambda: sdk.generate(stored))) == (PER_MINUTE, "0.500s")
    clock.advance(0.5)
    sdk.generate(stored)
    assert sdk.count(stored) > 0  # Counting is another lane.
    # The meter counts what was asked, refusals too.
    assert gemini.meter.worst_minute("project-1", MODEL)[0] == 5


def test_tokens_a_minute_are_refused_exactly_beyond_the_limit(
    sdk: Sdk, gemini: FakeGemini, clock: ManualClock, stored: str
) -> None:
    one = sdk.count(stored)
    gemini.rules = Rules(limits=Limits(tokens_per_minute=2 * one))
    sdk.generate(stored)
    sdk.generate(stored)
    assert _quota(sdk, _error(lambda: sdk.generate(stored))) == (TOKENS_PER_MINUTE, "60.000s")
    clock.advance(60)
    sdk.generate(stored)
    assert gemini.meter.worst_minute("project-1", MODEL)[1] == 3 * one


def test_the_day_ends_at_midnight_in_los_angeles_also_when_the_clocks_change(
    genai: Genai, gemini: FakeGemini, clock: ManualClock, raw: Callable[[], Raw]
) -> None:
    gemini.rules = Rules(limits=Limits(requests_per_day=1))
    for year, month, day, hours in ((2026, 11, 1, 25), (2027, 3, 14, 23), (2027, 3, 20, 24)):
        clock.now = datetime(year, month, day, tzinfo=PACIFIC).timestamp()
        one = raw()
        one.generate()
        assert one.answer()[0] == 200
        clock.advance(hours * 3600 - 1)
        error = _error(lambda: genai.client.models.generate_content(model=MODEL, contents=["Hello"]))
        assert _quota(genai, error)[0] == PER_DAY
        clock.advance(1)
        genai.client.models.generate_content(model=MODEL, contents=["Hello"])


def test_limits_are_of_a_project_and_a_model(gemini: FakeGemini, stored: str, genai: Genai) -> None:
    gemini.rules = Rules(
        keys={KEY: Key(), "same": Key(), "other": Key(project="project-2")}, limits=Limits(requests_per_minute=1)
    )
    genai.generate(stored)
    assert genai.code(_error(lambda: Genai(gemini.url, "same").generate(stored))) == 429
    Genai(gemini.url, "other").generate(stored)
    genai.client.models.generate_content(model="gemini-3.5-flash-lite", contents=["Hello"])


def test_calls_at_once_are_refused_beyond_the_limit_and_a_dead_client_frees_its_place(
    genai: Genai, gemini: FakeGemini, raw: Callable[[], Raw], eventually: Eventually, stored: str
) -> None:
    gemini.rules = Rules(limits=Limits(concurrent=2), generate_s=60)
    first, second = raw(), raw()
    first.generate()
    second.generate()
    eventually(lambda: gemini.meter.inside("project-1", MODEL) == 2, 5)
    assert genai.code(_error(lambda: genai.generate(stored))) == 429
    first.close()
    eventually(lambda: gemini.meter.inside("project-1", MODEL) == 1, 5)
    gemini.rules = replace(gemini.rules, generate_s=0)
    genai.generate(stored)
    assert gemini.meter.peak("generate") == 3
    assert [entry.delivered for entry in gemini.requests("generate")][:2] == [False, False]


def test_a_client_that_has_its_answer_is_not_counted_any_more(gemini: FakeGemini, raw: Callable[[], Raw]) -> None:
    lines = [raw(), raw()]
    for number in range(100):
        lines[number % 2].generate()
        assert lines[number % 2].answer()[0] == 200
    assert gemini.meter.peak("generate") == 1


# As a process


def _http(url: str, orders: object = None) -> Any:
    data = None if orders is None else json.dumps(orders).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=5) as answer:
        return json.load(answer)


def test_as_a_process_it_is_scripted_and_read_over_http(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"polls_until_active": 1, "keys": {KEY: {"project": "p"}}}))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "support.gemini.server", "--rules", str(rules)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            one = Raw(url)
            one.piece(one.start(3, "files/gsvrd-1-1"), 0, b"abc")
            _http(url + "/_script", {"faults": [{"kind": "overloaded", "calls": [1]}], "advance_s": 10})
            with pytest.raises(urllib.error.HTTPError, match="400"):
                _http(url + "/_script", {"faults": [{"kind": "no such trouble"}]})
            one.generate()
            assert one.answer()[0] == 503
            one.generate("files/gsvrd-1-1")
            assert one.answer()[0] == 400  # Not polled: not active.
            seen = _http(url + "/_meter")
            assert seen["files_alive"] == ["files/gsvrd-1-1"]
            assert seen["by_route"] == {"generate": 2, "upload.chunk": 1, "upload.start": 1}
            assert seen["by_status"] == {"200": 2, "400": 1, "503": 1}
            assert seen["worst_minute"] == {f"p/{MODEL}": {"requests": 2, "tokens": 0}}
            _http(url + "/_script", {"advance_s": 48 * 3600})
            assert _http(url + "/_meter")["files_alive"] == []
            one.close()
        finally:
            process.kill()
