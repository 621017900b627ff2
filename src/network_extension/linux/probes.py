"""What this kernel lets this user do: one probe for each thing that a sandbox needs, or is better for.

A probe tries the thing itself wherever it can be tried, and reads a setting only to say why it failed. Each is made to
run in a child process (`linux/isolation`), most of them in namespaces of its own: whatever it makes goes with it.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from ..core.resolv_conf import name_servers
from ..errors import DatapathError
from . import interfaces, namespaces, nfqueue, ruleset, sock_diag
from .packet_tap import open_tap
from .pipes import PIPE_SIZE, Pipe
from .user_namespaces import parameter

SANDBOX = namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS
FEWEST_DESCRIPTORS = 4096
FEWEST_BYTES = 212_992  # the default of net.core.rmem_max up to Linux 6.18 (net/core/sock.c)
PACKET_SLOT = 768  # what one held packet takes of the queue socket's buffer, with the kernel's own part

_RULE = "table inet netext_probe {{ chain probe {{ type filter hook prerouting priority mangle; {rule}\n}}\n}}\n"


class State(StrEnum):
    """How one thing is."""

    OK = "ok"
    DEGRADED = "degraded"
    """It works, less well than it could."""
    MISSING = "missing"
    UNKNOWN = "unknown"
    """It could not be looked at, because something else is missing."""


class Finding(NamedTuple):
    """What a probe found."""

    state: State
    means: str
    next_step: str = ""


class Probe(NamedTuple):
    """One thing to try. `try_it` returns a finding, or raises DatapathError or OSError: then it is missing."""

    name: str
    try_it: Callable[[], Finding]
    flags: int = 0
    """The namespaces in which it is tried (CLONE_*)."""
    needed: bool = True
    """Whether nothing works without it."""
    without: str = ""
    """What it means that it is missing."""
    next_step: str = ""
    """What to do then."""


def _ok(means: str) -> Finding:
    return Finding(State.OK, means)


def python_version() -> Finding:
    """Which one this is; with one older than 3.11 the package does not import, and says so itself."""
    return _ok(f"{sys.version.split()[0]}, {sys.executable}")


def user_namespaces() -> Finding:
    """A user namespace, and the capabilities that come with it. AppArmor allows the one without the other."""
    with open("/proc/self/status") as status:
        effective = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    if not int(effective, 16):
        raise DatapathError("they can be made, but give no capabilities", errno=errno.EPERM)
    return _ok("made one, with all capabilities inside it")


def other_namespaces() -> Finding:
    """A network and a mount namespace, and a mount in it: how the sandbox gets its own resolv.conf."""
    namespaces.private_mounts()
    namespaces.mount("netext", "/tmp", "tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV)
    return _ok("made a network and a mount namespace, and mounted something")


def own_interface() -> Finding:
    """A veth pair, else a dummy interface: what carries the sandbox's default route."""
    with interfaces.Interfaces() as network:
        try:
            network.add_veth("netext0", "netext1", 65535)
            return _ok("a veth pair carries the default route")
        except DatapathError:
            network.add_dummy("netext0", 65535)
            return _ok("no veth, but a dummy interface, which does as well")


def nft() -> Finding:
    """The tool, and tables of both families in a namespace of one's own."""
    tool = ruleset.find_tool("nft")
    if tool is None:
        raise ruleset.unavailable("nft is not installed", "apt-get install nftables")
    _load("accept")
    return _ok(f"{tool} makes tables in a sandbox")


def _load(rule: str) -> None:
    """Try one rule. Raises DatapathError with nft's complaint."""
    tool = ruleset.find_tool("nft")
    if tool is None:
        raise DatapathError("nft is not installed")
    namespaces.keep_capabilities_over_exec(namespaces.CAP_NET_ADMIN, namespaces.CAP_NET_RAW)
    if complaint := ruleset.run_tool([tool, "-f", "-"], _RULE.format(rule=rule)):
        raise DatapathError(complaint)


