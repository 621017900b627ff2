"""A datagram relay between a program's socket and its peers, on the loopback interface."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from network_extension.linux import datagram_batch, datagrams, socket_address
from network_extension.linux.datagram_batch import SOL_UDP, UDP_SEGMENT, Batch
from network_extension.linux.datagrams import KEEP_UNCLAIMED, DatagramRelay
from network_extension.linux.sockets import Address

from .driving import Driver, driving

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def udp(family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((LOOPBACK[socket.AddressFamily(family)], 0))
    sock.settimeout(5)
    return sock


def address(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return host, port


class Flow:
    """A program, a relay, and what the relay told."""

    def __init__(self, driver: Driver, family: int, connect: bool = True) -> None:
        self.driver, self.family, self.connect = driver, family, connect
        self.program, self.remote, self.server = udp(family), udp(family), udp(family)
        self.first = address(self.server)
        self.sides: dict[Address, socket.socket] = {}
        self.servers = [self.server]
        self.done: list[OSError | None] = []
        self.errors: list[tuple[Address, int]] = []
        self.new: list[Address] = []
        self.turns = 0
        self.relay = DatagramRelay(
            driver.reactor,
            self.remote,
            self.first,
            lambda relay, error: self.done.append(error),
            on_activity=lambda relay: setattr(self, "turns", self.turns + 1),
            on_new_peer=lambda relay, peer: self.new.append(peer),
            on_error=lambda relay, peer, number: self.errors.append((peer, number)),
            connect=connect,
        )
        self.add(self.first)

    def add(self, peer: Address) -> None:
        """Give the relay a program-side socket, with an address of its own where a real one has the peer's."""
        side = udp(self.family)
        side.connect(self.program.getsockname())
        self.sides[peer] = side
        self.relay.add_peer(peer, side)

    def another_server(self) -> socket.socket:
        self.servers.append(udp(self.family))
        return self.servers[-1]

    def send(self, data: bytes, to: socket.socket | None = None) -> None:
        """The program sends to a server."""
        self.program.sendto(data, self.sides[address(to) if to else self.first].getsockname())

    def carried(self, sent: int, received: int) -> None:
        """Wait until the relay has moved so many datagrams."""
        relay = self.relay
        self.driver.until(lambda: (relay.datagrams_sent, relay.datagrams_received) == (sent, received))

    def close(self) -> None:
        self.relay.close()
        for sock in (self.program, *self.servers):
            sock.close()


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


@pytest.fixture(params=["connected", "named"])
def connect(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "connected")


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def flow(request: pytest.FixtureRequest, driver: Driver, connect: bool) -> Iterator[Flow]:
    flow = Flow(driver, request.param, connect)
    yield flow
    flow.close()


SIZES = [0, 1, 1200, 1200, 1200, 700, 65507, 0, 1472, 1472, 9000, 1200, 1199]


def test_boundaries_and_order_survive_both_ways(flow: Flow) -> None:
    datagrams = [os.urandom(size) for size in SIZES]
    for datagram in datagrams:
        flow.send(datagram)
    flow.carried(len(SIZES), 0)
    assert [flow.server.recvfrom(70000) for _ in SIZES] == [
        (datagram, flow.remote.getsockname()) for datagram in datagrams
    ]
    for datagram in datagrams:
        flow.server.sendto(datagram, flow.remote.getsockname())
    flow.carried(len(SIZES), len(SIZES))
    side = flow.sides[flow.first].getsockname()
    assert [flow.program.recvfrom(70000) for _ in SIZES] == [(datagram, side) for datagram in datagrams]
    relay = flow.relay
    assert (relay.sent, relay.received, relay.lost) == (sum(SIZES), sum(SIZES), 0)
    assert flow.turns > 0
    assert relay.last_activity > 0
    assert not flow.errors


def test_many_more_than_a_turn(flow: Flow) -> None:
    for index in range(1000):
        flow.send(index.to_bytes(2, "big") * 100)
    flow.carried(1000, 0)
    assert [int.from_bytes(flow.server.recv(300)[:2], "big") for _ in range(1000)] == list(range(1000))


def test_datagrams_that_the_program_sends_as_one_are_cut_for_the_receiver(flow: Flow) -> None:
    data, side = os.urandom(5500), flow.sides[flow.first].getsockname()
    flow.program.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, (1000).to_bytes(2, "little"))], 0, side)
    flow.carried(6, 0)
    assert [flow.server.recv(9000) for _ in range(6)] == [data[at : at + 1000] for at in range(0, 5500, 1000)]


def test_they_are_cut_here_where_the_kernel_will_not(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagram_batch, "SLOT_SIZE", 900)  # of which an outlet makes its first limit
    peer = flow.relay._peers[flow.first]
    peer.to_remote.outlet.segment_limit = 900
    data, side = os.urandom(5500), flow.sides[flow.first].getsockname()
    flow.program.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, (1000).to_bytes(2, "little"))], 0, side)
    flow.send(b"behind")
    flow.carried(7, 0)
    assert b"".join(flow.server.recv(9000) for _ in range(7)) == data + b"behind"


