"""Writing capture files that Wireshark reads: pcapng (draft-ietf-opsawg-pcapng), block by block.

Each function returns one block; a file is their concatenation: a section header, a description of each interface
(numbered from 0 in their order), then packets as they come and, best at the end, statistics. Since blocks follow one
another without an index, a file that was cut off after any block can be read.

    file.write(section_header(application="netext 0.1"))
    file.write(interface_description("netext0"))
    file.write(enhanced_packet(0, now_ns, packet, comment="curl[812]: claimed by sni_router"))

Times are in nanoseconds since 1970 (UTC). Numbers are little-endian: the section header says so to the reader.
"""

from __future__ import annotations

import struct
from enum import IntEnum

LINKTYPE_RAW = 101
"""Packets that begin with the IP header, version 4 or 6 (the registry of tcpdump.org)."""
MAX_COMMENT = 4096
"""Bytes of UTF-8; longer comments are cut. The format has room for 65,535."""

_SECTION_HEADER, _INTERFACE_DESCRIPTION, _INTERFACE_STATISTICS, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 5, 6
_CUSTOM, _CUSTOM_NOT_COPIED = 0x00000BAD, 0x40000BAD
_COMMENT = 1
_HARDWARE, _OS, _APPLICATION = 2, 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TIME_RESOLUTION = 2, 3, 9
_PACKET_FLAGS = 2
_STATISTICS_RECEIVED, _STATISTICS_DROPPED = 4, 5
_NANOSECONDS = b"\x09"  # 10⁻⁹ of a second

_WORD = struct.Struct("<I").pack
_LONG_WORD = struct.Struct("<Q").pack
_OPTION = struct.Struct("<HH").pack
_SECTION = struct.Struct("<IHHq").pack
_INTERFACE = struct.Struct("<HHI").pack
_PACKET = struct.Struct("<IIIII").pack
_STATISTICS = struct.Struct("<III").pack


class PacketDirection(IntEnum):
    """Which way a packet went, as seen by the interface."""

    UNKNOWN = 0
    INBOUND = 1
    OUTBOUND = 2


def section_header(hardware: str = "", os: str = "", application: str = "") -> bytes:
    """The block that begins a file; its texts, each of which may be empty, say what wrote it."""
    options = _text(_HARDWARE, hardware) + _text(_OS, os) + _text(_APPLICATION, application)
    # Version 1.0; the section's length is not known beforehand: -1.
    return _block(_SECTION_HEADER, _SECTION(0x1A2B3C4D, 1, 0, -1), options)


def interface_description(
    name: str, *, link_type: int = LINKTYPE_RAW, snaplen: int = 0, description: str = ""
) -> bytes:
    """The next interface. `snaplen` is the most bytes that are kept of a packet; 0 is no limit."""
    options = _text(_IF_NAME, name) + _text(_IF_DESCRIPTION, description)
    resolution = _option(_IF_TIME_RESOLUTION, _NANOSECONDS)
    return _block(_INTERFACE_DESCRIPTION, _INTERFACE(link_type, 0, snaplen), options + resolution)


def enhanced_packet(
    interface_id: int,
    timestamp_ns: int,
    data: bytes,
    original_length: int | None = None,
    *,
    comment: str = "",
    direction: PacketDirection = PacketDirection.UNKNOWN,
) -> bytes:
    """One packet. `original_length` is its length before it was cut off; without it, that of `data`."""
    length = len(data)
    head = _PACKET(
        interface_id,
        timestamp_ns >> 32,
        timestamp_ns & 0xFFFFFFFF,
        length,
        length if original_length is None else max(length, original_length),
    )
    options = _option(_PACKET_FLAGS, _WORD(direction)) if direction else b""
    return _block(_ENHANCED_PACKET, head + data + bytes(-length & 3), _text(_COMMENT, comment) + options)


def interface_statistics(
    interface_id: int,
    timestamp_ns: int,
    *,
    received: int | None = None,
    dropped: int | None = None,
    comment: str = "",
) -> bytes:
    """Packets that an interface has seen and lost up to a time; None is "not counted"."""
    options = _text(_COMMENT, comment)
    for code, count in ((_STATISTICS_RECEIVED, received), (_STATISTICS_DROPPED, dropped)):
        if count is not None:
            options += _option(code, _LONG_WORD(count))
    head = _STATISTICS(interface_id, timestamp_ns >> 32, timestamp_ns & 0xFFFFFFFF)
    return _block(_INTERFACE_STATISTICS, head, options)


def custom_block(enterprise: int, data: bytes, *, copyable: bool = True, comment: str = "") -> bytes:
    """A block that only readers of an enterprise (its IANA number) understand; Wireshark lists it as a frame of data.

    `copyable` says whether a tool that edits the file may take it over. The data are padded to a multiple of 4 bytes
    with zeros: say in them how long they are.
    """
    kind = _CUSTOM if copyable else _CUSTOM_NOT_COPIED
    return _block(kind, _WORD(enterprise) + data + bytes(-len(data) & 3), _text(_COMMENT, comment))


def _block(kind: int, body: bytes, options: bytes) -> bytes:
    if options:
        options += bytes(4)  # opt_endofopt
    length = _WORD(len(body) + len(options) + 12)
    return b"".join((_WORD(kind), length, body, options, length))


def _option(code: int, value: bytes) -> bytes:
    return _OPTION(code, len(value)) + value + bytes(-len(value) & 3)


def _text(code: int, text: str) -> bytes:
    """A text option, or nothing for no text. What UTF-8 cannot say (an undecodable argument) becomes a "?"."""
    if not text:
        return b""
    value = text[:MAX_COMMENT].replace("\0", "?").encode("utf-8", "replace")
    if len(value) > MAX_COMMENT:
        value = value[:MAX_COMMENT].decode("utf-8", "ignore").encode()
    return _option(code, value)
