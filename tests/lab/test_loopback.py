"""127.0.0.1 and ::1: the sandbox's own servers first, then the host's; never a provider that did not ask for it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netlab import NetLab

from .program import Program, provider, running

pytestmark = pytest.mark.lab

INET, INET6, STREAM, DGRAM = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
FAMILIES = pytest.mark.parametrize(("family", "host"), [(INET, "127.0.0.1"), (INET6, "::1"), (INET, "127.1.2.3")])


@contextmanager
def host_server(lab: NetLab, family: int, host: str, kind: int = STREAM) -> Iterator[socket.socket]:
    """A server on the host's (that is `near`'s) own loopback interface."""

    def make() -> socket.socket:
        sock = socket.socket(family, kind)
        sock.bind((host, 0))
        if kind == STREAM:
            sock.listen()
        sock.settimeout(10)
        return sock

    sock: socket.socket = lab.in_host(lab.near, make)
    with sock:
        yield sock


@FAMILIES
def test_a_server_inside(program: Program, family: int, host: str) -> None:
    """A server of the command's own is reached directly; no flow begins."""
    before = len(program.records("decision"))
    with program.socket(family) as server, program.socket(family) as near:
        server.bind((host, 0))
        server.listen()
        near.connect(server.getsockname()[:2])
        connection, name = server.accept()
        with connection:
            assert name[0] == ("127.0.0.1" if family == INET else "::1")
            near.sendall(b"hello")
            assert connection.recv(10) == b"hello"
    assert len(program.records("decision")) == before


@FAMILIES
def test_the_host_s_server(program: Program, lab: NetLab, family: int, host: str) -> None:
    """Nobody inside listens: the host's server answers."""
    with host_server(lab, family, host) as server, program.socket(family) as near:
        near.connect(server.getsockname()[:2])
        connection, name = server.accept()
        with connection:
            assert name[0] == ("127.0.0.1" if family == INET else "::1")
            connection.sendall(b"from the host")
            assert near.recv(100) == b"from the host"
        assert near.recv(100) == b""


@FAMILIES
def test_nobody_listens(program: Program, family: int, host: str) -> None:
    with program.socket(family) as near:
        assert near.connect_ex((host, 9)) == errno.ECONNREFUSED


def test_inside_comes_first(program: Program, lab: NetLab) -> None:
    """The same port inside and on the host: the program reaches its own."""
    if program.way == "native":
        pytest.skip("there is no inside")
    with host_server(lab, INET, "127.0.0.1") as server, program.socket() as own, program.socket() as near:
        own.bind(server.getsockname())
        own.listen()
        near.connect(server.getsockname())
        own.accept()[0].close()
        assert near.recv(1) == b""


@pytest.mark.parametrize(("family", "host"), [(INET, "127.0.0.1"), (INET6, "::1")])
def test_datagrams(program: Program, lab: NetLab, family: int, host: str) -> None:
    """UDP: first to the host's server, then between two sockets inside."""
    with host_server(lab, family, host, DGRAM) as server, program.socket(family, DGRAM) as near:
        near.sendto(b"hello", server.getsockname()[:2])
        data, source = server.recvfrom(100)
        server.sendto(data.upper(), source)
        assert near.recvfrom(100)[0] == b"HELLO"
    with program.socket(family, DGRAM) as one, program.socket(family, DGRAM) as other:
        one.bind((host, 0))
        other.bind((host, 0))
        one.sendto(b"inside", other.getsockname()[:2])
        assert other.recvfrom(100) == (b"inside", one.getsockname())


def test_providers_are_not_asked(lab: NetLab) -> None:
    """Without a rule that names it, loopback traffic is nobody's: not even an app proxy that refuses everything."""
    with running(lab, *provider("refusing_all")) as program, host_server(lab, INET, "127.0.0.1") as server:
        with program.socket() as near:
            near.connect(server.getsockname())
            server.accept()[0].close()
        with program.socket() as near, lab.far_listener() as far:
            assert near.connect_ex(far.getsockname()) == errno.ECONNREFUSED


def test_a_rule_that_names_it(lab: NetLab) -> None:
    """A transparent proxy whose rule is 127.0.0.1 gets what nobody inside listens on."""
    with running(lab, *provider("telling_loopback")) as program, program.socket() as near:
        near.connect(("127.0.0.1", 7))
        assert near.recv(100).split()[1:3] == [b"127.0.0.1", b"7"]
