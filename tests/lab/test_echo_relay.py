"""Echo requests on a real network: ping sockets, raw sockets, replies and errors."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from network_extension.core.packets import address_bytes, parse_echo, parse_head
from network_extension.linux.echo import EchoRelay
from tests.netlab import FAR4, FAR6, NEAR4, NEAR6, NetLab
from tests.unit.linux.driving import Driver, driving
from tests.unit.linux.test_echo import is_sound, request_packet

pytestmark = pytest.mark.lab

INSIDE = {4: "10.77.1.1", 6: "fd77::1"}
FAR = {4: FAR4, 6: FAR6}
BEHIND = {4: "203.0.113.77", 6: "2001:db8:77::1"}
FURTHER = {4: "203.0.113.78", 6: "2001:db8:78::1"}


class Pings:
    """An echo relay whose sockets are made in `near`."""

    def __init__(self, lab: NetLab, driver: Driver) -> None:
        self.lab, self.driver, self.packets = lab, driver, list[bytes]()
        self.relay = EchoRelay(driver.reactor, self.packets.append)

    def near(self, action: Callable[[], Any]) -> Any:
        return self.lab.in_host(self.lab.near, action)

    def send(self, packet: bytes) -> bool:
        return bool(self.near(lambda: self.relay.request(packet)))

    def answers(self, count: int = 1) -> list[bytes]:
        self.driver.until(lambda: len(self.packets) >= count)
        taken = self.packets[:]
        self.packets.clear()
        assert all(map(is_sound, taken))
        return taken


@pytest.fixture(params=["ping sockets", "raw sockets"])
def pings(request: pytest.FixtureRequest, lab: NetLab) -> Iterator[Pings]:
    before = lab.near.run("sysctl", "-n", "net.ipv4.ping_group_range").stdout.strip()
    allowed = "0 2147483647" if request.param == "ping sockets" else "1 0"
    lab.near.run("sysctl", "-qw", f"net.ipv4.ping_group_range={allowed}")
    lab.far.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
    with driving() as driver:
        pings = Pings(lab, driver)
        yield pings
        pings.relay.close()
    lab.near.run("sysctl", "-qw", f"net.ipv4.ping_group_range={before}")


@pytest.mark.parametrize("version", [4, 6])
def test_replies_come_back_as_the_program_expects_them(pings: Pings, version: int) -> None:
    payload = bytes(range(256)) * 4
    for sequence in (1, 2, 65535):
        assert pings.send(request_packet(INSIDE[version], FAR[version], 0xBEEF, sequence, payload))
    for sequence, packet in zip((1, 2, 65535), pings.answers(3), strict=True):
        head, echo = parse_head(packet), parse_echo(packet)
        assert (head.source, head.destination) == tuple(map(address_bytes, (FAR[version], INSIDE[version])))
        assert echo == (True, 0xBEEF, sequence, payload)
        assert packet[8 if version == 4 else 7] == 64


@pytest.mark.parametrize("version", [4, 6])
def test_programs_with_one_identifier_are_told_apart(pings: Pings, version: int) -> None:
    others = {4: ("10.77.1.1", "10.77.1.2"), 6: ("fd77::1", "fd77::2")}[version]
    for sequence, host in enumerate(others):
        assert pings.send(request_packet(host, FAR[version], 7, sequence))
    found = {(parse_head(packet).destination, parse_echo(packet)) for packet in pings.answers(2)}
    assert found == {(address_bytes(host), (True, 7, sequence, b"abc")) for sequence, host in enumerate(others)}


@pytest.fixture
def dead_end(lab: NetLab) -> Iterator[None]:
    """`far` forwards, knows that there is no way to `BEHIND`, and a way to `FURTHER`, though a wrong one."""
    lab.far.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    routes = [["unreachable", host] for host in BEHIND.values()]
    routes += [[FURTHER[4], "via", NEAR4], [FURTHER[6], "via", NEAR6]]
    for route in routes:
        subprocess.run(["ip", "-n", lab.far.name, "route", "add", *route], check=True)
    yield
    for route in routes:
        subprocess.run(["ip", "-n", lab.far.name, "route", "del", *route], check=True)


@pytest.mark.usefixtures("dead_end")
@pytest.mark.parametrize("version", [4, 6])
def test_a_routers_answer_is_passed_on(pings: Pings, version: int) -> None:
    request = request_packet(INSIDE[version], BEHIND[version], 9, 3)
    pings.send(request)
    pings.send(request_packet(INSIDE[version], BEHIND[version], 9, 4))
    first, second = pings.answers(2)
    head = parse_head(first)
    assert (head.source, head.destination) == tuple(map(address_bytes, (FAR[version], INSIDE[version])))
    assert first[head.transport_offset : head.transport_offset + 2] == (b"\3\1" if version == 4 else b"\1\0")
    assert {bytes(answer[head.transport_offset + 8 :])[-5:-3] for answer in (first, second)} == {b"\0\3", b"\0\4"}
    assert pings.send(request_packet(INSIDE[version], FAR[version], 9, 5)), "the next one is not disturbed"
    assert parse_echo(pings.answers()[0]) == (True, 9, 5, b"abc")


@pytest.mark.usefixtures("dead_end")
@pytest.mark.parametrize("version", [4, 6])
def test_the_hop_limit_counts(pings: Pings, version: int) -> None:
    """As traceroute -I has it."""
    request = bytearray(request_packet(INSIDE[version], FURTHER[version], 9, 3))
    request[8 if version == 4 else 7] = 1
    pings.send(bytes(request))
    [answer] = pings.answers()
    head = parse_head(answer)
    assert head.source == address_bytes(FAR[version])
    assert answer[head.transport_offset : head.transport_offset + 2] == (b"\x0b\0" if version == 4 else b"\3\0")


def test_a_host_without_a_way_there_says_so(pings: Pings, lab: NetLab) -> None:
    subprocess.run(["ip", "-n", lab.near.name, "route", "add", "unreachable", "203.0.113.99"], check=True)
    try:
        assert not pings.send(request_packet(INSIDE[4], "203.0.113.99"))
        [answer] = pings.answers()
        assert answer[20:22] == b"\3\1"
    finally:
        subprocess.run(["ip", "-n", lab.near.name, "route", "del", "unreachable", "203.0.113.99"], check=True)


def test_both_families_are_available(pings: Pings) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        assert pings.near(lambda family=family: pings.relay.why_not(family)) == ""  # type: ignore[misc]


def test_our_own_addresses_answer_too(pings: Pings) -> None:
    for version, host in ((4, NEAR4), (6, NEAR6)):
        pings.send(request_packet(INSIDE[version], host))
        assert parse_echo(pings.answers()[0]) is not None
