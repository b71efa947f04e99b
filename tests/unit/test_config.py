from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gsvrd.config.base import settable
from gsvrd.config.document import read_file
from gsvrd.config.load import fingerprint, load
from gsvrd.config.models import Config, Settings
from gsvrd.config.rules import Rule
from gsvrd.config.schema import json_schema
from gsvrd.config.units import parse_duration, parse_size, show_duration, show_size
from gsvrd.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "config" / "gsvrd.yaml"
SCHEMA = SHIPPED.with_name("gsvrd.schema.json")

Load = Callable[..., Config]
Problems = Callable[..., list[str]]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """The configuration that a file with this text gives."""

    def load_text(text: str, environ: Mapping[str, str] | None = None) -> Config:
        file = tmp_path / "my.yaml"
        file.write_text(textwrap.dedent(text))
        return load(tmp_path, file, environ or {})

    return load_text


@pytest.fixture
def problems(loaded: Load, tmp_path: Path) -> Problems:
    """The lines of the error that a file with this text gives, without the folder and the title."""

    def listed(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            loaded(text, environ)
        return [line.strip().replace(f"{tmp_path}/", "") for line in str(refused.value).splitlines()[1:]]

    return listed


# What ships


def test_the_shipped_file_says_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, SHIPPED, {}) == load(tmp_path, None, {})


def test_the_shipped_file_names_every_setting_and_no_other(tmp_path: Path) -> None:
    written = {path for path in read_file(SHIPPED).places if path and not path[-1].isdigit()}
    assert written == {path for path, _ in settable(Settings)}


@pytest.mark.parametrize(("path", "part"), [pytest.param(*item, id=".".join(item[0])) for item in settable(Settings)])
def test_the_shipped_file_explains_each_setting_and_what_is_allowed(path: tuple[str, ...], part: object) -> None:
    comment = _comment_above(read_file(SHIPPED).places[path].line)
    assert _described(path) in comment
    if isinstance(part, Rule):
        assert f"Allowed: {part.allowed.partition(':')[0]}." in comment


def test_the_committed_schema_is_current() -> None:
    assert SCHEMA.read_text() == json_schema(), "run: python -m gsvrd.config > config/gsvrd.schema.json"


def test_the_shipped_file_points_editors_to_the_schema() -> None:
    first = SHIPPED.read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA.name}"


def test_the_schema_describes_every_setting_and_knows_its_default() -> None:
    for path, part in settable(Settings):
        described = _in_schema(path)
        assert described["description"]
        if isinstance(part, Rule):
            default = described["default"]
            assert part.read(default) == part.read(_default(path)), path


def test_the_schema_refuses_unknown_keys_in_every_section() -> None:
    sections = [
        json.loads(json_schema()),
        *(_in_schema(path) for path, part in settable(Settings) if not _is_rule(part)),
    ]
    for section in sections:
        whole = section if "properties" in section else section["anyOf"][1]
        assert whole["additionalProperties"] is False


def test_the_schema_allows_the_spellings_that_the_rules_allow() -> None:
    size, duration = (
        _in_schema(("limits", "max_file_size"))["anyOf"][1]["pattern"],
        _in_schema(("workers", "timeout"))["anyOf"][1]["pattern"],
    )
    assert all(re.search(size, text) for text in ("2GiB", "500 MB", "1.5kb", "12"))
    assert all(re.search(duration, text) for text in ("90s", "1h30m", "1h 30m", "250ms", "1.5"))
    assert not any(re.search(duration, text) for text in ("1:30", "soon", "5 minutes"))
    assert not any(re.search(size, text) for text in ("2G", "big"))


# Where the settings come from


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    config = load(tmp_path, None, {})
    assert (config.retry.max_retries, config.workers.memory_limit, config.service.drain) == (3, 2 * 2**30, 30.0)
    assert dict(config) == {**dict(Settings()), "home": tmp_path}


