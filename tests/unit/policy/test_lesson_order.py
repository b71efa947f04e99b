"""Lessons come in the order in which a teacher would put them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvrd.policy.lesson_order import chinese_number, lesson_key

IN_ORDER = [
    ["lesson 1.mp4", "Lesson 2.mp4", "lesson 10.mp4", "lesson 11b.mp4"],
    ["1.mp4", "1.5.mp4", "02 intro.mp4", "10.mp4", "intro.mp4"],
    ["第一课.mp4", "第2课.mp4", "第九课.mp4", "第十课.mp4", "第十一课.mp4", "第二十课.mp4", "第一百零三课.mp4"],
    ["week 2/lesson 10.mp4", "week 10/lesson 2.mp4"],
    ["一、引言.mp4", "二、函数.mp4", "十、总结.mp4"],
    ["函数（上）.mp4", "函数（中）.mp4", "函数（下）.mp4"],
    ["函数（二）.mp4", "函数（十）.mp4"],
    ["第１课.mp4", "第２课.mp4", "第１０课.mp4"],
]


@pytest.mark.parametrize("names", IN_ORDER, ids=lambda names: names[0])
def test_numbers_count_as_numbers(names: list[str]) -> None:
    shuffled = random.Random(7).sample(names, len(names))
    assert sorted(shuffled, key=lesson_key) == names


def test_a_numeral_in_a_word_is_a_word() -> None:
    # As text 三 comes before 二; as numbers it would be the other way round.
    assert sorted(["二次函数.mp4", "三角函数.mp4"], key=lesson_key) == ["三角函数.mp4", "二次函数.mp4"]


@pytest.mark.parametrize(
    ("numeral", "number"),
    [
        ("二", 2),
        ("两", 2),
        ("十", 10),
        ("十二", 12),
        ("二十", 20),
        ("一百零三", 103),
        ("一千二百", 1200),
        ("二〇二六", 2026),
    ],
)
def test_chinese_numerals_are_read(numeral: str, number: int) -> None:
    assert chinese_number(numeral) == number


@given(st.lists(st.text(alphabet="第一二十课（）()上0１2. /aB\u0301", max_size=12), max_size=6))
def test_any_names_have_one_order(names: list[str]) -> None:
    assert sorted(names, key=lesson_key) == sorted(random.Random(1).sample(names, len(names)), key=lesson_key)
