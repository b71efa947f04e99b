"""What `config/gsvrd.yaml` may say: a frozen model for each section, each field with rule, default and description.

The one source of names, defaults, bounds and descriptions: the JSON schema is made from it, and a test holds
`config/gsvrd.yaml` against it. Python attributes are named as the keys; durations are seconds, sizes are bytes.
`load` makes a `Config`; everybody else only reads it.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, model_validator

from gsvrd.config.base import Conflict, Section, refuse
from gsvrd.config.rules import (
    auto_or,
    auto_or_number,
    choice,
    directory,
    dollars,
    duration,
    flag,
    named_values,
    price,
    report_name,
    share,
    size,
    text,
    texts,
    whole,
)
from gsvrd.config.units import DAY, GIB, HOUR, MIB, MINUTE, TIB

Bytes = int
Seconds = float

AnalyzerName = Literal["auto", "gemini", "local", "probe"]
Fate = Literal["archive", "keep", "delete"]
Proxy = Literal["auto", "always", "never"]
Resolution = Literal["auto", "low", "medium", "high"]
Thinking = Literal["auto", "minimal", "low", "medium", "high"]
Sdk = Literal["auto", "google-genai", "google-generativeai"]
Watch = Literal["auto", "events", "polling"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "json"]

_SUFFIXES = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .wmv .flv .ogv .3gp"
_IGNORED = (
    ".* ~* *.part *.partial *.crdownload *.download *.tmp *.filepart @eaDir #recycle $RECYCLE.BIN lost+found __MACOSX"
)
_MEDIA_TYPES = (
    "video/* audio/* application/octet-stream binary/octet-stream"
    " application/mp4 application/x-matroska application/ogg"
)
_AUTO_LEAST, _AUTO_FIRST, _AUTO_MOST = 2, 4, 8
LEAST_MEMORY = 256 * MIB
"""The daemon, its fork server and one worker with a small task."""

_suffix = text("a suffix such as .mp4, in small letters", r"\.[a-z0-9_+-]{1,15}")
_glob = text("a file name pattern such as *.part, without '/'", r"[^/]+")
_address = text("empty, or an http or https address", r"(?:https?://\S+)?")
_media_type = text("a media type such as video/mp4 or video/*, in small letters", r"[a-z0-9.+*-]+/[a-z0-9.+*-]+")
_below_reports = text("empty, or a relative path without '..'", r"(?:(?![/~])(?!(?:.*/)?\.\.?(?:/|$)).+)?")
_host = text("a host's name or address in small letters, without a port", r"[a-z0-9._:-]{1,253}")
_listen = text(
    "empty, an address and a port, or a socket: 127.0.0.1:9478, [::1]:9478 or unix:PATH",
    r"(?:[0-9.]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}|unix:.{1,100})?",
)
template_name = text("a template's name: letters, digits, '_' and '-'", r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
language_tag = text("auto, or a language tag such as en, zh or pt-BR", r"auto|[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


def _clashes(real: Mapping[str, str]) -> Iterable[Conflict]:
    """Each directory that equals an earlier one or lies inside the inbox."""
    names = list(real)
    for index, name in enumerate(names):
        twin = next((other for other in names[:index] if real[other] == real[name]), None)
        if twin is not None:
            yield name, twin, f"it is the same directory as directories.{twin}"
        elif name != "inbox" and os.path.commonpath([real[name], real["inbox"]]) == real["inbox"]:
            yield name, "inbox", "it lies inside directories.inbox"


class Directories(Section):
    """Where things lie. Relative paths start at the home directory."""

    inbox: Annotated[str, directory()] = Field(default="inbox", description="Drop videos here.")
    reports: Annotated[str, directory()] = Field(default="reports", description="Finished reports appear here.")
    archive: Annotated[str, directory()] = Field(default="archive", description="Videos that were done are moved here.")
    failed: Annotated[str, directory()] = Field(
        default="failed",
        description="Videos that could not be done are moved here, each with an .error.json beside it.",
    )
    state: Annotated[str, directory()] = Field(
        default="state", description="The database, the lock and unfinished work."
    )

    @model_validator(mode="after")
    def _apart(self, info: ValidationInfo) -> Directories:
        """An archive inside the inbox would feed itself for ever; links are followed to see it."""
        home = (info.context or {}).get("home", "/")
        real = {name: os.path.realpath(os.path.join(home, getattr(self, name))) for name in type(self).model_fields}
        refuse(self, _clashes(real))
        return self


class Local(Section):
    """The analyzer that works on this machine alone, without network or key."""

    speech: Annotated[bool, flag()] = Field(default=True, description="Write down what is said.")
    speech_model: Annotated[str, text("a directory or a model's name, or empty", r".*")] = Field(
        default="", description="Directory or name of the speech model; empty takes the one that is installed."
    )
    slide_text: Annotated[bool, flag()] = Field(default=True, description="Read the text on slides.")


class Gemini(Section):
    """Google's model, over the network. The key is GEMINI_API_KEY, in key_file, or systemd's credential gemini-api-key."""

    model: Annotated[str, text("a model's name", r"[A-Za-z0-9._-]{1,100}")] = Field(
        default="gemini-3.8-flash", description="The model that studies the videos."
    )
    sdk: Annotated[Sdk, choice(Sdk)] = Field(
        default="auto", description="The library that speaks to it: auto is google-genai where it is installed."
    )
    key_file: Annotated[str, text("a file, or empty", r".*")] = Field(
        default="", description="File with the API key alone in it; goes before the variable GEMINI_API_KEY."
    )
    base_url: Annotated[str, text("empty, or an http or https address", r"(?:https?://\S+)?")] = Field(
        default="", description="Address of a gateway to call instead of Google (also GSVRD_GEMINI_BASE_URL)."
    )
    project: Annotated[str, text("a word", r"[A-Za-z0-9._-]{1,100}")] = Field(
        default="default", description="Your own name for the Google project of the key: limits are counted for it."
    )
    max_concurrent: Annotated[int, whole(1, 64)] = Field(default=5, description="The most calls at a time.")
    uploads: Annotated[int, whole(1, 16)] = Field(
        default=1, description="The most uploads at a time; several share one line and none gets done."
    )
    requests_per_minute: Annotated[int, whole(1, 100_000)] = Field(default=60, description="Google's RPM.")
    tokens_per_minute: Annotated[int, whole(1, 1_000_000_000)] = Field(
        default=1_000_000, description="Google's TPM, input tokens."
    )
    requests_per_day: Annotated[int, whole(1, 10_000_000)] = Field(
        default=1000, description="Google's RPD; the day ends at midnight in Los Angeles."
    )
    max_file_size: Annotated[Bytes, size(1, 2 * GIB)] = Field(
        default=2 * GIB, description="The largest file that is uploaded; Google takes no larger one."
    )
    proxy: Annotated[Proxy, choice(Proxy)] = Field(
        default="auto",
        description="Send a small stand-in with one picture a second: auto does where a file is too large or far larger.",
    )
    timeout: Annotated[Seconds, duration(1, HOUR)] = Field(default=300.0, description="The longest a call may take.")
    max_duration: Annotated[Seconds, duration(MINUTE, DAY)] = Field(
        default=2.5 * HOUR, description="Longer videos are studied in parts and put together."
    )
    fps: Annotated[float | None, auto_or_number(0.01, 24)] = Field(
        default=None, description="Pictures a second that the model sees; auto leaves it at one (google-genai only)."
    )
    media_resolution: Annotated[Resolution, choice(Resolution)] = Field(
        default="auto", description="How closely the model looks at each picture (google-genai only)."
    )
    thinking: Annotated[Thinking, choice(Thinking)] = Field(
        default="auto", description="How long the model thinks; it is billed as output (google-genai only)."
    )
    flex: Annotated[bool, flag()] = Field(
        default=False, description="Half the price for answers that may take minutes (google-genai only)."
    )
    cost_limit_day: Annotated[int | None, dollars()] = Field(default=None, description="The most to spend in a day.")
    cost_limit_batch: Annotated[int | None, dollars()] = Field(
        default=None, description="The most to spend on one batch: a folder, or loose files that came together."
    )
    cost_limit_total: Annotated[int | None, dollars()] = Field(default=None, description="The most to spend at all.")
    prices: Annotated[tuple[str, ...], texts(price())] = Field(
        default=(
            "gemini-3.8-flash 0.75 3.75 ..2026-12-31",
            "gemini-3.8-flash 1.50 7.50 2027-01-01..",
            "gemini-3.5-flash-lite 0.30 2.50",
            "gemini-3.5-flash 1.50 9.00",
            "gemini-3.1-pro-preview 2/4 12/18",
        ),
        description="What models cost, as read on 2026-10-07; after a slash the price beyond 200,000 tokens.",
    )


class AnalyzerChoice(Section):
    """What studies the videos. `analyzer: local` is short for `analyzer: {use: local}`."""

    shorthand: ClassVar[str] = "use"

    use: Annotated[AnalyzerName, choice(AnalyzerName)] = Field(
        default="auto",
        description="auto takes gemini where a key is set, else local; probe reads only what the container says.",
    )
    local: Local = Local()
    gemini: Gemini = Gemini()


class Limits(Section):
    """Videos beyond these limits go to failed/ without being studied."""

    max_file_size: Annotated[Bytes, size(1, 1024 * TIB)] = Field(default=50 * GIB, description="The largest file.")
    max_duration: Annotated[Seconds, duration(1, 30 * DAY)] = Field(default=12 * HOUR, description="The longest video.")
    max_pixels: Annotated[int, whole(1, 1_000_000_000)] = Field(
        default=40_000_000, description="The largest picture, width times height (8K has 33 million)."
    )
    max_streams: Annotated[int, whole(1, 10_000)] = Field(default=64, description="The most streams in one container.")


class Intake(Section):
    """How files in the inbox are noticed, and which count as videos."""

    watch: Annotated[Watch, choice(Watch)] = Field(
        default="auto",
        description="How changes are noticed: auto tries events and polls where they do not work (network shares).",
    )
    poll_interval: Annotated[Seconds, duration(0.1, HOUR)] = Field(
        default=5.0, description="The time between two looks while polling."
    )
    rescan_interval: Annotated[Seconds, duration(1, DAY)] = Field(
        default=30.0, description="The time between two whole scans, which find what events missed."
    )
    settle: Annotated[Seconds, duration(0, HOUR)] = Field(
        default=2.0,
        description="How long a file must stand still where nobody can tell whether it is still being written.",
    )
    suffixes: Annotated[tuple[str, ...], texts(_suffix)] = Field(
        default=tuple(_SUFFIXES.split()),
        description="Names that end so are videos; capital letters count as small ones.",
    )
    ignore: Annotated[tuple[str, ...], texts(_glob)] = Field(
        default=tuple(_IGNORED.split()), description="Files and folders whose names match one of these are left alone."
    )
    hard_links: Annotated[bool, flag()] = Field(
        default=False, description="Take files that have a second name elsewhere (hard links), too."
    )
    roots: Annotated[tuple[str, ...], texts(directory())] = Field(
        default=(), description="Directories besides the inbox whose videos manifests and `gsvrctl submit` may name."
    )


class Batch(Section):
    """Videos that came together: a folder, a manifest, or loose files."""

    idle_close: Annotated[Seconds, duration(1, DAY)] = Field(
        default=5 * MINUTE, description="After so long without a loose file the next one begins a new batch."
    )
    parallel: Annotated[int | Literal["auto"], auto_or(whole(1, 64))] = Field(
        default="auto", description="The most videos of one batch that are studied at a time; auto is all workers."
    )
    skip_existing: Annotated[bool, flag()] = Field(
        default=False, description="Make no second report of the same content with the same template and model."
    )
    retry_failed: Annotated[bool, flag()] = Field(
        default=False, description="Try failed videos of a batch once more when all others are done."
    )
    dry_run: Annotated[bool, flag()] = Field(
        default=False, description="Study nothing; `gsvrctl plan` tells what would be done."
    )
    progress_file: Annotated[str, _below_reports] = Field(
        default="", description="A file below the reports directory that always says how far the batch is (JSON)."
    )
    webhook_url: Annotated[str, _address] = Field(
        default="", description="An address that is told of each video and of the end of its batch."
    )
    checkpoint_dir: Annotated[str, text("a directory, or empty", r".*")] = Field(
        default="",
        description="While a batch has work under way, snapshots go there, too: below state/checkpoints, or absolute.",
    )
    checkpoint_interval: Annotated[Seconds, duration(1, 30 * DAY)] = Field(
        default=5 * MINUTE, description="The time between two of them, if anything was written meanwhile."
    )


class Queue(Section):
    """Who comes first: the task with the lowest figure, where waiting counts, too."""

    priority: Annotated[int, whole(0, 1000)] = Field(default=50, description="The figure of a plain task.")
    small_below: Annotated[Bytes, size(0, 1024 * TIB)] = Field(
        default=100 * 10**6, description="Files below this size are small."
    )
    small_bonus: Annotated[int, whole(0, 1000)] = Field(
        default=10, description="Small files get this much less: they come earlier."
    )
    large_above: Annotated[Bytes, size(0, 1024 * TIB)] = Field(
        default=500 * 10**6, description="Files above this size are large."
    )
    large_penalty: Annotated[int, whole(0, 1000)] = Field(
        default=10, description="Large files get this much more: they come later."
    )
    retry_penalty: Annotated[int, whole(0, 1000)] = Field(
        default=20, description="Each further attempt gets this much more."
    )
    ageing: Annotated[Seconds, duration(1, 30 * DAY)] = Field(
        default=MINUTE, description="Waiting this long is worth one point, so that nothing waits for ever."
    )

    @model_validator(mode="after")
    def _small_is_not_large(self) -> Queue:
        if self.small_below > self.large_above:
            refuse(self, [("small_below", "large_above", "it must not be above queue.large_above")])
        return self


class Retry(Section):
    """What happens after a failed attempt."""

    max_retries: Annotated[int, whole(0, 100)] = Field(
        default=3, description="Further attempts after the first, for failures that may pass."
    )
    poison_limit: Annotated[int, whole(1, 100)] = Field(
        default=2, description="A video that has felled its worker so many times goes to failed/."
    )


class Workers(Section):
    """The processes that study the videos, one video at a time each."""

    min: Annotated[int | Literal["auto"], auto_or(whole(1, 64))] = Field(
        default="auto", description="The fewest workers; auto is 2, or workers.max if that is less."
    )
    max: Annotated[int | Literal["auto"], auto_or(whole(1, 64))] = Field(
        default="auto", description="The most workers; auto is 8, or workers.min if that is more."
    )
    initial: Annotated[int | Literal["auto"], auto_or(whole(1, 64))] = Field(
        default="auto",
        description="Workers at the first start; auto is one for each processor, 4 at most. Later starts know better.",
    )
    adaptive: Annotated[bool, flag()] = Field(
        default=True, description="Find the right number by itself, from min to max; false keeps max all the time."
    )
    adjustment_cooldown: Annotated[Seconds, duration(1, HOUR)] = Field(
        default=MINUTE, description="The time between two steps up to a number that was not tried before."
    )
    cpu_high: Annotated[float, share()] = Field(
        default=0.8,
        description="Busier processors than this, of those this service may use, and the number does not grow.",
    )
    memory_high: Annotated[float, share()] = Field(
        default=0.75, description="With more than this of the memory in use the number does not grow."
    )
    api_error_high: Annotated[float, share()] = Field(
        default=0.05, description="With more than this of the calls failing for load the number does not grow."
    )
    response_high: Annotated[Seconds, duration(1, DAY)] = Field(
        default=5 * MINUTE,
        description="With slower calls the number does not grow, until there are enough to tell slow from long.",
    )
    history: Annotated[int, whole(1, 1000)] = Field(default=20, description="How many calls are enough for that.")
    memory_budget: Annotated[int | Literal["auto"], auto_or(size(LEAST_MEMORY, TIB))] = Field(
        default="auto",
        description="The memory of all workers and the daemon; auto is that of the control group or the machine.",
    )
    threads: Annotated[int | Literal["auto"], auto_or(whole(1, 256))] = Field(
        default="auto", description="Threads in each worker; auto shares the processors out among the workers."
    )
    memory_limit: Annotated[Bytes, size(256 * MIB, TIB)] = Field(
        default=2 * GIB, description="The most memory of one worker; an attempt that wants more fails."
    )
    cpu_time_limit: Annotated[Seconds, duration(1, 30 * DAY)] = Field(
        default=4 * HOUR, description="The most processor time of one attempt, summed over its threads."
    )
    timeout: Annotated[Seconds, duration(1, 30 * DAY)] = Field(
        default=3 * HOUR, description="The deadline of one attempt; after it the worker is ended."
    )
    stage_timeout: Annotated[Seconds, duration(1, 30 * DAY)] = Field(
        default=2 * HOUR, description="The deadline of one stage of an attempt, as `gsvrctl status` names them."
    )

    @property
    def most(self) -> int:
        """`max` as a number."""
        return max(_AUTO_MOST, 0 if self.min == "auto" else self.min) if self.max == "auto" else self.max

    @property
    def least(self) -> int:
        """`min` as a number."""
        return min(_AUTO_LEAST, self.most) if self.min == "auto" else self.min

    @property
    def first(self) -> int:
        """`initial` as a number."""
        wanted = min(_AUTO_FIRST, _processors()) if self.initial == "auto" else self.initial
        return max(self.least, min(self.most, wanted))

    @property
    def threads_each(self) -> int:
        """`threads` as a number."""
        if self.threads != "auto":
            return self.threads
        return max(1, _processors() // self.most)

    @model_validator(mode="after")
    def _in_order(self) -> Workers:
        refuse(self, self._disorder())
        return self

    def _disorder(self) -> Iterable[Conflict]:
        if self.max != "auto" and self.min != "auto" and self.min > self.max:
            yield "min", "max", f"it must not be above workers.max, which is {self.max}"
        elif self.initial != "auto" and self.initial > self.most:
            yield "initial", "max", f"it must not be above workers.max, which is {self.most}"
        elif self.initial != "auto" and self.initial < self.least:
            yield "initial", "min", f"it must not be below workers.min, which is {self.least}"


class Service(Section):
    """The daemon itself."""

    drain: Annotated[Seconds, duration(0, DAY)] = Field(
        default=30.0,
        description="How long running tasks may go on after a stop was asked for; then they are given back.",
    )


class Checkpoints(Section):
    """Snapshots of the state database in state/checkpoints/, from which a damaged one is restored."""

    interval: Annotated[Seconds, duration(1, 30 * DAY)] = Field(
        default=5 * MINUTE, description="The time between two snapshots, if anything was written meanwhile."
    )
    every_tasks: Annotated[int, whole(1, 1_000_000)] = Field(
        default=10, description="After so many completed tasks there is a snapshot, too; a large database takes longer."
    )
    keep: Annotated[int, whole(1, 1000)] = Field(
        default=10, description="How many snapshots are kept; those made by hand are counted apart."
    )
    roots: Annotated[tuple[str, ...], texts(directory())] = Field(
        default=(), description="Directories besides state/checkpoints below which a batch may want its snapshots."
    )


class Webhook(Section):
    """How batches' webhook_url is told of events. An address that leads to this machine or its network is refused."""

    secret_file: Annotated[str, text("a file, or empty", r".*")] = Field(
        default="",
        description="File with a signing secret a line, the newest first (openssl rand -base64 32); empty signs nothing.",
    )
    allow: Annotated[tuple[str, ...], texts(_host)] = Field(
        default=(), description="Hosts that may be told though they are on this machine or its network."
    )
    timeout: Annotated[Seconds, duration(1, 5 * MINUTE)] = Field(
        default=10.0, description="The longest one delivery may take, from the host's name to the answer."
    )
    give_up: Annotated[Seconds, duration(MINUTE, 30 * DAY)] = Field(
        default=DAY, description="A message this old that is still refused or not answered is given up."
    )


