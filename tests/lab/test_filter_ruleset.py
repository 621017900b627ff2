"""The rules of a content filter in a real kernel: what is asked about, what flies past, and what becomes of it."""

from __future__ import annotations

import errno
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from network_extension.core.packets import PacketHead
from network_extension.errors import DatapathError
from network_extension.linux import conntrack, nfqueue, sock_diag
from network_extension.linux.filter_ruleset import (
    MARK_MASK,
    MARK_SHIFT,
    TABLE,
    FlowMark,
    remove_leftover,
)
from network_extension.linux.nfqueue import HeldPacket
from network_extension.linux.socket_end import end_connection
from tests.netlab import FAR4, NEAR4, NEAR6, Host, NetLab, wait_for

from .filtering import TCP, UDP, Filtering, always, connection, exchange, filtering, key_of, make, nft, server

pytestmark = pytest.mark.lab

SO_MARK = 36
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
KINDS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
HELD = [FlowMark.HOLD_OUT, FlowMark.HOLD_IN, FlowMark.HOLD_BOTH]
INBOUND, OUTBOUND = 1, 3


@pytest.fixture
def alone() -> Iterator[NetLab]:
    """Hosts of this test only: whose conntrack was never switched on."""
    lab = NetLab()
    yield lab
    lab.close()


def state(found: conntrack.Connection | None) -> FlowMark | None:
    return FlowMark((found.mark & MARK_MASK) >> MARK_SHIFT) if found else None


# --- the rules themselves


def listed(host: Host, table: str) -> str:
    """How nft lists a table, without what we cannot give it: queues."""
    text = nft(host, "list", "table", "inet", table)
    text = re.sub(r"queue (flags bypass )?(num|to) \d+( bypass)?", "drop", text)
    text = re.sub(r" # progname.*|\n\tflags owner|packets \d+ bytes \d+", "", text)
    return "\n".join(line for line in text.replace(table, "").splitlines() if line.strip())


def test_nft_lists_what_the_text_says(lab: NetLab) -> None:
    """Our bytes, listed by nft, are our text, read and listed by nft."""
    with filtering(lab, FlowMark.ALLOWED, packet_queue=8, dns_queue=9, loopback=True) as running:
        text = re.sub(r"queue (flags bypass )?to \d+", "drop", running.ruleset.text())
        text = text.replace("  flags owner;\n", "").replace(TABLE, "told")
        nft(lab.near, "-f", "-", text=text)
        try:
            assert listed(lab.near, TABLE) == listed(lab.near, "told")
            assert "queue num 20037 bypass" in nft(lab.near, "list", "table", "inet", TABLE)
        finally:
            nft(lab.near, "delete", "table", "inet", "told")


def test_before_and_after_nothing_is_there(lab: NetLab) -> None:
    with filtering(lab, FlowMark.ALLOWED):
        assert nft(lab.near, "list", "tables") == f"table inet {TABLE}\n"
        nft(lab.near, "flush", "ruleset")  # as /etc/nftables.conf begins: what has an owner stays
        assert nft(lab.near, "list", "tables") == f"table inet {TABLE}\n"
    assert nft(lab.near, "list", "ruleset") == ""


# --- decided at the first packet


@FAMILIES
@KINDS
@pytest.mark.parametrize("begun", ["outbound", "inbound"])
def test_an_allowed_flow_comes_to_the_queue_once(lab: NetLab, family: int, kind: int, begun: str) -> None:
    ours, theirs = (lab.near, lab.far) if begun == "outbound" else (lab.far, lab.near)
    with server(lab, theirs, family, kind) as where, filtering(lab, FlowMark.ALLOWED) as running:
        with make(lab, ours, family, kind) as sock:
            sock.connect(where)
            exchange(sock, 20)
            assert running.keys == [key_of(sock)]
            assert running.asked[0][0].hook == (OUTBOUND if begun == "outbound" else INBOUND)
            assert state(connection(lab, lab.near, key_of(sock))) is FlowMark.ALLOWED
        asked = running.ruleset.counters()
        assert (asked["asked_out"], asked["asked_in"]) == ((1, 0) if begun == "outbound" else (0, 1))
        assert asked["decided"] == 1 and asked["foreign"] == 0


