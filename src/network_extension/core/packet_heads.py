"""Reading the heads of IP packets. Import these names from `core.packets`, which makes packets as well.

A packet is as the kernel's queue hands it over: it starts with the IP header and may be cut off anywhere. Two depths:

- `flow_key`, the fast one: five values of an unfragmented TCP or UDP packet, to find its flow;
- `parse_head`: everything of the IP, TCP and UDP headers that a decision or an answer needs.

Checksums are not looked at: the kernel did, or will (packets that leave this host have theirs filled in by hardware).
Addresses are `bytes` (4 or 16) everywhere; `address_text` and `address_bytes` convert, and remember.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from ..errors import PeerError

TCP, UDP = 6, 17
_PROTOCOL_NAMES = {1: "icmp", TCP: "tcp", UDP: "udp", 58: "icmp6", 132: "sctp"}

FlowKey = tuple[int, bytes, int, bytes, int]
"""(protocol, source, source port, destination, destination port)"""

MAX_EXTENSION_HEADERS = 8
"""How many IPv6 extension headers are walked; senders use one or two (RFC 8504 §5.3 lets nodes set such a limit)."""

# Fields that are skipped are none of a flow's business: type of service, identification, TTL, checksum.
_FLOW4 = struct.Struct(">B5xHxB2x4s4sHH").unpack_from
_FLOW6 = struct.Struct(">B5xBx16s16sHH").unpack_from
_IPV4 = struct.Struct(">BxH2xHxB2x4s4s").unpack_from
_IPV6 = struct.Struct(">4xHBx16s16s").unpack_from
_TCP = struct.Struct(">HHIIBB").unpack_from
_PORTS = struct.Struct(">HH").unpack_from

_MORE_FRAGMENTS, _FRAGMENT_OFFSET = 0x2000, 0x1FFF
_FRAGMENT, _AUTHENTICATION = 44, 51
# Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, shim6 (IANA, RFC 7045).
_EXTENSION_HEADERS = frozenset({0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140})


def protocol_name(number: int) -> str:
    """An IP protocol for people: `tcp`, `icmp6`, `protocol 47`."""
    return _PROTOCOL_NAMES.get(number) or f"protocol {number}"


class PacketError(PeerError):
    """Bytes that are no IP packet, or too few of one, for what was asked."""


class PacketHead(NamedTuple):
    """What the headers of a packet say. Offsets count from the first byte of the IP header."""

    version: int
    protocol: int
    """IP protocol number; for IPv6 that of the first header that is no extension header."""
    source: bytes
    destination: bytes
    source_port: int
    """0 where there is none: neither TCP nor UDP, or a later fragment."""
    destination_port: int
    flags: int
    """TCP flags (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32); 0 without TCP, like the next two."""
    sequence: int
    acknowledgement: int
    transport_offset: int
    """Where the header after IP begins."""
    payload_offset: int
    """Where the data of TCP or UDP begin; may lie behind the end of a packet that was cut off."""
    length: int
    """Length of the whole packet by its IP header, of which less may be here."""
    is_fragment: bool
    fragment_offset: int
    """Bytes of the datagram before this fragment; ports are known only at 0."""

    @property
    def key(self) -> FlowKey:
        """As `flow_key`."""
        return self.protocol, self.source, self.source_port, self.destination, self.destination_port

    @property
    def payload_length(self) -> int:
        """Bytes of data that the whole packet carries."""
        return max(0, self.length - self.payload_offset)


@lru_cache(maxsize=8192)
def address_text(address: bytes) -> str:
    """An address of 4 or 16 bytes as text (RFC 5952). Raises ValueError for another length."""
    if len(address) == 4:
        return "%d.%d.%d.%d" % tuple(address)
    if len(address) == 16 and address.startswith(bytes(10) + b"\xff\xff"):
        return "::ffff:%d.%d.%d.%d" % tuple(address[12:])
    return str(IPv6Address(address))


@lru_cache(maxsize=8192)
def address_bytes(text: str) -> bytes:
    """The 4 or 16 bytes of an address; a scope (`%eth0`) is dropped. Raises ValueError for what is no address."""
    return ip_address(text.partition("%")[0]).packed


def flow_key(packet: bytes) -> FlowKey:
    """The flow of an unfragmented TCP or UDP packet. Raises PacketError for any other."""
    try:
        first, fragment, protocol, source, destination, source_port, port = _FLOW4(packet)
        # 0x45: version 4, and no options before the ports.
        if first == 0x45 and not fragment & 0x3FFF and (protocol == TCP or protocol == UDP):
            return protocol, source, source_port, destination, port
        if first >> 4 == 6:
            _, protocol, source, destination, source_port, port = _FLOW6(packet)
            if protocol == TCP or protocol == UDP:
                return protocol, source, source_port, destination, port
    except struct.error:
        raise PacketError(f"{len(packet)} bytes are too few for the ports of a packet") from None
    head = parse_head(packet)
    if head.is_fragment or head.protocol not in (TCP, UDP):
        raise PacketError(f"protocol {head.protocol}{', a fragment' * head.is_fragment}: no ports to tell a flow by")
    return head.key


def parse_head(packet: bytes) -> PacketHead:
    """Read a packet's headers. Raises PacketError when they are not all there or contradict themselves."""
    try:
        return _parse_head(packet)
    except (struct.error, IndexError):
        raise PacketError(f"the packet is cut off within its headers, after {len(packet)} bytes") from None


