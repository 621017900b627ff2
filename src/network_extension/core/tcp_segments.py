"""TCP segments with data, as whole IP packets: what plays the part of an end of a connection sends them."""

from __future__ import annotations

import struct

from .packets import TCP, ip_packet, transport_checksum

_HEADER = struct.Struct(">HHIIBBHHH").pack
WINDOW = 65535


def tcp_segment(
    source: bytes,
    source_port: int,
    destination: bytes,
    port: int,
    sequence: int,
    acknowledgement: int,
    flags: int,
    data: bytes = b"",
) -> bytes:
    """One segment without options (RFC 9293 §3.1). Sequence numbers wrap. Raises ValueError for too many bytes."""
    fields = source_port, port, sequence & 0xFFFFFFFF, acknowledgement & 0xFFFFFFFF, 5 << 4, flags, WINDOW
    checksum = transport_checksum(TCP, source, destination, _HEADER(*fields, 0, 0) + data)
    return ip_packet(TCP, source, destination, _HEADER(*fields, checksum, 0) + data)