@FAMILIES
@KINDS
@pytest.mark.parametrize("begun", ["outbound", "inbound"])
def test_a_refused_flow_is_refused_at_once(lab: NetLab, family: int, kind: int, begun: str) -> None:
    ours, theirs = (lab.near, lab.far) if begun == "outbound" else (lab.far, lab.near)
    with server(lab, theirs, family, kind) as where, filtering(lab, FlowMark.REFUSED) as running:
        with make(lab, ours, family, kind) as sock, pytest.raises(ConnectionRefusedError):
            sock.connect(where)
            exchange(sock)
        assert running.ruleset.counters()["refused"] >= 1


@KINDS
def test_a_dropped_flow_hears_nothing(lab: NetLab, kind: int) -> None:
    with server(lab, lab.far, kind=kind) as where, filtering(lab, FlowMark.DROPPED) as running:
        with make(lab, lab.near, kind=kind) as sock, pytest.raises(TimeoutError):
            sock.settimeout(0.5)
            sock.connect(where)
            exchange(sock)
        assert running.ruleset.counters()["dropped"] >= 1


def test_each_datagram_of_a_burst_bears_the_verdict(lab: NetLab) -> None:
    """Until the first one has left, each has a conntrack entry of its own."""
    held = []

    def later(packet: HeldPacket, head: PacketHead) -> FlowMark | None:
        held.append(packet)
        if len(held) < 5:
            return None
        for earlier in held[:-1]:
            running.queues[0].decide(earlier.id, *running.ruleset.verdict(earlier.mark, FlowMark.ALLOWED))
        return FlowMark.ALLOWED

    with (
        server(lab, lab.far, kind=UDP) as where,
        filtering(lab, later) as running,
        make(lab, lab.near, kind=UDP) as sock,
    ):
        sock.connect(where)
        for number in range(5):
            sock.send(bytes([number]))
        assert [sock.recv(9) for _ in range(5)] == [bytes([number]) for number in range(5)]
        exchange(sock, 5)
        assert len(held) == 5


def test_fragments_are_one_packet_of_a_flow(lab: NetLab) -> None:
    with server(lab, lab.far, kind=UDP) as where, filtering(lab, FlowMark.ALLOWED) as running:
        with make(lab, lab.near, kind=UDP) as sock:
            sock.connect(where)
            exchange(sock, 2, 6000)
        assert [packet.length for packet, _ in running.asked] == [6028]
    with server(lab, lab.near, kind=UDP) as where, filtering(lab, FlowMark.ALLOWED) as running:
        with make(lab, lab.far, kind=UDP) as sock:
            sock.connect(where)
            exchange(sock, 2, 6000)
        assert [packet.length for packet, _ in running.asked] == [6028]


def test_ping_is_a_flow(lab: NetLab) -> None:
    with filtering(lab, FlowMark.ALLOWED) as running:
        assert lab.near.run("ping", "-c", "3", "-i", "0.2", FAR4).returncode == 0
        assert lab.far.run("ping", "-c", "3", "-i", "0.2", NEAR4).returncode == 0
        assert [(head.protocol, packet.hook) for packet, head in running.asked] == [(1, OUTBOUND), (1, INBOUND)]
    with filtering(lab, FlowMark.REFUSED):
        assert "Packet filtered" in lab.near.run("ping", "-c", "1", "-W", "2", FAR4).stdout


# --- held


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("again", ["as it is", "said again"])
def test_a_held_direction_waits_packet_by_packet(lab: NetLab, held: FlowMark, again: str) -> None:
    hooks = {FlowMark.HOLD_OUT: {OUTBOUND}, FlowMark.HOLD_IN: {INBOUND}, FlowMark.HOLD_BOTH: {OUTBOUND, INBOUND}}[held]

    def decide(packet: HeldPacket, head: PacketHead) -> FlowMark:
        first = len(running.asked) == 1
        return held if first or again == "said again" else FlowMark.UNDECIDED

    with server(lab, lab.far) as where, filtering(lab, decide) as running, make(lab, lab.near) as sock:
        sock.connect(where)
        exchange(sock)
        seen = [packet.hook for packet, head in running.asked[1:] if head.payload_length]
        assert set(seen) == hooks
        assert len(seen) >= 3 * len(hooks)
        assert state(connection(lab, lab.near, key_of(sock))) is held


@pytest.mark.parametrize("begun", ["outbound", "inbound"])
def test_out_is_what_this_machine_sends_whoever_began(lab: NetLab, begun: str) -> None:
    ours, theirs = (lab.near, lab.far) if begun == "outbound" else (lab.far, lab.near)

    def decide(packet: HeldPacket, head: PacketHead) -> FlowMark:
        return FlowMark.HOLD_OUT if len(running.asked) == 1 else FlowMark.UNDECIDED

    with server(lab, theirs) as where, filtering(lab, decide) as running, make(lab, ours) as sock:
        sock.connect(where)
        exchange(sock)
        assert {packet.hook for packet, _ in running.asked[1:]} == {OUTBOUND}


