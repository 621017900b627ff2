"""Echo requests: what is sent on, what is refused, and the packets that come back. tests/lab has the network."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.packets import (
    Unreachable,
    address_bytes,
    icmp_echo_reply_packet,
    icmp_unreachable,
    internet_checksum,
    parse_echo,
    parse_head,
    udp_datagram,
)
from network_extension.linux import echo
from network_extension.linux.echo import EchoRelay, with_hop_limit, with_kind

from .driving import Driver, driving

PAIRS = [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8:1::7")]


def request_packet(
    source: str, destination: str, identifier: int = 7, sequence: int = 1, payload: bytes = b"abc"
) -> bytes:
    """An echo request: a reply whose type was changed, checksum and all."""
    reply = icmp_echo_reply_packet(address_bytes(source), address_bytes(destination), identifier, sequence, payload)
    return with_kind(reply, 8 if reply[0] >> 4 == 4 else 128, 0)


def is_sound(packet: bytes) -> bool:
    """Whether the checksums of an ICMP packet are right."""
    if packet[0] >> 4 == 4:
        return internet_checksum(packet[:20]) == 0 == internet_checksum(packet[20:])
    pseudo = packet[8:40] + len(packet[40:]).to_bytes(4, "big") + b"\0\0\0\x3a"
    return internet_checksum(pseudo + packet[40:]) == 0


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


@given(st.sampled_from(PAIRS), st.integers(0, 65535), st.integers(0, 255), st.binary(max_size=40))
def test_the_hop_limit_is_replaced(pair: tuple[str, str], identifier: int, hop_limit: int, payload: bytes) -> None:
    packet = request_packet(*pair, identifier, 1, payload)
    assert is_sound(packet)
    changed = with_hop_limit(packet, hop_limit)
    assert is_sound(changed)
    assert changed[8 if changed[0] >> 4 == 4 else 7] == hop_limit
    assert parse_echo(changed) == parse_echo(packet)


@given(st.sampled_from(PAIRS), st.binary(max_size=40), st.sampled_from(Unreachable), st.integers(0, 255))
def test_type_and_code_are_replaced(pair: tuple[str, str], payload: bytes, kind: Unreachable, code: int) -> None:
    packet = icmp_unreachable(request_packet(*pair, payload=payload), kind)
    changed = with_kind(packet, 11, code)
    at = parse_head(packet).transport_offset
    assert changed[at : at + 2] == bytes([11, code])
    assert is_sound(changed)
    assert changed[at + 4 :] == packet[at + 4 :]


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_in_silence(data: bytes) -> None:
    delivered: list[bytes] = []
    with driving() as driver:
        relay = EchoRelay(driver.reactor, delivered.append)
        if len(data) < 20 or data[0] >> 4 not in (4, 6):
            assert relay.request(data) is False
        relay.close()


def test_what_is_no_whole_request_is_not_sent(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "_open", lambda family: pytest.fail("a socket was made"))
    relay = EchoRelay(driver.reactor, lambda packet: pytest.fail("something was delivered"))
    for pair in PAIRS:
        whole = request_packet(*pair)
        source, destination = map(address_bytes, pair)
        reply = icmp_echo_reply_packet(source, destination, 1, 1, b"")
        for packet in (whole[:-1], whole[:30], reply, udp_datagram(source, 1, destination, 2, b"")):
            assert relay.request(packet) is False


@pytest.mark.parametrize(
    ("number", "code4", "code6"),
    [
        (errno.ENETUNREACH, 0, 0),
        (errno.EHOSTUNREACH, 1, 3),
        (errno.EACCES, 13, 1),
        (errno.EMFILE, None, None),
    ],
)
def test_what_cannot_be_sent_is_answered(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, number: int, code4: int | None, code6: int | None
) -> None:
    def refuse(family: int) -> socket.socket:
        raise OSError(number, "refused")

    monkeypatch.setattr(echo, "_open", refuse)
    answers: list[bytes] = []
    relay = EchoRelay(driver.reactor, answers.append)
    for pair, code in zip(PAIRS, (code4, code6), strict=True):
        answers.clear()
        assert relay.request(request_packet(*pair)) is False
        assert [answer[parse_head(answer).transport_offset + 1] for answer in answers] == [code] * (code is not None)
        assert all(map(is_sound, answers))


def test_requests_to_groups_are_not_answered(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(family: int) -> socket.socket:
        raise OSError(errno.ENETUNREACH, "refused")

    monkeypatch.setattr(echo, "_open", refuse)
    relay = EchoRelay(driver.reactor, lambda packet: pytest.fail("answered"))
    assert relay.request(request_packet("192.0.2.1", "224.0.0.1")) is False


def test_a_host_that_forbids_it_is_explained(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*arguments: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", forbid)
    relay = EchoRelay(driver.reactor, lambda packet: None)
    for family in (socket.AF_INET, socket.AF_INET6):
        assert not relay.available(family)
        assert "sysctl -w net.ipv4.ping_group_range=" in relay.why_not(family)


def test_a_kernel_without_the_family_is_explained(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*arguments: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", absent)
    relay = EchoRelay(driver.reactor, lambda packet: None)
    assert relay.why_not(socket.AF_INET6) == "ping sockets: Address family not supported by protocol"


class Silent:
    """A ping socket that sends into the void."""

    def __init__(self) -> None:
        self.real, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.type = socket.SOCK_DGRAM

    def __getattr__(self, name: str) -> object:
        if name in ("fileno", "recvmsg", "send"):
            return getattr(self.real, name)
        return lambda *arguments: 0

    def close(self) -> None:
        self.real.close()
        self.other.close()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> list[Silent]:
    made: list[Silent] = []

    def make(family: int) -> Silent:
        made.append(Silent())
        return made[-1]

    monkeypatch.setattr(echo, "_open", make)
    return made


def test_one_socket_for_a_program_and_a_destination(driver: Driver, silent: list[Silent]) -> None:
    relay = EchoRelay(driver.reactor, lambda packet: None)
    for identifier, sequence in ((1, 1), (1, 2), (2, 1)):
        assert relay.request(request_packet(*PAIRS[0], identifier, sequence))
    assert len(silent) == 2
    relay.close()
    assert [sock.real.fileno() for sock in silent] == [-1, -1]


def test_idle_sockets_are_closed(driver: Driver, silent: list[Silent], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "IDLE_TIMEOUT", 0.05)
    monkeypatch.setattr(echo, "SWEEP_INTERVAL", 0.01)
    relay = EchoRelay(driver.reactor, lambda packet: None)
    relay.request(request_packet(*PAIRS[0]))
    driver.until(lambda: silent[0].real.fileno() == -1)
    driver.until(lambda: relay._timer is None)
    relay.request(request_packet(*PAIRS[0]))
    assert len(silent) == 2
    relay.close()


def test_the_longest_unused_socket_makes_room(
    driver: Driver, silent: list[Silent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo, "MAX_SOCKETS", 2)
    relay = EchoRelay(driver.reactor, lambda packet: None)
    for identifier in (1, 2, 1, 3):
        relay.request(request_packet(*PAIRS[0], identifier))
    assert [sock.real.fileno() == -1 for sock in silent] == [False, True, False]
    relay.close()