class Links(Section):
    """Links to videos, in lists and shortcuts (.url): what is fetched. An address that leads to this machine is refused."""

    allow: Annotated[tuple[str, ...], texts(_host)] = Field(
        default=(), description="Hosts that may be fetched from though they are on this machine or its network."
    )
    max_size: Annotated[Bytes, size(1, 1024 * TIB)] = Field(
        default=10 * GIB, description="The largest video that is fetched."
    )
    timeout: Annotated[Seconds, duration(1, 30 * DAY)] = Field(
        default=HOUR, description="The time for one try at fetching; the next one goes on where it ended."
    )
    types: Annotated[tuple[str, ...], texts(_media_type)] = Field(
        default=tuple(_MEDIA_TYPES.split()),
        description="What servers may call a video; what it really is is checked, too.",
    )


class Metrics(Section):
    """Figures for Prometheus, and probes, as docs/metrics.md has them. Off unless one of the two is named."""

    listen: Annotated[str, _listen] = Field(
        default="",
        description="Where /metrics and the probes are served: 127.0.0.1:9478, or unix:PATH from the state directory on.",
    )
    allow_remote: Annotated[bool, flag()] = Field(
        default=False, description="Serve them at an address that other machines reach, too; nobody is asked who he is."
    )
    textfile: Annotated[str, text("a file whose name ends with .prom, or empty", r"(?:.*\.prom)?")] = Field(
        default="",
        description="File of the same figures for node_exporter's textfile collector; relative to the state directory.",
    )
    textfile_interval: Annotated[Seconds, duration(1, HOUR)] = Field(
        default=15.0, description="The time between two writes of it."
    )

    @model_validator(mode="after")
    def _near(self) -> Metrics:
        if self.listen and not self.listen.startswith("unix:"):
            refuse(self, self._objections())
        return self

    def _objections(self) -> Iterable[Conflict]:
        host, _, port = self.listen.rpartition(":")
        try:
            is_near = ipaddress.ip_address(host.strip("[]")).is_loopback
        except ValueError:
            yield "listen", "allow_remote", f"{host} is no address"
            return
        if not 0 < int(port) < 65536:
            yield "listen", "allow_remote", f"{port} is no port"
        if not is_near and not self.allow_remote:
            yield (
                "listen",
                "allow_remote",
                "other machines reach this address; metrics.allow_remote does not allow that",
            )


