"""Notes of TCP connections as they begin: one look-up tells whose a connection is, and never whose it was before."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from network_extension.linux import bpf
from network_extension.linux import socket_owner_layout as layout
from network_extension.linux.attribution import Attribution
from network_extension.linux.socket_owner_layout import MapNumbers
from network_extension.linux.socket_owner_programs import OwnerProgram
from network_extension.linux.socket_owners import cookie_of, flow_key
from tests.netlab import FAR4, NEAR4, NetLab

pytestmark = pytest.mark.lab

TCP = socket.IPPROTO_TCP
V4, V6 = socket.AF_INET, socket.AF_INET6
Ends = tuple[tuple[bytes, int], tuple[bytes, int]]


def plain(host: str, family: int) -> bytes:
    address = socket.inet_pton(family, host)
    return address[12:] if address.startswith(bytes(10) + b"\xff\xff") else address


def ends(sock: socket.socket) -> Ends:
    here, there = sock.getsockname(), sock.getpeername()
    return (plain(here[0], sock.family), here[1]), (plain(there[0], sock.family), there[1])


class Notes:
    """An Attribution in `near`, whose sock_diag may be taken away."""

    def __init__(self, lab: NetLab) -> None:
        self.lab = lab
        self.attribution: Attribution = self.near(Attribution)

    def near(self, action: Callable[[], Any]) -> Any:
        return self.lab.in_host(self.lab.near, action)

    def open(self, family: int = V4, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        made: socket.socket = self.near(lambda: socket.socket(family, kind, protocol))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return made

    def noted(self, flow: Ends) -> int:
        """The process of the note; 0 without one."""
        kernel = self.attribution._kernel
        assert kernel is not None and kernel.notes_connections
        note = kernel.of_connection(flow_key(self.attribution._namespace, TCP, *flow))
        return int.from_bytes(note[16:20], "little") if note else 0

    def owner(self, flow: Ends, inbound: bool = False) -> int:
        found = self.attribution.owner(TCP, *flow, inbound)
        return found.pid if found else 0

    def connection(self, family: int, listener_at: str, connect_to: str) -> tuple[socket.socket, socket.socket]:
        """A connection over loopback: who listens, who connects."""
        listener = self.open(V4 if "." in listener_at else V6)
        listener.bind((listener_at, 0))
        listener.listen()
        client = self.open(family)
        client.connect((connect_to, listener.getsockname()[1]))
        return listener, client


@pytest.fixture
def notes(lab: NetLab) -> Iterator[Notes]:
    notes = Notes(lab)
    yield notes
    notes.attribution.close()


def in_a_child(action: Callable[[], None]) -> int:
    """Run `action` in a process of its own to its end; its number."""
    pid = os.fork()
    if not pid:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    return pid


@pytest.mark.parametrize(
    ("family", "listener_at", "connect_to"),
    [(V4, "127.0.0.1", "127.0.0.1"), (V6, "::1", "::1"), (V6, "127.0.0.1", "::ffff:127.0.0.1")],
    ids=["IPv4", "IPv6", "IPv4 of an IPv6 socket"],
)
def test_a_connection_is_known_by_its_addresses_alone(
    notes: Notes, monkeypatch: pytest.MonkeyPatch, family: int, listener_at: str, connect_to: str
) -> None:
    listener, client = notes.connection(family, listener_at, connect_to)
    with listener, client:
        monkeypatch.setattr(notes.attribution._table, "find", lambda *_, **__: pytest.fail("sock_diag was asked"))
        assert notes.owner(ends(client)) == notes.noted(ends(client)) == os.getpid()


def test_it_is_known_before_the_first_packet_and_after_the_program(notes: Notes) -> None:
    """Nobody listens there; the note is of the moment before the SYN."""
    with notes.open() as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
    flow = (b"\x7f\0\0\1", port), (b"\x7f\0\0\1", 9)

    def refused() -> None:
        sock = notes.open()
        sock.bind(("127.0.0.1", port))
        assert sock.connect_ex(("127.0.0.1", 9)) == errno.ECONNREFUSED

    first = in_a_child(refused)
    assert notes.owner(flow) == notes.noted(flow) == first


def test_the_same_addresses_used_again_at_once_are_the_later_programs(notes: Notes) -> None:
    """A hundred programs, one after the other, all from one port to one place."""
    with notes.open() as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
    flow = (b"\x7f\0\0\1", port), (b"\x7f\0\0\1", 9)

    def refused() -> None:
        sock = notes.open()
        sock.bind(("127.0.0.1", port))
        sock.connect_ex(("127.0.0.1", 9))

    for _ in range(100):
        pid = in_a_child(refused)
        assert notes.owner(flow) == pid


def test_the_end_of_an_older_socket_takes_nothing_from_a_later_one(notes: Notes) -> None:
    with notes.open() as older:
        older.bind(("127.0.0.1", 0))
        flow = (b"\x7f\0\0\1", older.getsockname()[1]), (b"\x7f\0\0\1", 9)
        assert older.connect_ex(("127.0.0.1", 9)) == errno.ECONNREFUSED
        assert notes.noted(flow) == os.getpid()

        def again() -> None:
            sock = notes.open()
            sock.bind(("127.0.0.1", flow[0][1]))
            sock.connect_ex(("127.0.0.1", 9))

        later = in_a_child(again)
    assert notes.owner(flow) == notes.noted(flow) == later


def test_a_connection_that_came_in_is_not_of_who_connected_with_the_same_addresses(notes: Notes) -> None:
    listener, server = notes.open(), notes.open()
    with listener, server:
        listener.bind(("127.0.0.1", 0))
        server.bind(("127.0.0.1", 0))
        here, there = listener.getsockname()[1], server.getsockname()[1]
        flow = (b"\x7f\0\0\1", here), (b"\x7f\0\0\1", there)

        def refused() -> None:
            sock = notes.open()
            sock.bind(("127.0.0.1", here))
            sock.connect_ex(("127.0.0.1", there))

        client = in_a_child(refused)
        assert notes.noted(flow) == client
        listener.listen()
        server.connect(("127.0.0.1", here))
        accepted = listener.accept()[0]
        with accepted:
            assert notes.noted(flow) == 0
            assert notes.owner(flow) != client
            assert notes.noted((flow[1], flow[0])) == os.getpid()


def test_a_socket_that_is_bound_to_an_interface_is_left_to_sock_diag(notes: Notes) -> None:
    """The same addresses may be another program's on another interface. What was noted of them goes."""
    device = notes.lab.near_device
    with notes.open() as unbound, notes.open() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        unbound.bind((NEAR4, 0))
        port = unbound.getsockname()[1]
        bound.bind((NEAR4, port))
        flow = (socket.inet_aton(NEAR4), port), (socket.inet_aton(FAR4), 9)
        assert unbound.connect_ex((FAR4, 9)) == errno.ECONNREFUSED
        assert notes.noted(flow) == os.getpid()
        assert bound.connect_ex((FAR4, 9)) == errno.ECONNREFUSED
        assert notes.noted(flow) == 0


