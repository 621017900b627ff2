"""UDP flows: one for each socket of a program, with any number of peers (reference §2.11).

While the flow is undecided its datagrams wait in the kernel, at most `MOST_HELD` of them. When it opens, each peer gets
a *program-side* socket: transparently bound to the peer's address and connected to the program's. The kernel delivers
the program's datagrams to it from then on without asking anybody, and what is sent on it comes from the peer.

A flow ends when its program closes the socket (the kernel tells, SKNLGRP_INET_UDP_DESTROY), when the provider closes
it, or when nothing moved for a while.

Content filters decide about each peer for itself: a program may use one socket for many. What they do not let through
is refused as long as the flow lives; where they look at datagrams, gates stand between (`runtime/datagram_gate`).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..core.flow_decision import FlowState
from ..core.packets import Unreachable, address_bytes, address_text, icmp_unreachable, udp_datagram
from ..errors import DatapathError, FlowErrorCode, code_for_errno
from ..linux.datagrams import DatagramRelay
from ..linux.nfqueue import ACCEPT, DROP, HeldPacket, Queue
from ..linux.reactor import READ, Reactor
from ..linux.ruleset import MARK_OPEN
from ..linux.sock_diag import DestroyEvents, SocketInfo
from ..linux.sockets import datagram_socket, join_datagram_socket, receive_descriptors
from ..rules import Direction
from .intercepted import UDP, FlowKey, InterceptedFlow, Pipeline
from .packet_injector import PacketInjector
from .udp_filtering import UDPFiltering
from .wire import MessageType

if TYPE_CHECKING:
    from .filtered_view import FilteredView
    from .interposed_peer import InterposedPeer

MOST_HELD = 64
IDLE_TIMEOUT = 180.0
"""Seconds; RFC 4787 asks for two minutes at least."""
SWEEP_INTERVAL = 10.0
LINGER = 0.5
"""Seconds for which a flow outlives its program's socket: what it sent last may still be on the way to us."""
_UNREACHABLE: dict[int, Unreachable] = {
    FlowErrorCode.HOST_UNREACHABLE: Unreachable.HOST,
    FlowErrorCode.NETWORK_UNREACHABLE: Unreachable.NETWORK,
    FlowErrorCode.PROHIBITED: Unreachable.ADMINISTRATIVELY_PROHIBITED,
    FlowErrorCode.REFUSED: Unreachable.PORT,
}

Address = tuple[str, int]
Take = Callable[[socket.socket | None], None]


class SocketStock:
    """Unbound transparent UDP sockets, made by the keeper inside the sandbox, ready to be bound by the engine."""

    def __init__(self, reactor: Reactor, channel: socket.socket) -> None:
        self._reactor, self._channel, self._asked = reactor, channel, set[int]()
        self._free: dict[int, list[socket.socket]] = {socket.AF_INET: [], socket.AF_INET6: []}
        self._waiting: dict[int, list[Take]] = {socket.AF_INET: [], socket.AF_INET6: []}
        channel.setblocking(False)
        reactor.register(channel.fileno(), READ, self._event)

    def take(self, family: int, use: Take) -> None:
        """Call `use` with a socket, at once or when the keeper has sent some; with None when none is to be had."""
        free = self._free[family]
        if free:
            use(free.pop())
        elif self._channel.fileno() < 0:
            use(None)
            return
        else:
            self._waiting[family].append(use)
        if len(free) < 8 and family not in self._asked:
            self._asked.add(family)
            try:
                self._channel.send(bytes([family]))
            except OSError:
                self._asked.discard(family)

    def _event(self, events: int) -> None:
        try:
            request, descriptors = receive_descriptors(self._channel)
        except BlockingIOError:
            return
        except (DatapathError, OSError):  # out of descriptors: who waits now waits for the next datagram
            self._asked.clear()
            self._none_for_all()
            return
        if not request:  # the keeper is dead
            self._reactor.unregister(self._channel.fileno())
            self._channel.close()
            self._none_for_all()
            return
        family = request[0]
        self._asked.discard(family)
        self._free[family] += [socket.socket(family, socket.SOCK_DGRAM, 0, descriptor) for descriptor in descriptors]
        waiting, self._waiting[family] = self._waiting[family], []
        for use in waiting:
            self.take(family, use)

    def _none_for_all(self) -> None:
        for family, waiting in self._waiting.items():
            self._waiting[family] = []
            for use in waiting:
                use(None)


