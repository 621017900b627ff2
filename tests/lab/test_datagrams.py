"""UDP through `netext`: sizes, peers, errors and ends, as without us."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import time
from collections.abc import Iterator

import pytest

from network_extension import FlowErrorCode
from tests.netlab import FAR4, FAR6, NEAR4, NetLab, wait_for

from .program import Program, RemoteSocket, provider, running

pytestmark = pytest.mark.lab

INET, INET6, DGRAM = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM
IP_RECVERR, IPV6_RECVERR = 11, 25


def exchange(
    near: RemoteSocket, far: socket.socket, data: bytes, target: tuple[str, int] | None = None
) -> tuple[str, int]:
    """Send a datagram there and its reverse back; where the server saw it come from."""
    near.sendto(data, target) if target else near.send(data)
    received, source = far.recvfrom(65536)
    assert received == data
    far.sendto(data[::-1], source)
    answer, name = near.recvfrom(65536)
    assert answer == data[::-1]
    assert name[:2] == far.getsockname()[:2]
    return source[0], source[1]


@pytest.mark.parametrize("family", [INET, INET6])
@pytest.mark.parametrize("size", [0, 1, 1200, 1472, 9000, 65507])
def test_sizes(program: Program, lab: NetLab, family: int, size: int) -> None:
    """Datagrams of every size, empty ones too, go there and back as they are."""
    with lab.far_listener(0, family, DGRAM) as far, program.socket(family, DGRAM) as near:
        near.connect(far.getsockname()[:2])
        exchange(near, far, os.urandom(size))
        exchange(near, far, os.urandom(size))


@pytest.mark.parametrize("family", [INET, INET6])
def test_more_than_a_datagram_holds(program: Program, lab: NetLab, family: int) -> None:
    """EMSGSIZE, at once."""
    with lab.far_listener(0, family, DGRAM) as far, program.socket(family, DGRAM) as near:
        assert near.errno_of("sendto", bytes(65536), far.getsockname()[:2]) == errno.EMSGSIZE


@pytest.mark.parametrize("family", [INET, INET6])
def test_an_unconnected_socket(program: Program, lab: NetLab, family: int) -> None:
    with lab.far_listener(0, family, DGRAM) as far, program.socket(family, DGRAM) as near:
        for number in range(5):
            exchange(near, far, b"datagram %d" % number, far.getsockname()[:2])


def test_one_socket_and_many_peers(program: Program, lab: NetLab) -> None:
    """All peers see the same source address and port, and each answer comes from the peer that gave it."""
    servers = [lab.far_listener(0, INET, DGRAM) for _ in range(5)]
    with program.socket(INET, DGRAM) as near:
        sources = [exchange(near, far, b"to you", far.getsockname()) for far in servers * 2]
        assert len(set(sources)) == 1
        assert sources[0][0] == NEAR4
    for far in servers:
        far.close()


def test_answers_from_another_port(program: Program, lab: NetLab) -> None:
    """An unconnected socket takes datagrams from whoever answers, and can speak with that one (TFTP does so)."""
    far, other, near = lab.far_listener(0, INET, DGRAM), lab.far_listener(0, INET, DGRAM), program.socket(INET, DGRAM)
    with far, other, near:
        near.sendto(b"hello", far.getsockname())
        _, source = far.recvfrom(100)
        other.sendto(b"from another", source)
        assert near.recvfrom(100) == (b"from another", other.getsockname())
        assert exchange(near, other, b"and back", other.getsockname()) == source


def test_a_connected_socket_hears_its_peer_alone(program: Program, lab: NetLab) -> None:
    far, other, near = lab.far_listener(0, INET, DGRAM), lab.far_listener(0, INET, DGRAM), program.socket(INET, DGRAM)
    with far, other, near:
        near.connect(far.getsockname())
        near.send(b"hello")
        _, source = far.recvfrom(100)
        other.sendto(b"from another", source)
        far.sendto(b"from its peer", source)
        assert near.recv(100) == b"from its peer"
        near.settimeout(0.2)
        with pytest.raises(TimeoutError):
            near.recv(100)


@pytest.mark.parametrize("host", [FAR4, FAR6])
def test_refused(program: Program, host: str) -> None:
    """A connected socket whose peer's port is closed: ECONNREFUSED by the next call."""
    if program.way == "carried":
        pytest.skip("the provider sends from an unconnected socket of its own, which hears no errors")
    with program.socket(INET6 if ":" in host else INET, DGRAM) as near:
        near.connect((host, 9))
        near.send(b"is anybody there?")
        with pytest.raises(ConnectionRefusedError):
            near.recv(100)
        near.settimeout(0.1)
        with pytest.raises(TimeoutError):
            near.recv(100)


