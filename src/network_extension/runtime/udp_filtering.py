"""What the UDP side of the datapath does for content filters; without them hardly any of it runs.

Filters decide about each peer for itself. Where they look at datagrams, a peer has gates (`runtime/datagram_gate`): in
the relay, or between the program and a provider that reads and writes in Python (`runtime/interposed_peer`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.flow_decision import FlowState
from ..core.packets import Unreachable
from ..errors import FlowErrorCode
from ..linux.datagrams import DatagramRelay
from ..linux.nfqueue import DROP
from ..linux.reactor import Reactor
from ..rules import Direction
from .intercepted import Pipeline
from .wire import MessageType

if TYPE_CHECKING:
    from .datagram_gate import DatagramGates
    from .filter_stage import FilterStage
    from .filtered_view import FilteredView
    from .udp_interceptor import Address, UDPInterceptedFlow


class UDPFiltering:
    """A part of `UDPInterceptor`."""

    _reactor: Reactor
    _pipeline: Pipeline

    def __init__(self) -> None:
        self.stage: FilterStage | None = None
        """Who is shown datagrams; None without filters."""
        self.show_peer: Callable[[UDPInterceptedFlow, Address, Direction], FilteredView] | None = None
        """Shows one more peer of a flow to the filters; `admitted` or `drop` follows, maybe at once."""

    def refuse(self, flow: UDPInterceptedFlow, error: int) -> None:
        """Drop what waits, and give the program its errno."""
        raise NotImplementedError

    def _take_socket(self, flow: UDPInterceptedFlow, peer: Address) -> None:
        raise NotImplementedError

    def _release(self, flow: UDPInterceptedFlow, peer: Address, verdict: int) -> None:
        raise NotImplementedError

    def _answer_peer_error(self, flow: UDPInterceptedFlow, peer: Address, kind: Unreachable | None) -> None:
        raise NotImplementedError

    def _finish(self, flow: UDPInterceptedFlow, error: int) -> None:
        raise NotImplementedError

    def _may_reach(self, flow: UDPInterceptedFlow, peer: Address, direction: Direction) -> bool:
        """Whether the filters have let the peer in. One that they have not seen yet is shown to them."""
        view = flow.view_of(peer)
        if view is None:
            assert self.show_peer is not None
            self.show_peer(flow, peer, direction)  # goes on with `admitted` or `drop`
            return False
        if view.silent is not None:
            self._refuse_peer(flow, peer, view.silent)
            return False
        return view.is_admitted

    def _refuse_peer(self, flow: UDPInterceptedFlow, peer: Address, silent: bool) -> None:
        """Drop what the program has sent to a peer that filters do not let through."""
        if any(entry[1] == peer for entry in flow.held):
            self._release(flow, peer, DROP)
            if not silent:
                self._answer_peer_error(flow, peer, Unreachable.PORT)

    def admitted(self, view: FilteredView, hold_inbound: bool, hold_outbound: bool) -> None:
        """The filters let a peer in: the first begins the flow, a later one gets its socket."""
        flow: UDPInterceptedFlow = view.flow
        if hold_inbound or hold_outbound:
            self._make_gates(view, hold_inbound, hold_outbound)
        if view is not flow.view:
            if flow.state is FlowState.OPEN and view.remote not in flow.peers:
                self._take_socket(flow, view.remote)
        elif flow.state is FlowState.HELD:
            self._pipeline.offer(flow)

    def _make_gates(self, view: FilteredView, hold_inbound: bool, hold_outbound: bool) -> DatagramGates:
        from .datagram_gate import DatagramGates

        assert self.stage is not None
        view.gates = made = DatagramGates(self._reactor.call_soon, self.stage, view, hold_inbound, hold_outbound)
        return made

    def let(self, view: FilteredView, direction: Direction, up_to: int) -> None:
        """Filters have passed bytes."""
        if view.gates is not None:
            view.gates.of(direction).let(up_to)

    def hold(self, view: FilteredView, direction: Direction) -> None:
        """Filters want to see what went freely: not possible where a provider has the program-side socket."""
        flow: UDPInterceptedFlow = view.flow
        peer = view.remote
        if flow.state is FlowState.CLOSED:
            return
        if flow.attached and flow.relay is None and peer not in flow.interposed:
            view.cannot_be_shown()
            return
        gates: DatagramGates = view.gates or self._make_gates(view, False, False)
        gates.of(direction).shut()
        if flow.relay is not None:
            flow.relay.hold(peer, gates.outbound, gates.inbound)

    def drop(self, view: FilteredView, silent: bool, page: bytes | None) -> None:
        """A filter ends the conversation with a peer; with the first one, before it began, the whole flow."""
        flow: UDPInterceptedFlow = view.flow
        if flow.state is FlowState.CLOSED:
            return
        if view is flow.view:
            flow.outcome, flow.by, flow.reason = "dropped", view.by, view.reason
            if flow.state is not FlowState.OPEN:
                self._pipeline.take_back(flow)
                self.refuse(flow, FlowErrorCode.TIMED_OUT if silent else FlowErrorCode.REFUSED)
                return
        self._drop_peer(flow, view, view.remote, silent)

    def _drop_peer(self, flow: UDPInterceptedFlow, view: FilteredView, peer: Address, silent: bool) -> None:
        view.counted = self.counts(view)
        if view.gates is not None:
            view.gates.discard()
        sock = flow.peers.pop(peer, None)
        if (interposed := flow.interposed.pop(peer, None)) is not None:
            interposed.close()
        elif flow.relay is not None:
            flow.relay.remove_peer(peer)
        elif sock is not None:
            sock.close()
        self._refuse_peer(flow, peer, silent)
        if not silent and view.direction is Direction.OUTBOUND:
            self._answer_peer_error(flow, peer, Unreachable.PORT)
        elif flow.attached and flow.link is not None and view.direction is Direction.INBOUND:
            reason = f"{view.by} drops datagrams from {peer[0]} port {peer[1]}"
            flow.link.refused(flow, FlowErrorCode.PROHIBITED, reason, MessageType.PEER_REQUEST, remote=peer)
        if flow.relay is None and not flow.peers:  # nothing is left that its provider could carry
            self._finish(flow, FlowErrorCode.ABORTED)

    def counts(self, view: FilteredView) -> tuple[int, int]:
        """Bytes to and from the program, as far as the engine carries them."""
        flow: UDPInterceptedFlow = view.flow
        if flow.relay is not None and view.remote in flow.peers:
            return flow.relay.counts(view.remote)
        interposed = flow.interposed.get(view.remote)
        return interposed.counts if interposed is not None else view.counted

    def _add_to_relay(self, flow: UDPInterceptedFlow, relay: DatagramRelay, peer: Address, sock: socket.socket) -> None:
        interposed = flow.interposed.pop(peer, None)
        unread = interposed.leave() if interposed is not None else []
        relay.add_peer(peer, sock)
        view = flow.view_of(peer)
        if view is not None and view.gates is not None:
            relay.hold(peer, view.gates.outbound, view.gates.inbound)
        for datagram in unread:
            relay.send_on(peer, datagram)

    def _hand_out(self, flow: UDPInterceptedFlow, peer: Address, sock: socket.socket) -> None:
        """Give the provider its socket for a peer: the program-side one, or one that filters stand in front of."""
        assert flow.link is not None
        view = flow.view_of(peer)
        if peer in flow.interposed:
            flow.link.peer(flow, peer, flow.interposed[peer].theirs.fileno())
        elif view is not None and view.gates is not None:
            from .interposed_peer import InterposedPeer

            interposed = InterposedPeer(self._reactor, sock, view.gates.inbound, view.gates.outbound)
            flow.interposed[peer] = interposed
            flow.link.peer(flow, peer, interposed.theirs.fileno())
        else:
            flow.link.peer(flow, peer, sock.fileno())
