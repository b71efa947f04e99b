"""What would become of each video of a plan: skipped and why, or done, and what that weighs. Called by `plan`.

Judges as the daemon and its workers do when they come to it; where that would need a large file to be read, it says so.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gsvrd.cli.lengths import NO_VIDEO, lengths
from gsvrd.cli.planning import KNOWN, UNSURE, Item
from gsvrd.cli.weighing import Scales, Weight
from gsvrd.config.models import Config
from gsvrd.intake.identity import FILE_FLAGS
from gsvrd.model import said
from gsvrd.policy.links import Link
from gsvrd.store.foresight import Foresight

HASHED_BYTES = 64 << 20
"""Larger files are not read through to find out whether their content is known."""
MOST_MEASURED = 500
"""The lengths of further videos are reckoned from their sizes."""


@dataclass
class Judging:
    """What is needed to judge."""

    config: Config
    scales: Scales
    foresight: Foresight | None

    def judge(self, items: Sequence[Item]) -> None:
        """Write on each item what would become of it; they come in the order in which they would be done."""
        good = [item for item in items if item.verdict != "skipped"]
        for item in good:
            template = self.scales.template(item.options)
            item.template = said(item.options, "template", self.config.template)
            item.language = template.language if template else ""
            if template is None:
                item.skip("no_template", f"there is no template {item.template!r}")
            elif item.size > self.config.limits.max_file_size:
                item.skip("too_large", "it is larger than limits.max_file_size allows")
            elif item.link:
                self._judge_link(item, item.link)
        self._measure(good)
        self._compare([item for item in good if item.verdict != "skipped"])
        for item in good:
            template = self.scales.template(item.options)
            if item.code == KNOWN:
                item.weight = Weight()
            elif item.verdict != "skipped" and template is not None:
                item.weight = self.scales.weigh(item.options, template, item.duration_s)

    def _judge_link(self, item: Item, link: Link) -> None:
        """Nobody is asked about it: a plan makes no call."""
        if not link.video:
            item.why = "its size and length are known when it is fetched"
        elif self.scales.takes_links:
            item.duration_s, item.why = self.scales.longest_s(item.options), "its length is not known: at most so much"
        else:
            message = f"the analyzer {self.scales.settings.analyzer} cannot look at a video of YouTube"
            item.skip("link", f"{message}; choose analyzer: gemini, or download it")

    def _measure(self, items: Sequence[Item]) -> None:
        files = [item for item in items if item.path and item.verdict != "skipped"]
        found = lengths([item.path for item in files[:MOST_MEASURED]])
        for item in files:
            if (seconds := found.get(item.path)) == NO_VIDEO:
                item.skip("not_video", "it cannot be read as a video")
            elif seconds is not None:
                item.duration_s, item.is_measured = seconds, True
                if seconds > self.config.limits.max_duration:
                    item.skip("too_long", "it is longer than limits.max_duration allows")
        measured = [item for item in files if item.is_measured]
        rate = sum(item.duration_s or 0.0 for item in measured) / max(1, sum(item.size for item in measured))
        for item in files:
            if item.duration_s is None and rate and item.size:
                item.duration_s = min(item.size * rate, self.config.limits.max_duration)

    def _compare(self, items: Sequence[Item]) -> None:
        """Whose content is known. Of another size it is another content, so few files have to be read."""
        sizes = Counter(item.size for item in items)
        known = self.foresight.sizes_known() if self.foresight else set()
        seen: dict[str, str] = {}
        for item in items:
            template = self.scales.template(item.options)
            if template is None or not item.path or said(item.options, "force"):
                continue
            if sizes[item.size] < 2 and item.size not in known:
                continue
            item.sha256 = item.sha256 or (_hash(item.path) if item.size <= HASHED_BYTES else "")
            if item.sha256:
                self._settle(item, self.scales.key(item.sha256, template, item.options), seen)
            else:
                item.code, item.why = UNSURE, "whether its content is known is decided when it runs"

    def _settle(self, item: Item, key: str, seen: dict[str, str]) -> None:
        skips = said(item.options, "skip_existing", self.config.batch.skip_existing)
        is_known, report = self.foresight.analysis(key) if self.foresight else (False, "")
        first = seen.get(key)
        seen.setdefault(key, item.name)
        if is_known and skips and report:
            item.skip("report_exists", f"the same content has the report {report}")
        elif is_known:
            item.code, item.why = KNOWN, "the same content was studied before: only the report is made"
        elif first and skips:
            item.skip("same_content", f"the same content as {first}: one report serves both")
        elif first:
            item.code, item.why = KNOWN, f"the same content as {first}: studied once"


def _hash(path: bytes) -> str:
    """SHA-256 of a file; empty when it cannot be read."""
    try:
        with open(os.open(path, FILE_FLAGS), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
