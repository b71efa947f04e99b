"""One attempt at one video: ask about each part, have an answer mended once, put the parts together.

Every answer that was paid for is kept as a stage before anybody looks into it, so that no interruption, and no wait for
a quota between an answer and its repair, makes it paid for twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from gsvrd.analysis import Analysis, Step
from gsvrd.analyzers.base import Call, GovernedBench, Spent
from gsvrd.analyzers.gemini import answer, split, unseen, weight
from gsvrd.analyzers.gemini.classify import Trouble, verdict_of
from gsvrd.analyzers.gemini.film import Film, Reference
from gsvrd.analyzers.gemini.permits import governed
from gsvrd.analyzers.gemini.sdk import INSTALL
from gsvrd.analyzers.gemini.service import Capability, GeminiService, Reply, Request, ServiceFault, Turn, Video
from gsvrd.analyzers.gemini.settings import GeminiSettings
from gsvrd.analyzers.gemini.split import Part
from gsvrd.errors import ConfigError, ErrorKind, TaskError
from gsvrd.policy.limiter import Lane
from gsvrd.templates.model import ModelSettings

CUT_OFF = "MAX_TOKENS"
_HALVED_FROM_S = 600.0
"""A shorter video whose answer is cut off does not say too much: it gets more room instead."""
_SHORTEST_HALVED_S = 120.0
_RAW_KEPT = 20_000
"""Characters of an unusable answer that go beside the error."""
_BLOCKED = frozenset({"SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "LANGUAGE"})


class Prompt(Protocol):
    """The two texts a model gets."""

    @property
    def system(self) -> str:
        """Who it is and how it works."""
        ...

    @property
    def user(self) -> str:
        """What to make of the video."""
        ...


class LessonTemplate(Protocol):
    """What is asked, and what the answer must hold; `gsvrd.templates.model.Template` is one."""

    @property
    def model(self) -> ModelSettings:
        """How the model is run, where the configuration does not say it."""
        ...

    def render(self, values: Mapping[str, object]) -> Prompt:
        """The prompt. `values`: `video_name`, `duration_s` of what the model is given, `part` and `parts`, and more.

        Raises `ConfigError` for wrong values.
        """
        ...

    def check(self, analysis: Analysis, duration_s: float) -> list[str]:
        """What is wrong with the answer, one sentence each; empty when it can be used."""
        ...


class Draft(BaseModel):
    """A stage: what the model said. Tokens are those billed."""

    model_config = ConfigDict(frozen=True)

    text: str
    finish: str
    model: str
    tokens_in: int
    tokens_out: int


@dataclass
class Study:
    """See `run`."""

    bench: GovernedBench
    settings: GeminiSettings
    template: LessonTemplate
    values: Mapping[str, object]
    """Parameters of the template."""
    service: GeminiService
    film: Film | Reference
    _models: list[str] = field(default_factory=list, init=False)
    _drafts: list[str] = field(default_factory=list, init=False)

    def run(self) -> Analysis:
        """The analysis of the whole video.

        Raises `TaskError`, `Snooze`, and `ServiceFault` for what `classify.error_of` knows.
        """
        parts = self._parts()
        found = [pair for number, part in enumerate(parts, 1) for pair in self._part(part, number, len(parts))]
        self.bench.progress("analyze", 1.0)
        whole = split.merge(found)
        return whole.model_copy(update={"steps": (self._step(whole.language, len(found)),)})

    def _parts(self) -> list[Part]:
        duration_s = self.bench.facts.duration_s
        room = self.settings.context_tokens - self.settings.max_output_tokens
        if self.bench.link:
            return [Part(0.0, unseen.longest_s(self.settings, room))]
        longest_s = min(self.settings.max_duration_s, room / (weight.per_second(self.settings) * weight.UPWARDS))
        parts = split.plan(0.0, duration_s, max(longest_s, 2 * self.settings.overlap_s), self.settings.overlap_s)
        if len(parts) > 1 and Capability.CLIP not in self.service.capabilities:
            raise TaskError(
                ErrorKind.TOO_LARGE,
                f"The video lasts {duration_s / 3600:.1f} hours, {longest_s / 3600:.1f} fit into one request, and the "
                f"SDK {self.service.name} cannot ask about parts of a video.",
                f"Install google-genai ({INSTALL}), or cut the video.",
            )
        return parts

    def _part(self, part: Part, number: int, of: int, *, is_half: bool = False) -> list[tuple[Part, Analysis]]:
        """What was found in a part: one analysis, or two if the answer about all of it did not fit."""
        self.bench.progress("analyze", (number - 1) / of)
        asked = self._asked(part, number, of)
        draft = self._draft("answer", part, asked)
        if draft.finish == CUT_OFF and not is_half:
            roomy = replace(asked, max_output_tokens=self._more_room(asked.max_output_tokens))
            if self._is_to_halve(part, may_grow=roomy != asked):
                one, two = split.halves(part, self.settings.overlap_s)
                found = self._part(one, 2 * number - 1, 2 * of, is_half=True)
                return found + self._part(two, 2 * number, 2 * of, is_half=True)
            if roomy != asked:
                # The decoder of JSON cannot go on in the middle of an object: the whole of it again, with more room.
                asked, draft = roomy, self._draft("longer answer", part, roomy)
        if draft.finish == CUT_OFF:
            hint = "Raise model.max_output_tokens in the template, or lower analyzer.gemini.max_duration."
            raise self._unusable("The answer does not fit into the tokens allowed for it.", draft, part, hint)
        return [(part, self._usable(draft, part, asked))]

    def _more_room(self, tokens: int) -> int:
        return max(tokens, min(2 * tokens, self.settings.most_output_tokens))

    def _is_to_halve(self, part: Part, *, may_grow: bool) -> bool:
        """Whether a cut-off answer is asked for by halves: where there is much to say, or no more room to say it in."""
        if self.bench.link:
            return False  # nobody knows where its middle is
        shortest_s = _HALVED_FROM_S if may_grow else max(_SHORTEST_HALVED_S, 4 * self.settings.overlap_s)
        return part.length_s >= shortest_s and Capability.CLIP in self.service.capabilities

    def _usable(self, draft: Draft, part: Part, asked: Request) -> Analysis:
        """The analysis in the draft, or in its one repair."""
        found, problems = self._read(draft, part, asked)
        if found and not problems:
            return found
        mended = self._draft("repair", part, _repair(asked, draft if found else None, problems))
        found, problems = self._read(mended, part, asked)
        if found and not problems:
            return found
        raise self._unusable(f"The answer is no usable lesson: {' '.join(problems)}", mended, part)

    def _read(self, draft: Draft, part: Part, asked: Request) -> tuple[Analysis | None, list[str]]:
        if draft.finish not in ("STOP", ""):
            return None, [f"The answer ended early ({draft.finish})."]
        reading = answer.parse(draft.text, part.start_s, part.end_s)
        if reading.analysis is None:
            return None, list(reading.problems)
        if self.bench.link:
            return self._measured(reading.analysis, draft, part, asked)
        return reading.analysis, self.template.check(reading.analysis, part.length_s)

    def _measured(
        self, analysis: Analysis, draft: Draft, part: Part, asked: Request
    ) -> tuple[Analysis | None, list[str]]:
        """Of a video whose length nobody knew: it is what the answer says, if what was billed allows that."""
        texts = weight.of_texts(asked, with_turns=True)
        # What the texts weigh is reckoned upwards; here that would make the video too short.
        limit_s = unseen.most_s(self.settings, draft.tokens_in, texts // 2, part.length_s)
        length_s = unseen.told_s(analysis)
        measured = analysis.model_copy(
            update={"duration_s": length_s, "gaps": (*analysis.gaps, unseen.gap(analysis.language))}
        )
        return measured, [*unseen.beyond(measured, limit_s), *self.template.check(measured, length_s)]

    def _unusable(self, message: str, draft: Draft, part: Part, hint: str = "") -> TaskError:
        """The failure. What was kept of this part is forgotten: another attempt would only mend the same answer again."""
        for stage in self._drafts:
            if stage.endswith(_span(part)):
                self.bench.forget(stage)
        raw = draft.text[:_RAW_KEPT]
        return TaskError(ErrorKind.ANSWER, message[:1000], hint or "The model's own words are kept below.", raw)

    def _asked(self, part: Part, number: int, of: int) -> Request:
        """The request about a part, its video still missing: see `_with_video`."""
        values = {
            **self.values,
            "video_name": self.bench.name,
            "duration_s": 0.0 if self.bench.link else part.length_s,
            "part": number,
            "parts": of,
        }
        try:
            prompt = self.template.render(values)
        except ConfigError as error:
            # Values may come with the video, from a manifest: only this video is concerned.
            raise TaskError(ErrorKind.REQUEST, str(error), error.hint) from error
        return Request(
            model=self.settings.model,
            system=prompt.system,
            turns=(Turn("user", prompt.user),),
            schema=answer.SCHEMA,
            max_output_tokens=self.settings.max_output_tokens,
            temperature=self.settings.temperature,
            thinking=self.settings.thinking,
            media_resolution=self.settings.media_resolution,
            flex=self.settings.flex,
        )

    def _draft(self, what: str, part: Part, asked: Request) -> Draft:
        """What the model says to `asked`, from an earlier attempt if it was said there."""
        stage = f"{what}{_span(part)}"
        self._drafts.append(stage)
        draft = self.bench.keep(stage, Draft, lambda: self._ask(asked, part))
        if draft.model not in self._models:
            self._models.append(draft.model)
        return draft

    def _ask(self, asked: Request, part: Part) -> Draft:
        """One answer: in the good case one call. Raises `TaskError` (BLOCKED) if the service will not answer."""
        try:
            reply = self._call(asked, part)
        except ServiceFault as fault:
            trouble = verdict_of(fault).trouble
            if trouble is Trouble.FILE_GONE:
                self.film.gone()
            elif trouble is Trouble.NOT_ACTIVE:
                self.film.inactive()
            elif asked.flex and fault.code == 503:
                asked = replace(asked, flex=False)
            else:
                raise
            reply = self._call(asked, part)
        reason = _blocked(reply)
        if reason:
            raise TaskError(
                ErrorKind.BLOCKED,
                f"Gemini will not answer about this video: {reason}.",
                "Nothing can be done with Gemini; try analyzer: local.",
            )
        return Draft(
            text=reply.text,
            finish=reply.finish,
            model=reply.model or asked.model,
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
        )

    def _call(self, asked: Request, part: Part) -> Reply:
        request = self._with_video(asked, part)
        call = Call(Lane.GENERATE, request.model, self._tokens_in(request, part), request.max_output_tokens)
        return governed(self.bench, call, lambda: self._generate(request), _spent)

    def _generate(self, request: Request) -> Reply:
        """A refusal that is about a video of somebody else's closes no door: it is told apart before anybody counts it."""
        try:
            return self.service.generate(request)
        except ServiceFault as fault:
            error = unseen.error_of(fault) if self.bench.link else None
            if error is None:
                raise
        raise error

    def _with_video(self, asked: Request, part: Part) -> Request:
        file = self.film.file()
        is_whole = bool(self.bench.link) or (part.start_s <= 0 and part.end_s >= self.bench.facts.duration_s)
        video = Video(
            uri=file.uri,
            mime_type=file.mime_type,
            start_s=None if is_whole else part.start_s,
            end_s=None if is_whole else part.end_s,
            fps=self.settings.fps,
        )
        return replace(asked, turns=(replace(asked.turns[0], video=video), *asked.turns[1:]))

    def _tokens_in(self, request: Request, part: Part) -> int:
        if self.settings.count_tokens:
            # It asks for no permit: Google bills nothing for it, and counts it by a quota of its own, far above that of
            # generate calls, which it would halve if it were counted there. Each one comes before a call that asks.
            return self.service.count(request) + weight.of_texts(request, with_turns=False)
        video = part.length_s * weight.per_second(self.settings) * weight.UPWARDS
        return math.ceil(video) + weight.of_texts(request, with_turns=True)

    def _step(self, language: str, parts: int) -> Step:
        models = ", ".join(self._models)
        if language.startswith("zh"):
            how = f"由 {models} 观看并听完整段视频" + (f"，分 {parts} 段进行" if parts > 1 else "")
        else:
            how = f"{models} watched and heard the whole video" + (f", in {parts} parts" if parts > 1 else "")
        return Step(name="gemini", how=how)