def test_the_error_queue(program: Program) -> None:
    """With IP_RECVERR an unconnected socket learns which of its datagrams was refused."""
    if program.way == "carried":
        pytest.skip("as above")
    with program.socket(INET, DGRAM) as near:
        near.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        near.sendto(b"is anybody there?", (FAR4, 9))
        found = wait_for(near.receive_errors, 5)
        assert found == [(errno.ECONNREFUSED, (FAR4, 9))]


def test_a_refused_peer_does_not_disturb_the_others(program: Program, lab: NetLab) -> None:
    with lab.far_listener(0, INET, DGRAM) as far, program.socket(INET, DGRAM) as near:
        for _ in range(3):
            near.sendto(b"is anybody there?", (FAR4, 9))
            exchange(near, far, b"yes", far.getsockname())


@pytest.mark.parametrize(
    ("family", "host"),
    [(INET, "224.0.0.251"), (INET, "239.1.2.3"), (INET, "255.255.255.255"), (INET6, "ff02::fb"), (INET6, "ff0e::1")],
)
def test_groups_are_refused_at_once(program: Program, family: int, host: str) -> None:
    """Multicast and broadcast: sendto() fails with an errno, and no flow begins."""
    if program.way == "native":
        pytest.skip("this host has a multicast route")
    with program.socket(family, DGRAM) as near:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        before = len(program.records("decision"))
        start = time.monotonic()
        number = near.errno_of("sendto", b"to all", (host, 5353))
        assert errno.errorcode[number] in ("ENETUNREACH", "EPERM", "EACCES")
        assert time.monotonic() - start < 0.5
        assert len(program.records("decision")) == before


def test_a_thousand_datagrams_in_order(program: Program, lab: NetLab) -> None:
    """None is lost and none overtakes another, while the window of unanswered ones stays small."""
    with lab.far_listener(0, INET, DGRAM) as far, program.socket(INET, DGRAM) as near:
        near.connect(far.getsockname())
        sending = near.begin("send_numbered", 1000, 1200, 10)
        for number in range(1000):
            data, source = far.recvfrom(2000)
            assert int.from_bytes(data[:4], "big") == number
            far.sendto(data[:4], source)
        assert sending.result(10) == 1000


def test_many_datagrams_before_the_first_decision(program: Program, lab: NetLab) -> None:
    """Fifty sent at once by a new socket: all arrive, in order but for one place at most.

    Between the moment in which our socket is there and the verdict about what waits, some microseconds, the program may
    send more, which goes straight to the socket.
    """
    with lab.far_listener(0, INET, DGRAM) as far, program.socket(INET, DGRAM) as near:
        near.connect(far.getsockname())
        near.send_burst(50)
        arrived = [int(far.recv(100)) for _ in range(50)]
    assert sorted(arrived) == list(range(50))
    assert sum(after < before for before, after in itertools.pairwise(arrived)) <= 1


def test_send_and_forget(program: Program, lab: NetLab) -> None:
    """A program that sends one datagram and closes its socket, two hundred times over: all arrive."""
    with lab.far_listener(0, INET, DGRAM) as far:
        missing = {b"%d" % number for number in range(200)}
        for datagram in list(missing):
            program.call("send_and_close", far.getsockname(), datagram)
        while missing:
            missing.remove(far.recv(100))


def test_the_flow_ends_with_the_socket(program: Program, lab: NetLab) -> None:
    """The program closes: the flow's record is written soon; the same local port is a new flow then."""
    if program.way == "native":
        pytest.skip("there is no log")
    with lab.far_listener(0, INET, DGRAM) as far:
        for _ in range(2):
            with program.socket(INET, DGRAM) as near:
                near.bind(("0.0.0.0", 45454))
                near.connect(far.getsockname())
                exchange(near, far, b"x" * 100)
            port = far.getsockname()[1]
            record = program.flow(port, timeout=3)
            assert record["local"][1] == 45454
            assert "python" in record["process"]["executable"]
            assert "arguments" not in record["process"]
            if program.way != "carried":  # what a provider carries itself is not counted
                assert (record["out"], record["in"]) == (100, 100)
        wait_for(lambda: len([record for record in program.records("flow") if record["remote"][1] == port]) == 2, 3)


