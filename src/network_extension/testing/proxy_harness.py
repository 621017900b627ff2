"""App proxies and transparent proxies in memory: flows without a kernel, far sides that the test plays.

    with ProxyHarness(MyProxy()) as proxy:
        program = proxy.connect("curl → example.com:80")
        program.send(b"GET / HTTP/1.1\\r\\n\\r\\n")
        proxy.far_side("example.com", 80).send(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
        assert program.received == b"HTTP/1.1 204 No Content\\r\\n\\r\\n"

Bytes travel through socket pairs, time through a `FakeClock`. Nothing leaves the process and no privilege is needed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

from ..app_proxy import AppProxyProvider
from ..core.flow_description import parse_flow
from ..core.rule_matching import TransparentProxyMatcher
from ..endpoint import Endpoint
from ..errors import FlowError, FlowErrorCode, errno_for_code
from ..flow import RelayResult
from ..metadata import FlowMetadata
from ..network_settings import TransparentProxyNetworkSettings, TunnelNetworkSettings
from ..provider import StopReason
from ..rules import Protocol
from ..tcp_flow import TCPFlow
from .clock import FakeClock, FakeTimeLoop
from .transcript import Transcript, shown

CHUNK = 65536


class FarSide:
    """The test's end of a connection that the provider made."""

    def __init__(self, harness: ProxyHarness, endpoint: Endpoint, sock: socket.socket) -> None:
        self._harness, self.endpoint, self._sock = harness, endpoint, sock
        self._received = bytearray()

    @property
    def received(self) -> bytes:
        """All that came from the provider's side so far."""
        self._harness.loop.settle()
        _drain(self._sock, self._received)
        return bytes(self._received)

    def send(self, data: bytes) -> None:
        """Send to the provider's side."""
        self._sock.sendall(data)
        self._harness.loop.settle()

    def end(self) -> None:
        """Send no more: the other side sees an end of file."""
        self._sock.shutdown(socket.SHUT_WR)
        self._harness.loop.settle()

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()
        self._harness.loop.settle()


class ProgramSide:
    """A program's connection, and what became of it."""

    def __init__(self, harness: ProxyHarness, text: str) -> None:
        self._harness, self.description = harness, text
        self._program, self._runtime = socket.socketpair()
        self._program.setblocking(False)
        self._runtime.setblocking(False)
        self._received = bytearray()
        self.state = "held"
        """ "held", "claimed", "open", "passed" (no proxy wanted it), "refused" or "closed"."""
        self.error = 0
        """The errno that the program saw; 0 for none."""
        self.flow: TCPFlow | None = None

    @property
    def received(self) -> bytes:
        """All that the program has received so far."""
        self._harness.loop.settle()
        _drain(self._program, self._received)
        return bytes(self._received)

    def send(self, data: bytes) -> None:
        """The program sends. Raises AssertionError while its connection is not open."""
        assert self.state == "open", f"{self.description}: {self.state}, so the program cannot send"
        self._program.sendall(data)
        self._harness.loop.settle()

    def end(self) -> None:
        """The program sends no more."""
        self._program.shutdown(socket.SHUT_WR)
        self._harness.loop.settle()

    def close(self) -> None:
        """The program closes its socket."""
        self._program.close()
        self._harness.loop.settle()

    # The provider's side: a FlowBackend

    def claim(self) -> None:
        """The provider keeps the flow."""
        if self.state == "held":
            self.state = "claimed"
            self._harness.transcript.decided("claim")

    def open(self, local: Endpoint | None) -> asyncio.Future[None]:
        """The program's connect() completes."""
        self.state = "open"
        self._harness.transcript.decided("open")
        return _done(self._harness.loop, None)

    def attach(self) -> asyncio.Future[socket.socket | None]:
        """The program's side as a socket."""
        return _done(self._harness.loop, self._runtime.dup())

    def request_peer(self, remote: Endpoint) -> asyncio.Future[None]:
        """Datagrams are not played here."""
        raise FlowError(FlowErrorCode.INVALID_ARGUMENT, "the harness has TCP flows only")

    def relay(self, remote: socket.socket) -> asyncio.Future[RelayResult]:
        """Move the bytes both ways until both are done."""
        if self.state != "open":
            self.state = "open"
            self._harness.transcript.decided("open and relay")
        else:
            self._harness.transcript.decided("relay")
        return self._harness.loop.create_task(self._relay(remote.dup()), name="relay")

    async def _relay(self, remote: socket.socket) -> RelayResult:
        remote.setblocking(False)
        with remote:
            out, back = await asyncio.gather(_pump(self._runtime, remote), _pump(remote, self._runtime))
        self.finish(0)
        return RelayResult(back, out)

    def finish(self, code: int) -> None:
        """The flow is over."""
        if self.state not in ("closed", "refused"):
            self.state = "closed" if self.state == "open" else "refused"
            self.error = errno_for_code(code) if code else 0
            if self.state == "refused":
                self.error = self.error or errno.ECONNREFUSED
            self._harness.transcript.became(f"{self.state}{f' {errno.errorcode[self.error]}' if self.error else ''}")
        self._runtime.close()

    def drop(self) -> None:
        """The end of the test."""
        self._program.close()
        self._runtime.close()


