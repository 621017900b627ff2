"""The packet queue's messages, against bytes typed from include/uapi/linux/netfilter/nfnetlink_queue.h.

The kernel's side is a socket of the test's: what the queue says to it can be read, and what it answers is typed. The
lab tests have the real one.
"""

from __future__ import annotations

import errno
import io
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.errors import DatapathError
from network_extension.linux import nfqueue
from network_extension.linux.netlink import NLMSG_ERROR, attribute, message, messages
from network_extension.linux.nfqueue import ACCEPT, DROP, HeldPacket, Queue, parse_packet, statistics, verdict_message

from .test_netlink import hexadecimal

# A datagram of 100 bytes to queue 5, of which 20 were copied; from a kernel of x86-64.
PACKET = hexadecimal(
    """50000000 0003 0000 00000000 00000000
    02 00 0005
    0b00 0100 0000002a 0800 03 00
    0800 0500 00000002
    0800 0300 4e450002
    0800 0d00 00000064
    1800 0a00 4500006400010000401100000a0000010a000002"""
    .replace("\n", "")
)  # fmt: skip
IP_HEADER = PACKET[-20:]
assert len(PACKET) == PACKET[0]


def acknowledgement(number: int = 0) -> bytes:
    return message(NLMSG_ERROR, 0, 1, struct.pack("=i", -number))


def packet_message(number: int, payload: bytes, *more: bytes) -> bytes:
    header = attribute(nfqueue.ATTR_PACKET_HDR, struct.pack(">IHB", number, 0x0800, 0))
    parts = (header, *more, attribute(nfqueue.ATTR_PAYLOAD, payload))
    return message(nfqueue.PACKET, 0, 0, b"\2\0\0\0" + b"".join(parts))


class Kernel:
    """The other end of a queue's socket. Both acknowledgements of the set-up are there from the start."""

    def __init__(self, *acknowledgements: bytes) -> None:
        self.queues, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for data in acknowledgements or (acknowledgement(), acknowledgement()):
            self.end.send(data)
        self.end.setblocking(False)

    def hears(self) -> bytes:
        return self.end.recv(65536)

    def verdicts(self) -> list[tuple[int, int]]:
        """(id, verdict) of each message of the next datagram."""
        bodies = [bytes(body) for _, _, body in messages(self.hears())]
        return [(int.from_bytes(body[12:16], "big"), int.from_bytes(body[8:12], "big")) for body in bodies]

    def close(self) -> None:
        self.queues.close()
        self.end.close()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


@pytest.fixture
def queue(kernel: Kernel) -> Queue:
    queue = Queue(kernel.queues, 5, batch=4)
    kernel.hears(), kernel.hears()
    return queue