def test_a_second_peer_sees_the_same_port(flow: Flow) -> None:
    port = flow.remote.getsockname()
    flow.send(b"one")
    flow.carried(1, 0)
    second = flow.another_server()
    flow.add(address(second))
    assert flow.relay.peers == (flow.first, address(second))
    flow.send(b"two", second)
    flow.send(b"three")
    flow.carried(3, 0)
    assert [flow.server.recvfrom(9) for _ in range(2)] == [(b"one", port), (b"three", port)]
    assert second.recvfrom(9) == (b"two", port)
    for _ in range(2):
        for server in (second, flow.server):
            server.sendto(server.getsockname()[1].to_bytes(2, "big"), port)
    flow.carried(3, 4)
    for _ in range(4):
        data, source = flow.program.recvfrom(9)
        assert (
            source == flow.sides[LOOPBACK[socket.AddressFamily(flow.family)], int.from_bytes(data, "big")].getsockname()
        )


def test_strangers_wait_until_they_are_peers(driver: Driver) -> None:
    flow = Flow(driver, socket.AF_INET, connect=False)
    stranger, other = flow.another_server(), flow.another_server()
    for index in range(20):
        stranger.sendto(bytes([index]), flow.remote.getsockname())
    other.sendto(b"later", flow.remote.getsockname())
    driver.until(lambda: len(flow.new) == 2)
    assert flow.new == [address(stranger), address(other)], "each is told of once"
    assert flow.relay.lost == 21 - KEEP_UNCLAIMED
    flow.add(address(stranger))
    assert [flow.program.recv(9) for _ in range(15)] == [bytes([index]) for index in range(5, 20)], (
        "the oldest made room"
    )
    flow.add(address(other))
    assert flow.program.recv(9) == b"later"
    flow.close()


def test_a_connected_relay_hears_no_strangers(driver: Driver) -> None:
    flow = Flow(driver, socket.AF_INET)
    flow.another_server().sendto(b"x", flow.remote.getsockname())
    driver.quiet()
    assert (flow.new, flow.relay.datagrams_received) == ([], 0)
    flow.close()


def test_a_refusal_is_reported_and_survived(flow: Flow) -> None:
    gone = flow.first
    flow.server.close()
    for number in range(1, 4):
        flow.send(b"x")
        flow.driver.until(lambda number=number: len(flow.errors) >= number)  # type: ignore[misc]
    assert set(flow.errors) == {(gone, errno.ECONNREFUSED)}
    flow.server = socket.socket(flow.family, socket.SOCK_DGRAM)
    flow.servers.append(flow.server)
    flow.server.bind(gone)
    flow.server.settimeout(5)
    flow.send(b"again")
    flow.driver.until(lambda: flow.relay.datagrams_sent == 4)
    assert flow.server.recv(9) == b"again", "an earlier datagram's error costs no later one"
    assert (flow.done, flow.relay.lost) == ([], 0)


def test_the_peer_at_fault_is_named(driver: Driver) -> None:
    flow = Flow(driver, socket.AF_INET)
    second = flow.another_server()
    flow.add(address(second))
    gone = address(second)
    side = flow.sides[gone].getsockname()
    second.close()
    flow.program.sendto(b"x", side)
    driver.until(lambda: flow.errors)
    assert flow.errors == [(gone, errno.ECONNREFUSED)]
    flow.close()


def test_the_program_that_closed_its_socket_breaks_nothing(flow: Flow) -> None:
    flow.program.close()
    for _ in range(3):
        flow.server.sendto(b"x", flow.remote.getsockname())
        flow.driver.quiet(0.01)
    assert (flow.done, flow.errors) == ([], [])


def test_a_remote_that_is_connected_elsewhere_stays_so(driver: Driver) -> None:
    program, remote, elsewhere, side = (udp() for _ in range(4))
    remote.connect(elsewhere.getsockname())
    side.connect(program.getsockname())
    believed = ("192.0.2.1", 53)
    relay = DatagramRelay(driver.reactor, remote, believed, lambda relay, error: None)
    relay.add_peer(believed, side)
    program.sendto(b"question", side.getsockname())
    driver.until(lambda: relay.datagrams_sent == 1)
    data, source = elsewhere.recvfrom(99)
    elsewhere.sendto(data[::-1], source)
    driver.until(lambda: relay.datagrams_received == 1)
    assert program.recvfrom(99) == (b"noitseuq", side.getsockname())
    with udp() as second, udp() as second_side:  # and after a second peer came
        second_side.connect(program.getsockname())
        relay.add_peer(address(second), second_side)
        program.sendto(b"more", side.getsockname())
        driver.until(lambda: relay.datagrams_sent == 2)
        assert elsewhere.recvfrom(99) == (b"more", source)
        relay.close()
    for sock in (program, elsewhere):
        sock.close()


def test_a_peer_of_another_family_is_refused(driver: Driver) -> None:
    flow = Flow(driver, socket.AF_INET)
    with udp(socket.AF_INET6) as side, pytest.raises(OSError):
        flow.relay.add_peer(("::1", 9), side)
    assert flow.relay.peers == (flow.first,)
    flow.close()


