"""The pages in Chinese say what those in English say.

Below each of its headings a translation names the section that it translates, with the first digits of the SHA-256 of that
section's text. When the English changes, the test gives the new digits: translate first, then write them down.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [("README.md", "README.zh-CN.md"), ("docs/operate.md", "docs/operate.zh-CN.md")]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
pages = pytest.mark.parametrize(("english", "chinese"), PAGES, ids=[name for name, _ in PAGES])


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    heading: str
    text: str

    @property
    def level(self) -> int:
        return len(self.heading) - len(self.heading.lstrip("#"))

    @property
    def title(self) -> str:
        return self.heading.lstrip("# ")

    @property
    def digits(self) -> str:
        return hashlib.sha256(self.text.strip().encode()).hexdigest()[:12]

    @property
    def mark(self) -> str:
        return f"<!-- en: {self.title} @ {self.digits} -->"

    @property
    def commands(self) -> list[str]:
        """What stands in blocks of code, without the comments."""
        lines = [line for block in FENCE.findall(self.text) for line in block.splitlines()]
        return [code for line in lines if (code := re.sub(r"(^|\s+)# .*", "", line).rstrip())]

    @property
    def words(self) -> list[str]:
        """What stands in the text as code: names, options, commands."""
        return sorted(set(re.findall(r"`([^`\n]+)`", FENCE.sub("", self.text))))

    @property
    def targets(self) -> list[str]:
        """Where links lead, whatever the language; the page in the other language is no target."""
        found = re.findall(r"\]\(([^)]+)\)", FENCE.sub("", self.text))
        return sorted(target.replace(".zh-CN", "") for target in found)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of tables and entries of lists."""
        lines = FENCE.sub("", self.text).splitlines()
        return sum(line.startswith("|") for line in lines), sum(line.startswith("- ") for line in lines)


def sections(page: str) -> list[Section]:
    text = (ROOT / page).read_text(encoding="utf-8")
    hidden = FENCE.sub(lambda block: re.sub("(?m)^#", "\0", block[0]), text)
    parts = [part.replace("\0", "#") for part in re.split(r"(?m)^(?=#+ )", hidden) if part.strip()]
    return [Section(*part.partition("\n")[::2]) for part in parts]


@pages
def test_each_section_is_translated_from_what_it_is_now(english: str, chinese: str) -> None:
    theirs, ours = sections(english), sections(chinese)
    assert [section.level for section in ours] == [section.level for section in theirs]
    marks = [section.text.lstrip().partition("\n")[0] for section in ours]
    assert [mark for mark, section in zip(marks, theirs, strict=True) if mark != section.mark] == [], [
        section.mark for mark, section in zip(marks, theirs, strict=True) if mark != section.mark
    ]


@pages
def test_code_words_links_and_tables_are_the_same(english: str, chinese: str) -> None:
    for theirs, ours in zip(sections(english), sections(chinese), strict=True):
        assert ours.commands == theirs.commands, theirs.title
        assert ours.words == theirs.words, theirs.title
        assert ours.targets == theirs.targets, theirs.title
        assert ours.shape == theirs.shape, theirs.title


@pages
def test_a_translation_is_in_chinese(english: str, chinese: str) -> None:
    for section in sections(chinese):
        text = re.sub(r"<!--.*?-->|`[^`\n]+`|\]\([^)]+\)", "", FENCE.sub("", section.text))
        signs = len(re.findall(r"[\u4e00-\u9fff]", text))
        letters = len(re.findall(r"[A-Za-z]", text))
        assert signs >= letters, section.title


@pages
def test_links_between_the_pages_lead_somewhere(english: str, chinese: str) -> None:
    for page in (english, chinese):
        for section in sections(page):
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", FENCE.sub("", section.text)):
                assert ((ROOT / page).parent / target).exists(), (page, target)