class TestMessages:
    def test_a_packet(self) -> None:
        assert parse_packet(PACKET) == HeldPacket(42, IP_HEADER, 100, mark=0x4E450002, hook=3, indev=2, outdev=0)

    def test_without_cap_len_the_whole_packet_was_copied(self) -> None:
        assert parse_packet(packet_message(7, b"abcde")) == HeldPacket(7, b"abcde", 5)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            PACKET[:16],
            acknowledgement(errno.ENOENT) + bytes(16),
            message(nfqueue.PACKET, 0, 0, b"\2\0\0\5" + attribute(nfqueue.ATTR_PAYLOAD, IP_HEADER)),
            message(nfqueue.PACKET, 0, 0, b"\2\0\0\5" + attribute(nfqueue.ATTR_PACKET_HDR, b"\0\0") + bytes(20)),
        ],
        ids=["nothing", "header only", "an error", "no id", "id cut short"],
    )
    def test_what_is_not_a_packet(self, data: bytes) -> None:
        assert parse_packet(data) is None

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        head = struct.pack("=IHHII", len(data) + 16, nfqueue.PACKET, 0, 0, 0)
        for candidate in (data, head + data):
            if (packet := parse_packet(candidate)) is not None:
                assert 0 <= packet.id < 2**32
                assert len(packet.payload) <= len(candidate)
                assert 0 <= packet.length < 2**32

    @given(st.integers(0, len(PACKET) - 1), st.integers(0, 255), st.integers(0, len(PACKET)))
    def test_a_packet_with_one_wrong_byte_cut_anywhere(self, at: int, byte: int, end: int) -> None:
        changed = PACKET[:at] + bytes([byte]) + PACKET[at + 1 :]
        if (packet := parse_packet(memoryview(changed)[:end])) is not None:
            assert len(packet.payload) <= end

    @given(st.integers(0, 2**32 - 1), st.binary(max_size=200), st.integers(0, 2**32 - 1))
    def test_round_trip(self, number: int, payload: bytes, length: int) -> None:
        told = attribute(nfqueue.ATTR_CAP_LEN, length.to_bytes(4, "big"))
        assert parse_packet(packet_message(number, payload, told)) == HeldPacket(number, payload, length)

    @pytest.mark.parametrize(
        ("encoded", "typed"),
        [
            (
                verdict_message(5, 42, ACCEPT),
                "20000000 0103 0100 00000000 00000000  00 00 0005  0c00 0200 00000001 0000002a",
            ),
            (
                verdict_message(0, 0xFFFFFFFF, DROP),
                "20000000 0103 0100 00000000 00000000  00 00 0000  0c00 0200 00000000 ffffffff",
            ),
            (
                verdict_message(258, 1, nfqueue.REPEAT, 0x4E450003),
                "28000000 0103 0100 00000000 00000000  00 00 0102  0c00 0200 00000004 00000001  0800 0300 4e450003",
            ),
        ],
        ids=["accept", "drop", "repeat with a mark"],
    )
    def test_verdicts(self, encoded: bytes, typed: str) -> None:
        assert encoded == hexadecimal(typed)


class TestSetUp:
    BIND = "1c000000 0203 0500 01000000 00000000  00 00 0005  0800 0100 01 00 0000"

    @pytest.mark.parametrize(
        ("options", "typed"),
        [
            (
                {},  # 128 bytes of each packet, 16,384 packets, GSO packets as they are, full means dropped
                "0900 0200 00000080 02 000000  0800 0300 00004000  0800 0500 00000004  0800 0400 00000005",
            ),
            (
                {"copy_range": 0xFFFF, "maximum": 100, "fail_open": True},
                "0900 0200 0000ffff 02 000000  0800 0300 00000064  0800 0500 00000005  0800 0400 00000005",
            ),
        ],
        ids=["as it is", "with options"],
    )
    def test_bind_then_parameters(self, kernel: Kernel, options: dict[str, Any], typed: str) -> None:
        queue = Queue(kernel.queues, 5, **options)
        assert kernel.hears() == hexadecimal(self.BIND)
        assert kernel.hears() == hexadecimal("38000000 0203 0500 01000000 00000000  00 00 0005 " + typed)
        assert queue.fileno() == kernel.queues.fileno()
        assert queue.receive() == []  # and does not block

    @pytest.mark.parametrize(
        ("answers", "text", "number"),
        [
            ([errno.EPERM], "packet queue 5: Operation not permitted", errno.EPERM),
            ([errno.EBUSY], "another program owns this queue number", errno.EBUSY),
            ([0, errno.EOPNOTSUPP], "packet queue 5: Operation not supported", errno.EOPNOTSUPP),
        ],
    )
    def test_a_refusal_says_which_queue_and_why(self, answers: list[int], text: str, number: int) -> None:
        kernel = Kernel(*map(acknowledgement, answers))
        with pytest.raises(DatapathError, match=text) as caught:
            Queue(kernel.queues, 5)
        assert caught.value.errno == number
        kernel.close()

    def test_a_socket_for_it_needs_no_privilege(self) -> None:
        with nfqueue.open_socket() as sock:
            assert (sock.family, sock.proto) == (socket.AF_NETLINK, 12)
            assert not sock.get_inheritable()


