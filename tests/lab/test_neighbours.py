"""Beside others' rules: a VPN of wg-quick, Docker-like NAT, ufw, firewalld, marks of many, another reader of a queue.

Each works while we filter, nothing of theirs is changed, and after us everything is as before. The programs are the
real ones where Debian has them; else their rules are written in their form.
"""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from network_extension.core.packets import PacketHead
from network_extension.linux import nfqueue
from network_extension.linux.filter_ruleset import MARK_MASK, MARK_SHIFT, TABLE, FlowMark
from network_extension.linux.nfqueue import HeldPacket, Queue
from tests.netlab import FAR4, NEAR4, Host, NetLab, wait_for

from .filtering import UDP, Decide, connection, exchange, filtering, key_of, make, nft, server

pytestmark = [pytest.mark.lab, pytest.mark.peer]

SO_MARK = 36
WIREGUARD_MARK, MULLVAD_MARK = 0xCA6C, 0x6D6F6C65
STATES = pytest.mark.parametrize("state", [FlowMark.ALLOWED, FlowMark.HOLD_BOTH], ids=["allowed", "held"])


@pytest.fixture
def lab() -> Iterator[NetLab]:
    """Hosts of this test only."""
    lab = NetLab()
    yield lab
    lab.close()


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin") is None:
            pytest.skip(f"{program} is not installed (scripts/debian-packages.txt)")


def footprint(host: Host) -> str:
    """The host's network as others have set it up: rules without ours and without counts, routing, addresses."""
    rules = nft(host, "list", "ruleset")
    rules = re.sub(rf"table inet {TABLE} {{.*?\n}}\n", "", rules, flags=re.DOTALL)
    parts = [re.sub(r"packets \d+ bytes \d+", "", rules)]
    for what in (("rule",), ("-6", "rule"), ("route", "show", "table", "all"), ("-br", "addr")):
        parts.append(host.run("ip", *what).stdout)
    return "\n".join(line for line in "\n".join(parts).splitlines() if "fe80::" not in line)  # they come by themselves


@contextmanager
def untouched(host: Host) -> Iterator[None]:
    """What others have set up is the same while we filter and afterwards."""
    before = footprint(host)
    yield
    assert footprint(host) == before
    assert TABLE not in nft(host, "list", "tables")


def holding(state: FlowMark) -> Decide:
    """A flow becomes `state` with its first packet; each further one passes as it is."""
    seen = set()

    def decide(packet: HeldPacket, head: PacketHead) -> FlowMark:
        key = frozenset({head.key[1:3], head.key[3:5]})
        first = key not in seen
        seen.add(key)
        return state if first else FlowMark.UNDECIDED

    return decide


def count(host: Host, comment: str) -> int:
    """The packets that the rule with a comment has counted."""
    found = re.search(rf'packets (\d+) bytes \d+[^\n]* comment "{comment}"', nft(host, "list", "ruleset"))
    assert found is not None, comment
    return int(found[1])


LEAVING = f"""
table inet leaving {{
  chain c {{
    type filter hook postrouting priority 400;
    meta mark & {MARK_MASK:#x} != 0 counter comment "ours"
    meta mark {WIREGUARD_MARK:#x} counter comment "wireguard"
    meta mark {MULLVAD_MARK:#x} counter comment "mullvad"
    meta mark & 0xff0000 == 0x80000 counter comment "tailscale"
  }}
}}
"""


# --- VPNs


@contextmanager
def tunnel(lab: NetLab, folder: Path) -> Iterator[tuple[str, str]]:
    """Everything of `near` through a tunnel to `far`, by wg-quick; the addresses of both ends."""
    private = [lab.near.run("wg", "genkey").stdout.strip() for _ in range(2)]
    public = [lab.near.run("wg", "pubkey", input=key, stdin=None).stdout.strip() for key in private]
    near, far = (folder / f"wg{lab.near_device[-8:]}.conf", folder / f"wg{lab.far_device[-8:]}.conf")
    near.write_text(
        f"[Interface]\nPrivateKey={private[0]}\nAddress=10.77.0.1/24\n"
        f"[Peer]\nPublicKey={public[1]}\nEndpoint={FAR4}:51820\nAllowedIPs=0.0.0.0/0\n"
    )
    far.write_text(
        f"[Interface]\nPrivateKey={private[1]}\nAddress=10.77.0.2/24\nListenPort=51820\n"
        f"[Peer]\nPublicKey={public[0]}\nAllowedIPs=10.77.0.1/32\n"
    )
    for path in (near, far):
        path.chmod(0o600)
    with ExitStack() as stack:
        for host, path in ((lab.far, far), (lab.near, near)):
            up = host.run("wg-quick", "up", str(path))
            stack.callback(host.run, "wg-quick", "down", str(path))
            if up.returncode:
                pytest.skip(f"wg-quick does not work here: {up.stderr.strip().splitlines()[-1]}")
        yield "10.77.0.1", "10.77.0.2"


