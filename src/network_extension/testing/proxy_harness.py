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
import os
import socket
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any

from ..app_proxy import AppProxyProvider
from ..core.flow_description import parse_flow
from ..core.rule_matching import TransparentProxyMatcher
from ..endpoint import Endpoint
from ..errors import FlowError, FlowErrorCode, errno_for_code
from ..metadata import FlowMetadata
from ..network_settings import TransparentProxyNetworkSettings, TunnelNetworkSettings
from ..provider import StopReason
from ..rules import Protocol
from ..tcp_flow import TCPFlow
from .clock import FakeClock
from .harness import Harness
from .memory_flow import FarSide, ProgramSide, ProviderSide


class _MemoryFlow(TCPFlow):
    """A flow whose `connect` reaches the test instead of the network."""

    __slots__ = ("_harness",)
    _harness: ProxyHarness

    async def _reach(
        self, host: str, port: int, interface: str | None, local_address: str | None, *, redirected: bool
    ) -> socket.socket:
        name = self.remote_hostname if not redirected and self.remote_hostname else host
        return self._harness._reached(Endpoint(name, port))


class ProxyHarness(Harness):
    """Runs one proxy in memory."""

    def __init__(
        self,
        provider: AppProxyProvider,
        *,
        configuration: Mapping[str, Any] | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        super().__init__((provider,), configuration, clock)
        self.provider = provider
        self._matcher = TransparentProxyMatcher()
        self._far: dict[Endpoint, list[FarSide]] = {}
        self._refused: dict[Endpoint, FlowErrorCode] = {}
        self._number = 0
        self._failures: list[BaseException] = []

    def _start(self) -> Iterator[Awaitable[None]]:
        yield self.provider.start_proxy(None)

    def _stop(self) -> Iterator[Awaitable[None]]:
        yield self.provider.stop_proxy(StopReason.USER_INITIATED)

    def advance(self, seconds: float) -> None:
        """Let time pass, with everything that is due on the way."""
        super().advance(seconds)
        self._settle()

    def connect(self, text: str) -> ProgramSide:
        """A program connects: `curl → example.com:80`. The provider is asked, unless its rules say that it is not."""
        described = parse_flow(text)
        there = described.remote_endpoint or Endpoint("192.0.2.1", 443)
        address = there.host if described.remote_hostname is None else "192.0.2.1"
        program = ProgramSide(self, text)
        self._closing.callback(program.drop)
        self.transcript.came(f"new flow {text}")
        packed = there.address.packed if there.address else socket.inet_aton(address)
        if not self._matcher.claims(Protocol.TCP, packed, there.port, described.remote_hostname)[0]:
            self._pass(program, "not in its rules")
            return program
        self._number += 1
        flow = _MemoryFlow(
            self._number,
            ProviderSide(program),
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
        self._closing.callback(ours.close)
        self._far.setdefault(endpoint, []).append(FarSide(self, endpoint, ours))
        self.transcript.decided(f"connect {endpoint}")
        return theirs

    # The stage, as the provider sees it

    def apply_settings(self, settings: TunnelNetworkSettings | None) -> None:
        """Network rules hold from now on."""
        rules = settings if isinstance(settings, TransparentProxyNetworkSettings) else None
        self._matcher = TransparentProxyMatcher(rules)
        self.transcript.decided(f"settings {settings!r}")


__all__ = ["ProxyHarness"]
