"""Words of a made-up lesson, in English and Chinese. `schema` puts them where a schema wants text.

Sentences are numbered and do not repeat within some hundred, so that a check for endless repetition can pass.
"""

from __future__ import annotations

import re

_EN = (
    ("The speaker", "This part", "The example", "The second slide", "A short demonstration", "The diagram", "The text"),
    ("explains", "compares", "repeats", "derives", "questions", "illustrates", "introduces", "measures"),
    (
        "how light turns into sugar",
        "why the two results differ",
        "the steps of the proof",
        "what the formula means in daily life",
        "where the method fails",
        "the terms used so far",
        "a mistake that many beginners make",
        "the link to the previous lesson",
        "which data would settle the question",
    ),
)
_ZH = (
    ("讲者", "这一部分", "这个例子", "第二张幻灯片", "一段简短的演示", "这幅图", "课文"),
    ("解释了", "比较了", "重申了", "推导了", "质疑了", "说明了", "介绍了", "测量了"),
    (
        "光如何变成糖分",
        "两个结果为何不同",
        "证明的各个步骤",
        "公式在日常生活中的含义",
        "这种方法在何处失效",
        "目前用到的术语",
        "许多初学者常犯的错误",
        "与上一课的联系",
        "哪些数据可以回答这个问题",
    ),
)
_TERMS = {"en": ("chlorophyll", "energy", "cell", "leaf", "oxygen"), "zh": ("叶绿素", "能量", "细胞", "叶片", "氧气")}
_CHINESE = re.compile(r"chinese|\bzh\b|中文|汉语|普通话", re.IGNORECASE)
_ENGLISH = re.compile(r"english|\ben\b|英文|英语", re.IGNORECASE)
_ASKED = re.compile(r"(?:language|语言)\W{1,4}(?:is\s+|of\s+)?([\w-]+)", re.IGNORECASE)
_HAN = re.compile(r"[\u4e00-\u9fff]")


def sentence(language: str, number: int) -> str:
    """A whole sentence; the first 504 differ."""
    subjects, verbs, objects = _ZH if language == "zh" else _EN
    words = subjects[number % len(subjects)], verbs[number % len(verbs)], objects[number % len(objects)]
    return "".join(words) + "。" if language == "zh" else " ".join(words) + "."


def phrase(language: str, number: int) -> str:
    """A heading: no full stop."""
    objects = (_ZH if language == "zh" else _EN)[2]
    head = f"第{number % 90 + 1}节：" if language == "zh" else f"Part {number % 90 + 1}: "
    return head + objects[number % len(objects)]


def title(language: str, mark: str) -> str:
    """The lesson's title; `mark` tells which video it belongs to."""
    return f"光合作用讲座 {mark}" if language == "zh" else f"A lecture on photosynthesis {mark}"


def term(language: str, number: int) -> str:
    """A single word to learn."""
    words = _TERMS[language if language in _TERMS else "en"]
    return words[number % len(words)] + ("" if number < len(words) else f" {number // len(words) + 1}")


def speaker(language: str) -> str:
    """Who talks."""
    return "讲者" if language == "zh" else "Speaker 1"


def language_asked(text: str, hint: str) -> str:
    """`zh` or `en`: what `text` names as the language, else the video's own (`hint`), else what `text` is written in."""
    for asked in _ASKED.findall(text):
        if _CHINESE.search(asked):
            return "zh"
        if _ENGLISH.search(asked):
            return "en"
    if _CHINESE.search(text):
        return "zh"
    if _ENGLISH.search(text):
        return "en"
    if hint:
        return "zh" if hint.lower().startswith("zh") else "en"
    return "zh" if len(_HAN.findall(text)) > 0.3 * len(text) else "en"