@STATES
def test_wg_quick(lab: NetLab, tmp_path: Path, state: FlowMark) -> None:
    """With reverse paths checked, which needs its connection mark to be what it wrote."""
    needs("wg", "wg-quick", "wireguard-go")
    lab.near.run("sysctl", "-w", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.default.rp_filter=1")
    nft(lab.near, "-f", "-", text=LEAVING)
    with tunnel(lab, tmp_path) as (_, far), untouched(lab.near):
        with filtering(lab, holding(state)) as running, make(lab, lab.far) as listener, make(lab, lab.near) as sock:
            listener.bind((far, 0))
            listener.listen()
            sock.connect(listener.getsockname())
            accepted, _ = listener.accept()
            with accepted:
                for _ in range(100):
                    sock.sendall(bytes(1000))
                    assert accepted.recv(1000, socket.MSG_WAITALL) == bytes(1000)
                    accepted.sendall(b"answer")
                    assert sock.recv(99) == b"answer"
            outer = {key for key in running.keys if key[4] == 51820}
            assert len(outer) == 1, "the tunnel itself is one flow, asked about"
            assert running.keys.count(outer.copy().pop()) <= 3, "wg-quick erases our bits with each packet"
            assert key_of(sock) in running.keys, "and what is inside is another"
            found = connection(lab, lab.near, outer.pop())
            assert found is not None and found.mark == WIREGUARD_MARK
            assert running.ruleset.counters()["foreign"] == 0
        assert count(lab.near, "wireguard") > 100
        assert count(lab.near, "ours") == 0


CONNMARK = """*mangle
-A PREROUTING -p udp -j CONNMARK --restore-mark
-A POSTROUTING -p udp -m mark --mark 0xca6c -j CONNMARK --save-mark
COMMIT
"""


def test_whole_marks_restored_into_packets_are_not_taken_for_verdicts(lab: NetLab) -> None:
    """CONNMARK --restore-mark writes HOLD_IN into each arriving packet of that flow: it is held all the same."""
    needs("iptables-nft-restore")
    assert lab.near.run("iptables-nft-restore", "-n", input=CONNMARK, stdin=None).returncode == 0
    with (
        untouched(lab.near),
        server(lab, lab.far, kind=UDP) as where,
        filtering(lab, holding(FlowMark.HOLD_IN)) as running,
        make(lab, lab.near, kind=UDP) as sock,
    ):
        sock.connect(where)
        exchange(sock, 10)
        assert [packet.hook for packet, _ in running.asked] == [3, *[1] * 10]
        assert all(packet.mark == 0 for packet, _ in running.asked)
        assert running.ruleset.counters()["foreign"] == 0


def test_a_flow_whose_bits_are_erased_goes_on_unasked(lab: NetLab) -> None:
    needs("iptables-nft-restore")
    nft(lab.near, "-f", "-", text=LEAVING)
    assert lab.near.run("iptables-nft-restore", "-n", input=CONNMARK, stdin=None).returncode == 0
    with untouched(lab.near), server(lab, lab.far, kind=UDP) as where:
        with filtering(lab, FlowMark.ALLOWED) as running, make(lab, lab.near, kind=UDP) as sock:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, WIREGUARD_MARK)
            sock.connect(where)
            exchange(sock, 10)
            assert running.keys == [key_of(sock)]
            found = connection(lab, lab.near, key_of(sock))
            assert found is not None and found.mark == WIREGUARD_MARK
        assert (count(lab.near, "wireguard"), count(lab.near, "ours")) == (10, 0)


