"""The report's own words, one table per language. Data only; used by the renderer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Labels:
    """Every word that comes from us and not from the video."""

    language: str
    summary: str
    objectives: str
    contents: str
    time: str
    chapter: str
    part: str
    """Title of a chapter that has none; takes its number."""
    chapters: tuple[str, str]
    """How many chapters: for one, for more."""
    picture_at: str
    key_terms: str
    activities: str
    quiz: str
    answer: str
    transcript: str
    full_transcript: str
    unclear: str
    speakers_unknown: str
    resources: str
    how_made: str
    machine_made: str
    steps: str
    gaps: str
    gaps_above: str
    file: str
    notes: str
    video: str
    audio: str
    subtitles: str
    size: str
    container: str
    joiner: str
    """Between a label and what it labels."""


EN = Labels(
    language="English",
    summary="Summary",
    objectives="Objectives",
    contents="Contents",
    time="Time",
    chapter="Chapter",
    part="Part {}",
    chapters=("{} chapter", "{} chapters"),
    picture_at="Picture at {}",
    key_terms="Key terms",
    activities="Activities",
    quiz="Quiz",
    answer="Answer",
    transcript="Transcript",
    full_transcript="Full transcript",
    unclear="In italics: the speech recognition was not sure.",
    speakers_unknown="The speakers could not be told apart.",
    resources="Resources",
    how_made="How this was made",
    machine_made="Made by a program from the video alone; check it before you teach with it.",
    steps="Steps",
    gaps="What could not be done",
    gaps_above="Some parts could not be made; the reasons are at the end.",
    file="The video file",
    notes="What is odd about the file",
    video="Picture",
    audio="Sound",
    subtitles="Subtitles",
    size="Size",
    container="Container",
    joiner=": ",
)

ZH = Labels(
    language="中文",
    summary="摘要",
    objectives="学习目标",
    contents="目录",
    time="时间",
    chapter="章节",
    part="第 {} 部分",
    chapters=("共 {} 章", "共 {} 章"),
    picture_at="{} 的画面",
    key_terms="关键术语",
    activities="课堂活动",
    quiz="测验",
    answer="答案",
    transcript="文字记录",
    full_transcript="逐字稿",
    unclear="斜体部分的语音识别结果不够确定。",
    speakers_unknown="未能分辨说话人。",
    resources="参考资料",
    how_made="本报告的生成方式",
    machine_made="本报告由程序仅依据视频内容自动生成，授课前请核对。",
    steps="步骤",
    gaps="未能完成的部分",
    gaps_above="有些部分未能生成，原因见文末。",
    file="视频文件",
    notes="文件中的异常",
    video="画面",
    audio="声音",
    subtitles="字幕",
    size="文件大小",
    container="封装格式",
    joiner="：",
)


def labels_for(language: str) -> Labels:
    """The table for a BCP 47 tag; English where there is no other."""
    return ZH if language.lower().split("-")[0] == "zh" else EN
