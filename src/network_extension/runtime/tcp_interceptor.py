"""TCP flows: from a held SYN to two joined sockets, or to the errno that the program deserves.

An unopened flow is nothing but a packet that waits in the kernel and an entry in `_held`. Opening it releases the
packet; the kernel completes the handshake with our transparent listener, and `accept` gives the program's side.
Refusing drops the packet and answers it with a packet of our own: RST for ECONNREFUSED, ICMP for unreachable hosts and
networks. ETIMEDOUT needs no answer: the program's own TCP gives up when nobody replies.

Where filters want to see bytes, the relay gets gates (`runtime/inspected_stream`). A provider that reads and writes in
Python gets one end of a socket pair then, with a relay between the other end and the program.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..core.flow_decision import FlowState
from ..core.packets import (
    Unreachable,
    address_bytes,
    address_text,
    icmp_unreachable,
    parse_head,
    reset_after_syn_ack,
    syn_ack,
    tcp_reset,
)
from ..errors import FlowErrorCode, code_for_errno
from ..linux.nfqueue import ACCEPT, DROP, HeldPacket, Queue
from ..linux.pipes import PipePool
from ..linux.reactor import EDGE, READ, WRITE, Reactor
from ..linux.ruleset import MARK_OPEN
from ..linux.sockets import reset_on_close
from ..linux.splice import Relay
from .intercepted import TCP, FlowKey, InterceptedFlow, Pipeline
from .packet_injector import PacketInjector
from .tcp_filtering import TCPFiltering, byte_counts

if TYPE_CHECKING:
    from .inspected_stream import InspectedStream

HANDSHAKE_TIMEOUT = 5.0  # both ends are this kernel: a handshake that takes longer has lost its program
SPARE_DESCRIPTORS = 128
"""Kept for what is not a TCP flow: datagrams, names, pipes, channels. At most half of what there is."""
SWEEP_INTERVAL = 2.0
SILENCE = 150.0
"""Seconds for which the SYNs of a connection that timed out stay unanswered; tcp_syn_retries of 6 make 127 s."""
_UNREACHABLE: dict[int, Unreachable] = {
    FlowErrorCode.HOST_UNREACHABLE: Unreachable.HOST,
    FlowErrorCode.NETWORK_UNREACHABLE: Unreachable.NETWORK,
    FlowErrorCode.PROHIBITED: Unreachable.ADMINISTRATIVELY_PROHIBITED,
}


class TCPInterceptedFlow(InterceptedFlow):
    """A TCP flow with its sockets."""

    __slots__ = (
        "attached",
        "ending",
        "inspection",
        "is_closing",
        "packet",
        "program",
        "provider_end",
        "relay",
        "remote_socket",
    )

    def __init__(
        self, number: int, key: FlowKey, packet: HeldPacket | None, interceptor: TCPInterceptor, now: float
    ) -> None:
        super().__init__(number, key, packet.payload if packet else b"", interceptor, now)
        self.packet: int | None = packet.id if packet else None
        self.program: socket.socket | None = None
        self.remote_socket: socket.socket | None = None
        self.relay: Relay | None = None
        self.attached = self.is_closing = False
        self.inspection: InspectedStream | None = None
        """The gates, where filters want to see bytes."""
        self.provider_end: socket.socket | None = None
        """The socket that a provider has in place of the program's, while filters look in between."""
        self.ending: tuple[bool, bytes | None] | None = None
        """How a filter ends the flow as soon as its program is connected: silently? by a page?"""


