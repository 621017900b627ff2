"""Packet filters in memory."""

from __future__ import annotations

import pytest

from network_extension import Direction, FilterPacketProvider, FilterPacketVerdict, Packet, ProviderError
from network_extension.testing import PacketHarness


class Keeps(FilterPacketProvider):
    """Delays what begins with d, drops what begins with x."""

    def __init__(self) -> None:
        self.kept: list[Packet] = []
        self.context: object = None

    def handle_packet(self, context: object, interface: str, direction: Direction, data: bytes) -> FilterPacketVerdict:
        self.context = context
        if data.startswith(b"d"):
            self.kept.append(self.delay_current_packet(context))
            return FilterPacketVerdict.DELAY
        return FilterPacketVerdict.DROP if data.startswith(b"x") else FilterPacketVerdict.ALLOW


def test_allow_and_drop() -> None:
    with PacketHarness(Keeps()) as packets:
        assert packets.send(b"a") is FilterPacketVerdict.ALLOW
        assert packets.receive(b"x") is FilterPacketVerdict.DROP
        assert (packets.passed, packets.dropped) == ([b"a"], 1)


def test_a_delayed_packet_goes_when_it_is_allowed() -> None:
    keeps = Keeps()
    with PacketHarness(keeps) as packets:
        packets.send(b"d1")
        assert (packets.delayed, packets.passed) == (1, [])
        keeps.allow_packet(keeps.kept[0])
        assert (packets.delayed, packets.passed) == (0, [b"d1"])
        with pytest.raises(ProviderError, match="allowed before"):
            keeps.allow_packet(keeps.kept[0])


def test_the_last_reference_drops_it() -> None:
    keeps = Keeps()
    with PacketHarness(keeps) as packets:
        packets.send(b"d1")
        keeps.kept.clear()
        assert (packets.delayed, packets.dropped) == (0, 1)


def test_delaying_is_for_the_handler_only() -> None:
    keeps = Keeps()
    with PacketHarness(keeps) as packets:
        packets.send(b"a")
        with pytest.raises(ProviderError, match="within handle_packet only"):
            keeps.delay_current_packet(keeps.context)