def test_the_usual_file_in_the_home_is_found(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gsvrd.yaml").write_text("retry: {max_retries: 7}")
    assert load(tmp_path, None, {}).retry.max_retries == 7


def test_a_named_file_goes_before_the_variable_and_the_variable_before_the_usual_file(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    for name, retries in (("config/gsvrd.yaml", 1), ("variable.yaml", 2), ("named.yaml", 3)):
        (tmp_path / name).write_text(f"retry: {{max_retries: {retries}}}")
    environ = {"GSVRD_CONFIG": str(tmp_path / "variable.yaml")}
    assert load(tmp_path, None, environ).retry.max_retries == 2
    assert load(tmp_path, tmp_path / "named.yaml", environ).retry.max_retries == 3
    assert load(tmp_path, None, {"GSVRD_CONFIG": ""}).retry.max_retries == 1


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load(tmp_path, None, {"GSVRD_CONFIG": str(tmp_path / "nowhere.yaml")})


def test_a_dangling_link_is_not_taken_for_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gsvrd.yaml").symlink_to("gone.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, None, {})


def test_paths_are_absolute_and_below_the_home_unless_said_otherwise(
    loaded: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = loaded("directories: {archive: /srv/done, failed: ../bad}")
    assert config.inbox == tmp_path / "inbox"
    assert config.archive == Path("/srv/done")
    assert Path(os.path.normpath(config.failed)) == tmp_path.parent / "bad"
    monkeypatch.chdir(tmp_path)
    assert load(Path("sub"), None, {}).state == tmp_path / "sub" / "state"


def test_roots_are_directories_like_the_others(loaded: Load, problems: Problems, tmp_path: Path) -> None:
    assert loaded("intake: {roots: [/srv/videos, more]}").roots == (Path("/srv/videos"), tmp_path / "more")
    assert loaded("").roots == ()
    assert len(problems("intake: {roots: ['']}")) == 1


@pytest.mark.parametrize("file", ["/etc/x.json", "~/x.json", "../x.json", "a/../../x.json", "a/..", "."])
def test_a_progress_file_stays_below_the_reports(loaded: Load, problems: Problems, file: str) -> None:
    assert len(problems(f"batch: {{progress_file: {file}}}")) == 1
    assert loaded("batch: {progress_file: ..a/.b/c..json}").batch.progress_file == "..a/.b/c..json"
    assert loaded("batch: {progress_file: ''}").batch.progress_file == ""


def test_a_tilde_is_the_home_of_the_user(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert loaded("directories: {reports: ~/lessons}").reports == Path("/home/ada/lessons")


def test_a_section_whose_lines_are_all_commented_out_keeps_its_defaults(loaded: Load) -> None:
    assert loaded("retry:\n#  max_retries: 9\n").retry == Settings().retry


def test_an_empty_file_keeps_the_defaults(loaded: Load, tmp_path: Path) -> None:
    assert loaded("") == loaded("# nothing yet\n") == load(tmp_path, None, {})


# Variables


def test_variables_go_before_the_file(loaded: Load) -> None:
    config = loaded("workers: {max: 2, min: 1}", {"GSVRD_WORKERS__MAX": "3", "GSVRD_SERVICE__DRAIN": "2m"})
    assert (config.workers.max, config.workers.min, config.service.drain) == (3, 1, 120.0)


def test_a_variable_with_a_list_is_written_as_yaml(loaded: Load) -> None:
    assert loaded("", {"GSVRD_INTAKE__SUFFIXES": "[.mp4, '.mov']"}).intake.suffixes == (".mp4", ".mov")


def test_values_for_a_template_are_named_freely_and_typed_by_the_template(loaded: Load, problems: Problems) -> None:
    text = "parameters: {terms: 5, topics: [light, 2], plain: yes}"
    assert loaded(text).parameters == {"terms": "5", "topics": ["light", "2"], "plain": "yes"}
    assert loaded("parameters:").parameters == loaded("").parameters == {}
    assert loaded(text, {"GSVRD_PARAMETERS": "{terms: 6}"}).parameters == {"terms": "6"}
    (nested,) = problems("parameters: {a: {b: c}}")
    assert "the value of a is neither plain nor a list" in nested
    assert "allowed: a map of names to values" in problems("parameters: [a]")[0]


def test_a_variable_with_braces_or_colons_is_plain_text(loaded: Load) -> None:
    assert loaded("", {"GSVRD_OUTPUT_PATTERN": "{title}: x.md"}).output_pattern == "{title}: x.md"


@pytest.mark.parametrize("text", ["analyzer: local", "analyzer: {use: local}", ""])
def test_a_variable_may_set_the_word_or_go_into_the_section(loaded: Load, text: str) -> None:
    config = loaded(text, {"GSVRD_ANALYZER__LOCAL__SPEECH": "false"})
    assert config.analyzer.local.speech is False
    assert config.analyzer.use == ("local" if text else "auto")
    assert loaded(text, {"GSVRD_ANALYZER": "probe"}).analyzer.use == "probe"


def test_a_variable_with_a_word_keeps_the_rest_of_the_section(loaded: Load) -> None:
    config = loaded("analyzer: {use: local, local: {speech: false}}", {"GSVRD_ANALYZER": "auto"})
    assert (config.analyzer.use, config.analyzer.local.speech) == ("auto", False)


def test_home_and_config_are_no_settings_and_other_programs_variables_are_none_of_ours(loaded: Load) -> None:
    assert loaded("", {"GSVRD_HOME": "/x", "GSVRD_CONFIG": "/y", "PATH": "/bin", "GSVR": "1"}) == loaded("")


def test_a_variable_that_names_no_setting_is_a_problem_and_its_value_is_not_shown(problems: Problems) -> None:
    assert problems("", {"GSVRD_WORKER__MAX": "hush"}) == [
        "GSVRD_WORKER__MAX (environment): there is no such setting; did you mean GSVRD_WORKERS__MAX?"
    ]
    (line,) = problems("", {"GSVRD_API_SECRET_THING": "hush"})
    assert "hush" not in line


def test_a_bad_value_names_its_variable(problems: Problems) -> None:
    assert problems("workers: {max: 2}", {"GSVRD_WORKERS__MAX": "lots"}) == [
        "GSVRD_WORKERS__MAX (environment): workers.max: found 'lots'; allowed: auto, or a whole number from 1 to 64"
    ]
    (line,) = problems("", {"GSVRD_INTAKE__SUFFIXES": "[.mp4"})
    assert line.startswith("GSVRD_INTAKE__SUFFIXES (environment): not valid YAML")


# Problems


def test_all_problems_are_listed_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    text = """\
        workers:
          max: many
          treads: 4
        limits:
          max_streams: 0
        language: english
        """
    assert problems(text, {"GSVRD_LOGS__LEVEL": "loud"}) == [
        "my.yaml:2: workers.max: found 'many'; allowed: auto, or a whole number from 1 to 64",
        "my.yaml:3: workers.treads: unknown key; did you mean workers.threads?",
        "my.yaml:5: limits.max_streams: found '0'; allowed: a whole number from 1 to 10000",
        "my.yaml:6: language: found 'english'; allowed: auto, or a language tag such as en, zh or pt-BR",
        "GSVRD_LOGS__LEVEL (environment): logs.level: found 'loud'; allowed: debug, info, warning or error",
    ]


def test_the_error_counts_its_problems_and_says_what_to_do(loaded: Load) -> None:
    with pytest.raises(ConfigError, match=r"^the configuration has 2 problems:") as refused:
        loaded("a: 1\nb: 2")
    assert "gsvrd check" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("max_retries: 4", "my.yaml:1: max_retries: unknown key; did you mean retry.max_retries?"),
        ("retry: {maxRetries: 4}", "my.yaml:1: retry.maxRetries: unknown key; did you mean retry.max_retries?"),
        ("retry: {poison-limit: 4}", "my.yaml:1: retry.poison-limit: unknown key; did you mean retry.poison_limit?"),
        ("retry: {zzz: 4}", "my.yaml:1: retry.zzz: unknown key; allowed here: max_retries, poison_limit"),
        ("home: /x", "my.yaml:1: home: unknown key; allowed here: directories,"),
        ("retry: 3", "my.yaml:1: retry: found '3'; allowed: a map of max_retries, poison_limit"),
        ("- retry", "my.yaml:1: found a list; allowed: a map of directories,"),
        ("analyzer: lokal", "my.yaml:1: analyzer.use: found 'lokal'; allowed: auto, gemini, local or probe"),
        ("logs:\n  level:", "my.yaml:2: logs.level: found nothing; allowed: debug, info, warning or error"),
        ("workers: {timeout: 1:30}", "my.yaml:1: workers.timeout: found '1:30' (not a duration); allowed: a duration"),
        ("limits: {max_file_size: 2G}", "my.yaml:1: limits.max_file_size: found '2G' (not a size); allowed: a size"),
        ("intake:\n  suffixes: mp4", "my.yaml:2: intake.suffixes: found 'mp4'; allowed: a list, each entry a suffix"),
        ("intake: {suffixes: [mp4]}", "my.yaml:1: intake.suffixes: found a list (the entry 'mp4' is not allowed)"),
        ("template: ../x", "my.yaml:1: template: found '../x'; allowed: a template's name"),
        ('"a\\nb": 1', "my.yaml:1: a\\nb: unknown key"),
        ('template: "a\\nb"', "my.yaml:1: template: found 'a\\nb' (control characters are not allowed)"),
        ("directories: {inbox: ''}", "my.yaml:1: directories.inbox: found ''; allowed: a directory"),
        (
            "directories: {inbox: ~nobody-here/x}",
            "my.yaml:1: directories.inbox: found '~nobody-here/x' (there is no such",
        ),
    ],
)
def test_a_problem_says_where_what_was_found_and_what_is_allowed(problems: Problems, text: str, line: str) -> None:
    (found,) = problems(text)
    assert found.startswith(line)


def test_a_long_value_is_shortened(problems: Problems) -> None:
    (found,) = problems(f"language: {'x' * 500}")
    assert len(found) < 200


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nworkers: [1\n", "my.yaml:3: not valid YAML: while parsing a flow sequence"),
        ("workers:\n\tmax: 3", "my.yaml:2: not valid YAML: while scanning for the next token, found character '\\t'"),
        ("logs:\n  level: info\n---\nlogs: {}", "my.yaml:3: not valid YAML: expected a single document"),
        ("logs:\n  level: \a", "my.yaml:2: the character U+0007 is not allowed in YAML"),
        ("[" * 3000, "my.yaml: not valid YAML: nested too deeply"),
        ("? [a]\n: 1", "my.yaml:1: a key must be a plain word"),
        ("retry: &r {}\nqueue: *r", "my.yaml:2: queue: aliases (*name) are not allowed"),
        ("retry: &r {max_retries: *r}", "my.yaml:1: retry.max_retries: aliases (*name) are not allowed"),
        ("x" * 2**20 + "x", "my.yaml: is larger than 1 MiB"),
    ],
)
def test_broken_yaml_is_a_problem_with_a_line(problems: Problems, text: str, line: str) -> None:
    assert problems(text)[0].startswith(line)


