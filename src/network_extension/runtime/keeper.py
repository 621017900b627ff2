"""The keeper: the process that makes a sandbox's namespaces, holds them, and makes sockets inside.

It is forked from `netext run`, leaves its session (signals of the terminal are for the command), and lives until the
control socket ends. It alone has capabilities, and only over the sandbox. Three kinds of request reach it:

- from the supervisor, `b"kit"`: a fresh set of the sockets that an engine needs (`Kit`), and a channel for the next;
- from the supervisor, `b"packets"`: the rules of the packet queue, in a run with a packet filter, and a socket for it;
- from the engine, one byte of address family: `STOCK` unbound transparent UDP sockets.

When the supervisor is gone, even by SIGKILL, the keeper ends every process that still lives in the sandbox and then
itself; with the last process the kernel takes the namespaces, the interface, the routes and the ruleset away.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import NamedTuple, NoReturn

from ..errors import DatapathError, ExitCode
from ..linux import interfaces, namespaces, nfqueue, ruleset, sockets
from ..linux.sockets import receive_descriptors, send_descriptors
from .options import SandboxOptions

INTERFACE, PEER_INTERFACE = "netext0", "netext1"
# RFC 7335 keeps 192.0.0.0/29 for addresses that never leave a host; RFC 8215's 64:ff9b:1::/48 is for local use too, and
# unlike a unique local address it does not make getaddrinfo prefer IPv4 (RFC 6724 section 2.1).
PROGRAM_ADDRESSES = ("192.0.0.2", "64:ff9b:1::2")
RUNTIME_ADDRESSES = ("192.0.0.1", "64:ff9b:1::1")
MTU = 65535  # one segment of 64 KiB is one packet: with 1,500 bytes a stream runs at half the speed
LISTENER_PORT, DNS_PORT = 1, 53  # below 1024: the command can never sit on them
LOCAL_TABLE, RULE_PRIORITY = 0x4E45, 100
STOCK = 32
NETLINK_SOCK_DIAG = 4


class Kit(NamedTuple):
    """The sockets of one engine, as descriptors, in the order in which they are sent."""

    stock: int
    queue: int
    listener4: int
    listener6: int
    raw4: int
    raw6: int
    dns_udp: int
    dns_tcp: int
    diag: int
    destroyed: int
    tap: int = -1


def build_network(options: SandboxOptions) -> str:
    """Interface, addresses, routes and ruleset of the namespace this process is in; says how packets are queued."""
    with interfaces.Interfaces() as network:
        loopback = network.bring_up("lo")
        index = _own_interface(network)
        for number, family in enumerate((socket.AF_INET, socket.AF_INET6)):
            if family == socket.AF_INET6 and not options.ipv6:
                continue
            bits, anywhere = (128, "::/0") if number else (32, "0.0.0.0/0")
            network.add_address(loopback, f"{RUNTIME_ADDRESSES[number]}/{bits}")
            network.add_address(index, f"{PROGRAM_ADDRESSES[number]}/{bits}")
            network.add_route(anywhere, index=index, source=PROGRAM_ADDRESSES[number])
            network.add_route(anywhere, index=loopback, kind=interfaces.RTN_LOCAL, table=LOCAL_TABLE)
            network.add_mark_rule(family, ruleset.MARK_NEW, 0xFFFFFFFF, LOCAL_TABLE, RULE_PRIORITY)
        for refused in ("224.0.0.0/4", "255.255.255.255/32"):  # as a host without multicast routes: ENETUNREACH
            network.add_route(refused, kind=interfaces.RTN_THROW)
    listeners = (f"{RUNTIME_ADDRESSES[0]}:{LISTENER_PORT}", f"[{RUNTIME_ADDRESSES[1]}]:{LISTENER_PORT}")
    namespaces.keep_capabilities_over_exec(namespaces.CAP_NET_ADMIN, namespaces.CAP_NET_RAW)
    return ruleset.install(INTERFACE, *listeners, overflow_open=options.overflow_open)


def _own_interface(network: interfaces.Interfaces) -> int:
    """The interface that carries the default route: one end of a veth pair, or a dummy."""
    try:
        network.add_veth(INTERFACE, PEER_INTERFACE, MTU)
        network.bring_up(PEER_INTERFACE)
    except DatapathError as first:
        try:
            network.add_dummy(INTERFACE, MTU)
        except DatapathError:
            raise DatapathError(
                f"{first}; this kernel has neither veth nor dummy interfaces", errno=first.errno
            ) from None
    return network.bring_up(INTERFACE)


def _settle_system_parameters(gid: int, ipv6: bool) -> None:
    """Parameters of the new namespace that differ from what is right for a sandbox; each is optional."""
    values = {
        "net/ipv4/ping_group_range": f"{gid} {gid}",  # ping without privilege
        "net/ipv4/conf/all/rp_filter": "0",  # replies come from lo with foreign addresses
        f"net/ipv4/conf/{INTERFACE}/rp_filter": "0",
        "net/ipv4/conf/lo/rp_filter": "0",
        # The hop between program and engine is this kernel's loopback. A pacing algorithm (bbr) measures it, finds a
        # bandwidth and holds the stream to it; the way out keeps the host's choice, since its socket is the host's.
        "net/ipv4/tcp_congestion_control": "reno",
    }
    if not ipv6:
        values[f"net/ipv6/conf/{INTERFACE}/disable_ipv6"] = values[f"net/ipv6/conf/{PEER_INTERFACE}/disable_ipv6"] = "1"
    for name, value in values.items():
        try:
            with open(f"/proc/sys/{name}", "w") as parameter:
                parameter.write(value)
        except OSError:
            pass


def _arrange_files(resolv_conf: str | None) -> None:
    """resolv.conf, and no way to name services that would answer without us (nscd, systemd-resolved)."""
    namespaces.private_mounts()
    if resolv_conf is not None and os.path.exists("/etc/resolv.conf"):
        namespaces.replace_file("/etc/resolv.conf", resolv_conf)
    for directory, service in (("/run/nscd", "socket"), ("/run/systemd/resolve", "io.systemd.Resolve")):
        if os.path.exists(f"{directory}/{service}"):
            namespaces.mount("/dev/null", f"{directory}/{service}", None, namespaces.MS_BIND)


def _make_kit(options: SandboxOptions) -> tuple[list[int], list[socket.socket], socket.socket]:
    """The descriptors of a `Kit`, the objects that keep them open until they are sent, and our end of the stock."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    runtime4, runtime6 = RUNTIME_ADDRESSES
    destroyed = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
    dns = sockets.datagram_socket(socket.AF_INET)
    dns.bind((runtime4, DNS_PORT))
    six = (
        sockets.transparent_listener((runtime6, LISTENER_PORT))
        if options.ipv6
        else sockets.datagram_socket(socket.AF_INET)
    )
    made = [
        theirs,
        nfqueue.open_socket(),
        sockets.transparent_listener((runtime4, LISTENER_PORT)),
        six,
        sockets.raw_socket(socket.AF_INET),
        sockets.raw_socket(socket.AF_INET6),
        dns,
        sockets.listener((runtime4, DNS_PORT)),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG),
        destroyed,
    ]
    if options.trace:
        from ..linux.packet_tap import open_tap

        try:
            made.append(open_tap("lo"))
        except OSError:
            pass  # the engine says so; a run without its trace is better than none
    return [sock.fileno() for sock in made], made, mine


