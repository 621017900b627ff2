"""The engine of `netext filter`: the process that holds the kernel's end of the host datapath.

    kernel ── NFQUEUE ──▶ HostFlows ──▶ FilterStage ══▶ provider processes
       ▲                     │
       └── verdict + mark ───┘

It runs as root with five capabilities (`KEPT`). If it dies, the supervisor starts another one. Until then its table is
gone (policy open), or drops what is undecided (policy closed).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import NoReturn

from ..core.flow_decision import Policy, ProviderState
from ..core.packets import UDP
from ..errors import DatapathError, NetworkExtensionError
from ..linux import conntrack
from ..linux.attribution import Attribution
from ..linux.filter_ruleset import (
    DNS_QUEUE,
    PACKET_QUEUE,
    QUEUE,
    TABLE,
    FilterRuleset,
    FilterRulesetOptions,
    remove_leftover,
)
from ..linux.nfqueue import HeldPacket, Queue
from ..linux.nfqueue import open_socket as open_queue_socket
from ..linux.privileges import Capability, keep_only
from ..linux.reactor import READ, Reactor
from .channel import Channel
from .filter_link import FilterLink
from .filter_log import HostFilterLog
from .filter_stage import DATA, FilterStage
from .host_description import FlowDescriber
from .host_filter_options import HostEngineOptions
from .host_flow import HostFlow
from .host_flows import HostFlows
from .host_kernel import HostKernel
from .host_packet_queue import HostPacketQueue
from .wire import MessageType

KEPT = (Capability.NET_ADMIN, Capability.NET_RAW, Capability.SYS_PTRACE, Capability.DAC_READ_SEARCH, Capability.BPF)
QUEUE_LENGTH, DNS_QUEUE_LENGTH = 16384, 4096
QUEUE_BUFFER = 32 << 20
WATCH_INTERVAL = 2.0
PROBE_PORT, PROBE_TIMEOUT = 9, 1.0
"""The self-check: a datagram to the discard port of loopback must come through the queue."""


class HostEngine:
    """All parts of the host datapath, wired together."""

    def __init__(self, control: Channel, options: HostEngineOptions) -> None:
        self.reactor = Reactor(time.monotonic, self._fault)
        self.log = HostFilterLog(options.log_mode, options.log_descriptor)
        self._control, self._options = control, options
        self._started = time.monotonic()
        self.attribution = Attribution()
        keep_only(KEPT)
        self.stage = FilterStage(self.reactor, deadline=options.deadline, policy=options.policy, log=self.log.event)
        self._kinds = [DATA] * len(options.providers)  # until they say what they are
        for index, name in enumerate(options.providers):
            self.stage.expect(index, name, DATA)
        if not self.log.is_quiet:
            self.stage.decided = self.log.decided
        self.describer = FlowDescriber(self.attribution, self.reactor.clock, options.supervisor)
        self.describer.names.learn_hosts_file(_read("/etc/hosts"))
        self.ruleset: FilterRuleset | None = None
        self.flows: HostFlows | None = None
        self._overflows = 0
        self._accounting_was = True
        self._packet_queue: HostPacketQueue | None = None
        self._loopback = False
        self.reactor.register(control.fileno(), READ, self._told)

    # Into force

    def arm(self) -> None:
        """Bind the queues, put the rules into force, and see that traffic comes. Raises DatapathError."""
        options = self._options
        is_open = options.policy is not Policy.CLOSED
        self.queue = _queue(QUEUE, QUEUE_LENGTH, 0xFFFF, fail_open=is_open)
        dns_queue = _queue(DNS_QUEUE, DNS_QUEUE_LENGTH, 0xFFFF, fail_open=True)
        self.kernel = HostKernel(self.reactor, options.mark_mask)
        flows = self.flows = HostFlows(
            self.reactor, self.queue, self.stage, self.kernel, options.policy, offer=options.established == "offer"
        )
        flows.describe = self._describe
        self.kernel.socket_closed = flows.closed_socket
        self.stage.update_forgotten = flows.update_forgotten
        self.reactor.register(self.queue.fileno(), READ, flows.packets)
        self.reactor.register(dns_queue.fileno(), READ, lambda events: self.describer.read_answers(dns_queue))
        self.reactor.after_each_batch(flows.after_batch)
        self.reactor.after_each_batch(self._follow_loopback)
        self.reactor.after_each_batch(dns_queue.flush)
        self._switch_accounting(True)
        self._put_rules_into_force()
        checked = self._self_check(flows)
        self.reactor.call_later(WATCH_INTERVAL, self._watch)
        self._say_what_is_in_force(checked)
        self._control.send(MessageType.KIT)

    def _put_rules_into_force(self) -> None:
        options = self._options
        if self.stage.packets and self._packet_queue is None:
            is_open = options.policy is not Policy.CLOSED
            queue = _queue(PACKET_QUEUE, DNS_QUEUE_LENGTH, 0xFFFF, fail_open=is_open)
            self._packet_queue = HostPacketQueue(self.reactor, queue, self.stage.packets, self.describer.interface)
        self.ruleset = FilterRuleset(
            FilterRulesetOptions(
                queue=QUEUE,
                packet_queue=PACKET_QUEUE if self._packet_queue is not None else None,
                dns_queue=DNS_QUEUE,
                mask=options.mark_mask,
                closed=options.policy is Policy.CLOSED,
                established=options.established,
                inbound=options.inbound,
            )
        )
        self.ruleset.install()

    def _say_what_is_in_force(self, checked: str) -> None:
        assert self.ruleset is not None
        options, ruleset = self._options, self.ruleset
        queue = f"{'nft' if ruleset.native_queue else 'xt'} queue {QUEUE}"
        ways = "in and out" if options.inbound else "out"
        older = "kept" if options.established == "keep" else "offered"
        text = (
            f"filter in force: table inet {TABLE}, {queue}, marks {options.mark_mask:#x}, policy"
            f" {options.policy.value}, flows {ways}, established ones {older},"
            f" programs by {self.attribution.how}, {checked}"
        )
        self.log.event(
            "in-force", text, table=TABLE, queue=QUEUE, policy=options.policy.value, attribution=self.attribution.how
        )

    def _self_check(self, flows: HostFlows) -> str:
        """One datagram of ours to ourselves must come out of the queue, where nobody waits for it."""
        assert self.ruleset is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", 0))
                self.ruleset.set_loopback(True)
                self.describer.probe = (UDP, b"\x7f\0\0\1", probe.getsockname()[1], b"\x7f\0\0\1", PROBE_PORT)
                probe.sendto(b"netext", ("127.0.0.1", PROBE_PORT))
            except OSError as error:
                return f"not checked ({error.strerror} on loopback)"
            else:
                if not self._await_probe(flows):
                    raise DatapathError(
                        "no traffic comes out of the packet queue: another table accepts or steals packets before it",
                        object=f"nft table inet {TABLE}",
                        next_step="next step: nft list ruleset, and netext doctor",
                    )
                return "self-check passed"
            finally:
                self.describer.probe = None
                self._loopback = self._wants_loopback()
                self.ruleset.set_loopback(self._loopback)

    def _await_probe(self, flows: HostFlows) -> bool:
        deadline = time.monotonic() + PROBE_TIMEOUT
        while self.describer.probe is not None and (left := deadline - time.monotonic()) > 0:
            select.select([self.queue], [], [], left)
            flows.packets(READ)
            self.stage.flush()
            flows.after_batch()
        return self.describer.probe is None

    def _wants_loopback(self) -> bool:
        """Whether any filter has rules for loopback."""
        return bool(getattr(self.stage, "wants_loopback", False))

    def _follow_loopback(self) -> None:
        """Filters change their rules at any time."""
        if self.ruleset is not None and (wanted := self._wants_loopback()) is not self._loopback:
            self._loopback = wanted
            self.ruleset.set_loopback(wanted)

    def _switch_accounting(self, on: bool) -> None:
        """Byte counts of connections, for reports; the host's setting comes back at the end."""
        if on:
            self._accounting_was = conntrack.accounting() is not False
            if not self._accounting_was:
                conntrack.set_accounting(True)
        elif not self._accounting_was:
            conntrack.set_accounting(False)

    # Flows

    def _describe(self, flow: HostFlow, packet: HeldPacket) -> bool:
        """What is known of a new flow. True for our own."""
        if self.describer.describe(flow, packet):
            return True
        if not self.stage.has_filters:
            flow.outcome, flow.by = "allowed", "nobody: there is no filter"
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
        if self.stage.packets and self.ruleset is not None and self._packet_queue is None:
            self.ruleset.abandon()  # policy closed, or it would be in force only now: the table stays until the next
            self._put_rules_into_force()

    def _running(self, link: FilterLink) -> None:
        self._control.send(MessageType.PROVIDER_STATE, link.slot.index)

    def _lost(self, link: FilterLink, why: str) -> None:
        policy = self._options.policy.value
        text = f"provider {link.slot.name}: {why}; its flows get policy {policy}"
        self.log.event("provider", text, provider=link.slot.name, state="dead", policy=policy)

    def _watch(self) -> None:
        """Report packets that the kernel could not hand over since the last look; follow rules for loopback."""
        assert self.flows is not None and self.ruleset is not None
        count = self.queue.overflows + self.flows.overflows
        if count > self._overflows:
            new, self._overflows = count - self._overflows, count
            means = "their flows pass" if self._options.policy is not Policy.CLOSED else "their packets are dropped"
            self.log.event("queue", f"packet queue: full {new} times since the last look; {means}", overflows=new)
        self.describer.forget_interfaces()
        self.reactor.call_later(WATCH_INTERVAL, self._watch)

    def _finish(self) -> None:
        """What waits gets the policy's verdict, then the rules go."""
        try:
            if self.flows is not None:
                self.flows.finish()
            if self.ruleset is not None:
                self.ruleset.close()
                self.ruleset = None
                self._switch_accounting(False)
                self.log.session(time.monotonic() - self._started, self.describer.own_flows, self._overflows)
        finally:
            self._control.send(MessageType.FINISHED)
            self.reactor.stop()

    def _fault(self, error: Exception) -> None:
        """A fault of ours in one callback: say it, go on with the others."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "?"
        self.log.event("fault", f"fault in the engine at {place}: {type(error).__name__}: {error}; please report it")
        if os.environ.get("NETEXT_DEBUG"):
            import traceback

            traceback.print_exception(error)

    def run(self) -> None:
        """Serve until told to finish, or until the supervisor is gone."""
        self._control.send(MessageType.ENGINE_READY)
        self.reactor.run()
        self.attribution.close()


def _queue(number: int, maximum: int, copy_range: int, *, fail_open: bool) -> Queue:
    return Queue(
        open_queue_socket(), number, copy_range=copy_range, maximum=maximum, fail_open=fail_open,
        force_buffer=QUEUE_BUFFER,
    )  # fmt: skip


def remove_leftovers() -> str:
    """Take away the table that a filter with policy closed left behind; in words, what was there."""
    if remove_leftover():
        return f"table inet {TABLE} is taken away; the network is as before"
    return f"there is no table inet {TABLE}: nothing to take away"


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def run(control: socket.socket, options: HostEngineOptions, keep: set[int]) -> NoReturn:
    """Be an engine, in a freshly forked process; never returns. Closes every descriptor but 0-2 and `keep`."""
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        _close_others(keep | {0, 1, 2, control.fileno()})
        _run_engine(Channel(control), options)
        status = 0
    except KeyboardInterrupt:
        pass
    except BaseException as error:
        os.write(2, f"netext: the engine failed: {type(error).__name__}: {error}\n".encode())
        if os.environ.get("NETEXT_DEBUG"):
            import traceback

            traceback.print_exc()
    finally:
        os._exit(status)


def _run_engine(channel: Channel, options: HostEngineOptions) -> None:
    try:
        engine = HostEngine(channel, options)
    except NetworkExtensionError as error:
        channel.send(MessageType.START_FAILED, 0, {"error": str(error), "code": int(error.exit_code)})
        return
    engine.run()


def _close_others(keep: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                continue
