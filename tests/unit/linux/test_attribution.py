"""Which of several notes counts, what records say, and who holds a socket: without privilege."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.linux import attribution, socket_holders, socket_owner_layout
from network_extension.linux.attribution import MAX_AGE, Attribution
from network_extension.linux.sock_diag import SocketInfo
from network_extension.linux.socket_holders import SocketHolders
from network_extension.linux.socket_owners import Owner, ProcessRecord, flow_key, parse_process, pid_of, start_of

UDP, TCP = socket.IPPROTO_UDP, socket.IPPROTO_TCP
LOCAL, REMOTE = (b"\x7f\0\0\1", 1000), (b"\xc0\0\2\1", 53)
ANY, NOWHERE = (b"", 1000), (b"", 0)
NOW = 1000 * 10**9


def key(start: int, pid: int, execs: int = 1) -> bytes:
    return struct.pack("<QQII", start, execs, pid, 0)


def info(cookie: int, connected: bool = False) -> SocketInfo:
    return SocketInfo(99, 0, cookie, socket.AF_INET, 7, bytes(4), 1000, REMOTE[0], 53 if connected else 0)


class Kernel:
    """What the kernel has noted."""

    note = ""

    def __init__(self) -> None:
        self.sockets: dict[int, Owner] = {}
        self.flows: dict[bytes, Owner] = {}
        self.connections: dict[bytes, bytes] = {}

    def of_socket(self, cookie: int) -> Owner | None:
        return self.sockets.get(cookie)

    def of_connection(self, flow: bytes) -> bytes | None:
        return self.connections.get(flow)

    def of_flow(self, flow: bytes) -> Owner | None:
        return self.flows.get(flow)

    def process(self, process: bytes) -> ProcessRecord | None:
        pid = pid_of(process)
        parent = key(1, 4242) if pid != 4242 else bytes(24)
        return ProcessRecord(
            start_of(process), pid, 0, f"/program/{pid}", True, (b"word",), True, parent, pid_of(parent)
        )

    def close(self) -> None: ...


class Table:
    """What sock_diag would find."""

    found: SocketInfo | None = None

    def find(self, *_: object, listeners: bool, interface: int = 0) -> SocketInfo | None:
        return self.found

    def close(self) -> None: ...


class Setting:
    """An Attribution over both; `note` and `own` say who did what."""

    def __init__(self) -> None:
        self.attribution, self.kernel, self.table = Attribution(ebpf=False), Kernel(), Table()
        self.attribution._table.close()
        inside: Any = self.attribution
        inside._kernel, inside._table = self.kernel, self.table

    def own(self, cookie: int, pid: int) -> None:
        self.kernel.sockets[cookie] = Owner(key(10**9, pid), 0, cookie)

    def note(self, local: Any, remote: Any, cookie: int, pid: int, age: int = 0) -> None:
        self.kernel.flows[flow_key(0, UDP, local, remote)] = Owner(key(10**9, pid), 0, cookie, NOW - age)

    def owner(self, found: SocketInfo | None, inbound: bool = False) -> int | None:
        self.table.found = found
        process = self.attribution.owner(UDP, LOCAL, REMOTE, inbound)
        return process and process.pid


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setattr(attribution, "now", lambda: NOW)
    monkeypatch.setattr(SocketHolders, "find", lambda self, *_: 0)
    return Setting()


def test_a_connected_socket_says_it_whatever_else_is_noted(setting: Setting) -> None:
    setting.own(5, 77)
    setting.note(LOCAL, REMOTE, 4, 66)
    setting.note(ANY, REMOTE, 4, 66)
    assert setting.owner(info(5, connected=True)) == 77


def test_the_note_of_a_connection_that_began_comes_first(setting: Setting) -> None:
    """For packets of TCP that the program sent; where its process is forgotten, the socket is asked for."""
    setting.own(5, 77)
    setting.table.found = info(5, connected=True)
    connection = flow_key(0, TCP, LOCAL, REMOTE)
    setting.kernel.connections[connection] = key(10**9, 66)
    assert setting.owner(info(5, connected=True)) == 77, "UDP has none"
    owner = setting.attribution.owner(TCP, LOCAL, REMOTE)
    assert owner is not None and owner.pid == 66
    assert setting.attribution.owner(TCP, LOCAL, REMOTE) is owner
    came_in = setting.attribution.owner(TCP, LOCAL, REMOTE, inbound=True)
    assert came_in is None or came_in.pid == 77
    inside: Any = setting.kernel
    inside.process = lambda process: None
    setting.kernel.connections[connection] = key(10**9, 2**22 + 1)
    again = setting.attribution.owner(TCP, LOCAL, REMOTE)
    assert again is None or again.pid == 77


def test_who_sent_last_by_a_shared_socket_counts(setting: Setting) -> None:
    setting.own(5, 77)
    setting.note(ANY, REMOTE, 5, 78)
    setting.note(LOCAL, REMOTE, 4, 66)
    assert setting.owner(info(5)) == 78


def test_a_socket_closed_since_is_meant_if_the_one_there_has_sent_nothing_to_that_place(setting: Setting) -> None:
    setting.own(5, 77)
    setting.note(LOCAL, REMOTE, 4, 66)
    assert setting.owner(info(5)) == 66
    setting.note(LOCAL, REMOTE, 4, 66, age=MAX_AGE + 1)
    assert setting.owner(info(5)) == 77, "that was long ago"


def test_of_two_closed_sockets_the_later_counts(setting: Setting) -> None:
    setting.note(LOCAL, REMOTE, 4, 66, age=2)
    setting.note(ANY, REMOTE, 5, 77, age=1)
    assert setting.owner(None) == 77
    setting.note(LOCAL, REMOTE, 4, 66, age=0)
    assert setting.owner(None) == 66


def test_a_closed_socket_that_was_never_connected_is_the_last_resort(setting: Setting) -> None:
    setting.note(ANY, NOWHERE, 4, 66, age=2)
    assert setting.owner(None) == 66
    setting.note(LOCAL, NOWHERE, 5, 77, age=1)
    assert setting.owner(None) == 77
    setting.note(LOCAL, REMOTE, 6, 88, age=9)
    assert setting.owner(None) == 88


@pytest.mark.parametrize("place", [NOWHERE, REMOTE])
def test_nobody_inherits_a_port(setting: Setting, place: tuple[bytes, int]) -> None:
    """An accepted connection is not of a client that had the same port once; neither is a packet to no one."""
    setting.note(ANY, place, 4, 66)
    setting.note(LOCAL, place, 4, 66)
    assert setting.owner(info(5, connected=True)) is None
    assert setting.owner(None, inbound=True) is None
    assert setting.owner(info(5), inbound=True) is None
    assert setting.owner(info(4), inbound=True) == 66, "closed while it was asked for"


def test_what_a_process_is_is_worked_out_once(setting: Setting) -> None:
    setting.own(5, 77)
    setting.table.found = info(5, connected=True)
    first = setting.attribution.owner(TCP, LOCAL, REMOTE)
    assert first is setting.attribution.owner(TCP, LOCAL, REMOTE)
    assert first is not None
    assert (first.executable, first.arguments, first.start_time) == ("/program/77", ("word",), os.sysconf("SC_CLK_TCK"))
    assert first.parents == ((4242, "/program/4242"),)


# --- records


def record(path: bytes, arguments: bytes = b"", flags: int = 1, pid: int = 7) -> ProcessRecord:
    head = key(5, 6) + struct.pack("<IIIIII", pid, 2, len(path), len(arguments), flags, 0) + b"fifteen bytes..\0"
    data = head + path.ljust(socket_owner_layout.MAX_PATH, b"?")
    return parse_process(9, data + arguments.ljust(socket_owner_layout.MAX_ARGUMENTS, b"?"))


def test_a_record_is_read() -> None:
    found = record(b"curl\0bin\0usr\0", b"curl\0\0a b\0")
    assert (found.executable, found.arguments) == ("/usr/bin/curl", (b"curl", b"", b"a b"))
    assert (found.start, found.pid, found.level, found.parent_pid) == (9, 7, 2, 6)
    assert found.is_whole and found.has_all_arguments
    assert (start_of(found.parent), pid_of(found.parent)) == (5, 6)


def test_a_record_says_what_it_lacks() -> None:
    assert record(b"c\0b\0", flags=3).executable == ".../b/c"
    assert not record(b"c\0b\0", flags=3).is_whole
    assert record(b"c\0", flags=9).executable == "/c (deleted)"
    assert record(b"").executable == "fifteen bytes.."
    assert not record(b"c\0", b"x", flags=5).has_all_arguments
    assert not record(b"c\0", flags=1).has_all_arguments, "they could not be read"
    assert record("ü\0".encode() + b"\xff\0").executable == "/\udcff/ü"


@given(st.binary(min_size=1600, max_size=1600))
def test_any_record_is_read(data: bytes) -> None:
    parse_process(0, data)


def test_addresses_of_both_families_have_one_form() -> None:
    mapped = flow_key(1, UDP, (bytes(10) + b"\xff\xff" + LOCAL[0], 1000), REMOTE)
    assert flow_key(1, UDP, LOCAL, REMOTE) == mapped
    assert len(mapped) == socket_owner_layout.FLOW_KEY_SIZE
    assert mapped[40:44] == struct.pack("<H", 1000) + struct.pack(">H", 53)
    assert flow_key(1, UDP, ANY, NOWHERE)[8:40] == bytes(32)


# --- /proc


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def test_the_holder_of_a_socket_is_found_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    holders = SocketHolders()
    with socket.socket() as sock:
        assert holders.find(inode(sock), os.getuid()) == os.getpid()
        monkeypatch.setattr(SocketHolders, "_search", lambda *_: pytest.fail("it was known"))
        assert holders.find(inode(sock), os.getuid()) == os.getpid()
    monkeypatch.setattr(SocketHolders, "_search", lambda *_: 0)
    assert holders.find(4711) == 0


def test_the_one_that_made_it_for_others_is_not_meant() -> None:
    with socket.socket() as sock:
        code = "import sys; print(flush=True); sys.stdin.read()"
        words = [sys.executable, "-S", "-c", code]
        with subprocess.Popen(words, stdin=-1, stdout=-1, pass_fds=[sock.fileno()]) as child:
            assert child.stdout is not None and child.stdin is not None
            child.stdout.readline()
            assert SocketHolders().find(inode(sock), os.getuid(), os.getpid()) == child.pid
            assert SocketHolders().find(inode(sock), os.getuid(), child.pid) == os.getpid()
            holders = SocketHolders()
            assert holders.find(inode(sock), spare=child.pid) == os.getpid()
            assert holders.find(inode(sock), spare=os.getpid()) == child.pid
            child.stdin.close()


def test_a_search_in_vain_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times, searches = [0.0], list[object]()

    def search(*seen: object) -> int:
        searches.append(seen)
        return 0

    monkeypatch.setattr(SocketHolders, "_search", search)
    holders = SocketHolders(lambda: times[0])
    for time_, expected in ((0.0, 1), (socket_holders.FORGET_AFTER - 0.1, 1), (socket_holders.FORGET_AFTER, 2)):
        times[0] = time_
        assert holders.find(4711) == 0
        assert len(searches) == expected


def test_processes_that_may_not_be_looked_at_or_are_gone_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SocketHolders, "_candidates", lambda *_: iter([2**22 + 1, 1, os.getpid()]))
    with socket.socket() as sock:
        assert SocketHolders().find(inode(sock)) == os.getpid()
        monkeypatch.setattr(socket_holders, "MAX_LINKS", 0)
        assert SocketHolders().find(inode(sock)) == 0, "it looked long enough"


def test_without_the_programs_own_sockets_are_found() -> None:
    attribution = Attribution(ebpf=False)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        here, there = ((LOCAL[0], sock.getsockname()[1]) for sock in (client, server))
        found = attribution.owner(TCP, here, there)
        assert found is not None
        assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
        assert found.executable == os.readlink("/proc/self/exe")
        assert found.parents[0].pid == os.getppid()
        listener = attribution.owner(TCP, there, (REMOTE[0], 1), inbound=True)
        assert listener is not None and listener.pid == os.getpid()
    assert attribution.owner(TCP, there, (REMOTE[0], 1), inbound=True) is None
    attribution.close()
