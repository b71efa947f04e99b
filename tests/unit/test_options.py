from __future__ import annotations

from pathlib import Path

import pytest

from gsvrd.config.document import parse, read_file
from gsvrd.config.options import FILE, Options, parse_options, resolve, to_json
from gsvrd.model import said


def read(text: str) -> tuple[Options, list[str]]:
    options, problems = parse_options(parse(text, "week 1/gsvrd.yaml"))
    return options, [str(problem) for problem in problems]


def test_the_nearest_wins_and_is_named() -> None:
    said = resolve(
        [
            ("config/gsvrd.yaml", Options(template="summary", priority=5, language="en")),
            ("week 1/gsvrd.yaml", Options(template="brief", priority=1)),
            ("term.csv:7", Options(template="exam_notes")),
        ]
    )
    assert said == {
        "template": ("exam_notes", "term.csv:7"),
        "priority": (1, "week 1/gsvrd.yaml"),
        "language": ("en", "config/gsvrd.yaml"),
    }


def test_what_was_not_said_hides_nothing() -> None:
    assert resolve([("a", Options(priority=3)), ("b", Options())]) == {"priority": (3, "a")}
    assert resolve([("a", Options(skip_existing=True)), ("b", Options(skip_existing=False))]) == {
        "skip_existing": (False, "b")
    }
    assert resolve([("a", Options(priority=3)), ("b", Options(priority=0))]) == {"priority": (0, "b")}


def test_none_lifts_a_limit_that_was_set_further_out() -> None:
    nearest, problems = read("cost_limit: none")
    assert problems == []
    resolved = resolve([("a", Options(cost_limit=5)), ("b", nearest)])
    assert resolved == {"cost_limit": (None, "b")}
    assert said(to_json(resolved), "cost_limit", 7) is None
    assert said("{}", "cost_limit", 7) == 7


def test_values_are_typed_as_in_the_configuration() -> None:
    text = "timeout: 1h30m\ncost_limit: 2.50\npriority: -5\nforce: true\noutput_pattern: '{stem}.md'\n"
    options, problems = read(text)
    assert problems == []
    assert (options.timeout, options.cost_limit, options.priority, options.force) == (5400.0, 2_500_000, -5, True)


@pytest.mark.parametrize("name", ["timeout", "max_duration"])
def test_a_name_may_carry_its_unit(name: str) -> None:
    options, problems = read(f"{name}_s: 900")
    assert (getattr(options, name), problems) == (900.0, [])


def test_a_name_with_and_without_its_unit_is_refused() -> None:
    options, problems = read("timeout: 5m\ntimeout_s: 900")
    assert options.timeout == 300.0
    assert problems == ["week 1/gsvrd.yaml:2: timeout_s: unknown key; did you mean timeout?"]


def test_a_bad_value_is_named_with_file_and_line_and_the_good_ones_stay() -> None:
    options, problems = read("template: brief\npriority: high\n\nparalel: 3\nparallel: 0\nmax_retries: 2")
    assert options == Options(template="brief", max_retries=2)
    assert sorted(problems) == [
        "week 1/gsvrd.yaml:2: priority: found 'high'; allowed: a whole number from -1000 to 1000",
        "week 1/gsvrd.yaml:4: paralel: unknown key; did you mean parallel?",
        "week 1/gsvrd.yaml:5: parallel: found '0'; allowed: a whole number from 1 to 64",
    ]


@pytest.mark.parametrize("path", ["/etc", "~/x", "a/../../x", ".."])
def test_reports_stay_below_their_directory(path: str) -> None:
    for name in ("output_dir", "progress_file"):
        options, problems = read(f"{name}: {path}")
        assert getattr(options, name) is None
        assert len(problems) == 1


def test_a_file_without_options_or_with_something_else_says_nothing() -> None:
    assert read("") == (Options(), [])
    assert read("# later\n") == (Options(), [])
    assert read("- a") == (Options(), ["week 1/gsvrd.yaml:1: must be a map of options"])
    assert read("a: [")[0] == Options()


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    options, (problem,) = parse_options(read_file(tmp_path / FILE))
    assert options == Options()
    assert "cannot be read" in problem.what
