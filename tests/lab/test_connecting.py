"""connect(): it completes when, and fails as, it would without us."""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from network_extension import FlowErrorCode
from tests.netlab import FAR4, FAR6, NEAR4, NEAR6, NetLab

from .program import Program, provider, running

pytestmark = pytest.mark.lab

INET, INET6 = socket.AF_INET, socket.AF_INET6
TCP_SYNCNT, TCP_USER_TIMEOUT = 7, 18


@pytest.fixture(scope="module", autouse=True)
def dead_ends(lab: NetLab) -> Iterator[None]:
    """Addresses to which `far`, and then `near` itself, knows no way, each for another reason."""
    far = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0"
    lab.far.run("sysctl", "-qw", *far.split())
    routes = []
    for kind, number in (("unreachable", 1), ("prohibit", 2), ("blackhole", 3)):
        routes += [(lab.far.name, kind, f"203.0.113.{number}"), (lab.far.name, kind, f"2001:db8:dead::{number}")]
    for kind, number in (("unreachable", 11), ("prohibit", 12), ("throw", 13)):
        routes += [(lab.near.name, kind, f"203.0.113.{number}"), (lab.near.name, kind, f"2001:db8:dead::{number}")]
    for name, kind, address in routes:
        lab.near.run("ip", "-n", name, "route", "add", kind, address)
    rule = "ip6 daddr 2001:db8:dead::5 reject with icmpv6 type addr-unreachable"
    chain = "chain inet dead f { type filter hook forward priority 0; }"
    lab.far.run("nft", f"add table inet dead; add {chain}; add rule inet dead f {rule}")
    lab.near.run("ip", "-n", lab.far.name, "route", "add", "2001:db8:dead::5", "via", NEAR6)
    lab.near.run("ping", "-c", "1", "-W", "3", FAR6)
    yield
    lab.far.run("nft", "delete table inet dead")
    for name, kind, address in routes:
        lab.near.run("ip", "-n", name, "route", "del", kind, address)
    lab.near.run("ip", "-n", lab.far.name, "route", "del", "2001:db8:dead::5")


def attempt(program: Program, host: str, port: int, **options: int) -> tuple[str, float]:
    """The name of connect()'s errno ("" for success), and how long it took."""
    with program.socket(INET6 if ":" in host else INET) as sock:
        for name, value in options.items():
            sock.setsockopt(socket.IPPROTO_TCP, {"syncnt": TCP_SYNCNT, "user_timeout": TCP_USER_TIMEOUT}[name], value)
        start = time.monotonic()
        number = sock.connect_ex((host, port))
        return errno.errorcode[number] if number else "", time.monotonic() - start


@pytest.mark.parametrize("host", [FAR4, FAR6])
def test_refused(program: Program, host: str) -> None:
    """Nobody listens there: ECONNREFUSED, at once."""
    error, seconds = attempt(program, host, 81)
    assert error == "ECONNREFUSED"
    assert seconds < 0.5


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("203.0.113.1", "EHOSTUNREACH", id="host-v4"),
        pytest.param("2001:db8:dead::5", "EHOSTUNREACH", id="host-v6"),
        pytest.param("203.0.113.2", "EHOSTUNREACH", id="prohibited-v4"),
        pytest.param("2001:db8:dead::2", "EACCES", id="prohibited-v6"),
        pytest.param("203.0.113.4", "ENETUNREACH", id="network-v4"),
        pytest.param("2001:db8:dead::4", "ENETUNREACH", id="network-v6"),
    ],
)
def test_unreachable_says_a_router(program: Program, host: str, expected: str) -> None:
    """A router's ICMP message (host, network, prohibited) gives connect() its errno, at once."""
    error, seconds = attempt(program, host, 80)
    assert error == expected
    # Slow over IPv6, natively too: the message arrives while connect() still holds the socket, and waits for the SYN
    # to be sent again (tcp_v6_err() in net/ipv6/tcp_ipv6.c).
    assert seconds < (2.5 if ":" in host else 0.5)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("203.0.113.11", "EHOSTUNREACH", id="host-v4"),
        pytest.param("2001:db8:dead::11", "EHOSTUNREACH", id="host-v6"),
        pytest.param("203.0.113.12", "EACCES", id="prohibited-v4"),
        pytest.param("2001:db8:dead::12", "EACCES", id="prohibited-v6"),
        pytest.param("203.0.113.13", "ENETUNREACH", id="network-v4"),
        pytest.param("2001:db8:dead::13", "ENETUNREACH", id="network-v6"),
    ],
)
def test_unreachable_by_a_route_of_our_own(program: Program, host: str, expected: str) -> None:
    """The host itself has no way there: the same errno, and for IPv4 the nearest one that ICMP can carry."""
    error, seconds = attempt(program, host, 80)
    if host == "203.0.113.12" and program.way != "native":
        # No ICMP message gives an IPv4 program EACCES (icmp_err_convert[] in net/ipv4/icmp.c).
        expected = "EHOSTUNREACH"
    assert error == expected
    assert seconds < 0.5


