"""Packets of ours to programs in the sandbox: which socket, which address, and that a failure stops nothing."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from network_extension.runtime.packet_injector import PacketInjector


class Raw:
    """A raw socket that notes what it sends; the real one needs CAP_NET_RAW."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.error = 0

    def sendto(self, packet: bytes, address: tuple[str, int]) -> None:
        if self.error:
            raise OSError(self.error, "sendto")
        self.sent.append((packet, address))


@pytest.fixture
def sockets() -> tuple[Raw, Raw]:
    return Raw(), Raw()


@pytest.fixture
def injector(sockets: tuple[Any, Any]) -> PacketInjector:
    return PacketInjector(*sockets)


@pytest.mark.parametrize(
    ("destination", "which", "text"),
    [
        (b"\xc0\0\0\2", 0, "192.0.0.2"),
        (b"\0\x64\xff\x9b\0\1" + bytes(9) + b"\2", 1, "64:ff9b:1::2"),
        (bytes(10) + b"\xff\xff\xc0\0\2\1", 1, "::ffff:192.0.2.1"),
    ],
)
def test_by_family(
    injector: PacketInjector, sockets: tuple[Raw, Raw], destination: bytes, which: int, text: str
) -> None:
    injector.send(b"a whole packet", destination)
    assert sockets[which].sent == [(b"a whole packet", (text, 0))]
    assert sockets[1 - which].sent == []


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS, errno.ENETUNREACH, errno.EPERM, errno.EMSGSIZE])
def test_what_cannot_be_sent_is_dropped_and_counted(
    injector: PacketInjector, sockets: tuple[Raw, Raw], number: int
) -> None:
    sockets[0].error = number
    for _ in range(2):
        injector.send(b"x", b"\xc0\0\0\2")
    sockets[0].error = 0
    injector.send(b"y", b"\xc0\0\0\2")
    assert injector.failures == 2 and [packet for packet, _ in sockets[0].sent] == [b"y"]
