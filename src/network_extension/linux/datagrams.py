"""Moves the datagrams of one program's UDP socket between the sandbox and the host's network, both ways.

    program ⇄ [program-side socket of peer A] ─┐
    program ⇄ [program-side socket of peer B] ─┴─ remote: one socket, one port, any number of peers

For each peer there is a socket in the sandbox that is bound to the peer's address and connected to the program's; on
the host's side there is one socket for all, so that all peers see the program come from one address and port, as they
would without us (RFC 4787 REQ-1).

`remote` is connected as long as it has one peer. A connected socket hears ICMP errors and caches its route, but takes
nothing from other addresses, as a program's own connected socket would not. The second peer ends that.

Descriptors are level-triggered and wait for READ alone. Waiting for WRITE costs a wake-up for every packet that leaves
(sock_def_write_space() wakes epoll each time an skb is freed), so it is asked for only while a socket is full. What was
received by then is kept, and the source is not read until it is gone: the sender's datagrams wait in the source's
buffer, and whatever exceeds that the kernel drops, as any full socket does.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from . import datagram_errors
from .datagram_batch import SLOTS, Batch, Outlet, join_datagrams
from .reactor import ERROR, READ, WRITE, Reactor, Timer
from .socket_address import connect_to, identity, leave_peer, pack, send_to, unpack
from .sockets import Address

ROUNDS = 4  # batches that one socket may move before others get their turn
TURN = 1 << 20  # bytes that it may
KEEP_UNCLAIMED = 16
ERRORS_IN_A_TURN = 16
RETRY_DELAY, RETRIES = 0.001, 50
# Errors of reading that mean the descriptor itself. All others are an earlier datagram's, told late.
_BROKEN = (errno.EBADF, errno.ENOTSOCK, errno.EFAULT)
_FULL = (errno.EAGAIN, errno.ENOBUFS)

_batch: Batch | None = None


def _shared_batch() -> Batch:
    """The one batch of this process, made when the first datagram needs it."""
    global _batch
    if _batch is None:
        _batch = Batch()
    return _batch


if TYPE_CHECKING:
    from typing import Protocol

    class Gate(Protocol):
        """What holds one direction of one peer: datagrams are given to it, and it sends on those that may go."""

        send: Callable[[bytes], None]
        """Set by the relay: takes one datagram."""

        @property
        def is_open(self) -> bool:
            """Nothing waits, and nothing will be held."""

        def arrive(self, datagram: bytes) -> None:
            """The next datagram."""


class _Way:
    """One direction of one peer: where its datagrams leave, and those that could not yet."""

    __slots__ = ("gate", "held", "moved", "outlet", "peer", "stalls")

    def __init__(self, peer: _Peer, outlet: Outlet) -> None:
        self.peer, self.outlet = peer, outlet
        self.held: deque[bytes] = deque()
        self.gate: Gate | None = None
        self.stalls = self.moved = 0


class _Peer:
    """One far end that the program talks to."""

    __slots__ = ("address", "fd", "interest", "program", "relay", "target", "to_program", "to_remote")

    def __init__(self, relay: DatagramRelay, address: Address, target: bytes, program: socket.socket) -> None:
        self.relay, self.address, self.target, self.program = relay, address, target, program
        self.fd, self.interest = program.fileno(), READ
        self.to_remote = _Way(self, Outlet(relay.remote.fileno()))
        self.to_program = _Way(self, Outlet(self.fd))

    def ready(self, events: int) -> None:
        """Called by the reactor."""
        self.relay._program_event(self, events)


Done = Callable[["DatagramRelay", OSError | None], None]
OnActivity = Callable[["DatagramRelay"], None]
OnNewPeer = Callable[["DatagramRelay", Address], None]
OnError = Callable[["DatagramRelay", Address, int], None]


class DatagramRelay:
    """The datagrams of one program socket. Owns `remote` and every program-side socket that it was given.

    `remote` is a bound UDP socket. If it is connected already, the datagrams to `first_peer` go to where it is
    connected (a provider sends the flow elsewhere); else it is connected to `first_peer`, unless `connect` is false:
    then it takes datagrams from anybody from the start. The constructor raises OSError when there is no way to the
    peer; `remote` stays the caller's then.

    `done(relay, error)` is called once, after everything is closed, if `remote` broke for good; never after `close`.
    `on_new_peer(relay, address)` tells of a datagram from an address that is no peer; up to 16 such datagrams are kept
    until `add_peer`. `on_error(relay, address, errno)` tells what an ICMP message or the kernel said of datagrams to a
    peer; the relay lives on. With EMSGSIZE, `path_mtu` is the path's MTU in bytes, or 0 if that is not known.
    `on_activity(relay)` is called after each turn that moved something.
    """

    __slots__ = (
        "_blocked_in",
        "_blocked_out",
        "_by_identity",
        "_connected",
        "_done",
        "_fd",
        "_first",
        "_interest",
        "_on_activity",
        "_on_error",
        "_on_new_peer",
        "_peers",
        "_reactor",
        "_resting",
        "_timer",
        "_unclaimed",
        "closed",
        "datagrams_received",
        "datagrams_sent",
        "last_activity",
        "lost",
        "path_mtu",
        "received",
        "remote",
        "sent",
    )

    def __init__(
        self,
        reactor: Reactor,
        remote: socket.socket,
        first_peer: Address,
        done: Done,
        on_activity: OnActivity | None = None,
        on_new_peer: OnNewPeer | None = None,
        on_error: OnError | None = None,
        *,
        connect: bool = True,
    ) -> None:
        self._reactor, self.remote, self._done = reactor, remote, done
        self._on_activity, self._on_new_peer, self._on_error = on_activity, on_new_peer, on_error
        self._fd, self._interest = remote.fileno(), READ
        self._peers: dict[Address, _Peer] = {}
        self._by_identity: dict[bytes, _Peer] = {}
        self._blocked_in: dict[_Way, None] = {}
        self._blocked_out: dict[_Way, None] = {}
        self._resting: list[_Peer] = []
        self._unclaimed: deque[tuple[bytes, bytes]] = deque()
        self._timer: Timer | None = None
        self.sent = self.received = 0
        """Bytes from and to the program, without headers."""
        self.datagrams_sent = self.datagrams_received = 0
        self.lost = 0
        """Datagrams that were received and could not be passed on."""
        self.path_mtu, self.closed = 0, False
        self.last_activity = reactor.clock()
        remote.setblocking(False)
        datagram_errors.report_errors(remote)
        join_datagrams(remote)
        self._first, self._connected = self._connect(first_peer, connect)
        reactor.register(self._fd, READ, self._remote_event)

    @property
    def peers(self) -> tuple[Address, ...]:
        """The addresses that datagrams travel to and from, oldest first."""
        return tuple(self._peers)

    def add_peer(self, address: Address, program_side: socket.socket) -> None:
        """Move datagrams between `address` and `program_side` too; both then belong together until the end.

        Raises OSError when `address` is not of the remote socket's family; the socket stays the caller's then.
        """
        first, target = self._first
        if address != first:
            target = pack(address, self.remote.family)
            if self._connected:
                self._disconnect()
        program_side.setblocking(False)
        join_datagrams(program_side)
        self.remove_peer(address)
        peer = _Peer(self, address, target, program_side)
        if not self._connected:
            peer.to_remote.outlet.name = target
        self._peers[address] = self._by_identity[identity(target)] = peer
        self._reactor.register(peer.fd, READ, peer.ready)
        if self._unclaimed:
            self._claim(peer)

    def remove_peer(self, address: Address) -> None:
        """Close the program-side socket of a peer, if there is one; what waits in it is lost."""
        peer = self._peers.pop(address, None)
        if peer is not None:
            self._by_identity.pop(identity(peer.target), None)
            self._reactor.unregister(peer.fd)
            peer.program.close()
            self._blocked_in.pop(peer.to_program, None)
            self._blocked_out.pop(peer.to_remote, None)
            if peer in self._resting:
                self._resting.remove(peer)
            self._update()

    def hold(self, address: Address, to_remote: Gate, to_program: Gate) -> None:
        """Give the datagrams of a peer to gates, each direction until its gate is open."""
        if (peer := self._peers.get(address)) is not None:
            for way, gate in ((peer.to_remote, to_remote), (peer.to_program, to_program)):
                way.gate = None if gate.is_open else gate
                gate.send = partial(self._send_on, way)

    def send_on(self, address: Address, datagram: bytes) -> None:
        """Send a datagram to a peer, that was read from the program elsewhere."""
        if (peer := self._peers.get(address)) is not None:
            self._send_on(peer.to_remote, datagram)

    def counts(self, address: Address) -> tuple[int, int]:
        """Bytes to and from the program in the conversation with one peer."""
        peer = self._peers.get(address)
        return (peer.to_program.moved, peer.to_remote.moved) if peer is not None else (0, 0)

    def _send_on(self, way: _Way, datagram: bytes) -> None:
        """What a gate lets through."""
        if self.closed or self._peers.get(way.peer.address) is not way.peer:
            return
        way.held.append(datagram)
        if way not in self._blocked_in and way not in self._blocked_out:
            self._flush(way)
            self._update()
            self._wait(way.peer)

    def close(self) -> None:
        """Close all sockets and forget them, without calling `done`."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for descriptor, sock in [(self._fd, self.remote), *((peer.fd, peer.program) for peer in self._peers.values())]:
            self._reactor.unregister(descriptor)
            sock.close()
        for kept in (
            self._peers,
            self._by_identity,
            self._blocked_in,
            self._blocked_out,
            self._resting,
            self._unclaimed,
        ):
            kept.clear()

    # --- the remote socket's peer

    def _connect(self, first_peer: Address, connect: bool) -> tuple[tuple[Address, bytes], bool]:
        """Connect `remote` if that is wanted; what the first peer is, and whether `remote` is connected."""
        remote = self.remote
        try:
            name = remote.getpeername()
        except OSError:
            target = pack(first_peer, remote.family)
            if connect:
                connect_to(self._fd, target)
            return (first_peer, target), connect
        return (first_peer, pack((name[0], name[1]), remote.family)), True

    def _disconnect(self) -> None:
        """Take datagrams from everybody, at the same port."""
        leave_peer(self.remote)
        self._connected = False
        for peer in self._peers.values():
            peer.to_remote.outlet.name = peer.target

    # --- events

    def _program_event(self, peer: _Peer, events: int) -> None:
        if events & ERROR:
            # ECONNREFUSED: the program has closed its socket. `sock_diag.DestroyEvents` tells; here it is only cleared.
            peer.program.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if events & WRITE:
            self._flush(peer.to_program)
        if events & READ:
            if self._blocked_out:
                self._resting.append(peer)
            else:
                self._outbound(peer)
        self._update()
        self._wait(peer)

    def _remote_event(self, events: int) -> None:
        if events & ERROR:
            self._collect_errors()
        if events & WRITE:
            self._flush_blocked(self._blocked_out, False)
        if events & READ and not self._blocked_in:
            self._inbound()
        self._update()

    def _outbound(self, peer: _Peer) -> None:
        """Move what the program has sent to a peer."""
        batch, limit = _shared_batch(), self.sent + TURN
        for _ in range(ROUNDS):
            try:
                count = batch.receive(peer.fd)
            except OSError:  # an earlier datagram's; being told has cleared it
                continue
            if not self._push(batch, peer.to_remote, 0, count) or count < SLOTS or self.sent > limit:
                break
        self._active()

    def _inbound(self) -> None:
        """Move what peers have sent to the program."""
        batch, limit = _shared_batch(), self.received + TURN
        for _ in range(ROUNDS):
            try:
                count = batch.receive(self._fd) if self._connected else batch.receive_named(self._fd)
            except OSError as error:
                if error.errno in _BROKEN:
                    self._fail(error)
                    return
                self._collect_errors()
                continue
            if count:
                self._deliver(batch, count)
            if self._blocked_in or count < SLOTS or self.received > limit:
                break
        self._active()

    def _deliver(self, batch: Batch, count: int) -> None:
        """Give each peer's program-side socket what came from that peer."""
        for name, start, stop in [(self._first[1], 0, count)] if self._connected else batch.runs():
            peer = self._by_identity.get(identity(name))
            if peer is not None:
                self._push(batch, peer.to_program, start, stop)
            else:
                self._keep_unclaimed(name, batch.datagrams(start, stop))

    def _active(self) -> None:
        self.last_activity = self._reactor.clock()
        if self._on_activity is not None:
            self._on_activity(self)

    # --- sending

    def _push(self, batch: Batch, way: _Way, start: int, stop: int) -> bool:
        """Send messages of the batch; what cannot go yet is kept. False when the way is blocked."""
        retried = False
        if way.gate is not None:
            if not way.gate.is_open:
                for datagram in batch.datagrams(start, stop):
                    way.gate.arrive(datagram)
                return True
            way.gate = None
        while start < stop:
            if way.held:  # behind what waits already
                way.held.extend(batch.datagrams(start, stop))
                return False
            try:
                sent = batch.send(way.outlet, start, stop)
            except OSError as error:
                number = error.errno or 0
                if number in _FULL:
                    way.held.extend(batch.datagrams(start, stop))
                    self._block(way, number)
                    return False
                lost = 0 if self._forgive(way, number, retried) else 1 if number == errno.EMSGSIZE else stop - start
                retried = True
                self.lost += lost
                start += lost
                continue
            if sent > start:
                self._count(way, *batch.size(start, sent))
                start = sent
            else:  # the kernel joined these datagrams, and will not cut them again for this path
                way.held.extend(batch.datagrams(start, start + 1))
                start += 1
                self._flush(way)
        return True

    def _flush(self, way: _Way) -> None:
        """Send one by one what was kept."""
        retried, outlet, held = False, way.outlet, way.held
        while held:
            try:
                send_to(outlet.descriptor, held[0], outlet.name)
            except OSError as error:
                number = error.errno or 0
                if number in _FULL:
                    if way.stalls < RETRIES:
                        self._block(way, number)
                        return
                    self.lost += len(held)
                    held.clear()
                    break
                if self._forgive(way, number, retried):
                    retried = True
                    continue
                self.lost += 1
            else:
                self._count(way, 1, len(held[0]))
                way.stalls, retried = 0, False
            held.popleft()
        way.stalls = 0
        self._unblock(way)

    def _forgive(self, way: _Way, number: int, retried: bool) -> bool:
        """Whether to try again after an error: the first may be an earlier datagram's, told late.

        What is about to be lost is reported, unless it is on its way to the program: whose socket is closed then, and
        `sock_diag.DestroyEvents` tells that.
        """
        outbound = way is way.peer.to_remote
        if outbound:
            self._collect_errors()
        if not retried and number != errno.EMSGSIZE:
            return True
        if outbound:
            self._report(way.peer.address, number)
        return False

    def _count(self, way: _Way, datagrams: int, size: int) -> None:
        way.moved += size
        if way is way.peer.to_remote:
            self.datagrams_sent += datagrams
            self.sent += size
        else:
            self.datagrams_received += datagrams
            self.received += size

    # --- full sockets

    def _block(self, way: _Way, number: int) -> None:
        """Let a way's source rest. ENOBUFS is a full queue of the device (with IP_RECVERR it is told, and the packet is
        gone): no event says when there is room, so it is tried again soon, for a while.
        """
        blocked = self._blocked_out if way is way.peer.to_remote else self._blocked_in
        blocked[way] = None
        way.stalls = 0 if number == errno.EAGAIN else way.stalls + 1
        if way.stalls and self._timer is None:
            self._timer = self._reactor.call_later(RETRY_DELAY, self._retry)
        self._wait(way.peer)

    def _unblock(self, way: _Way) -> None:
        self._blocked_out.pop(way, None)
        if way in self._blocked_in:
            del self._blocked_in[way]
            self._wait(way.peer)

    def _flush_blocked(self, blocked: dict[_Way, None], stalled: bool) -> None:
        for way in list(blocked):
            if bool(way.stalls) == stalled:
                self._flush(way)

    def _retry(self) -> None:
        self._timer = None
        if not self.closed:
            self._flush_blocked(self._blocked_out, True)
            self._flush_blocked(self._blocked_in, True)
            self._update()

    def _update(self) -> None:
        """Wait for what can be done now, and for nothing else."""
        if self.closed:
            return
        wanted = 0 if self._blocked_in else READ
        if self._blocked_out:
            if not all(way.stalls for way in self._blocked_out):
                wanted |= WRITE
        elif self._resting:
            resting, self._resting = self._resting, []
            for peer in resting:
                self._wait(peer)
        if wanted != self._interest:
            self._interest = wanted
            self._reactor.modify(self._fd, wanted)

    def _wait(self, peer: _Peer) -> None:
        """Wait for a program-side socket as its state demands."""
        if self.closed or self._peers.get(peer.address) is not peer:
            return  # a callback has closed it
        wanted = 0 if peer in self._resting else READ
        if peer.to_program in self._blocked_in and not peer.to_program.stalls:
            wanted |= WRITE
        if wanted != peer.interest:
            peer.interest = wanted
            self._reactor.modify(peer.fd, wanted)

    # --- what is told

    def _collect_errors(self) -> None:
        """Read the error queue and report each peer's errors once."""
        told: dict[tuple[Address, int], None] = {}
        for error, name, _ in datagram_errors.queued(self.remote, ERRORS_IN_A_TURN):
            self.path_mtu = error.mtu or self.path_mtu
            peer = self._by_identity.get(identity(pack(name, self.remote.family)))
            if peer is not None and error.origin != datagram_errors.ORIGIN_LOCAL:  # those, sending has told already
                told[peer.address, error.errno] = None
        self.remote.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # reading the queue leaves some pending errors set
        for address, number in told:
            self._report(address, number)

    def _report(self, address: Address, number: int) -> None:
        """Call `on_error` soon: it may close this relay, which must not happen amid a batch."""
        if (on_error := self._on_error) is not None:
            self._reactor.call_soon(lambda: None if self.closed else on_error(self, address, number))

    def _keep_unclaimed(self, name: bytes, datagrams: list[bytes]) -> None:
        """Keep datagrams from an address that is no peer, and tell of it; the oldest make room."""
        if (on_new_peer := self._on_new_peer) is None or self._connected:
            self.lost += len(datagrams)
            return
        key, address = identity(name), unpack(name)
        if all(known != key for known, _ in self._unclaimed):
            self._reactor.call_soon(lambda: None if self.closed else on_new_peer(self, address))
        self._unclaimed.extend((key, datagram) for datagram in datagrams)
        while len(self._unclaimed) > KEEP_UNCLAIMED:
            self._unclaimed.popleft()
            self.lost += 1

    def _claim(self, peer: _Peer) -> None:
        """Deliver what came from a new peer before it was one."""
        key = identity(peer.target)
        peer.to_program.held.extend(datagram for known, datagram in self._unclaimed if known == key)
        self._unclaimed = deque(entry for entry in self._unclaimed if entry[0] != key)
        self._flush(peer.to_program)
        self._update()

    def _fail(self, error: OSError) -> None:
        self.close()
        self._done(self, error)