class TestReceiving:
    def test_all_that_waits_at_once_and_no_more_than_a_batch(self, kernel: Kernel, queue: Queue) -> None:
        for number in range(6):
            kernel.end.send(packet_message(number, b"x" * number))
        assert queue.receive() == [HeldPacket(number, b"x" * number, number) for number in range(4)]
        assert queue.receive() == [HeldPacket(number, b"x" * number, number) for number in (4, 5)]
        assert queue.receive() == []

    def test_what_is_not_a_packet_is_passed_over(self, kernel: Kernel, queue: Queue) -> None:
        """A verdict for a packet that has gone (its sender died) is answered by ENOENT."""
        for data in (packet_message(1, b"a"), acknowledgement(errno.ENOENT), packet_message(2, b"b")):
            kernel.end.send(data)
        assert [packet.id for packet in queue.receive()] == [1, 2]

    def test_a_packet_keeps_its_bytes_when_the_next_one_comes(self, kernel: Kernel, queue: Queue) -> None:
        kernel.end.send(packet_message(1, b"first"))
        (first,) = queue.receive()
        kernel.end.send(packet_message(2, b"SECOND"))
        queue.receive()
        assert first.payload == b"first"


class Stubborn:
    """A socket whose next sends and receives fail with the errnos given; else it is `sock`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.send_errors: list[int] = []
        self.receive_errors: list[int] = []

    def send(self, data: bytes) -> int:
        if self.send_errors and (number := self.send_errors.pop(0)):
            raise OSError(number, "send")
        return self.sock.send(data)

    def recv_into(self, view: memoryview) -> int:
        if self.receive_errors and (number := self.receive_errors.pop(0)):
            raise OSError(number, "receive")
        return self.sock.recv_into(view)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


@pytest.fixture
def stubborn(queue: Queue) -> Stubborn:
    queue.socket = Stubborn(queue.socket)  # type: ignore[assignment]
    assert isinstance(queue.socket, Stubborn)
    return queue.socket


class TestFaults:
    def test_an_overflow_is_counted_and_what_came_is_delivered(
        self, kernel: Kernel, queue: Queue, stubborn: Stubborn
    ) -> None:
        stubborn.receive_errors = [errno.ENOBUFS, 0, errno.ENOBUFS]
        kernel.end.send(packet_message(1, b"a"))
        assert [packet.id for packet in queue.receive()] == [1]
        assert queue.overflows == 2

    def test_other_errors_are_told(self, queue: Queue, stubborn: Stubborn) -> None:
        stubborn.receive_errors, stubborn.send_errors = [errno.EBADF], [errno.EPERM]
        with pytest.raises(OSError, match="receive"):
            queue.receive()
        queue.decide(1, DROP)
        with pytest.raises(OSError, match="send"):
            queue.flush()

    @pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS])
    def test_verdicts_wait_in_order_when_the_socket_is_full(
        self, kernel: Kernel, queue: Queue, stubborn: Stubborn, number: int
    ) -> None:
        """The first datagram goes, the second does not; what is decided meanwhile comes behind it."""
        stubborn.send_errors = [0, number]
        for packet in range(2000):
            queue.decide(packet, ACCEPT)
        queue.flush()
        assert [packet for packet, _ in kernel.verdicts()] == list(range(800))
        queue.decide(2000, DROP)
        queue.flush()
        told = [verdict for _ in range(2) for verdict in kernel.verdicts()]
        assert told == [*((packet, ACCEPT) for packet in range(800, 2000)), (2000, DROP)]


class TestVerdicts:
    def test_they_are_sent_together_in_the_order_of_the_decisions(self, kernel: Kernel, queue: Queue) -> None:
        queue.decide(3, ACCEPT, 0x4E450003)
        queue.decide(1, DROP)
        queue.decide(2, ACCEPT)
        with pytest.raises(BlockingIOError):
            kernel.hears()
        queue.flush()
        together = verdict_message(5, 3, ACCEPT, 0x4E450003) + verdict_message(5, 1, DROP)
        assert kernel.hears() == together + verdict_message(5, 2, ACCEPT)

    def test_nothing_decided_nothing_sent(self, kernel: Kernel, queue: Queue) -> None:
        queue.flush()
        queue.decide(1, DROP)
        queue.flush()
        queue.flush()
        assert kernel.verdicts() == [(1, DROP)]
        with pytest.raises(BlockingIOError):
            kernel.hears()

    def test_no_datagram_is_larger_than_32_kib(self, kernel: Kernel, queue: Queue) -> None:
        """sk_sndbuf of a netlink socket may be as small as that: a larger one would be EMSGSIZE."""
        for packet in range(1601):
            queue.decide(packet, ACCEPT, 1)
        queue.flush()
        assert [len(kernel.hears()) for _ in range(3)] == [32000, 32000, 40]

    @given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([ACCEPT, DROP])), max_size=30))
    def test_any_order(self, decisions: list[tuple[int, int]]) -> None:
        kernel = Kernel()
        queue = Queue(kernel.queues, 5)
        kernel.hears(), kernel.hears()
        for packet, verdict in decisions:
            queue.decide(packet, verdict)
        queue.flush()
        assert (kernel.verdicts() if decisions else []) == decisions
        kernel.close()

    def test_close_unbinds(self, kernel: Kernel, queue: Queue) -> None:
        queue.close()
        assert queue.fileno() == -1
        assert kernel.hears() == b""


# /proc/net/netfilter/nfnetlink_queue: queue, port id, waiting, copy mode, range, dropped, user dropped, last id, 1
TABLE = """\
    0  31337     3 2 65535     7    11     4711  1
   10   4242     0 2   128     0     0        0  1
