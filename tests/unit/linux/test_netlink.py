"""Netlink messages as bytes typed from include/uapi/linux/netlink.h (little-endian), and a real netlink socket."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.errors import DatapathError
from network_extension.linux import netlink
from network_extension.linux.netlink import (
    NLA_F_NESTED,
    NLMSG_ERROR,
    NetlinkSocket,
    attribute,
    attributes,
    error_number,
    message,
    messages,
    nested,
)

RTM_DELLINK, RTM_GETLINK = 17, 18
NOBODYS_INDEX = 0x7FFFFFFF

kinds = st.integers(0, netlink.NLA_TYPE_MASK)
values = st.binary(max_size=40)


def hexadecimal(text: str) -> bytes:
    """Bytes, as they are typed in tests: with blanks where the fields end."""
    return bytes.fromhex(text.replace(" ", ""))


@pytest.mark.parametrize(
    ("encoded", "typed"),
    [
        (attribute(3, b""), "0400 0300"),
        (attribute(3, b"\1\2\3\4"), "0800 0300 01020304"),
        (attribute(10, b"abcde"), "0900 0a00 6162636465 000000"),
        (attribute(1, b"x") + attribute(2, b"y"), "0500 0100 78 000000 0500 0200 79 000000"),
        (nested(18, attribute(1, b"veth")), "0c00 1280 0800 0100 76657468"),
        (nested(18), "0400 1280"),
        (message(16, 0x0605, 7, b"body"), "14000000 1000 0506 07000000 00000000 626f6479"),
    ],
)
def test_bytes(encoded: bytes, typed: str) -> None:
    assert encoded == hexadecimal(typed)


@given(st.dictionaries(kinds, values, max_size=8), st.integers(0, 20))
def test_attributes_come_back_whatever_stands_before_them(content: dict[int, bytes], start: int) -> None:
    data = b"\xff" * start + b"".join(attribute(kind, value) for kind, value in content.items())
    assert attributes(data, start) == content


@given(st.dictionaries(kinds, st.dictionaries(kinds, values, max_size=3), max_size=3))
def test_nested_attributes_come_back(content: dict[int, dict[int, bytes]]) -> None:
    encoded = (
        nested(kind, *(attribute(inner, value) for inner, value in values.items())) for kind, values in content.items()
    )
    assert {kind: attributes(data) for kind, data in attributes(b"".join(encoded)).items()} == content


def test_flags_are_no_part_of_the_type() -> None:
    assert attributes(attribute(5 | NLA_F_NESTED, b"") + attribute(6 | 0x4000, b"x")) == {5: b"", 6: b"x"}


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("", {}),
        ("0800", {}),  # half a header
        ("0800 0100 aabb", {}),  # half a value
        ("0300 0100 0500 0200 79", {}),  # shorter than its own header
        ("0000 0100", {}),  # a length of nothing would never move on
        ("0500 0100 78 000000 0900 0200 79", {1: b"x"}),
        ("0500 0100 78", {1: b"x"}),  # the padding of the last one may be absent
    ],
)
def test_a_truncated_tail_is_left_out(typed: str, found: dict[int, bytes]) -> None:
    assert attributes(hexadecimal(typed)) == found


@given(st.binary(max_size=200), st.integers(0, 210))
def test_any_bytes_as_attributes(data: bytes, start: int) -> None:
    found = attributes(data, start)
    assert all(0 <= kind <= netlink.NLA_TYPE_MASK for kind in found)
    assert sum(len(value) + 4 for value in found.values()) <= len(data)


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), values), max_size=6))
def test_messages_come_back(content: list[tuple[int, int, bytes]]) -> None:
    data = b"".join(
        (encoded := message(kind, 0, sequence, body)) + b"\0" * (-len(encoded) & 3) for kind, sequence, body in content
    )
    assert [(kind, sequence, bytes(body)) for kind, sequence, body in messages(data)] == content


@given(st.binary(max_size=200))
def test_any_bytes_as_messages(data: bytes) -> None:
    assert sum(len(body) + 16 for _, _, body in messages(data)) <= len(data)


@pytest.mark.parametrize("length", [0, 15, 21, 2**32 - 1])
def test_a_malformed_length_ends_the_buffer(length: int) -> None:
    wrong = struct.pack("=IHHII", length, 16, 0, 9, 0) + b"body"
    assert [sequence for _, sequence, _ in messages(message(16, 0, 8, b"body") + wrong)] == [8]


@pytest.mark.parametrize(
    ("typed", "number"),
    [("00000000", 0), ("ffffffff 14000000", errno.EPERM), ("fdffffff", errno.ESRCH), ("ff", errno.EPROTO)],
)
def test_error_numbers(typed: str, number: int) -> None:
    assert error_number(memoryview(hexadecimal(typed))) == number


@pytest.fixture
def rtnetlink() -> Iterator[NetlinkSocket]:
    with NetlinkSocket(socket.NETLINK_ROUTE) as sock:
        yield sock


def link(index: int) -> bytes:
    """struct ifinfomsg (rtnetlink(7))."""
    return struct.pack("=BxHiII", 0, 0, index, 0, 0)


def test_a_request_waits_for_its_own_acknowledgement(rtnetlink: NetlinkSocket) -> None:
    """The kernel sends the answer before the acknowledgement; what comes first does not end the wait."""
    for _ in range(3):
        rtnetlink.request("lo", RTM_GETLINK, 0, link(socket.if_nametoindex("lo")))
    rtnetlink.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        rtnetlink.socket.recv(1)


def test_a_refusal_names_the_object_and_the_cause(rtnetlink: NetlinkSocket) -> None:
    with pytest.raises(DatapathError, match="link 2147483647: ") as caught:
        rtnetlink.request("link 2147483647", RTM_DELLINK, 0, link(NOBODYS_INDEX))
    assert caught.value.errno in (errno.ENODEV, errno.EPERM)  # the latter without CAP_NET_ADMIN


def test_answers_to_others_are_passed_over() -> None:
    """A late refusal of an earlier request is not taken for ours."""
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with NetlinkSocket(socket.NETLINK_ROUTE) as client, ours, kernel:
        client.socket.close()
        client.socket = ours
        kernel.send(message(NLMSG_ERROR, 0, 99, struct.pack("=i", -errno.EPERM)))
        kernel.send(message(RTM_GETLINK, 0, 1, b"") + message(NLMSG_ERROR, 0, 1, struct.pack("=i", 0)))
        client.request("x", RTM_GETLINK, 0, b"")
        assert kernel.recv(100) == hexadecimal("10000000 1200 0500 01000000 00000000")


def test_it_is_closed_at_the_end_of_its_block() -> None:
    with NetlinkSocket(socket.NETLINK_ROUTE) as sock:
        assert not sock.socket.get_inheritable()
    assert sock.socket.fileno() == -1
