"""What is made of an answer: forgiving in form, strict in what would have to be guessed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvrd.analysis import Analysis
from gsvrd.analyzers.gemini.answer import SCHEMA, parse, seconds

GOOD: dict[str, Any] = {
    "title": "Light",
    "language": "en",
    "summary": ["One.", "Two."],
    "chapters": [
        {"start": "00:00", "end": "00:30", "title": "First", "key_points": ["a"], "slide_text": ["LIGHT"]},
        {"start": "00:30", "end": "01:00", "title": "Second", "key_points": []},
    ],
    "key_terms": [{"term": "photon", "meaning": "a bit of light", "at": "0:12"}],
    "transcript": [{"start": "00:01", "end": "00:05", "text": "Hello.", "speaker": "Ann", "unclear": True}],
    "quiz": [{"prompt": "Why?", "answer": "Because.", "choices": ["Because.", "No."], "at": "00:10"}],
}


def read(told: Any, start_s: float = 0.0, end_s: float = 60.0) -> Analysis:
    reading = parse(told if isinstance(told, str) else json.dumps(told), start_s, end_s)
    assert reading.analysis, reading.problems
    return reading.analysis


def problems(told: Any, start_s: float = 0.0, end_s: float = 60.0) -> str:
    reading = parse(told if isinstance(told, str) else json.dumps(told), start_s, end_s)
    assert reading.analysis is None
    return " ".join(reading.problems)


def test_a_good_answer_becomes_an_analysis() -> None:
    analysis = read(GOOD)
    assert analysis.summary == ("One.", "Two.")
    assert [(c.start_s, c.end_s, c.title) for c in analysis.chapters] == [(0, 30, "First"), (30, 60, "Second")]
    assert analysis.chapters[0].slide_text == ("LIGHT",)
    assert analysis.key_terms[0].at_s == 12
    assert (analysis.transcript[0].speaker, analysis.transcript[0].unclear) == ("Ann", True)
    assert analysis.quiz[0].choices == ("Because.", "No.")
    assert analysis.duration_s == 60


@pytest.mark.parametrize(
    "around",
    ["```json\n{}\n```", "```\n{}\n```", "  {}\n", "Here it is:\n{}", "```json\n{}```", "{}\n\nI hope this helps."],
)
def test_what_stands_around_the_json_is_cut_off(around: str) -> None:
    assert read(around.replace("{}", json.dumps(GOOD))).title == "Light"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("01:02", 62.0),
        ("1:02:03", 3723.0),
        ("01:02:03", 3723.0),
        ("75:30", 4530.0),
        ("90", 90.0),
        ("90s", 90.0),
        ("12.5", 12.5),
        (" [00:12] ", 12.0),
        (7, 7.0),
        (7.25, 7.25),
        ("00:01.5", 1.5),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read_in_all_their_spellings(told: Any, expected: float | None) -> None:
    assert seconds(told) == expected


@pytest.mark.parametrize("told", ["soon", "1:99", "-5", -1, "1:2:3:4", True, float("inf"), "12 minutes", [1]])
def test_what_is_no_time_is_refused(told: Any) -> None:
    with pytest.raises(ValueError, match="time"):
        seconds(told)


@given(st.integers(0, 359_999))
def test_a_time_as_the_schema_asks_for_it_is_read_as_it_was_meant(whole: int) -> None:
    minutes, rest = divmod(whole, 60)
    assert seconds(f"{minutes // 60}:{minutes % 60:02}:{rest:02}") == whole


def test_careless_form_is_forgiven() -> None:
    analysis = read(
        {
            "title": 7,
            "language": None,
            "summary": "First paragraph.\n\nSecond paragraph.",
            "objectives": None,
            "chapters": [{"start": 0, "title": "", "key_points": ["All of it."]}, None],
            "key_terms": [{"term": ""}, {"term": "x", "meaning": None}],
            "transcript": [
                {"start": "0:01", "text": "Hi."},
                {"start": "0:03", "end": None, "text": "Ho."},
                {"text": ""},
            ],
            "resources": ["", "A book."],
            "unknown": {"field": 1},
        }
    )
    assert (analysis.title, analysis.language) == ("7", "und")
    assert analysis.summary == ("First paragraph.", "Second paragraph.")
    assert [(c.start_s, c.end_s, c.title) for c in analysis.chapters] == [(0.0, 60.0, "All of it.")]
    assert [t.term for t in analysis.key_terms] == ["x"]
    assert [(line.start_s, line.end_s) for line in analysis.transcript] == [(1.0, 3.0), (3.0, 60.0)]
    assert analysis.resources == ("A book.",)


def test_a_time_just_after_the_end_is_the_end() -> None:
    told = json.loads(json.dumps(GOOD))
    told["chapters"][1]["end"] = "01:02"
    assert read(told).chapters[1].end_s == 60.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chapters": [{"start": "00:00", "end": "05:00", "title": "Far"}]}, "'Far' ends after the video"),
        (
            {"chapters": [{"start": "00:40", "end": "00:50", "title": "A"}, {"start": "00:10", "title": "B"}]},
            "'B' is out of order",
        ),
        ({"chapters": [{"start": "00:40", "end": "00:30", "title": "A"}]}, "out of order"),
        ({"chapters": [{"title": "A"}]}, "entry 1 has no start"),
        ({"chapters": [{"start": "soon", "title": "A"}]}, "chapters.0.start: 'soon' is no time"),
        ({"transcript": [{"text": "Hi."}]}, "In transcript, entry 1 has no start"),
        ({"chapters": "none"}, "chapters.0"),
        ({"title": ""}, "no title"),
        ({"quiz": 7}, "quiz"),
    ],
)
def test_what_would_have_to_be_guessed_is_named(change: dict[str, Any], words: str) -> None:
    assert words in problems(GOOD | change)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("I cannot do that.", "no valid JSON"),
        ('{"title": ', "no valid JSON"),
        ("[1, 2]", "no JSON object"),
        ("[" * 100_000, "no valid JSON"),
        ("{" + '"a":{' * 100_000, "no valid JSON"),
        ('{"title": "x", "a": NaN', "no valid JSON"),
    ],
)
def test_what_is_no_json_object_is_said_to_be_none(text: str, words: str) -> None:
    assert words in problems(text)


def test_only_so_many_problems_are_told_as_help() -> None:
    reading = parse(json.dumps(GOOD | {"chapters": [{"start": "x"}] * 50}), 0.0, 60.0)
    assert len(reading.problems) == 13
    assert reading.problems[-1] == "And 38 more of this kind."


def test_text_is_kept_as_it_is_but_for_what_no_text_holds() -> None:
    analysis = read(GOOD | {"title": "  <b>光合</b>\x00\x1b[31m作用 ", "resources": ["a\tb\nc"]})
    assert analysis.title == "<b>光合</b>[31m作用"
    assert analysis.resources == ("a\tb\nc",)


@pytest.mark.parametrize("origin", ["of the part", "of the video"])
def test_times_of_a_part_count_from_its_start_whatever_the_model_counted_from(origin: str) -> None:
    shift = 0 if origin == "of the part" else 1800
    told = GOOD | {
        "chapters": [
            {"start": str(shift), "end": str(shift + 900), "title": "A"},
            {"start": str(shift + 900), "end": str(shift + 2000), "title": "B"},
        ],
        "transcript": [],
        "key_terms": [{"term": "t", "at": str(shift + 50)}],
        "quiz": [],
    }
    analysis = read(told, 1800.0, 3800.0)
    assert [(c.start_s, c.end_s) for c in analysis.chapters] == [(0, 900), (900, 2000)]
    assert analysis.key_terms[0].at_s == 50
    assert analysis.duration_s == 2000


def test_the_schema_can_be_sent_by_both_sdks() -> None:
    def check(schema: dict[str, Any]) -> None:
        assert set(schema) <= {"type", "properties", "required", "items", "description"}
        assert isinstance(schema["type"], str)
        for inner in (*schema.get("properties", {}).values(), *filter(None, [schema.get("items")])):
            check(inner)

    check(SCHEMA)


def test_every_field_of_the_schema_finds_its_way_into_the_analysis() -> None:
    def filled(schema: dict[str, Any], name: str) -> Any:
        match schema["type"]:
            case "object":
                return {key: filled(inner, key) for key, inner in schema["properties"].items()}
            case "array":
                return [filled(schema["items"], name)]
            case "boolean":
                return True
        return "00:07" if name in ("start", "end", "at") else f"the {name}"

    told = filled(SCHEMA, "")
    dumped = json.dumps(read(told).model_dump(mode="json"))
    names = ["title", "language", "summary", "objectives", "key_points", "slide_text", "term", "meaning", "activities"]
    names += ["prompt", "choices", "answer", "speaker", "text", "resources", "gaps"]
    for name in names:
        assert f'"the {name}"' in dumped, name
    assert '"unclear": true' in dumped
    assert dumped.count("7.0") >= 6


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    parse(text, 0.0, 60.0)


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*GOOD, "start", "end", "text", "at", "term"]), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(_json)
def test_no_json_breaks_the_reader(told: Any) -> None:
    reading = parse(json.dumps({"title": "x", **told} if isinstance(told, dict) else told), 0.0, 60.0)
    assert (reading.analysis is None) == bool(reading.problems)
