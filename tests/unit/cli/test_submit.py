from __future__ import annotations

import json
import os
import select
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gsvrd.cli.gsvrctl import main
from gsvrd.config.options import Options
from gsvrd.daemon.signals import Doorbell
from gsvrd.intake import manifest as manifests
from gsvrd.intake.allowed import Roots, place_rows
from gsvrd.intake.manifest import Manifest, read_manifest
from gsvrd.intake.names import NameRules


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / "inbox").mkdir(parents=True)
    (tmp_path / "home" / "state").mkdir()
    (tmp_path / "home" / "config").mkdir()
    allow(tmp_path / "home", tmp_path / "videos")
    for name in (
        "videos/b.mp4",
        "videos/week 1/第一课.mp4",
        "videos/notes.pdf",
        "elsewhere/b.mp4",
        "home/inbox/in.mp4",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "home"


def allow(home: Path, *roots: Path) -> None:
    (home / "config" / "gsvrd.yaml").write_text(json.dumps({"intake": {"roots": [str(root) for root in roots]}}))


def submit(home: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), "submit", *map(str, words)])


def posted(home: Path) -> Manifest:
    """The one manifest in the inbox, read as the daemon reads it."""
    (file,) = (home / "inbox").glob("*.yaml")
    manifest = read_manifest(file)
    roots = Roots(os.fsencode(home / "inbox"), [os.fsencode(home.parent / "videos")])
    placed, problems = place_rows(manifest, "m", os.fsencode(home / "inbox"), roots, NameRules())
    assert (manifest.problems, problems, len(placed)) == ((), (), len(manifest.rows))
    assert all(one.found for one in placed if one.located)
    return manifest


def said(manifest: Manifest) -> list[str]:
    return [row.path or row.url for row in manifest.rows]


def inbox_of(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home / "inbox")) for path in (home / "inbox").rglob("*"))


# What is written


def test_files_folders_and_links_become_one_manifest(home: Path) -> None:
    videos = home.parent / "videos"
    done = submit(home, home / "inbox" / "in.mp4", videos, "https://youtu.be/aqz-KE-bpKQ?t=1", "--name", "Kurs 1: ß課")
    assert done.exit_code == 0, done.output
    assert "Submitted 4 videos as the batch 'Kurs 1: ß課'." in done.stdout
    assert "does not run" in done.stdout
    found = posted(home)
    assert found.name == "Kurs 1: ß課"
    assert said(found) == [
        "in.mp4",
        f"{videos}/b.mp4",
        f"{videos}/week 1/第一课.mp4",
        "https://youtu.be/aqz-KE-bpKQ?t=1",
    ]
    assert [name for name in inbox_of(home) if name.endswith(".part")] == []


def test_options_are_handed_on_as_they_were_meant(home: Path) -> None:
    words = ["--template", "comprehensive_lesson", "--language", "zh", "--priority", "-3", "--parallel", "2"]
    words += ["--cost-limit", "2.00", "--output-dir", "x/y", "--output-pattern", "{stem}", "--force"]
    words += ["--option", "timeout_s=5400", "--option", "max_duration=1h30m", "--option", "dry_run=true"]
    assert submit(home, home / "inbox" / "in.mp4", *words).exit_code == 0
    assert posted(home).options == Options(
        template="comprehensive_lesson",
        language="zh",
        priority=-3,
        parallel=2,
        cost_limit=2,
        output_dir="x/y",
        output_pattern="{stem}",
        force=True,
        timeout=5400,
        max_duration=5400,
        dry_run=True,
    )


@pytest.mark.parametrize("money", ["0.000001", "2.5", "999999999.999999"])
def test_a_sum_of_money_arrives_to_the_last_digit(home: Path, money: str) -> None:
    assert submit(home, home / "inbox" / "in.mp4", "--cost-limit", money).exit_code == 0
    assert posted(home).options.cost_limit == round(float(money) * 1_000_000)


def test_the_rows_of_a_manifest_are_handed_on_and_the_command_line_goes_first(home: Path) -> None:
    list_file = home.parent / "videos" / "term 1.yaml"
    list_file.write_text(
        "name: Term 1\noptions: {language: de, parallel: 3}\nvideos:\n"
        "- {path: week 1/第一课.mp4, language: zh, priority: 4, output_name: Eins}\n- b.mp4\n"
    )
    assert submit(home, list_file, "--language", "en").exit_code == 0
    found = posted(home)
    first, second = found.rows
    assert (found.name, found.options) == ("Term 1", Options(language="en", parallel=3))
    assert first.path == f"{home.parent}/videos/week 1/第一课.mp4"
    assert (first.options, first.output_name, second.options) == (Options(priority=4), "Eins", Options())


