"""A small encoder of nf_tables over netlink (include/uapi/linux/netfilter/nf_tables.h): a table, its chains and rules.

Not by the nft tool, for three reasons. A table that belongs to a socket (flag `owner`, Linux 5.12) vanishes with the
process that holds the socket, however it dies; nft ends at once, and its table with it. A batch is one transaction: all
of it is there, or nothing. And a queue can be had where nft cannot write it down: by the xtables target NFQUEUE inside
a table of our own, where the kernel lacks the `queue` expression.

A rule is a list of `Part`s. Each has its nft text beside its bytes, so that what `Table.text` prints, what errors
quote and what the kernel gets are one thing, said once.

Bit patterns in registers are in the machine's byte order (marks, interface numbers), except what comes out of a packet.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import DatapathError
from .netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    attributes,
    error_number,
    message,
    messages,
    nested,
)

NETLINK_NETFILTER, SUBSYSTEM = 12, 10
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEWTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE, DELRULE, NEWOBJ, GETOBJ = 0, 2, 3, 4, 5, 6, 8, 18, 19
NLM_F_APPEND = 0x800
NFPROTO_INET = 1
OWNER, PERSIST = 2, 4
"""Flags of a table: it belongs to the socket that makes it (Linux 5.12); it stays when that closes (Linux 6.9)."""
INPUT, OUTPUT = 1, 3
"""Hooks."""
COUNTER_OBJECT = 1
ESTABLISHED, RELATED, NEW, INVALID, UNTRACKED = 2, 4, 8, 1, 64
"""Bits of `ct state`."""
ORIGINAL, REPLY = 0, 1
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
_DROP, _ACCEPT, _JUMP, _GOTO = 0, 1, -3, -4
_EQUAL, _NOT_EQUAL, _AT_MOST, _AT_LEAST = 0, 1, 3, 5
_REGISTER = 1
_PROTOCOLS = {1: "icmp", 2: "igmp", TCP: "tcp", UDP: "udp", 58: "ipv6-icmp"}
_STATES = {"established": ESTABLISHED, "related": RELATED, "new": NEW, "invalid": INVALID, "untracked": UNTRACKED}
_ANSWER_TIMEOUT = 10.0  # seconds; a commit waits for a grace period of RCU, which is some milliseconds


class Part(NamedTuple):
    """A condition or a statement of a rule."""

    text: str
    """As nft writes it."""
    data: bytes
    """The attribute list of expressions."""
    queues: bool = False
    """Whether it hands packets to a queue."""


class Rule(NamedTuple):
    """The parts of a rule, in order."""

    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The rule in nft's words."""
        return " ".join(part.text for part in self.parts)


class Chain(NamedTuple):
    """A chain; with a hook, a base chain of type filter whose policy is accept."""

    name: str
    rules: Sequence[Rule]
    hook: int | None = None
    priority: int = 0
    comment: str = ""
    """What it is for: only in the text."""

    @property
    def text(self) -> str:
        """The chain in nft's words."""
        lines = [f"  # {line}" for line in self.comment.splitlines()] + [f"  chain {self.name} {{"]
        if self.hook is not None:
            hook = {INPUT: "input", OUTPUT: "output"}[self.hook]
            lines.append(f"    type filter hook {hook} priority {self.priority}; policy accept;")
        return "\n".join(lines + [f"    {rule.text}" for rule in self.rules] + ["  }"])


class Table(NamedTuple):
    """A table of family inet and all that is in it."""

    name: str
    counters: Sequence[str]
    chains: Sequence[Chain]
    flags: int = 0

    @property
    def text(self) -> str:
        """The table as `nft -f` reads it, comments included."""
        lines = [f"table inet {self.name} {{"]
        if self.flags:
            lines.append(f"  flags {','.join(word for bit, word in _FLAGS.items() if self.flags & bit)};")
        lines += [f"  counter {name} {{ }}" for name in self.counters]
        return "\n".join([*lines, *(chain.text for chain in self.chains), "}\n"])


_FLAGS = {OWNER: "owner", PERSIST: "persist"}

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


