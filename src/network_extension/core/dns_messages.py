"""DNS messages, as much of them as a forwarder must understand (RFC 1035, RFC 6891, RFC 9460).

A query is forwarded, and its answer handed back, byte for byte. All that is read is the question, the size that the
program can take, and from answers the addresses with the names that led to them. So this reads offsets and skips what
it does not know; `dnspython` is for those who want whole messages. Only the answer section is believed: nobody asked
for what stands in the others (RFC 2181 §5.4.1).

Everything bad is a `DnsMessageError`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from .dns_names import DnsMessageError, read_name

__all__ = [
    "AAAA",
    "CNAME",
    "FORMAT_ERROR",
    "HTTPS",
    "MAX_RECORDS",
    "NAME_ERROR",
    "NOT_IMPLEMENTED",
    "REFUSED",
    "SERVER_FAILURE",
    "SVCB",
    "A",
    "Answers",
    "DnsMessageError",
    "Query",
    "error_reply",
    "parse_answers",
    "parse_query",
    "truncate_reply",
]

A, CNAME, AAAA, OPT, SVCB, HTTPS = 1, 5, 28, 41, 64, 65
IN = 1
FORMAT_ERROR, SERVER_FAILURE, NAME_ERROR, NOT_IMPLEMENTED, REFUSED = 1, 2, 3, 4, 5

MAX_RECORDS = 256
"""Records of one message that are read; those behind them are left alone. 65,535 fit into its header."""
EDNS_SIZE = 1232
"""The UDP size that we announce: no fragments on any path (DNS flag day 2020)."""

_RESPONSE, _TRUNCATED, _RECURSION_AVAILABLE = 0x8000, 0x0200, 0x0080
_KEPT_FLAGS = 0x7910  # opcode, recursion desired, checking disabled: an answer repeats them
_ADDRESS_SIZE = {A: 4, AAAA: 16}
_HINT_SIZE = {4: 4, 6: 16}  # ipv4hint, ipv6hint

_HEADER = struct.Struct(">6H")
_QUESTION_END = struct.Struct(">HH").unpack_from
_RECORD = struct.Struct(">HHIH").unpack_from
_PARAMETER = struct.Struct(">HH").unpack_from
_OPT_RECORD = struct.Struct(">BHHIH").pack


class Query(NamedTuple):
    """A question. `record_type` and `record_class` are numbers of the IANA registry."""

    id: int
    name: str
    record_type: int
    record_class: int
    flags: int
    """The second 16 bits of the header."""
    question_end: int
    """Offset behind the question section."""
    edns_size: int
    """Bytes of UDP that the asker takes by EDNS (at least 512); 0 without EDNS."""

    @property
    def opcode(self) -> int:
        """0 is a plain query."""
        return self.flags >> 11 & 15

    @property
    def recursion_desired(self) -> bool:
        """Whether the asker wants the final answer (RD)."""
        return bool(self.flags & 0x0100)

    @property
    def udp_limit(self) -> int:
        """The longest answer over UDP, in bytes."""
        return self.edns_size or 512


class Answers(NamedTuple):
    """What an answer says about addresses. Lifetimes (`ttl`) are in seconds."""

    id: int
    flags: int
    name: str
    """The name that was asked for."""
    record_type: int
    addresses: list[tuple[str, bytes, int]]
    """(owner, address of 4 or 16 bytes, ttl) from A, AAAA, and the hints of HTTPS and SVCB, in their order."""
    cnames: list[tuple[str, str, int]]
    """(owner, target, ttl)"""

    @property
    def rcode(self) -> int:
        """0 is success, 2 SERVFAIL, 3 NXDOMAIN; without the upper bits of EDNS."""
        return self.flags & 15

    @property
    def truncated(self) -> bool:
        """Whether the answer did not fit, and the asker will ask again over TCP (TC)."""
        return bool(self.flags & _TRUNCATED)


def parse_query(data: bytes) -> Query:
    """Read a query with one question. Raises DnsMessageError."""
    number, flags, *counts = _header(data)
    if flags & _RESPONSE:
        raise DnsMessageError("a reply where a query was expected")
    known: dict[int, str] = {}
    name, record_type, record_class, at = _question(data, counts[0], known)
    opt = _find_opt(data, at, sum(counts[1:]), known)
    return Query(number, name, record_type, record_class, flags, at, max(512, opt[1]) if opt else 0)


def parse_answers(data: bytes) -> Answers:
    """Read a reply with one question. Raises DnsMessageError."""
    number, flags, questions, count, _, _ = _header(data)
    if not flags & _RESPONSE:
        raise DnsMessageError("a query where a reply was expected")
    known: dict[int, str] = {}
    name, record_type, _, at = _question(data, questions, known)
    answers = Answers(number, flags, name, record_type, [], [])
    for _ in range(min(count, MAX_RECORDS)):
        owner, kind, record_class, ttl, start, at = _record(data, at, known)
        if record_class != IN:
            continue
        if kind == A or kind == AAAA:
            if at - start != _ADDRESS_SIZE[kind]:
                raise DnsMessageError(f"an address of {at - start} bytes in a record of type {kind}")
            answers.addresses.append((owner, data[start:at], ttl))
        elif kind == CNAME:
            target, end = read_name(data, start, known)
            if end != at:
                raise DnsMessageError(f"the CNAME at byte {start} is not as long as its record")
            answers.cnames.append((owner, target, ttl))
        elif kind == HTTPS or kind == SVCB:
            answers.addresses.extend((owner, hint, ttl) for hint in _hints(data, start, at, known))
    return answers


def error_reply(query: bytes, rcode: int) -> bytes:
    """The reply that says no: its question, and no answer. What cannot be read of a query is left out.

    Raises DnsMessageError when there is not even a header, or it is a reply's: two of us would answer each other.
    """
    number, flags, *_ = _header(query)
    if flags & _RESPONSE:
        raise DnsMessageError("a reply is not answered")
    flags = _RESPONSE | flags & _KEPT_FLAGS | _RECURSION_AVAILABLE | rcode & 15
    try:
        parsed = parse_query(query)
    except DnsMessageError:
        return _HEADER.pack(number, flags, 0, 0, 0, 0)
    # RFC 6891 §6.1.1: who sent EDNS gets EDNS.
    opt = _OPT_RECORD(0, OPT, EDNS_SIZE, 0, 0) if parsed.edns_size else b""
    return _HEADER.pack(number, flags, 1, 0, 0, bool(opt)) + query[_HEADER.size : parsed.question_end] + opt


def truncate_reply(reply: bytes) -> bytes:
    """A reply too long for the asker's UDP, made one that sends it to TCP: TC is set, and only the question is left.

    EDNS stays, without its options (RFC 6891 §7). Raises DnsMessageError for what is no reply.
    """
    number, flags, *counts = _header(reply)
    if not flags & _RESPONSE:
        raise DnsMessageError("a query where a reply was expected")
    known: dict[int, str] = {}
    *_, end = _question(reply, counts[0], known)
    found = _find_opt(reply, end, sum(counts[1:]), known)
    opt = _OPT_RECORD(0, OPT, found[1], found[2], 0) if found else b""
    return _HEADER.pack(number, flags | _TRUNCATED, 1, 0, 0, bool(opt)) + reply[_HEADER.size : end] + opt


def _header(data: bytes) -> tuple[int, int, int, int, int, int]:
    """Id, flags, and how many questions, answers, authorities and additional records there are."""
    if len(data) < _HEADER.size:
        raise DnsMessageError(f"{len(data)} bytes are no DNS message")
    return _HEADER.unpack_from(data)


def _question(data: bytes, count: int, known: dict[int, str]) -> tuple[str, int, int, int]:
    """Name, type, class, and the offset behind the only question (more than one was never in use: RFC 9619)."""
    if count != 1:
        raise DnsMessageError(f"{count} questions instead of one")
    name, at = read_name(data, _HEADER.size, known)
    try:
        record_type, record_class = _QUESTION_END(data, at)
    except struct.error:
        raise DnsMessageError("the question is cut off") from None
    return name, record_type, record_class, at + 4


def _record(data: bytes, at: int, known: dict[int, str]) -> tuple[str, int, int, int, int, int]:
    """Owner, type, class, lifetime, start and end of the data of the record at an offset."""
    owner, at = read_name(data, at, known)
    try:
        kind, record_class, ttl, length = _RECORD(data, at)
    except struct.error:
        raise DnsMessageError(f"the record of {owner} is cut off") from None
    end = at + 10 + length
    if end > len(data):
        raise DnsMessageError(f"the record of {owner} runs past the end")
    # RFC 2181 §8: a lifetime with the top bit set is 0.
    return owner, kind, record_class, ttl if ttl < 1 << 31 else 0, at + 10, end


def _find_opt(data: bytes, at: int, count: int, known: dict[int, str]) -> tuple[int, int, int] | None:
    """The OPT record among the first records: type, UDP size, and extended code with flags (RFC 6891 §6.1.3)."""
    found = None
    for _ in range(min(count, MAX_RECORDS)):
        owner, kind, size, _, start, at = _record(data, at, known)
        if kind == OPT:
            if found or owner != ".":
                raise DnsMessageError("OPT records: more than one, or not of the root")
            found = kind, size, int.from_bytes(data[start - 6 : start - 2], "big")
    return found


def _hints(data: bytes, at: int, end: int, known: dict[int, str]) -> list[bytes]:
    """The addresses in a record of type HTTPS or SVCB: priority, target, then parameters (RFC 9460 §2.2, §7.3)."""
    hints: list[bytes] = []
    _, at = read_name(data, at + 2, known)
    while at + 4 <= end:
        key, length = _PARAMETER(data, at)
        at += 4
        if at + length > end:
            break
        if size := _HINT_SIZE.get(key):
            if not length or length % size:
                raise DnsMessageError(f"address hints of {length} bytes, not a multiple of {size}")
            hints += [data[start : start + size] for start in range(at, at + length, size)]
        at += length
    if at != end:
        raise DnsMessageError("the parameters of an HTTPS record are not as long as it")
    return hints
