"""The words of a batch's summary and of its plot, a table per language. Data only; `labels` says which language is meant."""

from __future__ import annotations

from dataclasses import dataclass

from gsvrd.reports.labels import ZH, labels_for


@dataclass(frozen=True, slots=True)
class SummaryLabels:
    """Every word that comes from us."""

    loose: str
    """What a batch of loose files is called; takes the time at which it began."""
    done_of: str
    """Takes how many are completed, and of how many."""
    figures: str
    figure: str
    value: str
    period: str
    success: str
    failed: str
    cancelled: str
    unfinished: str
    total_time: str
    work_time: str
    average: str
    retries: str
    skipped: str
    reused: str
    calls: str
    tokens: str
    cost: str
    units: tuple[str, str, str]
    """Hours, minutes, seconds, each behind its figure."""
    course: str
    lessons: str
    no_report: str
    is_skipped: str
    is_reused: str
    failures: str
    attempts: tuple[str, str]
    """How many attempts: for one, for more."""
    no_reason: str
    what_to_do: str
    slowest: str
    video: str
    time: str
    glossary: str
    attempt: str
    workers: str
    throughput: str
    """Takes the length of a bar's time."""
    succeeded: str
    went_wrong: str
    given_back: str
    idle: str
    """Takes how long."""
    nothing_ran: str
    joiner: str
    bracket: str
    """Takes what stands in brackets."""


_EN = SummaryLabels(
    loose="Loose videos of {}",
    done_of="{} of {} videos completed",
    figures="Figures",
    figure="Figure",
    value="Value",
    period="From – to (UTC)",
    success="Success rate",
    failed="Failed",
    cancelled="Cancelled",
    unfinished="Not finished",
    total_time="Total time",
    work_time="Work of all workers",
    average="Average per video",
    retries="Retries",
    skipped="Skipped: the same content had a report",
    reused="Reused: studied before, not paid for again",
    calls="Calls",
    tokens="Tokens",
    cost="Cost",
    units=(" h", " min", " s"),
    course="Timeline",
    lessons="Lessons",
    no_report="no report",
    is_skipped="same content, no second report",
    is_reused="studied before",
    failures="Failed",
    attempts=("{} attempt", "{} attempts"),
    no_reason="no reason on record",
    what_to_do="What to do",
    slowest="Slowest",
    video="Video",
    time="Time",
    glossary="Glossary",
    attempt="attempt {}",
    workers="Workers",
    throughput="Completed per {}",
    succeeded="succeeded",
    went_wrong="went wrong",
    given_back="given back",
    idle="{} without work",
    nothing_ran="Nothing ran.",
    joiner=": ",
    bracket=" ({})",
)

_ZH = SummaryLabels(
    loose="{} 的零散视频",
    done_of="{1} 个视频中已完成 {0} 个",
    figures="数据",
    figure="项目",
    value="数值",
    period="起止时间（UTC）",
    success="成功率",
    failed="失败",
    cancelled="已取消",
    unfinished="未结束",
    total_time="总用时",
    work_time="全部工作进程合计",
    average="平均每个视频",
    retries="重试次数",
    skipped="跳过：相同内容已有报告",
    reused="复用：此前已分析，不重复付费",
    calls="调用次数",
    tokens="词元数",
    cost="费用",
    units=(" 小时", " 分", " 秒"),
    course="运行过程",
    lessons="课程",
    no_report="无报告",
    is_skipped="内容相同，未另写报告",
    is_reused="此前已分析",
    failures="失败",
    attempts=("尝试 {} 次", "尝试 {} 次"),
    no_reason="没有记录原因",
    what_to_do="处理办法",
    slowest="用时最长",
    video="视频",
    time="用时",
    glossary="术语汇总",
    attempt="第 {} 次尝试",
    workers="工作进程",
    throughput="每 {}的完成数",
    succeeded="成功",
    went_wrong="出错",
    given_back="已退回",
    idle="空闲 {}",
    nothing_ran="没有运行记录。",
    joiner="：",
    bracket="（{}）",
)


def summary_labels(language: str) -> SummaryLabels:
    """The table for a BCP 47 tag; English where there is no other."""
    return _ZH if labels_for(language) is ZH else _EN


def duration(seconds: float, labels: SummaryLabels) -> str:
    """`1 h 04 min`, `3 min 20 s`, `8.4 s`: the two units that matter."""
    hour, minute, second = labels.units
    if seconds < 9.95:
        return f"{seconds:.1f}{second}"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{second}"
    if whole < 3600:
        return f"{whole // 60}{minute} {whole % 60:02}{second}"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,}{hour} {minutes % 60:02}{minute}"
