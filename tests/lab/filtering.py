"""A content filter at its smallest: the rules in a lab's host, and a thread that answers their queue."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from network_extension.core.packets import FlowKey, PacketHead, parse_head
from network_extension.linux import nfqueue
from network_extension.linux.conntrack import Connection, ConntrackTable
from network_extension.linux.filter_ruleset import FilterRuleset, FilterRulesetOptions, FlowMark
from network_extension.linux.nfqueue import HeldPacket, Queue
from tests.netlab import FAR4, FAR6, NEAR4, NEAR6, Host, NetLab

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
Decide = Callable[[HeldPacket, PacketHead], FlowMark | None]
"""The state that a flow gets with this packet; None: the packet waits for ever."""


def always(state: FlowMark) -> Decide:
    """The same state for each flow, with its first packet; later packets pass as they are."""

    def decide(packet: HeldPacket, head: PacketHead) -> FlowMark:
        return state

    return decide


class Filtering:
    """Rules in `host`, with a thread that decides."""

    def __init__(self, lab: NetLab, decide: Decide, host: Host | None = None, **options: Any) -> None:
        self.decide, self.asked = decide, list[tuple[HeldPacket, PacketHead]]()
        self.host = host or lab.near
        self.ruleset = FilterRuleset(FilterRulesetOptions(**options), lab.in_host(self.host, nfqueue.open_socket))
        self.queues = [self._queue(lab, number) for number in self._numbers()]
        self.shown: dict[int, list[bytes]] = {queue.number: [] for queue in self.queues}
        self._ended, self._wake = False, socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="filtering")
        self._thread.start()
        try:
            self.ruleset.install()
        except BaseException:
            self.close()
            raise

    def _numbers(self) -> list[int]:
        options = self.ruleset.options
        return [n for n in (options.queue, options.packet_queue, options.dns_queue) if n is not None]

    def _queue(self, lab: NetLab, number: int) -> Queue:
        return Queue(lab.in_host(self.host, nfqueue.open_socket), number, copy_range=65535)

    def _run(self) -> None:
        while not self._ended:
            waiting = [queue.fileno() for queue in self.queues]
            ready = select.select([*waiting, self._wake[0].fileno()], [], [])[0]
            for queue in [queue for queue in self.queues if queue.fileno() in ready]:
                self._answer(queue)

    def _answer(self, queue: Queue) -> None:
        for packet in queue.receive():
            self.shown[queue.number].append(packet.payload)
            if queue.number != self.ruleset.options.queue:
                queue.decide(packet.id, nfqueue.ACCEPT)
                continue
            head = parse_head(packet.payload)
            self.asked.append((packet, head))
            if (state := self.decide(packet, head)) is not None:
                queue.decide(packet.id, *self.ruleset.verdict(packet.mark, state))
        queue.flush()

    @property
    def keys(self) -> list[FlowKey]:
        """The five values of each packet that was asked about."""
        return [head.key for _, head in self.asked]

    def stop_answering(self) -> None:
        """Close the queues, as a death does."""
        self._ended = True
        self._wake[1].send(b"x")
        self._thread.join(10)
        for queue in self.queues:
            queue.close()
        for end in self._wake:
            end.close()

    def close(self) -> None:
        """Take the rules away."""
        self.ruleset.close()
        self.stop_answering()


@contextmanager
def filtering(lab: NetLab, decide: Decide | FlowMark, **options: Any) -> Iterator[Filtering]:
    """Filter `near` meanwhile."""
    running = Filtering(lab, always(decide) if isinstance(decide, FlowMark) else decide, **options)
    try:
        yield running
    finally:
        running.close()


def make(lab: NetLab, host: Host, family: int = socket.AF_INET, kind: int = TCP) -> socket.socket:
    """A socket in a host."""
    sock: socket.socket = lab.in_host(host, lambda: socket.socket(family, kind))
    sock.settimeout(5)
    return sock


def address(host: Host, lab: NetLab, family: int) -> str:
    """Where a host is."""
    ends = (NEAR4, NEAR6) if host is lab.near else (FAR4, FAR6)
    return ends[family == socket.AF_INET6]


@contextmanager
def server(lab: NetLab, host: Host, family: int = socket.AF_INET, kind: int = TCP) -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets; where it is."""
    listener = make(lab, host, family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address(host, lab, family), 0))
    listener.settimeout(None)
    where = listener.getsockname()[:2]
    if kind == TCP:
        listener.listen(64)
    ends = socket.socketpair()
    thread = threading.Thread(target=_serve, args=(listener, ends[1]), name="server")
    thread.start()
    try:
        yield where
    finally:
        ends[0].close()
        thread.join(10)
        ends[1].close()


def _serve(listener: socket.socket, ended: socket.socket) -> None:
    """Send everything back, until `ended` is at its end."""
    sockets = [listener]
    while True:
        ready = select.select([ended, *sockets], [], [])[0]
        if ended in ready:
            break
        for sock in ready:
            if sock is listener and listener.type == TCP:
                sockets.append(listener.accept()[0])
            elif not _echo(sock):
                sockets.remove(sock)
                sock.close()
    for sock in sockets:
        sock.close()


def _echo(sock: socket.socket) -> bool:
    try:
        data, peer = sock.recvfrom(65536)
        if sock.type == TCP:
            sock.sendall(data)
        else:
            sock.sendto(data, peer)
    except OSError:
        return sock.type == UDP
    return bool(data) or sock.type == UDP


def exchange(sock: socket.socket, count: int = 3, size: int = 100) -> None:
    """Send and get back some bytes."""
    for _ in range(count):
        sock.sendall(bytes(size))
        got = 0
        while got < size:
            piece = len(sock.recv(65536))
            assert piece, "the connection was ended"
            got += piece


def connection(lab: NetLab, host: Host, key: FlowKey) -> Connection | None:
    """What conntrack of a host knows of a flow."""
    with lab.in_host(host, nfqueue.open_socket) as sock:
        return ConntrackTable(sock).find(key)


def key_of(sock: socket.socket) -> FlowKey:
    """The five values of a connected socket, from its side."""
    (source, sport), (destination, dport) = sock.getsockname()[:2], sock.getpeername()[:2]
    protocol = socket.IPPROTO_TCP if sock.type == TCP else socket.IPPROTO_UDP
    pack = socket.inet_pton
    return protocol, pack(sock.family, source), sport, pack(sock.family, destination), dport


def nft(host: Host, *arguments: str, text: str | None = None) -> str:
    """What nft says in a host; its failure is the test's."""
    options: dict[str, Any] = {"input": text, "stdin": None} if text is not None else {}
    done = host.run("nft", *arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout
