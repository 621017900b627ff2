"""The engine's record of a flow, and the pipeline that takes each new one to its end.

kernel → `linux/nfqueue` → `runtime/tcp_interceptor` or `runtime/udp_interceptor` → `Pipeline` → the content filters
(`runtime/filter_stage`), if there are any → `core/flow_decision` → a provider (`runtime/provider_link`) or the
pass-through → back to the interceptor, which opens or refuses.

While filters decide, a flow is HELD. What they say comes back by its view (`runtime/filtered_view`), at any time until
the flow's end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from ..core.flow_decision import Action, Decision, FlowState, ProviderSlot, Step, Trouble
from ..core.packets import address_text
from ..metadata import ProcessInfo
from ..rules import Direction, Protocol

if TYPE_CHECKING:
    from ..linux.reactor import Reactor, Timer
    from .filtered_view import FilteredView
    from .provider_link import ProviderLink

TCP, UDP = 6, 17
RULE_PROTOCOL = {TCP: Protocol.TCP, UDP: Protocol.UDP}
FlowKey = tuple[int, bytes, int, bytes, int]


class InterceptedFlow:
    """One flow: what is known of it, where it is on its way, and what became of it."""

    __slots__ = (
        "admitted_by",
        "by",
        "bytes_in",
        "bytes_out",
        "decided_at",
        "decision",
        "error",
        "first_packet",
        "host",
        "id",
        "interceptor",
        "key",
        "link",
        "name_source",
        "outcome",
        "process",
        "reason",
        "started_at",
        "state",
        "timer",
        "view",
        "wants_answer",
    )

    def __init__(self, number: int, key: FlowKey, first_packet: bytes, interceptor: Interceptor, now: float) -> None:
        self.id, self.key, self.first_packet, self.interceptor = number, key, first_packet, interceptor
        self.started_at, self.decided_at = now, 0.0
        self.state = FlowState.HELD
        self.decision: Decision | None = None
        self.link: ProviderLink | None = None
        self.view: FilteredView | None = None
        """What filters see of it (UDP: of its first far end); None without filters."""
        self.admitted_by = ""
        """Which filter's word let the flow begin, and why; "" without filters."""
        self.host: str | None = None
        self.name_source: str | None = None
        self.process: ProcessInfo | None = None
        self.timer: Timer | None = None
        self.outcome, self.by, self.reason = "", "", ""
        self.error = self.bytes_in = self.bytes_out = 0
        self.wants_answer = False

    @property
    def protocol(self) -> str:
        """`tcp` or `udp`."""
        return "tcp" if self.key[0] == TCP else "udp"

    @property
    def local(self) -> tuple[str, int]:
        """The program's address."""
        return address_text(self.key[1]), self.key[2]

    @property
    def remote(self) -> tuple[str, int]:
        """Where the program wanted to go (UDP: first)."""
        return address_text(self.key[3]), self.key[4]

    @property
    def is_loopback(self) -> bool:
        """Whether the destination is a loopback address."""
        address = self.key[3]
        return address[0] == 127 if len(address) == 4 else address == b"\0" * 15 + b"\1"

    def cancel_timer(self) -> None:
        """Forget the deadline."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Interceptor(Interface):
    """What the pipeline and the provider links ask of the TCP and UDP sides of the datapath."""

    def pass_through(self, flow: Any) -> None:
        """Connect from the host as if nothing had been there."""

    def open(self, flow: Any) -> None:
        """Let the program's first packet go: its connect() completes."""

    def attach(self, flow: Any) -> None:
        """Give the provider the program's side as a socket."""

    def relay(self, flow: Any, descriptor: int) -> None:
        """Join the program's side and a remote socket."""

    def close(self, flow: Any, error: int, direction: str) -> None:
        """The provider is done with the flow; before it is open this refuses it."""

    def request_peer(self, flow: Any, address: tuple[str, int]) -> None:
        """Make a socket through which the provider can write from another address (UDP)."""

    def refuse(self, flow: Any, error: int) -> None:
        """Tell the program that there is no connection, with the errno of `error`, and end the flow."""

    def orphan(self, flow: Any) -> None:
        """The provider that had the opened flow is gone."""

    def admitted(self, view: FilteredView, hold_inbound: bool, hold_outbound: bool) -> None:
        """Filters let it begin, and want to see the bytes of the directions that are held: `Pipeline.offer` it."""

    def let(self, view: FilteredView, direction: Direction, up_to: int) -> None:
        """Filters have passed bytes."""

    def hold(self, view: FilteredView, direction: Direction) -> None:
        """Filters want to see bytes that went freely."""

    def drop(self, view: FilteredView, silent: bool, page: bytes | None) -> None:
        """A filter ends the flow, in whatever state."""

    def counts(self, view: FilteredView) -> tuple[int, int]:
        """Bytes to and from the program."""


