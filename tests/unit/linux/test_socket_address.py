"""sockaddr_in and sockaddr_in6 as bytes."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from network_extension.linux.socket_address import connect_to, identity, leave_peer, pack, send_to, unpack

INET, INET6 = socket.AF_INET, socket.AF_INET6
ports = st.integers(0, 65535)


@given(st.ip_addresses(v=4), ports)
def test_ipv4_survives_both_kinds_of_socket(host: IPv4Address, port: int) -> None:
    for family in (INET, INET6):
        assert unpack(pack((str(host), port), family)) == (str(host), port)


@given(st.ip_addresses(v=6), ports)
def test_ipv6_survives(host: IPv6Address, port: int) -> None:
    assume(host.ipv4_mapped is None)
    text, found = unpack(pack((str(host), port), INET6))
    assert (IPv6Address(text), found) == (host, port)


def test_scopes_are_numbers_or_names() -> None:
    loopback = socket.if_nametoindex("lo")
    for zone in ("lo", str(loopback)):
        assert unpack(pack((f"fe80::1%{zone}", 7), INET6)) == (f"fe80::1%{loopback}", 7)


def test_identity_leaves_the_scope_out() -> None:
    assert identity(pack(("fe80::1%lo", 7), INET6)) == identity(pack(("fe80::1", 7), INET6))
    assert identity(pack(("fe80::1", 8), INET6)) != identity(pack(("fe80::1", 7), INET6))
    assert identity(pack(("10.0.0.1", 7), INET)) != identity(pack(("10.0.0.2", 7), INET))


@pytest.mark.parametrize("host", ["example.org", "", "1.2.3", "::g", "fe80::1%no-such-device"])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(OSError):
        pack((host, 1), INET6)


def test_an_ipv6_address_does_not_fit_an_ipv4_socket() -> None:
    with pytest.raises(OSError):
        pack(("::1", 1), INET)


def test_other_families_are_refused() -> None:
    with pytest.raises(ValueError, match="address family 1"):
        unpack(b"\1\0" + bytes(30))


def udp(family: int = INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1" if family == INET else "::1", 0))
    sock.settimeout(5)
    return sock


@pytest.mark.parametrize("family", [INET, INET6])
@pytest.mark.parametrize("host", ["", "loopback"])
def test_leaving_a_peer_keeps_port_and_address(family: int, host: str) -> None:
    name = host and ("127.0.0.1" if family == INET else "::1")
    with socket.socket(family, socket.SOCK_DGRAM) as sock, udp(family) as peer, udp(family) as other:
        sock.settimeout(5)
        sock.bind((name, 0))
        before = sock.getsockname()
        connect_to(sock.fileno(), pack(peer.getsockname()[:2], family))
        leave_peer(sock)
        assert sock.getsockname() == before
        with pytest.raises(OSError):
            sock.getpeername()
        target = (peer.getsockname()[0], before[1])
        for sender in (peer, other):
            sender.sendto(b"x", target)
            assert sock.recvfrom(10)[1] == sender.getsockname()


def test_send_to_reaches_a_name_or_the_peer() -> None:
    with udp() as sock, udp() as peer:
        send_to(sock.fileno(), b"named", pack(peer.getsockname(), INET))
        connect_to(sock.fileno(), pack(peer.getsockname(), INET))
        send_to(sock.fileno(), b"", None)
        assert [peer.recv(10), peer.recv(10)] == [b"named", b""]
        with pytest.raises(OSError) as caught:
            send_to(sock.fileno(), bytes(65508), None)
        assert caught.value.errno == errno.EMSGSIZE
