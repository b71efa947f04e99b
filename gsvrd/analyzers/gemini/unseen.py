"""Videos that the service fetches by itself: nobody here has seen them, so their length has to be reckoned. Pure.

Before a call it is bounded, so that enough is reserved; after it, what was billed bounds it, and the times in the answer
say it. Used by `study`.
"""

from __future__ import annotations

from collections.abc import Iterator

from gsvrd.analysis import Analysis
from gsvrd.analyzers.gemini import weight
from gsvrd.analyzers.gemini.classify import Trouble, verdict_of
from gsvrd.analyzers.gemini.service import ServiceFault
from gsvrd.analyzers.gemini.settings import GeminiSettings
from gsvrd.errors import ErrorKind, TaskError
from gsvrd.templates.times import clock

_SLACK_S = 2.0
_OURS = ("api key", "api_key", "leaked", "suspended", "billing", "quota")
"""Words of a refusal that is about our account, not about the video."""


def longest_s(settings: GeminiSettings, room_tokens: int) -> float:
    """The longest that a video of unknown length is taken for: what is reserved is for so much of it."""
    return min(settings.max_duration_s, room_tokens / (weight.per_second(settings) * weight.UPWARDS))


def most_s(settings: GeminiSettings, tokens_in: int, tokens_of_texts: int, bound_s: float) -> float:
    """How long it can be by what was billed for it; by `bound_s` if that says nothing."""
    pictures = weight.per_second(settings) - weight.SOUND_PER_SECOND
    seen = tokens_in - tokens_of_texts
    return min(bound_s, seen / pictures) if seen > 0 and pictures > 0 else bound_s


def told_s(analysis: Analysis) -> float:
    """The last moment that the answer speaks of."""
    return max(_times(analysis), default=0.0)


def beyond(analysis: Analysis, limit_s: float) -> list[str]:
    """What is wrong with its times, a sentence; none if they can be."""
    last = told_s(analysis)
    if last <= limit_s + _SLACK_S:
        return []
    return [f"A time is {clock(last)}, but the video cannot be longer than {clock(limit_s)}."]


def gap(language: str) -> str:
    """What a report about such a video has to say of itself."""
    if language.startswith("zh"):
        return "视频留在原网站，未下载：没有关键画面，时长取自模型的回答。"
    return "The video stayed where it is: there are no pictures of it, and its length is what the model's answer says."


def error_of(fault: ServiceFault) -> TaskError | None:
    """What a refusal means that is about this video; None if it is about anything else."""
    trouble, words = verdict_of(fault).trouble, str(fault).lower()
    is_about_it = trouble in (Trouble.FILE_GONE, Trouble.REQUEST) or (fault.code == 403 and trouble is Trouble.KEY)
    if not is_about_it or any(word in words for word in _OURS):
        return None
    said = f"Gemini cannot look at this video ({fault.code}): {fault}"
    return TaskError(ErrorKind.LINK, said, "It must be public on YouTube; is it private, deleted, or a stream?")


def _times(analysis: Analysis) -> Iterator[float]:
    yield from (chapter.end_s for chapter in analysis.chapters)
    yield from (line.end_s for line in analysis.transcript)
    yield from (term.at_s for term in analysis.key_terms if term.at_s is not None)
    yield from (question.at_s for question in analysis.quiz if question.at_s is not None)
