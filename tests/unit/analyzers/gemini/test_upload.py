"""The uploader against a server that breaks off, forgets, stalls and lies about nothing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.gemini.faults import Fault, Kind, Route
from support.gemini.rules import KEY, Rules
from support.gemini.server import FakeGemini

from gsvrd.analysis import MediaFacts
from gsvrd.analyzers.gemini.classify import Trouble, verdict_of
from gsvrd.analyzers.gemini.service import Endpoint, RemoteFile, ServiceFault
from gsvrd.analyzers.gemini.settings import GOOGLE
from gsvrd.analyzers.gemini.upload import Parcel, Uploader, _pinned, mime_of
from gsvrd.errors import ErrorKind, TaskError

GRAIN = 256 * 1024
NAME = "files/gsvrd-up-1"
Send = Callable[..., RemoteFile | None]


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def send(gemini: FakeGemini, video: Path, pauses: list[float]) -> Send:
    def sent(
        *, size: int | None = None, timeout_s: float = 30.0, heard: list[float] | None = None
    ) -> RemoteFile | None:
        parcel = Parcel(str(video), size or video.stat().st_size, "video/mp4", NAME, "gsvrd lecture.mp4")
        uploader = Uploader(Endpoint(gemini.url, KEY, 10.0), timeout_s, pauses.append)
        return uploader.upload(parcel, (heard if heard is not None else []).append)

    return sent


def digest(video: Path) -> str:
    return hashlib.sha256(video.read_bytes()).hexdigest()


def fault_of(call: Callable[[], object]) -> ServiceFault:
    with pytest.raises(ServiceFault) as caught:
        call()
    return caught.value


def test_a_file_goes_in_two_requests(gemini: FakeGemini, video: Path, send: Send) -> None:
    heard: list[float] = []
    file = send(heard=heard)
    assert file
    assert (file.name, file.size_bytes, file.state) == (NAME, video.stat().st_size, "ACTIVE")
    assert [entry.route for entry in gemini.requests()] == [Route.UPLOAD_START, Route.UPLOAD_CHUNK]
    assert gemini.requests()[1].hashes == [digest(video)]
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    assert len(heard) > 20


def test_after_a_break_only_what_is_missing_is_sent(gemini: FakeGemini, video: Path, send: Send) -> None:
    gemini.fault(Fault(Kind.RESET, route=Route.UPLOAD_CHUNK, after_bytes=5 * GRAIN))
    assert send()
    assert gemini.meter.uploaded() == {digest(video): 1}
    last = gemini.requests(Route.UPLOAD_CHUNK)[-1]
    assert last.bytes_in == video.stat().st_size - 5 * GRAIN
    assert len(gemini.requests(Route.UPLOAD_START)) == 1


def test_many_breaks_are_no_reason_to_give_up_while_bytes_arrive(
    gemini: FakeGemini, video: Path, send: Send, pauses: list[float]
) -> None:
    gemini.fault(Fault(Kind.RESET, route=Route.UPLOAD_CHUNK, after_bytes=GRAIN, calls=tuple(range(1, 8))))
    assert send()
    assert gemini.meter.uploaded() == {digest(video): 1}
    assert pauses == [1.0] * 7


def test_an_upload_that_does_not_move_is_given_up(gemini: FakeGemini, send: Send, pauses: list[float]) -> None:
    gemini.fault(Fault(Kind.RESET, route=Route.UPLOAD_CHUNK, calls=None))
    fault = fault_of(send)
    assert verdict_of(fault).trouble is Trouble.NETWORK
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_a_file_whose_last_answer_was_lost_is_known_to_be_complete(gemini: FakeGemini, video: Path, send: Send) -> None:
    gemini.fault(Fault(Kind.RESET, route=Route.UPLOAD_CHUNK, late=True))
    assert send() is None
    assert gemini.files_alive() == [NAME]
    assert gemini.meter.uploaded() == {digest(video): 1}


@pytest.mark.parametrize("kind", [Kind.OVERLOADED, Kind.HTML_502, Kind.HTML_200, Kind.CUT_BODY])
def test_trouble_of_the_server_in_the_middle_is_a_break(
    gemini: FakeGemini, video: Path, send: Send, kind: Kind
) -> None:
    gemini.fault(Fault(kind, route=Route.UPLOAD_CHUNK))
    send()
    assert gemini.meter.uploaded() == {digest(video): 1}


def test_the_question_how_far_it_came_may_fail_too(gemini: FakeGemini, video: Path, send: Send) -> None:
    gemini.fault(
        Fault(Kind.RESET, route=Route.UPLOAD_CHUNK, after_bytes=2 * GRAIN),
        Fault(Kind.RESET, route=Route.UPLOAD_QUERY),
    )
    send()
    assert gemini.meter.uploaded() == {digest(video): 1}


def test_an_upload_ends_when_its_time_is_up(gemini: FakeGemini, send: Send) -> None:
    gemini.fault(Fault(Kind.HANG, route=Route.UPLOAD_CHUNK, seconds=30.0))
    begun = time.monotonic()
    assert verdict_of(fault_of(lambda: send(timeout_s=1.0))).trouble is Trouble.NETWORK
    assert time.monotonic() - begun < 5.0


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (Fault(Kind.STORAGE), Trouble.STORAGE),
        (Fault(Kind.KEY_INVALID, route=Route.UPLOAD_START), Trouble.KEY),
        (Fault(Kind.RATE_MINUTE, route=Route.UPLOAD_START), Trouble.RATE),
        (Fault(Kind.INTERNAL, route=Route.UPLOAD_START), Trouble.SERVER),
        (Fault(Kind.RESET, route=Route.UPLOAD_START), Trouble.NETWORK),
    ],
    ids=lambda one: getattr(one, "kind", ""),
)
def test_an_upload_that_may_not_begin_is_asked_for_once(
    gemini: FakeGemini, send: Send, trouble: Fault, expected: Trouble
) -> None:
    gemini.fault(trouble)
    assert verdict_of(fault_of(send)).trouble is expected
    assert len(gemini.requests()) == 1


def test_a_file_beyond_the_limit_of_the_service_is_refused_for_good(gemini: FakeGemini, send: Send) -> None:
    gemini.rules = Rules(max_file_bytes=1000)
    fault = fault_of(send)
    assert verdict_of(fault).trouble is Trouble.REQUEST
    assert "larger than the limit" in str(fault)


def test_a_name_that_is_taken_is_told_apart(gemini: FakeGemini, send: Send) -> None:
    send()
    assert verdict_of(fault_of(send)).trouble is Trouble.TAKEN


def test_an_upload_that_the_service_forgot_is_no_wrong_request(gemini: FakeGemini, send: Send) -> None:
    gemini.fault(
        Fault(Kind.RESET, route=Route.UPLOAD_CHUNK, after_bytes=2 * GRAIN),
        Fault(Kind.MODEL_GONE, route=Route.UPLOAD_QUERY),
    )
    assert verdict_of(fault_of(send)).trouble is Trouble.SERVER


def test_a_source_that_shrinks_is_noticed(gemini: FakeGemini, video: Path, send: Send) -> None:
    with pytest.raises(TaskError) as caught:
        send(size=video.stat().st_size + 1)
    assert caught.value.kind is ErrorKind.CHANGED
    assert gemini.files_alive() == []


def test_the_key_is_in_no_url(gemini: FakeGemini, send: Send) -> None:
    gemini.fault(Fault(Kind.RESET, route=Route.UPLOAD_CHUNK, after_bytes=2 * GRAIN))
    send()
    assert len(gemini.requests()) == 4
    assert not any(entry.key_in_url for entry in gemini.requests())


def test_no_error_tells_where_the_upload_went(gemini: FakeGemini, send: Send) -> None:
    gemini.fault(Fault(Kind.RESET, route=Route.UPLOAD_CHUNK, calls=None))
    error: BaseException | None = fault_of(send)
    told = ""
    while error is not None:
        told += f"{error!r} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert "upload_id" not in told
    assert gemini.url.removeprefix("http://") not in told


def test_behind_a_gateway_the_upload_goes_through_it() -> None:
    given = "https://generativelanguage.googleapis.com/upload/v1beta/files?upload_id=abc&upload_protocol=resumable"
    rest = "/upload/v1beta/files?upload_id=abc&upload_protocol=resumable"
    assert _pinned(given, GOOGLE) == given
    assert _pinned(given, "http://gate.example:8080") == f"http://gate.example:8080{rest}"
    assert _pinned(given, "https://gate.example/gemini") == f"https://gate.example/gemini{rest}"
    assert _pinned(f"https://gate.example/gemini{rest}", "https://gate.example/gemini").count("/gemini/") == 1


@pytest.mark.parametrize(
    ("container", "codec", "expected"),
    [
        ("mov,mp4,m4a,3gp,3g2,mj2", "h264", "video/mp4"),
        ("mov,mp4,m4a,3gp,3g2,mj2", "", "audio/mp4"),
        ("matroska,webm", "vp9", "video/webm"),
        ("mpegts", "h264", "video/mpeg"),
        ("avi", "mpeg4", "video/avi"),
        ("mp3", "", "audio/mp3"),
        ("something new", "h264", "video/mp4"),
    ],
)
def test_the_type_follows_the_container(container: str, codec: str, expected: str) -> None:
    facts = MediaFacts(sha256="", size_bytes=1, container=container, duration_s=1.0, video_codec=codec)
    assert mime_of(facts) == expected
