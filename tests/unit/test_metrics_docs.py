"""Docs, dashboard and alerts speak of the metrics there are, with the labels they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gsvrd.daemon.metrics.names import FAMILIES
from gsvrd.daemon.vitals import LIVE_S

DOCS = Path(__file__).parents[2] / "docs"
ALERTS = yaml.safe_load((DOCS / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana.json").read_text())
OUTSIDE = {"up", "node_textfile_mtime_seconds"}
"""What others export."""
ENDINGS = {"gauge": ("",), "counter": ("",), "histogram": ("_bucket", "_sum", "_count")}
EXPORTED = {f"{family.name}{ending}": family for family in FAMILIES for ending in ENDINGS[family.kind]}
SCRAPED = {"instance", "job"}
_SELECTOR = re.compile(r"\b([a-z][a-z_]*_[a-z_]+|up)\b(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")


def queries() -> Iterator[tuple[str, str]]:
    """Where it stands, and the PromQL."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


FUNCTIONS = {"histogram_quantile"}


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_queries_ask_for_metrics_and_labels_there_are(where: str, query: str) -> None:
    asked = [(name, labels) for name, labels in _SELECTOR.findall(_GROUPING.sub("", query)) if name not in FUNCTIONS]
    assert asked
    for name, labels in asked:
        assert name in EXPORTED or name in OUTSIDE, name
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels))
        if name in EXPORTED:
            assert used <= {*EXPORTED[name].labels, *SCRAPED, "le"}, name
    known = {label for name, _ in asked if name in EXPORTED for label in EXPORTED[name].labels}
    for group in _GROUPING.findall(query):
        assert set(re.split(r"[\s,]+", group)) <= {*known, *SCRAPED, "le"}


def test_words_of_labels_that_queries_name_are_shown_in_the_docs() -> None:
    page = (DOCS / "metrics.md").read_text()
    for where, query in queries():
        for words in re.findall(r'(?:state|change|outcome|per|waits_for)=~?"([^"$]+)"', query):
            for word in words.split("|"):
                assert f"`{word}`" in page, (where, word)


def test_the_docs_have_each_metric_with_kind_labels_and_meaning_and_no_other() -> None:
    rows = [line for line in (DOCS / "metrics.md").read_text().splitlines() if line.startswith("| `gsvrd_")]
    told = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]
    labels = {family.name: ", ".join(f"`{label}`" for label in family.labels) for family in FAMILIES}
    assert told == [(f"`{one.name}`", one.kind, labels[one.name], one.help) for one in FAMILIES]


def test_names_say_their_unit_and_counters_that_they_count() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"gsvrd_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.kind != "histogram" or family.name.endswith("_seconds"), family.name


def test_each_alert_says_what_to_do() -> None:
    for rule in ALERTS:
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_the_alert_for_a_stuck_loop_goes_with_the_probe() -> None:
    [stuck] = [rule for rule in ALERTS if rule["alert"] == "GsvrdStuck"]
    assert stuck["expr"] == f"gsvrd_loop_lag_seconds > {LIVE_S:.0f}"


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        mine = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not mine & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= mine
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
