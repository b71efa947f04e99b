"""Turns untrusted text into Markdown that shows exactly that text, and does nothing else.

Used by the report's renderer for every value. Covers CommonMark, GitHub's tables and autolinks, and Obsidian's wiki
links, embeds, tags, comments, highlights and formulas. Only what could be markup *in its place* is escaped: teachers
read the raw file too. Each function folds its text to one line. No knowledge of what a report looks like belongs here.

A web address becomes a code span: it can be read and copied, and no reader makes a live link of it. Mail addresses
stay as they are (GitHub links them whatever is escaped; such a link loads nothing).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from urllib.parse import quote


class Markdown(str):
    """Text that is markup already, made by this package; everything else is data and gets escaped."""

    __slots__ = ()


_DROPPED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # controls that are no white space
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"  # bidi and invisible
)
_SURROGATE = re.compile("[\ud800-\udfff]")

_URL_CHARS = r"[A-Za-z0-9\-._~:/?#@!&'()*+,;=%\[\]]*[A-Za-z0-9/=&#%+@\-]"
_ACTIVE = re.compile(
    rf"""
    (?P<url>  (?<![`\\a-z0-9+.\-]) (?: [a-z][a-z0-9+.\-]*:// | www\. ) {_URL_CHARS} (?!`) )
  | (?P<slashes> (?<=[a-z]:)// | //(?=[^\W_]) )
  | (?P<www>  (?<![a-z0-9])www\. )
  | (?P<slash> \\ (?= [!-/:-@\[-`{{-~] | $ ) )
  | (?P<tick> `+ )
  | (?P<run>  \*+ | _+ | ~+ | ==+ | \$+ | %%+ )
  | (?P<open> \[ )
  | (?P<close> \] (?= [(\[] ) )
  | (?P<angle> < (?= [a-z/!?%] | $ ) )
  | (?P<entity> & (?= \#?\w+; ) )
  | (?P<tag>  (?<![^\W_]) \# (?= [^\s\#] ) (?! \d+ (?!\w) ) )
  | (?P<block_id> (?<!\S) \^ (?= [a-z0-9\-]+ $ ) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_BLOCK_START = re.compile(
    r"""
    (?P<number> \d+ ) (?= [.)] (?:\s|$) )
  | (?= \#+ (?:\s|$) )        # heading
  | (?= [-+] (?:\s|$) )       # list
  | (?= > | \[ )              # quote; task, callout, link definition
  | (?= [-=+:|\s]+ $ )        # rule, underline of a heading, front matter, table delimiters
    """,
    re.VERBOSE,
)
_CLOSING_HASHES = re.compile(r"(?<!\S)#+$")


def fold(text: str) -> str:
    """`text` as one printable line: white space folded, control and bidi characters gone, stray bytes as U+FFFD."""
    return " ".join(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", _DROPPED.sub("", text)).split())


def inline(text: str) -> Markdown:
    """For the middle of a line that our own text begins; also inside `**…**`."""
    return Markdown(_ACTIVE.sub(_disarm, fold(text)))


def block(text: str) -> Markdown:
    """For the start of a paragraph, list item or quoted line."""
    return _escape_start(inline(text))


def heading(text: str) -> Markdown:
    """For a heading behind its `#` signs."""
    return _escape_end(inline(text))


def cell(text: str) -> Markdown:
    """For a table cell."""
    return Markdown(inline(text).replace("|", r"\|"))


def anywhere(text: str) -> Markdown:
    """Safe in every place above at the cost of a backslash too many: what a template gets that names no place."""
    return _escape_end(_escape_start(cell(text)))


def quoted(lines: Iterable[str]) -> Markdown:
    """A block quote that keeps its line breaks; blank lines are left out."""
    return Markdown("  \n".join(f"> {block(line)}" for line in lines if fold(line)))


def markup_free(text: str) -> Markdown:
    """For text inside an HTML element of ours, where Markdown does not apply; not for attributes."""
    return Markdown(html.escape(fold(text), quote=False).replace("%%", "&#37;&#37;"))


def link_target(*components: str) -> Markdown:
    """A relative path for `](…)`: letters of any script stay readable, what could matter is percent-encoded."""
    return Markdown("/".join(re.sub(r"[^\w.~\-]", lambda match: quote(match[0], safe=""), part) for part in components))


def _escape_start(line: str) -> Markdown:
    start = _BLOCK_START.match(line)
    return Markdown(f"{line[: start.end()]}\\{line[start.end() :]}" if start else line)


def _escape_end(line: str) -> Markdown:
    return Markdown(_CLOSING_HASHES.sub(lambda match: "\\" + match[0], line))


def _disarm(match: re.Match[str]) -> str:
    kind, found = match.lastgroup, match[0]
    if kind == "url":
        return f"`{found}`"
    if kind == "slashes":
        return r"/\/"
    if kind == "www":
        return found[:-1] + r"\."
    if kind == "angle":
        return "&lt;"  # not a backslash: some renderers take it for text and the tag behind it for HTML
    if kind == "entity":
        return "&amp;"
    start, end = match.span()
    before, after = match.string[max(start - 1, 0) : start], match.string[end : end + 1]
    if kind == "run" and _is_plain_run(found, before, after):
        return found
    if kind == "open" and after and after not in "[^!" and before not in ("[", "^"):
        return found
    return "".join("\\" + char for char in found)


def _is_plain_run(run: str, before: str, after: str) -> bool:
    """Whether signs that mark up text when they touch it stand where they touch nothing. Edges count as touching."""
    if run[0] == "%":
        return False
    if run == "$" and after.isdigit():  # a price; a sign before a digit closes no formula
        return True
    if run[0] == "_" and before.isalnum() and after.isalnum():
        return True
    return before.isspace() and after.isspace()
