"""Content filters in memory: the verdict machine is the real one, the kernel is the test.

    with FilterHarness(NoTelemetry()) as filters:
        flow = filters.connect("curl → telemetry.example:443")
        assert flow.state == "dropped"
        assert filters.transcript == '''
            >> new flow curl → telemetry.example:443 tcp
            << drop
            -- refused
        '''

The same class runs unchanged in `netext run` and `netext filter`. No privilege, no network, no waiting: time is a
`FakeClock`, moved by `advance`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, ClassVar

from ..content_filter import FilterControlProvider, FilterDataProvider, FilterProvider
from ..core import filter_decision as decision
from ..core.filter_rule_matching import FilterRuleMatcher
from ..core.flow_decision import Policy, ProviderState, Trouble
from ..core.flow_description import parse_flow
from ..errors import ProviderError
from ..filter_flow import FilterFlow, FilterReport
from ..filter_settings import FilterSettings
from ..filter_verdicts import FilterDataVerdict, FilterNewFlowVerdict, FilterReportEvent, FilterVerdict
from ..provider import StopReason
from ..rules import Direction
from .clock import FakeClock
from .filtered_talk import DIRECTION_NAMES, FilteredTalk
from .harness import Harness, awaited
from .transcript import flow_words, shown, verdict_words


class _Stage:
    """What one filter of a harness sees of its runtime."""

    def __init__(self, harness: FilterHarness, index: int) -> None:
        self._harness, self._index = harness, index

    async def apply_filter_settings(self, settings: FilterSettings | None) -> None:
        """Rules hold at once."""
        slot = self._harness.slots_by_index[self._index]
        slot.matcher = FilterRuleMatcher(settings) if settings is not None else None
        self._harness._said(self._index, f"settings {settings!r}")

    def resume_flow(self, flow: FilterFlow, verdict: FilterVerdict) -> None:
        """End a pause."""
        talk = self._talk(flow, "resume_flow")
        try:
            steps = talk.machine.resume(self._index, verdict, self._harness.clock())
        except decision.FilterMisuse as error:
            raise ProviderError(f"resume_flow: {flow!r}: {error}") from None
        self._harness._said(self._index, f"resume with {verdict_words(verdict)}")
        self._harness.carry_out(talk, steps)

    def update_flow(self, flow: FilterFlow, verdict: FilterDataVerdict, direction: Direction) -> None:
        """Change a verdict from outside."""
        talk = self._talk(flow, "update_flow")
        try:
            steps = talk.machine.update(self._index, verdict, direction, self._harness.clock())
        except decision.FilterMisuse as error:
            raise ProviderError(f"{flow!r}: {error}") from None
        self._harness._said(self._index, f"update {direction.name.lower()} with {verdict_words(verdict)}")
        self._harness.carry_out(talk, steps)

    def _talk(self, flow: FilterFlow, what: str) -> FilteredTalk:
        talk = self._harness._talks.get(id(flow))
        if talk is None:
            raise ProviderError(f"{what}: {flow!r} has ended")
        return talk

    def notify_rules_changed(self) -> None:
        """Tell the data providers."""
        self._harness._rules_changed()

    def delay_current_packet(self, context: object) -> Any:
        """Packets are for the PacketHarness."""
        raise ProviderError("delay_current_packet: use a PacketHarness")

    def allow_packet(self, packet: object) -> None:
        """Packets are for the PacketHarness."""
        raise ProviderError("allow_packet: use a PacketHarness")

    def apply_settings(self, settings: object) -> None:
        """A filter has no tunnel settings."""

    def cancel(self, error: BaseException | None) -> None:
        """The provider ends itself."""
        self._harness._said(self._index, f"cancel {error!r}")

    def log(self, level: str, text: str) -> None:
        """A line for the log."""
        self._harness.log_lines.append(f"{level}: {text}")


class FilterHarness(Harness):
    """Runs filters in memory, in the runtime's order. A context manager: it starts them, and stops them at the end."""

    def __init__(
        self,
        *providers: FilterProvider,
        configuration: Mapping[str, Any] | None = None,
        policy: Policy | str | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        super().__init__(providers, configuration, clock)
        self.providers = providers
        self.reports: list[FilterReport] = []
        self._control = next((p for p in providers if isinstance(p, FilterControlProvider)), None)
        chosen = Policy(policy) if isinstance(policy, str) else policy
        self.slots_by_index = {
            index: decision.FilterSlot(index, type(provider).__name__, provider.grade, chosen)
            for index, provider in enumerate(providers)
            if isinstance(provider, FilterDataProvider)
        }
        self.slots = sorted(self.slots_by_index.values(), key=lambda slot: (slot.grade, slot.index))
        self._talks: dict[int, FilteredTalk] = {}

    def _stage_of(self, index: int) -> Any:
        return _Stage(self, index)

    def _start(self) -> Iterator[Awaitable[None]]:
        for provider in self.providers:
            yield provider.start_filter()
        for slot in self.slots:
            slot.state = ProviderState.RUNNING

    def _stop(self) -> Iterator[Awaitable[None]]:
        for provider in self.providers:
            yield provider.stop_filter(StopReason.USER_INITIATED)

    def connect(self, text: str | FilterFlow) -> FilteredTalk:
        """A new flow, described as in `curl → example.com:443/udp`; `←` makes it inbound."""
        flow = text if isinstance(text, FilterFlow) else parse_flow(text)
        talk = FilteredTalk(self, flow)
        self._talks[id(flow)] = talk
        self.carry_out(talk, talk.machine.start(self.clock()))
        self.loop.settle()
        return talk

    def advance(self, seconds: float) -> None:
        """Let time pass: for the providers' timers, and for the deadlines of their verdicts."""
        end = self.clock.now + seconds
        while (due := self._next_deadline()) is not None and due <= end:
            self.loop.advance(max(0.0, due - self.clock.now))
            for talk in list(self._talks.values()):
                self.carry_out(talk, talk.machine.tick(self.clock()))
        self.loop.advance(max(0.0, end - self.clock.now))

    def _next_deadline(self) -> float | None:
        deadlines = [talk.machine.next_deadline for talk in self._talks.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    # Steps of the machine

    def carry_out(self, talk: FilteredTalk, steps: list[decision.Step]) -> None:
        """Do what the machine says, and what comes of that."""
        waiting = deque(steps)
        while waiting:
            waiting.extendleft(reversed(self._step(talk, waiting.popleft())))

    def _step(self, talk: FilteredTalk, step: decision.Step) -> list[decision.Step]:
        """Do one thing; what the machine wants done before the others, as a filter has answered at once."""
        more: list[decision.Step] | None = self._STEPS[type(step)](self, talk, step)
        return more or []

    def _ask_new_flow(self, talk: FilteredTalk, step: decision.AskNewFlow) -> list[decision.Step]:
        self._came(step.slot, f"new flow {flow_words(talk.flow)}")
        return self._ask(talk, step.slot, "new_flow", None, lambda p: p.handle_new_flow(talk.flow))

    def _ask_data(self, talk: FilteredTalk, step: decision.AskData) -> list[decision.Step]:
        self._came(step.slot, f"{DIRECTION_NAMES[step.direction]} data at {step.offset}: {shown(step.data)}")
        return self._ask(talk, step.slot, "data", step.direction, lambda p: _data_call(p, talk.flow, step))

    def _ask_complete(self, talk: FilteredTalk, step: decision.AskComplete) -> list[decision.Step]:
        self._came(step.slot, f"{DIRECTION_NAMES[step.direction]} data complete")
        return self._ask(talk, step.slot, "complete", step.direction, lambda p: _complete_call(p, talk.flow, step))

    def _show_no_page(self, talk: FilteredTalk, step: decision.Remediate | decision.AppendString) -> None:
        """What a program would see needs the runtime; that it is to see it is what counts here."""
        talk.state = "dropped"
        self.transcript.became(type(step).__name__.lower())

    def _ask(
        self, talk: FilteredTalk, index: int, what: str, direction: Direction | None, call: Callable[[Any], Any]
    ) -> list[decision.Step]:
        try:
            answer = call(self.providers[index])
        except Exception as error:
            return self._raised(talk, index, error)
        if isinstance(answer, Awaitable):
            task = self.loop.create_task(awaited(answer), name=what)
            task.add_done_callback(
                lambda done: self.carry_out(talk, self._answered(talk, index, what, direction, done))
            )
            return []
        return self._answer(talk, index, what, direction, answer)

    def _answered(
        self, talk: FilteredTalk, index: int, what: str, direction: Direction | None, task: asyncio.Task[Any]
    ) -> list[decision.Step]:
        if task.cancelled():
            return []
        if isinstance(error := task.exception(), Exception):
            return self._raised(talk, index, error)
        return self._answer(talk, index, what, direction, task.result())

    def _answer(
        self, talk: FilteredTalk, index: int, what: str, direction: Direction | None, verdict: Any
    ) -> list[decision.Step]:
        wanted = FilterNewFlowVerdict if what == "new_flow" else FilterDataVerdict
        if not isinstance(verdict, wanted):
            error = TypeError(f"a {wanted.__name__} is needed, not {type(verdict).__name__}")
            return self._raised(talk, index, error)
        self._said(index, verdict_words(verdict))
        machine, now = talk.machine, self.clock()
        if what == "new_flow":
            return machine.answer_new_flow(index, verdict, now)
        assert direction is not None
        if what == "data":
            return machine.answer_data(index, direction, verdict, now)
        return machine.answer_complete(index, direction, verdict, now)

    def _raised(self, talk: FilteredTalk, index: int, error: Exception) -> list[decision.Step]:
        self._said(index, f"raised {type(error).__name__}: {error}")
        return talk.machine.trouble(index, Trouble.RAISED, f"{type(error).__name__}: {error}", self.clock())

    def _ask_control(self, talk: FilteredTalk, index: int) -> list[decision.Step]:
        if self._control is None:
            self.transcript.became("no control provider")
            return talk.machine.trouble(index, Trouble.DEAD, "no control provider", self.clock())
        self.transcript.came(f"control: new flow {flow_words(talk.flow)}")
        answer = self._control.handle_new_flow(talk.flow)
        verdict = self.run(answer) if isinstance(answer, Awaitable) else answer
        self.transcript.decided(f"control: {verdict_words(verdict)}")
        if verdict.update_rules:
            self._rules_changed()
        return talk.machine.control_answer(index, verdict, self.clock())

    def _rules_changed(self) -> None:
        for provider in self.providers:
            if isinstance(provider, FilterDataProvider) and (work := provider.handle_rules_changed()) is not None:
                self.run(work)

    def _report(self, talk: FilteredTalk, step: Any) -> None:
        counts = (0, 0)
        if step.event in (FilterReportEvent.FLOW_CLOSED, FilterReportEvent.STATISTICS):
            counts = len(talk.received), len(talk.sent)
        report = FilterReport(talk.flow, step.action, step.event, *counts)
        self.reports.append(report)
        if (work := self.providers[step.slot].handle_report(report)) is not None:
            self.run(work)

    def forget(self, talk: FilteredTalk) -> None:
        """The flow is over."""
        self._talks.pop(id(talk.flow), None)

    def _who(self, index: int) -> str:
        return f"{type(self.providers[index]).__name__}: " if len(self.slots) > 1 else ""

    def _came(self, index: int, text: str) -> None:
        self.transcript.came(self._who(index) + text)

    def _said(self, index: int, text: str) -> None:
        self.transcript.decided(self._who(index) + text)

    _STEPS: ClassVar[dict[type, Callable[..., list[decision.Step] | None]]] = {
        decision.AskNewFlow: _ask_new_flow,
        decision.AskData: _ask_data,
        decision.AskComplete: _ask_complete,
        decision.AskControl: lambda self, talk, step: self._ask_control(talk, step.slot),
        decision.Open: lambda self, talk, step: talk.opened(step.hold_inbound, step.hold_outbound),
        decision.Pass: lambda self, talk, step: talk.passes(step.direction, step.up_to),
        decision.Hold: lambda self, talk, step: talk.held_again(step.direction),
        decision.Drop: lambda self, talk, step: talk.dropped(step.silent),
        decision.Remediate: _show_no_page,
        decision.AppendString: _show_no_page,
        decision.Report: _report,
    }


def _data_call(provider: FilterDataProvider, flow: FilterFlow, step: Any) -> Any:
    call = provider.handle_outbound_data if step.direction is Direction.OUTBOUND else provider.handle_inbound_data
    return call(flow, step.offset, bytes(step.data))


def _complete_call(provider: FilterDataProvider, flow: FilterFlow, step: Any) -> Any:
    if step.direction is Direction.OUTBOUND:
        return provider.handle_outbound_data_complete(flow)
    return provider.handle_inbound_data_complete(flow)