class Logs(Section):
    """The log, written to standard error."""

    level: Annotated[LogLevel, choice(LogLevel)] = Field(
        default="info", description="The least important entries that are written."
    )
    format: Annotated[LogFormat, choice(LogFormat)] = Field(
        default="auto",
        description="auto is text on a terminal and in the journal of systemd, else one JSON object a line.",
    )


class Settings(Section):
    """All that the file may say."""

    directories: Directories = Directories()
    template: Annotated[str, template_name] = Field(
        default="comprehensive_lesson", description="The template of the reports."
    )
    language: Annotated[str, language_tag] = Field(
        default="auto",
        description="The language of the reports: auto is that of the video, else a language tag (BCP 47).",
    )
    parameters: Annotated[dict[str, object], named_values()] = Field(
        default={},
        description="Values for the template's parameters, such as {audience: beginners}; its file names them.",
    )
    output_pattern: Annotated[str, report_name()] = Field(
        default="{relpath}.md", description="The names of the reports below the reports directory."
    )
    analyzer: AnalyzerChoice = AnalyzerChoice()
    after_success: Annotated[Fate, choice(Fate)] = Field(
        default="archive", description="What becomes of a video that was done."
    )
    limits: Limits = Limits()
    intake: Intake = Intake()
    batch: Batch = Batch()
    queue: Queue = Queue()
    retry: Retry = Retry()
    workers: Workers = Workers()
    service: Service = Service()
    checkpoint: Checkpoints = Checkpoints()
    webhook: Webhook = Webhook()
    links: Links = Links()
    metrics: Metrics = Metrics()
    logs: Logs = Logs()


