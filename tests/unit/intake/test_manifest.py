from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gsvrd.config.document import Place, Problem
from gsvrd.config.options import Options
from gsvrd.intake import manifest as manifests
from gsvrd.intake import sheet_yaml
from gsvrd.intake.manifest import Manifest, is_note, read_bytes, read_manifest
from gsvrd.intake.manifest_errors import errors_path, write_errors
from gsvrd.intake.names import NameRules

RULES = NameRules()

CSV = "path,template,priority,output_name\n第一课.mp4,brief,-5,Lesson 1\nweek 2/b.mp4,,,\n"


def read(name: str, text: str | bytes) -> Manifest:
    return read_manifest(Path(name), text if isinstance(text, bytes) else text.encode())


def problems(name: str, text: str | bytes) -> list[str]:
    return [str(problem) for problem in read(name, text).problems]


# The formats


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_is_read_as_spreadsheets_write_it(encoding: str, delimiter: str, end: str) -> None:
    text = CSV.replace(",", delimiter).replace("\n", end)
    found = read("term 1.csv", text.encode(encoding))
    first, second = found.rows
    assert (found.name, found.problems) == ("term 1", ())
    assert (first.line, first.path, first.output_name) == (2, "第一课.mp4", "Lesson 1")
    assert (first.options.template, first.options.priority) == ("brief", -5)
    assert (second.line, second.path, second.options.model_fields_set) == (3, "week 2/b.mp4", set())


def test_excel_may_say_its_delimiter_in_a_line_of_its_own() -> None:
    found = read("a.csv", "sep=;\npath;# by\na, b.mp4;Ada\n")
    assert [(row.line, row.path) for row in found.rows] == [(3, "a, b.mp4")]


def test_headers_may_be_written_in_capitals_and_with_spaces() -> None:
    (row,) = read("a.csv", "Video,Output Name,Timeout_s\na.mp4,A,90\n").rows
    assert (row.path, row.output_name, row.options.timeout) == ("a.mp4", "A", 90.0)


def test_a_quoted_remark_may_have_commas_and_line_breaks() -> None:
    found = read("a.csv", 'path,# remark\n"a, 1.mp4","first\nsecond"\nb.mp4,\n')
    assert [(row.line, row.path) for row in found.rows] == [(2, "a, 1.mp4"), (4, "b.mp4")]


@pytest.mark.parametrize("end", ["", 'end",\n'])
def test_a_quotation_mark_that_is_never_closed_costs_one_row(end: str) -> None:
    rows = "".join(f"{number}.mp4,\n" for number in range(100))
    found = read("a.csv", f'path,template\n"oops.mp4,\n{rows}{end}')
    assert [row.path for row in found.rows[:100]] == [f"{number}.mp4" for number in range(100)]
    assert [problem.place.line for problem in found.problems] == [2]


@pytest.mark.parametrize("loader", [yaml.BaseLoader, yaml.CBaseLoader])
def test_yaml_is_read_alike_with_and_without_libyaml(loader: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet_yaml, "_LOADER", loader)
    found = read("m.yaml", "name: ~\nvideos:\n- 课.mp4\n- {path: b.mp4, priority: '3'}\n- [x]\n- {path: a, path: b}\n")
    assert (found.name, [row.path for row in found.rows]) == ("m", ["课.mp4", "b.mp4"])
    assert [problem.place.line for problem in found.problems] == [5, 6]
    for text, line in (("- " + "[" * 100_000, 1), ("- a\n- \x07\n", 2), ("- a\n- }\n", 2)):
        (problem,) = read("m.yaml", text).problems
        assert problem.place.line == line


def test_a_text_file_has_one_video_a_line_and_options_after_tabs() -> None:
    text = "# Physics\n\nweek 1/a.mp4\n  b #2.mp4\ttemplate=brief\tpriority = 3\nhttps://youtu.be/aqz-KE-bpKQ?t=1\n"
    rows = read("a.txt", text).rows
    assert [(row.line, row.path or row.url) for row in rows] == [
        (3, "week 1/a.mp4"),
        (4, "b #2.mp4"),
        (5, "https://youtu.be/aqz-KE-bpKQ?t=1"),
    ]
    assert rows[1].options == Options(template="brief", priority=3)