def _parse_head(packet: bytes) -> PacketHead:
    version = packet[0] >> 4
    if version == 4:
        protocol, source, destination, at, length, is_fragment, offset = _parse_ipv4(packet)
    elif version == 6:
        protocol, source, destination, at, length, is_fragment, offset = _parse_ipv6(packet)
    else:
        raise PacketError(f"IP version {version}")
    source_port = port = flags = sequence = acknowledgement = 0
    payload = at
    if offset == 0:
        if protocol == TCP:
            source_port, port, sequence, acknowledgement, header, flags = _TCP(packet, at)
            header = header >> 2 & 60
            if header < 20:
                raise PacketError(f"a TCP header of {header} bytes")
            payload = at + header
        elif protocol == UDP:
            source_port, port = _PORTS(packet, at)
            payload = at + 8
        if payload > length:
            raise PacketError(f"a header that ends at byte {payload} of a packet of {length}")
    # What PacketHead(...) does, without its Python frame.
    return tuple.__new__(
        PacketHead,
        (
            version, protocol, source, destination, source_port, port, flags, sequence, acknowledgement,
            at, payload, length, is_fragment, offset,
        ),
    )  # fmt: skip


_Parsed = tuple[int, bytes, bytes, int, int, bool, int]


def _parse_ipv4(packet: bytes) -> _Parsed:
    first, length, fragment, protocol, source, destination = _IPV4(packet)
    at = (first & 15) << 2
    # A total length of 0 is a packet of over 64 KiB that segmentation offload will cut (Linux 6.3, "BIG TCP").
    length = length or len(packet)
    if at < 20 or length < at:
        raise PacketError(f"an IPv4 header of {at} bytes in a packet of {length}")
    offset = fragment & _FRAGMENT_OFFSET
    return protocol, source, destination, at, length, bool(offset or fragment & _MORE_FRAGMENTS), offset << 3


def _parse_ipv6(packet: bytes) -> _Parsed:
    length, protocol, source, destination = _IPV6(packet)
    # 0: the length stands in a jumbo option (RFC 2675), or nowhere.
    length = length + 40 if length else len(packet)
    at, is_fragment, offset = 40, False, 0
    for _ in range(MAX_EXTENSION_HEADERS):
        if protocol not in _EXTENSION_HEADERS or offset:
            return protocol, source, destination, at, length, is_fragment, offset
        size = (packet[at + 1] + 1) << 3
        if protocol == _FRAGMENT:
            field, size = packet[at + 2] << 8 | packet[at + 3], 8
            is_fragment, offset = is_fragment or bool(field & 0xFFF9), field & 0xFFF8
        elif protocol == _AUTHENTICATION:
            size = (packet[at + 1] + 2) << 2
        protocol, at = packet[at], at + size
    if protocol in _EXTENSION_HEADERS:
        raise PacketError(f"more than {MAX_EXTENSION_HEADERS} IPv6 extension headers")
    return protocol, source, destination, at, length, is_fragment, offset