def test_a_multipath_connection_is_its_programs(notes: Notes) -> None:
    """The kernel makes the TCP socket below it by itself, and lets the programs see it connect."""
    try:
        socket.socket(proto=262).close()
    except OSError:
        pytest.skip("this kernel has no MPTCP")
    with notes.open() as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
    flow = (b"\x7f\0\0\1", port), (b"\x7f\0\0\1", 9)

    def refused(protocol: int) -> None:
        sock = notes.open(protocol=protocol)
        sock.bind(("127.0.0.1", port))
        assert sock.connect_ex(("127.0.0.1", 9)) == errno.ECONNREFUSED

    for protocol in (TCP, 262):
        pid = in_a_child(partial(refused, protocol))
        assert notes.owner(flow) == pid


def test_a_connection_of_nobody_takes_the_note_of_its_addresses_away(notes: Notes) -> None:
    """As the kernel's own are. The program runs alone here, so that it knows no owner."""
    flow_size, owner_size = layout.FLOW_KEY_SIZE, layout.OWNER_SIZE
    owners, connects = (
        bpf.Map(bpf.MAP_LRU_HASH, name, size, owner_size, 1024) for name, size in (("owners", 8), ("notes", flow_size))
    )
    code = OwnerProgram(MapNumbers(owners.descriptor, -1, -1, -1, connects.descriptor), {}).connects()
    program, cgroup = bpf.load_program(bpf.PROGRAM_SOCK_OPS, bpf.SOCK_OPS, "alone", code), bpf.open_root_cgroup()
    link = bpf.attach(program, cgroup, bpf.SOCK_OPS, "alone")
    try:
        with notes.open() as sock:
            sock.bind(("127.0.0.1", 0))
            flow = (b"\x7f\0\0\1", sock.getsockname()[1]), (b"\x7f\0\0\1", 9)
            key = flow_key(notes.attribution._namespace, TCP, *flow)
            connects.update(key, b"the one before".ljust(owner_size))
            assert sock.connect_ex(("127.0.0.1", 9)) == errno.ECONNREFUSED
            assert connects.lookup(key) is None
        with notes.open() as sock:
            sock.bind(("127.0.0.1", flow[0][1]))
            owners.update(cookie_of(sock).to_bytes(8, "little"), b"somebody".ljust(owner_size))
            sock.connect_ex(("127.0.0.1", 9))
            assert connects.lookup(key) == b"somebody".ljust(owner_size)
    finally:
        for descriptor in (link, program, cgroup, owners.descriptor, connects.descriptor):
            os.close(descriptor)


