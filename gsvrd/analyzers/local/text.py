"""Picks summary, key terms, objectives and questions out of what was said and written. Invents nothing.

Pure functions over `Material`. Sentences are ranked by how much they share with the others (as in TextRank, Mihalcea
and Tarau 2004) and with the slides, which lets remarks about the lesson itself fall behind.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gsvrd.analysis import Chapter, KeyTerm, Line, Question
from gsvrd.analyzers.local.words import say

_STOP = frozenset(
    """
    a about above after again all also am an and any are as at be because been before being below between both but
    by can could did do does doing don done down during each even few for from further get go going good got had
    has have having he her here hers him his how however i if in into is it its just know let lets like ll look
    lot m make many may me might more most much must my need new no nor not now of off ok okay on once one only or
    other our out over own put re really right s said same say see she should so some something such t take than
    that the their them then there these they thing things think this those three through time to today too two up
    us use used using very ve want was way we well were what when where which while who why will with within would
    yes yet you your
    """.split()  # noqa: SIM905 (a list of quoted words hides the words)
)
_TALK = re.compile(
    r"\b(thank you|thanks|welcome|good (morning|afternoon|evening)|my name is|come back to|next (week|time|slide)"
    r"|see you|subscribe|any questions|let us (begin|start|move)|let's (begin|start|move))\b"
    r"|谢谢|大家好|同学们好|欢迎|下节课|再见",
    re.IGNORECASE,
)
_GENERIC = frozenset(
    """
    introduction overview summary agenda outline contents conclusion conclusions questions references thanks review
    目录 小结 总结 谢谢 参考文献 提问 引言
    """.split()  # noqa: SIM905
)
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[A-Za-zÀ-ɏͰ-ӿ][A-Za-z0-9À-ɏͰ-ӿ'’+#-]*|[{_HAN}]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_HAN_EDGE = frozenset(
    "的了是在和与及或也就都而很被把这那我你他她它们个们吗呢吧着过上下中之其为以对从到有不一等可会能要将"
)
_COUNTING = re.compile("第?[一二三四五六七八九十两几每]")
_COURSE = frozenset(
    ("step", "steps", "part", "parts", "chapter", "chapters", "slide", "slides", "lesson", "lessons", "lecture")
)
_HAN_COMMON = frozenset(
    """
    我们 就是 可以 这个 如果 因为 所以 时候 看到 需要 开始 通过 进行 没有 现在 然后 什么 怎么 今天 同学 越来越 变成
    问题 非常 比较 已经
    """.split()  # noqa: SIM905
)
_DEFINES = re.compile(r"^\s*(?:(?:is|are) (?!never|not)|means?\b|refers? to\b)|^\s*(?:是(?!不|否)|指|表示)")
_NAMES = re.compile(r"\b(?:is|are) (?:called|known as)(?: an?| the)? $|(?:叫做?|称为)[“「]?$")
_MAX_RANKED = 600
_NUMBERING = re.compile(
    r"^\s*(?:(?:step|part|chapter|section|lesson|lecture|unit|module|topic|week|slide)\s*(?:\d+(?:\.\d+)*|[ivx]+)\b"
    r"|第\s*[\d一二三四五六七八九十百]+\s*(?:步|章|节|课|讲|部分|单元)"
    r"|[一二三四五六七八九十]+、|[(（][\d一二三四五六七八九十]+[)）]|\d{1,2}[.)、:：](?!\d)|\d{1,2}(?:\.\d{1,2})+\s(?=(?-i:[A-Z])|[\u4e00-\u9fff]))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sentence:
    """A sentence of the transcript and when it begins."""

    text: str
    at_s: float

    @cached_property
    def stems(self) -> frozenset[str]:
        """What it is about."""
        return frozenset(_units(self.text))


@dataclass(frozen=True)
class Material:
    """All that was said and written."""

    chapters: Sequence[Chapter]
    lines: Sequence[Line]
    language: str

    @cached_property
    def sentences(self) -> list[Sentence]:
        """The clear part of the transcript as sentences."""
        return _sentences([line for line in self.lines if not line.unclear])

    @cached_property
    def slide_units(self) -> Counter[str]:
        """What the slides are about; titles count three times."""
        counts: Counter[str] = Counter()
        for chapter in self.chapters:
            if chapter.slide_text:
                counts.update(3 * list(_units(chapter.title)))
                counts.update(u for text in chapter.key_points for u in _units(text))
        return counts

    @cached_property
    def ranked(self) -> list[Sentence]:
        """The sentences worth repeating, best first."""
        return _rank([s for s in self.sentences if _worth(s)], self.slide_units)


def language_of(texts: Iterable[str]) -> str:
    """`zh`, `en`, or `und` when it is neither or there is too little to tell."""
    text = " ".join(texts)
    han, kana = len(re.findall(rf"[{_HAN}]", text)), len(re.findall(r"[\u3040-\u30ff]", text))
    words = re.findall(r"[^\W\d_]+", re.sub(rf"[{_HAN}]", " ", text).lower())
    if han > 2 * len(words) or (han >= 10 and han > 0.3 * (han + len(words))):
        return "und" if kana > 0.1 * han else "zh"
    common = sum(w in _STOP for w in words)
    return "en" if words and common >= 0.08 * len(words) else "und"


def _units(text: str) -> Iterable[str]:
    """Words without endings, and for Chinese every pair of characters."""
    for word in _WORD.findall(text):
        if _is_han(word):
            yield from (word[i : i + 2] for i in range(len(word) - 1) if not _HAN_EDGE & set(word[i : i + 2]))
        elif len(word) > 1 and (low := word.lower().split("'")[0].split("’")[0]) not in _STOP:
            yield _stem(low)


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _sentences(lines: Sequence[Line]) -> list[Sentence]:
    found: list[Sentence] = []
    text, at = "", 0.0
    for i, line in enumerate(lines):
        if not text:
            at = line.start_s
        joint = "" if re.search(rf"[{_HAN}，。]$", text) else " "
        text = f"{text}{joint}{line.text}".strip()
        pause = i + 1 == len(lines) or lines[i + 1].start_s - line.end_s > 1.5
        *complete, rest = _SENTENCE_END.split(text)
        if pause or len(rest) > 300 or not rest:
            complete, rest = [*complete, rest], ""
        found.extend(Sentence(s.strip(), at) for s in complete if s.strip())
        if complete:
            at = line.start_s
        text = rest
    return found


def _worth(sentence: Sentence) -> bool:
    return len(sentence.stems) >= 4 and len(sentence.text) <= 300 and not _TALK.search(sentence.text)


def _rank(sentences: list[Sentence], slides: Counter[str]) -> list[Sentence]:
    if not sentences:
        return []
    if len(sentences) > _MAX_RANKED:
        close = sorted(sentences, key=lambda s: (-sum(u in slides for u in s.stems) / len(s.stems), s.at_s))
        sentences = sorted(close[:_MAX_RANKED], key=lambda s: s.at_s)
    spread = Counter(u for s in sentences for u in s.stems)
    units = {u: i for i, u in enumerate(sorted(u for u, n in spread.items() if n > 1 or u in slides))}
    table = np.zeros((len(sentences), len(units)), np.float32)
    for row, sentence in enumerate(sentences):
        for unit in sentence.stems & units.keys():
            table[row, units[unit]] = np.log1p(len(sentences) / spread[unit])
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    table /= np.where(norms == 0, 1, norms)
    score = _walk(table @ table.T)
    shown = np.array([sum(u in slides for u in s.stems) / len(s.stems) for s in sentences])
    score = score * (1 + 2 * shown)
    order = sorted(range(len(sentences)), key=lambda i: (-round(float(score[i]), 6), i))
    return [sentences[i] for i in order]


def _walk(alike: np.ndarray) -> np.ndarray:
    """How often a reader who hops between sentences with common words comes by each of them; the mean is 1."""
    count = len(alike)
    np.fill_diagonal(alike, 0)
    sums = alike.sum(axis=1, keepdims=True)
    hop = np.where(sums > 0, alike / np.where(sums == 0, 1, sums), 1 / count)
    score = np.ones(count, np.float32)
    for _ in range(30):
        score = 0.15 + 0.85 * (score @ hop)
    return score


def summary(material: Material) -> tuple[str, ...]:
    """Up to three paragraphs of sentences from the transcript, in order; without one, what the slides are called."""
    chosen = _choose(material)
    joint = "" if material.language.startswith("zh") else " "
    if chosen:
        return tuple(joint.join(s.text for s in chosen[i : i + 3]) for i in range(0, len(chosen), 3))
    titles = _titles(material.chapters)
    joint = "；" if material.language.startswith("zh") else "; "
    return (say("covers", material.language, joint.join(titles)),) if titles else ()


def _choose(material: Material) -> list[Sentence]:
    """A fifth of the sentences, nine at most, spread over the chapters and not saying the same twice."""
    wanted = min(9, max(2, len(material.sentences) // 5))
    share = -(-wanted // max(1, len(material.chapters)))
    chosen: list[Sentence] = []
    used: Counter[int] = Counter()
    for sentence in material.ranked:
        chapter = sum(c.start_s <= sentence.at_s for c in material.chapters)
        fresh = all(_overlap(sentence, c) < 0.6 for c in chosen)
        if len(chosen) < wanted and used[chapter] < share and fresh:
            used[chapter] += 1
            chosen.append(sentence)
    return sorted(chosen, key=lambda s: s.at_s)


def _overlap(a: Sentence, b: Sentence) -> float:
    return len(a.stems & b.stems) / max(1, min(len(a.stems), len(b.stems)))


def _titles(chapters: Sequence[Chapter]) -> list[str]:
    """Titles that name a subject; each once."""
    read = [c.title for c in chapters if c.slide_text]
    return list(dict.fromkeys(t for t in read if t and t.lower().strip(" :：.") not in _GENERIC))[:20]


def objectives(material: Material) -> tuple[str, ...]:
    """What the learner should be able to explain: the subjects of the slides on which something is said or written."""
    taught = [c for c in material.chapters if c.key_points or _is_spoken_in(c, material)]
    subjects = list(dict.fromkeys(subject for t in _titles(taught) if (subject := _subject(t))))
    if len(subjects) > 6:
        subjects = [subjects[round(i * (len(subjects) - 1) / 5)] for i in range(6)]
    return tuple(_objective(subject, material.language) for subject in subjects)


def _is_spoken_in(chapter: Chapter, material: Material) -> bool:
    return any(chapter.start_s <= s.at_s < chapter.end_s for s in material.sentences)


def _subject(title: str) -> str:
    """The title without its number: "Step 2: Condensation", "2.1 Condensation" and "第二步：凝结" lose it."""
    bare = _NUMBERING.sub("", title).strip(" :：.。-–—")
    return bare if sum(c.isalpha() for c in bare) >= 2 else ""


def _objective(subject: str, language: str) -> str:
    """A question stays one; anything else is to be explained."""
    if subject.endswith(("?", "？")):
        return say("objective_answer", language, subject)
    return say("objective", language, subject)


def key_terms(material: Material, limit: int = 12) -> tuple[KeyTerm, ...]:
    """The words and phrases that carry the lesson, best first, with the sentence that defines them if one was said."""
    texts = [(c.title, 6) for c in material.chapters if c.slide_text]
    texts += [(p, 2) for c in material.chapters for p in c.key_points]
    texts += [(s.text, 1) for s in material.sentences]
    scores: Counter[str] = Counter()
    places: Counter[str] = Counter()
    for text, weight in texts:
        for term in set(_phrases(text)):
            scores[term] += weight
            places[term] += 1
    free = _free_standing([text for text, _ in texts], [t for t in scores if _is_han(t)])
    titles = " ".join(c.title.lower() for c in material.chapters if c.slide_text)
    usable = [
        t
        for t in scores
        if (places[t] >= 3 or (places[t] == 2 and (" " not in t or t in titles))) and (not _is_han(t) or t in free)
    ]
    usable = [t for t in usable if not any(s in t and s != t and places[s] >= 1.5 * places[t] for s in usable)]
    chosen: list[str] = []
    for term in sorted(usable, key=lambda t: (-scores[t] * _weight(t), t)):
        if len(chosen) < limit and not any(term in c or c in term for c in chosen):
            chosen.append(term)
    return tuple(_key_term(term, material) for term in chosen)


def _is_han(term: str) -> bool:
    return "\u3400" <= term[0] <= "\u9fff"


def _weight(term: str) -> float:
    """Longer terms say more."""
    if _is_han(term):
        return 1.0 + 0.5 * (len(term) - 2)
    return 1.0 + 1.2 * term.count(" ") + (0.3 if len(term) > 7 else 0.0)


def _free_standing(texts: Sequence[str], terms: Sequence[str]) -> frozenset[str]:
    """The Chinese runs that stand between different neighbours: words do, pieces of words do not."""
    everything = "\n".join(["", *texts, ""])
    free = set()
    for term in terms:
        places = [m.start() for m in re.finditer(re.escape(term), everything)]
        before = {everything[i - 1] if _WORD.match(everything[i - 1]) else i for i in places}
        after = {everything[i + len(term)] if _WORD.match(everything[i + len(term)]) else i for i in places}
        if len(before) > 1 and len(after) > 1:
            free.add(term)
    return frozenset(free)


def _phrases(text: str) -> Iterable[str]:
    """Single words and pairs of neighbours in lower case; for Chinese, runs of two to four characters."""
    before, end = "", -1
    for match in _WORD.finditer(text):
        word = match[0].lower()
        if _is_han(word):
            grams = (word[i : i + n] for n in (2, 3, 4) for i in range(len(word) - n + 1))
            yield from (
                g for g in grams if not _HAN_EDGE & {g[0], g[-1]} and g not in _HAN_COMMON and not _COUNTING.match(g)
            )
            before = ""
        elif len(word) < 3 or word.split("'")[0].split("’")[0] in _STOP or word in _COURSE:
            before = ""
        else:
            yield word
            if before and match.start() == end + 1:
                yield f"{before} {word}"
            before, end = word, match.end()


def _key_term(term: str, material: Material) -> KeyTerm:
    hits = [s for s in material.sentences if _find(term, s.text)]
    meaning = next((s.text for s in hits if _defines(s.text, term)), "")
    written = [c.start_s for c in material.chapters if any(_find(term, t) for t in (c.title, *c.key_points))]
    times = [s.at_s for s in hits[:1]] + written[:1]
    return KeyTerm(term=term, meaning=meaning, at_s=min(times) if times else None)


def _defines(text: str, term: str) -> bool:
    """Whether a sentence says what `term` is: it begins with it, or says that something is called so."""
    before, _, after = text.lower().partition(term)
    opens = len(before.split()) <= 2 and len(before) <= 12 and _DEFINES.match(after) is not None
    return opens or _NAMES.search(before) is not None


def quiz(material: Material, terms: Sequence[KeyTerm], limit: int = 6) -> tuple[Question, ...]:
    """Sentences that were said (or written) with a key term taken out; the other choices are key terms too."""
    pool = [t.term for t in terms]
    if len(pool) < 2:
        return ()
    sources = [(s.text, s.at_s) for s in material.ranked]
    sources += [(p, c.start_s) for c in material.chapters for p in c.key_points if len(p) >= 12]
    questions: list[Question] = []
    asked: set[str] = set()
    for text, at in sources:
        answer = next((t for t in pool if t not in asked and _find(t, text)), None)
        if answer is not None and len(questions) < limit:
            asked.add(answer)
            questions.append(_cloze(text, at, answer, pool, material.language))
    return tuple(sorted(questions, key=lambda q: q.at_s or 0.0))


def _find(term: str, text: str) -> re.Match[str] | None:
    edge = "" if _is_han(term) else r"\b"
    return re.search(edge + re.escape(term) + edge, text, re.IGNORECASE)


def _cloze(text: str, at_s: float, answer: str, pool: Sequence[str], language: str) -> Question:
    others = [t for t in pool if t != answer and not _find(t, text)]
    others.sort(key=lambda t: (t.count(" ") != answer.count(" "), abs(len(t) - len(answer)), t))
    choices = tuple(sorted([answer, *others[:3]])) if len(others) >= 2 else ()
    edge = "" if _is_han(answer) else r"\b"
    prompt = re.sub(edge + re.escape(answer) + edge, "____", text, flags=re.IGNORECASE)
    return Question(prompt=say("blank", language, prompt), answer=answer, choices=choices, at_s=at_s)