class TCPInterceptor(TCPFiltering):
    """The TCP side of the datapath."""

    def __init__(
        self,
        reactor: Reactor,
        queue: Queue,
        pipeline: Pipeline,
        injector: PacketInjector,
        listeners: list[socket.socket],
        still_there: Callable[[InterceptedFlow], bool],
    ) -> None:
        super().__init__()
        self._reactor, self._queue, self._pipeline, self._injector = reactor, queue, pipeline, injector
        self._still_there = still_there
        self._pool = PipePool()
        self._held: dict[FlowKey, TCPInterceptedFlow] = {}
        self._silent: dict[FlowKey, int] = {}
        self.relays: set[TCPInterceptedFlow] = set()
        self._with_sockets: set[TCPInterceptedFlow] = set()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most_flows = (limit - min(SPARE_DESCRIPTORS, limit // 2)) // 2
        self._attached: set[TCPInterceptedFlow] = set()
        for listener in listeners:
            reactor.register(listener.fileno(), READ, partial(self._accept_all, listener))
        reactor.call_later(SWEEP_INTERVAL, self._sweep)

    def held_packet(self, packet: HeldPacket, key: FlowKey, number: int) -> bool:
        """A SYN came from the queue; True when it began a flow with this number."""
        if (earlier := self._held.get(key)) is not None:
            if _sequence(earlier.first_packet) == _sequence(packet.payload):
                self._queue.decide(packet.id, DROP)  # sent again while the first one waits: one is enough
                return False
            self._vanished(earlier)  # a new connection from the same port: the program has given the old one up
        elif self._silent and self._silent.get(key) == _sequence(packet.payload):
            self._queue.decide(packet.id, DROP)
            return False
        flow = TCPInterceptedFlow(number, key, packet, self, self._reactor.clock())
        self._held[key] = flow
        self._pipeline.admit(flow)
        return True

    def pass_through(self, flow: TCPInterceptedFlow) -> None:
        """Connect to where the program wanted to go."""
        host, port = flow.remote
        if not self._reserve(flow):
            return
        try:
            family = socket.AF_INET if len(flow.key[3]) == 4 else socket.AF_INET6
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._no_descriptor(flow, os.strerror(error.errno or 0))
            return
        flow.remote_socket = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.connect_ex((host, port))
        if number not in (0, errno.EINPROGRESS):
            self._refused(flow, number)
            return
        self._reactor.register(sock.fileno(), WRITE | EDGE, lambda events: self._connected(flow, sock))

    def _connected(self, flow: TCPInterceptedFlow, sock: socket.socket) -> None:
        if flow.state is not FlowState.CLAIMED:
            return  # it broke since: its error stays on the socket until the relay meets it
        if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._reactor.unregister(sock.fileno())
            self._refused(flow, number)
        else:
            self.open(flow)

    def _refused(self, flow: TCPInterceptedFlow, number: int) -> None:
        why = os.strerror(number)
        flow.outcome, flow.reason = "refused", f"{flow.reason}: {why}" if flow.reason else why
        self.refuse(flow, code_for_errno(number))

    def _reserve(self, flow: TCPInterceptedFlow) -> bool:
        """Whether there are descriptors for both ends: a flow that has one and waits for the other helps nobody."""
        if flow not in self._with_sockets:
            if len(self._with_sockets) >= self._most_flows:
                self._no_descriptor(flow, f"the limit of open files allows {self._most_flows} TCP flows at once")
                return False
            self._with_sockets.add(flow)
        return True

    def _no_descriptor(self, flow: TCPInterceptedFlow, reason: str) -> None:
        """Out of descriptors: drop the SYN silently; the program's TCP sends it again in a second."""
        flow.outcome, flow.reason = "dropped", f"{reason}; raise it: ulimit -n"
        self._decide(flow, DROP)
        self._finish(flow, FlowErrorCode.INTERNAL)

    def open(self, flow: TCPInterceptedFlow) -> None:
        """Release the SYN; the handshake with our listener completes the program's connect()."""
        if flow.program is not None:
            self._opened(flow)
            return
        if flow.state is FlowState.OPENING or not self._reserve(flow):
            return
        flow.state = FlowState.OPENING
        flow.timer = self._reactor.call_later(HANDSHAKE_TIMEOUT, lambda: self._vanished(flow))
        self._decide(flow, ACCEPT, MARK_OPEN)

    def _decide(self, flow: TCPInterceptedFlow, verdict: int, mark: int | None = None) -> None:
        if flow.packet is not None:
            self._queue.decide(flow.packet, verdict, mark)
            flow.packet = None

    def _vanished(self, flow: TCPInterceptedFlow) -> None:
        flow.outcome, flow.reason = "gone", "the program gave up before its flow was opened"
        self._decide(flow, DROP)
        self._finish(flow, FlowErrorCode.ABORTED)

    def _sweep(self) -> None:
        """End flows that are not open yet and whose program closed its socket: no packet tells of that.

        Only where the socket was found before, or a kernel without inet_diag would end them all.
        """
        latest = self._reactor.clock() - SWEEP_INTERVAL / 2
        for flow in [flow for flow in self._held.values() if flow.process is not None and flow.started_at < latest]:
            if flow.program is None and not self._still_there(flow):
                self._vanished(flow)
        self._reactor.call_later(SWEEP_INTERVAL, self._sweep)

    def _accept_all(self, listener: socket.socket, events: int) -> None:
        for _ in range(256):
            try:
                descriptor, name = listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    # Leave the connection in the backlog; waiting a little keeps a level-triggered loop from spinning.
                    self._reactor.modify(listener.fileno(), 0)
                    self._reactor.call_later(0.1, lambda: self._reactor.modify(listener.fileno(), READ))
                return
            sock = socket.socket(listener.family, socket.SOCK_STREAM, 0, descriptor)
            sock.setblocking(False)
            self._accepted(sock, name)

    def _accepted(self, sock: socket.socket, name: tuple[str, int]) -> None:
        try:
            there = sock.getsockname()
        except OSError:
            sock.close()
            return
        key = (TCP, address_bytes(name[0]), name[1], address_bytes(there[0]), there[1])
        flow = self._held.get(key)
        if flow is None:
            self._undecided(key, sock)
        elif flow.state is FlowState.OPENING:
            flow.program = sock
            self._opened(flow)
        else:
            reset_on_close(sock)
            sock.close()

    def _undecided(self, key: FlowKey, sock: socket.socket) -> None:
        """The queue was full and the policy open: the program is connected already, the decision comes now."""
        flow = TCPInterceptedFlow(self._pipeline.next_number(), key, None, self, self._reactor.clock())
        flow.program = sock
        self._held[key] = flow
        self._pipeline.admit(flow)

    def _opened(self, flow: TCPInterceptedFlow) -> None:
        flow.cancel_timer()
        self._held.pop(flow.key, None)
        if flow.ending is not None:
            self._end_connected(flow, *flow.ending)
            return
        flow.state = FlowState.OPEN
        if flow.link is not None:
            flow.link.opened(flow)
        if flow.remote_socket is not None:
            self._start_relay(flow, flow.link is None)

    def attach(self, flow: TCPInterceptedFlow) -> None:
        """Hand out the program's socket; ours stays open, so that a dead provider's flow can still be reset."""
        if flow.state is FlowState.OPEN and flow.program is not None and flow.link is not None and flow.relay is None:
            flow.attached = True
            if flow.inspection is not None:
                self._interpose(flow, flow.inspection)
                return
            # Who reads in Python reads one stream: an urgent byte keeps its place in it, as RFC 6093 section 6 advises.
            flow.program.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            self._attached.add(flow)
            flow.link.attached(flow, flow.program.fileno())
        elif flow.link is not None:
            self.close(flow, FlowErrorCode.NOT_CONNECTED, "both")

    def relay(self, flow: TCPInterceptedFlow, descriptor: int) -> None:
        """Join the program and a socket that the provider connected."""
        sock = socket.socket(fileno=descriptor)
        if flow.provider_end is not None and flow.relay is not None and sock.type == socket.SOCK_STREAM:
            self._relay_after_interposing(flow, flow.relay, flow.provider_end, sock)
            return
        if flow.relay is not None or flow.remote_socket is not None or sock.type != socket.SOCK_STREAM:
            sock.close()
            return
        sock.setblocking(False)
        flow.remote_socket = sock
        if flow.state is FlowState.OPEN:
            self._start_relay(flow, False)
        else:
            self.open(flow)

    def _start_relay(self, flow: TCPInterceptedFlow, remote_registered: bool) -> None:
        program, remote = flow.program, flow.remote_socket
        assert program is not None and remote is not None
        if flow.attached:
            program.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 0)
        flow.relay = Relay(self._reactor, self._pool, program, remote, lambda relay, error: self._relayed(flow, error))
        flow.first_packet = b""
        self.relays.add(flow)
        self._attached.discard(flow)
        if flow.inspection is not None:
            flow.inspection.join(flow.relay)
        flow.relay.start(False, remote_registered)

    def _relayed(self, flow: TCPInterceptedFlow, error: OSError | None) -> None:
        if error is not None:
            flow.reason = os.strerror(error.errno or 0)
        elif flow.provider_end is not None and not flow.is_closing:
            return  # the provider may still read: it has the last word
        self._finish(flow, code_for_errno(error.errno or 0) if error else 0)

    def close(self, flow: TCPInterceptedFlow, error: int, direction: str) -> None:
        """The provider ends the flow, or one direction of it; before it is open that refuses it."""
        if flow.state is not FlowState.OPEN:
            if direction != "read" or error:
                flow.outcome = "refused"
                flow.reason = flow.reason or "closed by the provider before it was open"
                self.refuse(flow, error or FlowErrorCode.REFUSED)
            return
        if flow.relay is not None:
            if flow.provider_end is not None:
                self._close_interposed(flow, flow.relay, error, direction)
            return
        assert flow.program is not None
        if direction == "both" or error:
            if error:
                reset_on_close(flow.program)
            self._finish(flow, error)
            return
        try:
            flow.program.shutdown(socket.SHUT_WR if direction == "write" else socket.SHUT_RD)
        except OSError:
            pass

    def request_peer(self, flow: TCPInterceptedFlow, address: tuple[str, int]) -> None:
        """Streams have one peer; nothing to do."""

    def refuse(self, flow: TCPInterceptedFlow, error: int) -> None:
        """Drop the SYN and answer it in the way that gives the program the right errno."""
        self._decide(flow, DROP)
        if flow.program is not None:
            reset_on_close(flow.program)
        elif flow.first_packet and flow.state is not FlowState.OPENING:
            if error == FlowErrorCode.TIMED_OUT:
                self._keep_silent(flow)
            else:
                self._answer(flow.first_packet, error, flow.key[1])
        self._finish(flow, error)

    def _answer(self, packet: bytes, error: int, program: bytes) -> None:
        """Give connect() its errno."""
        send, unreachable = self._injector.send, _UNREACHABLE.get(error)
        if unreachable is not None:
            send(icmp_unreachable(packet, unreachable), program)
        elif error == FlowErrorCode.PEER_RESET:
            # Only an established connection can be reset (RFC 9293 section 3.10.7.3).
            send(syn_ack(packet), program)
            send(reset_after_syn_ack(packet), program)
        else:
            send(tcp_reset(packet), program)

    def _keep_silent(self, flow: TCPInterceptedFlow) -> None:
        """Nothing answers: the program sends its SYN again and again, and each is this flow still, not a new one."""
        self._silent[flow.key] = _sequence(flow.first_packet)
        self._reactor.call_later(SILENCE, partial(self._forget_silence, flow.key))

    def _forget_silence(self, key: FlowKey) -> None:
        self._silent.pop(key, None)

    def orphan(self, flow: TCPInterceptedFlow) -> None:
        """Its provider died. A relayed flow does not need it; one whose bytes it carried is reset."""
        if flow.provider_end is not None and flow.relay is not None:
            flow.reason = "its provider died"
            flow.relay.abort()
            self._finish(flow, FlowErrorCode.ABORTED)
            return
        if flow.relay is not None or flow.remote_socket is not None:
            return
        flow.reason = "its provider died"
        if flow.state is FlowState.OPENING:
            return
        if flow.program is not None:
            reset_on_close(flow.program)
        self._finish(flow, FlowErrorCode.ABORTED)

    def _finish(self, flow: TCPInterceptedFlow, error: int) -> None:
        """Close what is open, count, and tell the pipeline."""
        self._held.pop(flow.key, None)
        self.relays.discard(flow)
        self._with_sockets.discard(flow)
        self._attached.discard(flow)
        if flow.relay is not None:
            flow.bytes_out, flow.bytes_in = flow.relay.sent, flow.relay.received
        else:
            if flow.program is not None:
                flow.bytes_out, flow.bytes_in = byte_counts(flow.program)
                if not error and flow.attached:
                    _shut(flow.program)
                flow.program.close()
            if flow.remote_socket is not None:
                self._reactor.unregister(flow.remote_socket.fileno())
                flow.remote_socket.close()
        if flow.provider_end is not None:
            flow.provider_end.close()
        flow.relay = flow.program = flow.remote_socket = flow.provider_end = flow.inspection = None
        self._pipeline.finish(flow, error)

    def is_busy(self) -> bool:
        """Whether bytes that a program sent are still on their way, although the program may be gone."""
        waits_for_filters = any(flow.relay.is_held for flow in self.relays if flow.relay is not None)
        answers = any(ending.page for ending in self._endings)
        return bool(self._attached) or answers or waits_for_filters or self.has_undrained_relays()

    def has_undrained_relays(self) -> bool:
        """Whether a relay has not yet passed on the end of what its program sent, and no filter holds it back."""
        relays = [flow.relay for flow in self.relays if flow.relay is not None]
        return any(not relay.drained and not relay.is_held for relay in relays)

    def close_all(self) -> None:
        """End whatever is left, at the end of the sandbox."""
        for flow in [*self._held.values(), *self.relays, *self._attached]:
            if flow.relay is not None:
                flow.relay.close()
            flow.reason = flow.reason or "the sandbox ended"
            self._decide(flow, DROP)
            self._finish(flow, FlowErrorCode.ABORTED)
        for ending in list(self._endings):
            ending.close()


def _sequence(packet: bytes) -> int:
    """The initial sequence number of a SYN, which tells a connection from a later one between the same ports."""
    return parse_head(packet).sequence if packet else -1


def _shut(program: socket.socket) -> None:
    try:
        program.shutdown(socket.SHUT_WR)
    except OSError:
        pass


__all__ = ["TCPInterceptedFlow", "TCPInterceptor", "address_text"]