@pytest.mark.parametrize("name", ['a"b\\c', "- x", "{y}", "#z", "a: b", "'", "null", "*a", "！", "👩‍🏫"])
def test_names_that_mean_something_in_yaml_are_only_names(home: Path, name: str) -> None:
    (home / "inbox" / f"{name}.mp4").touch()
    assert submit(home, home / "inbox" / f"{name}.mp4", "--name", f"{name}!").exit_code == 0
    assert (said(posted(home)), posted(home).name) == ([f"{name}.mp4"], f"{name}!")


def test_a_batch_is_called_as_its_only_source(home: Path) -> None:
    submit(home, home.parent / "videos")
    assert posted(home).name == "videos"


def test_nothing_is_overwritten_by_a_second_submission(home: Path) -> None:
    for _ in range(2):
        assert submit(home, home / "inbox" / "in.mp4", "--name", "x").exit_code == 0
    assert len(list((home / "inbox").glob("x.*.yaml"))) == 2


def test_sources_that_overlap_are_taken_once(home: Path) -> None:
    submit(home, home.parent / "videos", home.parent / "videos" / "b.mp4", home.parent / "videos")
    assert len(posted(home).rows) == 2


def test_the_daemon_is_told_only_when_something_was_submitted(home: Path) -> None:
    bell = Doorbell(home / "state" / "doorbell")
    submit(home, home / "inbox" / "in.mp4", "--dry-run")
    submit(home, "gone.mp4")
    assert select.select([bell.fileno()], [], [], 0)[0] == []
    submit(home, home / "inbox" / "in.mp4")
    assert select.select([bell.fileno()], [], [], 0)[0] == [bell.fileno()]
    bell.close()


def test_json_and_dry_run_say_what_would_be_and_write_nothing(home: Path) -> None:
    before = inbox_of(home)
    facts = json.loads(submit(home, home / "inbox" / "in.mp4", "--dry-run", "--json").stdout)
    assert facts == {
        "schema": 1,
        "action": "submit",
        "dry_run": True,
        "pid": None,
        "batch": "in",
        "manifest": None,
        "videos": [f"{home}/inbox/in.mp4"],
        "problems": [],
    }
    assert "Would submit 1 video" in submit(home, home / "inbox" / "in.mp4", "--dry-run").stdout
    assert inbox_of(home) == before
    done: dict[str, Any] = json.loads(submit(home, home / "inbox" / "in.mp4", "--json").stdout)
    assert Path(done["manifest"]).is_file()


# Copies


def test_what_lies_elsewhere_is_copied_into_a_folder_of_the_batch(home: Path) -> None:
    elsewhere, videos = home.parent / "elsewhere", home.parent / "videos"
    (home / "inbox" / "Kurs").mkdir()
    done = submit(home, elsewhere / "b.mp4", videos, home / "inbox" / "in.mp4", "--copy", "--name", "Kurs")
    assert done.exit_code == 0, done.output
    assert said(posted(home)) == ["Kurs-2/b.mp4", "Kurs-2/b-2.mp4", "Kurs-2/week 1/第一课.mp4", "in.mp4"]
    assert (home / "inbox" / "Kurs-2" / "b.mp4").read_text() == "elsewhere/b.mp4"
    assert (home / "inbox" / "Kurs-2" / "b-2.mp4").read_text() == "videos/b.mp4"
    assert (elsewhere / "b.mp4").exists()


def test_a_copy_that_fails_leaves_nothing_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: str) -> None:
        raise OSError(28, "No space left on device", target)

    before = inbox_of(home)
    monkeypatch.setattr("shutil.copyfile", full)
    done = submit(home, home.parent / "elsewhere" / "b.mp4", "--copy")
    assert done.exit_code == os.EX_CANTCREAT
    assert "No space left on device" in done.stderr
    assert inbox_of(home) == before


# What is refused: everything is said at once, and nothing is written


