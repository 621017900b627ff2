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
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

from ..content_filter import FilterControlProvider, FilterDataProvider, FilterProvider
from ..core import filter_decision as decision
from ..core.filter_rule_matching import FilterRuleMatcher
from ..core.flow_decision import Policy, ProviderState, Trouble
from ..core.flow_description import facts_of, parse_flow
from ..core.name_sniffing import NameSniffer
from ..errors import ProviderError
from ..filter_flow import FilterFlow, FilterReport
from ..filter_settings import FilterSettings
from ..filter_verdicts import (
    FLOW_BYTES_MAX,
    FilterDataVerdict,
    FilterNewFlowVerdict,
    FilterReportEvent,
    FilterVerdict,
    VerdictKind,
)
from ..provider import StopReason
from ..rules import Direction
from .clock import FakeClock, FakeTimeLoop
from .transcript import Transcript, shown

_NAMES = {Direction.OUTBOUND: "outbound", Direction.INBOUND: "inbound"}


class FilteredTalk:
    """One flow under filters, with the test as both of its ends."""

    def __init__(self, harness: FilterHarness, flow: FilterFlow) -> None:
        self._harness, self.flow = harness, flow
        self.state = "held"
        """ "held" (asked or paused), "open" (some direction is held), "allowed", "dropped", "silently dropped"."""
        self.is_silent = False
        self._streams = {direction: bytearray() for direction in _NAMES}
        self._passed = dict.fromkeys(_NAMES, 0)
        self._free = dict.fromkeys(_NAMES, False)
        self._unseen = dict.fromkeys(_NAMES, 0)
        """Bytes that passed before the machine began to count."""
        self._sniffer: NameSniffer | None = NameSniffer(
            flow.socket_protocol, flow.remote_endpoint.port if flow.remote_endpoint else 0
        )
        self.machine = decision.FlowFilter(
            harness.slots,
            facts_of(flow),
            is_datagram=flow.socket_protocol == socket.IPPROTO_UDP,
            protocol=flow.socket_protocol,
        )

    @property
    def sent(self) -> bytes:
        """What the program sent and the filters let out."""
        return self._let_through(Direction.OUTBOUND)

    @property
    def received(self) -> bytes:
        """What the far side sent and the filters let in."""
        return self._let_through(Direction.INBOUND)

    @property
    def why(self) -> str:
        """Who decided, and the reason."""
        return f"{self.machine.by}: {self.machine.reason}"

    def send(self, data: bytes) -> None:
        """The program sends."""
        self._data(Direction.OUTBOUND, data)

    def receive(self, data: bytes) -> None:
        """The far side sends."""
        self._data(Direction.INBOUND, data)

    def end_outbound(self) -> None:
        """The program sends no more."""
        self._harness._steps(self, self.machine.ended(Direction.OUTBOUND, self._harness.clock()))

    def end_inbound(self) -> None:
        """The far side sends no more."""
        self._harness._steps(self, self.machine.ended(Direction.INBOUND, self._harness.clock()))

    def close(self) -> None:
        """The connection is over: reports of it come now."""
        self._harness._steps(self, self.machine.closed(self._harness.clock()))
        self._harness._forget(self)

    def _data(self, direction: Direction, data: bytes) -> None:
        assert self.state in ("open", "allowed"), f"{self.flow!r} is {self.state}: no bytes move"
        self._streams[direction] += data
        if direction is Direction.OUTBOUND:
            self._sniff(data)
        if self._free[direction]:
            self._passed[direction] = len(self._streams[direction])
        # The machine counts what passes freely, too: its offsets are those of the stream if it is held again.
        self._harness._steps(self, self.machine.received(direction, data, self._harness.clock()))
        self._harness.loop.settle()

    def _sniff(self, data: bytes) -> None:
        if self._sniffer is not None:
            if (found := self._sniffer.feed(data)) is not None:
                self.flow.remote_hostname = found.host or self.flow.remote_hostname
                self.flow.url = found.url or self.flow.url
                self.flow.metadata.name_source = found.source if found.host else self.flow.metadata.name_source
            if self._sniffer.done:
                self._sniffer = None

    def _let_through(self, direction: Direction) -> bytes:
        return bytes(self._streams[direction][: self._passed[direction]])

    def _opened(self, hold_inbound: bool, hold_outbound: bool) -> None:
        self._free = {Direction.INBOUND: not hold_inbound, Direction.OUTBOUND: not hold_outbound}
        self.state = "open" if hold_inbound or hold_outbound else "allowed"
        self._harness.transcript.became("open" if self.state == "open" else "allowed")

    def _pass(self, direction: Direction, up_to: int) -> None:
        before, there = self._passed[direction], len(self._streams[direction])
        self._passed[direction] = min(up_to + self._unseen[direction], there)
        if self._passed[direction] > before:
            data = bytes(self._streams[direction][before : self._passed[direction]])
            self._harness.transcript.became(f"{_NAMES[direction]} passes {shown(data)}")
        if up_to >= FLOW_BYTES_MAX and not self._free[direction]:
            self._free[direction] = True
            if all(self._free.values()):
                self.state = "allowed"
                self._harness.transcript.became("allowed")

    def _held_again(self, direction: Direction) -> None:
        self._free[direction], self.state = False, "open"
        self._unseen[direction] = len(self._streams[direction]) - self.machine.given(direction)

    def _dropped(self, silent: bool) -> None:
        was_open = self.state in ("open", "allowed")
        self.state, self.is_silent = "dropped", silent
        self._harness.transcript.became("silently dropped" if silent else "reset" if was_open else "refused")


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
        self._harness._said(self._index, f"resume with {described(verdict)}")
        self._harness._steps(talk, steps)

    def update_flow(self, flow: FilterFlow, verdict: FilterDataVerdict, direction: Direction) -> None:
        """Change a verdict from outside."""
        talk = self._talk(flow, "update_flow")
        self._harness._said(self._index, f"update {direction.name.lower()} with {described(verdict)}")
        self._harness._steps(talk, talk.machine.update(self._index, verdict, direction, self._harness.clock()))

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