def tproxy() -> Finding:
    """The expression that hands an opened connection to our listener."""
    _load("meta l4proto tcp tproxy ip to 192.0.0.1:1")
    _load("meta l4proto tcp tproxy ip6 to [64:ff9b:1::1]:1")
    return _ok("nft has tproxy for IPv4 and IPv6")


def socket_expression() -> Finding:
    """The expression that tells packets of open flows from those of new ones."""
    _load("meta l4proto udp socket transparent 1 accept")
    _load("socket wildcard 0 accept")
    return _ok("nft has socket transparent and socket wildcard")


def packet_queue() -> Finding:
    """NFQUEUE: a rule that fills it, by nft or iptables, and a socket that reads it."""
    try:
        _load("queue num 0")
        how = "nft's own queue expression"
    except DatapathError:
        how = ruleset.queue_by_iptables()
    queue = nfqueue.Queue(nfqueue.open_socket())
    queue.close()
    return _ok(f"flows are held by {how}")


def socket_owners() -> Finding:
    """inet_diag: whose socket a flow comes from."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, sock_diag.NETLINK_SOCK_DIAG)
        ends = [(socket.inet_aton(host), port) for host, port in (client.getsockname(), client.getpeername())]
        found = sock_diag.SocketTable(diag).find(socket.IPPROTO_TCP, *ends)
        diag.close()
        if found is None or found.inode != os.fstat(client.fileno()).st_ino:
            raise DatapathError("the kernel does not say whose socket is which")
    return _ok("inet_diag tells which program a flow belongs to")


def packet_ring() -> Finding:
    """The packet socket of `--trace`."""
    open_tap("lo").close()
    return _ok("--trace can see every packet")


def tun_device() -> Finding:
    """/dev/net/tun, which the sandbox does without."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Finding(State.MISSING, f"{error.strerror}; netext run does not need it")
    return _ok("this user may open it; netext run does not need it")


def ipv6() -> Finding:
    """Whether the host has IPv6 beyond its own links."""
    try:
        with open("/proc/net/if_inet6") as table:
            scopes = {line.split()[3] for line in table}
    except OSError:
        scopes = set()
    if scopes - {"10", "20"}:
        return _ok("the host has an address, so the sandbox has IPv6 too")
    means = "the host has no address beyond loopback and link, so the sandbox has IPv4 only"
    return Finding(State.DEGRADED, means, "give an interface of the host an IPv6 address, if its network has IPv6")


def echo() -> Finding:
    """Ping sockets, by which echo requests leave the host."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
        return _ok("ping works inside the sandbox")
    except OSError:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
        return _ok("ping works inside the sandbox, by raw sockets")


def descriptors() -> Finding:
    """The hard limit of open files, which netext raises its own to."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= FEWEST_DESCRIPTORS:
        return _ok(f"{hard} at most, enough for about {hard // 2} connections at a time")
    means = f"{hard} at most: about {hard // 2} connections at a time"
    return Finding(State.DEGRADED, means, "raise nofile in /etc/security/limits.conf (hard), or ulimit -Hn")


def pipes() -> Finding:
    """The pipes through which splice moves bytes, at their full size."""
    pipe = Pipe()
    size = pipe.size
    pipe.close()
    soft = parameter("fs.pipe-user-pages-soft")
    if size >= PIPE_SIZE:
        return _ok(f"splice has {size >> 10} KiB at a time (fs.pipe-user-pages-soft = {soft})")
    means = f"only {size >> 10} KiB at a time: streams are slower (fs.pipe-user-pages-soft = {soft})"
    return Finding(State.DEGRADED, means, "sudo sysctl -w fs.pipe-user-pages-soft=65536")


