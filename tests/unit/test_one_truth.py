"""Facts that must stand in two places, because of the walls, stand there alike."""

from __future__ import annotations

from pathlib import Path

from gsvrd.config import places
from gsvrd.config.models import Config, Directories
from gsvrd.config.rules import PATTERN_FIELDS
from gsvrd.intake.names import VIDEO_SUFFIXES
from gsvrd.reports.naming import FIELDS


def test_output_patterns_are_checked_for_the_fields_that_reports_know() -> None:
    assert set(PATTERN_FIELDS) == set(FIELDS)


def test_gsvrctl_finds_the_directories_where_the_daemon_puts_them(tmp_path: Path) -> None:
    found = places.find_places(tmp_path, None, {})
    config = Config(home=tmp_path)
    assert set(found.directories) == set(Directories.model_fields)
    assert {name: str(path) for name, path in found.directories.items()} == {
        name: str(getattr(config, name)) for name in places.NAMES
    }


def test_gsvrctl_understands_file_and_variables(tmp_path: Path) -> None:
    file = tmp_path / "config" / "gsvrd.yaml"
    file.parent.mkdir()
    file.write_text("directories: {state: /var/lib/x}\nnonsense: [\n")
    broken = places.find_places(tmp_path, None, {})
    assert broken.state in (Path("/var/lib/x"), tmp_path / "state")
    file.write_text("directories: {state: /var/lib/x}\nnonsense: 1\n")
    assert places.find_places(tmp_path, None, {}).state == Path("/var/lib/x")
    assert places.find_places(tmp_path, None, {"GSVRD_DIRECTORIES__STATE": "st"}).state == tmp_path / "st"


def test_the_intakes_own_default_knows_every_suffix_of_the_configuration() -> None:
    suffixes = {suffix.lstrip(".") for suffix in Config(home=Path("/")).intake.suffixes}
    assert suffixes <= set(VIDEO_SUFFIXES)