class FilterHarness:
    """Runs filters in memory, in the runtime's order. A context manager: it starts them, and stops them at the end."""

    def __init__(
        self,
        *providers: FilterProvider,
        configuration: Mapping[str, Any] | None = None,
        policy: Policy | str | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.providers, self.loop = providers, FakeTimeLoop(clock)
        self.clock = self.loop.clock
        self.transcript = Transcript()
        self.reports: list[FilterReport] = []
        self.log_lines: list[str] = []
        self._control = next((p for p in providers if isinstance(p, FilterControlProvider)), None)
        chosen = Policy(policy) if isinstance(policy, str) else policy
        self.slots_by_index = {
            index: decision.FilterSlot(index, type(provider).__name__, provider.grade, chosen)
            for index, provider in enumerate(providers)
            if isinstance(provider, FilterDataProvider)
        }
        self.slots = sorted(self.slots_by_index.values(), key=lambda slot: (slot.grade, slot.index))
        self._talks: dict[int, FilteredTalk] = {}
        self._failures: list[BaseException] = []
        for index, provider in enumerate(providers):
            provider._stage = _Stage(self, index)
            provider._configuration = MappingProxyType(dict(configuration or {}))

    def __enter__(self) -> Self:
        try:
            for provider in self.providers:
                self.run(provider.start_filter())
        except BaseException:
            self.loop.close()
            raise
        for slot in self.slots:
            slot.state = ProviderState.RUNNING
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for provider in self.providers:
                self.run(provider.stop_filter(StopReason.USER_INITIATED))
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.settle()
        finally:
            self.loop.close()
        if error is None and self._failures:
            raise self._failures[0]

    def run(self, work: Awaitable[Any]) -> Any:
        """Run a coroutine of the provider to its end; time passes if it sleeps."""
        task = self.loop.create_task(_await(work))
        self.loop.settle()
        while not task.done() and (due := self.loop.next_timer()) is not None:
            self.advance(max(0.0, due - self.clock.now))
        assert task.done(), "the provider waits for something that never comes"
        return task.result()

    def connect(self, text: str | FilterFlow) -> FilteredTalk:
        """A new flow, described as in `curl → example.com:443/udp`; `←` makes it inbound."""
        flow = text if isinstance(text, FilterFlow) else parse_flow(text)
        talk = FilteredTalk(self, flow)
        self._talks[id(flow)] = talk
        self._steps(talk, talk.machine.start(self.clock()))
        self.loop.settle()
        return talk

    def advance(self, seconds: float) -> None:
        """Let time pass: for the providers' timers, and for the deadlines of their verdicts."""
        end = self.clock.now + seconds
        while (due := self._next_deadline()) is not None and due <= end:
            self.loop.advance(max(0.0, due - self.clock.now))
            for talk in list(self._talks.values()):
                self._steps(talk, talk.machine.tick(self.clock()))
        self.loop.advance(max(0.0, end - self.clock.now))

    def _next_deadline(self) -> float | None:
        deadlines = [talk.machine.next_deadline for talk in self._talks.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    # Steps of the machine

    def _steps(self, talk: FilteredTalk, steps: list[Any]) -> None:
        waiting = deque(steps)
        while waiting:
            waiting.extendleft(reversed(self._step(talk, waiting.popleft())))

    def _step(self, talk: FilteredTalk, step: Any) -> list[Any]:
        name = _NAMES.get(getattr(step, "direction", Direction.ANY), "")
        if isinstance(step, decision.AskNewFlow):
            self._came(step.index, f"new flow {_short(talk.flow)}")
            return self._ask(talk, step.index, "new_flow", None, lambda p: p.handle_new_flow(talk.flow))
        if isinstance(step, decision.AskData):
            self._came(step.index, f"{name} data at {step.offset}: {shown(step.data)}")
            return self._ask(talk, step.index, "data", step.direction, lambda p: _data_call(p, talk.flow, step))
        if isinstance(step, decision.AskComplete):
            self._came(step.index, f"{name} data complete")
            return self._ask(talk, step.index, "complete", step.direction, lambda p: _complete_call(p, talk.flow, step))
        if isinstance(step, decision.AskControl):
            return self._ask_control(talk, step.index)
        if isinstance(step, decision.Open):
            talk._opened(step.hold_inbound, step.hold_outbound)
        elif isinstance(step, decision.Pass):
            talk._pass(step.direction, step.up_to)
        elif isinstance(step, decision.Hold):
            talk._held_again(step.direction)
        elif isinstance(step, decision.Drop):
            talk._dropped(step.silent)
        elif isinstance(step, decision.Report):
            self._report(talk, step)
        else:  # Remediate, AppendString: what a program would see needs the runtime; the decision is what counts
            talk.state = "dropped"
            self.transcript.became(type(step).__name__.lower())
        return []

    def _ask(
        self, talk: FilteredTalk, index: int, what: str, direction: Direction | None, call: Callable[[Any], Any]
    ) -> list[Any]:
        try:
            answer = call(self.providers[index])
        except Exception as error:
            return self._raised(talk, index, error)
        if isinstance(answer, Awaitable):
            task = self.loop.create_task(_await(answer), name=what)
            task.add_done_callback(lambda done: self._steps(talk, self._answered(talk, index, what, direction, done)))
            return []
        return self._answer(talk, index, what, direction, answer)

    def _answered(
        self, talk: FilteredTalk, index: int, what: str, direction: Direction | None, task: asyncio.Task[Any]
    ) -> list[Any]:
        if task.cancelled():
            return []
        if isinstance(error := task.exception(), Exception):
            return self._raised(talk, index, error)
        return self._answer(talk, index, what, direction, task.result())

    def _answer(
        self, talk: FilteredTalk, index: int, what: str, direction: Direction | None, verdict: Any
    ) -> list[Any]:
        wanted = FilterNewFlowVerdict if what == "new_flow" else FilterDataVerdict
        if not isinstance(verdict, wanted):
            error = TypeError(f"a {wanted.__name__} is needed, not {type(verdict).__name__}")
            return self._raised(talk, index, error)
        self._said(index, described(verdict))
        machine, now = talk.machine, self.clock()
        if what == "new_flow":
            return machine.answer_new_flow(index, verdict, now)
        assert direction is not None
        if what == "data":
            return machine.answer_data(index, direction, verdict, now)
        return machine.answer_complete(index, direction, verdict, now)

    def _raised(self, talk: FilteredTalk, index: int, error: Exception) -> list[Any]:
        self._said(index, f"raised {type(error).__name__}: {error}")
        return talk.machine.trouble(index, Trouble.RAISED, f"{type(error).__name__}: {error}", self.clock())

    def _ask_control(self, talk: FilteredTalk, index: int) -> list[Any]:
        if self._control is None:
            self.transcript.became("no control provider")
            return talk.machine.trouble(index, Trouble.DEAD, "no control provider", self.clock())
        self.transcript.came(f"control: new flow {_short(talk.flow)}")
        answer = self._control.handle_new_flow(talk.flow)
        verdict = self.run(answer) if isinstance(answer, Awaitable) else answer
        self.transcript.decided(f"control: {described(verdict)}")
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
        if (work := self.providers[step.index].handle_report(report)) is not None:
            self.run(work)

    def _forget(self, talk: FilteredTalk) -> None:
        self._talks.pop(id(talk.flow), None)

    def _who(self, index: int) -> str:
        return f"{type(self.providers[index]).__name__}: " if len(self.slots) > 1 else ""

    def _came(self, index: int, text: str) -> None:
        self.transcript.came(self._who(index) + text)

    def _said(self, index: int, text: str) -> None:
        self.transcript.decided(self._who(index) + text)


def described(verdict: FilterVerdict) -> str:
    """A verdict in the words of a transcript."""
    if verdict.kind is VerdictKind.DATA:
        return f"pass {_count(verdict.pass_bytes)}, peek {_count(verdict.peek_bytes)}"
    if verdict.kind is VerdictKind.FILTER_DATA:
        outbound = f"outbound {_count(verdict.peek_outbound)}" if verdict.filter_outbound else ""
        inbound = f"inbound {_count(verdict.peek_inbound)}" if verdict.filter_inbound else ""
        return f"filter data: {', '.join(filter(None, (outbound, inbound))) or 'nothing'}"
    if verdict.kind is VerdictKind.DROP and verdict.silent:
        return "drop silently"
    rules = " and update rules" if verdict.update_rules and verdict.kind is not VerdictKind.UPDATE_RULES else ""
    words: str = verdict.kind.value.replace("-", " ")
    return words + rules


def _count(number: int) -> str:
    return "all" if number >= FLOW_BYTES_MAX else str(number)


def _short(flow: FilterFlow) -> str:
    return repr(flow).removeprefix("<FilterFlow ").removesuffix(">")


def _data_call(provider: FilterDataProvider, flow: FilterFlow, step: Any) -> Any:
    call = provider.handle_outbound_data if step.direction is Direction.OUTBOUND else provider.handle_inbound_data
    return call(flow, step.offset, bytes(step.data))


def _complete_call(provider: FilterDataProvider, flow: FilterFlow, step: Any) -> Any:
    if step.direction is Direction.OUTBOUND:
        return provider.handle_outbound_data_complete(flow)
    return provider.handle_inbound_data_complete(flow)


async def _await(work: Awaitable[Any]) -> Any:
    return await work