class Filters(Interface):
    """What the pipeline asks of the filters of a run (`runtime/sandbox_filters`)."""

    def admit(self, flow: InterceptedFlow) -> None:
        """Show a new flow; `Pipeline.offer` or `Interceptor.drop` follows, at once where nobody need be asked."""

    def closed(self, flow: InterceptedFlow) -> None:
        """The flow is over."""


class Pipeline:
    """Takes flows through the providers in their order. `deadline` is in seconds."""

    def __init__(self, reactor: Reactor, slots: Sequence[ProviderSlot], deadline: float) -> None:
        self.reactor, self.slots, self.deadline = reactor, slots, deadline
        self.links: dict[int, ProviderLink] = {}
        self.filters: Filters | None = None
        """None without filters in the run."""
        self.describe: Callable[[InterceptedFlow], None] = lambda flow: None
        self.finished: Callable[[InterceptedFlow], None] = lambda flow: None
        self.decided: Callable[[InterceptedFlow], None] = lambda flow: None
        self.next_number: Callable[[], int] = lambda: 0

    def admit(self, flow: InterceptedFlow) -> None:
        """A new flow: find out who made it, and ask."""
        self.describe(flow)
        if self.filters is None:
            self.offer(flow)
        else:
            self.filters.admit(flow)

    def offer(self, flow: InterceptedFlow) -> None:
        """The filters have nothing against it: on to the proxies."""
        protocol, _, _, address, port = flow.key
        flow.decision = Decision(self.slots, RULE_PROTOCOL[protocol], address, port, flow.host, flow.is_loopback)
        self._do(flow, flow.decision.advance())

    def _do(self, flow: InterceptedFlow, step: Step) -> None:
        flow.by, flow.reason = step.by, step.reason
        if step.action is Action.OFFER:
            assert step.slot is not None
            flow.state = FlowState.OFFERED
            flow.timer = self.reactor.call_later(self.deadline, lambda: self.troubled(flow, Trouble.SLOW))
            self.links[step.slot.index].offer(flow, self.deadline)
        elif step.action is Action.PASS_THROUGH:
            flow.state, flow.outcome = FlowState.CLAIMED, "passed"
            self._note_decision(flow)
            flow.interceptor.pass_through(flow)
        else:
            flow.outcome = "refused"
            self._note_decision(flow)
            flow.interceptor.refuse(flow, step.error)

    def _note_decision(self, flow: InterceptedFlow) -> None:
        flow.cancel_timer()
        flow.decided_at = self.reactor.clock()
        self.decided(flow)

    def claimed(self, flow: InterceptedFlow) -> None:
        """The provider asked last keeps the flow."""
        if flow.state is FlowState.OFFERED:
            flow.state, flow.outcome, flow.reason = FlowState.CLAIMED, "claimed", ""
            self._note_decision(flow)

    def declined(self, flow: InterceptedFlow) -> None:
        """The provider asked last returned False."""
        self._leave(flow, lambda decision: decision.declined())

    def troubled(self, flow: InterceptedFlow, trouble: Trouble, detail: str = "") -> None:
        """The provider that has the unopened flow gives no answer: its policy decides."""
        self._leave(flow, lambda decision: decision.troubled(trouble, detail))

    def _leave(self, flow: InterceptedFlow, event: Callable[[Decision], Step]) -> None:
        if flow.state not in (FlowState.OFFERED, FlowState.CLAIMED) or flow.decision is None or flow.link is None:
            return
        flow.cancel_timer()
        flow.link.withdraw(flow)
        flow.state = FlowState.HELD
        self._do(flow, event(flow.decision))

    def take_back(self, flow: InterceptedFlow) -> None:
        """A filter drops a flow that a provider has and has not opened: the provider is told that it is gone."""
        flow.cancel_timer()
        if flow.link is not None and flow.state in (FlowState.OFFERED, FlowState.CLAIMED):
            flow.link.withdraw(flow)
        self._note_decision(flow)

    def finish(self, flow: InterceptedFlow, error: int = 0) -> None:
        """The flow is over, in whatever way; once."""
        if flow.state is FlowState.CLOSED:
            return
        flow.state, flow.error = FlowState.CLOSED, error or flow.error
        flow.cancel_timer()
        if flow.view is not None and self.filters is not None:
            self.filters.closed(flow)
        if flow.link is not None:
            flow.link.closed(flow)
        self.finished(flow)