def test_tabs_get_a_word_of_advice(problems: Problems) -> None:
    assert problems("workers:\n\tmax: 3")[0].endswith("; indent with spaces, not tabs")


def test_a_broken_file_does_not_hide_a_bad_variable(problems: Problems) -> None:
    assert len(problems("a: [", {"GSVRD_LOGS__LEVEL": "loud"})) == 2


def test_a_key_given_twice_is_a_problem_wherever_it_is(problems: Problems) -> None:
    text = "retry: {max_retries: 1}\nlogs:\n  level: info\n  level: debug\nretry: {}"
    assert problems(text) == [
        "my.yaml:4: logs.level: given twice, first in line 3",
        "my.yaml:5: retry: given twice, first in line 1",
    ]


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes("# fine\ntemplate: r\xe9sum\xe9".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml:2: is not UTF-8 text"):
        load(tmp_path, file, {})


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "notepad.yaml"
    file.write_bytes("retry: {max_retries: 5}\r\n".encode("utf-8-sig"))
    assert load(tmp_path, file, {}).retry.max_retries == 5


# What values mean


def test_yaml_does_not_guess_types(loaded: Load) -> None:
    config = loaded("language: no\ntemplate: 2024")
    assert (config.language, config.template) == ("no", "2024")


def test_a_quoted_number_is_still_a_number(loaded: Load) -> None:
    assert loaded("workers: {max: '3'}\nlimits: {max_pixels: 1_000_000}").limits.max_pixels == 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "workers: {max: true}",
        "workers: {max: 2.5}",
        "service: {drain: -1}",
        "service: {drain: .inf}",
        "retry: {max_retries: '３'}",
    ],
)
def test_what_is_no_number_in_bounds_is_refused(problems: Problems, text: str) -> None:
    assert len(problems(text)) == 1


