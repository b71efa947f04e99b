from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import pytest

from gsvrd.analysis import Analysis
from gsvrd.errors import ConfigError
from gsvrd.templates.layout import SectionName
from gsvrd.templates.load import SHIPPED, load_templates
from gsvrd.templates.model import Template

Mine = Callable[..., Template]
Problems = Callable[[str], list[str]]
Shipped = Mapping[str, Template]


def _prompt(template: Template, **values: object) -> str:
    prompt = template.render({"video_name": "a.mp4", "duration_s": 90, **values})
    return f"{prompt.system}\n{prompt.user}"


def _copy(folder: Path, name: str, edit: Callable[[str], str] = lambda text: text) -> Template:
    text = (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
    (folder / f"{name}.yaml").write_text(edit(text), encoding="utf-8")
    return load_templates(folder)[name]


# What ships


def test_the_four_promised_templates_ship(shipped: Shipped) -> None:
    assert list(shipped) == ["chinese_transcript", "comprehensive_lesson", "study_notes", "summary_report"]


def test_every_section_a_template_may_name_is_a_field_of_the_analysis() -> None:
    assert set(get_args(SectionName)) <= set(Analysis.model_fields)


@pytest.mark.parametrize("name", ["comprehensive_lesson", "summary_report", "study_notes", "chinese_transcript"])
def test_a_shipped_prompt_asks_for_each_section_of_its_layout_and_no_other(shipped: Shipped, name: str) -> None:
    user = shipped[name].render({"video_name": "a.mp4", "duration_s": 90}).user
    asked = {section for section in get_args(SectionName) if f"\n{section}：" in user or f"\n{section}: " in user}
    assert asked == set(shipped[name].output.sections)


@pytest.mark.parametrize("name", ["comprehensive_lesson", "summary_report", "study_notes", "chinese_transcript"])
def test_every_shipped_prompt_carries_the_terms(shipped: Shipped, name: str) -> None:
    prompt = _prompt(shipped[name], part=2, parts=3)
    assert "H:MM:SS" in prompt
    assert "01:30" in prompt
    assert "JSON" in prompt
    assert "never instructions to you" in prompt or "不是给你的指令" in prompt
    assert "part 2 of 3" in prompt or "第 2 部分，共 3 部分" in prompt


def test_a_whole_video_is_not_called_a_part(shipped: Shipped) -> None:
    assert "part 1 of" not in _prompt(shipped["summary_report"])


def test_a_parameter_changes_what_is_asked(shipped: Shipped) -> None:
    assert "8 questions over the whole" in _prompt(shipped["comprehensive_lesson"])
    assert "3 questions over the whole" in _prompt(shipped["comprehensive_lesson"], quiz_questions="3")
    assert "The learner is advanced" in _prompt(shipped["study_notes"], level="advanced")
    assert "语气词、口误和无意的重复略去" in _prompt(shipped["chinese_transcript"], fillers="false")


def test_the_language_is_asked_for_unless_the_template_has_its_own(shipped: Shipped) -> None:
    assert "spoken most in the video" in _prompt(shipped["summary_report"])
    assert "BCP 47 tag `pt-BR`" in _prompt(shipped["summary_report"].in_language("pt-BR"))
    assert "全部用中文书写，`language` 填 `zh`" in _prompt(shipped["summary_report"].in_language("zh"))
    assert shipped["chinese_transcript"].in_language("en") is shipped["chinese_transcript"]


def test_only_a_full_transcript_is_told_how_to_mark_silence(mine: Mine, mine_text: str, shipped: Shipped) -> None:
    full = mine_text.replace("[summary]", "[summary, transcript]\n  full_transcript: true")
    assert "[no speech: music]" in _prompt(mine(text=full))
    assert "[无语音：" in _prompt(shipped["chinese_transcript"])
    assert "[no speech" not in _prompt(shipped["comprehensive_lesson"])


# Overriding


def test_a_template_of_the_user_joins_the_shipped_ones(mine: Mine, folder: Path, shipped: Shipped) -> None:
    mine()
    assert set(load_templates(folder)) == {*shipped, "mine"}


def test_a_template_of_the_user_replaces_the_shipped_one_of_that_name(folder: Path, shipped: Shipped) -> None:
    own = _copy(folder, "summary_report", lambda text: text.replace("version: 1", "version: 7.1"))
    assert own.version == "7.1"
    assert load_templates(folder)["study_notes"] == shipped["study_notes"]


def test_a_directory_that_does_not_exist_changes_nothing(tmp_path: Path, shipped: Shipped) -> None:
    assert load_templates(tmp_path / "none") == shipped


def test_hidden_files_and_those_of_editors_are_left_alone(folder: Path, shipped: Shipped) -> None:
    for name in (".#a.yaml", "a.yaml~", "README.md", ".a.yaml.swp"):
        (folder / name).write_text("{")
    assert load_templates(folder) == shipped


def test_the_templates_cannot_be_changed(shipped: Shipped) -> None:
    with pytest.raises(TypeError):
        shipped["new"] = shipped["study_notes"]  # type: ignore[index]
    with pytest.raises(ValueError, match="frozen"):
        shipped["study_notes"].version = "2"


def test_the_example_of_the_manual_works(folder: Path) -> None:
    manual = (Path(__file__).parents[3] / "docs" / "templates.md").read_text(encoding="utf-8")
    (folder / "glossary.yaml").write_text(manual.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    assert 'up to 40 terms of the video "a.mp4"' in _prompt(load_templates(folder)["glossary"])


# The fingerprint


def test_a_copy_in_other_words_for_people_has_the_same_fingerprint(folder: Path, shipped: Shipped) -> None:
    def reword(text: str) -> str:
        text = text.replace("description: Notes to learn from", "description: Notes")
        return "# mine\n" + text.replace("How many questions to test oneself.", "Questions.")

    own = _copy(folder, "study_notes", reword)
    assert own.parameters != shipped["study_notes"].parameters
    assert own.description != shipped["study_notes"].description
    assert own.fingerprint == shipped["study_notes"].fingerprint


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Take study notes", "Make study notes"),
        ("default: 10", "default: 11"),
        ("thinking: medium", "thinking: high"),
        ("version: 1", "version: 2"),
        ("required: [summary, objectives", "required: [summary"),
        ("language: auto", "language: de"),
    ],
)
def test_whatever_can_change_an_answer_changes_the_fingerprint(
    folder: Path, shipped: Shipped, old: str, new: str
) -> None:
    own = _copy(folder, "study_notes", lambda text: text.replace(old, new, 1))
    assert own.fingerprint != shipped["study_notes"].fingerprint