def receive_buffer() -> Finding:
    """How many new flows may come at once before the packet queue's socket overflows."""
    most = int(parameter("net.core.rmem_max") or FEWEST_BYTES)
    means = f"about {most * 2 // PACKET_SLOT} new flows may come at once (net.core.rmem_max = {most})"
    if most >= FEWEST_BYTES:
        return _ok(means)
    return Finding(State.DEGRADED, means, f"sudo sysctl -w net.core.rmem_max={FEWEST_BYTES}")


def resolver() -> Finding:
    """Where the host's names come from; inside, only our own name server answers."""
    try:
        with open("/etc/resolv.conf", errors="replace") as file:
            text = file.read(65536)
    except OSError as error:
        means = f"/etc/resolv.conf: {error.strerror}; names resolve by /etc/hosts only, and flows may have none"
        return Finding(State.DEGRADED, means, "write a nameserver line into /etc/resolv.conf")
    others = {"systemd-resolved": "/run/systemd/resolve/io.systemd.Resolve", "nscd": "/run/nscd/socket"}
    running = [name for name, path in others.items() if os.path.exists(path)]
    means = f"asks {', '.join(name_servers(text))}"
    if running:
        means += f"; hides {' and '.join(running)} from the command, so that names pass through netext"
    if "nameserver" not in text:
        means = "no nameserver in /etc/resolv.conf; a server on 127.0.0.1 is asked"
        return Finding(State.DEGRADED, means, "write a nameserver line into /etc/resolv.conf")
    return _ok(means)


PROBES = (
    Probe("python", python_version),
    Probe("user namespaces", user_namespaces, namespaces.CLONE_NEWUSER, without="no sandbox can be made"),
    Probe(
        "network and mount namespaces",
        other_namespaces,
        SANDBOX,
        without="no sandbox can be made",
        next_step="look whether user.max_net_namespaces or user.max_mnt_namespaces is 0: sysctl user",
    ),
    Probe(
        "interface",
        own_interface,
        SANDBOX,
        without="the sandbox has no way out",
        next_step="sudo modprobe veth dummy (CONFIG_VETH or CONFIG_DUMMY)",
    ),
    Probe("nft", nft, SANDBOX, without="flows cannot be held", next_step="sudo modprobe nf_tables (CONFIG_NF_TABLES)"),
    Probe(
        "nft tproxy",
        tproxy,
        SANDBOX,
        without="connections cannot be taken over",
        next_step="sudo modprobe nft_tproxy nf_tproxy_ipv4 nf_tproxy_ipv6 (CONFIG_NFT_TPROXY)",
    ),
    Probe(
        "nft socket",
        socket_expression,
        SANDBOX,
        without="datagrams of open flows cannot be told from new ones",
        next_step="sudo modprobe nft_socket (CONFIG_NFT_SOCKET, Linux 5.13 for wildcard)",
    ),
    Probe(
        "packet queue",
        packet_queue,
        SANDBOX,
        without="flows cannot wait for a decision",
        next_step="sudo modprobe nft_queue nfnetlink_queue xt_NFQUEUE (CONFIG_NFT_QUEUE), or apt-get install iptables",
    ),
    Probe(
        "socket owners",
        socket_owners,
        needed=False,
        without="flows carry no program's name when there are several",
        next_step="sudo modprobe inet_diag tcp_diag udp_diag",
    ),
    Probe("IPv6", ipv6, needed=False),
    Probe(
        "ping",
        echo,
        needed=False,
        without="ping inside the sandbox is told that it is prohibited",
        next_step='sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"',
    ),
    Probe("names", resolver, needed=False),
    Probe("open files", descriptors, needed=False),
    Probe("pipes", pipes, needed=False),
    Probe("queue bursts", receive_buffer, needed=False),
    Probe(
        "packet ring",
        packet_ring,
        SANDBOX,
        needed=False,
        without="--trace writes nothing",
        next_step="sudo modprobe af_packet (CONFIG_PACKET)",
    ),
    Probe("/dev/net/tun", tun_device, needed=False),
)
