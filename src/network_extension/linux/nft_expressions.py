"""Expressions of nf_tables, as bytes and as nft's words: what a rule looks at and what it does.

A `Part` is a condition or a statement, a list of the kernel's expressions (nft_expressions in net/netfilter/nft_*.c)
that load into register 1 and compare, change or store it. Its text is beside its bytes, so that what is shown, what
errors quote and what the kernel gets are said once.

Bit patterns in registers are in the machine's byte order (marks, interface numbers), except what comes out of a packet.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import NamedTuple

from .netlink import attribute, nested

INPUT, OUTPUT = 1, 3
"""Hooks."""
COUNTER_OBJECT = 1
ORIGINAL, REPLY = 0, 1
"""Directions of a connection."""
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
_DROP, _ACCEPT, _JUMP, _GOTO = 0, 1, -3, -4
_EQUAL, _NOT_EQUAL, _AT_MOST, _AT_LEAST = 0, 1, 3, 5
_REGISTER = 1
_PROTOCOLS = {1: "icmp", 2: "igmp", TCP: "tcp", UDP: "udp", 58: "ipv6-icmp"}
_STATES = {"established": 2, "related": 4, "new": 8, "invalid": 1, "untracked": 64}


class Part(NamedTuple):
    """A condition or a statement of a rule."""

    text: str
    """As nft writes it."""
    data: bytes
    """The attribute list of expressions."""
    queues: bool = False
    """Whether it hands packets to a queue."""


# --- expressions


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, attribute(1, name.encode() + b"\0"), nested(2, *attributes))


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _native(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def _value(kind: int, data: bytes) -> bytes:
    return nested(kind, attribute(1, data))


def _compare(data: bytes, operation: int = _EQUAL) -> bytes:
    return _expression("cmp", _u32(1, _REGISTER), _u32(2, operation), _value(3, data))


def _change(keep: bytes, flip: bytes) -> bytes:
    """The register becomes (register & keep) ^ flip."""
    return _expression(
        "bitwise", _u32(1, _REGISTER), _u32(2, _REGISTER), _u32(3, len(keep)), _value(4, keep), _value(5, flip)
    )


def _meta(key: int) -> bytes:
    return _expression("meta", _u32(2, key), _u32(1, _REGISTER))


def _ct(key: int) -> bytes:
    return _expression("ct", _u32(2, key), _u32(1, _REGISTER))


def _payload(offset: int, length: int) -> bytes:
    """`length` bytes of the transport header."""
    return _expression("payload", _u32(1, _REGISTER), _u32(2, 2), _u32(3, offset), _u32(4, length))


def _verdict(code: int, chain: str = "") -> bytes:
    target = attribute(2, chain.encode() + b"\0") if chain else b""
    return _expression("immediate", _u32(1, 0), nested(2, nested(2, _u32(1, code), target)))


def _hex(value: int) -> str:
    return f"0x{value:08x}"


_MARK, _STATE, _DIRECTION, _IIF, _OIF, _SKUID, _L4PROTO = 3, 0, 1, 4, 5, 10, 16


def _mark_is(load: bytes, name: str, mask: int, value: int, negated: bool) -> Part:
    operation, sign = (_NOT_EQUAL, "!=") if negated else (_EQUAL, "==")
    data = load + _change(_native(mask), bytes(4)) + _compare(_native(value), operation)
    return Part(f"{name} & {_hex(mask)} {sign} {_hex(value)}", data)


def ct_mark(mask: int, value: int, *, negated: bool = False) -> Part:
    """Some bits of the connection's mark are `value` (or are not)."""
    return _mark_is(_ct(_MARK), "ct mark", mask, value, negated)


def meta_mark(mask: int, value: int, *, negated: bool = False) -> Part:
    """Some bits of the packet's mark are `value` (or are not)."""
    return _mark_is(_meta(_MARK), "meta mark", mask, value, negated)


def socket_mark(mask: int, value: int, *, negated: bool = False) -> Part:
    """Some bits of what the program set with SO_MARK are `value` (or are not)."""
    load = _expression("socket", _u32(1, 1), _u32(2, _REGISTER))
    return _mark_is(load, "socket mark", mask, value, negated)


def set_ct_mark(mask: int, value: int) -> Part:
    """Give some bits of the connection's mark a value; the others keep theirs."""
    keep = ~mask & 0xFFFFFFFF
    store = _expression("ct", _u32(2, _MARK), _u32(4, _REGISTER))
    data = _ct(_MARK) + _change(_native(keep), _native(value)) + store
    return Part(f"ct mark set ct mark & {_hex(keep)} ^ {_hex(value)}", data)


def clear_meta_mark(mask: int) -> Part:
    """Clear some bits of the packet's mark; the others keep their values."""
    keep = ~mask & 0xFFFFFFFF
    store = _expression("meta", _u32(2, _MARK), _u32(3, _REGISTER))
    return Part(f"meta mark set meta mark & {_hex(keep)}", _meta(_MARK) + _change(_native(keep), bytes(4)) + store)


