"""The engine of `netext filter`: the process that holds the kernel's end of the host datapath.

    kernel ── NFQUEUE ──▶ HostFlows ──▶ FilterStage ══▶ provider processes
       ▲                     │
       └── verdict + mark ───┘

It runs as root with five capabilities (`KEPT`). If it dies, the supervisor starts another one. Until then its table is
gone (policy open), or drops what is undecided (policy closed).
"""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Callable
from typing import NoReturn

from ..core.flow_decision import Policy, ProviderState
from ..errors import DatapathError, NetworkExtensionError
from ..linux.attribution import Attribution
from ..linux.filter_ruleset import (
    DNS_QUEUE,
    PACKET_QUEUE,
    QUEUE,
    TABLE,
)
from ..linux.nfqueue import HeldPacket
from ..linux.privileges import Capability, keep_only
from ..linux.reactor import READ, Reactor
from .channel import Channel
from .engine_process import be_engine, report_fault
from .filter_hello import FilterHello
from .filter_link import FilterLink
from .filter_log import HostFilterLog
from .filter_stage import DATA, FilterStage
from .host_description import FlowDescriber
from .host_filter_options import HostEngineOptions
from .host_flow import HostFlow
from .host_flows import HostFlows
from .host_kernel import HostKernel
from .host_packet_queue import HostPacketQueue
from .host_rules import HostRules, open_queue
from .system_files import hosts_file
from .wire import MessageType

KEPT = (Capability.NET_ADMIN, Capability.NET_RAW, Capability.SYS_PTRACE, Capability.DAC_READ_SEARCH, Capability.BPF)
QUEUE_LENGTH, DNS_QUEUE_LENGTH = 16384, 4096
WATCH_INTERVAL = 2.0


class _Stage(FilterStage):
    """A stage that says when a filter has new settings: rules for loopback need another chain in the kernel."""

    settings_changed: Callable[[], None]

    def greeted(self, link: FilterLink, hello: FilterHello) -> None:
        """HELLO; the filter is told that its settings hold when this returns."""
        super().greeted(link, hello)
        self.settings_changed()


