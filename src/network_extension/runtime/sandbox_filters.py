"""Content filters in a sandbox: the part of the engine that exists only in a run with filters.

    flow ──▶ Pipeline.admit ──▶ FilterStage ══▶ filters        (this file wires it)
                 ▲                   │
                 └── filter_open ────┘──▶ Pipeline.offer ──▶ proxies, pass-through

The filters come before all proxies, whatever their positions on the command line, and in the order of their grades.
They see what programs send, before a proxy has changed it or sent it elsewhere. Echo requests are flows of their own
(`runtime/echo_filter`); packets are shown to packet filters through a queue of their own (`runtime/packet_gate`).

Names that programs look up with the sandbox's name server are not flows: the runtime itself asks the host's servers, as
a host's stub resolver on 127.0.0.53 does. What the answers said is known to the filters as `remote_hostname`. A program
that asks a server of its own choice makes a UDP flow like any other.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core.flow_decision import Policy, ProviderState
from ..core.packets import FlowKey, address_bytes
from ..filter_verdicts import FilterVerdict, VerdictKind
from ..linux.route_lookup import RouteLookup
from ..metadata import ProcessInfo
from ..rules import Direction
from .channel import Channel
from .filter_link import FilterLink
from .filter_stage import PACKET, FilterStage
from .filtered_view import FilteredView
from .intercepted import InterceptedFlow
from .options import EngineOptions
from .udp_interceptor import Address, UDPInterceptedFlow

if TYPE_CHECKING:
    from .echo_filter import EchoFilter
    from .engine import Engine
    from .packet_gate import PacketGate


MOST_VIEWS = 1024
"""Far ends of one UDP socket that are remembered before the dropped ones are forgotten."""


class SandboxFilters:
    """All filters of a run, wired to its engine."""

    def __init__(self, engine: Engine, options: EngineOptions, process_of: Callable[[Any], ProcessInfo | None]) -> None:
        self._engine, self._process_of = engine, process_of
        self.stage = FilterStage(engine.reactor, deadline=options.deadline, policy=options.policy, log=engine.log.event)
        self.stage.decided = self._decided
        self.stage.update_forgotten = self._update_forgotten
        self._views: dict[FlowKey, FilteredView] = {}
        self._filters: set[int] = set()
        self._routes = RouteLookup()
        self._echo: EchoFilter | None = None
        self._gate: PacketGate | None = None
        engine.pipeline.filters = self
        engine.tcp.stage = engine.udp.stage = self.stage
        engine.udp.show_peer = self._show_peer

    def admit(self, flow: InterceptedFlow) -> None:
        """A new flow; what the filters say comes back by its view."""
        view = flow.view = FilteredView(flow, flow.id, flow.key)
        view.is_strict = self._engine.policy is Policy.CLOSED
        view.host, view.name_source, view.process = flow.host, flow.name_source, flow.process
        view.interface = self._routes.interface(flow.key[3])
        self._views[view.key] = view
        self.stage.admit(view)

    def _show_peer(self, flow: UDPInterceptedFlow, peer: Address, direction: Direction) -> FilteredView:
        """One more far end of a UDP flow: asked about for itself."""
        if len(flow.views) >= MOST_VIEWS:
            self._forget_dropped(flow)
        protocol, source, port, _, _ = flow.key
        far = address_bytes(peer[0]), peer[1]
        key = (protocol, *far, source, port) if direction is Direction.INBOUND else (protocol, source, port, *far)
        view = flow.views[peer] = FilteredView(flow, self._engine.pipeline.next_number(), key, direction)
        view.process, view.is_strict = flow.process, self._engine.policy is Policy.CLOSED
        self._describe_other(view)
        self._views[view.key] = view
        self.stage.admit(view)
        return view

    def _describe_other(self, flow: Any) -> None:
        """What is known of a `FilteredFlow` that is no flow of the pipeline: the far side's name, the interface."""
        self._engine.describe_peer(flow)
        flow.interface = self._routes.interface(flow.key[3] if flow.direction is Direction.OUTBOUND else flow.key[1])

    def _forget_dropped(self, flow: UDPInterceptedFlow) -> None:
        """A socket with very many far ends: those that were dropped are asked about again if they come back."""
        for peer, view in [(peer, view) for peer, view in flow.views.items() if view.silent is not None]:
            del flow.views[peer]
            self._closed(view)

    def closed(self, flow: InterceptedFlow) -> None:
        """A flow is over."""
        if flow.view is not None:
            self._closed(flow.view)
        if isinstance(flow, UDPInterceptedFlow):
            for view in flow.views.values():
                self._closed(view)

    def _closed(self, view: FilteredView) -> None:
        if self._views.get(view.key) is view:
            del self._views[view.key]
        self.stage.closed(view)

    def _update_forgotten(self, key: FlowKey, verdict: FilterVerdict, direction: Direction) -> bool:
        """A filter changes its mind about a flow that it let go: a drop ends it, if it is there."""
        view = self._views.get(key)
        if view is None or verdict.kind is not VerdictKind.DROP:
            return False
        view.reason = "update_flow: drop"
        view.filter_drop(verdict.silent, None)
        return True

    def expect(self, index: int, kind: str) -> None:
        """A filter belongs to the run: its flows get its policy until it is there, and no proxy has its place."""
        engine = self._engine
        self.stage.expect(index, engine.slots[index].name, kind)
        self._filters.add(index)
        engine.pipeline.slots = [slot for slot in engine.slots if slot.index not in self._filters]

    def attach(self, index: int, kind: str, channel: Channel, pid: int, queue: socket.socket | None) -> None:
        """A filter's process has a channel; the first packet filter brings the packet queue."""
        self.expect(index, kind)
        if queue is not None:
            if kind == PACKET and self._gate is None:
                from .packet_gate import PacketGate

                self._gate = PacketGate(self._engine.reactor, queue, self.stage.packets, self._engine.policy)
            else:
                queue.close()
        self.stage.attach(index, self._engine.slots[index].name, kind, channel, pid, self._lost, self._running)

    def set_state(self, index: int, state: ProviderState) -> None:
        """What the supervisor says about a provider's process."""
        if index in self._filters:
            self.stage.set_state(index, state)

    def _running(self, link: FilterLink) -> None:
        self._engine.running(link.slot.index)

    def _lost(self, link: FilterLink, why: str) -> None:
        self._engine.lost(link.slot.name, self._engine.policy or Policy.OPEN, why)

    def _decided(self, flow: Any) -> None:
        """What becomes of a flow is final."""
        outcome = flow.filter.outcome if flow.filter is not None else ""
        self._engine.log.filtered(flow, outcome)
        if isinstance(flow, FilteredView):
            flow.decided()
            if outcome == "allowed":
                return
            if flow is not flow.flow.view:  # the log's line for the whole flow does not tell of it
                words = f"{flow.remote[0]} port {flow.remote[1]}: {outcome} by {flow.by} ({flow.reason})"
                self._engine.log.note(f"one more peer of flow {flow.flow.id}, {words}")
            elif self._engine.trace is not None:
                self._engine.trace.decided(flow.flow)

    def echo_request(self, packet: bytes) -> None:
        """A program pings: a flow of its own for each destination."""
        self._echoes.request(packet)

    def echo_reply(self, packet: bytes) -> bool:
        """Whether a reply, or what a router said, may go to the program at once."""
        return self._echo is None or self._echo.reply(packet)

    @property
    def _echoes(self) -> EchoFilter:
        if self._echo is None:
            from .echo_filter import EchoFilter

            engine = self._engine
            self._echo = EchoFilter(
                engine.reactor, self.stage, engine.pipeline.next_number, engine.echo, engine.deliver
            )
            self._echo.describe = self._describe_other
        return self._echo

    def close(self) -> None:
        """End what is left, at the end of the sandbox."""
        if self._echo is not None:
            self._echo.close()
        if self._gate is not None:
            self._gate.close()
        self._routes.close()
