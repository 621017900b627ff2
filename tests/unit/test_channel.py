"""Channels over real socket pairs: batches, descriptors, full sockets, ends, and nonsense."""

from __future__ import annotations

import array
import fcntl
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from network_extension import NetworkRule, TransparentProxyNetworkSettings
from network_extension.runtime import channel as channel_module
from network_extension.runtime.channel import Channel, ChannelFull
from network_extension.runtime.hello import pack_hello, unpack_hello
from network_extension.runtime.wire import MAX_FDS, MessageType, WireError

Pair = tuple[Channel, Channel]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def pair() -> Iterator[Pair]:
    before = open_descriptors()
    left, right = (Channel(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    yield left, right
    left.close()
    right.close()
    assert open_descriptors() == before


def raw_pair() -> tuple[socket.socket, Channel]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return left, Channel(right)


def test_messages_in_order_and_in_batches(pair: Pair) -> None:
    for number in range(10):
        pair[0].send(MessageType.CLAIM, number, {"n": number} if number else None)
    first = pair[1].receive(limit=4)
    assert [(kind, flow, body) for kind, flow, body, _fds in first] == [
        (MessageType.CLAIM, number, {"n": number} if number else {}) for number in range(4)
    ]
    assert len(pair[1].receive()) == 6
    assert pair[1].receive() == [] and not pair[1].eof


def test_descriptors_arrive_closed_on_exec(pair: Pair) -> None:
    reading, writing = os.pipe()
    pair[0].send(MessageType.RELAY, 7, None, [writing])
    os.close(writing)
    ((kind, flow, _body, fds),) = pair[1].receive()
    assert (kind, flow, len(fds)) == (MessageType.RELAY, 7, 1)
    assert fcntl.fcntl(fds[0], fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.write(fds[0], b"x")
    assert os.read(reading, 1) == b"x"
    os.close(fds[0])
    os.close(reading)


def test_a_full_socket_queues_and_keeps_order_and_descriptors(pair: Pair) -> None:
    count, (reading, writing) = 5000, os.pipe()
    for number in range(count):
        if number == count - 1:
            pair[0].send(MessageType.RELAY, number, None, [writing])
        else:
            pair[0].send(MessageType.CLAIM, number, {"pad": "x" * 100})
    os.close(writing)  # the queued message has a copy
    assert pair[0].wants_write
    seen: list[int] = []
    while len(seen) < count:
        for _kind, flow, _body, fds in pair[1].receive():
            seen.append(flow)
            for fd in fds:
                os.write(fd, b"last")
                os.close(fd)
        pair[0].flush()
    assert seen == list(range(count)) and not pair[0].wants_write
    assert os.read(reading, 10) == b"last"
    os.close(reading)


def test_the_queue_is_bounded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "MAX_QUEUED_BYTES", 10_000)
    with pytest.raises(ChannelFull, match="does not read"):
        for _ in range(100_000):
            pair[0].send(MessageType.CLAIM, 1, {"pad": "x" * 1000})


def test_closing_drops_what_waits_with_its_descriptors(pair: Pair) -> None:
    with open("/dev/null") as file:
        while not pair[0].wants_write:
            pair[0].send(MessageType.CLAIM, 1)
        pair[0].send(MessageType.RELAY, 1, None, [file.fileno()])


def test_the_end_of_the_peer(pair: Pair) -> None:
    pair[0].send(MessageType.CLAIM, 1)
    pair[0].close()
    assert len(pair[1].receive()) == 1 and pair[1].eof
    pair[1].send(MessageType.CLAIM, 1)  # dropped
    assert pair[1].receive() == []
    pair[1].close()


def test_last_words_of_a_peer_that_did_not_listen_are_heard(pair: Pair) -> None:
    """It closes with a message of ours unread: the kernel reports a reset before it gives out what came first."""
    pair[0].send(MessageType.PING, 0)
    pair[1].send(MessageType.STOPPED, 0, {"cancelled": 1})
    pair[1].close()
    assert [(kind, body) for kind, _flow, body, _fds in pair[0].receive()] == [(MessageType.STOPPED, {"cancelled": 1})]
    assert pair[0].eof


def test_sending_to_a_dead_peer_is_seen_as_its_end(pair: Pair) -> None:
    pair[1].close()
    pair[0].send(MessageType.CLAIM, 1)
    assert pair[0].eof and not pair[0].wants_write


@pytest.mark.parametrize("data", [b"x", b"\xff" * 9, b"\x03" + bytes(8) + b"{", b"\x03" + bytes(70000)])
def test_nonsense_is_a_wire_error_and_its_descriptors_are_closed(data: bytes) -> None:
    sock, end = raw_pair()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
    with open("/dev/null") as file:
        before = open_descriptors()
        rights = array.array("i", [file.fileno()] * 2)
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        with pytest.raises(WireError):
            end.receive()
        assert open_descriptors() == before
    sock.close()
    end.close()


def test_more_descriptors_than_allowed_are_dropped() -> None:
    sock, end = raw_pair()
    with open("/dev/null") as file:
        before = open_descriptors()
        rights = array.array("i", [file.fileno()] * 50)
        sock.sendmsg([b"\x03" + bytes(8)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        ((kind, _flow, _body, fds),) = end.receive()
        assert kind is MessageType.CLAIM and len(fds) <= MAX_FDS + 1
        for fd in fds:
            os.close(fd)
        assert open_descriptors() == before
    sock.close()
    end.close()


def test_at_the_limit_of_open_files_a_message_comes_without_its_descriptor(pair: Pair) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reading, writing = os.pipe()
    pair[0].send(MessageType.RELAY, 7, None, [writing])
    os.close(writing)
    lowest = os.dup(reading)
    os.close(lowest)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))  # the next descriptor would have this number
        received = pair[1].receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert received == [(MessageType.RELAY, 7, {}, [])]
    pair[0].send(MessageType.CLAIM, 8)
    assert pair[1].receive() == [(MessageType.CLAIM, 8, {}, [])]
    os.close(reading)


@pytest.mark.parametrize("count", [0, 3, 5000])
def test_hello_with_few_and_with_thousands_of_rules(pair: Pair, count: int) -> None:
    rules = [NetworkRule.destination_host(f"host-{n}.example.com", "tcp") for n in range(count)]
    settings = TransparentProxyNetworkSettings(rules) if count else None
    body, fds = pack_hello("p", "transparent-proxy", settings)
    pair[0].send(MessageType.HELLO, 0, body, fds)
    for fd in fds:
        os.close(fd)
    ((_kind, _flow, received, received_fds),) = pair[1].receive()
    assert len(received_fds) == (count > 1000)
    hello = unpack_hello(received, received_fds)
    assert (hello.name, hello.kind, hello.settings) == ("p", "transparent-proxy", settings)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"name": "x", "kind": "filter", "settings": None}, "kind"),
        ({"kind": "app-proxy", "settings": None}, "name"),
        ({"name": "x", "kind": "app-proxy", "settings": 5}, "settings: an object"),
        (
            {"name": "x", "kind": "app-proxy", "settings": {"included": [{"protocol": 8}]}},
            r"included\[0\]\.protocol",
        ),
        ({"name": "x", "kind": "app-proxy", "settings_size": 5}, "one descriptor"),
        ({"name": "x", "kind": "app-proxy", "settings_size": -5}, "settings_size"),
    ],
)
def test_hello_that_is_wrong(body: dict[str, object], text: str) -> None:
    with pytest.raises(WireError, match=text):
        unpack_hello(body, [])
