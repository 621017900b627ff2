"""struct sockaddr_in and sockaddr_in6 as bytes, and the calls that take them as they are.

recvmmsg(2) and sendmmsg(2) speak them; `socket` speaks tuples, looks each address up anew, and has no AF_UNSPEC.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from .sockets import Address

_FAMILY = struct.Struct("=H")
_V4 = struct.Struct("=H2s4s8x")
_V6 = struct.Struct("=H2s4x16sI")
_MAPPED = b"\0" * 10 + b"\xff\xff"  # RFC 4291 §2.5.5.2


def pack(address: Address, family: int) -> bytes:
    """The sockaddr of an IP literal for a socket of `family`; IPv4 on an IPv6 socket becomes ::ffff:a.b.c.d.

    Raises OSError for what is no address, or an IPv6 address on an IPv4 socket.
    """
    host, _, zone = address[0].partition("%")
    port = address[1].to_bytes(2, "big")
    if family == socket.AF_INET:
        return _V4.pack(socket.AF_INET, port, socket.inet_pton(socket.AF_INET, host))
    scope = (int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)) if zone else 0
    if ":" in host:
        return _V6.pack(socket.AF_INET6, port, socket.inet_pton(socket.AF_INET6, host), scope)
    return _V6.pack(socket.AF_INET6, port, _MAPPED + socket.inet_pton(socket.AF_INET, host), 0)


def unpack(raw: bytes) -> Address:
    """The address in a sockaddr; a mapped IPv4 address is given as IPv4. Raises ValueError for another family."""
    (family,) = _FAMILY.unpack_from(raw)
    if family == socket.AF_INET:
        _, port, host = _V4.unpack_from(raw)
        return socket.inet_ntop(socket.AF_INET, host), int.from_bytes(port, "big")
    if family != socket.AF_INET6:
        raise ValueError(f"address family {family}")
    _, port, host, scope = _V6.unpack_from(raw)
    if host[:12] == _MAPPED:
        return socket.inet_ntop(socket.AF_INET, host[12:]), int.from_bytes(port, "big")
    zone = f"%{scope}" if scope else ""
    return socket.inet_ntop(socket.AF_INET6, host) + zone, int.from_bytes(port, "big")


def identity(raw: bytes) -> bytes:
    """Port and address alone, to compare by: without scope and flow label, which are set in one direction only."""
    return raw[2:8] if raw[:2] == _FAMILY.pack(socket.AF_INET) else raw[2:4] + raw[8:24]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.connect.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_libc.sendto.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_libc.sendto.restype = ctypes.c_ssize_t


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def connect_to(descriptor: int, raw: bytes) -> None:
    """connect(2). Raises OSError."""
    _check(_libc.connect(descriptor, raw, len(raw)))


def send_to(descriptor: int, data: bytes, raw: bytes | None) -> None:
    """Send one datagram without waiting, to `raw` or where the socket is connected (sendto(2)). Raises OSError."""
    _check(_libc.sendto(descriptor, data, len(data), socket.MSG_DONTWAIT, raw, len(raw) if raw else 0))


def leave_peer(sock: socket.socket) -> None:
    """Take the peer of a connected UDP socket away, and nothing else. Raises OSError.

    That is connect(2) to AF_UNSPEC, which is 0. __udp_disconnect() also forgets the device of SO_BINDTODEVICE, and the
    port unless it was asked for by number, which one that was bound to port 0 was not. Both are given back at once; to
    a socket without a device anybody may give one (Linux 5.7). Datagrams that arrive in between are refused.
    """
    port = sock.getsockname()[1]
    device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    _check(_libc.connect(sock.fileno(), bytes(16), 16))
    if device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    host, now, *rest = sock.getsockname()
    if now != port:
        sock.bind((host, port, *rest))