def test_who_uses_our_bits_for_himself_passes_and_is_counted(lab: NetLab) -> None:
    """Mullvad marks its own packets with the letters "mole", which contain REFUSED. `mask` is the way out."""
    nft(lab.near, "-f", "-", text=LEAVING)
    with untouched(lab.near), server(lab, lab.far, kind=UDP) as where:
        with filtering(lab, FlowMark.DROPPED) as running, make(lab, lab.near, kind=UDP) as sock:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, MULLVAD_MARK)
            sock.connect(where)
            exchange(sock, 5)
            assert running.asked == []
            assert running.ruleset.counters()["foreign"] == 5
        with filtering(lab, FlowMark.ALLOWED, mask=0x70) as running, make(lab, lab.near, kind=UDP) as sock:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, 0x80000)
            sock.connect(where)
            exchange(sock, 5)
            assert running.keys == [key_of(sock)]
        assert count(lab.near, "mullvad") == 5
        assert count(lab.near, "tailscale") == 5


def test_what_we_send_ourselves_bears_its_verdict(lab: NetLab) -> None:
    """A socket marked with a state and nothing else: the connection gets it, and the packet loses it."""
    nft(lab.near, "-f", "-", text=LEAVING)
    with server(lab, lab.far, kind=UDP) as where:
        with filtering(lab, FlowMark.DROPPED) as running, make(lab, lab.near, kind=UDP) as sock:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, FlowMark.ALLOWED << MARK_SHIFT)
            sock.connect(where)
            exchange(sock, 3)
            found = connection(lab, lab.near, key_of(sock))
            assert found is not None and found.mark == FlowMark.ALLOWED << MARK_SHIFT
            assert (running.asked, running.ruleset.counters()["foreign"]) == ([], 0)
        assert count(lab.near, "ours") == 0


MARKS = """
table ip others {
  chain write {
    type route hook output priority mangle;
    tcp dport 7000-65535 meta mark set meta mark & 0xff00ffff ^ 0x40000
    ct state new ct mark set ct mark & 0xffff3fff ^ 0x4000
  }
  chain left {
    type filter hook postrouting priority 400;
    meta mark 0x40000 counter comment "whole"
    meta mark != 0x40000 tcp dport 7000-65535 counter comment "other"
    ct mark & 0x4000 == 0x4000 counter comment "kept"
  }
}
"""


@STATES
def test_masked_marks_of_others_stay(lab: NetLab, state: FlowMark) -> None:
    """As Tailscale and Kubernetes have them: theirs and ours in one word."""
    nft(lab.near, "-f", "-", text=MARKS)
    with untouched(lab.near), server(lab, lab.far) as where:
        with filtering(lab, holding(state)), make(lab, lab.near) as sock:
            sock.connect(where)
            exchange(sock, 10)
            found = connection(lab, lab.near, key_of(sock))
            assert found is not None and found.mark == 0x4000 | state << MARK_SHIFT
        found = connection(lab, lab.near, found.key)
        assert found is not None and found.mark == 0x4000, "ours are gone, theirs are not"
        assert count(lab.near, "whole") >= 10 and count(lab.near, "other") == 0
        assert count(lab.near, "kept") >= 10


# --- NAT

DOCKER = """*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -d 203.0.113.9 -p tcp --dport 80 -j DNAT --to-destination 172.30.0.2:80
-A POSTROUTING -s 172.30.0.0/24 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 172.30.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -d 172.30.0.2/32 ! -i docker0 -o docker0 -p tcp --dport 80 -j ACCEPT
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
"""


@contextmanager
def container(lab: NetLab) -> Iterator[Host]:
    """A namespace behind a bridge of `near`, with NAT as Docker makes it."""
    inside, name = Host(f"{lab.near.name}c"), lab.near_device[-6:]
    try:
        for words in (
            "link add docker0 type bridge",
            "addr add 172.30.0.1/24 dev docker0",
            "link set docker0 up",
            f"link add v{name} type veth peer name eth0 netns {inside.name}",
            f"link set v{name} master docker0 up",
        ):
            assert lab.near.run("ip", *words.split()).returncode == 0, words
        for words in ("addr add 172.30.0.2/24 dev eth0", "link set eth0 up", "route add default via 172.30.0.1"):
            assert inside.run("ip", *words.split()).returncode == 0, words
        lab.near.run("sysctl", "-w", "net.ipv4.ip_forward=1")
        done = lab.near.run("iptables-nft-restore", "-n", input=DOCKER, stdin=None)
        if done.returncode:
            pytest.skip(f"no such NAT on this kernel: {done.stderr.strip()}")
        yield inside
    finally:
        inside.close()