def run(control: socket.socket, options: SandboxOptions, gid: int) -> NoReturn:
    """Be the keeper, in a freshly forked process; never returns.

    Reports `b"unshared"`, waits for `b"mapped"`, then reports `b"ready:HOW"` or `b"error:ERRNO:EXITCODE:TEXT"`.
    """
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if _prepare(control, options, gid):
            _serve(control, options)
        status = 0
    finally:
        os._exit(status)


def _prepare(control: socket.socket, options: SandboxOptions, gid: int) -> bool:
    try:
        namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS)
        control.send(b"unshared")
        if control.recv(16) != b"mapped":
            return False
        how = build_network(options)
        _settle_system_parameters(gid, options.ipv6)
        _arrange_files(options.resolv_conf)
        control.send(b"ready:" + how.encode())
    except (DatapathError, OSError) as error:
        code = error.exit_code if isinstance(error, DatapathError) else ExitCode.DATAPATH
        control.send(f"error:{error.errno or 0}:{int(code)}:{error}".encode())
        return False
    return True


def _serve(control: socket.socket, options: SandboxOptions) -> None:
    """Answer requests until the supervisor is gone; then leave nothing behind."""
    poller, stock, packet_rules = select.poll(), None, False
    poller.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == control.fileno():
                if not (request := control.recv(64)):
                    end_processes()
                    return
                if request == b"kit":
                    if stock is not None:
                        poller.unregister(stock)
                        stock.close()
                    stock = _send_kit(control, options)
                    poller.register(stock, select.POLLIN)
                    break  # what else was ready may be the old stock, whose number the new one has now
                if request == b"packets":
                    packet_rules = _send_packet_queue(control, options, packet_rules)
            elif stock is not None and not _send_stock(stock):
                poller.unregister(stock)
                stock.close()
                stock = None