def test_flags_are_true_or_false_and_nothing_else(loaded: Load, problems: Problems) -> None:
    assert loaded("intake: {hard_links: TRUE}").intake.hard_links is True
    assert problems("intake: {hard_links: yes}") == [
        "my.yaml:1: intake.hard_links: found 'yes'; allowed: true or false"
    ]


@pytest.mark.parametrize(
    ("pattern", "because"),
    [
        ("{titel}.md", "there is no field {titel}"),
        ("{title!r}.md", "there is no field {title!r}"),
        ("{title:>99999999}.md", "there is no field {title:>99999999}"),
        ("{title.x}.md", "there is no field {title.x}"),
        ("{}.md", "there is no field {}"),
        ("{title", "the braces do not match"),
        ("/srv/{title}.md", "it must be relative"),
        ("~/{title}.md", "it must be relative"),
        ("a/../{title}.md", "'.' and '..' are no folders"),
        ("./{title}.md", "'.' and '..' are no folders"),
        ("{{title}}.md", "the braces do not match"),
        ("{title}/", "it must end in a file name"),
        ("", "it must end in a file name"),
    ],
)
def test_a_bad_output_pattern_is_refused_with_its_reason(problems: Problems, pattern: str, because: str) -> None:
    (line,) = problems(f"output_pattern: {json.dumps(pattern)}")
    assert line.startswith(f"my.yaml:1: output_pattern: found '{pattern}' ({because}")