class HostEngine:
    """All parts of the host datapath, wired together."""

    def __init__(self, control: Channel, options: HostEngineOptions) -> None:
        self.reactor = Reactor(time.monotonic, self._fault)
        self.log = HostFilterLog(options.log_mode, options.log_descriptor)
        self._control, self._options = control, options
        self._started = time.monotonic()
        self.attribution = Attribution()
        keep_only(KEPT)
        self.stage = _Stage(self.reactor, deadline=options.deadline, policy=options.policy, log=self.log.event)
        self._kinds = [DATA] * len(options.providers)  # until they say what they are
        for index, name in enumerate(options.providers):
            self.stage.expect(index, name, DATA)
        if not self.log.is_quiet:
            self.stage.decided = self.log.decided
        self.describer = FlowDescriber(self.attribution, self.reactor.clock, options.supervisor)
        self.describer.names.learn_hosts_file(hosts_file())
        self.rules = HostRules(options, self.describer, lambda: self.stage.wants_loopback)
        self.stage.settings_changed = self._settings_changed
        self.flows: HostFlows | None = None
        self._overflows = self._foreign = 0
        self.reactor.register(control.fileno(), READ, self._told)

    # Into force

    def arm(self) -> None:
        """Bind the queues, put the rules into force, and see that traffic comes. Raises DatapathError."""
        options = self._options
        is_open = options.policy is not Policy.CLOSED
        self.queue = open_queue(QUEUE, QUEUE_LENGTH, fail_open=is_open)
        dns_queue = open_queue(DNS_QUEUE, DNS_QUEUE_LENGTH, fail_open=True)
        self.kernel = HostKernel(self.reactor, options.mark_mask)
        flows = self.flows = HostFlows(
            self.reactor, self.queue, self.stage, self.kernel, options.policy, offer=options.established == "offer"
        )
        flows.describe = self._describe
        if not self.log.is_quiet:
            flows.told = self.log.decided
        self.kernel.socket_closed = flows.closed_socket
        self.stage.update_forgotten = flows.update_forgotten
        self.reactor.register(self.queue.fileno(), READ, flows.packets)
        self.reactor.register(dns_queue.fileno(), READ, lambda events: self.describer.read_answers(dns_queue))
        self.reactor.after_each_batch(flows.after_batch)
        self.reactor.after_each_batch(dns_queue.flush)
        self._put_rules_into_force()
        checked = self._check()
        self.reactor.call_later(WATCH_INTERVAL, self._watch)
        text = self.rules.text(self.attribution.how, checked)
        self.log.event(
            "in-force", text, table=TABLE, queue=QUEUE, policy=options.policy.value, attribution=self.attribution.how
        )
        self._control.send(MessageType.KIT)

    def _put_rules_into_force(self) -> None:
        """Packet filters have a queue of their own, where there are any."""
        if self.stage.packets and not self.rules.has_packet_queue:
            queue = open_queue(PACKET_QUEUE, QUEUE_LENGTH, fail_open=self._options.policy is not Policy.CLOSED)
            HostPacketQueue(self.reactor, queue, self.stage.packets, self.describer.interface)
        self.rules.install(packets=bool(self.stage.packets))

    def _check(self) -> str:
        """The self-check. An engine that takes over in the midst of traffic goes on without."""
        try:
            return self.rules.check(self.queue, self._serve)
        except DatapathError as error:
            if not self._options.restarted:
                raise
            return f"self-check failed: {error}"

    def _serve(self) -> None:
        assert self.flows is not None
        self.flows.packets(READ)
        self.stage.flush()
        self.flows.after_batch()

    # Flows

    def _describe(self, flow: HostFlow, packet: HeldPacket) -> bool:
        """What is known of a new flow. True for our own."""
        if self.describer.describe(flow, packet):
            return True
        if not self.stage.has_filters:
            flow.outcome, flow.reason = "allowed", "no provider filters flows"
            self.log.decided(flow)
        return False

    # Supervisor and providers

    def _told(self, events: int) -> None:
        """The supervisor speaks, or is gone."""
        for kind, number, body, fds in self._control.receive():
            if kind is MessageType.ATTACH_PROVIDER:
                self._attach_provider(number, body, fds)
            elif kind is MessageType.PROVIDER_STATE:
                self.stage.set_state(number, ProviderState(body["state"]))
            elif kind is MessageType.KIT:
                self._arm_or_say_why_not()
            elif kind is MessageType.FINISH:
                self._finish()
            for descriptor in fds:
                os.close(descriptor)
        if self._control.eof:
            self.reactor.stop()

    def _arm_or_say_why_not(self) -> None:
        try:
            self.arm()
        except NetworkExtensionError as error:
            self._control.send(MessageType.START_FAILED, 0, {"error": str(error), "code": int(error.exit_code)})
            if self._options.restarted:
                self.rules.abandon()
            self._finish()

    def _attach_provider(self, index: int, body: dict[str, object], descriptors: list[int]) -> None:
        if not descriptors:
            self.log.event("limit", f"provider {index}: no descriptor left for it; raise ulimit -n")
            return
        channel = Channel(socket.socket(fileno=descriptors.pop()))
        name, kind, pid = str(body.get("name", "")), str(body.get("kind", DATA)), body.get("pid")
        if kind != self._kinds[index]:
            self.stage.forget(index)
            self._kinds[index] = kind
        self.stage.attach(index, name, kind, channel, pid if isinstance(pid, int) else 0, self._lost, self._running)
        if self.stage.packets and self.flows is not None and not self.rules.has_packet_queue:
            self._put_rules_into_force()  # policy closed: they are in force before it is known what the filters are

    def _running(self, link: FilterLink) -> None:
        self._control.send(MessageType.PROVIDER_STATE, link.slot.index)

    def _lost(self, link: FilterLink, why: str) -> None:
        policy = self._options.policy.value
        text = f"provider {link.slot.name}: {why}; its flows get policy {policy}"
        self.log.event("provider", text, provider=link.slot.name, state="dead", policy=policy)

    def _settings_changed(self) -> None:
        """What was dropped by the old rules is asked about again."""
        self.rules.follow_loopback()
        if self.flows is not None:
            self.flows.memory.clear()

    def _watch(self) -> None:
        """Report packets that the kernel could not hand over since the last look, and marks of others in our bits."""
        assert self.flows is not None
        count = self.queue.overflows + self.flows.overflows
        if count > self._overflows:
            new, self._overflows = count - self._overflows, count
            means = "their flows pass" if self._options.policy is not Policy.CLOSED else "their packets are dropped"
            self.log.event("queue", f"packet queue: full {new} times since the last look; {means}", overflows=new)
        self.describer.forget_interfaces()
        if not self._foreign and (count := self.rules.foreign()):
            self._foreign = count
            text = (
                f"{count} packets bear marks in our bits {self._options.mark_mask:#x} that are not ours: somebody else"
                " uses them, and such packets are not asked about; choose other bits with --mark-mask"
            )
            self.log.event("marks", text, packets=count)
        self.reactor.call_later(WATCH_INTERVAL, self._watch)

    def _finish(self) -> None:
        """What waits gets the policy's verdict, then the rules go."""
        try:
            if self.flows is not None:
                self.flows.finish()
            if self.rules.remove():
                self.log.session(time.monotonic() - self._started, self.describer.own_flows, self._overflows)
        finally:
            self._control.send(MessageType.FINISHED)
            self.reactor.stop()

    def _fault(self, error: Exception) -> None:
        report_fault(self.log, error)

    def run(self) -> None:
        """Serve until told to finish, or until the supervisor is gone."""
        self._control.send(MessageType.ENGINE_READY)
        gc.freeze()  # what was imported is no garbage
        gc.set_threshold(20_000, 20, 20)  # a flow is a few objects without cycles
        self.reactor.run()
        self.attribution.close()


def run(control: socket.socket, options: HostEngineOptions, keep: set[int]) -> NoReturn:
    """Be an engine, in a freshly forked process; never returns. Closes every descriptor but 0-2 and `keep`."""
    be_engine(control, keep, lambda channel: _serve(channel, options))


def _serve(channel: Channel, options: HostEngineOptions) -> None:
    try:
        engine = HostEngine(channel, options)
    except NetworkExtensionError as error:
        channel.send(MessageType.START_FAILED, 0, {"error": str(error), "code": int(error.exit_code)})
        return
    engine.run()
