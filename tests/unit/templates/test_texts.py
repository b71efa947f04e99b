"""The small pure parts: times, scripts, repetition."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvrd.templates import repetition, times
from gsvrd.templates.scripts import script_of, units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00", 0),
        ("1:05", 65),
        (" 59:59 ", 3599),
        ("1:00:00", 3600),
        ("75:30", 4530),
        ("2:03.5", 123.5),
        ("0:1:02", 62),
    ],
)
def test_times_are_read_as_models_write_them(text: str, seconds: float) -> None:
    assert times.seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "65", "1.05", "1:5", "1:60", "1:75:00", "-1:00", "1:00:00:00", "1:05 pm", "１:05"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: MM:SS or H:MM:SS"):
        times.seconds(text)


@given(st.integers(0, 10**6))
def test_a_time_that_is_shown_is_read_back(seconds: int) -> None:
    assert times.seconds(times.clock(seconds)) == seconds


def test_a_word_weighs_as_much_as_a_character() -> None:
    assert units(["用 Python 写代码 123 ！", "café"]) == {"han": 4, "latin": 2}


def test_scripts_are_told_apart() -> None:
    assert units(["Привет мир"]) == {"cyrillic": 2}
    assert units(["東京タワー"]) == {"han": 2, "kana": 3}
    assert units(["안녕하세요 여러분"]) == {"hangul": 2}
    assert units(["สวัสดี"]).keys() == {"thai"}
    assert script_of("zh-Hant-TW") == script_of("ZH") == {"han"}
    assert script_of("sr-Latn") == frozenset()


SENTENCE = (
    "The leaf takes in light and gives off oxygen as long as the lamp is on, which we can count in bubbles of gas"
)


@pytest.mark.parametrize(
    "texts",
    [
        ["So we go on " + "and on " * 60],
        ["好的。"] * 120,
        [f"{SENTENCE}."] * 5,
        ["啊" * 300],
        [*(f"Step {n} of {n * 7} is new: {SENTENCE} {n}." for n in range(90)), *[f"{SENTENCE}."] * 8],
        [f"{SENTENCE}.", f"Now think: {SENTENCE}."] * 8,
    ],
)
def test_loops_are_found_in_words_sentences_and_cycles(texts: list[str]) -> None:
    assert repetition.repeated(texts)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["…" * 500, "- " * 500],
        ["哈" * 40],
        [SENTENCE, SENTENCE, SENTENCE],
        [f"Step {n}: {SENTENCE} {n}." for n in range(3)],
        ["La la la la la la la la la la. We sing it once more."] * 3,
    ],
)
def test_what_people_say_is_no_loop(texts: list[str]) -> None:
    assert repetition.repeated(texts) == ""


def test_a_long_answer_is_looked_through_quickly() -> None:
    texts = [f"{n} {n * n} apples and {n * 7919 % 104729} pears lie in the box number {n}." for n in range(5000)]
    started = time.process_time()
    assert repetition.repeated(texts) == ""
    assert time.process_time() - started < 10
