"""Batches of datagrams: nothing is lost, joined, split or put out of order, whatever their lengths."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from network_extension.linux.datagram_batch import SLOTS, SOL_UDP, UDP_SEGMENT, Batch, Outlet, join_datagrams
from network_extension.linux.socket_address import pack


class Pair:
    """A sender, a way through a batch, a receiver."""

    def __init__(self) -> None:
        self.sender, self.inlet, self.out, self.receiver = (udp() for _ in range(4))
        self.sender.connect(self.inlet.getsockname())
        self.inlet.connect(self.sender.getsockname())
        self.out.connect(self.receiver.getsockname())
        join_datagrams(self.inlet)
        self.batch, self.outlet = Batch(), Outlet(self.out.fileno())

    def pass_on(self) -> int:
        """Receive and send one batch; the number of messages."""
        count, sent = self.batch.receive(self.inlet.fileno()), 0
        while sent < count:
            sent = self.batch.send(self.outlet, sent, count)
        return count

    def received(self, count: int) -> list[bytes]:
        return [self.receiver.recv(70000) for _ in range(count)]

    def close(self) -> None:
        for sock in (self.sender, self.inlet, self.out, self.receiver):
            sock.close()


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(5)
    return sock


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


lengths = st.one_of(
    st.lists(st.integers(0, 3000), max_size=SLOTS),
    st.lists(st.sampled_from([0, 1, 700, 1200, 1200, 1200]), max_size=SLOTS),
    st.builds(lambda size, count, rest: [size] * count + rest, st.integers(0, 3000), st.integers(0, 60),
              st.lists(st.integers(0, 3000), max_size=3)),
)  # fmt: skip


@given(lengths, st.sampled_from([0, 1000, 65536]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_datagrams_arrive_as_they_were_sent(pair: Pair, sizes: list[int], limit: int) -> None:
    datagrams = [bytes([index]) * size for index, size in enumerate(sizes)]
    for datagram in datagrams:
        pair.sender.send(datagram)
    pair.outlet.segment_limit = limit
    assert pair.pass_on() == len(sizes)
    assert pair.batch.datagrams(0, len(sizes)) == datagrams
    assert pair.batch.size(0, len(sizes)) == (len(sizes), sum(sizes))
    assert pair.received(len(sizes)) == datagrams


def test_the_largest_datagrams_pass(pair: Pair) -> None:
    datagrams = [os.urandom(65507) for _ in range(8)]
    for datagram in datagrams:
        pair.sender.send(datagram)
    assert pair.pass_on() == 8
    assert pair.received(8) == datagrams


def test_an_empty_socket_gives_an_empty_batch(pair: Pair) -> None:
    assert pair.batch.receive(pair.inlet.fileno()) == 0


def test_a_broken_descriptor_is_told(pair: Pair) -> None:
    with pytest.raises(OSError) as caught:
        pair.batch.receive(-1)
    assert caught.value.errno == errno.EBADF


def test_equal_datagrams_go_as_one_message(pair: Pair) -> None:
    join_datagrams(pair.receiver)
    for _ in range(50):
        pair.sender.send(bytes(1200))
    pair.pass_on()
    data, ancillary, _, _ = pair.receiver.recvmsg(65536, 64)
    assert len(data) == 60000
    assert ancillary, "the receiver saw no joined datagrams: no segmentation offload here"


def send_joined(sender: socket.socket, size: int, data: bytes) -> None:
    sender.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, size.to_bytes(2, "little"))])


def test_joined_datagrams_stay_apart(pair: Pair) -> None:
    data = os.urandom(5500)
    send_joined(pair.sender, 1000, data)
    pair.sender.send(b"single")
    cut = [data[at : at + 1000] for at in range(0, 5500, 1000)] + [b"single"]
    count = pair.pass_on()
    assert count == 2, "the kernel has cut them already"
    assert pair.batch.segments == [1000, 6]
    assert pair.batch.size(0, 2) == (7, 5506)
    assert pair.batch.datagrams(0, 2) == cut
    assert pair.received(7) == cut


def test_joined_datagrams_that_cannot_go_as_one_are_left_to_the_caller(pair: Pair) -> None:
    pair.sender.send(b"before")
    send_joined(pair.sender, 1000, bytes(2500))
    pair.sender.send(b"behind")
    batch = pair.batch
    assert batch.receive(pair.inlet.fileno()) == 3
    for limit in (0, 999):
        pair.outlet.segment_limit = limit
        assert batch.send(pair.outlet, 0, 3) == 1
        assert batch.send(pair.outlet, 1, 3) == 1
    assert [len(datagram) for datagram in batch.datagrams(1, 2)] == [1000, 1000, 500]
    assert batch.send(pair.outlet, 2, 3) == 3


class Refusing(Batch):
    """A kernel that refuses to cut: `refused` counts."""

    number, refused = errno.EINVAL, 0

    def _transmit(self, descriptor: int, address: int, count: int) -> int:  # type: ignore[override]
        if address == self._cut_out.address:
            self.refused += 1
            raise OSError(self.number, "refused")
        return super()._transmit(descriptor, address, count)


@pytest.mark.parametrize(("number", "limit"), [(errno.EINVAL, 1199), (errno.EMSGSIZE, 1199), (errno.EIO, 0)])
def test_a_kernel_that_does_not_cut_gets_single_datagrams(pair: Pair, number: int, limit: int) -> None:
    batch = pair.batch = Refusing()
    batch.number = number
    for _ in range(2):
        for index in range(20):
            pair.sender.send(bytes([index]) * 1200)
        pair.pass_on()
        assert pair.received(20) == [bytes([index]) * 1200 for index in range(20)]
    assert (pair.outlet.segment_limit, batch.refused) == (limit, 1), "it is tried once"


def test_other_errors_are_the_callers(pair: Pair) -> None:
    batch = pair.batch = Refusing()
    batch.number = errno.EHOSTUNREACH
    for _ in range(2):
        pair.sender.send(b"12")
    with pytest.raises(OSError) as caught:
        pair.pass_on()
    assert caught.value.errno == errno.EHOSTUNREACH


def test_runs_tell_senders_apart() -> None:
    batch, inlet, first, second = Batch(), udp(), udp(), udp()
    six, sender6 = (socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(2))
    with inlet, first, second, six, sender6:
        for sock in (six, sender6):
            sock.bind(("::1", 0))
        sender6.sendto(b"", six.getsockname())
        assert batch.receive_named(six.fileno()) == 1
        [(name, start, stop)] = batch.runs()
        assert (name[:28], start, stop) == (pack(sender6.getsockname()[:2], socket.AF_INET6), 0, 1)
        for sender in (first, first, second, first):
            sender.sendto(b"x", inlet.getsockname())
        batch.receive_named(inlet.fileno())
        names = [pack(sender.getsockname(), socket.AF_INET) for sender in (first, second, first)]
        assert [(name[:16], start, stop) for name, start, stop in batch.runs()] == [
            (names[0], 0, 2),
            (names[1], 2, 3),
            (names[2], 3, 4),
        ]
        assert all(not any(name[16:]) for name, _, _ in batch.runs()), "no rest of a longer name"


def test_names_are_given_and_taken_away(pair: Pair) -> None:
    with udp() as other, udp() as unconnected:
        named = Outlet(unconnected.fileno(), pack(other.getsockname(), socket.AF_INET))
        pair.sender.send(b"1")
        pair.sender.send(b"1")
        pair.batch.receive(pair.inlet.fileno())
        pair.batch.send(named, 0, 2)
        pair.batch.send(pair.outlet, 0, 2)
        pair.batch.send(named, 0, 1)
        assert [other.recv(9) for _ in range(3)] == [b"1"] * 3
        assert pair.received(2) == [b"1"] * 2