def _send_kit(control: socket.socket, options: SandboxOptions) -> socket.socket:
    descriptors, made, mine = _make_kit(options)
    send_descriptors(control, b"kit", descriptors)
    for sock in made:
        sock.close()
    return mine


def _send_packet_queue(control: socket.socket, options: SandboxOptions, has_rules: bool) -> bool:
    """Put the packet queue's rules in place, once, and send a socket for it; whether the rules are there."""
    try:
        if not has_rules:
            ruleset.install_packet_queue(INTERFACE, *PROGRAM_ADDRESSES, bypass=options.overflow_open)
        with nfqueue.open_socket() as queue:
            send_descriptors(control, b"packets", [queue.fileno()])
    except (DatapathError, OSError) as error:
        control.send(str(error).encode())
        return has_rules
    return True


def _send_stock(stock: socket.socket) -> bool:
    """Send the sockets that an engine asked for; False when the engine is gone."""
    try:
        request = stock.recv(1)
        if not request:
            return False
        made = [sockets.transparent_datagram_socket(request[0], INTERFACE) for _ in range(STOCK)]
        send_descriptors(stock, request, [sock.fileno() for sock in made])
    except OSError:
        return False
    for sock in made:
        sock.close()
    return True


def processes_inside(namespace: str, besides: tuple[int, ...] = ()) -> list[int]:
    """The processes whose network namespace is the one that `namespace` (a link like `net:[4026532281]`) names."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in besides:
            try:
                if os.readlink(f"/proc/{name}/ns/net") == namespace:
                    found.append(int(name))
            except OSError:
                continue
    return found


def end_processes() -> None:
    """Kill all that still runs in our namespaces, until a look finds nothing (a fork may race with the first)."""
    namespace = os.readlink("/proc/self/ns/net")
    for _ in range(50):
        left = processes_inside(namespace, (os.getpid(),))
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        select.select([], [], [], 0.01)


def take_kit(control: socket.socket) -> Kit:
    """Ask the keeper for the sockets of a new engine."""
    control.send(b"kit")
    data, descriptors = receive_descriptors(control)
    if data != b"kit":
        raise DatapathError("the sandbox's keeper has died; next step: run the command again", object="keeper")
    return Kit(*descriptors)


def take_packet_queue(control: socket.socket) -> int:
    """Ask the keeper for a socket of the packet queue. Raises DatapathError."""
    control.send(b"packets")
    data, descriptors = receive_descriptors(control)
    if data != b"packets":
        why = data.decode(errors="replace") or "the sandbox's keeper has died"
        raise DatapathError(f"no packets can be shown to packet filters: {why}", exit_code=ExitCode.UNAVAILABLE)
    return descriptors[0]