class Config(Settings):
    """The settings in effect at one home directory; `load` makes it."""

    home: Path
    """Absolute. It comes from `--home` or `GSVRD_HOME`, never from the file."""

    @property
    def inbox(self) -> Path:
        """Absolute path of the directory that is watched."""
        return self.home / self.directories.inbox

    @property
    def reports(self) -> Path:
        """Absolute path of the directory of reports."""
        return self.home / self.directories.reports

    @property
    def archive(self) -> Path:
        """Absolute path of the directory for videos that were done."""
        return self.home / self.directories.archive

    @property
    def failed(self) -> Path:
        """Absolute path of the directory for videos that could not be done."""
        return self.home / self.directories.failed

    @property
    def state(self) -> Path:
        """Absolute path of the directory of database and lock."""
        return self.home / self.directories.state

    @property
    def checkpoints(self) -> Path:
        """Absolute path of the directory of snapshots."""
        return self.state / "checkpoints"

    @property
    def checkpoint_roots(self) -> tuple[Path, ...]:
        """Absolute paths of the directories below which a batch may want its snapshots."""
        return (self.checkpoints, *(self.home / root for root in self.checkpoint.roots))

    def checkpoint_folder(self, said: str) -> Path | None:
        """Where a `checkpoint_dir` leads, links seen through; None when that is not below one of `checkpoint_roots`.

        The operator's own `batch.checkpoint_dir` may be anywhere. Looks at the disk.
        """
        folder = Path(os.path.realpath(self.checkpoints / os.path.expanduser(said)))
        roots = [Path(os.path.realpath(root)) for root in self.checkpoint_roots]
        is_allowed = said == self.batch.checkpoint_dir or any(folder.is_relative_to(root) for root in roots)
        return folder if is_allowed else None

    @property
    def roots(self) -> tuple[Path, ...]:
        """Absolute paths of the directories besides the inbox whose videos may be named."""
        return tuple(self.home / root for root in self.intake.roots)


def _processors() -> int:
    """How many processors this process may use (affinity; a quota of the control group does not show here)."""
    return len(os.sched_getaffinity(0))
