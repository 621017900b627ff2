"""The process that one provider runs in: `python -I -m network_extension.runtime.provider_host --control-fd N
SPEC`.

    main ── control channel (START, FLOWS, STOP, …) ──▶ ProviderHost ── calls ──▶ the provider
    engine ── flow channel (NEW_FLOW, …) ─────────────▶ FlowLink     ── calls ──▶ handle_new_flow   (proxies)
    engine ── flow channel (FILTER_EVENTS, …) ────────▶ FilterHost   ── calls ──▶ handle_new_flow   (filters)

Life: START imports the file, makes the provider and awaits `start_proxy` (of a filter: `start_filter`); READY or
START_FAILED tells how that went. Flows come as soon as a channel for them is there too. STOP awaits `stop_proxy`
(`stop_filter`) and then all work that the provider started, both together for the grace period at most; what is left
is cancelled and counted in STOPPED. Handlers that only wait for a relay to end are cancelled without waiting: the
engine, not they, moves the bytes.

A provider that hangs, crashes or calls os._exit is not this file's concern: main and engine see the end of
their channels.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from ..app_proxy import AppProxyProvider
from ..errors import ExitCode
from ..network_settings import TransparentProxyNetworkSettings, TunnelNetworkSettings
from ..path import Path
from ..provider import StopReason
from .channel import Channel
from .flow_link import FlowLink
from .loader import LoaderError, RunnableProvider, load_provider, one_line
from .wire import (
    MessageType,
    WireError,
    int_field,
    object_field,
    seconds_field,
    text_field,
)

if TYPE_CHECKING:
    from .filter_host import FilterHost

ORPHAN_GRACE = 2.0  # seconds for stop_proxy when main has died
UNWIND = 1.0  # seconds for cancelled work to come to its end
MAX_LOG = 8192
MAX_LINE = 1000
_TRUE = ("1", "true", "yes", "on")


class ProviderHost:
    """Control channel, provider, and the stage that the provider sees (`ProviderStage`)."""

    def __init__(self, control: socket.socket, spec: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._control = Channel(control)
        self._spec = spec
        self._name = spec
        self._debug = False
        self._provider: RunnableProvider | None = None
        self._filter: FilterHost | None = None
        self._settings: TunnelNetworkSettings | None = None
        self._ready = False
        self._path = Path()
        self._link: FlowLink | None = None
        self._waiting_link: socket.socket | None = None
        self._own_tasks: set[asyncio.Task[Any]] = set()
        self._starting: asyncio.Task[Any] | None = None
        self._stopping = False
        self._writing = False
        self._dropped = 0  # lines of the log that main was too slow for
        self.exit_code: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._control.fileno(), self._readable)

    # The stage, as provider and flows see it

    def apply_settings(self, settings: TunnelNetworkSettings | None) -> None:
        """Settings hold as soon as the engine has read the next HELLO."""
        self._settings = settings
        if self._ready:
            self._say_hello()

    def cancel(self, error: BaseException | None) -> None:
        """Tell main; it will stop us with a reason of its own."""
        self._send(MessageType.CANCELLED, {"error": None if error is None else one_line(error)})

    def log(self, level: str, text: str, error: BaseException | None = None) -> None:
        """A line for main's log, and below it the traceback if the configuration has `debug`."""
        if self._control.wants_write:  # main is behind; a flood of lines must not fill our memory
            self._dropped += 1
            return
        text = " ".join(text.split())[:MAX_LINE]
        if error is not None and self._debug:
            text = (text + "\n" + "".join(traceback.format_exception(error)))[-MAX_LOG:]
        self._send(MessageType.LOG, {"level": level, "text": text})

    def link_ended(self, link: FlowLink) -> None:
        """The engine has gone; main brings the next channel."""
        if self._link is link:
            self._link = None

    # The control channel

    def _readable(self) -> None:
        try:
            messages = self._control.receive()
        except (WireError, OSError) as error:
            self._complain(f"control channel: {error}")
            self._orphaned()
            return
        for kind, _flow, body, fds in messages:
            try:
                self._dispatch(kind, body, fds)
            except WireError as error:
                self.log("error", f"control channel: {kind.name}: {error}")
            for fd in fds:
                os.close(fd)
        if self._control.eof:
            self._orphaned()

    def _dispatch(self, kind: MessageType, body: dict[str, Any], fds: list[int]) -> None:
        if kind is MessageType.PING:
            self._send(MessageType.PONG)
        elif kind is MessageType.START:
            self._run(self._start_or_fail(body))
        elif kind is MessageType.FLOWS:
            self._flows(fds)
        elif kind is MessageType.STOP:
            reason = StopReason(int_field(body, "reason", 0, 0, max(StopReason)))
            self._run(self._stop(reason, seconds_field(body, "grace", 5.0)))
        elif kind is MessageType.SLEEP:
            self._run(self._sleep())
        elif kind is MessageType.WAKE:
            self._run(self._wake())
        elif kind is MessageType.PATH:
            self._path = Path.from_dict(body)
            if self._provider is not None:
                self._provider._change("default_path", self._path)
        elif kind is MessageType.CONFIG:
            self._configure(object_field(body, "config"))
        else:
            raise WireError("not a message that main sends")

    def _send(self, kind: MessageType, body: dict[str, Any] | None = None) -> None:
        try:
            self._control.send(kind, 0, body)
        except (WireError, OSError) as error:
            self._complain(f"{kind.name} was not sent: {error}")
            return
        if self._control.wants_write and not self._writing:
            self._writing = True
            self._loop.add_writer(self._control.fileno(), self._writable)

    def _complain(self, text: str) -> None:
        """To the terminal: there is no channel left to say it on."""
        sys.stderr.write(f"netext provider {self._name}: {text}\n")

    def _writable(self) -> None:
        self._control.flush()
        if not self._control.wants_write:
            self._writing = False
            self._loop.remove_writer(self._control.fileno())
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self.log("warning", f"{dropped} lines of the log were dropped")

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """A task of ours, which a stop neither waits for nor cancels."""
        task = self._loop.create_task(work)
        self._own_tasks.add(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._own_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log("error", f"control channel: {one_line(error)}", error)

    # Life cycle

    async def _start_or_fail(self, body: dict[str, Any]) -> None:
        """A fault of ours must not leave main waiting for an answer."""
        try:
            await self._start(body)
        except Exception as error:
            if self._provider is None:
                text = f"provider {self._spec}: {one_line(error)}"
                self._start_failed(text, ExitCode.PROVIDER_FAILED, error)
            raise

    async def _start(self, body: dict[str, Any]) -> None:
        if self._provider is not None:
            raise WireError("START came twice")
        try:
            provider = load_provider(self._spec)
        except LoaderError as error:
            self._start_failed(str(error), error.exit_code)
            return
        self._name = text_field(body, "name", "")[:200] or type(provider).__name__
        self._provider = provider
        provider._stage = self._make_stage(provider)
        self._configure(object_field(body, "config"))
        provider._default_path = self._path
        if not await self._call_start(provider, body.get("options")) or self._stopping:
            return
        self._ready = True
        name = type(provider).__name__
        self._send(MessageType.READY, {"name": self._name, "kind": provider.kind, "class": name})
        if self._waiting_link is not None:
            self._link_up(self._waiting_link)

    def _make_stage(self, provider: RunnableProvider) -> ProviderHost | FilterHost:
        if isinstance(provider, AppProxyProvider):
            return self
        from .filter_host import FilterHost  # proxies start sooner without it

        self._filter = FilterHost(provider, self)
        return self._filter

    async def _call_start(self, provider: RunnableProvider, options: Any) -> bool:
        if isinstance(provider, AppProxyProvider):
            name, call = "start_proxy", _awaited(provider.start_proxy, options)
        else:
            name, call = "start_filter", _awaited(provider.start_filter)
        work = self._starting = self._loop.create_task(call, name=name)
        try:
            await asyncio.wait([work])
            work.result()
        except asyncio.CancelledError:
            return False
        except Exception as error:
            text = f"provider {self._name}: {name} raised {one_line(error)}"
            self._start_failed(text, ExitCode.PROVIDER_FAILED, error)
            return False
        return True

    def _start_failed(self, text: str, code: int, error: BaseException | None = None) -> None:
        if error is not None and self._debug:
            self.log("debug", text, error)
        self._send(MessageType.START_FAILED, {"error": text[:MAX_LINE], "code": code})

    def _configure(self, config: dict[str, Any]) -> None:
        self._debug = str(config.get("debug", "")).lower() in _TRUE
        if self._provider is not None:
            self._provider._change("configuration", MappingProxyType(config))

    def _flows(self, fds: list[int]) -> None:
        if len(fds) != 1:
            raise WireError(f"one descriptor is needed, not {len(fds)}")
        sock = socket.socket(fileno=fds.pop())
        if self._ready:
            self._link_up(sock)
        else:
            if self._waiting_link is not None:
                self._waiting_link.close()
            self._waiting_link = sock

    def _link_up(self, sock: socket.socket) -> None:
        old, self._link, self._waiting_link = self._link, None, None
        if old is not None:
            old.close()
        if self._filter is not None:
            self._filter.link_up(sock)
            return
        assert isinstance(self._provider, AppProxyProvider)
        self._link = FlowLink(sock, self._provider, self)
        self._say_hello()

    def _say_hello(self) -> None:
        settings = self._settings
        if self._link is not None:
            rules = settings if isinstance(settings, TransparentProxyNetworkSettings) else None
            self._link.say_hello(self._name, rules)

    async def _sleep(self) -> None:
        if self._provider is not None:
            await self._guarded("sleep", self._provider.sleep)
        self._send(MessageType.SLEPT)

    async def _wake(self) -> None:
        if self._provider is not None:
            await self._guarded("wake", self._provider.wake)

    async def _guarded(self, name: str, call: Callable[..., Any], *arguments: object) -> None:
        try:
            await _awaited(call, *arguments)
        except Exception as error:
            self.log("error", f"{name} raised {one_line(error)}", error)

    # The end

    def _orphaned(self) -> None:
        """Main has died, and nobody will read what we say."""
        self._loop.remove_reader(self._control.fileno())
        self._control.eof = True
        if not self._stopping:
            self._run(self._stop(StopReason.PROVIDER_FAILED, ORPHAN_GRACE, exit_code=1))

    async def _stop(self, reason: StopReason, grace: float, exit_code: int = 0) -> None:
        if self._stopping:
            return
        self._stopping = True
        deadline = self._loop.time() + grace
        if self._starting is not None:  # a start that is not wanted any more is not worth waiting for
            self._starting.cancel()
        cancelled = 0
        if self._provider is not None:
            name = "stop_proxy" if isinstance(self._provider, AppProxyProvider) else "stop_filter"
            work = self._guarded(name, getattr(self._provider, name), reason)
            stopping = self._loop.create_task(work, name=name)
            await asyncio.wait([stopping], timeout=grace)
            self._release_relays()
            cancelled = await self._await_work(deadline)
        self._send(MessageType.STOPPED, {"cancelled": cancelled})
        if not self.exit_code.done():
            self.exit_code.set_result(exit_code)

    def _release_relays(self) -> None:
        for linked in list(self._link.flows.values()) if self._link else ():
            if linked.flow._relaying and linked.task is not None:
                linked.flow._closed = True  # or the cancelled relay() would abort what runs in the engine
                linked.task.cancel()

    def _work(self) -> set[asyncio.Task[Any]]:
        return {task for task in asyncio.all_tasks() - self._own_tasks if task.get_name() != "main"}

    async def _await_work(self, deadline: float) -> int:
        """Wait for all that the provider started, also for what that starts in turn; the number that was cut
        off.
        """
        await asyncio.sleep(0)  # lets the relays' handlers see that they are cancelled
        while work := self._work():
            left = deadline - self._loop.time()
            if left <= 0:
                break
            await asyncio.wait(work, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            task.cancel()
        if work:
            await asyncio.wait(work, timeout=UNWIND)
        return len(work)

    def close(self) -> None:
        """Send what is left and close the channels."""
        if self._link is not None:
            self._link.close()
        if self._filter is not None:
            self._filter.close()
        until = time.monotonic() + 1.0
        while self._control.wants_write and not self._control.eof and time.monotonic() < until:
            select.select([], [self._control.fileno()], [], 0.1)
            self._control.flush()
        self._control.close()


async def _awaited(call: Callable[..., Any], *arguments: object) -> Any:
    """Call a method that its author may have written with or without `async`."""
    result = call(*arguments)
    return await result if isinstance(result, Awaitable) else result


def _loop_error(host: ProviderHost, context: dict[str, Any]) -> None:
    error = context.get("exception")
    text = context.get("message", "error in a callback")
    host.log("error", f"{text}: {one_line(error)}" if error else text, error)


def _watch_parent(control_fd: int) -> None:
    """End the process if main dies while the event loop is stuck in the provider's code (it then sees no
    EOF).
    """
    poll = select.poll()
    poll.register(control_fd, 0)  # POLLHUP and POLLERR are always reported
    while not poll.poll():
        pass
    threading.Event().wait(ORPHAN_GRACE + UNWIND + 1.0)
    os._exit(1)


async def serve(control: socket.socket, spec: str) -> int:
    """Run one provider until it is stopped; the exit code of the process."""
    task = asyncio.current_task()
    assert task is not None
    task.set_name("main")
    host = ProviderHost(control, spec)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: _loop_error(host, context))
    try:
        return await host.exit_code
    finally:
        host.close()


def main(arguments: list[str]) -> NoReturn:
    """The program. `--control-fd` is one end of a SOCK_SEQPACKET socket pair that main keeps the other end
    of.
    """
    parser = argparse.ArgumentParser(prog="netext-provider")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("spec")
    options = parser.parse_args(arguments)
    # Control-C goes to the whole foreground job; main decides what it means for us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=options.control_fd)
    os.set_inheritable(control.fileno(), False)
    # a copy, so that it cannot be another descriptor by the time that the thread looks
    watched = os.dup(control.fileno())
    threading.Thread(target=_watch_parent, args=(watched,), name="netext parent watch", daemon=True).start()
    with asyncio.Runner() as runner:
        code = runner.run(serve(control, options.spec))
        # Not by return: that would wait for work that ignores its cancellation, and for threads that look up
        # names.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
