"""Fetching what links lead to, against real servers on loopback that break off, lie, redirect and hang."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from support.shelf import Act, Handler, Shelf, flood, give, go_to, say, stall

from gsvrd.errors import ErrorKind, Snooze, TaskError
from gsvrd.net import fetch as fetching
from gsvrd.net.containers import is_page, is_video
from gsvrd.net.fetch import LONGEST_WAIT_S, MOST_REDIRECTS, Fetched, FetchTerms, fetch

HEAD = b"\x00\x00\x00\x20ftypisom" + b"\x00" * 1100
DATA = HEAD + bytes(range(256)) * 2000
NEAR = ("127.0.0.1",)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf(DATA) as made:
        yield made


def get(shelf: Shelf, folder: Path, path: str = "/talk.mp4", **terms: Any) -> Fetched:
    return fetch(shelf.url(path), folder / "1", FetchTerms(**{"allowed": NEAR, **terms}), lambda _: None)


def refused(shelf: Shelf, folder: Path, path: str = "/talk.mp4", **terms: Any) -> TaskError:
    with pytest.raises(TaskError) as caught:
        get(shelf, folder, path, **terms)
    return caught.value


def test_what_the_link_leads_to_lies_in_the_spool_and_is_not_asked_for_again(shelf: Shelf, tmp_path: Path) -> None:
    shelf.acts = [give(Content_Disposition='attachment; filename="../../Lesson 1.mp4"')]
    seen: list[float] = []
    terms = FetchTerms(allowed=NEAR)
    found = fetch(shelf.url(), tmp_path / "1", terms, seen.append)
    assert (found.path.read_bytes(), found.size_bytes, found.name) == (DATA, len(DATA), "Lesson 1.mp4")
    assert seen[-1] == 1.0
    assert fetch(shelf.url(), tmp_path / "1", terms, seen.append) == found
    assert len(shelf.got) == 1
    asked = shelf.got[0].headers
    assert asked["accept-encoding"] == "identity"
    assert "range" not in asked


def test_another_link_in_the_same_folder_begins_anew(shelf: Shelf, tmp_path: Path) -> None:
    get(shelf, tmp_path, "/one.mp4")
    get(shelf, tmp_path, "/two.mp4")
    assert [got.path for got in shelf.got] == ["/one.mp4", "/two.mp4"]


# -- going on ----------------------------------------------------------------------------------------------------------


def test_a_connection_that_breaks_is_taken_up_where_it_ended(shelf: Shelf, tmp_path: Path) -> None:
    shelf.acts = [give(200_000), give(150_000)]
    assert get(shelf, tmp_path).path.read_bytes() == DATA
    assert [got.range for got in shelf.got] == ["", "bytes=200000-", "bytes=350000-"]
    assert {got.headers.get("if-range") for got in shelf.got[1:]} == {shelf.etag}


def test_a_connection_that_brings_nearly_nothing_ends_the_try_and_the_next_try_goes_on(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.acts = [give(5000)]
    error = refused(shelf, tmp_path)
    assert error.kind is ErrorKind.HOST
    assert f"5000 of {len(DATA)}" in str(error)
    assert get(shelf, tmp_path).path.read_bytes() == DATA
    assert [got.range for got in shelf.got] == ["", "bytes=5000-"]


def test_a_file_that_is_another_one_by_now_is_fetched_from_its_beginning(shelf: Shelf, tmp_path: Path) -> None:
    shelf.acts = [give(5000)]
    refused(shelf, tmp_path)
    shelf.data = HEAD + b"other" * 1000
    assert get(shelf, tmp_path).path.read_bytes() == shelf.data


@pytest.mark.parametrize(
    "headers", [{"ETag": 'W/"weak"'}, {"ETag": "", "Last-Modified": ""}, {"Accept-Ranges": "none"}]
)
def test_without_a_word_that_proves_it_the_same_nothing_is_gone_on_with(
    headers: dict[str, str], shelf: Shelf, tmp_path: Path
) -> None:
    shelf.acts = [give(200_000, **headers)]
    refused(shelf, tmp_path)
    assert get(shelf, tmp_path).path.read_bytes() == DATA
    assert [got.range for got in shelf.got] == ["", ""]


@pytest.mark.parametrize(
    "answer",
    [
        say(416),
        say(206, b"x" * 10, Content_Range=f"bytes 7-16/{len(DATA)}", Content_Type="video/mp4"),
        say(206, b"x" * 10, Content_Range="bytes 5000-5009/5010", Content_Type="video/mp4"),
        say(206, b"x" * 10, Content_Range="nonsense", Content_Type="video/mp4"),
    ],
    ids=["nothing there", "another place", "another length", "nonsense"],
)
def test_an_answer_that_does_not_go_on_where_it_ended_is_not_glued_on(
    answer: Act, shelf: Shelf, tmp_path: Path
) -> None:
    shelf.acts = [give(5000)]
    refused(shelf, tmp_path)
    shelf.acts = [answer]
    assert get(shelf, tmp_path).path.read_bytes() == DATA
    assert [got.range for got in shelf.got] == ["", "bytes=5000-", ""]


# -- redirects ---------------------------------------------------------------------------------------------------------


def test_redirects_are_followed_and_each_is_checked_again(shelf: Shelf, tmp_path: Path) -> None:
    shelf.acts = [go_to("/there/talk.mp4", 301), go_to(shelf.url("/last.mp4"), 307)]
    assert get(shelf, tmp_path).path.read_bytes() == DATA
    assert [got.path for got in shelf.got] == ["/talk.mp4", "/there/talk.mp4", "/last.mp4"]
    shelf.acts = [go_to(shelf.url("/secret.mp4", host="localhost"))]
    error = refused(shelf, tmp_path, "/other.mp4")
    assert error.kind is ErrorKind.LINK
    assert "localhost is" in str(error)
    assert shelf.got[-1].path == "/other.mp4"


def test_a_loop_of_redirects_ends(shelf: Shelf, tmp_path: Path) -> None:
    shelf.acts = [go_to("/talk.mp4")] * 20
    error = refused(shelf, tmp_path)
    assert (error.kind, len(shelf.got)) == (ErrorKind.LINK, MOST_REDIRECTS + 1)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "http://me:it@127.0.0.1/"])
def test_a_redirect_to_what_is_no_web_address_ends_it(location: str, shelf: Shelf, tmp_path: Path) -> None:
    shelf.acts = [go_to(location)]
    error = refused(shelf, tmp_path)
    assert error.kind is ErrorKind.LINK
    assert "me:it" not in f"{error}{error.hint}"


def test_nothing_leads_from_https_to_http() -> None:
    one = fetching._Fetching("https://a.example/x", None, FetchTerms(), None, lambda _: None)  # type: ignore[arg-type]
    target = one._target("https://a.example/x")
    with pytest.raises(TaskError, match="from https to plain http"):
        one._next(target, "https://a.example/x", "http://a.example/x")
    assert one._next(target, "https://a.example/x", "/y") == "https://a.example/y"


# -- what is no video --------------------------------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html><html>"
NO_VIDEO: dict[str, tuple[Act, ErrorKind, str]] = {
    "page": (say(200, PAGE, Content_Type="text/html; charset=utf-8"), ErrorKind.LINK, "a page of 127.0.0.1"),
    "page called video": (say(200, b"\n " + PAGE, Content_Type="video/mp4"), ErrorKind.LINK, "a page of 127.0.0.1"),
    "picture": (say(200, DATA, Content_Type="image/png"), ErrorKind.LINK, "image/png, which is no video"),
    "lie": (say(200, b"PK\x03\x04" + DATA, Content_Type="video/mp4"), ErrorKind.LINK, "no form that videos have"),
    "playlist": (say(200, b"#EXTM3U\n" * 9, Content_Type="video/mp4"), ErrorKind.LINK, "no form that videos have"),
    "gzip": (say(200, b"\x1f\x8b" + DATA, Content_Type="video/mp4", Content_Encoding="gzip"), ErrorKind.LINK, "gzip"),
    "empty": (say(200, Content_Type="video/mp4"), ErrorKind.EMPTY, "sends nothing"),
    "401": (say(401), ErrorKind.LINK, "wants a password (401)"),
    "403": (say(403), ErrorKind.LINK, "does not allow it (403)"),
    "404": (say(404), ErrorKind.LINK, "nothing at this address (404)"),
    "410": (say(410), ErrorKind.LINK, "no more (410)"),
    "302 to nowhere": (say(302), ErrorKind.LINK, "(302)"),
    "500": (say(500), ErrorKind.HOST, "answers 500"),
    "503": (say(503), ErrorKind.HOST, "answers 503"),
}


@pytest.mark.parametrize("case", NO_VIDEO)
def test_what_is_no_video_is_told_apart_from_what_may_be_one_later(case: str, shelf: Shelf, tmp_path: Path) -> None:
    act, kind, words = NO_VIDEO[case]
    shelf.acts = [act]
    error = refused(shelf, tmp_path, "/talk.mp4?token=sesame")
    assert error.kind is kind
    assert words in str(error)
    assert error.hint
    assert "sesame" not in f"{error}{error.hint}{error.detail}"
    assert len(shelf.got) == 1


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [
        ("30", 30.0, 30.0),
        (formatdate(4e9, usegmt=True), LONGEST_WAIT_S, LONGEST_WAIT_S),
        ("soon", 0.0, 0.0),
        ("-3", 0, 0),
    ],
)
def test_a_server_that_says_when_to_come_again_is_believed_up_to_a_day(
    told: str, least: float, most: float, shelf: Shelf, tmp_path: Path
) -> None:
    shelf.acts = [say(429, Retry_After=told)]
    error = refused(shelf, tmp_path)
    assert error.kind is ErrorKind.HOST
    assert least <= error.delay_s <= most


def test_a_type_that_the_configuration_allows_is_taken(shelf: Shelf, tmp_path: Path) -> None:
    shelf.acts = [give(Content_Type="application/x-lecture")]
    assert get(shelf, tmp_path, types=("application/*",)).size_bytes == len(DATA)


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b"\x00\x00\x00\x18ftypmp42", True),
        (b"\x1aE\xdf\xa3", True),
        (b"RIFF\x00\x00\x00\x00AVI LIST", True),
        (b"RIFF\x00\x00\x00\x00WEBP", False),
        (b"G" + b"\xff" * 187 + b"G" + b"\xff" * 187 + b"G", True),
        (b"G" + b"\xff" * 200, False),
        (b"\xff\xfb\x90", True),
        (b"\xff\xfeh\x00t\x00t\x00p\x00", False),
        (b"GIF89a", False),
        (b"%PDF-1.7", False),
        (b"", False),
    ],
)
def test_containers_are_known_by_their_first_bytes(head: bytes, is_one: bool) -> None:
    assert is_video(head) is is_one
    assert not is_page(head)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_more_than_is_allowed_is_refused_before_a_byte_of_it_is_kept(shelf: Shelf, tmp_path: Path) -> None:
    error = refused(shelf, tmp_path, most_bytes=len(DATA) - 1)
    assert error.kind is ErrorKind.TOO_LARGE
    assert not (tmp_path / "1" / "video").exists()
    assert get(shelf, tmp_path, most_bytes=len(DATA)).size_bytes == len(DATA)


def test_a_download_that_never_ends_is_cut_off_and_given_up(shelf: Shelf, tmp_path: Path) -> None:
    def end_late(handler: Handler) -> None:
        handler.head(200, Content_Type="video/mp4")
        handler.wfile.write(HEAD + b"x" * 2_000_000)
        handler.close_connection = True

    shelf.acts = [flood, end_late]
    for _ in range(2):
        error = refused(shelf, tmp_path, most_bytes=1_000_000)
        assert error.kind is ErrorKind.TOO_LARGE
        assert not (tmp_path / "1" / "video").exists()


def test_a_length_that_is_too_long_is_a_broken_connection_and_one_that_is_too_short_the_end(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.acts = [give(Content_Length=str(len(DATA) + 5), ETag="")]
    assert refused(shelf, tmp_path).kind is ErrorKind.HOST
    shelf.acts = [give(Content_Length="2000")]
    assert get(shelf, tmp_path).path.read_bytes() == DATA[:2000]


def test_a_server_that_falls_silent_is_waited_for_no_longer_than_it_may_be(shelf: Shelf, tmp_path: Path) -> None:
    shelf.acts = [stall(300)]
    error = refused(shelf, tmp_path, silence_s=0.2)
    assert error.kind is ErrorKind.HOST
    assert "sent nothing for" in str(error)
    shelf.acts = [stall(90_000)]
    error = refused(shelf, tmp_path, silence_s=5.0, timeout_s=0.4)
    assert "has not sent all of it within" in str(error)
    assert get(shelf, tmp_path).path.read_bytes() == DATA
    assert shelf.got[-1].range == "bytes=90000-"


def test_what_is_no_http_is_the_servers_fault(shelf: Shelf, tmp_path: Path) -> None:
    def babble(handler: Handler) -> None:
        handler.wfile.write(b"220 mail.example ESMTP\r\n")
        handler.close_connection = True

    shelf.acts = [babble]
    error = refused(shelf, tmp_path)
    assert error.kind is ErrorKind.HOST
    assert "no HTTP" in str(error)


def test_a_chunked_answer_without_a_length_is_whole_only_with_its_end(shelf: Shelf, tmp_path: Path) -> None:
    def chunked(end: bytes) -> Act:
        def act(handler: Handler) -> None:
            handler.protocol_version = "HTTP/1.1"
            handler.head(200, Content_Type="video/mp4", Transfer_Encoding="chunked", Connection="close")
            handler.wfile.write(b"%x\r\n%b\r\n%b" % (len(DATA), DATA, end))
            handler.close_connection = True

        return act

    shelf.acts = [chunked(b"")]
    assert refused(shelf, tmp_path).kind is ErrorKind.HOST
    shelf.acts = [chunked(b"0\r\n\r\n")]
    assert get(shelf, tmp_path).path.read_bytes() == DATA


# -- the machine -------------------------------------------------------------------------------------------------------


def test_a_disk_without_room_makes_it_wait_and_nobody_else(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SPARE_BYTES", 1 << 60)
    with pytest.raises(Snooze, match="no room"):
        get(shelf, tmp_path)


def test_a_disk_that_fills_up_is_trouble_of_the_machine_and_is_given_its_room_back(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    shelf.acts = [give(5000)]
    refused(shelf, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        error = refused(shelf, tmp_path)
    assert error.kind is ErrorKind.PLACE
    assert os.listdir(tmp_path / "1") in ([], ["about.json.part"])
    assert get(shelf, tmp_path).path.read_bytes() == DATA


@pytest.mark.parametrize(("code", "kind"), [(socket.EAI_AGAIN, ErrorKind.NETWORK), (socket.EAI_NONAME, ErrorKind.HOST)])
def test_a_host_that_is_not_found_is_told_from_a_machine_without_names(
    code: int, kind: ErrorKind, shelf: Shelf, tmp_path: Path
) -> None:
    def resolve(host: str, port: int) -> Any:
        raise socket.gaierror(code, "no")

    assert refused(shelf, tmp_path, resolve=resolve).kind is kind


def test_addresses_near_by_are_refused_by_what_the_name_resolves_to(shelf: Shelf, tmp_path: Path) -> None:
    error = refused(shelf, tmp_path, allowed=(), resolve=lambda *_: [ipaddress.ip_address("10.0.0.7")])
    assert (error.kind, shelf.got) == (ErrorKind.LINK, [])
    assert "links.allow" in error.hint


def test_a_server_that_is_down_may_be_up_later(tmp_path: Path) -> None:
    with Shelf() as shelf:
        pass
    error = refused(shelf, tmp_path)
    assert error.kind is ErrorKind.HOST
    assert "cannot be reached" in str(error)