def _span(part: Part) -> str:
    """How the names of a part's stages end."""
    return f" {part.start_s:.0f}-{part.end_s:.0f}"


def _spent(reply: Reply) -> Spent:
    outcome = "ok"
    if _blocked(reply):
        outcome = ErrorKind.BLOCKED
    elif reply.finish != "STOP" or not reply.text.strip():
        outcome = ErrorKind.ANSWER
    return Spent(outcome, reply.tokens_in, reply.tokens_out, is_known=reply.has_usage)


def _blocked(reply: Reply) -> str:
    """The service's word for why it does not answer; empty if it does."""
    if reply.blocked:
        return reply.blocked
    is_block = reply.finish in _BLOCKED or reply.finish.startswith("IMAGE_")
    return reply.finish if is_block else ""


def _repair(asked: Request, draft: Draft | None, problems: Sequence[str]) -> Request:
    """The same request with what was wrong. The wrong answer goes along only if it can be read: nonsense breeds more."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    order = (
        f"Your last answer cannot be used:\n{listed}\n\nAnswer once more, complete and in the same form, without these."
    )
    if draft is None:
        first = asked.turns[0]
        return replace(asked, turns=(replace(first, text=f"{first.text}\n\n{order}"),))
    return replace(asked, turns=(*asked.turns, Turn("model", draft.text), Turn("user", order)))