def talk(lab: NetLab, client: Host, listener: socket.socket, where: tuple[str, int]) -> tuple[str, int]:
    """One connection to `where` that ends at `listener`; whom the listener sees."""
    with make(lab, client) as sock:
        sock.connect(where)
        accepted, peer = listener.accept()
        with accepted:
            accepted.settimeout(5)
            for _ in range(3):
                sock.sendall(b"question")
                assert accepted.recv(99) == b"question"
                accepted.sendall(b"answer")
                assert sock.recv(99) == b"answer"
    return peer[0], peer[1]


@STATES
def test_docker(lab: NetLab, state: FlowMark) -> None:
    """What is forwarded is not asked about; what begins or ends here bears the addresses that its socket knows."""
    needs("iptables-nft-restore")
    with container(lab) as inside, untouched(lab.near), make(lab, inside) as web, make(lab, lab.far) as outside:
        for listener, where in ((web, ("172.30.0.2", 80)), (outside, (FAR4, 80))):
            listener.bind(where)
            listener.listen()
        with filtering(lab, holding(state), loopback=True) as running:
            assert talk(lab, lab.far, web, (NEAR4, 8080))[0] == FAR4, "a published port"
            assert talk(lab, inside, outside, (FAR4, 80))[0] == NEAR4, "masqueraded"
            assert running.asked == []
            for host in ("172.30.0.2", "203.0.113.9"):
                _, port = talk(lab, lab.near, web, (host, 80))
                keys = [key for key in running.keys if port in (key[2], key[4])]
                assert len(keys) == 1 or state is FlowMark.HOLD_BOTH
                assert all((socket.inet_aton(host), 80) in (key[1:3], key[3:5]) for key in keys), "as it was asked for"
            talk(lab, lab.near, web, (NEAR4, 8080))
            assert {key[3:5] for key in running.keys if key[4] == 8080} == {(socket.inet_aton(NEAR4), 8080)}


def test_the_published_port_of_a_proxy(lab: NetLab) -> None:
    """docker-proxy: a program that listens for the container, on loopback too."""
    with (
        untouched(lab.near),
        server(lab, lab.near) as where,
        filtering(lab, FlowMark.ALLOWED) as running,
        make(lab, lab.far) as sock,
    ):
        sock.connect(where)
        exchange(sock)
        assert running.keys == [key_of(sock)]


# --- other firewalls


def ufw(lab: NetLab, folder: Path) -> None:
    """Real ufw in `near`, on a copy of its files."""
    script = (
        f"cp -a /etc/ufw /etc/default {folder}/ && mount --bind {folder}/ufw /etc/ufw && "
        f"mount --bind {folder}/default /etc/default && "
        "ufw allow 7001/tcp && ufw deny out 7003/tcp && ufw --force enable"
    )
    done = lab.near.run("unshare", "-m", "sh", "-c", script, timeout=50)
    if done.returncode:
        pytest.skip(f"ufw does not work here: {done.stderr.strip()}")


FIREWALLD = """
table inet firewalld {
  chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept; }
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_IN_public
    reject with icmpx admin-prohibited
  }
  chain filter_OUTPUT {
    type filter hook output priority filter + 10; policy accept;
    ct state { established, related } accept
    oifname "lo" accept
    tcp dport 7003 reject with icmpx admin-prohibited
  }
  chain filter_IN_public {
    tcp dport 7001 ct state new,untracked accept
    meta l4proto { icmp, ipv6-icmp } accept
  }
}
"""


