"""What the host datapath reads from a packet, as little as possible: each new flow pays for it."""

from __future__ import annotations

import struct

from ..core.packets import ACK, SYN, TCP, PacketError, PacketHead, flow_key, parse_head
from .host_flow import TableKey

_TCP_START = struct.Struct(">I4xxB").unpack_from
_ICMP_QUERIES = {(1, 0), (1, 8), (58, 128), (58, 129)}
HAS_IP_HEADER = 1


def table_key(packet: bytes) -> TableKey:
    """The flow of any packet. Where there are no ports: for echoes their identifier, twice, else 0.

    Raises PacketError for what is no packet.
    """
    try:
        return flow_key(packet)
    except PacketError:
        head = parse_head(packet)
    at, identifier = head.transport_offset, 0
    if len(packet) >= at + 6 and (head.protocol, packet[at]) in _ICMP_QUERIES:
        identifier = packet[at + 4] << 8 | packet[at + 5]
    return head.protocol, head.source, identifier, head.destination, identifier


def initial_sequence(packet: bytes) -> int:
    """The sequence number of a SYN that begins a connection; -1 for any other TCP segment."""
    first = packet[0]
    if first == 0x45:
        at = 20
    elif first >> 4 == 6 and packet[6] == TCP:
        at = 40
    else:
        at = parse_head(packet).transport_offset
    try:
        sequence, flags = _TCP_START(packet, at + 4)
    except struct.error:
        raise PacketError("a TCP header that is cut off") from None
    return sequence if flags & (SYN | ACK) == SYN else -1


def segment(packet: bytes) -> tuple[PacketHead, bytes]:
    """Head and payload of a TCP segment or UDP datagram."""
    head = parse_head(packet)
    return head, packet[head.payload_offset : head.length]


def other_data(packet: bytes) -> bytes:
    """What a filter is shown of a packet that is neither TCP nor UDP: Apple's attribute word, then the packet.

    The word is NEFilterDataAttribute.hasIPHeader, 1, in the machine's byte order.
    """
    return struct.pack("=I", HAS_IP_HEADER) + packet