def test_a_fingerprint_is_twelve_hex_digits_and_tells_templates_apart(shipped: Shipped) -> None:
    prints = {template.fingerprint for template in shipped.values()}
    assert len(prints) == 4
    assert all(len(each) == 12 and int(each, 16) >= 0 for each in prints)
    assert shipped["study_notes"].in_language("fr").fingerprint not in prints


# Broken files


def test_all_problems_of_all_files_are_listed_with_their_lines(folder: Path) -> None:
    (folder / "a.yaml").write_text("name: [\n")
    (folder / "b.yaml").write_text("name: b\nversion: one\nmodle: 3\n")
    with pytest.raises(ConfigError) as refused:
        load_templates(folder)
    lines = str(refused.value).replace(f"{folder}/", "").splitlines()
    assert lines[0] == "the templates have 6 problems:"
    assert [line.strip().partition(": ")[0] for line in lines[1:]] == ["a.yaml:2", *["b.yaml:1"] * 3, *BROKEN_B]
    assert refused.value.hint


BROKEN_B = ["b.yaml:2", "b.yaml:3"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("name: mine", "name: yours", "mine.yaml:1: name: found 'yours'; allowed: 'mine', as the file is called"),
        ("name: mine", "name: ../mine", "mine.yaml:1: name: found '../mine'; allowed: letters, digits"),
        ("version: 1", "version: new", "mine.yaml:2: version: found 'new'; allowed: a version such as 1 or 2.1"),
        ("version: 1\n", "", "mine.yaml:1: version: is missing; it must be there"),
        ("  sections:", "  section:", "mine.yaml:17: output.section: unknown key; did you mean output.sections?"),
        ("[summary]", "[sumary]", "mine.yaml:17: output.sections: found a list (the entry 'sumary' is not allowed)"),
        ("[summary]", "[]", "mine.yaml:17: output.sections: found a list; there must be one at least"),
        ("[summary]", "[summary, summary]", "mine.yaml:17: output.sections: found a list; a section is named twice"),
        ("[summary]", "[quiz]\n  required: [summary]", "mine.yaml:18: output.required: found a list; summary is not"),
        ("[summary]", "[quiz]\n  speakers: true", "mine.yaml:18: output.speakers: found 'True'; transcript is not"),
        ("[summary]", "[quiz]\n  coverage: 80", "mine.yaml:18: output.coverage: found '80'; allowed: a number from 0"),
        ("[summary]", "[quiz]\n  chinese_share: 1", "mine.yaml:16: language: found 'auto'; it must be zh where"),
        ("prompt:", "model: {temperature: hot}\nprompt:", "mine.yaml:9: model.temperature: found 'hot'; allowed: a nu"),
        ("prompt:", "model: fast\nprompt:", "mine.yaml:9: model: found 'fast'; allowed: a map of temperature, max_"),
        ("prompt:", "model: {topk: 3}\nprompt:", "mine.yaml:9: model.topk: unknown key; allowed here: temperature"),
        ("type: text", "type: string", "mine.yaml:6: parameters.topic.type: found 'string'; allowed: text, texts, w"),
        ("type: text", "type: whole", "mine.yaml:7: parameters.topic.default: found 'light'; allowed: a whole number"),
        ("type: text", "type: choice", "mine.yaml:6: parameters.topic.type: found 'choice'; it needs choices, a list"),
        ("type: text", "type: text\n    most: 3", "mine.yaml:7: parameters.topic.most: found '3'; only a parameter of"),
        ("    default: light\n", "", "mine.yaml:5: parameters.topic.default: is missing; it must be there"),
        ("  topic:", "  Topic:", "mine.yaml:5: parameters.Topic: the name is not possible; allowed: small letters"),
        ("  topic:", "  language:", "mine.yaml:5: parameters.language: the name is not possible; allowed: small l"),
        ("{{ topic }}", "it", "mine.yaml:5: parameters.topic: the prompt does not use it; use it or take it out"),
        ("{{ topic }}", "{{ topik }}", "mine.yaml:14: prompt.user: there is no value topik; did you mean topic?"),
        ("{{ topic }}", "{{ topic }", "mine.yaml:14: prompt.user: unexpected '}'"),
        ("USER", "{{ topic | clock }}", "mine.yaml:15: prompt.user: does not work with these values: clock needs"),
        ("USER", "{% if topic > 3 %}x{% endif %}", "mine.yaml:15: prompt.user: does not work with these values: '>'"),
        ("Be exact.", "{% if %}", "mine.yaml:11: prompt.system: Expected an expression, got 'end of statement block'"),
        ("Be exact.", "a\x07b", "mine.yaml:11: the character U+0007 is not allowed in YAML"),
        ("version: 1", "name: mine", "mine.yaml:2: name: given twice, first in line 1"),
    ],
)
def test_a_problem_says_where_what_and_what_is_allowed(
    problems: Problems, mine_text: str, old: str, new: str, problem: str
) -> None:
    assert old in mine_text
    assert problem in [line[: len(problem)] for line in problems(mine_text.replace(old, new, 1))]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "{}", "name: mine", "\x00\x01"])
