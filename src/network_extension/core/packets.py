"""IP packets that a program in the sandbox must see when nobody else will send them, and the reading of packets.

RST, SYN+ACK, ICMP errors, echo replies, datagrams: each is returned as a whole IP packet with right checksums. What
answers a packet takes that packet, as little of it as the queue copied, and swaps its addresses.

`UnanswerableError` keeps us polite: no error about an error, none to a group (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)).
It and every other complaint about a packet is a `PacketError`; ValueError means that the caller's values cannot be.

The reading half is `core/packet_heads.py`; all its names are here too.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from .packet_heads import (
    MAX_EXTENSION_HEADERS,
    TCP,
    UDP,
    FlowKey,
    PacketError,
    PacketHead,
    address_bytes,
    address_text,
    flow_key,
    parse_head,
    protocol_name,
)

__all__ = [
    "ACK",
    "FIN",
    "ICMP",
    "ICMPV6",
    "MAX_EXTENSION_HEADERS",
    "RST",
    "SYN",
    "TCP",
    "UDP",
    "Echo",
    "FlowKey",
    "PacketError",
    "PacketHead",
    "UnanswerableError",
    "Unreachable",
    "address_bytes",
    "address_text",
    "flow_key",
    "icmp_echo_reply",
    "icmp_echo_reply_packet",
    "icmp_unreachable",
    "internet_checksum",
    "parse_echo",
    "parse_head",
    "protocol_name",
    "reset_after_syn_ack",
    "syn_ack",
    "tcp_reset",
    "udp_datagram",
]

ICMP, ICMPV6 = 1, 58
FIN, SYN, RST, ACK = 1, 2, 4, 16

_ECHO_REPLY, _ECHO_REQUEST = {4: 0, 6: 129}, {4: 8, 6: 128}
_ICMP_QUERIES = frozenset({0, 8, 9, 10, 13, 14, 15, 16, 17, 18})  # RFC 792, 950, 1256: the types that are no errors
_QUOTE4 = 576 - 20 - 8
"""RFC 1812 §4.3.2.3: as much as fits into 576 bytes."""
_QUOTE6 = 1280 - 40 - 8
"""RFC 4443 §2.4 (c): as much as fits into the smallest MTU."""

_HEADER4 = struct.Struct(">BBHHHBBH4s4s").pack
_HEADER6 = struct.Struct(">IHBB16s16s").pack
_TCP_HEADER = struct.Struct(">HHIIBBHHH").pack
_UDP_HEADER = struct.Struct(">HHHH").pack
_ICMP_HEADER = struct.Struct(">BBHI").pack
_ECHO = struct.Struct(">BBHHH")


class UnanswerableError(PacketError):
    """A packet that must not be answered: an error or a reset itself, a later fragment, one from or to a group."""


class Unreachable(IntEnum):
    """Why a packet does not arrive. The errno is what Linux makes of it (net/ipv4/icmp.c, net/ipv6/icmp.c)."""

    PORT = 0
    """ECONNREFUSED"""
    HOST = 1
    """EHOSTUNREACH"""
    NETWORK = 2
    """ENETUNREACH"""
    ADMINISTRATIVELY_PROHIBITED = 3
    """EHOSTUNREACH over IPv4, EACCES over IPv6"""


_CODE4 = (3, 1, 0, 13)  # of type 3: RFC 792, RFC 1812 §5.2.7.1
_CODE6 = (4, 3, 0, 1)  # of type 1: RFC 4443 §3.1


class Echo(NamedTuple):
    """An ICMP echo message (RFC 792, RFC 4443 §4)."""

    is_reply: bool
    identifier: int
    sequence: int
    payload: bytes
    """As much as is here of a packet that was cut off."""


def internet_checksum(data: bytes | memoryview) -> int:
    """The checksum of RFC 1071, 16 bits; 0 for data that contain their own right checksum.

    2¹⁶ leaves 1 when divided by 2¹⁶-1, so a sum of 16-bit words with its carries added back is the remainder of the
    whole as one number: two calls into C instead of a loop.
    """
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    remainder = number % 0xFFFF
    if remainder:
        return 0xFFFF - remainder
    return 0 if number else 0xFFFF


def tcp_reset(for_packet: bytes) -> bytes:
    """The RST that refuses a connection or a segment (RFC 9293 §3.5.2, group 1 and 2).

    Raises PacketError for what is no whole head of TCP, UnanswerableError for a reset.
    """
    head = _tcp_head(for_packet)
    if head.flags & RST:
        raise UnanswerableError("a reset is not answered with a reset")
    if head.flags & ACK:
        return _tcp_answer(head, head.acknowledgement, 0, RST, 0)
    length = head.payload_length + bool(head.flags & SYN) + bool(head.flags & FIN)
    return _tcp_answer(head, 0, head.sequence + length, RST | ACK, 0)


def syn_ack(for_packet: bytes, sequence: int = 0, window: int = 65535) -> bytes:
    """The answer that makes a program's connect() succeed, without options; `sequence` is the initial one.

    Raises PacketError for what is no SYN.
    """
    head = _tcp_head(for_packet)
    if head.flags & (SYN | ACK | RST | FIN) != SYN:
        raise PacketError(f"TCP flags {head.flags:#04x} are no SYN")
    return _tcp_answer(head, sequence, head.sequence + 1, SYN | ACK, window)


def reset_after_syn_ack(for_packet: bytes, sequence: int = 0) -> bytes:
    """The RST that breaks the connection which `syn_ack` with the same arguments has just made.

    Raises PacketError for what is no whole head of TCP.
    """
    head = _tcp_head(for_packet)
    return _tcp_answer(head, sequence + 1, head.sequence + 1, RST | ACK, 0)


def icmp_unreachable(for_packet: bytes, kind: Unreachable, source: bytes | None = None) -> bytes:
    """The ICMP error that tells the sender of a packet that it does not arrive, quoting its head.

    `source` (4 or 16 bytes) is who says so; without it, the packet's own destination does, and a packet to a group is
    not answered. Raises PacketError for what is no packet, UnanswerableError as RFC 1122 §3.2.2 wants.
    """
    head = parse_head(for_packet)
    _check_answerable(head, to_group=source is not None)
    if head.protocol in (ICMP, ICMPV6) and _is_icmp_error(head, for_packet):
        raise UnanswerableError("an ICMP error is not answered with another")
    if head.version == 4:
        body = _ICMP_HEADER(3, _CODE4[kind], 0, 0) + for_packet[: min(_QUOTE4, head.length)]
    else:
        body = _ICMP_HEADER(1, _CODE6[kind], 0, 0) + for_packet[: min(_QUOTE6, head.length)]
    return _icmp_packet(source or head.destination, head.source, body)


def parse_echo(packet: bytes) -> Echo | None:
    """The echo message in a packet; None when it holds something else, or only a fragment.

    Raises PacketError for what is no packet.
    """
    head = parse_head(packet)
    if head.protocol != (ICMP if head.version == 4 else ICMPV6) or head.is_fragment:
        return None
    at = head.transport_offset
    if len(packet) < at + 8 or head.length < at + 8:
        return None
    kind, code, _, identifier, sequence = _ECHO.unpack_from(packet, at)
    is_reply = kind == _ECHO_REPLY[head.version]
    if code or not (is_reply or kind == _ECHO_REQUEST[head.version]):
        return None
    return Echo(is_reply, identifier, sequence, bytes(packet[at + 8 : head.length]))


def icmp_echo_reply(for_packet: bytes) -> bytes:
    """The reply to an echo request, of which every byte must be here.

    Raises PacketError for what is no whole request, UnanswerableError for one to a group.
    """
    head, echo = parse_head(for_packet), parse_echo(for_packet)
    if echo is None or echo.is_reply or len(for_packet) < head.length:
        raise PacketError("no whole ICMP echo request")
    _check_answerable(head)
    return icmp_echo_reply_packet(head.destination, head.source, echo.identifier, echo.sequence, echo.payload)


def icmp_echo_reply_packet(source: bytes, destination: bytes, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An echo reply from its parts. Raises ValueError for parts that make no packet."""
    kind = _ECHO_REPLY[4 if len(source) == 4 else 6]
    try:
        return _icmp_packet(source, destination, _ECHO.pack(kind, 0, 0, identifier, sequence) + payload)
    except struct.error as error:
        raise ValueError(f"echo reply: {error}") from None


