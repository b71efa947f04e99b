from __future__ import annotations

import pytest

from gsvrd.policy.links import Link, parse_link

ID = "aqz-KE-bpKQ"


@pytest.mark.parametrize(
    "url",
    [
        f"https://www.youtube.com/watch?v={ID}",
        f"http://youtube.com/watch?v={ID}&t=42s",
        f"https://m.youtube.com/watch?list=PL123&v={ID}&index=2",
        f"https://music.youtube.com/watch?v={ID}",
        f"https://youtu.be/{ID}?si=abc",
        f"  https://youtu.be/{ID}  ",
        f"https://www.youtube.com/shorts/{ID}",
        f"https://www.youtube.com/embed/{ID}?start=3",
        f"https://www.youtube-nocookie.com/embed/{ID}",
        f"https://www.youtube.com/live/{ID}/",
        f"HTTPS://WWW.YouTube.COM:443/watch?v={ID}#t=1",
    ],
)
def test_all_spellings_of_a_video_of_youtube_are_one_link(url: str) -> None:
    link = parse_link(url)
    assert link == Link(f"https://www.youtube.com/watch?v={ID}", ID)
    assert (link.name, link.file) == (f"https://youtu.be/{ID}", f"youtube-{ID}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://www.youtube.com/playlist?list=PL123", "playlist"),
        ("https://www.youtube.com/watch?list=PL123", "playlist"),
        ("https://www.youtube.com/embed/videoseries?list=PL123", "playlist"),
        ("https://www.youtube.com/@lecturer", "none of a video"),
        ("https://www.youtube.com/watch?v=short", "none of a video"),
        (f"https://youtu.be/{ID}x", "none of a video"),
        ("https://youtu.be/", "none of a video"),
        ("ftp://example.org/a.mp4", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("javascript:alert(1)", "neither http nor https"),
        ("http://[", "cannot be read"),
        ("https://me:sesame@example.org/a.mp4", "user name or password"),
        ("https:///a.mp4", "host of the address is none"),
        ("https://example.org:port/a.mp4", "port of the address is none"),
        ("", "neither http nor https"),
    ],
)
def test_what_leads_to_no_video_is_refused_in_words_that_do_not_repeat_it(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_link(url)
    assert not url or url not in str(caught.value)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://Example.ORG:80/A b.mp4#t=5", "http://example.org/A%20b.mp4"),
        ("https://example.org", "https://example.org/"),
        ("https://example.org.:8443/a.mp4?x=1&y=2", "https://example.org:8443/a.mp4?x=1&y=2"),
        ("https://münchen.example/a.mp4", "https://xn--mnchen-3ya.example/a.mp4"),
        ("http://[::1]:8080/a.mp4", "http://[::1]:8080/a.mp4"),
        ("https://example.org/a%20b.mp4", "https://example.org/a%20b.mp4"),
    ],
)
def test_other_links_have_one_form_too(url: str, canonical: str) -> None:
    assert parse_link(url).url == canonical
    assert parse_link(canonical).url == canonical


def test_what_is_shown_of_a_link_holds_no_query() -> None:
    link = parse_link("https://example.org/course/one%20two.mp4?token=sesame")
    assert link.name == "https://example.org/course/one%20two.mp4?…"
    assert link.file == "one two.mp4"
    assert parse_link("https://example.org/").file == "example.org"
    assert len(parse_link(f"https://example.org/{'x' * 3000}.mp4").name) < 130


def test_a_link_is_the_same_only_with_the_same_wishes() -> None:
    one, other = parse_link("https://example.org/a.mp4"), parse_link("https://example.org/b.mp4")
    found = {
        one.identity([]),
        one.identity([("template", "x")]),
        other.identity([]),
        other.identity([("template", "x")]),
    }
    assert len(found) == 4
    assert one.identity([]) == parse_link("https://EXAMPLE.org/a.mp4#x").identity([])
    assert all(0 <= number < 1 << 63 for number in found)
