"""What studying a video would weigh: calls, tokens, money, and by which key its content is known. For `gsvrctl plan`.

By the analyzer's own figures, so that the plan and what is reserved agree; imported only when a plan is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from gsvrd.config.models import Config
from gsvrd.daemon.settings import Begun, load_all, terms, work_settings
from gsvrd.model import said
from gsvrd.policy.spending import Price, price_on
from gsvrd.pool.settings import WorkSettings
from gsvrd.store.foresight import Foresight
from gsvrd.store.ledger import pacific_day
from gsvrd.templates.model import Template

_NOBODY = Begun("00000000", 0.0, (), ())
_AN_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Weight:
    """Of one video; money in micro-dollars, None where no price is known."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    """As answers have been of late; without any, the most that is allowed."""
    cost_micro: int | None = 0
    cost_most_micro: int | None = 0
    """With the longest answers: so much is reserved."""


@dataclass
class Scales:
    """Weighs by the configuration and the past. Raises `ConfigError` where the daemon would not start."""

    config: Config
    foresight: Foresight | None
    now: float
    settings: WorkSettings = field(init=False)
    _templates: dict[tuple[str, str], Template] = field(default_factory=dict, init=False)
    _texts: dict[tuple[str, str], int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.settings = msgspec.json.decode(
            work_settings(self.config, _NOBODY, load_all(self.config)), type=WorkSettings
        )
        prices = terms(self.config).prices
        self._price = price_on(prices, self.settings.gemini.model, pacific_day(self.now).name)
        self._mean_out = self.foresight.mean_output(self.settings.gemini.model) if self.foresight else None

    @property
    def is_billed(self) -> bool:
        """Whether a service is asked."""
        return self.settings.analyzer == "gemini"

    @property
    def takes_links(self) -> bool:
        """Whether a video of YouTube can be studied where it is."""
        return self.is_billed

    def longest_s(self, options: str) -> float:
        """What a video of unknown length is taken for before the call: so much is reserved for it."""
        return float(said(options, "max_duration", self.settings.gemini.max_duration_s))

    @property
    def has_measured_answers(self) -> bool:
        """Whether it is known how long answers are."""
        return self._mean_out is not None

    def template(self, options: str) -> Template | None:
        """The template that a video's options ask for, in the language they ask for; None when there is no such one."""
        name = said(options, "template", self.settings.template)
        language = said(options, "language", self.settings.language)
        if name not in self.settings.templates:
            return None
        if (name, language) not in self._templates:
            self._templates[name, language] = Template.from_json(self.settings.templates[name]).in_language(language)
        return self._templates[name, language]

    def key(self, sha256: str, template: Template, options: str) -> str:
        """What finding out about this content with this template is known by; see `pool.execute`."""
        from gsvrd.pool.execute import Ways  # only where a content may be known already

        return Ways(self.settings).key(sha256, template, options)

    def weigh(self, options: str, template: Template, duration_s: float | None) -> Weight | None:
        """Of a video that has to be studied; None when its length is not known."""
        if not self.is_billed:
            return Weight()
        if duration_s is None:
            return None
        from gsvrd.analyzers.gemini import split, weight

        gemini, most_out = self.settings.gemini, self._most_output(template)
        per_second = weight.per_second(gemini) * weight.UPWARDS
        fits_s = min(self.longest_s(options), (gemini.context_tokens - most_out) / per_second)
        parts = split.plan(0.0, duration_s, max(fits_s, 2 * gemini.overlap_s), gemini.overlap_s)
        tokens = [math.ceil(part.length_s * per_second) + self._of_texts(template) for part in parts]
        tokens_out = min(most_out, round(self._mean_out)) if self._mean_out is not None else most_out
        return Weight(
            len(parts),
            sum(tokens),
            tokens_out * len(parts),
            _cost(self._price, tokens, tokens_out),
            _cost(self._price, tokens, most_out),
        )

    def _most_output(self, template: Template) -> int:
        return self.settings.gemini.max_output_tokens or template.model.max_output_tokens

    def _of_texts(self, template: Template) -> int:
        """The words around a video; of a usual one, since its own name and length hardly count."""
        key = (template.name, template.language)
        if key not in self._texts:
            from gsvrd.analyzers.gemini import answer, weight
            from gsvrd.analyzers.gemini.service import Request, Turn

            values = self.settings.parameters if template.name == self.settings.template else {}
            prompt = template.render({**values, "video_name": "lecture.mp4", "duration_s": _AN_HOUR_S})
            turns = (Turn("user", prompt.user),)
            request = Request(self.settings.gemini.model, prompt.system, turns, answer.SCHEMA, 0)
            self._texts[key] = weight.of_texts(request, with_turns=True)
        return self._texts[key]


def _cost(price: Price | None, tokens_in: Sequence[int], tokens_out: int) -> int | None:
    return sum(price.cost(tokens, tokens_out) for tokens in tokens_in) if price else None