@pytest.mark.parametrize("last", [FlowMark.ALLOWED, FlowMark.REFUSED])
def test_a_held_flow_is_decided_later(lab: NetLab, last: FlowMark) -> None:
    def decide(packet: HeldPacket, head: PacketHead) -> FlowMark:
        if len(running.asked) == 1:
            return FlowMark.HOLD_BOTH
        return last if head.payload_length else FlowMark.UNDECIDED

    with server(lab, lab.far) as where, filtering(lab, decide) as running, make(lab, lab.near) as sock:
        sock.connect(where)
        if last is FlowMark.REFUSED:
            with pytest.raises(ConnectionResetError):
                exchange(sock)
            return
        exchange(sock)
        count = len(running.asked)
        exchange(sock, 20)
        assert len(running.asked) <= count + 1, "what was on its way"


def test_an_allowed_flow_is_ended_later_at_both_ends(lab: NetLab) -> None:
    """REFUSED in conntrack lets the reset of SOCK_DESTROY out."""
    listener = lab.far_listener()
    with listener, filtering(lab, FlowMark.ALLOWED), make(lab, lab.near) as sock:
        sock.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted, lab.in_host(lab.near, nfqueue.open_socket) as netlink:
            accepted.settimeout(5)
            key = key_of(sock)
            assert conntrack.ConntrackTable(netlink).set_mark(key, FlowMark.REFUSED << MARK_SHIFT, MARK_MASK)
            diag = lab.in_host(lab.near, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4))
            sockets = sock_diag.SocketTable(diag)
            assert end_connection(sockets, (key[1], key[2]), (key[3], key[4]))
            sockets.close()
            with pytest.raises(ConnectionAbortedError):
                sock.recv(1)
            with pytest.raises(ConnectionResetError):
                accepted.recv(1)


# --- not asked about


def test_what_is_exempt_passes_while_all_is_dropped(lab: NetLab) -> None:
    """Neighbours are found anew, DHCP travels, groups are joined."""
    with filtering(lab, FlowMark.DROPPED) as running:
        for host, family in ((lab.near, "-4"), (lab.far, "-6")):
            host.run("ip", family, "neigh", "flush", "all")
        with make(lab, lab.far, kind=UDP) as dhcp_server, make(lab, lab.near, kind=UDP) as client:
            dhcp_server.bind((FAR4, 67))
            client.bind((NEAR4, 68))
            client.sendto(b"discover", (FAR4, 67))
            assert dhcp_server.recv(99) == b"discover"
            dhcp_server.sendto(b"offer", (NEAR4, 68))
            assert client.recv(99) == b"offer"
        with make(lab, lab.near, kind=UDP) as member:
            group = socket.inet_aton("239.1.2.3") + socket.inet_aton(NEAR4)
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        assert lab.far.run("ping", "-6", "-c", "1", "-W", "1", NEAR6).returncode == 1
        assert re.search(rf"{NEAR6} .*(REACHABLE|DELAY|STALE)", lab.far.run("ip", "-6", "neigh").stdout)
        assert {head.protocol for _, head in running.asked} == {58}, "only the ping"


def test_multicast_is_asked_about(lab: NetLab) -> None:
    with filtering(lab, FlowMark.ALLOWED) as running, make(lab, lab.near, kind=UDP) as sock:
        sock.sendto(b"query", ("224.0.0.251", 5353))
        wait_for(lambda: running.asked)
        assert running.keys[0][4] == 5353


def test_errors_about_a_known_flow_pass(lab: NetLab) -> None:
    """A port without a server answers by ICMP."""
    with filtering(lab, FlowMark.ALLOWED) as running, make(lab, lab.near, kind=UDP) as sock:
        sock.connect((FAR4, 9))
        sock.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)
        assert len(running.asked) == 1


