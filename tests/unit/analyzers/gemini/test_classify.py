"""The table of errors, row by row, with bodies as they were seen in public."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvrd.analyzers.gemini.classify import Trouble, classify, error_of, spent_on
from gsvrd.analyzers.gemini.service import ServiceFault
from gsvrd.analyzers.gemini.wire import clean, file_of, payload, reply_of
from gsvrd.errors import ErrorKind, Snooze, TaskError

Details = list[dict[str, Any]]


def quota(quota_id: str, delay: Any = None) -> Details:
    made: Details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]},
    ]
    if delay is not None:
        made.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return made


@pytest.mark.parametrize(
    ("code", "status", "message", "details", "trouble"),
    [
        (0, "", "", [], Trouble.NETWORK),
        (200, "", "", [], Trouble.SERVER),
        (302, "", "", [], Trouble.SERVER),
        (404, "", "HTTP 404 of some proxy", [], Trouble.SERVER),
        (429, "", "HTTP 429 of some proxy", [], Trouble.SERVER),
        (429, "RESOURCE_EXHAUSTED", "", quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), Trouble.DAILY),
        (429, "RESOURCE_EXHAUSTED", "", quota("GenerateRequestsPerMinutePerProjectPerModel"), Trouble.RATE),
        (429, "RESOURCE_EXHAUSTED", "", quota("FileStorageBytesPerProject"), Trouble.STORAGE),
        (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", [], Trouble.RATE),
        (429, "RESOURCE_EXHAUSTED", "Quota exceeded: GenerateRequestsPerDay", [], Trouble.DAILY),
        (400, "INVALID_ARGUMENT", "?", [{"reason": "API_KEY_INVALID"}], Trouble.KEY),
        (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", [], Trouble.KEY),
        (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", [], Trouble.KEY),
        (400, "FAILED_PRECONDITION", "Please enable billing on project 7.", [], Trouble.KEY),
        (400, "FAILED_PRECONDITION", "The File x is not in an ACTIVE state and usage", [], Trouble.NOT_ACTIVE),
        (400, "FAILED_PRECONDITION", "Something else.", [], Trouble.REQUEST),
        (400, "INVALID_ARGUMENT", "The input token count (2000000) exceeds the maximum", [], Trouble.REQUEST),
        (401, "UNAUTHENTICATED", "Expected OAuth 2 access token", [], Trouble.KEY),
        (403, "PERMISSION_DENIED", "Your API key was reported as leaked.", [], Trouble.KEY),
        (403, "PERMISSION_DENIED", "You do not have permission to access the File a or it may not exist.", [], "gone"),
        (403, "PERMISSION_DENIED", "Generative Language API has not been used", [{"reason": "SERVICE_DISABLED"}], "k"),
        (404, "NOT_FOUND", "models/gemini-9 is not found for API version v1beta", [], Trouble.MODEL),
        (404, "NOT_FOUND", "This model models/gemini-1 is no longer available.", [], Trouble.MODEL),
        (404, "NOT_FOUND", "The File files/a was not found.", [], "gone"),
        (404, "NOT_FOUND", "Requested entity was not found.", [], Trouble.REQUEST),
        (409, "ALREADY_EXISTS", "Requested entity already exists", [], Trouble.TAKEN),
        (409, "ABORTED", "", [], Trouble.SERVER),
        (413, "INVALID_ARGUMENT", "Request is too large.", [], Trouble.REQUEST),
        (499, "CANCELLED", "", [], Trouble.SERVER),
        (500, "INTERNAL", "", [], Trouble.SERVER),
        (503, "UNAVAILABLE", "The model is overloaded.", [], Trouble.SERVER),
        (504, "DEADLINE_EXCEEDED", "", [], Trouble.SERVER),
    ],
)
def test_each_error_is_what_it_is(code: int, status: str, message: str, details: Details, trouble: str) -> None:
    expected = {"gone": Trouble.FILE_GONE, "k": Trouble.KEY}.get(trouble, trouble)
    assert classify(code, status, message, details).trouble == expected


def test_a_refusal_for_the_day_wins_over_one_for_the_minute() -> None:
    both = quota("GenerateRequestsPerMinutePerProject", "3s") + quota("GenerateRequestsPerDayPerProject", "38s")
    verdict = classify(429, "RESOURCE_EXHAUSTED", "", both)
    assert (verdict.trouble, verdict.retry_after_s) == (Trouble.DAILY, None)


@pytest.mark.parametrize(
    ("delay", "message", "expected"),
    [
        ("38s", "", 38.0),
        ("38.2s", "", 38.2),
        ("0.2s", "", 1.0),
        ("0s", "", 1.0),
        ("9223372036854775807s", "", 3600.0),
        ("9" * 400 + "s", "", 3600.0),
        (None, "Please retry in 12.5s.", 12.5),
        (None, "Please retry in 1m30s.", 90.0),
        (None, "Please retry in 20h32m5.1s.", 3600.0),
        ("soon", "Please retry in 7s.", 7.0),
        (["x"], "", None),
        (None, "", None),
        (None, "Used 7s of 9s.", None),
    ],
)
def test_delays_are_read_and_bounded(delay: Any, message: str, expected: float | None) -> None:
    details = quota("GenerateRequestsPerMinute", delay)
    assert classify(429, "RESOURCE_EXHAUSTED", message, details).retry_after_s == expected


@given(
    st.integers(0, 999),
    st.sampled_from(["", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "NOT_FOUND", "X"]),
    st.text(max_size=40),
    st.lists(
        st.dictionaries(
            st.sampled_from(["violations", "retryDelay", "reason", "@type"]),
            st.none() | st.text(max_size=5) | st.integers() | st.lists(st.none() | st.text(max_size=3), max_size=3),
        ),
        max_size=3,
    ),
)
def test_whatever_comes_is_classified(code: int, status: str, message: str, details: Details) -> None:
    verdict = classify(code, status, message, details)
    delay_s = verdict.retry_after_s
    assert delay_s is None or (math.isfinite(delay_s) and 1.0 <= delay_s <= 3600.0)
    fault = ServiceFault(code, message, status=status, details=details)
    assert isinstance(error_of(fault), Snooze) is (spent_on(fault).outcome == ErrorKind.QUOTA)


@pytest.mark.parametrize("code", [500, 503, 504])
def test_the_server_in_trouble_bills_nothing_if_it_says_so_itself(code: int) -> None:
    assert spent_on(ServiceFault(code, "", status="INTERNAL")).is_known
    assert not spent_on(ServiceFault(code, "a page of a proxy")).is_known


def test_a_refused_key_tells_what_to_do_about_it() -> None:
    error = error_of(ServiceFault(401, "no", status="UNAUTHENTICATED"))
    assert isinstance(error, TaskError)
    assert "AI Studio" in error.hint


# Reading the wire


@pytest.mark.parametrize(
    "secret",
    [
        "the-key-itself",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "AQ.Ab8RN6KabcdefghijklmnopQRST",
        "https://example.org/upload?upload_id=the-bearer&x=1",
        "https://example.org/files?key=the-other-key",
    ],
)
def test_secrets_are_cut_out_of_the_words_of_the_service(secret: str) -> None:
    told = clean(f"Wrong: {secret} was given", "the-key-itself")
    assert told.startswith("Wrong: ")
    for word in ("the-key-itself", "AIzaSy", "Ab8RN6K", "the-bearer", "the-other-key"):
        assert word not in told


@pytest.mark.parametrize(
    ("code", "body", "status"),
    [
        (200, b"<html>", ""),
        (200, b"[1, 2]", ""),
        (200, b"7", ""),
        (502, b"<html>", ""),
        (302, b"", ""),
        (500, b"", ""),
        (500, b'{"error": "no object"}', ""),
        (404, b'{"detail": "of a gateway"}', ""),
        (403, b'{"error": {"message": "no status", "details": 7}}', "UNKNOWN"),
        (429, b'[{"error": {"status": "RESOURCE_EXHAUSTED", "details": [1, {"a": 2}]}}]', "RESOURCE_EXHAUSTED"),
    ],
)
def test_what_is_no_answer_is_a_fault(code: int, body: bytes, status: str) -> None:
    with pytest.raises(ServiceFault) as caught:
        payload(code, body, "k")
    assert (caught.value.code, caught.value.status) == (code, status)


def test_an_empty_answer_is_one() -> None:
    assert payload(200, b"", "k") == {}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "candidates",
                        "content",
                        "parts",
                        "text",
                        "usageMetadata",
                        "promptTokenCount",
                        "error",
                        "sizeBytes",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_answers_of_any_shape_are_read_without_an_exception(told: Any) -> None:
    shape = told if isinstance(told, dict) else {"candidates": told, "usageMetadata": told, "error": told}
    assert isinstance(reply_of(shape).text, str)
    assert file_of(shape).size_bytes == file_of(shape).size_bytes


def test_thoughts_are_no_part_of_the_answer_but_of_its_cost() -> None:
    reply = reply_of(
        {
            "candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "{}"}]}}],
            "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 2, "totalTokenCount": 19},
        }
    )
    assert (reply.text, reply.tokens_in, reply.tokens_out) == ("{}", 10, 9)


def test_times_of_files_are_read_to_the_second() -> None:
    file = file_of({"expirationTime": "2026-11-25T12:00:00.123456789Z", "createTime": "nonsense"})
    assert file.expires_at == pytest.approx(1795608000.123456)
    assert file.created_at == 0.0