class UDPInterceptedFlow(InterceptedFlow):
    """A UDP flow with its held datagrams and its peers."""

    __slots__ = ("attached", "has_ended", "held", "interposed", "peers", "relay", "views")

    def __init__(self, number: int, key: FlowKey, packet: HeldPacket, interceptor: UDPInterceptor, now: float) -> None:
        super().__init__(number, key, packet.payload, interceptor, now)
        self.held: list[tuple[int, Address]] = []
        self.peers: dict[Address, socket.socket | None] = {}
        """None while the socket is being made; in a relayed flow the relay owns them."""
        self.relay: DatagramRelay | None = None
        self.attached = self.has_ended = False
        self.views: dict[Address, FilteredView] = {}
        """How filters see the peers after the first one, whose view is the flow's own."""
        self.interposed: dict[Address, InterposedPeer] = {}
        """Peers whose datagrams filters see on their way to and from the provider."""

    def view_of(self, peer: Address) -> FilteredView | None:
        """How filters see a peer."""
        return self.view if peer == self.remote else self.views.get(peer)

    @property
    def family(self) -> socket.AddressFamily:
        """The address family."""
        return socket.AF_INET if len(self.key[1]) == 4 else socket.AF_INET6


class UDPInterceptor(UDPFiltering):
    """The UDP side of the datapath."""

    def __init__(
        self,
        reactor: Reactor,
        queue: Queue,
        pipeline: Pipeline,
        injector: PacketInjector,
        stock: SocketStock,
        destroyed: DestroyEvents,
        find: Callable[[InterceptedFlow], SocketInfo | None],
    ) -> None:
        super().__init__()
        self._reactor, self._queue, self._pipeline, self._injector = reactor, queue, pipeline, injector
        self._stock, self._destroyed, self._find = stock, destroyed, find
        self._flows: dict[tuple[bytes, int], UDPInterceptedFlow] = {}
        self._finds = False
        reactor.register(destroyed.fileno(), READ, self._sockets_closed)
        reactor.call_later(SWEEP_INTERVAL, self._sweep)

    def held_packet(self, packet: HeldPacket, key: FlowKey, number: int) -> bool:
        """A datagram without a socket of ours came from the queue; True when it began a flow with this number."""
        peer = (address_text(key[3]), key[4])
        flow = self._flows.get((key[1], key[2]))
        if flow is not None:
            self._more(flow, packet, peer)
            return False
        flow = UDPInterceptedFlow(number, key, packet, self, self._reactor.clock())
        flow.held.append((packet.id, peer))
        self._flows[key[1], key[2]] = flow
        self._pipeline.admit(flow)
        return True

    def _more(self, flow: UDPInterceptedFlow, packet: HeldPacket, peer: Address) -> None:
        """Another datagram of a flow: it waits for the decision, or for the socket of a new peer."""
        if flow.peers.get(peer) is not None:
            self._queue.decide(packet.id, ACCEPT, MARK_OPEN)  # its socket was made while this one was on the way
        elif len(flow.held) >= MOST_HELD:
            self._queue.decide(packet.id, DROP)
        else:
            flow.held.append((packet.id, peer))
            if flow.state is FlowState.OPEN:
                self._add_peer(flow, peer)

    def _add_peer(self, flow: UDPInterceptedFlow, peer: Address, direction: Direction = Direction.OUTBOUND) -> None:
        """A peer of an open flow, to which the program sends (OUTBOUND) or from which something came."""
        if peer in flow.peers or (self.stage is not None and not self._may_reach(flow, peer, direction)):
            return
        self._take_socket(flow, peer)

    def _take_socket(self, flow: UDPInterceptedFlow, peer: Address) -> None:
        flow.peers[peer] = None
        self._stock.take(flow.family, lambda sock: self._bind_peer(flow, peer, sock))

    def _bind_peer(self, flow: UDPInterceptedFlow, peer: Address, sock: socket.socket | None) -> None:
        """Make a stock socket the program's view of one peer, and release what waits for it."""
        if flow.state is FlowState.CLOSED or peer not in flow.peers:
            if sock is not None:
                sock.close()
            return
        if sock is None:
            self._no_peer(flow, peer, errno.EMFILE)
            return
        try:
            join_datagram_socket(sock, peer, flow.local)
            if flow.relay is not None:
                self._add_to_relay(flow, flow.relay, peer, sock)
        except OSError as error:
            sock.close()
            self._no_peer(flow, peer, error.errno or 0)
            return
        flow.peers[peer] = sock
        if flow.relay is None and flow.attached and flow.link is not None:
            self._hand_out(flow, peer, sock)
        self._release(flow, peer, ACCEPT)
        self._queue.flush()  # at once: what the program sends now needs no verdict any more, and must not overtake

    def _no_peer(self, flow: UDPInterceptedFlow, peer: Address, number: int) -> None:
        """There is no way to this peer: say so to the program, and to a provider that asked for it."""
        del flow.peers[peer]
        self._release(flow, peer, DROP)
        self._answer_peer_error(flow, peer, _UNREACHABLE.get(code_for_errno(number)))
        if flow.attached and flow.link is not None:
            reason = f"no datagrams from {peer[0]} port {peer[1]}: {os.strerror(number)}"
            flow.link.refused(flow, FlowErrorCode.INVALID_ARGUMENT, reason, MessageType.PEER_REQUEST, remote=peer)

    def _release(self, flow: UDPInterceptedFlow, peer: Address, verdict: int) -> None:
        for number, to in flow.held:
            if to == peer:
                self._queue.decide(number, verdict, MARK_OPEN)
        flow.held = [entry for entry in flow.held if entry[1] != peer]

    def pass_through(self, flow: UDPInterceptedFlow) -> None:
        """Send on from a socket of the host's."""
        try:
            sock = datagram_socket(flow.family)
            sock.bind(("::" if flow.family == socket.AF_INET6 else "0.0.0.0", 0))
        except OSError as error:
            self._no_descriptor(flow, error)
            return
        self._start_relay(flow, sock)

    def _no_descriptor(self, flow: UDPInterceptedFlow, error: OSError) -> None:
        """Out of descriptors: the datagrams are lost, as in any full queue."""
        flow.outcome, flow.reason = "dropped", f"{error.strerror}; raise the limit: ulimit -n"
        self._finish(flow, FlowErrorCode.INTERNAL)

    def open(self, flow: UDPInterceptedFlow) -> None:
        """Make the peers' sockets, release the datagrams."""
        if flow.state is FlowState.OPEN:
            return
        flow.state = FlowState.OPEN
        self._finds = self._finds or flow.process is not None
        self._reactor.call_later(LINGER, lambda: self._check(flow))  # it may have sent and closed before this
        for peer in dict.fromkeys(entry[1] for entry in flow.held):
            self._add_peer(flow, peer)
        if flow.link is not None:
            flow.link.opened(flow)

    def attach(self, flow: UDPInterceptedFlow) -> None:
        """Hand out the peers' sockets, those of today and those to come."""
        if flow.link is None or flow.relay is not None:
            return
        if flow.state is not FlowState.OPEN:
            self.close(flow, FlowErrorCode.NOT_CONNECTED, "both")
            return
        flow.attached = True
        flow.link.attached(flow, None)
        for peer, sock in flow.peers.items():
            if sock is not None:
                self._hand_out(flow, peer, sock)
        if flow.has_ended:
            flow.link.datagrams_ended(flow)

    def request_peer(self, flow: UDPInterceptedFlow, address: Address) -> None:
        """The provider wants to write from an address that the program has not sent to."""
        if flow.link is None or flow.state is not FlowState.OPEN:
            return
        try:
            possible = len(address_bytes(address[0])) == len(flow.key[1]) and 0 < address[1] < 65536
        except ValueError:
            possible = False
        sock = flow.peers.get(address)
        if not possible:
            reason = f"no datagrams can come from {address[0]} port {address[1]}"
            flow.link.refused(flow, FlowErrorCode.INVALID_ARGUMENT, reason, MessageType.PEER_REQUEST, remote=address)
        elif sock is not None:
            self._hand_out(flow, address, sock)
        else:
            self._add_peer(flow, address, Direction.INBOUND)

    def relay(self, flow: UDPInterceptedFlow, descriptor: int) -> None:
        """Join the program and a socket that the provider made."""
        sock = socket.socket(fileno=descriptor)
        if flow.relay is not None or sock.type != socket.SOCK_DGRAM:
            sock.close()
            return
        sock.setblocking(False)
        self._start_relay(flow, sock)

    def _start_relay(self, flow: UDPInterceptedFlow, remote: socket.socket) -> None:
        """Hand the remote socket to a relay. Only a program that connected its socket hears from its peer alone."""
        program = self._program(flow)
        try:
            flow.relay = DatagramRelay(
                self._reactor,
                remote,
                flow.remote,
                lambda relay, error: self._ended(flow, error.errno or 0 if error else 0),
                on_error=lambda relay, peer, number: self._peer_failed(flow, peer, number),
                on_new_peer=lambda relay, peer: self._add_peer(flow, peer, Direction.INBOUND),
                connect=program is None or program.is_connected,
            )
        except OSError as error:
            remote.close()
            flow.outcome, flow.reason = "refused", os.strerror(error.errno or 0)
            self.refuse(flow, code_for_errno(error.errno or 0))
            return
        for peer, sock in flow.peers.items():
            if sock is not None:
                self._add_to_relay(flow, flow.relay, peer, sock)
        if flow.has_ended:
            self._reactor.call_later(LINGER, lambda: self._finish(flow, 0))
        self.open(flow)

    def _peer_failed(self, flow: UDPInterceptedFlow, peer: Address, number: int) -> None:
        self._answer_peer_error(flow, peer, _UNREACHABLE.get(code_for_errno(number)))

    def _answer_peer_error(self, flow: UDPInterceptedFlow, peer: Address, kind: Unreachable | None) -> None:
        """Tell the program by ICMP what its own socket would have been told."""
        if kind is not None:
            _, source, port, _, _ = flow.key
            quoted = udp_datagram(source, port, address_bytes(peer[0]), peer[1], b"")
            self._injector.send(icmp_unreachable(quoted, kind), source)

    def close(self, flow: UDPInterceptedFlow, error: int, direction: str) -> None:
        """The provider is done with the flow."""
        if flow.state is not FlowState.OPEN:
            flow.outcome, flow.reason = "refused", flow.reason or "closed by the provider before it was open"
            self.refuse(flow, error or FlowErrorCode.REFUSED)
        elif direction == "both" or error:
            self._finish(flow, error)

    def refuse(self, flow: UDPInterceptedFlow, error: int) -> None:
        """Drop what waits; a connected socket of the program gets the errno."""
        for peer in dict.fromkeys(entry[1] for entry in flow.held):
            if error != FlowErrorCode.TIMED_OUT:  # which is silence
                self._answer_peer_error(flow, peer, _UNREACHABLE.get(error, Unreachable.PORT))
        self._finish(flow, error)

    def orphan(self, flow: UDPInterceptedFlow) -> None:
        """Its provider died; a relayed flow does not need it."""
        if flow.relay is None:
            flow.reason = "its provider died"
            self._finish(flow, FlowErrorCode.ABORTED)

    def _ended(self, flow: UDPInterceptedFlow, number: int) -> None:
        if number:
            flow.reason = os.strerror(number)
        self._finish(flow, code_for_errno(number) if number else 0)

    def _finish(self, flow: UDPInterceptedFlow, error: int) -> None:
        if self._flows.get((flow.key[1], flow.key[2])) is flow:
            del self._flows[flow.key[1], flow.key[2]]
        for number, _ in flow.held:
            self._queue.decide(number, DROP)
        flow.held = []
        if flow.view is not None:
            for view in (flow.view, *flow.views.values()):
                view.counted = self.counts(view)
        for interposed in flow.interposed.values():
            interposed.leave()  # its socket is closed with the others
        flow.interposed.clear()
        if flow.relay is not None:
            flow.bytes_out, flow.bytes_in = flow.relay.sent, flow.relay.received
            flow.relay.close()
            flow.relay = None
        else:
            for sock in flow.peers.values():
                if sock is not None:
                    sock.close()
        flow.peers.clear()
        self._pipeline.finish(flow, error)

    def _sockets_closed(self, events: int) -> None:
        """Programs closed UDP sockets. An unconnected one names no address, so the port is looked for."""
        ports = {closed.local_port for closed in self._destroyed.receive()}
        for flow in [flow for flow in self._flows.values() if flow.key[2] in ports and flow.state is FlowState.OPEN]:
            self._reactor.call_later(LINGER, partial(self._check, flow))

    def _check(self, flow: UDPInterceptedFlow) -> None:
        """End an open flow whose program's socket is gone. A new socket at the same address goes on with it."""
        if flow.state is not FlowState.OPEN or self._flows.get((flow.key[1], flow.key[2])) is not flow:
            return
        if self._program(flow) is not None or not self._finds:
            return
        if flow.held:  # its sockets are still being made
            self._reactor.call_later(LINGER, partial(self._check, flow))
            return
        if flow.relay is None and flow.link is not None:
            # A new socket may get the same port: the address is free for a new flow, the provider finishes the old one.
            del self._flows[flow.key[1], flow.key[2]]
            flow.has_ended = True
            if flow.attached:  # else it is told when it asks for what the program has sent
                flow.link.datagrams_ended(flow)
        else:
            self._finish(flow, 0)

    def _program(self, flow: UDPInterceptedFlow) -> SocketInfo | None:
        """The program's socket. A kernel that never finds one (no inet_diag) is no witness of its end."""
        found = self._find(flow)
        self._finds = self._finds or found is not None
        return found

    def _sweep(self) -> None:
        """End relayed flows in which nothing moved for a while."""
        latest = self._reactor.clock() - IDLE_TIMEOUT
        idle = [flow for flow in self._flows.values() if flow.relay is not None and flow.relay.last_activity < latest]
        for flow in idle:
            flow.reason = f"idle for {IDLE_TIMEOUT:.0f} s"
            self._finish(flow, 0)
        self._reactor.call_later(SWEEP_INTERVAL, self._sweep)

    def is_busy(self) -> bool:
        """Whether datagrams wait for a decision or a socket."""
        return any(flow.held for flow in self._flows.values())

    def close_all(self) -> None:
        """End whatever is left, at the end of the sandbox."""
        for flow in list(self._flows.values()):
            flow.reason = flow.reason or "the sandbox ended"
            self._finish(flow, 0)


__all__ = ["UDP", "MessageType", "SocketStock", "UDPInterceptedFlow", "UDPInterceptor"]
