"""Untrusted text shows as itself in every place of a report, and does nothing."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from gsvrd.reports import escape

HOSTILE = [
    "<script>alert(1)</script>",
    "a <img src=x onerror=alert(1)> b",
    "</details><iframe src='https://evil.example'>",
    "<!-- comment",
    "<?php x ?>",
    "<![CDATA[x]]>",
    "<https://evil.example>",
    "see https://evil.example/a_b*c?x=1&y=[2]. Then go on",
    "(http://evil.example)",
    "HTTP://EVIL.example",
    "视频https://evil.example。谢谢",
    "http://例え.jp/绝",
    "`https://evil.example`",
    "`http://a.example``www.b.example`",
    "www.evil.example and ftp://evil.example/",
    "//evil.example and \\http://evil.example",
    "![pixel](https://evil.example/p.png)",
    "![[embed]] [[wiki|link]] [a][b] [c](d)",
    "[click](javascript:alert(1)) [x]:y",
    "[ref]: https://evil.example",
    "[^1]: a note",
    "text[^1] and ^[inline note]",
    "[ ] task",
    "[x] done",
    "[!NOTE] callout",
    "[music] quiet [laughs]",
    "# no heading",
    "#tag and C# and #1 and (#other) ## x ##",
    "####### seven",
    "- list",
    "+ list",
    "* list",
    "-",
    "1. one",
    "2) two",
    "1234567890. long number",
    "> quote",
    ">quote",
    "---",
    "- - -",
    "***",
    "___",
    "===",
    "=",
    "--- | :--",
    "|---|---|",
    "| a | b |",
    "a | b \\| c \\\\| d",
    "``` py",
    "~~~",
    "`code` ``two` ticks``",
    "unbalanced ` tick",
    "*em* **strong** __strong__ _em_ ~~gone~~ ~5",
    "2 * 3 * 4 and snake_case_name and _ alone _",
    "*",
    "**",
    "==mark== $x^2$ $$y$$ %%hidden%% cost $5 or $10",
    "end ^block-1",
    "&lt;b&gt; &#60; &amp AT&T R&D &copy; &nbsp;",
    "back\\slash \\* \\` end\\",
    "\\",
    "C:\\Users\\me",
    "title: x\n---\nscript: y",
    "a\u2028b\x00c\x1b[31m \u202eevil\u202c \ufeff",
    "lone \udce9 surrogate",
    "{{7*7}} {% raw %} ${x} <% tp %>",
    "    indented code",
    "a < b, x <= 5, <3, 5 > 4, a -> b, <",
    "f(x) = y; see (1), 10.5 - 3, end.",
    "trailing #",
    "#",
    "  \t ",
]

LINKIFY = importlib.util.find_spec("linkify_it") is not None


def parser() -> MarkdownIt:
    """All that could be active is on. Bare `name.tld` and mail addresses stay off: they load nothing on GitHub."""
    made = MarkdownIt("commonmark", {"html": True, "linkify": LINKIFY}).enable(["table", "strikethrough"])
    if LINKIFY:
        made.enable("linkify")
        made.linkify.set({"fuzzy_link": False, "fuzzy_email": False})  # type: ignore[union-attr]
    return made


def leaves(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from leaves(token.children or [])


def kinds(markdown: str) -> list[str]:
    return [token.type for token in leaves(parser().parse(markdown)) if token.type not in ("text", "code_inline")]


def text_of(markdown: str) -> str:
    return "".join(token.content for token in leaves(parser().parse(markdown)) if token.type in ("text", "code_inline"))


PLACES: dict[str, tuple[Callable[[str], str], str]] = {
    "paragraph": (escape.block, "{}"),
    "second paragraph": (escape.block, "first\n\n{}"),
    "item": (escape.block, "- {}"),
    "quote": (escape.block, "> {}"),
    "heading": (escape.heading, "## 0:00:00 {}"),
    "title": (escape.heading, "# {}"),
    "cell": (escape.cell, "| A | B |\n| --- | --- |\n| 0:00 | {} |"),
    "bold": (escape.inline, "- **{}** end"),
    "middle": (escape.inline, "0:00:00 {} end"),
    "anywhere in a paragraph": (escape.anywhere, "{}"),
    "anywhere in a heading": (escape.anywhere, "# {}"),
    "anywhere in a cell": (escape.anywhere, "| A | B |\n| --- | --- |\n| 0:00 | {} |"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_shows_as_itself(place: str, text: str) -> None:
    check(place, text)


markup = st.lists(
    st.sampled_from([*"\\`*_~=$%[](){}<>!#|&;:-+.^@/ \n", "a", "Z", "7", "é", "漢", "http://", "www.", "x.org"]),
    max_size=25,
).map("".join)


@given(st.sampled_from(sorted(PLACES)), markup)
@settings(max_examples=800, deadline=None)
def test_any_mixture_of_signs_shows_as_itself(place: str, text: str) -> None:
    check(place, text)


@given(st.sampled_from(sorted(PLACES)), st.lists(st.sampled_from(HOSTILE), min_size=2, max_size=4))
@settings(max_examples=200, deadline=None)
def test_values_that_stand_side_by_side_do_not_work_together(place: str, texts: list[str]) -> None:
    function, frame = PLACES[place]
    shown = [text for text in texts if escape.fold(text)] or ["x"]
    markdown = frame.format(" ".join(function(text) for text in shown))
    # Between values the edges touch a space, so this is weaker on whole-line signs but stronger on pairs.
    assert kinds(markdown) == kinds(frame.format("plain")), markdown


def check(place: str, text: str) -> None:
    function, frame = PLACES[place]
    expected = escape.fold(text)
    if not expected:
        assert function(text) == ""
        return
    markdown = frame.format(function(text))
    assert kinds(markdown) == kinds(frame.format("plain")), markdown
    assert text_of(markdown) == text_of(frame.format("PLAIN")).replace("PLAIN", expected)


def test_folding_leaves_one_printable_line() -> None:
    assert escape.fold(" a\n\tb\u2028c\u3000d ") == "a b c d"
    assert escape.fold("\x00\x1b[31m\x7f\x9b") == "[31m"
    assert escape.fold("\u202aa\u202eb\u202c\u2066c\u2069\u200f\ufeff\u200b") == "abc"
    assert escape.fold("\U000e0041hidden\U000e007f") == "hidden"
    assert escape.fold("caf\udce9") == "caf\ufffd"
    assert (
        escape.fold("\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f680")
        == "\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f680"
    )


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_obsidian_would_act_on_is_broken(text: str) -> None:
    shown = re.sub(r"`[^`]*`", "", escape.block(text))
    assert "[[" not in shown
    assert "%%" not in shown
    assert "$$" not in shown
    assert not re.search(r"(?<!\\)\[\^", shown)
    assert not re.search(r"==\w", shown)
    assert not re.search(r"(?<![\w\\])#[A-Za-z]", shown)


@pytest.mark.parametrize(
    "text",
    [
        "Light hits the leaf (see 1.2) - and then? Yes!",
        "2 * 3 = 6, a < b, x <= 5, 5 > 4, a -> b",
        "snake_case_name and file.name.txt",
        "R&D at AT&T, C# and issue #12",
        "It costs $5, or $10 with 100% tax",
        "they laugh [laughs] and go on",
        "C:\\Users\\me",
        "光合作用：叶绿素 a*b 以外",
        "1990 was a year",
        "-5 degrees",
    ],
)
def test_plain_sentences_are_left_alone(text: str) -> None:
    assert escape.block(text).replace("a\\*b", "a*b") == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1. Introduction", "1\\. Introduction"),
        ("- point", "\\- point"),
        ("see https://a.example/x.", "see `https://a.example/x`."),
        ("<b>", "&lt;b>"),
        ("#tag", "\\#tag"),
    ],
)
def test_escapes_are_few_and_readable(text: str, shown: str) -> None:
    assert escape.block(text) == shown


def test_a_quote_keeps_its_lines_and_drops_empty_ones() -> None:
    assert escape.quoted(["Title", " ", "- a", "> b"]) == "> Title  \n> \\- a  \n> \\> b"


def test_a_link_target_keeps_letters_and_encodes_the_rest() -> None:
    target = escape.link_target("光合 (1) #a%b.assets", "001.jpg")
    assert target == "光合%20%281%29%20%23a%25b.assets/001.jpg"
    (image,) = [token for token in leaves(parser().parse(f"![x]({target})")) if token.type == "image"]
    assert str(image.attrs["src"]).endswith("%20%281%29%20%23a%25b.assets/001.jpg")


def test_text_in_an_element_of_ours_is_no_markup() -> None:
    assert escape.markup_free('<b onclick="x">&amp; %%\n\n</details>') == (
        '&lt;b onclick="x"&gt;&amp;amp; &#37;&#37; &lt;/details&gt;'
    )
