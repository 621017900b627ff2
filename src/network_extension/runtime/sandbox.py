"""`netext run`: one command behind providers, in a sandbox of its own, without root.

This process supervises. It forks the keeper (namespaces) and the engine (datapath), starts the provider processes, runs
the command, and takes everything down when the command has ended:

    netext run ─┬─ keeper      namespaces, sockets inside           linux capabilities over the sandbox only
                ├─ engine      NFQUEUE, relays, names, log          none
                ├─ provider …  one for each --provider              none
                └─ command     inside the namespaces                none

The order of starting is for speed: the slow parts (providers import asyncio) begin first, and the command begins when
all of them are ready.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from ..core.flow_decision import Policy
from ..core.resolv_conf import sandbox_resolv_conf
from ..errors import DatapathError, ExitCode, NetworkExtensionError
from ..linux import namespaces
from ..linux.reactor import READ, Reactor, Timer
from ..linux.signals import SignalReader
from . import keeper
from .channel import Channel
from .command import Command, exit_as, find_command
from .flow_log import FlowLog, open_log
from .leftovers import Leftovers
from .network_watch import NetworkWatch
from .options import EngineOptions, RunOptions, SandboxOptions
from .provider_supervisor import ProviderSupervisor, describe_status
from .supervisor_process import changed_children, failure_of, raise_descriptor_limit
from .system_files import resolv_conf
from .wire import MessageType

if TYPE_CHECKING:
    from .trace_file import TraceFile

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTSTP,  # blocked here: `netext` stops when the command has stopped, and not if it does not (Ctrl-Z in vi)
)
STOP_REASON_NONE = 0
PACKET_FILTER = "filter-packet"
ENGINE_RESTARTS = 5
FINISH_TIMEOUT = 40.0  # more than the engine lingers for bytes that the command sent last
SLEEP_INTERVAL = 1.0
PATH_SETTLES = 0.05


def has_ipv6() -> bool:
    """Whether the host has an IPv6 address beyond loopback and link."""
    try:
        with open("/proc/net/if_inet6") as table:
            return any(line.split()[3] not in ("10", "20") for line in table)
    except OSError:
        return False


class Sandbox:
    """One run."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._program = find_command(options.command[0])
        self._trace = _trace_file(options)
        self._log_descriptor = open_log(options.log_file)
        self._log = FlowLog(options.log_mode, self._log_descriptor)
        self._reactor = Reactor(time.monotonic, self._fault)
        self._signals = SignalReader((*FORWARDED, signal.SIGCHLD))
        self._command: Command | None = None
        self._finish_timer: Timer | None = None
        self._failure: NetworkExtensionError | None = None
        self._kit_ready = self._engine_ready = self._finishing = self._has_packet_queue = False
        self._engine_pid = self._keeper_pid = self._engine_deaths = 0
        self._ready_slots: set[int] = set()
        self._engine: Channel | None = None
        self._control, self._keeper_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._resolv_conf = resolv_conf()
        self._ipv6 = has_ipv6()
        self._providers = ProviderSupervisor(
            self._reactor,
            options.providers,
            hang_timeout=options.hang_timeout,
            signal_mask=self._signals.mask_before,
            report=self._log.event,
            attach=self._attach,
            state_changed=self._provider_state,
            engine_is_there=lambda: self._engine_ready,
            progressed=self._progress,
            grace=options.grace,
        )

    def run(self) -> int:
        """Run to the end; the exit status."""
        namespaces.process_control(namespaces.PR_SET_CHILD_SUBREAPER, 1)
        raise_descriptor_limit()
        self._reactor.register(self._signals.fileno(), READ, self._signalled)
        try:
            self._start_keeper()
            self._start_engine()
            self._providers.start()
            if self._options.providers:
                NetworkWatch(self._reactor, self._providers, self._log.event)
            self._reactor.run()
        finally:
            self._take_down()
        if self._failure is not None:
            raise self._failure
        assert self._command is not None and self._command.status is not None
        return exit_as(self._command.status)

    def _start_keeper(self) -> None:
        options = SandboxOptions(
            ipv6=self._ipv6,
            resolv_conf=sandbox_resolv_conf(self._resolv_conf, keeper.RUNTIME_ADDRESSES[0]),
            trace=self._options.trace is not None,
            overflow_open=self._options.policy is not Policy.CLOSED,
        )
        self._keeper_pid = os.fork()
        if self._keeper_pid == 0:
            self._control.close()
            keeper.run(self._keeper_end, options, os.getgid())
        self._keeper_end.close()
        self._reactor.register(self._control.fileno(), READ, self._keeper_speaks)

    def _start_engine(self) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        options = EngineOptions(
            providers=tuple(provider.name for provider in self._providers.providers),
            kinds=tuple(provider.kind for provider in self._providers.providers),
            policy=self._options.policy,
            deadline=self._options.deadline,
            log_mode=self._options.log_mode,
            log_descriptor=self._log_descriptor,
            trace=self._trace,
            ipv6=self._ipv6,
            grace=self._options.grace,
            resolv_conf=self._resolv_conf,
        )
        self._has_packet_queue = False
        self._engine_pid = os.fork()
        if self._engine_pid == 0:
            mine.close()
            from .engine import run as run_engine  # the slowest import of all, and nobody else's

            trace = {self._trace.fileno()} if self._trace is not None else set()
            run_engine(theirs, options, trace | {self._log_descriptor})
        theirs.close()
        self._engine = Channel(mine)
        self._reactor.register(mine.fileno(), READ, self._engine_speaks)
        if self._kit_ready:
            self._equip_engine()

    def _keeper_speaks(self, events: int) -> None:
        """Its reports, in the order of `keeper.run`; afterwards nothing comes but the end."""
        data = self._control.recv(4096)
        word, _, text = data.decode().partition(":")
        if word == "unshared":
            try:
                namespaces.map_identity(self._keeper_pid, os.getuid(), os.getgid())
                self._control.send(b"mapped")
            except DatapathError as error:
                self._fail(forbidden(error))
        elif word == "ready":
            self._kit_ready = True
            self._reactor.unregister(self._control.fileno())
            self._equip_engine()
        elif word == "error":
            number, code, words = text.split(":", 2)
            self._fail(forbidden(DatapathError(words, errno=int(number), exit_code=int(code))))
        else:
            self._fail(DatapathError("the sandbox's keeper died while it was setting up; next step: netext doctor"))

    def _equip_engine(self) -> None:
        """Give the engine the sockets that reach into the sandbox."""
        kit = keeper.take_kit(self._control)
        descriptors = [descriptor for descriptor in kit if descriptor >= 0]
        assert self._engine is not None
        self._engine.send(MessageType.KIT, os.getpid(), None, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def _engine_speaks(self, events: int) -> None:
        assert self._engine is not None
        for kind, number, _, fds in self._engine.receive():
            for descriptor in fds:
                os.close(descriptor)
            if kind is MessageType.ENGINE_READY:
                self._engine_ready = True
                self._providers.connect_all()
            elif kind is MessageType.PROVIDER_STATE:
                self._ready_slots.add(number)
            elif kind is MessageType.FINISHED:
                self._finishing = True
                self._reactor.stop()
        if self._engine.eof:
            self._reactor.unregister(self._engine.fileno())
        self._progress()

    def _attach(self, index: int, body: dict[str, Any], descriptor: int) -> None:
        assert self._engine is not None
        queue: tuple[int, ...] = ()
        if body["kind"] == PACKET_FILTER and not self._has_packet_queue:
            try:
                queue = (keeper.take_packet_queue(self._control),)
            except (DatapathError, OSError) as error:
                self._no_packet_queue(error)
                return
            self._has_packet_queue = True
        self._engine.send(MessageType.ATTACH_PROVIDER, index, body, (descriptor, *queue))
        for taken in queue:
            os.close(taken)

    def _no_packet_queue(self, error: DatapathError | OSError) -> None:
        """A packet filter without packets would let all through: before the command starts, that ends the run."""
        if self._command is None:
            self._fail(error if isinstance(error, DatapathError) else DatapathError(str(error)))
        else:
            self._log.event("limit", f"packet filters: {error}; they see no packets from now on")

    def _provider_state(self, index: int, state: str) -> None:
        self._ready_slots.discard(index)
        if self._engine is not None and self._engine_ready:
            self._engine.send(MessageType.PROVIDER_STATE, index, {"state": state})

    def _progress(self) -> None:
        """Something became ready, or failed: start the command when nothing is missing."""
        if self._providers.failure is not None and self._command is None:
            self._fail(self._providers.failure)
        elif self._command is None and self._failure is None and self._all_ready:
            self._start_command()

    @property
    def _all_ready(self) -> bool:
        return self._engine_ready and len(self._ready_slots) == len(self._options.providers)

    def _start_command(self) -> None:
        self._providers.command_started = True
        try:
            self._command = Command(self._program, self._options.command, self._keeper_pid, self._signals.mask_before)
        except NetworkExtensionError as error:
            self._fail(error)

    def _signalled(self, events: int) -> None:
        for received in self._signals.read():
            if received.number == signal.SIGCHLD:
                self._reap()
            elif self._command is not None:
                self._command.forward(received)
            elif received.number == signal.SIGTSTP:
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                self._fail(
                    NetworkExtensionError(
                        f"stopped by {signal.Signals(received.number).name} before the command started"
                    )
                )

    def _reap(self) -> None:
        for pid, status in changed_children(os.WUNTRACED):
            if os.WIFSTOPPED(status):
                if self._command is not None and pid == self._command.pid:
                    self._command.stopped()
            else:
                self._ended(pid, status)

    def _ended(self, pid: int, status: int) -> None:
        if self._command is not None and pid == self._command.pid:
            self._command.status = status
            self._command_ended()
        elif pid == self._engine_pid:
            self._engine_died(status)
        elif pid == self._keeper_pid:
            self._keeper_pid = 0
            if not self._finishing and self._failure is None and self._kit_ready:
                self._log.event(
                    "keeper", f"keeper: {describe_status(status)}; no new UDP flows and no new engine from now on"
                )
        else:
            self._providers.reaped(pid, status)

    def _engine_died(self, status: int) -> None:
        """Start another engine; its flows are gone, the sandbox and the command stay."""
        self._engine_pid, self._engine_ready = 0, False
        if self._finishing:
            return  # it has done its work; providers may still be at theirs
        if self._failure is not None or (self._command is not None and self._command.status is not None):
            self._reactor.stop()
            return
        self._engine_deaths += 1
        what = f"engine: {describe_status(status)}; its flows are cut"
        if self._command is None or self._engine_deaths > ENGINE_RESTARTS:
            self._log.event("engine", f"{what}; not started again, so the command has no network", state="dead")
            if self._command is None:
                self._fail(DatapathError("the engine died before the command started; next step: netext doctor"))
            return
        self._log.event("engine", f"{what}; a new one is starting, new flows wait for it", state="restarting")
        self._ready_slots.clear()
        self._start_engine()

    def _command_ended(self) -> None:
        """End what it left running, then the flows."""
        try:
            link = os.readlink(f"/proc/{self._keeper_pid}/ns/net")
        except OSError:  # without its keeper the sandbox is not known any more
            self._end_flows()
            return
        Leftovers(self._reactor, link, self._keeper_pid, self._log.event, self._end_flows).end()

    def _end_flows(self) -> None:
        if self._engine is None or not self._engine_ready:
            self._reactor.stop()
            return
        self._engine.send(MessageType.FINISH)
        self._finish_timer = self._reactor.call_later(FINISH_TIMEOUT, self._reactor.stop)

    def _fail(self, error: NetworkExtensionError) -> None:
        """Give up; the first reason is the one that is told."""
        if self._failure is None:
            self._failure = error
        self._reactor.stop()

    def _take_down(self) -> None:
        """Stop providers, engine and keeper, in this order, each within its time."""
        self._finishing = True
        if self._finish_timer is not None:
            self._finish_timer.cancel()  # it must not cut the providers' grace period short
        self._providers.stop(STOP_REASON_NONE, self._options.grace)
        deadline = self._reactor.clock() + self._options.grace + 3.0
        self._reactor.call_later(self._options.grace + 3.0, self._reactor.stop)
        self._providers.progressed = lambda: self._reactor.stop() if self._providers.all_stopped else None
        # again and again: whatever else may stop the reactor must not cut the providers' time short
        while not self._providers.all_stopped and self._reactor.clock() < deadline:
            self._reactor.run()
        for provider in self._providers.providers:
            if provider.cancelled_tasks:
                count = provider.cancelled_tasks
                text = (
                    f"provider {provider.name}: {count} task{'s' if count != 1 else ''} cut off after the grace period"
                )
                self._log.event("provider", text, provider=provider.name, cancelled=provider.cancelled_tasks)
        if self._engine is not None:
            self._engine.close()
        if self._trace is not None and not self._engine_pid:
            self._trace.cut()  # what a killed engine left half-written; a living one still writes
        self._control.close()

    def _fault(self, error: Exception) -> None:
        self._fail(failure_of(error))


def _trace_file(options: RunOptions) -> TraceFile | None:
    if options.trace is None:
        return None
    from .trace_file import TraceFile

    return TraceFile.create(options.trace, options.command, sys.argv[1:])


def forbidden(error: DatapathError) -> DatapathError:
    """Say what to do when namespaces are forbidden; other errors stay as they are."""
    import errno

    if error.errno in (errno.EPERM, errno.ENOSPC, errno.EACCES, errno.EUSERS):
        from ..linux.user_namespaces import why_forbidden

        reason, step = why_forbidden()
        message = f"{error}: {reason}; next step: {step}, or netext doctor"
        return DatapathError(message, errno=error.errno, exit_code=ExitCode.NOT_PERMITTED)
    return error