def test_a_good_output_pattern_may_use_folders_and_every_field(loaded: Load) -> None:
    pattern = "{batch}/{date}/{template}-{title}-{stem}-{timestamp}-{hash8}..{relpath}.md"
    assert loaded(f"output_pattern: '{pattern}'").output_pattern == pattern


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 * 2**30), ("500MB", 500_000_000), ("1.5 kB", 1500), ("10", 10), ("3b", 3), ("1tib", 2**40), (7, 7)],
)
def test_sizes_are_read_as_people_write_them(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("2d", 172800),
        ("0.1", 0.1),
        ("3", 3),
        (4, 4.0),
        (0.5, 0.5),
    ],
)
def test_durations_are_read_as_people_write_them(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "5M", "30m1h", "1h1h", "-5s", "1e3", "٣s", True, None, float("nan"), "9" * 5000]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "GB", "2G", "2 apples", "-1MB", "1e3", "0x10", True, None, 1.5, "9" * 5000])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@given(st.integers(0, 10**14))
def test_a_size_survives_being_shown(size: int) -> None:
    assert parse_size(show_size(size)) == size


@given(st.integers(0, 10**12).map(lambda milliseconds: milliseconds / 1000))
def test_a_duration_survives_being_shown(seconds: float) -> None:
    assert parse_duration(show_duration(seconds)) == seconds


# What does not go together


def test_the_fewest_workers_may_not_be_more_than_the_most(problems: Problems) -> None:
    expected = "workers.min: found '5'; it must not be above workers.max, which is 3"
    assert problems("workers:\n  max: 3\n  min: 5") == [f"my.yaml:3: {expected}"]
    # The file alone was fine: the variable is to blame.
    assert problems("workers:\n  max: 8\n  min: 5", {"GSVRD_WORKERS__MAX": "3"}) == [
        f"GSVRD_WORKERS__MAX (environment): {expected}"
    ]


def test_a_file_cannot_be_small_and_large(problems: Problems) -> None:
    assert problems("queue: {small_below: 1GB}") == [
        "my.yaml:1: queue.small_below: found '1000000000'; it must not be above queue.large_above"
    ]


def test_directories_must_differ(problems: Problems) -> None:
    assert problems("directories:\n  failed: x/../archive") == [
        "my.yaml:2: directories.failed: found 'x/../archive'; it is the same directory as directories.archive"
    ]


def test_nothing_may_lie_inside_the_inbox(problems: Problems) -> None:
    assert problems("directories:\n  reports: inbox/done\n  state: inbox-state") == [
        "my.yaml:2: directories.reports: found 'inbox/done'; it lies inside directories.inbox"
    ]
    everything = problems("", {"GSVRD_DIRECTORIES__INBOX": "."})
    assert [line.split(":")[0] for line in everything] == ["GSVRD_DIRECTORIES__INBOX (environment)"] * 4