def udp_datagram(source: bytes, source_port: int, destination: bytes, port: int, payload: bytes) -> bytes:
    """A UDP packet. Raises ValueError for more than 65,507 bytes (IPv4) or 65,527 (IPv6), or a port that is none."""
    length = len(payload) + 8
    try:
        checksum = transport_checksum(UDP, source, destination, _UDP_HEADER(source_port, port, length, 0) + payload)
        header = _UDP_HEADER(source_port, port, length, checksum)
    except struct.error:
        raise ValueError(f"UDP from port {source_port} to {port}, {len(payload)} bytes") from None
    return ip_packet(UDP, source, destination, header + payload)


def _tcp_head(packet: bytes) -> PacketHead:
    head = parse_head(packet)
    if head.protocol != TCP or head.is_fragment:
        raise PacketError(f"protocol {head.protocol}{', a fragment' * head.is_fragment}: no TCP segment")
    _check_answerable(head)
    return head


def _tcp_answer(head: PacketHead, sequence: int, acknowledgement: int, flags: int, window: int) -> bytes:
    ports = head.destination_port, head.source_port
    fields = (*ports, sequence & 0xFFFFFFFF, acknowledgement & 0xFFFFFFFF, 5 << 4, flags, window)
    checksum = transport_checksum(TCP, head.destination, head.source, _TCP_HEADER(*fields, 0, 0))
    return ip_packet(TCP, head.destination, head.source, _TCP_HEADER(*fields, checksum, 0))


