"""The engine: the process that owns a sandbox's datapath.

It runs in the host's network namespace with the caller's identity and no privilege of its own. The sockets that reach
into the sandbox were made there by the keeper; sockets to the outside it makes itself. One epoll loop serves them all.
If it dies, the supervisor starts another one with a fresh kit.

A provider's kind is known when it is attached (a new engine knows it from the start). Content filters come before all
proxies then, in the order of their grades; what serves them (`runtime/sandbox_filters`) is imported when the first one
comes.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any, NoReturn

from ..core.flow_decision import Policy, ProviderSlot, ProviderState
from ..core.host_names import HostNames
from ..core.packets import PacketError, flow_key
from ..core.resolv_conf import name_servers
from ..linux.echo import EchoRelay
from ..linux.nfqueue import ACCEPT, DROP, HeldPacket, Queue
from ..linux.processes import ProcessFinder
from ..linux.reactor import READ, Reactor
from ..linux.sock_diag import DestroyEvents, SocketInfo, SocketTable
from ..metadata import ProcessInfo
from ..rules import Direction
from .channel import Channel
from .dns_service import DNS_PORT, DNSService
from .engine_process import be_engine, report_fault
from .flow_log import FlowLog
from .intercepted import TCP, InterceptedFlow, Pipeline
from .keeper import Kit
from .options import EngineOptions
from .packet_injector import PacketInjector
from .provider_link import ProviderLink
from .system_files import hosts_file
from .tcp_interceptor import TCPInterceptor
from .udp_interceptor import SocketStock, UDPInterceptor
from .wire import MessageType

if TYPE_CHECKING:
    from .sandbox_filters import SandboxFilters
    from .trace import Trace
    from .trace_file import TraceFile

STATISTICS_INTERVAL = 2.0
LINGER = 30.0
DRAIN_STEP = 0.005
FILTER_KINDS = "filter-"


class Engine:
    """All parts of the datapath, wired together."""

    def __init__(self, control: Channel, kit: Kit, command: int, options: EngineOptions) -> None:
        self.reactor = Reactor(time.monotonic, self._fault)
        self.log = FlowLog(options.log_mode, options.log_descriptor)
        self._control, self._number, self._options, self.policy = control, 0, options, options.policy
        self._started = time.monotonic()
        self.slots = [ProviderSlot(index, name, policy=options.policy) for index, name in enumerate(options.providers)]
        self.pipeline = Pipeline(self.reactor, self.slots, options.deadline)
        self.pipeline.describe, self.pipeline.finished, self.pipeline.decided = (
            self._describe,
            self._finished,
            self._decided,
        )
        self.pipeline.next_number = self._next_number
        self._build(kit, command, options)
        self.filters: SandboxFilters | None = None
        for index, kind in enumerate(options.kinds):
            if kind.startswith(FILTER_KINDS):
                self._filters().expect(index, kind)
        self.trace = self._start_trace(kit.tap, options.trace) if options.trace is not None else None
        self.reactor.register(control.fileno(), READ, self._told)
        self.reactor.after_each_batch(self.queue.flush)

    def _build(self, kit: Kit, command: int, options: EngineOptions) -> None:
        wrap = [socket.socket(fileno=descriptor) for descriptor in kit[1:10]]
        queue, listener4, listener6, raw4, raw6, dns_udp, dns_tcp, diag, destroyed = wrap
        overflow_open = options.policy is not Policy.CLOSED
        self.queue = Queue(queue, copy_range=0xFFFF, fail_open=overflow_open)  # whole packets: an echo returns its data
        self.names, self.injector = HostNames(), PacketInjector(raw4, raw6)
        self.names.learn_hosts_file(hosts_file())
        self.sockets, self.processes = SocketTable(diag), ProcessFinder(command)
        listeners = [listener4, listener6] if options.ipv6 else [listener4]
        self.tcp = TCPInterceptor(
            self.reactor, self.queue, self.pipeline, self.injector, listeners, self._socket_exists
        )
        stock = SocketStock(self.reactor, socket.socket(fileno=kit.stock))
        events = DestroyEvents(destroyed)
        self.udp = UDPInterceptor(self.reactor, self.queue, self.pipeline, self.injector, stock, events, self._socket)
        self.echo = EchoRelay(self.reactor, self._deliver_echo)
        servers = [(server, DNS_PORT) for server in name_servers(options.resolv_conf)]
        self.dns = DNSService(self.reactor, dns_udp, dns_tcp, servers, self.names)
        self.reactor.register(self.queue.fileno(), READ, self._packets)
        self._overflows = 0
        self.reactor.call_later(STATISTICS_INTERVAL, self._watch_queue)

    def _start_trace(self, tap: int, file: TraceFile) -> Trace | None:
        if tap < 0:
            self.log.event("trace", f"trace {file.path}: the kernel gives no packet ring; nothing is written to it")
            return None
        from ..linux.packet_tap import PacketTap
        from .trace import Trace

        packets = PacketTap(socket.socket(fileno=tap))
        return Trace(file, packets, self.reactor, lambda: self._packets(READ), self.log.event)

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _packets(self, events: int) -> None:
        """First packets came from the queue."""
        for packet in self.queue.receive():
            try:
                self._packet(packet)
            except Exception as error:  # one packet's fault is not that of the others
                self._fault(error)

    def _packet(self, packet: HeldPacket) -> None:
        try:
            key = flow_key(packet.payload)
        except PacketError:  # neither TCP nor UDP: an echo request
            self.queue.decide(packet.id, DROP)
            if self.filters is None:
                self.echo.request(packet.payload)
            else:
                self.filters.echo_request(packet.payload)
            return
        if key[0] == TCP:
            self.tcp.held_packet(packet, key, self._next_number())
        else:
            self.udp.held_packet(packet, key, self._next_number())

    def _deliver_echo(self, packet: bytes) -> None:
        if self.filters is not None and not self.filters.echo_reply(packet):
            return
        self.deliver(packet)

    def deliver(self, packet: bytes) -> None:
        """Give a packet of our own to the program."""
        destination = packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]
        self.injector.send(packet, destination)

    def describe_peer(self, flow: Any) -> None:
        """What is the far side of a flow called? (A `FilteredFlow` that is no flow of the pipeline.)"""
        address = flow.key[3] if flow.direction is Direction.OUTBOUND else flow.key[1]
        if (known := self.names.lookup(address, self.reactor.clock())) is not None:
            flow.host, flow.name_source = known

    def _describe(self, flow: InterceptedFlow) -> None:
        """Who made the flow, and what is its destination called?"""
        if (known := self.names.lookup(flow.key[3], self.reactor.clock())) is not None:
            flow.host, flow.name_source = known
        flow.process = self._process_of(flow)
        if self.trace is not None:
            self.trace.first_packet(flow)

    def _process_of(self, flow: InterceptedFlow) -> ProcessInfo | None:
        return self.processes.owner(lambda: self._inode(flow))

    def _socket(self, flow: InterceptedFlow) -> SocketInfo | None:
        """The program's socket, as long as it is there."""
        protocol, source, port, destination, remote_port = flow.key
        return self.sockets.find(protocol, (source, port), (destination, remote_port))

    def _inode(self, flow: InterceptedFlow) -> int | None:
        found = self._socket(flow)
        return found.inode if found is not None else None

    def _socket_exists(self, flow: InterceptedFlow) -> bool:
        return self._socket(flow) is not None

    def _decided(self, flow: InterceptedFlow) -> None:
        self.log.opened(flow)
        if self.trace is not None:
            self.trace.decided(flow)

    def _finished(self, flow: InterceptedFlow) -> None:
        self.log.flow(flow, self.reactor.clock())
        if self.trace is not None:
            self.trace.decided(flow)

    def _told(self, events: int) -> None:
        """The supervisor speaks, or is gone."""
        for kind, number, body, fds in self._control.receive():
            if kind is MessageType.ATTACH_PROVIDER:
                self._attach_provider(number, body, fds)
            elif kind is MessageType.PROVIDER_STATE:
                self._set_state(number, ProviderState(body["state"]))
            elif kind is MessageType.FINISH:
                self._finish()
            for descriptor in fds:
                os.close(descriptor)
        if self._control.eof:
            self.reactor.stop()

    def _set_state(self, index: int, state: ProviderState) -> None:
        self.slots[index].state = state
        if self.filters is not None:
            self.filters.set_state(index, state)

    def _attach_provider(self, index: int, body: dict[str, Any], descriptors: list[int]) -> None:
        slot = self.slots[index]
        if not descriptors:  # out of descriptors when the message came: the provider stays dead, its policy applies
            self.log.event("limit", f"provider {slot.name}: no descriptor left for it; raise ulimit -n")
            return
        slot.state, slot.name = ProviderState.STARTING, str(body.get("name") or slot.name)
        kind = str(body.get("kind", ""))
        channel = Channel(socket.socket(fileno=descriptors.pop(0)))
        if kind.startswith(FILTER_KINDS):
            queue = socket.socket(fileno=descriptors.pop(0)) if descriptors else None
            self._filters().attach(index, kind, channel, int(body.get("pid", 0)), queue)
        else:
            self.pipeline.links[index] = ProviderLink(
                self.reactor, self.pipeline, slot, channel, self._lost, self._running
            )

    def _filters(self) -> SandboxFilters:
        """What serves content filters, from the first of them on."""
        if self.filters is None:
            from .sandbox_filters import SandboxFilters

            self.filters = SandboxFilters(self, self._options, self._process_of)
        return self.filters

    def running(self, index: int) -> None:
        """A provider has greeted: the supervisor waits for that."""
        self._control.send(MessageType.PROVIDER_STATE, index)

    def _running(self, link: ProviderLink) -> None:
        self.running(link.slot.index)

    def _lost(self, link: ProviderLink, why: str) -> None:
        self.lost(link.slot.name, link.slot.policy, why)

    def lost(self, name: str, policy: Policy, why: str) -> None:
        """A provider's channel has ended."""
        text = f"provider {name}: {why}; its flows get policy {policy.value}"
        self.log.event("provider", text, provider=name, state="dead", policy=policy.value)

    def _watch_queue(self) -> None:
        """Report packets that the kernel could not hand over since the last look."""
        if self.queue.overflows > self._overflows:
            count, self._overflows = self.queue.overflows - self._overflows, self.queue.overflows
            text = f"packet queue: overflowed {count} times; policy open lets such flows in, else programs try again"
            self.log.event("queue", text, overflows=count)
        self.reactor.call_later(STATISTICS_INTERVAL, self._watch_queue)

    def _finish(self, waited: float = 0.0) -> None:
        """The command has ended. What it sent must still go out, as it would from a kernel socket; then end the flows.

        Provider-carried flows get the providers' grace period for it, relayed ones `LINGER` seconds.
        """
        limit = LINGER if self.tcp.has_undrained_relays() else self._options.grace
        if waited < limit and (self.tcp.is_busy() or self.udp.is_busy() or waited < DRAIN_STEP):
            self.reactor.call_later(DRAIN_STEP, lambda: self._finish(waited + DRAIN_STEP))
            return
        try:
            self.tcp.close_all()
            self.udp.close_all()
            self.dns.close()
            if self.filters is not None:
                self.filters.close()
            self._end_trace()
            self.log.summary(time.monotonic() - self._started, self.dns.queries)
        finally:
            self._control.send(MessageType.FINISHED)
            self.reactor.stop()

    def _fault(self, error: Exception) -> None:
        report_fault(self.log, error)

    def run(self) -> None:
        """Serve until told to finish, or until the supervisor is gone."""
        self._control.send(MessageType.ENGINE_READY)
        try:
            self.reactor.run()
        finally:
            self._end_trace()

    def _end_trace(self) -> None:
        if self.trace is not None:
            self.trace.close()


def run(control: socket.socket, options: EngineOptions, keep: set[int]) -> NoReturn:
    """Be an engine, in a freshly forked process; never returns. Closes every descriptor but 0-2 and `keep`."""

    def serve(channel: Channel) -> None:
        kit, command = _wait_for_kit(channel)
        if kit is not None:
            Engine(channel, kit, command, options).run()

    be_engine(control, keep, serve)


def _wait_for_kit(channel: Channel) -> tuple[Kit | None, int]:
    import select

    while not channel.eof:
        select.select([channel], [], [])
        for kind, command, _, fds in channel.receive(1):
            if kind is MessageType.KIT and len(fds) >= 10:
                return Kit(*fds), command
    return None, 0


__all__ = ["ACCEPT", "Engine", "EngineOptions", "run"]