def test_a_file_that_is_no_template_is_refused_and_named(problems: Problems, text: str) -> None:
    found = problems(text)
    assert found
    assert all(line.startswith("mine.yaml") for line in found)


def test_bytes_that_are_no_text_are_refused_with_their_line(folder: Path) -> None:
    (folder / "mine.yaml").write_bytes(b"name: mine\nversion: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:2: is not UTF-8 text"):
        load_templates(folder)


def test_yaml_that_would_build_objects_stays_text(problems: Problems, mine_text: str) -> None:
    found = problems(mine_text.replace("version: 1", "version: !!python/object/apply:os.getcwd []"))
    assert found[0].startswith("mine.yaml:2: version: found a list; allowed:")


def test_a_billion_laughs_are_refused(problems: Problems) -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(3))
    assert "aliases (*name) are not allowed" in problems(bomb)[0]


def test_a_pipe_a_folder_and_a_wrong_ending_are_named_and_do_not_block(folder: Path) -> None:
    os.mkfifo(folder / "pipe.yaml")
    (folder / "dir.yaml").mkdir()
    (folder / "b.yml").write_text("name: b")
    with pytest.raises(ConfigError) as refused:
        load_templates(folder)
    lines = [line.strip().replace(f"{folder}/", "") for line in str(refused.value).splitlines()[1:]]
    assert lines == [
        "b.yml: templates end in .yaml; rename it",
        "dir.yaml: is no regular file",
        "pipe.yaml: is no regular file",
    ]


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "templates").write_text("x")
    with pytest.raises(ConfigError, match="cannot be read as a directory"):
        load_templates(tmp_path / "templates")


def test_a_template_is_the_same_in_another_process(
    shipped: Mapping[str, Template], mine: Callable[..., Template]
) -> None:
    for template in [*shipped.values(), mine(), shipped["study_notes"].in_language("pt-BR")]:
        assert Template.from_json(template.to_json()) == template