def _is_group(address: bytes) -> bool:
    """Multicast, and what else stands for several hosts or none: 240.0.0.0/4 with broadcast, 0.0.0.0 and ::."""
    first = address[0]
    return (first >= 224 if len(address) == 4 else first == 255) or not any(address)


def _check_answerable(head: PacketHead, to_group: bool = False) -> None:
    if _is_group(head.source) or (_is_group(head.destination) and not to_group):
        raise UnanswerableError(
            f"a packet from {address_text(head.source)} to {address_text(head.destination)} is not answered"
        )
    if head.fragment_offset:
        raise UnanswerableError("only the first fragment of a packet is answered")


def _is_icmp_error(head: PacketHead, packet: bytes) -> bool:
    """Whether an ICMP packet is an error; one whose type was cut off is taken for one."""
    if len(packet) <= head.transport_offset:
        return True
    kind = packet[head.transport_offset]
    return kind not in _ICMP_QUERIES if head.version == 4 else kind < 128


def _icmp_packet(source: bytes, destination: bytes, body: bytes) -> bytes:
    if len(source) == 4:
        checksum, protocol = internet_checksum(body), ICMP
    else:
        # Other than ICMP for IPv4, ICMPv6 has the pseudo-header in its checksum (RFC 4443 §2.3).
        checksum, protocol = transport_checksum(ICMPV6, source, destination, body), ICMPV6
    return ip_packet(protocol, source, destination, body[:2] + checksum.to_bytes(2, "big") + body[4:])


def transport_checksum(protocol: int, source: bytes, destination: bytes, segment: bytes) -> int:
    """The checksum with the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1), of which only the sum matters.

    Never 0, of which 0xFFFF is the other name, because to UDP 0 means "no checksum" (RFC 768).
    """
    number = int.from_bytes(source + destination + segment + bytes(len(segment) & 1), "big")
    return 0xFFFF - (number + protocol + len(segment)) % 0xFFFF


def ip_packet(protocol: int, source: bytes, destination: bytes, body: bytes) -> bytes:
    """An IP packet with hop limit 64; over IPv4, with "don't fragment" and so without an identification (RFC 6864)."""
    try:
        if len(source) == 4:
            length = len(body) + 20
            words = 0x4500 + length + 0x4000 + (64 << 8 | protocol) + int.from_bytes(source + destination, "big")
            checksum = 0xFFFF - words % 0xFFFF
            header = _HEADER4(0x45, 0, length, 0, 0x4000, 64, protocol, checksum, source, destination)
        else:
            header = _HEADER6(6 << 28, len(body), protocol, 64, source, destination)
    except struct.error:
        raise ValueError(f"an IP packet cannot carry {len(body)} bytes") from None
    if len(source) != len(destination) or len(source) not in (4, 16):
        raise ValueError(f"addresses of {len(source)} and {len(destination)} bytes make no packet")
    return header + body
