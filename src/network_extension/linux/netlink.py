"""Netlink framing (RFC 3549; include/uapi/linux/netlink.h): messages and attributes as bytes, and a small socket.

Encoding and decoding are plain functions so that the clients above them (`interfaces`, `nfqueue`, `sock_diag`) can be
tested without a kernel. pyroute2 does far more, and importing it takes ten times as long as all of `netext run`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from ..errors import DatapathError

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + b"\0" * (-len(value) & 3)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One netlink message; `body` starts with the family's own header."""
    return _HEADER.pack(len(body) + 16, kind, flags, sequence, 0) + body


def attributes(data: bytes | memoryview, start: int = 0) -> dict[int, memoryview]:
    """The attributes of `data` from offset `start`, by type without flags; a truncated tail is left out."""
    view, found, end = memoryview(data), {}, len(data)
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(view, start)
        if length < 4 or start + length > end:
            break
        found[kind & NLA_TYPE_MASK] = view[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


def messages(data: bytes | memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """`(type, sequence, body)` of each message in one received buffer; stops at the first malformed length."""
    view, start, end = memoryview(data), 0, len(data)
    while start + 16 <= end:
        length, kind, _flags, sequence, _port = _HEADER.unpack_from(view, start)
        if length < 16 or start + length > end:
            return
        yield kind, sequence, view[start + 16 : start + length]
        start += (length + 3) & ~3


def error_number(body: memoryview) -> int:
    """The positive errno of an NLMSG_ERROR body; 0 is an acknowledgement."""
    return -int(_ERROR.unpack_from(body)[0]) if len(body) >= 4 else errno.EPROTO


class NetlinkSocket:
    """A netlink socket that asks and waits for the acknowledgement: for set-up code, never for a hot path."""

    def __init__(self, protocol: int) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self.socket.bind((0, 0))
        self._sequence = 0

    def request(self, what: str, kind: int, flags: int, body: bytes) -> None:
        """Send one request and wait for its acknowledgement.

        `what` names the object in the DatapathError that a refusal raises.
        """
        self._sequence += 1
        self.socket.send(message(kind, flags | NLM_F_REQUEST | NLM_F_ACK, self._sequence, body))
        while True:
            for found, sequence, answer in messages(self.socket.recv(65536)):
                if found == NLMSG_ERROR and sequence == self._sequence:
                    if number := error_number(answer):
                        raise DatapathError(f"{what}: {os.strerror(number)}", errno=number)
                    return

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
