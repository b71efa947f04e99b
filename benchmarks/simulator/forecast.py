"""How good the forecast of the end is in a scenario, while the controller changes the number of workers."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.simulator.contest import settings_of
from benchmarks.simulator.engine import Engine, Try
from benchmarks.simulator.world import Scenario
from gsvrd.model import OutcomeKind
from gsvrd.policy.controller import Controller
from gsvrd.policy.progress import Finished, ProgressMonitor, Running, Span, Waiting

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Of the tasks: when to look."""
FEWEST = 5


@dataclass(frozen=True, slots=True)
class Forecast:
    """One look, and what came."""

    span: Span
    truth_s: float
    foreseeable: bool
    """Nothing leaps later that nobody can know: capacity, rate, outage or neighbour (a slow drift is none of them)."""

    @property
    def error(self) -> float:
        """Of p50, relative."""
        return self.span.p50 / self.truth_s - 1.0


def forecasts(scenario: Scenario) -> list[Forecast]:
    """Of a scenario in which all is there from the start; else none, as nobody can know what comes."""
    if any(video.arrives > 0.0 for video in scenario.videos):
        return []
    onlooker = _Onlooker(scenario, Controller(settings_of(scenario)))
    end = onlooker.run().seconds
    changes = _changes(scenario)
    return [
        Forecast(span, end - moment, not any(moment < change < end for change in changes))
        for moment, span in onlooker.looks
        if end > moment
    ]


def _changes(scenario: Scenario) -> list[float]:
    service, machine = scenario.service, scenario.machine
    steps = [moment for part in (service.capacity, service.rate, machine.neighbour) for moment, _ in part]
    return steps + [moment for outage in service.outages for moment in outage]


class _Onlooker(Engine):
    """A run that is looked at now and then."""

    def __init__(self, scenario: Scenario, controller: Controller) -> None:
        super().__init__(scenario, controller)
        self.monitor = ProgressMonitor()
        self.looks: list[tuple[float, Span]] = []
        self.due = [share * len(scenario.videos) for share in SHARES]
        self.unfinished = {video.number: video for video in scenario.videos}
        self.seen_target = 0

    def _dispatch(self) -> None:
        """As the daemon, it looks whenever the number of workers is another."""
        super()._dispatch()
        if self.seen_target != self.target and self.unfinished:
            self.seen_target = self.target
            self._forecast()

    def _end(self, one: Try, again_after: float | None) -> None:
        is_over = one.over
        super()._end(one, again_after)
        if is_over:
            return
        video, again = one.task.video, again_after is not None
        outcome = OutcomeKind.FAILED if video.bad or again else OutcomeKind.SUCCEEDED
        taken_s = self.now - one.started
        self.monitor.add(Finished(int(video.size), None, taken_s, self.now, outcome, again, video.kind))
        if again:
            return
        del self.unfinished[video.number]
        done = len(self.scenario.videos) - len(self.unfinished)
        if self.due and done >= max(self.due[0], FEWEST) and self.unfinished:
            self.due = [share for share in self.due if share > done]
            if (span := self._forecast()) is not None:
                self.looks.append((self.now, span))

    def _forecast(self) -> Span | None:
        running = {one.task.video.number: one for one in self.tries}
        waiting = [
            Waiting(int(video.size), kind=video.kind)
            for number, video in self.unfinished.items()
            if number not in running
        ]
        begun = [
            Running(int(one.task.video.size), None, self.now - one.started, kind=one.task.video.kind)
            for one in running.values()
        ]
        return self.monitor.look(self.now, running=begun, waiting=waiting, workers=self.target).remaining_s