def test_sockets_of_the_kernel_are_not_asked_about(lab: NetLab) -> None:
    made = lab.near.run("ip", "link", "add", "vx", "type", "vxlan", "id", "7", "remote", FAR4, "dstport", "4789")
    if made.returncode:
        pytest.skip(f"no vxlan on this kernel: {made.stderr.strip()}")
    try:
        with filtering(lab, FlowMark.DROPPED) as running:
            lab.near.run("ip", "addr", "add", "192.0.2.1/24", "dev", "vx")
            lab.near.run("ip", "link", "set", "vx", "up")
            lab.near.run("ping", "-c", "1", "-W", "1", "192.0.2.2")  # asks for its neighbour through the tunnel
            assert wait_for(lambda: running.ruleset.counters()["kernel"])
            assert 4789 not in {key[4] for key in running.keys if key[0] == socket.IPPROTO_UDP}
    finally:
        lab.near.run("ip", "link", "del", "vx")


def test_inbound_flows_only_if_wanted(lab: NetLab) -> None:
    with server(lab, lab.near) as where, filtering(lab, FlowMark.DROPPED, inbound=False) as running:
        with make(lab, lab.far) as sock:
            sock.connect(where)
            exchange(sock)
        assert running.asked == []


def test_loopback_only_if_wanted_and_once(lab: NetLab) -> None:
    def decide(packet: HeldPacket, head: PacketHead) -> FlowMark:
        return FlowMark.HOLD_OUT if running.keys.count(head.key) == 1 else FlowMark.UNDECIDED

    with server(lab, lab.near) as where, filtering(lab, decide) as running:
        with make(lab, lab.near) as sock:
            sock.connect(where)
            exchange(sock)
        assert running.asked == []
        running.ruleset.set_loopback(True)
        with make(lab, lab.near) as sock:
            sock.connect(where)
            exchange(sock)
            assert set(running.keys) == {key_of(sock)}, "the beginner's direction"
            assert {packet.hook for packet, _ in running.asked} == {OUTBOUND}
            assert len([head for _, head in running.asked if head.payload_length]) == 3
        running.ruleset.set_loopback(False)
        with make(lab, lab.near) as sock:  # the one before may still be asked about its last packet
            sock.connect(where)
            exchange(sock)
            assert key_of(sock) not in running.keys


def test_refused_on_loopback(lab: NetLab) -> None:
    for kind in (TCP, UDP):
        with (
            server(lab, lab.near, kind=kind) as where,
            filtering(lab, FlowMark.REFUSED, loopback=True),
            make(lab, lab.near, kind=kind) as sock,
            pytest.raises(ConnectionRefusedError),
        ):
            sock.connect(where)
            exchange(sock)


# --- flows that were there before


@pytest.mark.parametrize("known", [True, False], ids=["conntrack was on", "conntrack was off"])
@pytest.mark.parametrize("established", ["keep", "offer"])
def test_flows_of_before(alone: NetLab, established: str, known: bool) -> None:
    """What conntrack knows is let be, or offered as the option says. What it does not know is asked about."""
    if known:
        nft(
            alone.near, "-f", "-", text="table ip on { chain c { type filter hook output priority 0; ct state new; }; }"
        )
    with server(alone, alone.far) as where, make(alone, alone.near) as sock:
        sock.connect(where)
        exchange(sock)
        with filtering(alone, FlowMark.ALLOWED, established=established) as running:
            exchange(sock)
            asked = [head.flags & 2 for _, head in running.asked]
            assert asked == ([] if known and established == "keep" else [0]), "no SYN: it was there before"


def test_bits_of_an_earlier_run_count_for_nothing(lab: NetLab) -> None:
    with server(lab, lab.far) as where, make(lab, lab.near) as sock:
        with filtering(lab, FlowMark.HOLD_BOTH) as first:
            sock.connect(where)
            exchange(sock)
            first.ruleset.abandon()  # killed: its bits stay behind
            found = connection(lab, lab.near, key_of(sock))
            assert state(found) is FlowMark.HOLD_BOTH
        with filtering(lab, FlowMark.DROPPED) as second:
            exchange(sock)
            assert second.asked == []


def test_closing_takes_our_bits_from_connections(lab: NetLab) -> None:
    with server(lab, lab.far) as where, make(lab, lab.near) as sock:
        with filtering(lab, FlowMark.ALLOWED):
            sock.connect(where)
            assert state(connection(lab, lab.near, key_of(sock))) is FlowMark.ALLOWED
        assert state(connection(lab, lab.near, key_of(sock))) is FlowMark.UNDECIDED


# --- deaths

HOLDER = """
import sys, signal
from network_extension.linux.filter_ruleset import FilterRuleset, FilterRulesetOptions
from network_extension.linux import nfqueue
closed = sys.argv[1] == "closed"
queue = nfqueue.Queue(nfqueue.open_socket(), 20037)
rules = FilterRuleset(FilterRulesetOptions(closed=closed))
rules.install()
print("there", flush=True)
signal.pause()
"""


