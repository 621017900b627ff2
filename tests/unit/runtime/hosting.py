"""A filter host in the test's own process, with the test as the engine: a real channel, no flows of a kernel.

A test reads as a trace: `engine.asks(…)` is what the engine says, `await engine.hears()` what the filter answered.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

from network_extension.content_filter import FilterProvider
from network_extension.runtime import filter_wire as w
from network_extension.runtime.channel import Channel
from network_extension.runtime.filter_hello import FilterHello, unpack_filter_hello
from network_extension.runtime.filter_host import FilterHost
from network_extension.runtime.filter_wire import Answer, is_answers, pack_events, unpack_answers
from network_extension.runtime.wire import MessageType, decode

T = TypeVar("T")


def new(number: int = 1, op: int = w.NEW, host: str | None = "example.com", process: int = 0) -> tuple[Any, ...]:
    """A new TCP flow to 192.0.2.1:443."""
    return (op, number, 6, 2, 2, "10.0.0.1", 40000 + number, "192.0.2.1", 443, host, "dns", None, "eth0", process)


class Owner:
    """Where log lines go."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.cancelled: list[BaseException | None] = []

    def log(self, level: str, text: str, error: BaseException | None = None) -> None:
        self.lines.append(f"{level}: {text}")

    def cancel(self, error: BaseException | None) -> None:
        self.cancelled.append(error)


class Engine:
    """The engine's end of a filter's channel. Made inside of an event loop; use it as `async with`."""

    def __init__(self, provider: FilterProvider) -> None:
        self.owner = Owner()
        self.host = FilterHost(provider, self.owner)
        provider._stage = self.host
        self.hellos: list[FilterHello] = []
        self.answers: list[Answer] = []
        self.channel: Channel | None = None

    async def __aenter__(self) -> Engine:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.host.close()
        if self.channel is not None:
            self.channel.close()

    async def connect(self) -> FilterHello:
        """A new channel; the filter's HELLO."""
        if self.channel is not None:
            self.channel.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(ours)
        count = len(self.hellos)
        self.host.link_up(theirs)
        await self.until(lambda: len(self.hellos) > count)
        return self.hellos[-1]

    def asks(self, *events: tuple[Any, ...]) -> None:
        """Events in one batch."""
        assert self.channel is not None
        for packet in pack_events(list(events)):
            self.channel.send_packet(packet)

    def holds(self, serial: int) -> None:
        """The settings of a HELLO are in force."""
        assert self.channel is not None
        self.channel.send(MessageType.SETTINGS_HELD, 0, {"serial": serial})

    async def hears(self, count: int = 1) -> list[Answer]:
        """So many answers, and no more than that are there."""
        await self.until(lambda: len(self.answers) >= count)
        found, self.answers = self.answers, []
        assert len(found) == count, found
        return found

    async def hears_nothing(self) -> None:
        """Neither answers nor a HELLO are on their way."""
        for _ in range(5):
            await asyncio.sleep(0)
            self._read()
        assert self.answers == []

    async def until(self, condition: Any) -> None:
        """Run the event loop until something is true."""
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)
                self._read()

    def _read(self) -> None:
        if self.channel is None:
            return
        for packet, fds in self.channel.receive_packets():
            if is_answers(packet):
                self.answers += unpack_answers(packet)
            else:
                kind, _, body = decode(packet)
                assert kind is MessageType.HELLO
                self.hellos.append(unpack_filter_hello(body, fds))
            for fd in fds:
                os.close(fd)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine to its end; no task of its may be left then."""

    async def whole() -> T:
        result = await work
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        return result

    return asyncio.run(whole())