@pytest.mark.parametrize("host", ["203.0.113.3", "2001:db8:dead::3"])
def test_silence_is_a_timeout_of_the_program_s_own(program: Program, host: str) -> None:
    """A black hole: the program's own patience (TCP_USER_TIMEOUT) ends in ETIMEDOUT, when it would natively."""
    error, seconds = attempt(program, host, 80, user_timeout=700)
    assert error == "ETIMEDOUT"
    assert 0.6 < seconds < 3


@pytest.mark.parametrize("family", [INET, INET6])
def test_a_reset_right_after_accept(program: Program, lab: NetLab, family: int) -> None:
    """The server accepts and resets: connect() works, or fails with ECONNRESET; the first read fails with it."""
    with lab.far_listener(0, family) as server, program.socket(family) as sock:
        connecting = sock.begin("connect_ex", server.getsockname()[:2])
        connection, _ = server.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        number = connecting.result(10)
        assert (number or sock.errno_of("recv", 1)) == errno.ECONNRESET


@pytest.mark.parametrize(("family", "near"), [(INET, NEAR4), (INET6, NEAR6)])
def test_addresses(program: Program, lab: NetLab, family: int, near: str) -> None:
    """The server sees this host's address; the program sees the server's, and a local one of its own family."""
    with lab.far_listener(0, family) as server, program.socket(family) as sock:
        address = server.getsockname()[:2]
        sock.connect(address)
        connection, name = server.accept()
        with connection:
            assert name[0] == near
            assert sock.getpeername()[:2] == address
            assert sock.getsockname()[0] in (near, "192.0.0.2", "64:ff9b:1::2")


def test_the_program_binds_first(program: Program, lab: NetLab) -> None:
    """bind() to a port before connect() works, and the same port can be used again for another destination."""
    with lab.far_listener() as one, lab.far_listener() as other:
        for server in (one, other):
            with program.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("0.0.0.0", 34567))
                sock.connect(server.getsockname())
                server.accept()[0].close()
                assert sock.recv(1) == b""


@pytest.fixture(scope="module")
def refused(lab: NetLab) -> Iterator[Program]:
    """A program behind a provider that closes flows before they open."""
    with running(lab, *provider("refusing")) as program:
        yield program


@pytest.mark.parametrize("host", [FAR4, FAR6])
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (FlowErrorCode.REFUSED, "ECONNREFUSED"),
        (FlowErrorCode.HOST_UNREACHABLE, "EHOSTUNREACH"),
        (FlowErrorCode.NETWORK_UNREACHABLE, "ENETUNREACH"),
        (FlowErrorCode.ABORTED, "ECONNREFUSED"),
        (FlowErrorCode.INTERNAL, "ECONNREFUSED"),
    ],
)
def test_a_provider_s_refusal(refused: Program, host: str, code: FlowErrorCode, expected: str) -> None:
    """connect() fails at once, with the errno of the provider's code or the nearest that TCP can say."""
    error, seconds = attempt(refused, host, 20000 + code)
    assert error == expected
    assert seconds < 0.5
    record = refused.flow(20000 + code)
    assert record["outcome"] == "refused"
    assert record["error"] == code


@pytest.mark.parametrize("host", [FAR4, FAR6])
def test_a_provider_s_reset(refused: Program, host: str) -> None:
    """PEER_RESET: ECONNRESET by connect() or by the first read."""
    with refused.socket(INET6 if ":" in host else INET) as sock:
        number = sock.connect_ex((host, 20000 + FlowErrorCode.PEER_RESET))
        assert (number or sock.errno_of("recv", 1)) == errno.ECONNRESET


def test_a_provider_s_timeout(refused: Program) -> None:
    """TIMED_OUT: silence, so that the program's own TCP says ETIMEDOUT when its retries end; one flow, not one a
    retry.
    """
    error, seconds = attempt(refused, FAR4, 20000 + FlowErrorCode.TIMED_OUT, syncnt=1)
    assert error == "ETIMEDOUT"
    assert 1 < seconds < 5
    assert len([record for record in refused.records("flow") if record["error"] == FlowErrorCode.TIMED_OUT]) == 1


def test_connect_waits_for_open(lab: NetLab) -> None:
    """A provider that opens after 0.5 s: connect() completes then and not before, other flows at the same time."""
    with running(lab, *provider("relaying", delay=0.5)) as program, lab.far_listener() as server:
        socks = [program.socket() for _ in range(3)]
        start = time.monotonic()
        connecting = [sock.begin("connect", server.getsockname()) for sock in socks]
        for future in connecting:
            future.result(10)
            assert 0.45 < time.monotonic() - start < 1.2
        for sock in socks:
            sock.close()


def test_a_program_that_gives_up_before_its_flow_is_open(lab: NetLab) -> None:
    """The program closes while the provider still thinks: the flow ends as such, and the same port works again."""
    with running(lab, *provider("relaying", delay=1.0)) as program, lab.far_listener() as server:
        address = server.getsockname()
        for _ in range(2):
            with program.socket(timeout=0.2) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("0.0.0.0", 45678))
                with pytest.raises(TimeoutError):
                    sock.connect(address)
        with program.socket() as sock:
            sock.bind(("0.0.0.0", 45678))
            sock.connect(address)
            assert program.flow(address[1])["outcome"] == "gone"
