"""The sandbox's name server: forwards queries to the host's resolvers, and remembers what the answers said.

It stands at one address inside the sandbox, for UDP and TCP. Messages are passed on as they are; only answers are read,
so that the engine knows which name a program asked for before it connects to an address.

Each UDP query has a socket of its own towards the upstream (a fresh source port, RFC 5452 section 9.2). When a server
does not answer within `RETRY_AFTER` seconds, or cannot be reached, the next one is asked too; the first answer wins.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..core.dns_messages import DnsMessageError, error_reply, parse_answers
from ..linux.pipes import PipePool
from ..linux.reactor import EDGE, READ, WRITE, Reactor, Timer
from ..linux.sockets import Address, family_of
from ..linux.splice import Relay

if TYPE_CHECKING:
    from ..core.host_names import HostNames

RETRY_AFTER, GIVE_UP_AFTER = 1.5, 8.0
MOST_QUERIES = 1024
DNS_PORT = 53
SERVFAIL = 2  # RFC 1035 section 4.1.1
_TRY_ANOTHER = (2, 4, 5)  # SERVFAIL, NOTIMP, REFUSED: what makes a resolver ask its next server (resolv.conf(5))
_MOST_TCP_BUFFER = 1 << 17


class _Query:
    """One UDP query on its way."""

    __slots__ = ("client", "data", "last_resort", "service", "sockets", "timer", "tried")

    def __init__(self, service: DNSService, client: tuple[str, int], data: bytes) -> None:
        self.service, self.client, self.data = service, client, data
        self.sockets: list[socket.socket] = []
        self.timer: Timer | None = None
        self.tried = 0
        self.last_resort = b""

    def ask_next(self) -> None:
        """Ask one more server; without one left, wait for those that were asked."""
        servers = self.service.servers
        while self.tried < len(servers):
            server = servers[self.tried]
            self.tried += 1
            try:
                self._ask(server)
            except OSError:
                continue
            break
        if not self.sockets:
            self._fail()
            return
        if self.timer is not None:
            self.timer.cancel()
        is_last = self.tried >= len(servers)
        call = self._fail if is_last else self.ask_next
        self.timer = self.service.reactor.call_later(GIVE_UP_AFTER if is_last else RETRY_AFTER, call)

    def _ask(self, server: Address) -> None:
        sock = socket.socket(family_of(server[0]), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(server)
            sock.send(self.data)
        except OSError:
            sock.close()
            raise
        self.sockets.append(sock)
        self.service.reactor.register(sock.fileno(), READ, partial(self._answer, sock))

    def _answer(self, sock: socket.socket, events: int) -> None:
        try:
            data = sock.recv(65535)
        except BlockingIOError:
            return
        except OSError:  # refused: nobody listens there
            self._failed(sock)
            return
        if data[:2] != self.data[:2] or len(data) < 4:
            return
        if data[3] & 15 in _TRY_ANOTHER and self.tried < len(self.service.servers):
            self.last_resort = data
            self._failed(sock)
            return
        self.service.learn(data)
        self.service.reply(data, self.client)
        self.close()

    def _failed(self, sock: socket.socket) -> None:
        """This server is of no use: on to the next, if there is one."""
        self.service.reactor.unregister(sock.fileno())
        self.sockets.remove(sock)
        sock.close()
        if self.tried < len(self.service.servers) or not self.sockets:
            self.ask_next()

    def _fail(self) -> None:
        try:
            self.service.reply(self.last_resort or error_reply(self.data, SERVFAIL), self.client)
        except DnsMessageError:
            pass  # not even a header: there is nothing to answer
        self.close()

    def close(self) -> None:
        """Forget the query."""
        if self.timer is not None:
            self.timer.cancel()
        for sock in self.sockets:
            self.service.reactor.unregister(sock.fileno())
            sock.close()
        self.sockets.clear()
        self.service.done(self)


class DNSService:
    """Serves the sandbox's two DNS sockets from `servers`, the first first. `names` learns what the answers say."""

    def __init__(
        self,
        reactor: Reactor,
        udp: socket.socket,
        tcp: socket.socket,
        servers: Sequence[Address],
        names: HostNames,
    ) -> None:
        self.reactor, self.servers, self._names = reactor, servers, names
        self._udp, self._tcp, self._pool = udp, tcp, PipePool()
        self._queries: set[_Query] = set()
        self.queries = 0
        reactor.register(udp.fileno(), READ, self._received)
        reactor.register(tcp.fileno(), READ, self._accept)

    def _received(self, events: int) -> None:
        for _ in range(64):
            try:
                data, client = self._udp.recvfrom(65535)
            except BlockingIOError:
                return
            self.queries += 1
            if len(self._queries) < MOST_QUERIES:  # else the client asks again
                query = _Query(self, client, data)
                self._queries.add(query)
                query.ask_next()

    def learn(self, data: bytes) -> None:
        """Remember the addresses of an answer."""
        try:
            self._names.learn(parse_answers(data), self.reactor.clock())
        except DnsMessageError:
            pass  # it goes to the program as it came; only its name stays unknown

    def reply(self, data: bytes, client: tuple[str, int]) -> None:
        """Send an answer to the program."""
        try:
            self._udp.sendto(data, client)
        except OSError:
            pass

    def done(self, query: _Query) -> None:
        """The query is over."""
        self._queries.discard(query)

    def _accept(self, events: int) -> None:
        try:
            program, _ = self._tcp.accept()
        except BlockingIOError:
            return
        except OSError:  # out of descriptors: leave the connection in the backlog for a moment, without spinning
            self.reactor.modify(self._tcp.fileno(), 0)
            self.reactor.call_later(0.1, lambda: self.reactor.modify(self._tcp.fileno(), READ))
            return
        program.setblocking(False)
        self._connect(program, 0)

    def _connect(self, program: socket.socket, index: int) -> None:
        """Join a program's connection with the first server, from the one at `index` on, that takes it."""
        for position, server in enumerate(self.servers[index:], index):
            try:
                remote = socket.socket(family_of(server[0]), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            except OSError:
                break
            if remote.connect_ex(server) in (0, errno.EINPROGRESS):
                handler = partial(self._connected, program, remote, position)
                self.reactor.register(remote.fileno(), WRITE | EDGE, handler)
                return
            remote.close()
        program.close()

    def _connected(self, program: socket.socket, remote: socket.socket, position: int, events: int) -> None:
        if remote.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.reactor.unregister(remote.fileno())
            remote.close()
            self._connect(program, position + 1)
            return
        tap = _AnswerReader(self.learn)
        Relay(self.reactor, self._pool, program, remote, lambda relay, error: None, tap).start(False, True)

    def close(self) -> None:
        """Drop all queries."""
        for query in list(self._queries):
            query.close()


class _AnswerReader:
    """Finds the messages in a TCP stream of answers (two bytes of length before each, RFC 1035 section 4.2.2)."""

    __slots__ = ("_data", "_learn")

    def __init__(self, learn: Callable[[bytes], None]) -> None:
        self._learn, self._data = learn, b""

    def __call__(self, outbound: bool, data: bytes) -> None:
        if outbound or len(self._data) > _MOST_TCP_BUFFER:
            return
        self._data += data
        while len(self._data) >= 2 and len(self._data) >= 2 + int.from_bytes(self._data[:2], "big"):
            end = 2 + int.from_bytes(self._data[:2], "big")
            message, self._data = self._data[2:end], self._data[end:]
            self._learn(message)
