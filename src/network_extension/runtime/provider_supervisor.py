"""Starts, watches, restarts and stops the provider processes of one run.

Each provider has a process of its own. A process that ends, or whose event loop answers no ping for a while, is
replaced after a pause that doubles with each failure in a row; what its flows get meanwhile is the policy's business
(core/flow_decision). Every change of state is said in one line: which state, and why.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ExitCode, ProviderError
from ..linux.reactor import READ, WRITE, Reactor, Timer
from .channel import Channel
from .wire import MessageType, WireError, int_field, optional_text_field, text_field

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
MOST_FAILURES = 8
"""Failures in a row after which a provider is given up."""
CALM = 30.0
"""Seconds of life after which earlier failures are forgotten."""
PING_INTERVAL = 1.0
START_TIMEOUT = 30.0
UNWIND = 2.0
"""Seconds beyond the grace period that a provider's process has to end."""
STOPPED_WITHOUT_REASON, STOPPED_BY_ITSELF = 0, 2  # of StopReason, whose module would bring asyncio along


def describe_status(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        names = {member.value: member.name for member in signal.Signals}  # most real-time signals have no name
        return f"killed by {names.get(number, f'signal {number}')}"
    return f"exited with status {os.WEXITSTATUS(status)}"


def spawn_process(arguments: list[str], signal_mask: set[int]) -> int:
    """Start a provider's process in a session of its own; its pid. Raises OSError."""
    return os.posix_spawn(sys.executable, arguments, os.environ, setsid=True, setsigmask=signal_mask)


class ProviderProcess:
    """One provider: its process now, and its history."""

    def __init__(
        self, supervisor: ProviderSupervisor, index: int, spec: str, config: dict[str, Any], number: int = 1
    ) -> None:
        self._supervisor, self.index, self.spec, self.config = supervisor, index, spec, config
        self._suffix = f"#{number}" if number > 1 else ""  # the same provider, again: a log must tell them apart
        self.name, self.state = spec, "starting"
        self.kind = ""
        """What kind of provider it is; known when it has become ready once."""
        self.pid = 0
        self.failures = 0
        self.cancelled_tasks = 0
        self._channel: Channel | None = None
        self._started_at = 0.0
        self._last_pong = self._ping_due = 0.0
        self._timer: Timer | None = None
        self._why_killed = ""

    def start(self) -> None:
        """Spawn the process and tell it to start its provider."""
        reactor = self._supervisor.reactor
        self._change("starting")
        self._started_at = self._last_pong = reactor.clock()
        try:
            control = self._spawn()
        except OSError as error:  # no descriptor or no process to be had, which may pass
            self._failed(f"cannot be started: {error.strerror}")
            return
        self._channel, self._why_killed = Channel(control), ""
        reactor.register(control.fileno(), READ, self._readable)
        self._send(MessageType.START, {"config": self.config, "options": None})
        self._timer = reactor.call_later(
            START_TIMEOUT, lambda: self.kill(f"did not start within {START_TIMEOUT:.0f} s")
        )

    def _spawn(self) -> socket.socket:
        """Start the process; our end of its control channel."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.set_inheritable(True)
        # -P: the directory that we happen to be in must not provide modules. Not -I: the user's environment counts.
        arguments = [sys.executable, "-P", "-m", "network_extension.runtime.provider_host"]
        arguments += ["--control-fd", str(theirs.fileno()), self.spec]
        try:
            self.pid = self._supervisor.spawn(arguments, self._supervisor.signal_mask)
        except OSError:
            mine.close()
            raise
        finally:
            theirs.close()
        return mine

    def _change(self, state: str) -> None:
        self.state = state

    def _send(self, kind: MessageType, body: dict[str, Any] | None = None, fds: tuple[int, ...] = ()) -> None:
        if self._channel is None:
            return
        try:
            self._channel.send(kind, 0, body, fds)
        except (WireError, OSError) as error:
            self.kill(f"does not read its messages: {error}")
            return
        if self._channel.wants_write:
            self._supervisor.reactor.modify(self._channel.fileno(), READ | WRITE)

    def _readable(self, events: int) -> None:
        channel = self._channel
        if channel is None:
            return
        if events & WRITE:
            channel.flush()
            if not channel.wants_write:
                self._supervisor.reactor.modify(channel.fileno(), READ)
        try:
            messages = channel.receive()
        except WireError as error:
            self.kill(f"sent what is not a message: {error}")
            return
        for kind, _, body, fds in messages:
            for descriptor in fds:
                os.close(descriptor)
            try:
                self._message(kind, body)
            except WireError as error:
                self.kill(f"sent what is not a message: {kind.name}: {error}")
        if channel.eof and not messages:
            self._close_channel()

    def _message(self, kind: MessageType, body: dict[str, Any]) -> None:
        if kind is MessageType.READY and self.state == "starting":
            self._ready(body)
        elif kind is MessageType.START_FAILED:
            code = int_field(body, "code", int(ExitCode.PROVIDER_FAILED), 1, 255)
            self._why_killed = text_field(body, "error", "start_proxy failed")
            self._supervisor.start_failed(self, self._why_killed, code)
            if self._supervisor.command_started:  # its process waits for a word of ours; the next one may do better
                self.kill(self._why_killed)
        elif kind is MessageType.PONG:
            self._last_pong = self._supervisor.reactor.clock()
        elif kind is MessageType.LOG:
            self._supervisor.report(
                "provider-log", f"{self.name}: {body.get('text', '')}", level=body.get("level", "info")
            )
        elif kind is MessageType.CANCELLED and self.state in ("starting", "running"):
            self._cancelled(optional_text_field(body, "error"))
        elif kind is MessageType.STOPPED:
            self.cancelled_tasks = int_field(body, "cancelled", 0)

    def _ready(self, body: dict[str, Any]) -> None:
        self._cancel_timer()
        self.name = str(body.get("class") or self.spec) + self._suffix
        self.kind = text_field(body, "kind", "")[:40]
        self._change("running")
        self._supervisor.greet(self)
        self.connect()
        restarted = f" again after {self.failures} failure{'s' if self.failures != 1 else ''}" if self.failures else ""
        self._supervisor.report(
            "provider", f"provider {self.name}: running{restarted} (pid {self.pid}, {self.kind})",
            provider=self.name, state="running", pid=self.pid,
        )  # fmt: skip
        self._ping_later()
        self._supervisor.progressed()

    def connect(self) -> None:
        """Join the provider and the engine by a new flow channel."""
        if self.state != "running" or not self._supervisor.engine_is_there():
            return
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (mine, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._send(MessageType.FLOWS, None, (mine.fileno(),))
        body = {"name": self.name, "kind": self.kind, "pid": self.pid}
        self._supervisor.attach(self.index, body, theirs.fileno())
        mine.close()
        theirs.close()

    def _ping(self) -> None:
        reactor = self._supervisor.reactor
        if reactor.clock() - self._ping_due > PING_INTERVAL:
            self.forgive()  # we ourselves did not run (sleep, SIGSTOP): nobody else is to blame
        silence = reactor.clock() - self._last_pong
        if self._supervisor.hang_timeout and silence > self._supervisor.hang_timeout + PING_INTERVAL:
            self.kill(f"its event loop has been stuck for {silence:.0f} s")
            return
        self._send(MessageType.PING)
        self._ping_later()

    def _ping_later(self) -> None:
        reactor = self._supervisor.reactor
        self._ping_due = reactor.clock() + PING_INTERVAL
        self._timer = reactor.call_later(PING_INTERVAL, self._ping)

    def forgive(self) -> None:
        """Count silence anew from now on."""
        self._last_pong = self._supervisor.reactor.clock()

    def kill(self, why: str) -> None:
        """End the process at once; its death is dealt with when the kernel reports it."""
        self._why_killed = why
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def died(self, status: int) -> None:
        """The process was reaped."""
        self.pid = 0
        if self._channel is not None:
            self._readable(READ)  # its last words may still wait there
        self._cancel_timer()
        self._close_channel()
        why = self._why_killed or describe_status(status)
        if self.state in ("stopping", "stopped") or self._supervisor.stopping:
            self._change("stopped")
            if not self._supervisor.stopping:
                self._supervisor.lost(self)
            self._supervisor.progressed()
            return
        self._failed(why)

    def _failed(self, why: str) -> None:
        """Another failure: start it again, unless it never ran or has failed too often."""
        lived = self._supervisor.reactor.clock() - self._started_at
        self.failures = 1 if lived > CALM else self.failures + 1
        self._supervisor.lost(self)
        if not self._supervisor.command_started and self.state == "starting":
            self._change("failed")
            self._supervisor.start_failed(
                self, f"provider {self.name}: {why} before it was ready", ExitCode.PROVIDER_FAILED
            )
            return
        if self.failures >= MOST_FAILURES:
            self._change("dead")
            text = f"provider {self.name}: dead ({why}); given up after {self.failures} failures in a row"
            self._supervisor.report("provider", text, provider=self.name, state="dead", why=why)
            return
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.failures - 1))
        self._change("dead")
        text = f"provider {self.name}: dead ({why}); starting it again in {pause:.1f} s"
        self._supervisor.report("provider", text, provider=self.name, state="restarting", why=why, pause=pause)
        self._timer = self._supervisor.reactor.call_later(pause, self.start)

    def stop(self, reason: int, grace: float) -> None:
        """Ask it to stop; kill it when the grace period is over."""
        self._cancel_timer()
        if not self.pid:
            self._change("stopped")
            return
        self._change("stopping")
        self._send(MessageType.STOP, {"reason": reason, "grace": grace})
        self._timer = self._supervisor.reactor.call_later(
            grace + UNWIND, lambda: self.kill("did not stop in its grace period")
        )

    def _cancelled(self, error: str | None) -> None:
        """It ends its session itself: its flows get the policy from now on, and it is not started again."""
        self.stop(STOPPED_BY_ITSELF if error else STOPPED_WITHOUT_REASON, self._supervisor.grace)
        self._supervisor.cancelled(self, f"cancelled itself: {error}" if error else "cancelled itself")

    def tell(self, kind: MessageType, body: dict[str, Any] | None = None) -> None:
        """Pass a system event on: SLEEP, WAKE, PATH."""
        if self.state == "running":
            self._send(kind, body)

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._supervisor.reactor.unregister(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ProviderSupervisor:
    """All providers of a run, in order."""

    def __init__(
        self,
        reactor: Reactor,
        specs: Sequence[tuple[str, dict[str, Any]]],
        *,
        hang_timeout: float,
        signal_mask: set[int],
        report: Callable[..., None],
        attach: Callable[[int, dict[str, Any], int], None],
        state_changed: Callable[[int, str], None],
        engine_is_there: Callable[[], bool],
        progressed: Callable[[], None],
        grace: float = 5.0,
        spawn: Callable[[list[str], set[int]], int] = spawn_process,
    ) -> None:
        """`attach(index, body, descriptor)` takes the body of ATTACH_PROVIDER: {"name", "kind", "pid"}.

        `spawn(arguments, signal mask)` starts a process and returns its pid, or raises OSError.
        """
        self.spawn = spawn
        self.reactor, self.hang_timeout, self.signal_mask, self.grace = reactor, hang_timeout, signal_mask, grace
        self.report, self.attach, self._state_changed = report, attach, state_changed
        self.engine_is_there, self.progressed = engine_is_there, progressed
        self.stopping = self.command_started = False
        self.failure: ProviderError | None = None
        self._path: dict[str, Any] | None = None
        names = [spec for spec, _ in specs]
        self.providers = [
            ProviderProcess(self, index, spec, config, names[: index + 1].count(spec))
            for index, (spec, config) in enumerate(specs)
        ]

    def start(self) -> None:
        """Start them all at the same time."""
        for provider in self.providers:
            provider.start()

    @property
    def all_running(self) -> bool:
        """Whether every provider has completed start_proxy."""
        return all(provider.state == "running" for provider in self.providers)

    @property
    def all_stopped(self) -> bool:
        """Whether no provider process is left."""
        return all(not provider.pid for provider in self.providers)

    def start_failed(self, provider: ProviderProcess, why: str, code: int) -> None:
        """Before the command runs, a provider that does not start ends the run."""
        if not self.command_started and self.failure is None:
            self.failure = ProviderError(why, exit_code=code)
            self.progressed()

    def cancelled(self, provider: ProviderProcess, why: str) -> None:
        """A provider has called `cancel_proxy_with_error`."""
        text = f"provider {provider.name}: stopping ({why}); it is not started again"
        self.report("provider", text, provider=provider.name, state="stopping", why=why)
        self._state_changed(provider.index, "stopping")
        self.start_failed(
            provider, f"provider {provider.name}: {why} before the command started", ExitCode.PROVIDER_FAILED
        )

    def lost(self, provider: ProviderProcess) -> None:
        """A provider's process is gone."""
        self._state_changed(provider.index, "dead")

    def connect_all(self) -> None:
        """A new engine: join every running provider to it."""
        for provider in self.providers:
            provider.connect()

    def reaped(self, pid: int, status: int) -> bool:
        """Whether `pid` was one of ours."""
        for provider in self.providers:
            if provider.pid == pid:
                provider.died(status)
                return True
        return False

    def tell_all(self, kind: MessageType, body: dict[str, Any] | None = None) -> None:
        """Pass a system event on to all."""
        for provider in self.providers:
            provider.tell(kind, body)

    def set_path(self, path: dict[str, Any]) -> None:
        """The network path has changed; providers that start later are told when they are ready."""
        self._path = path
        self.tell_all(MessageType.PATH, path)

    def greet(self, provider: ProviderProcess) -> None:
        """Tell a provider that has just become ready what the others know."""
        if self._path is not None:
            provider.tell(MessageType.PATH, self._path)

    def forgive(self) -> None:
        """After a sleep nobody could answer pings."""
        for provider in self.providers:
            provider.forgive()

    def stop(self, reason: int, grace: float) -> None:
        """Stop them all."""
        self.stopping = True
        for provider in self.providers:
            provider.stop(reason, grace)