def test_no_way_to_the_peer_is_told_at_once(driver: Driver) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        with pytest.raises(OSError):
            DatagramRelay(driver.reactor, remote, ("255.255.255.255", 1), lambda relay, error: None)
        assert remote.fileno() >= 0, "it stays the caller's"


def test_a_removed_peer_is_gone(flow: Flow) -> None:
    flow.relay.remove_peer(flow.first)
    assert flow.relay.peers == ()
    assert flow.sides[flow.first].fileno() == -1
    flow.server.sendto(b"x", flow.remote.getsockname())
    flow.driver.quiet(0.02)
    assert flow.relay.datagrams_received == 0
    assert not flow.driver.faults


def test_close_closes_everything_and_says_nothing(flow: Flow) -> None:
    flow.server.close()
    flow.send(b"x")
    flow.driver.quiet(0)
    flow.relay.close()
    flow.relay.close()
    flow.driver.quiet(0.02)
    assert (flow.done, flow.errors) == ([], [])
    assert [sock.fileno() for sock in (flow.remote, *flow.sides.values())] == [-1, -1]


def test_a_callback_may_close_the_relay(driver: Driver) -> None:
    flow = Flow(driver, socket.AF_INET)
    flow.relay._on_error = lambda relay, peer, number: relay.close()
    flow.server.close()
    flow.send(b"x")
    driver.until(lambda: flow.relay.closed)
    flow.close()


def test_a_broken_remote_ends_the_relay(driver: Driver) -> None:
    flow = Flow(driver, socket.AF_INET)
    flow.relay._fd = -1
    flow.relay._remote_event(1)
    assert [error and error.errno for error in flow.done] == [errno.EBADF]
    assert flow.relay.closed
    flow.close()


class Congested(Batch):
    """A kernel without room: `number` is what it says until `until` calls were made."""

    number, calls, until = errno.EAGAIN, 0, 0

    def _transmit(self, descriptor: int, address: int, count: int) -> int:  # type: ignore[override]
        self.refuse()
        return super()._transmit(descriptor, address, count)

    def refuse(self) -> None:
        self.calls += 1
        if self.calls <= self.until:
            raise OSError(self.number, "no room")


@pytest.fixture
def congested(monkeypatch: pytest.MonkeyPatch) -> Congested:
    batch, real = Congested(), socket_address.send_to

    def send_to(descriptor: int, data: bytes, raw: bytes | None) -> None:
        batch.refuse()
        real(descriptor, data, raw)

    monkeypatch.setattr(datagrams, "_batch", batch)
    monkeypatch.setattr(datagrams, "send_to", send_to)
    return batch


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS])
@pytest.mark.parametrize("inbound", [False, True])
def test_what_finds_no_room_waits(flow: Flow, congested: Congested, number: int, inbound: bool) -> None:
    congested.number, congested.until = number, 20
    for index in range(200):
        if inbound:
            flow.server.sendto(bytes([index]), flow.remote.getsockname())
        else:
            flow.send(bytes([index]))
    flow.carried(*((0, 200) if inbound else (200, 0)))
    receiver = flow.program if inbound else flow.server
    assert [receiver.recv(9)[0] for _ in range(200)] == list(range(200))
    assert flow.relay.lost == 0
    assert flow.relay._interest == 1, "waits for reading alone again"


def test_other_peers_wait_for_room_too(driver: Driver, congested: Congested) -> None:
    flow = Flow(driver, socket.AF_INET)
    second = flow.another_server()
    flow.add(address(second))
    congested.until = 30
    for _ in range(5):
        flow.send(b"1")
        flow.send(b"2", second)
    flow.carried(10, 0)
    assert [second.recv(9) for _ in range(5)] == [b"2"] * 5
    assert [flow.server.recv(9) for _ in range(5)] == [b"1"] * 5
    flow.close()


def test_a_device_that_never_has_room_loses_datagrams(driver: Driver, congested: Congested) -> None:
    flow = Flow(driver, socket.AF_INET)
    congested.number, congested.until = errno.ENOBUFS, 1 << 30
    flow.send(b"x")
    driver.until(lambda: flow.relay.lost == 1)
    congested.until = 0
    flow.send(b"y")
    flow.carried(1, 0)
    assert (flow.server.recv(9), flow.errors) == (b"y", [])
    flow.close()


@pytest.mark.parametrize(("number", "lost"), [(errno.EMSGSIZE, 1), (errno.ENETUNREACH, 4)])
def test_errors_of_sending_are_reported(driver: Driver, congested: Congested, number: int, lost: int) -> None:
    """A datagram that is too large is lost alone; where there is no way, all that are at hand are lost."""
    flow = Flow(driver, socket.AF_INET)
    congested.number, congested.until = number, 1 if number == errno.EMSGSIZE else 2
    for size in (100, 200, 300, 400):  # never two that could go as one
        flow.send(bytes(size))
    driver.until(lambda: flow.relay.lost == lost)
    assert flow.relay.datagrams_sent == 4 - lost
    driver.until(lambda: flow.errors)
    assert flow.errors == [(flow.first, number)]
    flow.close()
