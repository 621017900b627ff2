"""The flows of a filter, in its own process: questions become calls of the provider, what it returns becomes answers.

Callbacks of one flow come one after the other: what comes while one runs, or while the flow is paused, waits in the
flow's own queue. Flows never wait for each other. A callback that is no coroutine costs no task.

A filter that raises, or returns what is no verdict, has failed for this flow only: the engine gives the flow what the
policy says.

Both ends of the channel forget a flow by the same rule (`runtime/filter_link`), so that a million allowed flows leave
nothing behind: `FilterFlow` objects live on only where the provider keeps them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable
from functools import partial
from typing import Any

from ..content_filter import FilterProvider
from ..endpoint import Endpoint
from ..errors import ProviderError
from ..filter_flow import FilterReport
from ..filter_verdicts import FilterAction, FilterDataVerdict, FilterReportEvent, FilterVerdict, VerdictKind
from ..metadata import ParentProcess, ProcessInfo
from ..rules import Direction
from . import filter_wire
from .filter_wire import (
    KINDS_OF,
    ForgottenFlow,
    ends_new_flow,
    pack_failure,
    pack_forgotten,
    pack_verdict,
    wants_reports,
)
from .hosted_flow import (
    ALLOWED,
    ANSWERED,
    CALLS,
    DECIDING,
    DROPPED,
    ENDED,
    FAILED,
    GOES_ON,
    SHOWN,
    FlowsOwner,
    HostedFlow,
    kind_text,
    type_text,
)
from .loader import one_line
from .wire import WireError

_UPDATES = {
    Direction.ANY: filter_wire.UPDATE_ANY,
    Direction.INBOUND: filter_wire.UPDATE_IN,
    Direction.OUTBOUND: filter_wire.UPDATE_OUT,
}


class HostedFlows:
    """All flows of one filter."""

    def __init__(self, owner: FlowsOwner, provider: FilterProvider) -> None:
        self._owner, self._provider = owner, provider
        self.flows: dict[int, HostedFlow] = {}
        self._processes: dict[int, ProcessInfo] = {}
        self._rules: asyncio.Task[Any] | None = None
        """handle_rules_changed, while it runs: flows that are asked about again wait for it."""
        self._ending: set[asyncio.Task[Any]] = set()

    # What the engine says

    def new(self, event: tuple[Any, ...]) -> None:
        """NEW, REMEDIATION, CONTROL, CONTROL_REMEDIATION: a flow may come again, when there are new rules."""
        number = event[1]
        flow = self.flows.get(number)
        if flow is None:
            flow = HostedFlow(event, self._processes.get(event[13]))
            self.flows[number] = flow
            self._call(flow, (event[0],))
        else:
            self._learn(flow, event[9], event[10], event[11], event[7], event[8])
            if event[0] == filter_wire.NEW:
                flow.state, flow.answered = DECIDING, False
            self._ask(flow, (event[0],), wait=self._rules is not None)

    def data(self, event: tuple[Any, ...]) -> None:
        """DATA_OUT, DATA_IN."""
        if (flow := self.flows.get(event[1])) is not None:
            self._ask(flow, (event[0], event[2], event[3]))

    def question(self, event: tuple[Any, ...]) -> None:
        """COMPLETE_OUT, COMPLETE_IN: nothing but the flow comes along."""
        if (flow := self.flows.get(event[1])) is not None:
            self._ask(flow, (event[0],))

    def about(self, event: tuple[Any, ...]) -> None:
        """What was learned about a flow."""
        if (flow := self.flows.get(event[1])) is not None:
            self._learn(flow, *event[2:])

    def report(self, event: tuple[Any, ...]) -> None:
        """What became of a flow."""
        if (flow := self.flows.get(event[1])) is not None:
            action, kind = FilterAction(event[2]), FilterReportEvent(event[3])
            self._ask(flow, (filter_wire.REPORT, FilterReport(flow, action, kind, event[4], event[5])))

    def gone(self, event: tuple[Any, ...]) -> None:
        """The flow has ended, or is not this filter's any more."""
        flow = self.flows.pop(event[1], None)
        if flow is not None:
            self._end(flow, ALLOWED if event[2] else ENDED)

    def process(self, event: tuple[Any, ...]) -> None:
        """A process that later flows refer to by its number."""
        _, key, pid, start_time, uid, executable, arguments, parents = event
        self._processes[key] = ProcessInfo(
            pid, start_time, uid, executable, arguments, tuple(ParentProcess(*parent) for parent in parents)
        )

    def rules_changed(self, event: tuple[Any, ...]) -> None:
        """The control provider has new rules."""
        self._rules = self._handle("handle_rules_changed", self._rules)
        if self._rules is not None:
            self._rules.add_done_callback(self._rules_done)

    def end_all(self) -> None:
        """The engine has gone, and the flows with it."""
        flows, self.flows = list(self.flows.values()), {}
        self._processes.clear()
        for flow in flows:
            self._end(flow, ENDED)

    # What the provider asks for

    def resume(self, flow: object, verdict: FilterVerdict) -> None:
        """End a pause. Raises ProviderError."""
        known = self._known("resume_flow", flow)
        if not known.paused:
            raise ProviderError(f"resume_flow: {known!r} is not paused: it {known.state}")
        call = CALLS[known.paused]
        if not isinstance(verdict, call.verdict):
            raise ProviderError(
                f"resume_flow: {known!r} was paused by {call.method}: a {call.verdict.__name__} is needed,"
                f" not {type_text(verdict)}"
            )
        if verdict.kind is VerdictKind.PAUSE:
            raise ProviderError(f"resume_flow: {known!r} is paused already; resume it with another verdict")
        record = _record("resume_flow", filter_wire.RESUME, known, verdict, KINDS_OF[known.paused])
        self._settle(known, verdict)
        known.paused = 0
        self._owner.answer(record)
        self._go_on(known)

    def update(self, flow: object, verdict: FilterVerdict, direction: Direction) -> None:
        """Change a verdict. Raises ProviderError."""
        known = self._known("update_flow", flow, forgotten=True)
        if not isinstance(verdict, FilterDataVerdict):
            raise ProviderError(f"update_flow: {known!r}: a FilterDataVerdict is needed, not {type_text(verdict)}")
        op = _UPDATES.get(direction)
        if op is None:
            raise ProviderError(f"update_flow: {known!r}: {direction!r} is no direction")
        if known.state in GOES_ON and self.flows.get(known.number) is not known:
            self._update_forgotten(known, verdict, direction)
            return
        if known.paused:
            raise ProviderError(f"update_flow: {known!r} is paused; end that with resume_flow")
        if not known.answered:
            raise ProviderError(f"update_flow: {known!r} {known.state}: handle_new_flow has not answered yet")
        self._owner.answer(_record("update_flow", op, known, verdict, KINDS_OF[op]))

    def _update_forgotten(self, flow: HostedFlow, verdict: FilterDataVerdict, direction: Direction) -> None:
        """The flow was allowed, and nobody keeps it: its addresses tell which one is meant, if it lives still."""
        local, remote = flow.local_endpoint, flow.remote_endpoint
        if local is None or remote is None:
            raise ProviderError(f"update_flow: {flow!r} {flow.state}, and its addresses are not known")
        named = ForgottenFlow(flow.socket_protocol, int(flow.direction), *local, *remote, int(direction))
        _check("update_flow", flow, verdict, KINDS_OF[filter_wire.UPDATE_FORGOTTEN])
        self._owner.answer(pack_forgotten(flow.number, verdict, named))

    def _known(self, what: str, flow: object, forgotten: bool = False) -> HostedFlow:
        if not isinstance(flow, HostedFlow):
            raise ProviderError(f"{what}: a flow of this filter is needed, not {type_text(flow)}")
        if self.flows.get(flow.number) is not flow and not (forgotten and flow.state in GOES_ON):
            raise ProviderError(f"{what}: {flow!r} {flow.state}")
        return flow

    # Calls

    def _ask(self, flow: HostedFlow, question: tuple[Any, ...], wait: bool = False) -> None:
        """Call the provider now, or when its turn comes."""
        if wait or flow.waiting or flow.paused or flow.task is not None:
            if flow.waiting is None:
                flow.waiting = deque()
            flow.waiting.append(question)
        else:
            self._call(flow, question)

    def _go_on(self, flow: HostedFlow) -> None:
        """The next of what waits."""
        while flow.waiting and not flow.paused and flow.task is None:
            question = flow.waiting.popleft()
            if question[0] == filter_wire.REPORT or self.flows.get(flow.number) is flow:
                self._call(flow, question)

    def _call(self, flow: HostedFlow, question: tuple[Any, ...]) -> None:
        op = question[0]
        if op == filter_wire.REPORT:
            flow.task = self._handle("handle_report", None, question[1])
            if flow.task is not None:
                flow.task.add_done_callback(partial(self._reported, flow))
            return
        method, expected = CALLS[op]
        try:
            answer = getattr(self._provider, method)(flow, *question[1:])
        except Exception as error:
            self._fail(flow, op, f"{method} raised {one_line(error)}", error)
            return
        if isinstance(answer, expected):
            self._answer(flow, op, answer)
        elif inspect.isawaitable(answer):
            work = answer if inspect.iscoroutine(answer) else _wait_for(answer)
            flow.task = self._owner.loop.create_task(work, name=f"{method} of {flow!r}")
            flow.task.add_done_callback(partial(self._returned, flow, op))
        else:
            self._nonsense(flow, op, f"returned {type_text(answer)}")

    def _returned(self, flow: HostedFlow, op: int, task: asyncio.Task[Any]) -> None:
        """A callback that is a coroutine has ended."""
        self._ending.discard(task)
        flow.task = None
        method, expected = CALLS[op]
        if task.cancelled():
            error: BaseException | None = asyncio.CancelledError("it was cancelled")
        else:
            error = task.exception()
        if self.flows.get(flow.number) is not flow:
            if error is not None and not task.cancelled():
                self._owner.log("error", f"{method} of {flow!r} raised {one_line(error)}", error)
        elif error is not None:
            self._fail(flow, op, f"{method} raised {one_line(error)}", error)
        elif isinstance(answer := task.result(), expected):
            self._answer(flow, op, answer)
        else:
            self._nonsense(flow, op, f"returned {type_text(answer)}")
        self._go_on(flow)

    def _answer(self, flow: HostedFlow, op: int, verdict: FilterVerdict) -> None:
        kind = verdict.kind
        if kind is not VerdictKind.ALLOW and kind not in KINDS_OF[op]:
            self._nonsense(flow, op, f"returned the verdict {kind_text(verdict)}")
            return
        try:
            record = pack_verdict(op, flow.number, verdict)
        except WireError as error:
            self._nonsense(flow, op, f"returned {error}")
            return
        if op == filter_wire.NEW and ends_new_flow(verdict):
            del self.flows[flow.number]
            flow.state = ALLOWED if kind is VerdictKind.ALLOW else DROPPED
        elif op >= filter_wire.CONTROL:
            flow.state = ANSWERED
            if not wants_reports(verdict):
                del self.flows[flow.number]
        elif kind is VerdictKind.PAUSE:
            flow.paused, flow.state = op, "is paused"
        else:
            self._settle(flow, verdict)
        self._owner.answer(record)

    def _settle(self, flow: HostedFlow, verdict: FilterVerdict) -> None:
        if verdict.kind is not VerdictKind.NEED_RULES:
            flow.answered, flow.state = True, SHOWN

    def _nonsense(self, flow: HostedFlow, op: int, what: str) -> None:
        method, expected = CALLS[op]
        kinds = ", ".join(sorted(kind.value for kind in KINDS_OF[op]))
        self._fail(flow, op, f"{method} {what}; a {expected.__name__} is needed ({kinds})", None)

    def _fail(self, flow: HostedFlow, op: int, text: str, error: BaseException | None) -> None:
        """The filter has nothing to say about the flow any more."""
        self._owner.log("error", f"{flow!r}: {text}", error)
        if self.flows.pop(flow.number, None) is not None:
            self._owner.answer(pack_failure(op, flow.number, text))
        self._end(flow, FAILED)

    def _end(self, flow: HostedFlow, state: str) -> None:
        """Nobody waits for what its callbacks still return; reports are delivered all the same."""
        flow.state, flow.paused = state, 0
        if flow.task is None:
            self._go_on(flow)
        elif not flow.task.get_name().startswith("handle_report"):
            self._ending.add(flow.task)  # the event loop itself keeps none
            flow.task.cancel()

    def _learn(
        self, flow: HostedFlow, host: str | None, source: str | None, url: str | None, remote: str, port: int
    ) -> None:
        flow.remote_hostname, flow.url, flow.metadata.name_source = host, url, source
        if remote:
            flow.remote_endpoint = Endpoint(remote, port)

    # Callbacks without an answer

    def _handle(self, method: str, before: asyncio.Task[Any] | None, *arguments: object) -> asyncio.Task[Any] | None:
        """Call one; its task, if it is a coroutine. Errors are logged."""
        try:
            result = getattr(self._provider, method)(*arguments)
        except Exception as error:
            self._owner.log("error", f"{method} raised {one_line(error)}", error)
            return before
        if not inspect.isawaitable(result):
            return before
        task: asyncio.Task[Any] = self._owner.loop.create_task(_both(before, result), name=method)
        self._ending.add(task)
        task.add_done_callback(partial(self._handled, method))
        return task

    def _handled(self, method: str, task: asyncio.Task[Any]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._owner.log("error", f"{method} raised {one_line(error)}", error)

    def _reported(self, flow: HostedFlow, task: asyncio.Task[Any]) -> None:
        flow.task = None
        self._go_on(flow)

    def _rules_done(self, task: asyncio.Task[Any]) -> None:
        if self._rules is task:
            self._rules = None
            for flow in list(self.flows.values()):
                self._go_on(flow)


async def _wait_for(answer: Awaitable[Any]) -> Any:
    return await answer


async def _both(before: asyncio.Task[Any] | None, work: Awaitable[Any]) -> None:
    if before is not None:
        await asyncio.wait([before])
    await work


def _record(what: str, op: int, flow: HostedFlow, verdict: FilterVerdict, kinds: frozenset[VerdictKind]) -> bytes:
    _check(what, flow, verdict, kinds)
    try:
        return pack_verdict(op, flow.number, verdict)
    except WireError as error:
        raise ProviderError(f"{what}: {flow!r}: {error}") from None


def _check(what: str, flow: HostedFlow, verdict: FilterVerdict, kinds: frozenset[VerdictKind]) -> None:
    if verdict.kind not in kinds:
        raise ProviderError(f"{what}: {flow!r} cannot be given the verdict {kind_text(verdict)} here")