def test_yaml_is_a_list_or_a_map_with_name_options_and_videos() -> None:
    text = """\
        name: Physik 2026
        options: {template: brief, cost_limit: 2.00}
        videos:
          - week 1/a.mp4
          - path: b.mp4
            language: zh
            output_name: Stunde 2
          - {url: "https://example.org/c.mp4"}
        """
    found = read("x.yaml", text)
    assert (found.name, found.options, found.problems) == (
        "Physik 2026",
        Options(template="brief", cost_limit=2),
        (),
    )
    assert [(row.line, row.path or row.url) for row in found.rows] == [
        (4, "week 1/a.mp4"),
        (5, "b.mp4"),
        (8, "https://example.org/c.mp4"),
    ]
    assert (found.rows[1].options.language, found.rows[1].output_name) == ("zh", "Stunde 2")
    assert [row.path for row in read("x.yml", "- a.mp4\n- 2024\n").rows] == ["a.mp4", "2024"]


def test_what_is_left_empty_is_not_said() -> None:
    (row,) = read("x.yaml", "- {path: a.mp4, template: , language: ~}").rows
    assert row.options.model_fields_set == set()


# Wrong rows are left out, the others stay


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("a.mp4,x", "m.csv:3: priority: found 'x'; allowed: a whole number from -1000 to 1000"),
        (",3", "m.csv:3: names no video; allowed: path, url or video"),
        ("good.mp4,", "m.csv:3: video: 'good.mp4' is there twice, first in line 2"),
        ("./good.mp4,", "m.csv:3: video: './good.mp4' is there twice, first in line 2"),
        ("a.mp4,3,4", "m.csv:3: has 3 cells, but the header has 2"),
        (
            "other.YAML,",
            "m.csv:3: video: found 'other.YAML'; a manifest cannot name another one; allowed: videos and links",
        ),
        ("m.csv,", "m.csv:3: video: found 'm.csv'; a manifest cannot name another one; allowed: videos and links"),
        ("a\x07.mp4,", "m.csv:3: video: found 'a\\x07.mp4'; control characters are not allowed"),
        ("D:\\videos\\a.mp4,", "m.csv:3: video: found 'D:\\videos\\a.mp4'; this is a path of Windows; write it below"),
        ("ftp://example.org/a.mp4,", "m.csv:3: video: found 'ftp://example.org/a.mp4'; allowed: an http or https link"),
        ("https:///a.mp4,", "m.csv:3: video: found 'https:///a.mp4'; allowed: an http or https link"),
        ("https://[::1/a,", "m.csv:3: video: found 'https://[::1/a'; allowed: an http or https link"),
        ("https://x/a b,", "m.csv:3: video: found 'https://x/a b'; allowed: a link of at most"),
        (f"{'x' * 4001}.mp4,", "m.csv:3: video: found 'xxxx"),
        ('"a.mp4"x,', "m.csv:3: its quotation marks are not as CSV has them"),
    ],
)
def test_a_bad_row_is_a_problem_with_its_line_and_the_good_ones_stay(row: str, line: str) -> None:
    found = read("m.csv", f"video,priority\ngood.mp4,1\n{row}\nlast.mp4,2\n")
    assert [kept.path for kept in found.rows] == ["good.mp4", "last.mp4"]
    assert [str(problem)[: len(line)] for problem in found.problems] == [line]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("m.csv", "path,url\na.mp4,https://x.org/b\n", "m.csv:2: says path and url: one of them is enough"),
        ("m.csv", "path,output_name\na.mp4,../x\n", "m.csv:2: output_name: found '../x'; '.' and '..' are no folders"),
        ("m.csv", "path,output_name\na.mp4,{nope}\n", "m.csv:2: output_name: found '{nope}'; there is no field {nope}"),
        ("m.txt", "a.mp4\tbrief\n", "m.txt:1: found 'brief' after a tab; allowed: name=value"),
        ("m.txt", "a.mp4\tpriority=1\tpriority=2\n", "m.txt:1: priority: given twice"),
        ("m.txt", "a.mp4\tpriorty=1\n", "m.txt:1: unknown column 'priorty'; did you mean priority?"),
        ("m.yaml", "- path: a.mp4\n  priority: x\n", "m.yaml:2: priority: found 'x'; allowed: a whole number"),
        ("m.yaml", "- path: a.mp4\n  pth: b.mp4\n", "m.yaml:2: unknown column 'pth'; did you mean path?"),
        ("m.yaml", "- path: a.mp4\n  path: b.mp4\n", "m.yaml:2: path: given twice, first in line 1"),
        ("m.yaml", "- path: a.mp4\n  priority: [1]\n", "m.yaml:2: priority: allowed: a plain value"),
        ("m.yaml", "- [a.mp4]\n", "m.yaml:1: a row is a path, a link, or a map such as {path: a.mp4}"),
        ("m.yaml", "- &a {path: a.mp4, priority: *a}\n", "m.yaml:1: priority: allowed: a plain value"),
        ("m.yaml", "- ? [a]\n  : 1\n", "m.yaml:1: a key must be a plain word"),
    ],
)
def test_a_bad_row_of_each_format_says_what_is_allowed(name: str, text: str, line: str) -> None:
    found = read(name, text)
    assert found.rows == ()
    assert [str(problem)[: len(line)] for problem in found.problems] == [line]


def test_a_password_or_key_in_a_link_is_never_shown() -> None:
    (line,) = problems("m.txt", "https://ada:hush@example.org/a.mp4?key=hush\n")
    assert (
        line
        == "m.txt:1: video: found 'https://example.org/a.mp4'; a link with a user's name or password in it is not allowed"
    )
    assert "hush" not in problems("m.txt", "https://x.org?k=hush\nhttps://x.org?k=hush\n")[0]
    assert "hush" not in problems("m.txt", "ftp://x.org/?k=hush#hush\n")[0]


def test_of_very_many_problems_the_first_are_listed_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MOST_PROBLEMS", 3)
    lines = problems("m.txt", "a.mp4\n" * 6)
    assert len(lines) == 4
    assert lines[-1] == "m.txt: 2 more problems"


# Manifests of which nothing is used


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("m.csv", b"", "m.csv: is empty"),
        ("m.txt", b"\xef\xbb\xbf \r\n\r\n", "m.txt: is empty"),
        ("m.yaml", b"# nothing\n", "m.yaml: is empty"),
        ("m.yaml", b"videos: []\n", "m.yaml: names no video"),
        ("m.csv", b"path,template\n", "m.csv: names no video"),
        ("m.csv", b",;\n", "m.csv: has no header"),
        ("m.csv", b"sep=;\n", "m.csv: has no header"),
        ("m.csv", b"PK\x03\x04rest", "m.csv: is a workbook, not text"),
        ("m.txt", b"a.mp4\0", "m.txt: is no text file"),
        ("m.txt", b"\xff\xfea", "m.txt: is text in an unknown encoding"),
        ("m.txt", b"\xff\xff\xff.mp4", "m.txt: is text in an unknown encoding"),
        ("m.csv", b"path,templat\na.mp4,x\n", "m.csv:1: unknown column 'templat'; did you mean template?"),
        ("m.csv", b"\npath,path\na.mp4,x\n", "m.csv:2: the column 'path' is there twice"),
        (
            "m.csv",
            b"path,video ,zzzzz\na.mp4\n",
            "m.csv:1: unknown column 'zzzzz'; allowed: path, url, video, output_name",
        ),
        ("m.yaml", b"a.mp4\n", "m.yaml:1: found plain text; allowed: a list of videos"),
        ("m.yaml", b"videos: [a.mp4]\nvideo: b\n", "m.yaml:2: unknown key 'video'; allowed: a list of videos"),
        ("m.yaml", b"videos: a.mp4\n", "m.yaml:1: videos: allowed: a list"),
        ("m.yaml", b"videos: [a.mp4]\nvideos: [b.mp4]\n", "m.yaml:2: videos: given twice"),
        ("m.yaml", b"- a.mp4\n---\n- b.mp4\n", "m.yaml:2: a second document begins here"),
        ("m.yaml", b"- a.mp4\n- [\n", "m.yaml:3: not valid YAML"),
        ("m.yaml", b"- a.mp4\n- \x07\n", "m.yaml:2: the character U+0007 is not allowed in YAML"),
        ("m.yaml", b"- " + b"[" * 100_000, "m.yaml:1: not valid YAML: nested too deeply"),
        ("m.yaml", b"? " * 100_000, "m.yaml:1: "),
        (
            "m.yaml",
            b"options: {cost_limit: lots}\nvideos: [a.mp4]\n",
            "m.yaml:1: cost_limit: found 'lots'; allowed: none, or",
        ),
        (
            "m.yaml",
            b"options:\n  costlimit: 1\nvideos: [a.mp4]\n",
            "m.yaml:2: costlimit: unknown key; did you mean cost_limit?",
        ),
        ("m.yaml", b"name: a/b\nvideos: [a.mp4]\n", "m.yaml:1: name: found 'a/b'; allowed: a name of at most"),
        ("m.mp4", b"a.mp4\n", "m.mp4: is no manifest; allowed: .csv, .txt, .yaml, .yml"),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_refused_as_a_whole(name: str, data: bytes, what: str) -> None:
    found = read(name, data)
    assert found.rows == ()
    assert [str(problem)[: len(what)] for problem in found.problems] == [what]


def test_a_manifest_with_too_many_rows_or_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MOST_ROWS", 2)
    assert problems("m.txt", "a.mp4\nb.mp4\nc.mp4\n") == ["m.txt:3: has more than 2 rows; split it"]
    monkeypatch.setattr(manifests, "LARGEST_BYTES", 10)
    assert problems("m.txt", "a.mp4\nb.mp4\n") == ["m.txt: is larger than 0 MiB: no manifest; split it"]


def test_what_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to("real.txt")
    (tmp_path / "real.txt").write_text("a.mp4\n")
    (tmp_path / "folder.txt").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    assert read_bytes(tmp_path / "real.txt") == b"a.mp4\n"
    for name, what in (
        ("gone", "cannot be read"),
        ("link", "cannot be read"),
        ("folder", ""),
        ("pipe", "is no regular"),
    ):
        (problem,) = read_manifest(tmp_path / f"{name}.txt").problems
        assert str(problem).startswith(f"{tmp_path}/{name}.txt: {what}")


def test_a_hundred_thousand_rows_share_what_they_say_alike() -> None:
    rows = "".join(f"week {number % 10}/{number}.mp4,brief\n" for number in range(100_000))
    found = read("m.csv", f"path,template\n{rows}")
    assert len(found.rows) == 100_000
    assert found.problems == ()
    assert len({id(row.options) for row in found.rows}) == 1


# Hostile input

_bits = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [b"path", b"url,", b"video;", b"\t", b'"', b"\n", b"- ", b"{", b"[", b"&a ", b"*a", b": ", b"#", b"\r"]
    ),
    st.sampled_from(
        [b"a.mp4", b"../", b"/etc/passwd", b"https://", b"\xff\xfe", b"name", b"options: ", b"videos:\n", b"\0"]
    ),
    st.sampled_from(
        [b"priority=", b"sep=;", b"%YAML 1.1\n", b"---\n", b"!!str ", b"| ", b"<<: ", b"\xe8\xaf\xbe", b"\xbf\xce"]
    ),
)


@given(st.sampled_from([".csv", ".txt", ".yaml"]), st.lists(_bits, max_size=25).map(b"".join))
@settings(max_examples=300, deadline=None)
def test_whatever_is_in_a_manifest_gives_rows_or_problems(suffix: str, data: bytes) -> None:
    found = read(f"m{suffix}", data)
    assert found.rows or found.problems
    for row in found.rows:
        assert bool(row.path) != bool(row.url)
        assert not any(ord(character) < 32 for character in row.path + row.url)
    assert all(str(problem).isprintable() for problem in found.problems)
    is_note(data, RULES)


# Which files are manifests


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "课.txt", "a.yaml", "a.yml", "gsvrd.yaml.txt"])
def test_these_may_be_manifests(name: str) -> None:
    assert RULES.is_manifest(os.fsencode(name))


@pytest.mark.parametrize(
    "name",
    ["gsvrd.yaml", "a.csv.errors.txt", "A.CSV.ERRORS.TXT", ".a.csv", "~$a.csv", "a.csv.part", "a.mp4", "csv", "@eaDir"],
)
def test_these_are_no_manifests(name: str) -> None:
    assert not RULES.is_manifest(os.fsencode(name))


def test_the_configuration_can_have_manifests_left_alone() -> None:
    assert not NameRules(ignore=["*.csv"]).is_manifest(b"grades.csv")


@pytest.mark.parametrize(
    "text", ["a.mp4\n", "# for Monday\nweek 1/a.mp4\ttemplate=brief\n\nhttps://youtu.be/aqz-KE-bpKQ\n"]
)
def test_a_list_of_videos_is_no_note(text: str) -> None:
    assert not is_note(text.encode(), RULES)
    assert not is_note(text.encode("utf-16"), RULES)


@pytest.mark.parametrize(
    "text",
    ["", "# only this\n", "Recorded with a new camera.\n", "a.mp4\nand b.mp4 is missing\n", "a.mp4\0\n", "see a.pdf\n"],
)
def test_a_text_that_says_anything_else_is_a_note(text: str) -> None:
    assert is_note(text.encode(), RULES)


# The errors file


def test_the_errors_file_is_written_replaced_and_removed(tmp_path: Path) -> None:
    manifest = tmp_path / "课.csv"
    errors = tmp_path / "课.csv.errors.txt"
    write_errors(manifest, [Problem(Place("课.csv", 3), "one"), Problem(Place("课.csv"), "two")])
    assert errors.read_text() == "课.csv:3: one\n课.csv: two\n"
    write_errors(manifest, [Problem(Place("课.csv", 4), "three")])
    assert errors.read_text() == "课.csv:4: three\n"
    write_errors(manifest, [])
    write_errors(manifest, [])
    assert list(tmp_path.iterdir()) == []


def test_an_errors_file_that_says_the_same_is_not_touched(tmp_path: Path) -> None:
    problem = Problem(Place("a.csv", 3), "one")
    write_errors(tmp_path / "a.csv", [problem])
    before = os.stat(tmp_path / "a.csv.errors.txt")
    write_errors(tmp_path / "a.csv", [problem])
    after = os.stat(tmp_path / "a.csv.errors.txt")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_errors_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    victim, errors = tmp_path / "victim", tmp_path / "a.csv.errors.txt"
    for text in ("precious", "a.csv: one\n"):
        victim.write_text(text)
        errors.unlink(missing_ok=True)
        errors.symlink_to(victim)
        write_errors(tmp_path / "a.csv", [Problem(Place("a.csv"), "one")])
        assert victim.read_text() == text
        assert (errors.is_symlink(), errors.read_text()) == (False, "a.csv: one\n")


def test_the_errors_file_of_a_long_name_can_be_written(tmp_path: Path) -> None:
    manifest = tmp_path / f"{'x' * 251}.csv"
    write_errors(manifest, [Problem(Place("x"), "one")])
    assert errors_path(manifest).read_text() == "x: one\n"


def test_an_errors_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv.errors.txt").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_errors(tmp_path / "a.csv", [Problem(Place("x"), "one")])
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv.errors.txt"]


# The guide

GUIDE = (Path(__file__).parents[3] / "docs" / "batches.md").read_text()


@pytest.mark.parametrize(("fence", "name", "rows"), [("csv", "a.csv", 3), ("text", "a.txt", 2), ("yaml", "a.yaml", 3)])
def test_the_examples_of_the_guide_are_manifests(fence: str, name: str, rows: int) -> None:
    example = GUIDE.split(f"```{fence}")[1].split("```")[0].lstrip("\n")
    found = read(name, example)
    assert (found.problems, len(found.rows)) == ((), rows)


def test_the_guide_names_every_option_and_no_other() -> None:
    table = GUIDE.partition("## Options")[2]
    named = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(named) == sorted(Options.model_fields)


# What belongs to the batch


def test_what_belongs_to_the_batch_is_refused_on_a_row_that_is_done_without_it() -> None:
    found = read("m.csv", "path,priority,parallel,cost_limit\na.mp4,-5,3,\nb.mp4,,,2\n")
    assert [(row.path, row.options) for row in found.rows] == [("a.mp4", Options(priority=-5)), ("b.mp4", Options())]
    first, second = map(str, found.problems)
    assert first.startswith("m.csv:2: parallel belongs to the batch")
    assert second.startswith("m.csv:3: cost_limit belongs to the batch")


@pytest.mark.parametrize("name", sorted(manifests.BATCH_ONLY))
def test_what_belongs_to_the_batch_is_what_the_guide_says_does(name: str) -> None:
    (line,) = [line for line in GUIDE.splitlines() if line.startswith(f"| `{name}` |")]
    assert line.endswith("| a batch |")
    assert GUIDE.count("| a batch |") == len(manifests.BATCH_ONLY)
