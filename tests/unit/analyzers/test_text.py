from __future__ import annotations

import pytest

from gsvrd.analysis import Chapter, Line
from gsvrd.analyzers.local import text
from gsvrd.analyzers.local.text import Material

SPOKEN = [
    "Good morning and welcome to this lesson about the water cycle.",
    "Evaporation is the change of liquid water into vapor.",
    "The sun warms the surface of the ocean, and water rises as vapor.",
    "We will come back to this next week.",
    "Condensation turns water vapor into tiny droplets high in the air.",
    "Droplets gather around dust and form clouds.",
    "Precipitation brings water from the clouds back to the ground.",
    "Without precipitation the rivers would carry no water to the ocean.",
    "Evaporation from the ocean starts the water cycle again.",
    "Thank you for watching and see you soon.",
]


def lines(spoken: list[str]) -> list[Line]:
    return [Line(start_s=6.0 * i, end_s=6.0 * i + 4, text=t) for i, t in enumerate(spoken)]


def chapter(start: float, title: str, *points: str) -> Chapter:
    return Chapter(start_s=start, end_s=start + 30, title=title, key_points=points, slide_text=(title, *points))


ENGLISH = Material(
    [
        chapter(0, "Evaporation", "The sun warms the ocean", "Water becomes vapor"),
        chapter(30, "Precipitation", "Clouds give their water back", "Rivers lead to the ocean"),
    ],
    lines(SPOKEN),
    "en",
)
CHINESE = Material(
    [chapter(0, "蒸发", "海水受热变成水蒸气"), chapter(30, "降水", "水珠落回地面")],
    lines(
        [
            *("太阳晒热海面，海水蒸发成水蒸气。", "蒸发是液态水变成气体的过程。", "水蒸气上升以后会变冷。"),
            *("降水把水带回地面。", "山区的降水比平原更多。", "谢谢大家。"),
        ]
    ),
    "zh",
)
NOTHING = Material([Chapter(start_s=0, end_s=9, title="")], [], "und")


def test_the_summary_is_made_of_sentences_that_were_said_in_their_order() -> None:
    said = " ".join(text.summary(ENGLISH))
    chosen = [s for s in SPOKEN if s in said]
    assert said == " ".join(chosen)
    assert 2 <= len(chosen) <= 4


def test_the_summary_leaves_out_remarks_about_the_lesson() -> None:
    said = " ".join(text.summary(ENGLISH))
    assert not any(word in said for word in ("welcome", "Thank you", "come back to this"))


def test_a_talk_of_nothing_but_remarks_has_no_summary() -> None:
    remarks = ["Thank you for listening to rivers and clouds.", "We come back to clouds, rivers and oceans next week."]
    assert text.summary(Material([], lines(remarks), "en")) == ()


def test_unclear_lines_are_not_repeated() -> None:
    doubtful = [line.model_copy(update={"unclear": True}) for line in ENGLISH.lines]
    assert Material([], doubtful, "en").sentences == []


def test_without_a_transcript_the_summary_names_the_slides() -> None:
    assert text.summary(Material(ENGLISH.chapters, [], "en")) == ("The slides cover: Evaporation; Precipitation.",)


def test_the_slides_words_are_key_terms_and_their_definition_is_quoted() -> None:
    terms = {t.term: t for t in text.key_terms(ENGLISH)}
    assert {"evaporation", "precipitation"} <= set(terms)
    assert terms["evaporation"].meaning == SPOKEN[1]
    assert terms["precipitation"].meaning == ""
    assert not {"the", "lesson", "come", "this"} & set(terms)


def test_chinese_terms_are_words_and_not_pieces_of_words() -> None:
    terms = {t.term for t in text.key_terms(CHINESE)}
    assert {"蒸发", "降水", "水蒸气"} <= terms
    assert not any(t in terms for t in ("蒸气", "水蒸", "海水蒸", "的降水"))


@pytest.mark.parametrize("material", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_each_question_hides_an_answer_that_was_said_or_written(material: Material) -> None:
    questions = text.quiz(material, text.key_terms(material))
    source = "\n".join([x.text for x in material.lines] + [p for c in material.chapters for p in c.key_points])
    assert questions
    for q in questions:
        assert (
            q.prompt.removeprefix("Fill the gap: ").removeprefix("填空：").replace("____", q.answer).lower()
            in source.lower()
        )
        assert not q.choices or (q.answer in q.choices and len(set(q.choices)) == len(q.choices) >= 3)


def test_objectives_are_phrased_in_the_language_of_the_report() -> None:
    assert text.objectives(ENGLISH) == (
        "Explain “Evaporation” in your own words.",
        "Explain “Precipitation” in your own words.",
    )
    assert text.objectives(CHINESE) == ("能用自己的话解释“蒸发”。", "能用自己的话解释“降水”。")


@pytest.mark.parametrize(
    ("title", "subject"),
    [
        *(("Step 1: Evaporation", "Evaporation"), ("1. Evaporation", "Evaporation"), ("2.1 Heat", "Heat")),
        *(("Part II – Cells", "Cells"), ("Chapter 3", ""), ("(4) Rain", "Rain"), ("Lecture 12. Waves", "Waves")),
        *(("第一步：蒸发", "蒸发"), ("第 3 章 细胞", "细胞"), ("三、降水", "降水"), ("（二）凝结", "凝结")),
        *(
            ("3D Printing", "3D Printing"),
            ("5 Reasons", "5 Reasons"),
            ("1.5 degrees", "1.5 degrees"),
            ("3种方法", "3种方法"),
        ),
        *(("Step into Python", "Step into Python"), ("第一次世界大战", "第一次世界大战"), ("12", "")),
    ],
)
def test_an_objective_leaves_out_the_number_of_its_slide(title: str, subject: str) -> None:
    objectives = text.objectives(Material([chapter(0, title, "something is written here")], [], "en"))
    assert objectives == ((f"Explain “{subject}” in your own words.",) if subject else ())


def test_a_title_that_asks_is_to_be_answered() -> None:
    material = Material([chapter(0, "2. What is rain?", "water that falls")], [], "en")
    assert text.objectives(material) == ("Answer the question: What is rain?",)


def test_a_caption_of_which_nothing_is_said_is_no_objective() -> None:
    caption = chapter(0, "Test picture, version two")
    assert text.objectives(Material([caption], [], "en")) == ()
    assert text.objectives(Material([caption], lines(SPOKEN[:2]), "en")) != ()


def test_nothing_comes_of_nothing() -> None:
    assert text.summary(NOTHING) == ()
    assert text.objectives(NOTHING) == ()
    assert text.key_terms(NOTHING) == ()
    assert text.quiz(NOTHING, ()) == ()


def test_the_same_material_gives_the_same_texts() -> None:
    again = Material(list(ENGLISH.chapters), list(ENGLISH.lines), "en")
    assert text.summary(again) == text.summary(ENGLISH)
    assert text.key_terms(again) == text.key_terms(ENGLISH)


@pytest.mark.parametrize(
    ("said", "language"),
    [
        (["The sun warms the sea and the water rises."], "en"),
        (["太阳把海面晒热", "TCP 协议"], "zh"),
        (["Die Sonne erwärmt das Meer und das Wasser steigt."], "und"),
        (["これは水の循環についての授業です"], "und"),
        ([], "und"),
        (["42", "3.14"], "und"),
    ],
)
def test_the_language_is_told_by_script_and_common_words(said: list[str], language: str) -> None:
    assert text.language_of(said) == language