class _Backend:
    """What a `TCPFlow` speaks to; `ProgramSide.close` is the program's, this one's the provider's."""

    def __init__(self, program: ProgramSide) -> None:
        self._program = program
        self.claim, self.open, self.attach = program.claim, program.open, program.attach
        self.request_peer, self.relay = program.request_peer, program.relay

    def close(self, error: int, direction: str, reason: str = "") -> None:
        """Close "both", "read" or "write"."""
        if direction == "both" or error:
            self._program.finish(error)


class _MemoryFlow(TCPFlow):
    """A flow whose `connect` reaches the test instead of the network."""

    __slots__ = ("_harness",)
    _harness: ProxyHarness

    async def _reach(
        self, host: str, port: int, interface: str | None, local_address: str | None, *, redirected: bool
    ) -> socket.socket:
        name = self.remote_hostname if not redirected and self.remote_hostname else host
        return self._harness._reached(Endpoint(name, port))


class ProxyHarness:
    """Runs one proxy in memory. A context manager: it starts the provider, and stops it at the end."""

    def __init__(
        self,
        provider: AppProxyProvider,
        *,
        configuration: Mapping[str, Any] | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.provider, self.loop = provider, FakeTimeLoop(clock)
        self.clock = self.loop.clock
        self.transcript = Transcript()
        self.log_lines: list[str] = []
        """What the provider logged, `level: text`."""
        self._matcher = TransparentProxyMatcher()
        self._far: dict[Endpoint, list[FarSide]] = {}
        self._refused: dict[Endpoint, FlowErrorCode] = {}
        self._programs: list[ProgramSide] = []
        self._number = 0
        self._failures: list[BaseException] = []
        provider._stage = self
        provider._configuration = MappingProxyType(dict(configuration or {}))

    def __enter__(self) -> Self:
        try:
            self.run(self.provider.start_proxy(None))
        except BaseException:
            self.loop.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(self.provider.stop_proxy(StopReason.USER_INITIATED))
            self._end_tasks()
        finally:
            for program in self._programs:
                program.drop()
            for far in (far for sides in self._far.values() for far in sides):
                far._sock.close()
            self.loop.close()

    def run(self, work: Awaitable[Any]) -> Any:
        """Run a coroutine of the provider to its end; time passes if it sleeps."""
        task = self.loop.create_task(_await(work))
        self.loop.settle()
        while not task.done() and (due := self.loop.next_timer()) is not None:
            self.loop.advance(max(0.0, due - self.clock.now))
        assert task.done(), "the provider waits for something that never comes"
        return task.result()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.advance(seconds)
        self._settle()

    def connect(self, text: str) -> ProgramSide:
        """A program connects: `curl → example.com:80`. The provider is asked, unless its rules say that it is not."""
        described = parse_flow(text)
        there = described.remote_endpoint or Endpoint("192.0.2.1", 443)
        address = there.host if described.remote_hostname is None else "192.0.2.1"
        program = ProgramSide(self, text)
        self._programs.append(program)
        self.transcript.came(f"new flow {text}")
        packed = there.address.packed if there.address else socket.inet_aton(address)
        if not self._matcher.claims(Protocol.TCP, packed, there.port, described.remote_hostname)[0]:
            self._pass(program, "not in its rules")
            return program
        self._number += 1
        flow = _MemoryFlow(
            self._number,
            _Backend(program),
            Endpoint("192.0.2.200", 50000 + self._number),
            Endpoint(address, there.port),
            remote_hostname=described.remote_hostname,
            metadata=FlowMetadata(described.metadata.process, described.host_name_source),
        )
        flow._harness = self
        program.flow = flow
        self.loop.create_task(self._ask(program, flow), name="handle_new_flow").add_done_callback(self._look)
        self._settle()
        return program

    def _look(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def _settle(self) -> None:
        """A fault in the provider's answer belongs to the test that runs it."""
        self.loop.settle()
        if self._failures:
            raise self._failures.pop(0)

    async def _ask(self, program: ProgramSide, flow: TCPFlow) -> None:
        try:
            answer = self.provider.handle_new_flow(flow)
            claimed = await answer if isinstance(answer, Awaitable) else answer
        except Exception as error:
            failure = FlowError.from_exception(error)
            self.transcript.decided(f"raised {type(error).__name__}: {error}")
            program.finish(failure.code)
            return
        if type(claimed) is not bool:
            raise TypeError(f"handle_new_flow returned {type(claimed).__name__}, not True or False")
        if claimed:
            program.claim()
        elif program.state == "held":
            self.transcript.decided("decline")
            if self.provider.kind == "transparent-proxy":
                self._pass(program, "declined")
            else:
                program.finish(FlowErrorCode.REFUSED)

    def _pass(self, program: ProgramSide, why: str) -> None:
        program.state = "passed"
        self.transcript.became(f"passed on ({why})")

    def far_side(self, host: str, port: int, number: int = -1) -> FarSide:
        """A connection that the provider made to `host`, the latest by default; AssertionError if there is none."""
        self.loop.settle()
        sides = self._far.get(Endpoint(host, port))
        assert sides, f"the provider has not connected to {host}:{port}; it has to {sorted(map(str, self._far))}"
        return sides[number]

    def refuse(self, host: str, port: int, code: FlowErrorCode = FlowErrorCode.REFUSED) -> None:
        """Let connections to `host` fail from now on."""
        self._refused[Endpoint(host, port)] = code

    def _reached(self, endpoint: Endpoint) -> socket.socket:
        if (code := self._refused.get(endpoint)) is not None:
            self.transcript.decided(f"connect {endpoint}: {os.strerror(errno_for_code(code))}")
            raise FlowError(code, f"connect to {endpoint}")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._far.setdefault(endpoint, []).append(FarSide(self, endpoint, ours))
        self.transcript.decided(f"connect {endpoint}")
        return theirs

    def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.settle()

    # The stage, as the provider sees it

    def apply_settings(self, settings: TunnelNetworkSettings | None) -> None:
        """Network rules hold from now on."""
        rules = settings if isinstance(settings, TransparentProxyNetworkSettings) else None
        self._matcher = TransparentProxyMatcher(rules)
        self.transcript.decided(f"settings {settings!r}")

    def cancel(self, error: BaseException | None) -> None:
        """The provider ends itself."""
        self.transcript.decided(f"cancel {error!r}")

    def log(self, level: str, text: str) -> None:
        """A line for the log."""
        self.log_lines.append(f"{level}: {text}")


async def _await(work: Awaitable[Any]) -> Any:
    return await work


def _done(loop: asyncio.AbstractEventLoop, value: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = loop.create_future()
    future.set_result(value)
    return future


async def _pump(source: socket.socket, sink: socket.socket) -> int:
    loop, count = asyncio.get_running_loop(), 0
    while data := await loop.sock_recv(source, CHUNK):
        await loop.sock_sendall(sink, data)
        count += len(data)
    sink.shutdown(socket.SHUT_WR)
    return count


def _drain(sock: socket.socket, into: bytearray) -> None:
    try:
        while data := sock.recv(CHUNK):
            into += data
    except (BlockingIOError, ConnectionResetError):
        pass


__all__ = ["FarSide", "ProgramSide", "ProxyHarness", "shown"]
