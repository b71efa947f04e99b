from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvrd.policy.addresses import Target, is_public, objection, parse_target
from gsvrd.policy.webhook import (
    BACKOFF_MOST_S,
    FEW_TRIES,
    RETRY_AFTER_MOST_S,
    Fate,
    Reply,
    headers,
    judge,
    parse_retry_after,
    parse_secrets,
)

DAY = 86_400.0
# The example that Standard Webhooks publishes with its libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE, SENT_AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def fate(reply: Reply, tries: int = 1, age_s: float = 0.0) -> Fate:
    return judge(reply, tries=tries, age_s=age_s, give_up_s=DAY, chance=0.5).fate


# -- signing -------------------------------------------------------------------------------------------------------------


def test_the_signature_is_the_published_one() -> None:
    assert headers(MESSAGE, SENT_AT, BODY, parse_secrets(SECRET)) == {
        "webhook-id": MESSAGE,
        "webhook-timestamp": str(SENT_AT),
        "webhook-signature": SIGNATURE,
    }


def test_another_program_computes_the_same_signature() -> None:
    secret, body = os.urandom(32), '{"name": "讲座"}'.encode()
    signed = b"evt_1.1700000000." + body
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{secret.hex()}", "-binary"]
    digest = subprocess.run(command, input=signed, capture_output=True, check=True).stdout
    expected = "v1," + base64.b64encode(digest).decode()
    assert headers("evt_1", 1700000000, body, (secret,))["webhook-signature"] == expected


def test_a_new_secret_signs_beside_the_old_one() -> None:
    new = base64.b64encode(hashlib.sha256(b"new").digest()).decode()
    signatures = headers(MESSAGE, SENT_AT, BODY, parse_secrets(f"# rotated\n{new}\n\n {SECRET} \n"))[
        "webhook-signature"
    ]
    assert signatures.split(" ")[1] == SIGNATURE
    assert len(set(signatures.split(" "))) == 2


def test_without_a_secret_nothing_is_signed_and_the_id_is_still_there() -> None:
    assert headers(MESSAGE, SENT_AT, BODY, ()) == {"webhook-id": MESSAGE, "webhook-timestamp": str(SENT_AT)}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no secret"),
        ("# nothing but words\n", "no secret"),
        (f"{SECRET}\nwhsec_no-base!", "line 2 is not base64"),
        (f"whsec_{base64.b64encode(b'short').decode()}", "line 1 holds 5 bytes"),
        (f"whsec_{base64.b64encode(bytes(65)).decode()}", "line 1 holds 65 bytes"),
        ("whsec_ключ", "line 1 is not base64"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_shown(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as raised:
        parse_secrets(text)
    assert all(word not in str(raised.value) for word in text.split("\n")[-1].split("_")[1:])


# -- judging -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_only_an_answer_in_the_200s_is_a_delivery(status: int) -> None:
    assert fate(Reply(status)) is Fate.DELIVERED


@pytest.mark.parametrize("status", [0, 408, 425, 429, 500, 502, 503, 504, 599])
def test_passing_trouble_is_tried_for_a_day_and_no_longer(status: int) -> None:
    assert fate(Reply(status), tries=1000, age_s=DAY - 1) is Fate.AGAIN
    assert fate(Reply(status), tries=1000, age_s=DAY) is Fate.DEAD


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 422, 451])
def test_a_refusal_of_the_message_is_believed_after_a_few_tries(status: int) -> None:
    assert fate(Reply(status), tries=FEW_TRIES - 1) is Fate.AGAIN
    assert fate(Reply(status), tries=FEW_TRIES) is Fate.DEAD


def test_a_receiver_that_is_gone_for_good_is_believed_at_once() -> None:
    assert fate(Reply(410)) is Fate.DEAD


def test_a_target_that_is_not_allowed_is_not_tried_again() -> None:
    assert fate(Reply(error="private", refused=True)) is Fate.DEAD


def test_a_message_that_was_kept_for_long_still_gets_a_few_tries() -> None:
    """The daemon was off for a week, or the message waited behind others."""
    assert [fate(Reply(503), tries, 7 * DAY) for tries in (1, 2, 3)] == [Fate.AGAIN, Fate.AGAIN, Fate.DEAD]


@given(tries=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_the_wait_is_anything_up_to_a_bound_that_doubles(tries: int, chance: float) -> None:
    bound = min(BACKOFF_MOST_S, 2.0 * 2 ** min(tries - 1, 100))
    verdict = judge(Reply(503), tries=tries, age_s=0, give_up_s=DAY, chance=chance)
    assert verdict.delay_s == pytest.approx(chance * bound)


@pytest.mark.parametrize(
    ("asked_s", "waits_s"),
    [(0.0, 1.0), (30.0, 30.0), (RETRY_AFTER_MOST_S, RETRY_AFTER_MOST_S), (1e9, RETRY_AFTER_MOST_S)],
)
def test_a_receiver_may_ask_for_more_time_within_reason(asked_s: float, waits_s: float) -> None:
    reply = Reply(429, retry_after_s=asked_s)
    assert judge(reply, tries=1, age_s=0, give_up_s=DAY, chance=0.5).delay_s == waits_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("9" * 400, 999_999_999.0),
        ("Thu, 25 Feb 2021 15:04:10 GMT", 120.0),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0),
        ("-5", None),
        ("1.5e3", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, SENT_AT) == seconds


# -- addresses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_open_internet_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2002:c0a8:101::1",
    ],
)
def test_addresses_near_by_are_not_public_however_they_are_wrapped(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_public_exactly_if_it_is_so_plainly(address: ipaddress.IPv4Address) -> None:
    for wrapped in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert is_public(ipaddress.ip_address(wrapped)) == is_public(address)


def test_one_address_near_by_is_enough_to_object() -> None:
    target = parse_target("https://both.example/")
    public, private = ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("10.0.0.1")
    assert objection(target, [public], ()) == ""
    assert "10.0.0.1" in objection(target, [public, private], ())
    assert objection(target, [public, private], {"both.example"}) == ""
    assert objection(target, [private], {"example"}) != ""


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://example.org", Target("http", "example.org", 80, "/")),
        ("HTTPS://Example.ORG./Hook?a=b c&d=%20#top", Target("https", "example.org", 443, "/Hook?a=b%20c&d=%20")),
        ("https://[2606:4700::1111]:8443/x", Target("https", "2606:4700::1111", 8443, "/x")),
        ("https://bücher.example/ü", Target("https", "xn--bcher-kva.example", 443, "/%C3%BC")),
        ("http://2130706433/", Target("http", "2130706433", 80, "/")),
    ],
)
def test_a_url_is_taken_apart_as_it_is_connected_to(url: str, target: Target) -> None:
    assert parse_target(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:25/x",
        "//example.org/",
        "example.org",
        "http://",
        "http:///x",
        "http://user:secret@example.org/",
        "http://example.org:99999/",
        "http://example.org:x/",
        "http://exa mple.org/",
        "http://a\\b/",
        "http://fe80::1%25eth0/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://" + "ü" * 80 + "/",
    ],
)
def test_what_is_no_web_address_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="address") as raised:
        parse_target(url)
    assert "secret" not in str(raised.value)