def test_a_file_outside_the_roots_is_refused_with_the_way_to_allow_it(home: Path) -> None:
    before = inbox_of(home)
    file = home.parent / "elsewhere" / "b.mp4"
    done = submit(home, file, home / "inbox" / "in.mp4")
    assert done.exit_code == 66
    assert f"'{file}' leads out of the inbox" in done.stderr
    assert f"intake.roots: [{file.parent}]" in done.stderr
    assert "--copy" in done.stderr
    assert inbox_of(home) == before
    allow(home, file.parent)
    assert submit(home, file).exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["gone.mp4"], 66, "gone.mp4: No such file or directory"),
        (["{inbox}"], 0, ""),
        (["{videos}/notes.pdf"], 66, "has not the name of a video"),
        (["{home}/state"], 66, "state: holds no video"),
        (["{inbox}/in.mp4", "--priority", "x"], 64, "--priority: priority: found 'x'; allowed: a whole number"),
        (["{inbox}/in.mp4", "--option", "frob=1"], 64, "--option frob: frob: unknown key"),
        (["{inbox}/in.mp4", "--option", "frob"], 64, "write it as KEY=VALUE"),
        (["{inbox}/in.mp4", "--output-dir", "../x"], 64, "--output-dir: output_dir: found '../x'"),
        (["{inbox}/in.mp4", "--template", "comprehensive_leson"], 64, "did you mean comprehensive_lesson?"),
        (["{inbox}/in.mp4", "--name", "a/b"], 64, "--name: allowed: a name"),
        (["ftp://x.org/a.mp4"], 64, "allowed: an http or https link"),
        ([], 64, "Missing argument"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(home: Path, words: list[str], code: int, says: str) -> None:
    before = inbox_of(home)
    places = {"home": home, "inbox": home / "inbox", "videos": home.parent / "videos"}
    done = submit(home, *(word.format(**places) for word in words))
    assert done.exit_code == code, done.output
    assert says in done.stderr
    assert (inbox_of(home) == before) is (code != 0)


def test_every_problem_of_a_manifest_is_listed_with_its_line(home: Path) -> None:
    file = home.parent / "videos" / "m.csv"
    file.write_text("path,priority,template\nb.mp4,1,\ngone.mp4,1,\nb.mp4,x,\nweek 1/第一课.mp4,,nope\n")
    done = submit(home, file, "--json")
    problems = json.loads(done.stdout)["problems"]
    assert [(problem["line"], problem["message"].split(";")[0]) for problem in problems] == [
        (4, "path: 'b.mp4' is there twice, first in line 2"),
        (3, "there is no file 'gone.mp4'"),
        (None, "there is no template 'nope'"),
    ]
    assert {problem["source"] for problem in problems} == {str(file), "template"}
    assert done.exit_code == 64


def test_a_manifest_with_options_of_the_whole_is_not_mixed_with_others(home: Path) -> None:
    file = home.parent / "videos" / "m.yaml"
    file.write_text("options: {cost_limit: 1}\nvideos: [b.mp4]\n")
    done = submit(home, file, home / "inbox" / "in.mp4")
    assert (done.exit_code, "submit it alone" in done.stderr) == (64, True)
    assert submit(home, file).exit_code == 0
    assert posted(home).options == Options(cost_limit=1)


def test_two_wishes_for_one_video_are_a_problem(home: Path) -> None:
    file = home.parent / "videos" / "m.csv"
    file.write_text("path,priority\nb.mp4,1\n")
    done = submit(home, file, home.parent / "videos" / "b.mp4")
    assert (done.exit_code, "named twice, with different options" in done.stderr) == (66, True)


def test_a_name_that_is_no_text_is_refused(home: Path) -> None:
    (home / "inbox" / os.fsdecode(b"\xff.mp4")).touch()
    done = submit(home, home / "inbox")
    assert (done.exit_code, "\\udcff.mp4': its name is no UTF-8 text" in done.stderr) == (66, True)


def test_what_the_daemon_would_leave_alone_is_not_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "config" / "gsvrd.yaml").write_text("intake: {ignore: ['draft*']}")
    done = submit(home, home / "inbox" / "in.mp4", "--name", "drafts")
    assert (done.exit_code, "intake.ignore" in done.stderr) == (64, True)
    monkeypatch.setattr(manifests, "MOST_ROWS", 1)
    (home / "inbox" / "more.mp4").touch()
    done = submit(home, home / "inbox")
    assert (done.exit_code, "has more than 1 rows" in done.stderr) == (64, True)
    assert list((home / "inbox").glob("*.yaml")) == []


def test_without_an_inbox_there_is_nowhere_to_submit_to(tmp_path: Path) -> None:
    done = submit(tmp_path, "https://youtu.be/aqz-KE-bpKQ")
    assert (done.exit_code, "there is no inbox" in done.stderr) == (66, True)
