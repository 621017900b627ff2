"""A small encoder of nf_tables over netlink (include/uapi/linux/netfilter/nf_tables.h): a table, its chains and rules.

Not by the nft tool, for three reasons. A table that belongs to a socket (flag `owner`, Linux 5.12) vanishes with the
process that holds the socket, however it dies; nft ends at once, and its table with it. A batch is one transaction: all
of it is there, or nothing. And a queue can be had where nft cannot write it down: by the xtables target NFQUEUE inside
a table of our own, where the kernel lacks the `queue` expression.

A rule is a list of `Part`s (`nft_expressions`).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
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
from .nft_expressions import COUNTER_OBJECT, INPUT, OUTPUT, Part

NETLINK_NETFILTER, SUBSYSTEM = 12, 10
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEWTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE, DELRULE, NEWOBJ, GETOBJ = 0, 2, 3, 4, 5, 6, 8, 18, 19
NLM_F_APPEND = 0x800
NFPROTO_INET = 1
OWNER, PERSIST = 2, 4
"""Flags of a table: it belongs to the socket that makes it (Linux 5.12); it stays when that closes (Linux 6.9)."""
_ACCEPT = 1
_ANSWER_TIMEOUT = 10.0  # seconds; a commit waits for a grace period of RCU, which is some milliseconds


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


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


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

    def _receive(self) -> Iterator[tuple[int, int, memoryview]]:
        """Messages as they come."""
        while True:
            try:
                data = self.socket.recv(65536)
            except TimeoutError as error:
                what = f"nftables: the kernel has not answered for {_ANSWER_TIMEOUT:.0f} s"
                raise DatapathError(what, errno=errno.ETIMEDOUT, object="nftables") from error
            yield from messages(data)

    def apply(self, changes: Iterable[Change]) -> None:
        """Make all changes at once. Raises NftError when one of them is refused; then none is made."""
        changes = list(changes)
        first = self._sequence
        self._sequence += len(changes) + 2
        self.socket.send(transaction(changes, first))
        for kind, sequence, body in self._receive():
            place = sequence - first
            if kind != NLMSG_ERROR or not 0 <= place <= len(changes) + 1:
                continue  # of a transaction before
            if number := error_number(body):
                raise NftError(changes[place - 1] if 0 < place <= len(changes) else None, number)
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
        for found, sequence, answer in self._receive():
            if sequence == self._sequence and found in (NLMSG_DONE, NLMSG_ERROR):
                break
            if sequence == self._sequence:
                bodies.append(answer)
        return bodies

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
