"""Packet filters in memory: packets go in, and come out or do not.

with PacketHarness(DropsPings()) as packets:
    assert packets.send(ping) is FilterPacketVerdict.DROP
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any

from ..content_filter import FilterPacketProvider, Packet
from ..errors import ProviderError
from ..filter_verdicts import FilterPacketVerdict
from ..provider import StopReason
from ..rules import Direction
from .clock import FakeClock
from .harness import Harness

OUTSIDE_HANDLER = "delay_current_packet is valid within handle_packet only, with the context that it was called with"


class PacketHarness(Harness):
    """Runs one packet filter. `passed` has the packets that came out, in order; `dropped` counts the others."""

    def __init__(
        self,
        provider: FilterPacketProvider,
        *,
        configuration: Mapping[str, Any] | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        super().__init__((provider,), configuration, clock)
        self.provider = provider
        self.passed: list[bytes] = []
        self.dropped = 0
        self._current: tuple[object, bytes, str, Direction] | None = None
        self._delayed: dict[int, bytes] = {}
        self._was_delayed = False

    def _start(self) -> Iterator[Awaitable[None]]:
        yield self.provider.start_filter()

    def _stop(self) -> Iterator[Awaitable[None]]:
        yield self.provider.stop_filter(StopReason.USER_INITIATED)

    def send(self, packet: bytes, *, interface: str = "eth0") -> FilterPacketVerdict:
        """A program's packet, from its IP header on; what was decided."""
        return self._handle(packet, interface, Direction.OUTBOUND)

    def receive(self, packet: bytes, *, interface: str = "eth0") -> FilterPacketVerdict:
        """A packet that arrives."""
        return self._handle(packet, interface, Direction.INBOUND)

    @property
    def delayed(self) -> int:
        """How many packets wait for `allow_packet`."""
        return len(self._delayed)

    def _handle(self, data: bytes, interface: str, direction: Direction) -> FilterPacketVerdict:
        context = object()
        self._current, self._was_delayed = (context, data, interface, direction), False
        answer = self.provider.handle_packet(context, interface, direction, data)
        verdict = self.run(answer) if isinstance(answer, Awaitable) else answer
        self._current = None
        if not isinstance(verdict, FilterPacketVerdict):
            raise TypeError(f"handle_packet returned {type(verdict).__name__}, not a FilterPacketVerdict")
        if verdict is FilterPacketVerdict.ALLOW:
            self.passed.append(data)
        elif verdict is FilterPacketVerdict.DROP:
            self.dropped += 1
        elif not self._was_delayed:
            raise ProviderError("handle_packet returned DELAY without delay_current_packet(context)")
        return verdict

    # The stage, as the provider sees it

    def delay_current_packet(self, context: object) -> Packet:
        """Keep the packet that is being handled."""
        if self._current is None or self._current[0] is not context:
            raise ProviderError(OUTSIDE_HANDLER)
        _, data, interface, direction = self._current
        packet = Packet(id(context), data, direction, interface)
        self._was_delayed = True
        self._delayed[id(packet)] = data
        weakref.finalize(packet, self._released, id(packet)).atexit = False
        return packet

    def allow_packet(self, packet: Packet) -> None:
        """Let a delayed packet go."""
        if (data := self._delayed.pop(id(packet), None)) is None:
            raise ProviderError("allow_packet: this packet is not delayed, or was allowed before")
        self.passed.append(data)

    def _released(self, key: int) -> None:
        if self._delayed.pop(key, None) is not None:
            self.dropped += 1
