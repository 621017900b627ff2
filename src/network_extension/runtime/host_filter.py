"""`netext filter`: content filters before all flows of a network namespace, in the foreground, as root.

This process supervises. It forks the engine, which holds the kernel's end (tables, queues, marks), starts the provider
processes, and takes everything down in order when it is told to end:

    netext filter ─┬─ engine      nft table, NFQUEUE, conntrack, log     five capabilities
                   └─ provider …  one for each --provider               none, and another user where there is one

When are the rules in force? With policy closed from the first moment on. With policy open once every filter has
started: until then the network is as it was, so a filter that never comes out of `start_filter` takes nobody's network.

What a kill -9 leaves: with policy open nothing, since the table belongs to a socket of the engine (NFT_TABLE_F_OWNER)
and the engine ends with the supervisor. With policy closed the table stays, and drops what is undecided.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ..core.flow_decision import Policy
from ..errors import DatapathError, ExitCode, NetworkExtensionError, ProviderError
from ..linux import namespaces
from ..linux.reactor import READ, Reactor
from ..linux.signals import SignalReader
from .channel import Channel
from .filter_log import HostFilterLog
from .flow_log import open_log
from .host_filter_lock import HostFilterLock
from .host_filter_options import HostEngineOptions, HostFilterOptions
from .network_watch import NetworkWatch
from .processor_sharing import ProcessorSharing
from .provider_launch import ProviderLauncher, provider_user
from .provider_supervisor import ProviderSupervisor, describe_status
from .supervisor_process import changed_children, failure_of, raise_descriptor_limit
from .wire import MessageType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
STILL_STARTING = 5.0
"""Seconds after which a filter that has not started is named."""
FIRST_PAUSE, LONGEST_PAUSE, CALM = 0.05, 10.0, 30.0
"""Seconds until a dead engine is started again: doubled with each death in a row, forgotten after a calm time."""
FINISH_TIMEOUT = 3.0
FILTER_KINDS = ("filter-data", "filter-packet", "filter-control")
STOP_REASON_USER = 1  # StopReason.USER_INITIATED, whose module would bring asyncio along


def require_root(what: str) -> None:
    """Raises DatapathError (77) with the line to type."""
    if os.geteuid() != 0:
        words = " ".join(sys.argv[1:])
        raise DatapathError(
            f"{what} needs root", next_step=f"sudo netext {words}".strip(), exit_code=ExitCode.NOT_PERMITTED
        )


class HostFilter:
    """One run."""

    def __init__(self, options: HostFilterOptions) -> None:
        require_root("netext filter")
        self._options = options
        self._user = provider_user(options.user)
        self._lock = HostFilterLock()
        self._log_descriptor = open_log(options.log_file)
        self._log = HostFilterLog(options.log_mode, self._log_descriptor)
        self._reactor = Reactor(time.monotonic, self._fault)
        self._signals = SignalReader((*ENDING, signal.SIGCHLD))
        self._failure: NetworkExtensionError | None = None
        self._engine: Channel | None = None
        self._engine_pid = self._engine_deaths = 0
        self._engine_started = 0.0
        self._engine_ready = self._armed = self._was_armed = self._finishing = False
        self._attached: set[int] = set()
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
            spawn=ProviderLauncher(self._user),
        )
        self._sharing = ProcessorSharing(self._reactor, self._processes)

    def run(self) -> int:
        """Run to the end; the exit status."""
        namespaces.process_control(namespaces.PR_SET_CHILD_SUBREAPER, 1)
        raise_descriptor_limit()
        self._reactor.register(self._signals.fileno(), READ, self._signalled)
        try:
            self._start_engine()
            self._providers.start()
            NetworkWatch(self._reactor, self._providers, self._log.event)
            self._reactor.call_later(STILL_STARTING, self._name_the_late)
            if self._options.seconds:
                self._reactor.call_later(self._options.seconds, self._reactor.stop)
            self._reactor.run()
        finally:
            self._take_down()
        if self._failure is not None:
            raise self._failure
        return 0

    def _processes(self) -> tuple[int, list[int]]:
        """The engine's and the providers' pids, 0 for those that do not run."""
        return self._engine_pid, [provider.pid for provider in self._providers.providers]

    @property
    def _closed(self) -> bool:
        return self._options.policy is Policy.CLOSED

    def _start_engine(self) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        options = HostEngineOptions(
            tuple(provider.name for provider in self._providers.providers),
            self._options.policy,
            self._options.established if not self._was_armed else "keep",
            self._options.inbound,
            self._options.mark_mask,
            self._options.log_mode,
            self._log_descriptor,
            self._options.deadline,
            os.getpid(),
            self._was_armed,
        )
        self._engine_started = self._reactor.clock()
        self._engine_pid = os.fork()
        if self._engine_pid == 0:
            mine.close()
            _be_engine(theirs, options)
        theirs.close()
        self._engine = Channel(mine)
        self._reactor.register(mine.fileno(), READ, self._engine_speaks)

    def _engine_speaks(self, events: int) -> None:
        assert self._engine is not None
        for kind, number, body, fds in self._engine.receive():
            for descriptor in fds:
                os.close(descriptor)
            if kind is MessageType.ENGINE_READY:
                self._engine_ready = True
                self._providers.connect_all()
            elif kind is MessageType.PROVIDER_STATE:
                self._attached.add(number)
            elif kind is MessageType.KIT:
                self._was_armed = self._providers.command_started = True
                self._sharing.start()
            elif kind is MessageType.FINISHED:
                self._reactor.stop()
            elif kind is MessageType.START_FAILED:
                self._engine_failed(str(body.get("error", "")), int(body.get("code", ExitCode.DATAPATH)))
        if self._engine.eof:
            self._reactor.unregister(self._engine.fileno())
        self._progress()

    def _engine_failed(self, why: str, code: int) -> None:
        """It cannot put the rules into force. The first one's failure is the run's; later ones are tried again."""
        if not self._was_armed:
            self._fail(DatapathError(why, exit_code=code))
        else:
            self._log.event("engine", f"engine: {why}")

    def _attach(self, index: int, body: dict[str, Any], descriptor: int) -> None:
        assert self._engine is not None
        if body["kind"] not in FILTER_KINDS:
            says = f"provider {body['name']} is of kind {body['kind'] or '?'}: netext filter runs filters only"
            self._fail(ProviderError(f"{says}; proxies go with netext run", exit_code=ExitCode.PROVIDER_INVALID))
            return
        self._engine.send(MessageType.ATTACH_PROVIDER, index, body, (descriptor,))

    def _provider_state(self, index: int, state: str) -> None:
        self._attached.discard(index)
        if self._engine is not None and self._engine_ready:
            self._engine.send(MessageType.PROVIDER_STATE, index, {"state": state})

    def _progress(self) -> None:
        """Something became ready, or failed: put the rules into force when their time has come."""
        if self._providers.failure is not None and not self._was_armed:
            self._fail(self._providers.failure)
        elif self._engine_ready and not self._armed and self._failure is None and self._may_arm:
            assert self._engine is not None
            self._armed = True
            self._engine.send(MessageType.KIT)

    @property
    def _may_arm(self) -> bool:
        if self._closed:
            return True
        running = {provider.index for provider in self._providers.providers if provider.state == "running"}
        return running <= self._attached and (self._was_armed or len(running) == len(self._options.providers))

    def _name_the_late(self) -> None:
        """From now on a filter that does not start is started again instead of ending the run."""
        late = [provider for provider in self._providers.providers if provider.state != "running"]
        for provider in late:
            means = "nothing flows" if self._closed else "everything flows, unfiltered"
            text = f"provider {provider.name}: has been starting for {STILL_STARTING:.0f} s; meanwhile {means}"
            self._log.event("provider", f"{text} (policy {self._options.policy.value})", provider=provider.name)
        self._providers.command_started = True

    def _signalled(self, events: int) -> None:
        for received in self._signals.read():
            if received.number == signal.SIGCHLD:
                self._reap()
            else:
                self._reactor.stop()

    def _reap(self) -> None:
        for pid, status in changed_children():
            if pid == self._engine_pid:
                self._engine_died(status)
            else:
                self._providers.reaped(pid, status)

    def _engine_died(self, status: int) -> None:
        """Start another one. What its table does until then is the policy's business."""
        self._engine_pid, self._engine_ready, self._armed = 0, False, False
        self._attached.clear()
        if self._finishing or self._failure is not None:
            self._reactor.stop()
            return
        lived = self._reactor.clock() - self._engine_started
        self._engine_deaths = 1 if lived > CALM else self._engine_deaths + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._engine_deaths - 1))
        means = "nothing undecided flows" if self._closed else "everything flows, unfiltered"
        text = f"engine: {describe_status(status)}; a new one starts in {pause:.2f} s, until then {means}"
        self._log.event("engine", text, state="restarting", pause=pause)
        self._reactor.call_later(pause, self._restart_engine)

    def _restart_engine(self) -> None:
        if not self._finishing:
            self._start_engine()

    def _fail(self, error: NetworkExtensionError) -> None:
        """Give up; the first reason is the one that is told."""
        if self._failure is None:
            self._failure = error
        self._reactor.stop()

    def _take_down(self) -> None:
        """The rules first, so that nobody waits for filters that are stopping; then the providers."""
        self._finishing = True
        if self._engine is not None and self._engine_pid:
            self._engine.send(MessageType.FINISH)
            self._run_until(lambda: not self._engine_pid, FINISH_TIMEOUT)
        if self._engine_pid:
            os.kill(self._engine_pid, signal.SIGKILL)
            self._run_until(lambda: not self._engine_pid, 1.0)
        self._providers.progressed = lambda: self._reactor.stop() if self._providers.all_stopped else None
        self._providers.stop(STOP_REASON_USER, self._options.grace)
        self._run_until(lambda: self._providers.all_stopped, self._options.grace + 3.0)
        if self._engine is not None:
            self._engine.close()
        self._lock.release()

    def _run_until(self, done: Callable[[], bool], seconds: float) -> None:
        """Serve until `done()`, at most so long: whatever else stops the reactor must not cut that short."""
        deadline = self._reactor.clock() + seconds
        timer = self._reactor.call_later(seconds, self._reactor.stop)
        while not done() and self._reactor.clock() < deadline:
            self._reactor.run()
        timer.cancel()

    def _fault(self, error: Exception) -> None:
        self._fail(failure_of(error))


def _be_engine(control: socket.socket, options: HostEngineOptions) -> NoReturn:
    """In the forked process: whatever happens, it must not go on as another supervisor."""
    try:
        from .host_filter_engine import run

        run(control, options, {options.log_descriptor})
    except BaseException as error:
        os.write(2, f"netext: the engine failed: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(1)


def remove(mark_mask: int) -> str:
    """Take away what a filter with policy closed has left behind; in words, what that was."""
    require_root("netext filter --remove")
    from .host_rules import remove_leftovers

    lock = HostFilterLock()
    try:
        return remove_leftovers(mark_mask)
    finally:
        lock.release()
