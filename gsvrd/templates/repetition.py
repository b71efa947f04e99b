"""Finds what a model says over and over: the way in which long answers go wrong. Pure; used by `check`.

The bounds are far above what teachers and songs do: a model that loops does not stop after ten times.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

_LEAST_CHARS = 200
"""Repeated text shorter than this is nobody's trouble."""
_LOOP = re.compile(r"(.{1,80}?)\1{7,}")
_RUN = 6
"""So many equal sentences in a row are a loop, when together they are long."""
_SENTENCE_CHARS = 12
_COPIES_SHARE = 0.4
"""A text of which more than this are copies of its own sentences says nothing new."""
_SHOWN = 40


def repeated(texts: Sequence[str]) -> str:
    """The start of what comes again and again in `texts`, taken in a row; empty when nothing does."""
    sentences = [s for text in texts for part in re.split(r"[。！？.!?\n]+", text) if (s := _plain(part))]
    return _shown(_loop(" ".join(sentences)) or _run(sentences) or _copies(sentences))


def mostly_copies(items: Sequence[str]) -> bool:
    """Whether a list says the same thing in more than half of its entries; for lists of short texts."""
    return len(items) >= 4 and len({_plain(item) for item in items}) * 2 < len(items)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _loop(text: str) -> str:
    return next((m[1] for m in _LOOP.finditer(text) if len(m[0]) >= _LEAST_CHARS and m[1].strip()), "")


def _run(sentences: Sequence[str]) -> str:
    for sentence, group in groupby(sentences):
        count = sum(1 for _ in group)
        if count >= _RUN and count * len(sentence) >= _LEAST_CHARS:
            return sentence
    return ""


def _copies(sentences: Sequence[str]) -> str:
    counts = Counter(sentence for sentence in sentences if len(sentence) >= _SENTENCE_CHARS)
    copied = sum((count - 1) * len(sentence) for sentence, count in counts.items())
    total = sum(map(len, sentences))
    if copied < 2 * _LEAST_CHARS or copied <= _COPIES_SHARE * total:
        return ""
    return counts.most_common(1)[0][0]


def _shown(text: str) -> str:
    text = text.strip()
    return f"{text[:_SHOWN]}…" if len(text) > _SHOWN else text