def ct_state(*names: str) -> Part:
    """The packet's connection is in one of these states."""
    bits = sum(_STATES[name] for name in names)
    return Part(
        f"ct state {','.join(names)}",
        _ct(_STATE) + _change(_native(bits), bytes(4)) + _compare(bytes(4), _NOT_EQUAL),
    )


def ct_direction(direction: int) -> Part:
    """The packet travels as the first one of its connection did, or the other way."""
    return Part(f"ct direction {('original', 'reply')[direction]}", _ct(_DIRECTION) + _compare(bytes([direction])))


def interface(hook: int, index: int, name: str) -> Part:
    """The packet came by (INPUT) or leaves by (OUTPUT) this interface."""
    word, key = ("iif", _IIF) if hook == INPUT else ("oif", _OIF)
    return Part(f'{word} "{name}"', _meta(key) + _compare(_native(index)))


def user_socket() -> Part:
    """The packet comes out of a socket that a program has a descriptor of: a kernel's socket has no `skuid`."""
    return Part("meta skuid != 4294967295", _meta(_SKUID) + _compare(b"\xff" * 4, _NOT_EQUAL))


def protocol(number: int, *, negated: bool = False) -> Part:
    """The packet is of this transport protocol (or is not)."""
    sign, operation = ("!= ", _NOT_EQUAL) if negated else ("", _EQUAL)
    data = _meta(_L4PROTO) + _compare(bytes([number]), operation)
    return Part(f"meta l4proto {sign}{_PROTOCOLS.get(number, number)}", data)


def _within(text: str, offset: int, first: int, last: int, size: int) -> Part:
    span = f"{first}-{last}" if first != last else str(first)
    load = _payload(offset, size)
    if first == last:
        return Part(f"{text} {span}", load + _compare(first.to_bytes(size, "big")))
    ends = _compare(first.to_bytes(size, "big"), _AT_LEAST) + _compare(last.to_bytes(size, "big"), _AT_MOST)
    return Part(f"{text} {span}", load + ends)


def udp_ports(source: tuple[int, int] | None = None, destination: tuple[int, int] | None = None) -> tuple[Part, ...]:
    """UDP, from a port and to a port in these ranges, ends included."""
    parts = [protocol(UDP)]
    if source:
        parts.append(_within("udp sport", 0, *source, 2))
    if destination:
        parts.append(_within("udp dport", 2, *destination, 2))
    return tuple(parts)


def icmpv6_types(first: int, last: int) -> tuple[Part, ...]:
    """ICMPv6 messages of these types, ends included."""
    return protocol(58), _within("icmpv6 type", 0, first, last, 1)


def tcp_reset_flag() -> tuple[Part, ...]:
    """TCP segments that reset a connection."""
    flag = _payload(13, 1) + _change(b"\4", b"\0") + _compare(b"\0", _NOT_EQUAL)
    return protocol(TCP), Part("tcp flags & rst != 0", flag)


def tcp_opening() -> tuple[Part, ...]:
    """TCP segments that ask for a new connection: SYN, and neither ACK, RST nor FIN."""
    flags = _payload(13, 1) + _change(b"\x17", b"\0") + _compare(b"\2")
    return protocol(TCP), Part("tcp flags & (fin | syn | rst | ack) == syn", flags)


# --- statements

ACCEPT = Part("accept", _verdict(_ACCEPT))
DROP = Part("drop", _verdict(_DROP))
REJECT_TCP = Part("reject with tcp reset", _expression("reject", _u32(1, 1)))
REJECT_PORT = Part("reject with icmpx port-unreachable", _expression("reject", _u32(1, 2), attribute(2, b"\1")))
REJECT_PROHIBITED = Part("reject with icmpx admin-prohibited", _expression("reject", _u32(1, 2), attribute(2, b"\3")))


def goto(chain: str) -> Part:
    """Go on in another chain, and do not come back."""
    return Part(f"goto {chain}", _verdict(_GOTO, chain))


def jump(chain: str) -> Part:
    """Go through another chain, and come back."""
    return Part(f"jump {chain}", _verdict(_JUMP, chain))


def count(counter: str) -> Part:
    """Add the packet to a counter of the table."""
    data = _expression("objref", _u32(1, COUNTER_OBJECT), attribute(2, counter.encode() + b"\0"))
    return Part(f'counter name "{counter}"', data)


def queue(number: int, *, bypass: bool, native: bool = True) -> Part:
    """Hand the packet to a queue. With `bypass` it goes on its way if nobody reads that queue, else it is dropped.

    `native` is nft's own expression (CONFIG_NFT_QUEUE); otherwise the target of xtables through nft_compat, revision 3
    (struct xt_NFQ_info_v3), which `nft list` shows in the same words.
    """
    text = f"queue{' flags bypass' if bypass else ''} to {number}"
    if native:
        parts = (
            attribute(1, struct.pack(">H", number)),
            attribute(2, b"\0\1"),
            attribute(3, struct.pack(">H", bypass)),
        )
        return Part(text, _expression("queue", *parts), queues=True)
    information = struct.pack("=HHHxx", number, 1, bypass)
    data = _expression("target", attribute(1, b"NFQUEUE\0"), _u32(2, 3), attribute(3, information))
    return Part(text, data, queues=True)
