"""A datagram relay between namespaces: real foreign addresses, real MTUs, real queues that are full."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from network_extension.linux.datagrams import DatagramRelay
from network_extension.linux.sock_diag import NETLINK_SOCK_DIAG, DestroyEvents, SocketTable
from network_extension.linux.sockets import Address, datagram_socket, transparent_datagram_socket
from tests.netlab import FAR4, FAR6, NEAR4, Host, NetLab
from tests.unit.linux.driving import Driver, driving

pytestmark = pytest.mark.lab

INET, INET6 = socket.AF_INET, socket.AF_INET6
INSIDE = {INET: "10.77.1.1", INET6: "fd77::1"}
FAR = {INET: FAR4, INET6: FAR6}
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2


@pytest.fixture(scope="module")
def box(lab: NetLab) -> Iterator[Host]:
    """A namespace in which every address is ours."""
    box = Host(f"udp-box{os.getpid()}")
    try:
        for family, host in INSIDE.items():
            flag = "-6" if family == INET6 else "-4"
            _ip(box, "addr", "add", host, "dev", "lo")
            _ip(box, flag, "route", "add", "local", "default", "dev", "lo", "src", host)
        yield box
    finally:
        box.close()


def _ip(host: Host, *arguments: str) -> None:
    subprocess.run(["ip", "-n", host.name, *arguments], check=True, capture_output=True)


class Flow:
    """A program in the box, a relay whose remote socket is in `near`, a server in `far`."""

    def __init__(
        self, lab: NetLab, box: Host, driver: Driver, family: int, remote: socket.socket | None = None
    ) -> None:
        self.lab, self.box, self.family = lab, box, family
        self.program: socket.socket = lab.in_host(box, lambda: socket.socket(family, socket.SOCK_DGRAM))
        self.program.bind((INSIDE[socket.AddressFamily(family)], 0))
        self.program.settimeout(5)
        self.server = lab.far_listener(0, family, socket.SOCK_DGRAM)
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.peer: Address = self.server.getsockname()[:2]
        if remote is None:
            remote = lab.in_host(lab.near, lambda: datagram_socket(family))
            remote.bind(("", 0))
        self.remote: socket.socket = remote
        self.errors: list[tuple[Address, int, int]] = []
        self.relay = DatagramRelay(
            driver.reactor,
            remote,
            self.peer,
            lambda relay, error: None,
            on_error=lambda relay, peer, number: self.errors.append((peer, number, relay.path_mtu)),
        )
        self.add(self.peer)

    def add(self, peer: Address) -> None:
        side: socket.socket = self.lab.in_host(self.box, lambda: transparent_datagram_socket(self.family))
        side.bind(peer)
        side.connect(self.program.getsockname())
        self.relay.add_peer(peer, side)

    def close(self) -> None:
        self.relay.close()
        self.program.close()
        self.server.close()


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


@pytest.fixture(params=[INET, INET6], ids=["IPv4", "IPv6"])
def flow(request: pytest.FixtureRequest, lab: NetLab, box: Host, driver: Driver) -> Iterator[Flow]:
    flow = Flow(lab, box, driver, request.param)
    yield flow
    flow.close()


def test_the_program_sees_its_peers_by_their_addresses(flow: Flow, driver: Driver) -> None:
    sizes = [0, 1, 1200, 1200, 1200, 1472, 65507, 20]
    for size in sizes:
        flow.program.sendto(os.urandom(size), flow.peer)
    driver.until(lambda: flow.relay.datagrams_sent == len(sizes))
    for size in sizes:
        data, source = flow.server.recvfrom(70000)
        assert len(data) == size
        flow.server.sendto(data, source)
    driver.until(lambda: flow.relay.datagrams_received == len(sizes))
    for size in sizes:
        data, source = flow.program.recvfrom(70000)
        assert (len(data), source[:2]) == (size, flow.peer)


def test_bursts_arrive_whole_and_in_order(flow: Flow, driver: Driver) -> None:
    for index in range(2000):
        flow.program.sendto(index.to_bytes(2, "big") * 600, flow.peer)
    driver.until(lambda: flow.relay.datagrams_sent == 2000)
    assert [int.from_bytes(flow.server.recv(2000)[:2], "big") for _ in range(2000)] == list(range(2000))
    assert flow.relay.lost == 0


def test_a_port_where_nobody_listens(flow: Flow, driver: Driver) -> None:
    flow.server.close()
    flow.program.sendto(b"x", flow.peer)
    driver.until(lambda: flow.errors)
    assert flow.errors == [(flow.peer, errno.ECONNREFUSED, 0)]


@pytest.mark.parametrize("peers", [1, 2])
def test_a_datagram_that_does_not_fit_the_path(lab: NetLab, flow: Flow, driver: Driver, peers: int) -> None:
    """As a program with IP_PMTUDISC_DO is told; smaller datagrams of the same batch arrive."""
    if flow.family == INET:
        flow.remote.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    else:
        flow.remote.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO)
    other = lab.far_listener(0, flow.family, socket.SOCK_DGRAM)
    if peers == 2:
        flow.add(other.getsockname()[:2])
    sizes = [100, 2000, 2000, 2000, 1400, 3000, 50]
    for size in sizes:
        flow.program.sendto(bytes(size), flow.peer)
    driver.until(lambda: flow.relay.datagrams_sent + flow.relay.lost == len(sizes))
    driver.until(lambda: len(flow.errors) == 4)
    assert set(flow.errors) == {(flow.peer, errno.EMSGSIZE, 1500)}
    assert [len(flow.server.recv(9000)) for _ in range(3)] == [100, 1400, 50]
    other.close()


def test_fragments_are_made_where_they_may_be(flow: Flow, driver: Driver) -> None:
    """Runs of datagrams beyond the MTU, which UDP_SEGMENT refuses."""
    for _ in range(20):
        flow.program.sendto(bytes(3000), flow.peer)
    driver.until(lambda: flow.relay.datagrams_sent == 20)
    assert [len(flow.server.recv(9000)) for _ in range(20)] == [3000] * 20
    assert (flow.errors, flow.relay.lost) == ([], 0)


def test_a_second_peer_takes_neither_port_nor_device(lab: NetLab, box: Host, driver: Driver) -> None:
    remote: socket.socket = lab.in_host(lab.near, lambda: datagram_socket(INET))
    device = lab.near_device.encode() + b"\0"
    remote.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    remote.bind((NEAR4, 0))
    name = remote.getsockname()
    flow = Flow(lab, box, driver, INET, remote)
    second = lab.far_listener(0, INET, socket.SOCK_DGRAM)
    flow.add(second.getsockname())
    assert remote.getsockname() == name
    assert remote.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == device.rstrip(b"\0")
    for server, peer in ((second, second.getsockname()), (flow.server, flow.peer)):
        flow.program.sendto(b"x", peer)
        driver.until(lambda: flow.relay.datagrams_sent == 1 or flow.relay.datagrams_sent == 2)
        assert server.recvfrom(9) == (b"x", name)
    second.close()
    flow.close()


@pytest.mark.parametrize(
    "discipline",
    ["tbf rate 40mbit burst 3000 limit 10000000", "tbf rate 40mbit burst 3000 limit 6000"],
    ids=["a full socket", "a full device"],
)
def test_a_slow_link_loses_nothing(lab: NetLab, box: Host, driver: Driver, discipline: str) -> None:
    """EAGAIN when the socket's buffer is full, ENOBUFS when the device's queue is: both wait."""
    remote: socket.socket = lab.in_host(lab.near, lambda: socket.socket(INET, socket.SOCK_DGRAM))
    remote.bind(("", 0))
    remote.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384 if "10000000" in discipline else 4 << 20)
    flow = Flow(lab, box, driver, INET, remote)
    command = ["tc", "-n", lab.near.name, "qdisc"]
    subprocess.run([*command, "add", "dev", lab.near_device, "root", *discipline.split()], check=True)
    try:
        for index in range(500):
            flow.program.sendto(index.to_bytes(2, "big") * (400 + index % 7), flow.peer)
        driver.until(lambda: flow.relay.datagrams_sent == 500, 20)
        assert [int.from_bytes(flow.server.recv(2000)[:2], "big") for _ in range(500)] == list(range(500))
        assert (flow.relay.lost, flow.errors) == (0, [])
    finally:
        subprocess.run([*command, "del", "dev", lab.near_device, "root"], check=True)
        flow.close()


def test_the_programs_socket_is_found_and_its_end_told(lab: NetLab, box: Host, flow: Flow, driver: Driver) -> None:
    """From outside of the namespace, through sockets that were made in it; ours are told apart from the program's."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    diag = [lab.in_host(box, lambda: socket.socket(socket.AF_NETLINK, kind, NETLINK_SOCK_DIAG)) for _ in range(2)]
    table, events = SocketTable(diag[0]), DestroyEvents(diag[1])
    local = socket.inet_pton(flow.family, INSIDE[socket.AddressFamily(flow.family)]), flow.program.getsockname()[1]
    remote = socket.inet_pton(flow.family, flow.peer[0]), flow.peer[1]
    found = table.find(socket.IPPROTO_UDP, local, remote)
    assert found is not None
    assert found.inode == os.fstat(flow.program.fileno()).st_ino
    flow.program.close()
    told: list[int] = []
    driver.reactor.register(events.fileno(), 1, lambda mask: told.extend(closed.cookie for closed in events.receive()))
    driver.until(lambda: told)
    assert told == [found.cookie]
    assert table.find(socket.IPPROTO_UDP, local, remote) is None
    driver.reactor.unregister(events.fileno())
    table.close()
    events.close()