def test_a_link_into_the_inbox_is_seen_through_even_by_default(tmp_path: Path) -> None:
    (tmp_path / "inbox" / "old").mkdir(parents=True)
    (tmp_path / "archive").symlink_to(tmp_path / "inbox" / "old")
    with pytest.raises(ConfigError, match=r"directories\.archive: .* lies inside"):
        load(tmp_path, None, {})


# The result


def test_the_workers_left_to_the_program(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(text: str = "") -> tuple[int, int, int, int]:
        found = loaded(f"workers: {{{text}}}").workers
        return found.least, found.first, found.most, found.threads_each

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)))
    assert workers() == (2, 4, 8, 4)
    assert workers("min: 12") == (12, 12, 12, 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert workers() == (2, 2, 8, 1)
    assert workers("max: 1") == (1, 1, 1, 1)
    assert workers("max: 5, min: 1, initial: 3, threads: 7") == (1, 3, 5, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max: 3, initial: 4", "workers.initial: found '4'; it must not be above workers.max, which is 3"),
        ("min: 3, initial: 2", "workers.initial: found '2'; it must not be below workers.min, which is 3"),
        ("cpu_high: 1.5", "workers.cpu_high: found '1.5'; allowed: a share from 0.01 to 1"),
        ("memory_high: 0", "workers.memory_high: found '0'; allowed: a share from 0.01 to 1"),
        ("memory_budget: 100MB", "workers.memory_budget: found '100MB'; allowed: auto, or a size from 256MiB to 1TiB"),
    ],
)
def test_what_no_number_of_workers_could_keep_is_refused(problems: Problems, text: str, words: str) -> None:
    (problem,) = problems(f"workers: {{{text}}}")
    assert problem.startswith(f"my.yaml:1: {words}")


def test_a_configuration_cannot_be_changed(loaded: Load) -> None:
    config = loaded("")
    with pytest.raises(ValidationError):
        config.workers.min = 3


def test_the_fingerprint_follows_the_settings_in_effect_and_nothing_else(loaded: Load, tmp_path: Path) -> None:
    plain = fingerprint(loaded(""))
    assert re.fullmatch(r"[0-9a-f]{12}", plain)
    assert fingerprint(loaded("# reworded\nservice: {drain: 0.5m}")) == plain
    assert fingerprint(load(tmp_path / "elsewhere", None, {})) == plain
    assert fingerprint(loaded("", {"GSVRD_SERVICE__DRAIN": "31"})) != plain


def test_a_path_that_is_not_utf8_can_be_set_by_a_variable(loaded: Load) -> None:
    name = os.fsdecode(b"/srv/\xff")
    config = loaded("", {"GSVRD_DIRECTORIES__INBOX": name})
    assert os.fsencode(config.inbox) == b"/srv/\xff"
    assert fingerprint(config) != fingerprint(loaded(""))


# Helpers


def _is_rule(part: object) -> bool:
    return isinstance(part, Rule)


def _comment_above(line: int) -> str:
    lines = SHIPPED.read_text().splitlines()[: line - 1]
    words: list[str] = []
    while lines and lines[-1].lstrip().startswith("#"):
        words.insert(0, lines.pop().strip().lstrip("# "))
    return " ".join(words)


def _model(path: tuple[str, ...]) -> type[Settings]:
    model: type[Settings] = Settings
    for key in path:
        model = model.model_fields[key].annotation  # type: ignore[assignment]
    return model


def _described(path: tuple[str, ...]) -> str:
    field = _model(path[:-1]).model_fields[path[-1]]
    return field.description or " ".join((_model(path).__doc__ or "").split())


def _default(path: tuple[str, ...]) -> object:
    return _model(path[:-1]).model_fields[path[-1]].default


def _in_schema(path: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json_schema())
    for key in path:
        found = (found if "properties" in found else found["anyOf"][1])["properties"][key]
    return found


def test_plain_yaml_readers_see_the_shipped_file_as_we_do() -> None:
    """Editors and other tools read it with YAML's own types."""
    assert yaml.safe_load(SHIPPED.read_text())["workers"]["history"] == 20