def test_another_namespace_has_notes_of_its_own(notes: Notes) -> None:
    listener, client = notes.connection(V4, "127.0.0.1", "127.0.0.1")
    with listener, client:
        flow = ends(client)
        assert notes.noted(flow) == os.getpid()
        notes.attribution._namespace += 1
        assert notes.noted(flow) == 0


@pytest.mark.parametrize("attribute", ["PROGRAM_SOCK_OPS", "SOCK_OPS"], ids=["not loaded", "not attached"])
def test_where_the_kernel_refuses_that_program_the_others_do(
    lab: NetLab, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    monkeypatch.setattr(bpf, attribute, bpf.PROGRAM_CGROUP_SOCK if attribute[0] == "P" else 99)
    notes = Notes(lab)
    try:
        kernel = notes.attribution._kernel
        assert notes.attribution.how == "ebpf" and kernel is not None and not kernel.notes_connections
        listener, client = notes.connection(V4, "127.0.0.1", "127.0.0.1")
        with listener, client:
            flow = ends(client)
            assert notes.owner(flow) == os.getpid()
        assert notes.owner(flow) == os.getpid()
    finally:
        notes.attribution.close()


def test_in_a_cgroup_namespace_no_note_is_certain(notes: Notes) -> None:
    """Programs beyond it share the addresses, and connect unseen."""
    code = """
from network_extension.linux.attribution import Attribution
attribution = Attribution()
print(attribution.how.partition(":")[0], attribution._kernel.notes_connections)
attribution.close()
"""
    ran = notes.lab.near.run("unshare", "--cgroup", sys.executable, "-c", code)
    assert ran.stdout.split() == ["ebpf", "False"], ran.stderr


def test_many_connections_at_once_are_all_told_rightly(notes: Notes) -> None:
    """Four processes, each with hundreds of connections that overlap in time, from ports that the kernel chooses."""
    listener = notes.open()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    place, pipes = listener.getsockname(), []
    with listener:
        for _ in range(4):
            reader, writer = os.pipe()
            if not (pid := os.fork()):
                try:
                    socks = [notes.near(lambda: socket.create_connection(place)) for _ in range(300)]
                    os.write(writer, b"".join(sock.getsockname()[1].to_bytes(2, "big") for sock in socks))
                finally:
                    os._exit(0)
            os.close(writer)
            pipes.append((pid, reader))
        wrong, told = [], 0
        for pid, reader in pipes:
            select.select([reader], [], [], 30)
            ports = os.read(reader, 4096)
            os.close(reader)
            os.waitpid(pid, 0)
            for at in range(0, len(ports), 2):
                flow = (b"\x7f\0\0\1", int.from_bytes(ports[at : at + 2], "big")), (b"\x7f\0\0\1", place[1])
                told += 1
                if notes.owner(flow) != pid or notes.noted(flow) != pid:
                    wrong.append(flow)
    assert told == 1200 and not wrong
