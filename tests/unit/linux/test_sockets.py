"""Sockets and their options; what needs a capability is either granted or refused with EPERM, by who runs the test."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable, Iterator

import pytest

from network_extension.errors import DatapathError
from network_extension.linux import sockets
from network_extension.linux.sockets import (
    datagram_socket,
    family_of,
    listener,
    raw_socket,
    receive_descriptors,
    reset_on_close,
    send_descriptors,
    transparent_datagram_socket,
    transparent_listener,
)


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("::1", socket.AF_INET6),
        ("::ffff:192.0.2.1", socket.AF_INET6),
        ("fe80::1%eth0", socket.AF_INET6),
    ],
)
def test_family(host: str, family: int) -> None:
    assert family_of(host) == family


def test_a_listener_can_be_opened_again_at_once() -> None:
    """The port of a connection that has just ended may still be in TIME_WAIT."""
    with listener(("127.0.0.1", 0)) as first:
        address = first.getsockname()
        assert not first.getblocking()
        assert not first.get_inheritable()
        with socket.create_connection(address) as near:
            accepted, _ = first.accept()
            accepted.close()  # our end closes first, so ours waits
            assert near.recv(1) == b""
    with listener(address), socket.create_connection(address):
        pass


def test_a_datagram_socket_is_roomy_and_never_waits() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, datagram_socket(socket.AF_INET) as ours:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            assert ours.getsockopt(socket.SOL_SOCKET, option) >= plain.getsockopt(socket.SOL_SOCKET, option)
        with pytest.raises(BlockingIOError):
            ours.recv(1)


def transparent4() -> tuple[socket.socket, int, int]:
    return transparent_listener(("127.0.0.1", 0)), sockets.SOL_IP, sockets.IP_TRANSPARENT


def transparent6() -> tuple[socket.socket, int, int]:
    return transparent_listener(("::1", 0)), sockets.SOL_IPV6, sockets.IPV6_TRANSPARENT


def transparent_udp() -> tuple[socket.socket, int, int]:
    return transparent_datagram_socket(socket.AF_INET6), sockets.SOL_IPV6, sockets.IPV6_TRANSPARENT


def raw6() -> tuple[socket.socket, int, int]:
    return raw_socket(socket.AF_INET6), sockets.SOL_IPV6, sockets.IPV6_HDRINCL


def raw4() -> tuple[socket.socket, int, int]:
    return raw_socket(socket.AF_INET), sockets.SOL_IP, socket.IP_HDRINCL


# What was refused leaves its socket to the garbage collector: the keeper, who makes them, ends then.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("make", [transparent4, transparent6, transparent_udp, raw4, raw6])
def test_privileged_ones(make: Callable[[], tuple[socket.socket, int, int]]) -> None:
    try:
        sock, level, option = make()
    except PermissionError:
        assert os.geteuid() != 0
        return
    except OSError as error:
        pytest.skip(f"no such sockets here: {error}")
    with sock:
        assert sock.getsockopt(level, option) == 1
        assert not sock.getblocking()


def test_reset_on_close() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    reset_on_close(near)
    near.close()
    with far, pytest.raises(ConnectionResetError):
        far.recv(1)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


class TestDescriptors:
    @pytest.mark.parametrize("count", [1, 2, 253])
    def test_they_arrive_as_copies_in_order(self, pair: Pair, count: int) -> None:
        reader, writer = os.pipe()
        send_descriptors(pair[0], b"some", [reader, writer] * (count // 2) + [writer] * (count % 2))
        data, descriptors = receive_descriptors(pair[1])
        assert (data, len(descriptors)) == (b"some", count)
        assert not any(map(os.get_inheritable, descriptors))
        os.write(descriptors[-1], b"x")
        assert os.read(reader, 1) == b"x"
        for descriptor in (reader, writer, *descriptors):
            os.close(descriptor)

    def test_none_and_the_end(self, pair: Pair) -> None:
        send_descriptors(pair[0], b"none", [])
        assert receive_descriptors(pair[1]) == (b"none", [])
        pair[0].close()
        assert receive_descriptors(pair[1]) == (b"", [])

    def test_at_the_limit_of_open_files_none_is_kept(self, pair: Pair) -> None:
        """Some fit, some do not: the error says which limit, and those that came are closed."""
        null = os.open(os.devnull, os.O_RDONLY)
        send_descriptors(pair[0], b"three", [null] * 3)
        before = set(os.listdir("/proc/self/fd"))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(null)  # the lowest free number
        os.close(free)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
            with pytest.raises(DatapathError, match="ulimit -n"):
                receive_descriptors(pair[1])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert set(os.listdir("/proc/self/fd")) == before
        os.close(null)

    def test_fewer_than_were_sent_is_an_error_too(self, pair: Pair) -> None:
        before = len(os.listdir("/proc/self/fd"))
        send_descriptors(pair[0], b"x", [0, 1, 2])
        with pytest.raises(DatapathError, match="lost on the way"):
            receive_descriptors(pair[1], most=2)
        assert len(os.listdir("/proc/self/fd")) == before