def rule(*parts: Part | tuple[Part, ...]) -> Rule:
    """A rule of parts and of groups of parts."""
    flat: list[Part] = []
    for part in parts:
        if isinstance(part, Part):
            flat.append(part)
        else:
            flat += part
    return Rule(tuple(flat))


# --- transactions


class Change(NamedTuple):
    """One message of a transaction."""

    what: str
    """The object, for errors."""
    kind: int
    flags: int
    body: bytes
    queues: bool = False


def _name(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def add_table(name: str, flags: int) -> Change:
    """Make a table; one that is there is kept, or taken over if its owner is gone."""
    return Change(f"nft table inet {name}", NEWTABLE, NLM_F_CREATE, _name(1, name) + _u32(2, flags))


def delete_table(name: str) -> Change:
    """Remove a table and all that is in it."""
    return Change(f"nft table inet {name}", DELTABLE, 0, _name(1, name))


def add_counter(table: str, name: str) -> Change:
    """Make a named counter."""
    body = _name(1, table) + _name(2, name) + _u32(3, COUNTER_OBJECT) + nested(4)
    return Change(f"nft counter inet {table} {name}", NEWOBJ, NLM_F_CREATE, body)


def add_chain(table: str, chain: Chain) -> Change:
    """Make a chain, without its rules."""
    body = _name(1, table) + _name(3, chain.name)
    if chain.hook is not None:
        body += nested(4, _u32(1, chain.hook), _u32(2, chain.priority)) + _u32(5, _ACCEPT) + _name(7, "filter")
    return Change(f"nft chain inet {table} {chain.name}", NEWCHAIN, NLM_F_CREATE, body)


def flush_chain(table: str, chain: str) -> Change:
    """Remove the rules of a chain."""
    return Change(f"nft chain inet {table} {chain}", DELRULE, 0, _name(1, table) + _name(2, chain))


def delete_chain(table: str, chain: str) -> Change:
    """Remove a chain that no rule names any more."""
    return Change(f"nft chain inet {table} {chain}", DELCHAIN, 0, _name(1, table) + _name(3, chain))


def flush_table(table: str) -> Change:
    """Remove the rules of all chains."""
    return Change(f"nft table inet {table}", DELRULE, 0, _name(1, table))


def add_rule(table: str, chain: str, rule: Rule) -> Change:
    """Put a rule at the end of a chain."""
    body = _name(1, table) + _name(2, chain) + nested(4, *(part.data for part in rule.parts))
    what = f"nft rule inet {table} {chain}: {rule.text}"
    return Change(what, NEWRULE, NLM_F_CREATE | NLM_F_APPEND, body, any(part.queues for part in rule.parts))


def table_changes(table: Table) -> list[Change]:
    """What makes a whole table, in an order in which nothing is named before it is there."""
    changes = [add_table(table.name, table.flags)]
    changes += [add_counter(table.name, name) for name in table.counters]
    changes += [add_chain(table.name, chain) for chain in table.chains]
    changes += [add_rule(table.name, chain.name, rule) for chain in table.chains for rule in chain.rules]
    return changes


def refill_changes(table: Table, chains: Iterable[str]) -> list[Change]:
    """What puts new rules into a table that is there with these `chains`, and takes it over if its owner is gone.

    The hooks stay where they are, and a packet is under the old rules or the new ones. To delete the table and make
    it again, in one transaction too, would let a packet through that met the new chain before the commit and the old
    one after it.
    """
    made, wanted = table_changes(table), {chain.name for chain in table.chains}
    gone = [delete_chain(table.name, name) for name in chains if name not in wanted]
    return [made[0], flush_table(table.name), *gone, *made[1:]]


class NftError(DatapathError):
    """The kernel refused a transaction; nothing of it was done. `change` is the first message that it refused."""

    def __init__(self, change: Change | None, number: int) -> None:
        what = change.what if change else "nft transaction"
        self.change = change
        permitted = "next step: CAP_NET_ADMIN is needed, run as root" if number == errno.EPERM else ""
        super().__init__(f"{what}: {os.strerror(number)}", errno=number, object=what, next_step=permitted)


def transaction(changes: Sequence[Change], sequence: int = 0) -> bytes:
    """The datagram that makes all changes, or none. The last message of them asks for an acknowledgement."""
    header = struct.pack(">BBH", 0, 0, SUBSYSTEM)
    parts = [message(BATCH_BEGIN, NLM_F_REQUEST, sequence, header)]
    inet = struct.pack(">BBH", NFPROTO_INET, 0, 0)
    for number, change in enumerate(changes, 1):
        flags = NLM_F_REQUEST | change.flags | (NLM_F_ACK if number == len(changes) else 0)
        parts.append(message(SUBSYSTEM << 8 | change.kind, flags, sequence + number, inet + change.body))
    parts.append(message(BATCH_END, NLM_F_REQUEST, sequence + len(changes) + 1, header))
    return b"".join(parts)


class NftSocket:
    """The socket that makes transactions, and owns the tables with the flag OWNER. Owns `sock`.

    It acts in the network namespace in which the socket was made. Blocking: for set-up, never for a hot path.
    """

    def __init__(self, sock: socket.socket | None = None) -> None:
        self.socket = sock or socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self.socket.settimeout(_ANSWER_TIMEOUT)
        self._sequence = 0

    def apply(self, changes: Iterable[Change]) -> None:
        """Make all changes at once. Raises NftError when one of them is refused; then none is made."""
        changes = list(changes)
        first = self._sequence
        self._sequence += len(changes) + 2
        self.socket.send(transaction(changes, first))
        while True:
            for kind, sequence, body in messages(self.socket.recv(65536)):
                place = sequence - first
                if kind != NLMSG_ERROR or not 0 <= place <= len(changes) + 1:
                    continue  # of a transaction before
                if number := error_number(body):
                    change = changes[place - 1] if 0 < place <= len(changes) else None
                    raise NftError(change, number)
                if place == len(changes):
                    return

    def counters(self, table: str) -> dict[str, tuple[int, int]]:
        """(packets, bytes) of each named counter of a table; {} if there is no such table."""
        bodies = self._dump(GETOBJ, _name(1, table) + _u32(3, COUNTER_OBJECT))
        return dict(found for body in bodies if (found := parse_counter(body)) is not None)

    def chains(self, table: str) -> list[str]:
        """The names of the chains of a table; [] if there is no such table."""
        found = [attributes(body, 4) for body in self._dump(GETCHAIN, b"")]
        names = [(bytes(chain.get(1, b"")), bytes(chain.get(3, b""))) for chain in found]
        return [chain.rstrip(b"\0").decode() for owner, chain in names if owner == table.encode() + b"\0"]

    def _dump(self, kind: int, body: bytes) -> list[memoryview]:
        self._sequence += 1
        header, bodies = struct.pack(">BBH", NFPROTO_INET, 0, 0), list[memoryview]()
        flags = NLM_F_REQUEST | NLM_F_DUMP
        self.socket.send(message(SUBSYSTEM << 8 | kind, flags, self._sequence, header + body))
        while True:
            for found, sequence, answer in messages(self.socket.recv(65536)):
                if sequence != self._sequence:
                    continue
                if found in (NLMSG_DONE, NLMSG_ERROR):
                    return bodies
                bodies.append(answer)

    def close(self) -> None:
        """Close the socket: tables that it owns go, unless they persist."""
        self.socket.close()


def parse_counter(body: bytes | memoryview) -> tuple[str, tuple[int, int]] | None:
    """(name, (packets, bytes)) of one message of a dump of objects; None if it is no counter."""
    found = attributes(body, 4)
    if not {2, 4} <= found.keys():
        return None
    data = attributes(found[4])
    if len(data.get(1, b"")) != 8 or len(data.get(2, b"")) != 8:
        return None
    name = bytes(found[2]).rstrip(b"\0").decode("utf-8", "replace")
    return name, (int.from_bytes(data[2], "big"), int.from_bytes(data[1], "big"))