def test_a_new_socket_at_once_at_the_same_port(program: Program, lab: NetLab) -> None:
    """Close, and bind the same port again without a pause: datagrams go both ways as before."""
    with lab.far_listener(0, INET, DGRAM) as far:
        for _ in range(5):
            with program.socket(INET, DGRAM) as near:
                near.bind(("0.0.0.0", 45455))
                exchange(near, far, b"again", far.getsockname())


@pytest.fixture(scope="module")
def answered(lab: NetLab) -> Iterator[Program]:
    """A program behind a provider that plays all peers itself."""
    with running(lab, *provider("answering")) as program:
        yield program


@pytest.mark.parametrize("host", [FAR4, FAR6])
def test_a_provider_answers_from_the_endpoint_that_was_asked(answered: Program, host: str) -> None:
    with answered.socket(INET6 if ":" in host else INET, DGRAM) as near:
        for port in (1001, 1002, 1001):
            near.sendto(b"who is it?", (host, port))
            data, name = near.recvfrom(100)
            assert data == f"{host} {port}: who is it?".encode()
            assert name[:2] == (host, port)


@pytest.mark.parametrize(("host", "other"), [(FAR4, "203.0.113.77"), (FAR6, "2001:db8::77")])
def test_a_provider_writes_from_an_endpoint_of_its_choice(answered: Program, host: str, other: str) -> None:
    """The program has not sent there; it gets the datagram, and its answer reaches the provider."""
    with answered.socket(INET6 if ":" in host else INET, DGRAM) as near:
        near.sendto(f"from {other} 77".encode(), (host, 1001))
        data, name = near.recvfrom(100)
        assert data == b"a word"
        assert name[:2] == (other, 77)
        near.sendto(b"thanks", (other, 77))
        assert near.recvfrom(100)[0] == f"{other} 77: thanks".encode()


@pytest.mark.parametrize("size", [0, 65507])
def test_a_provider_writes_datagrams_of_any_size(answered: Program, size: int) -> None:
    with answered.socket(INET, DGRAM) as near:
        near.sendto(f"size {size}".encode(), (FAR4, 1001))
        assert len(near.recv(65536)) == size


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        ("size 65508", "DATAGRAM_TOO_LARGE datagram of 65508 bytes"),
        ("from 224.0.0.1 9", "INVALID_ARGUMENT"),
        ("from 2001:db8::1 9", "INVALID_ARGUMENT"),
        ("from example.com 9", "INVALID_ARGUMENT"),
    ],
)
def test_what_no_datagram_can_be(answered: Program, ask: str, expected: str) -> None:
    """write_datagrams names the size, the limit or the address, and the flow lives on."""
    with answered.socket(INET, DGRAM) as near:
        near.sendto(ask.encode(), (FAR4, 1001))
        assert near.recv(1000).decode().startswith(expected)
        near.sendto(b"still there?", (FAR4, 1001))
        assert near.recv(1000) == f"{FAR4} 1001: still there?".encode()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (FlowErrorCode.REFUSED, errno.ECONNREFUSED),
        (FlowErrorCode.HOST_UNREACHABLE, errno.EHOSTUNREACH),
        (FlowErrorCode.NETWORK_UNREACHABLE, errno.ENETUNREACH),
    ],
)
def test_a_provider_closes_the_flow(answered: Program, code: FlowErrorCode, expected: int) -> None:
    """Closed with an error before it opens: the program gets the errno by the next call.

    Without IP_RECVERR a UDP socket hears of a refused port only (__udp4_lib_err() in net/ipv4/udp.c).
    """
    with answered.socket(INET, DGRAM) as near:
        near.setsockopt(socket.IPPROTO_IP, IP_RECVERR, code is not FlowErrorCode.REFUSED)
        near.connect((FAR4, 2000 + code))
        near.send(b"hello")
        assert near.errno_of("recv", 100) == expected