@pytest.mark.parametrize("whose", ["ufw", "firewalld"])
@STATES
def test_a_firewall(lab: NetLab, tmp_path: Path, whose: str, state: FlowMark) -> None:
    """Its open port is open, its closed one closed and not asked about; what it denies stays denied."""
    if whose == "ufw":
        needs("ufw")
        ufw(lab, tmp_path)
    else:
        nft(lab.near, "-f", "-", text=FIREWALLD)
    listeners = [(lab.near, (NEAR4, 7001)), (lab.near, (NEAR4, 7002)), (lab.far, (FAR4, 7003)), (lab.far, (FAR4, 7004))]
    with untouched(lab.near), ExitStack() as stack:
        sockets = []
        for host, where in listeners:
            sockets.append(stack.enter_context(make(lab, host)))
            sockets[-1].bind(where)
            sockets[-1].listen()
        running = stack.enter_context(filtering(lab, holding(state)))
        talk(lab, lab.far, sockets[0], (NEAR4, 7001))
        talk(lab, lab.near, sockets[3], (FAR4, 7004))
        for host, where in ((lab.far, (NEAR4, 7002)), (lab.near, (FAR4, 7003))):
            with make(lab, host) as sock, pytest.raises(OSError):
                sock.settimeout(0.5)
                sock.connect(where)
        begun = [key[4] for key in running.keys]
        assert {7001, 7004, 7003} <= set(begun)
        assert 7002 not in begun, "what others drop on its way in is not asked about"


# --- another reader of packets

# Loopback left out: a reset that refuses a first packet shares that packet's connection, which is not confirmed yet,
# and the kernel queues no such packet (nf_ct_drop_unconfirmed() in net/netfilter/nfnetlink_queue.c).
OTHER_QUEUE = """*filter
-A INPUT -i lo -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A INPUT -p tcp -j NFQUEUE --queue-num 0
-A OUTPUT -p tcp -j NFQUEUE --queue-num 0
COMMIT
"""


@contextmanager
def intrusion_prevention(lab: NetLab) -> Iterator[list[bytes]]:
    """A program that reads every TCP packet of `near` by a queue of its own, and drops what goes to port 7009."""
    queue, seen, ended = Queue(lab.in_host(lab.near, nfqueue.open_socket), 0, copy_range=200), list[bytes](), [False]

    def run() -> None:
        while not ended[0]:
            for packet in queue.receive():
                seen.append(packet.payload)
                drops = packet.payload[22:24] == (7009).to_bytes(2, "big")
                queue.decide(packet.id, nfqueue.DROP if drops else nfqueue.ACCEPT)
            queue.flush()

    thread = threading.Thread(target=run, name="intrusion prevention")
    thread.start()
    try:
        yield seen
    finally:
        ended[0] = True
        thread.join(10)
        queue.close()


@STATES
def test_another_reader_of_a_queue(lab: NetLab, state: FlowMark) -> None:
    needs("iptables-nft-restore")
    assert lab.near.run("iptables-nft-restore", "-n", input=OTHER_QUEUE, stdin=None).returncode == 0
    with untouched(lab.near), intrusion_prevention(lab) as seen, server(lab, lab.far) as where:
        with filtering(lab, holding(state)) as running:
            with make(lab, lab.near) as sock:
                sock.connect(where)
                exchange(sock, 10)
                assert key_of(sock) in running.keys
            assert len(seen) >= 20, "it sees both directions"
            with make(lab, lab.near) as sock, pytest.raises(TimeoutError):
                sock.settimeout(0.3)
                sock.connect((FAR4, 7009))
        with filtering(lab, FlowMark.REFUSED), make(lab, lab.near) as sock, pytest.raises(ConnectionRefusedError):
            sock.connect(where)


def test_two_at_once_and_a_reload(lab: NetLab, tmp_path: Path) -> None:
    """A firewall that is reloaded in the middle of it, with `flush ruleset`, takes nothing of ours away."""
    nft(lab.near, "-f", "-", text=FIREWALLD)
    with filtering(lab, FlowMark.REFUSED) as running, server(lab, lab.far) as where:
        for _ in range(3):
            nft(lab.near, "-f", "-", text="flush ruleset\n" + FIREWALLD)
            with make(lab, lab.near) as sock, pytest.raises(ConnectionRefusedError):
                sock.connect(where)
        assert wait_for(lambda: running.ruleset.counters()["refused"] == 3)