@contextmanager
def background(host: Host, code: str, *arguments: str) -> Iterator[None]:
    """A program that says when it is there, and is killed afterwards."""
    process = subprocess.Popen(host.command(sys.executable, "-c", code, *arguments), stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"there\n"
        yield
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def killed_filter(lab: NetLab, policy: str) -> None:
    """A process that holds rules and queue, killed."""
    with background(lab.near, HOLDER, policy):
        assert TABLE in nft(lab.near, "list", "tables")


def test_policy_open_nothing_stays_when_we_are_killed(lab: NetLab) -> None:
    killed_filter(lab, "open")
    wait_for(lambda: nft(lab.near, "list", "ruleset") == "", timeout=1)
    with server(lab, lab.far) as where, make(lab, lab.near) as sock:
        sock.connect(where)
        exchange(sock)


COUNT = """
table inet count {
  chain c { type filter hook prerouting priority -300; meta l4proto { tcp, udp, icmp } counter; }
}
"""


def arrived(lab: NetLab) -> int:
    found = re.search(r"packets (\d+)", nft(lab.far, "list", "table", "inet", "count"))
    assert found is not None
    return int(found[1])


def test_policy_closed_not_one_packet_leaks_when_we_are_killed(alone: NetLab) -> None:
    """Nor while the next one takes over, which drops all, five times; counted at the other end."""
    lab = alone
    nft(lab.far, "-f", "-", text=COUNT)
    killed_filter(lab, "closed")
    with background(lab.near, FLOOD, FAR4):
        with make(lab, lab.near) as sock, pytest.raises(TimeoutError):
            sock.settimeout(0.3)
            sock.connect((FAR4, 80))
        assert lab.near.run("ping", "-c", "1", "-W", "1", FAR4).returncode == 1
        for _ in range(5):
            running = Filtering(lab, always(FlowMark.DROPPED), closed=True)
            wait_for(lambda: len(running.asked) > 50)  # noqa: B023 -- called at once
            running.ruleset.abandon()
            running.stop_answering()
        assert TABLE in nft(lab.near, "list", "tables")
        assert arrived(lab) == 0
        assert lab.in_host(lab.near, lambda: remove_leftover())
        wait_for(lambda: arrived(lab) > 0)
    assert not lab.in_host(lab.near, lambda: remove_leftover())
    assert nft(lab.near, "list", "ruleset") == ""


FLOOD = """
import socket, sys
print("there", flush=True)
while True:
    for port in range(1000, 60000):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.sendto(b"x", (sys.argv[1], port))
            except OSError:
                pass
"""


def test_taking_over_drops_chains_that_are_not_wanted_any_more(lab: NetLab) -> None:
    first = Filtering(lab, always(FlowMark.DROPPED), closed=True, packet_queue=8, dns_queue=9)
    first.ruleset.abandon()
    first.stop_answering()
    with filtering(lab, FlowMark.ALLOWED, closed=True) as second:
        with server(lab, lab.far) as where, make(lab, lab.near) as sock:
            sock.connect(where)
            exchange(sock)
        assert listed(lab.near, TABLE).count("hook") == 3
        assert second.ruleset.owned
    assert nft(lab.near, "list", "ruleset") == ""


def test_a_second_filter_is_told_of_the_first(lab: NetLab) -> None:
    with filtering(lab, FlowMark.ALLOWED):
        with pytest.raises(DatapathError, match="belongs to a filter that is running") as caught:
            Filtering(lab, lambda packet, head: None, queue=7)
        assert caught.value.errno == errno.EPERM
        with pytest.raises(DatapathError, match="end that one"):
            lab.in_host(lab.near, lambda: remove_leftover())


def test_policy_open_replaces_what_a_closed_one_left(lab: NetLab) -> None:
    killed_filter(lab, "closed")
    with filtering(lab, FlowMark.ALLOWED) as running:
        assert running.ruleset.owned
    assert nft(lab.near, "list", "ruleset") == ""


def test_who_is_not_root_is_told(lab: NetLab) -> None:
    code = (
        "from network_extension.linux.filter_ruleset import *\n"
        "try: FilterRuleset(FilterRulesetOptions()).install()\n"
        "except Exception as error: print(error)"
    )
    said = lab.near.run(sys.executable, "-c", code, user=True).stdout
    assert "Operation not permitted" in said


# --- more queues


def test_answers_of_name_servers_are_shown(lab: NetLab) -> None:
    """From the network and from a resolver on loopback; they pass when nobody looks."""
    with filtering(lab, FlowMark.ALLOWED, dns_queue=9, closed=True) as running:
        for host, where in ((lab.far, FAR4), (lab.near, "127.0.0.53")):
            with make(lab, host, kind=UDP) as resolver, make(lab, lab.near, kind=UDP) as stub:
                resolver.bind((where, 53))
                stub.connect((where, 53))
                stub.send(b"question")
                _, peer = resolver.recvfrom(99)
                resolver.sendto(b"answer", peer)
                assert stub.recv(99) == b"answer"
        assert [payload[28:] for payload in running.shown[9]] == [b"answer"] * 2
        running.queues[1].close()
        running.queues.pop()
        with make(lab, lab.far, kind=UDP) as resolver, make(lab, lab.near, kind=UDP) as stub:
            resolver.bind((FAR4, 53))
            stub.connect((FAR4, 53))
            stub.send(b"question")
            _, peer = resolver.recvfrom(99)
            resolver.sendto(b"answer", peer)
            assert stub.recv(99) == b"answer"


@pytest.mark.parametrize("closed", [False, True])
def test_packet_filters_see_every_packet(lab: NetLab, closed: bool) -> None:
    with server(lab, lab.far) as where, filtering(lab, FlowMark.ALLOWED, packet_queue=8, closed=closed) as running:
        with make(lab, lab.near) as sock:
            sock.connect(where)
            exchange(sock, 3)
            assert len([payload for payload in running.shown[8] if len(payload) > 100]) == 6
        running.queues.pop(1).close()
        with make(lab, lab.near) as sock:
            sock.settimeout(0.5 if closed else 10)
            if closed:
                with pytest.raises(TimeoutError):
                    sock.connect(where)
            else:
                sock.connect(where)


# --- conntrack


def test_connections_are_counted_cut_and_told_of(lab: NetLab) -> None:
    assert lab.in_host(lab.near, lambda: conntrack.set_accounting(True))
    assert lab.in_host(lab.near, conntrack.accounting) is True
    events = conntrack.DestroyEvents(lab.in_host(lab.near, conntrack.open_socket), MARK_MASK)
    netlink = lab.in_host(lab.near, conntrack.open_socket)
    table = conntrack.ConntrackTable(netlink)
    try:
        with (
            filtering(lab, FlowMark.ALLOWED) as running,
            server(lab, lab.far, kind=UDP) as where,
            make(lab, lab.near, kind=UDP) as sock,
        ):
            sock.connect(where)
            exchange(sock, 3, 100)
            key = key_of(sock)
            assert table.counters(key) == (3 * 128, 3 * 128)
            assert table.counters((17, key[3], key[4], key[1], key[2])) == (384, 384), "by its replies as well"
            assert table.delete(key)
            assert not table.delete(key) and table.counters(key) is None
            assert select.select([events], [], [], 5)[0]
            [ended] = [event for event in events.receive() if event.key == key]
            assert (ended.bytes_out, ended.bytes_in, ended.mark & MARK_MASK) == (384, 384, 1 << MARK_SHIFT)
            exchange(sock, 1)
            assert running.keys == [key, key], "its next packet is a first one again"
    finally:
        events.close()
        netlink.close()
        lab.in_host(lab.near, lambda: conntrack.set_accounting(False))


def test_a_zone_is_a_table_of_its_own(lab: NetLab) -> None:
    nft(
        lab.near,
        "-f",
        "-",
        text="table ip z { chain c { type filter hook output priority -300; udp dport 7 ct zone set 5; }; }",
    )
    try:
        with filtering(lab, FlowMark.ALLOWED), make(lab, lab.near, kind=UDP) as sock:
            sock.connect((FAR4, 7))
            sock.send(b"x")
            with lab.in_host(lab.near, conntrack.open_socket) as netlink:
                table = conntrack.ConntrackTable(netlink)
                found = wait_for(lambda: table.find(key_of(sock), zone=5))
                assert (found.zone, state(found)) == (5, FlowMark.ALLOWED)
                assert table.find(key_of(sock)) is None
                assert table.set_mark(key_of(sock), 5 << MARK_SHIFT, MARK_MASK, zone=5)
                assert not table.set_mark(key_of(sock), 5 << MARK_SHIFT, MARK_MASK)
    finally:
        nft(lab.near, "delete", "table", "ip", "z")