"""


@pytest.mark.parametrize(
    ("text", "number", "found"),
    [
        (TABLE, 0, (3, 7, 11)),
        (TABLE, 10, (0, 0, 0)),
        (TABLE, 1, None),
        ("", 0, None),
        ("    0  31337     3\n", 0, None),
    ],
)
def test_statistics(
    monkeypatch: pytest.MonkeyPatch, text: str, number: int, found: tuple[int, int, int] | None
) -> None:
    opened: list[str] = []

    def fake_open(path: str) -> io.StringIO:
        opened.append(path)
        return io.StringIO(text)

    monkeypatch.setattr(nfqueue, "open", fake_open, raising=False)
    assert statistics(number, 4711) == found
    assert opened == ["/proc/4711/net/netfilter/nfnetlink_queue"]


def test_statistics_of_a_process_that_is_gone() -> None:
    assert statistics(0, "nobody") is None


@given(st.binary(max_size=80), st.integers(0, 200), st.integers(0, 255), st.sampled_from([1, 10, 11, 14]))
def test_the_usual_shape_is_read_as_any_other(payload: bytes, cut: int, spoiled: int, kind: int) -> None:
    """Read at once, as a program's own packets have it; whatever differs, attribute by attribute."""
    head = attribute(1, struct.pack(">IHB", 77, 0x800, 3))
    body = head + attribute(6, struct.pack(">I", 2)) + attribute(14, struct.pack(">I", 1))
    body = struct.pack(">BBH", 2, 0, 5) + body + attribute(kind, payload)
    data = bytearray(struct.pack("=IHHII", 16 + len(body), nfqueue.PACKET, 0, 0, 0) + body)
    whole = parse_packet(bytes(data))
    if kind == nfqueue.ATTR_PAYLOAD:
        assert whole == HeldPacket(77, payload, len(payload), 0, 3, 0, 2)
    assert whole == nfqueue._parse_any(bytes(data))
    if len(data) > 48:
        data[20 + spoiled % 32] ^= 1 << spoiled % 8
    spoilt = bytes(data[: max(0, len(data) - cut)])
    assert parse_packet(spoilt) == nfqueue._parse_any(spoilt)
