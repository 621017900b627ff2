"""Connections as the kernel tells of them, against bytes typed from nfnetlink_conntrack.h; any bytes are survived."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.packets import FlowKey
from network_extension.errors import DatapathError
from network_extension.linux import conntrack
from network_extension.linux.conntrack import (
    Connection,
    ConntrackTable,
    DestroyEvents,
    parse_connection,
    parse_events,
    reversed_key,
    tuple_attributes,
)
from network_extension.linux.netlink import NLMSG_DONE, NLMSG_ERROR, attribute, attributes, message, messages, nested

from .test_netlink import hexadecimal

A, B, C = b"\x0a\0\0\1", b"\x0a\0\0\2", b"\x0a\0\0\3"
KEY = (6, A, 40000, B, 443)
TUPLE = hexadecimal(
    "1400 0180 0800 0100 0a000001 0800 0200 0a000002"
    "1c00 0280 0500 0100 06 000000 0600 0200 9c40 0000 0600 0300 01bb 0000"
)


def entry(key: FlowKey = KEY, reply: FlowKey | None = None, *more: bytes) -> bytes:
    """The body of a message about a connection."""
    parts = nested(1, tuple_attributes(key)), nested(2, tuple_attributes(reply or reversed_key(key)))
    return b"\2\0\0\0" + b"".join(parts + more)


def counters(kind: int, count: int) -> bytes:
    return nested(kind, attribute(1, struct.pack(">Q", 3)), attribute(2, struct.pack(">Q", count)))


WHOLE = entry(
    KEY,
    (6, C, 443, A, 40000),
    attribute(3, struct.pack(">I", 0x18E)),
    attribute(8, struct.pack(">I", 0x1000CA6C)),
    counters(9, 1000),
    counters(10, 5000),
    attribute(18, b"\0\7"),
)

keys = st.tuples(
    st.sampled_from([6, 17, 132, 47]), st.just(A), st.integers(0, 65535), st.just(B), st.integers(0, 65535)
) | st.tuples(
    st.sampled_from([6, 17]), st.binary(min_size=16, max_size=16), st.just(1), st.just(bytes(16)), st.just(65535)
)


class TestReading:
    def test_a_tuple_is_as_the_header_says(self) -> None:
        assert tuple_attributes(KEY) == TUPLE

    def test_a_connection_with_nat_has_two_names(self) -> None:
        expected = Connection(KEY, (6, A, 40000, C, 443), 0x1000CA6C, 1000, 5000, 7, True, TUPLE)
        assert parse_connection(WHOLE) == expected

    def test_what_is_not_told_is_zero(self) -> None:
        found = parse_connection(entry())
        assert found is not None
        assert (found.mark, found.bytes_out, found.bytes_in, found.zone, found.is_answered) == (0, 0, 0, 0, False)
        assert found.answer_key == found.key == KEY

    @pytest.mark.parametrize(("protocol", "address"), [(1, A), (58, bytes(16))])
    def test_an_echo_is_named_by_its_identifier(self, protocol: int, address: bytes) -> None:
        key = (protocol, address, 77, address, 77)
        found = parse_connection(entry(key))
        assert found is not None
        assert found.key == key

    @given(keys)
    def test_any_name_is_read_as_it_was_written(self, key: FlowKey) -> None:
        found = parse_connection(entry(key))
        assert found is not None
        assert found.key == found.answer_key == key
        assert reversed_key(reversed_key(key)) == key

    @given(st.binary(max_size=300))
    def test_any_bytes_are_survived(self, data: bytes) -> None:
        parse_connection(data)
        parse_events(data)

    @given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
    def test_cut_and_broken_messages_are_survived(self, length: int, place: int, value: int) -> None:
        broken = WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :]
        for data in (broken, broken[:length]):
            found = parse_connection(data)
            assert found is None or len(found.key[1]) in (4, 16)
            parse_events(message(conntrack.DELETE, 0, 0, data))


class TestEvents:
    def test_only_ends_are_told_and_only_of_marked_ones(self) -> None:
        data = message(conntrack.DELETE, 0, 0, WHOLE) + message(conntrack.DELETE, 0, 0, entry())
        data += message(conntrack.NEW, 0, 0, WHOLE)
        assert [found.mark for found in parse_events(data)] == [0x1000CA6C, 0]
        assert [found.mark for found in parse_events(data, 0x70000000)] == [0x1000CA6C]

    def test_lost_events_are_survived_and_counted(self) -> None:
        events = DestroyEvents(Overflowing())  # type: ignore[arg-type]
        assert len(events.receive()) == 1
        assert events.overflows == 1


class Overflowing:
    """A netlink socket that has lost messages once."""

    def __init__(self) -> None:
        self.answers: list[OSError | bytes] = [
            OSError(errno.ENOBUFS, "lost"),
            message(conntrack.DELETE, 0, 0, WHOLE),
            BlockingIOError(),
        ]

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: (1, 0)

    def recv(self, size: int) -> bytes:
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


class Kernel:
    """The other end of a ConntrackTable: answers are typed before they are asked for, sequences start at a number."""

    def __init__(self) -> None:
        self.ours, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.table, self._next = ConntrackTable(self.ours), 0x10000001

    def answers(self, number: int, body: bytes = b"") -> None:
        data = message(conntrack.NEW, 2, self._next, body) if body else b""
        self.end.send(data + message(NLMSG_ERROR, 0, self._next, struct.pack("=i", -number)))
        self._next += 1

    def hears(self) -> list[tuple[int, dict[int, memoryview]]]:
        return [(kind, attributes(body, 4)) for kind, _, body in messages(self.end.recv(65536))]


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.ours.close()
    kernel.end.close()


class TestRequests:
    def test_a_mark_is_set_under_its_mask(self, kernel: Kernel) -> None:
        kernel.answers(0)
        assert kernel.table.set_mark(KEY, 0xFFFFFFFF, 0x70000000)
        [(kind, found)] = kernel.hears()
        assert (kind, bytes(found[1]), bytes(found[8]), bytes(found[21])) == (
            0x100,
            TUPLE,
            b"\x70\0\0\0",
            b"\x70\0\0\0",
        )
        assert 18 not in found

    def test_a_connection_behind_nat_is_found_by_its_replies(self, kernel: Kernel) -> None:
        kernel.answers(errno.ENOENT)
        kernel.answers(0)
        assert kernel.table.delete(KEY, zone=7)
        asked = [(kind, bytes(found[1]), bytes(found[18])) for _ in range(2) for kind, found in kernel.hears()]
        assert asked == [(0x102, tuple_attributes(key), b"\0\7") for key in (KEY, reversed_key(KEY))]

    def test_counters(self, kernel: Kernel) -> None:
        kernel.answers(0, WHOLE)
        assert kernel.table.counters(KEY) == (1000, 5000)

    def test_nothing_is_there(self, kernel: Kernel) -> None:
        for _ in range(6):
            kernel.answers(errno.ENOENT)
        assert not kernel.table.set_mark(KEY, 0, 1)
        assert not kernel.table.delete(KEY)
        assert kernel.table.counters(KEY) is None

    def test_a_refusal_is_told(self, kernel: Kernel) -> None:
        kernel.answers(errno.EPERM)
        with pytest.raises(DatapathError, match="conntrack: Operation not permitted"):
            kernel.table.delete(KEY)

    def test_all_and_many_at_once(self, kernel: Kernel) -> None:
        data = b"".join(message(conntrack.NEW, 2, 0x10000001, entry((6, A, port, B, 443))) for port in range(300))
        kernel.end.send(data)
        kernel.end.send(message(NLMSG_DONE, 2, 0x10000001, bytes(4)))
        entries = kernel.table.entries()
        assert [found.key[2] for found in entries] == list(range(300))
        kernel.hears()
        kernel._next += 1
        kernel.end.send(message(NLMSG_ERROR, 0, 0, struct.pack("=i", -errno.ENOENT)))  # one has gone meanwhile
        kernel.answers(0)
        kernel.answers(0)
        kernel.table.set_marks([(found, 0x10000000) for found in entries], 0x70000000)
        assert [len(kernel.hears()) for _ in range(2)] == [200, 100]


def test_accounting(tmp_path: Path) -> None:
    switch = tmp_path / "nf_conntrack_acct"
    assert conntrack.accounting(str(switch)) is None
    assert not conntrack.set_accounting(True, str(tmp_path / "no" / "such"))
    switch.write_text("0\n")
    assert conntrack.accounting(str(switch)) is False
    assert conntrack.set_accounting(True, str(switch))
    assert conntrack.accounting(str(switch)) is True
