"""Load generators and servers, run inside the lab's hosts: `load.py WHAT ARGUMENTS…`. Results are JSON on stdout.

    echo PORT                     server: tells each client by which address it is seen, then echoes
    ping HOST PORT COUNT          client: COUNT round trips of 64 bytes on one connection
    hold HOST PORT COUNT          client: COUNT connections that stay open, until standard input ends
    connect HOST PORT COUNT       client: COUNT connections, one after the other
    hello HOST PORT COUNT         client: the same, each with a TLS ClientHello that the server has to answer
    send HOST PORT RATE SECONDS   client: datagrams of 1,200 bytes, RATE per second
    count PORT                    server: counts datagrams until standard input ends
    time COUNT COMMAND…           how long a command takes, COUNT times

Standard library only, no part of network_extension: what measures must not be what is measured.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

PING = 64
GREETING = 64
DATAGRAM = 1200
BATCH = 16
TICK = 0.0005  # seconds between bursts of the paced sender
BUFFER = 4 << 20


def echo(port: str) -> None:
    """Greet each client with the address that it is seen from, 64 bytes, then send back what comes."""
    listener = socket.create_server(("", int(port)), backlog=4096)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                _welcome(listener, selector)
            else:
                _answer(key.data, selector)


def _welcome(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    while True:
        try:
            client, address = listener.accept()
        except BlockingIOError:
            return
        client.setblocking(False)
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.send(address[0].encode().ljust(GREETING))
        except OSError:  # it has gone already
            client.close()
            continue
        selector.register(client, selectors.EVENT_READ, client)


def _answer(client: socket.socket, selector: selectors.BaseSelector) -> None:
    try:
        data = client.recv(65536)
        if data:
            client.send(data)
            return
    except OSError:
        pass
    selector.unregister(client)
    client.close()


def _receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError("the server has closed")
        data += part
    return data


def ping(host: str, port: str, count: str) -> None:
    """Round trips of 64 bytes, one after the other, in nanoseconds."""
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seen = _receive(sock, GREETING).decode().strip()
        payload, clock, times = b"x" * PING, time.perf_counter_ns, []
        for _ in range(int(count) + 100):
            start = clock()
            sock.send(payload)
            got = len(sock.recv(PING))
            while got < PING:
                got += len(sock.recv(PING - got))
            times.append(clock() - start)
        local = sock.getsockname()[0]
    times = sorted(times[100:])  # the first find caches cold
    quantiles = {name: times[min(len(times) - 1, int(len(times) * share))] for name, share in _SHARES.items()}
    print(json.dumps(quantiles | {"seen": seen, "local": local, "bytes": PING * (int(count) + 100)}))


_SHARES = {"p50": 0.5, "p99": 0.99}


def connect(host: str, port: str, count: str, hello: bytes = b"") -> None:
    """Connections one after the other: how long each connect() took in nanoseconds, and how many a second went.

    They end by reset, or the ports would be used up after 28,000.
    """
    address, times, clock = (host, int(port)), [], time.perf_counter_ns
    reset = struct.pack("ii", 1, 0)
    begin = clock()
    for _ in range(int(count)):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            start = clock()
            sock.connect(address)
            times.append(clock() - start)
            if hello:
                sock.send(hello)
                _receive(sock, GREETING + len(hello))
    seconds = (clock() - begin) / 1e9
    times.sort()
    quantiles = {name: times[min(len(times) - 1, int(len(times) * share))] for name, share in _SHARES.items()}
    print(json.dumps(quantiles | {"rate": int(count) / seconds, "count": int(count)}))


def connect_with_hello(host: str, port: str, count: str) -> None:
    """As `connect`, with a real ClientHello for server.example on each connection."""
    import ssl

    context, incoming, outgoing = ssl.create_default_context(), ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="server.example")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        connect(host, port, count, outgoing.read())


def hold(host: str, port: str, count: str) -> None:
    """Open connections, say so, keep them until a line comes, then use each of them once."""
    wanted, socks, seen = int(count), [], set()
    start = time.monotonic()
    for begin in range(0, wanted, 200):
        batch = [_begin(host, int(port)) for _ in range(min(200, wanted - begin))]
        for sock in batch:
            sock.setblocking(True)
            sock.settimeout(60)
            seen.add(_receive(sock, GREETING).decode().strip())
        socks += batch
    print(json.dumps({"open": len(socks), "seen": sorted(seen), "seconds": time.monotonic() - start}), flush=True)
    sys.stdin.readline()
    alive = 0
    for sock in socks:
        sock.send(b"y" * PING)
    for sock in socks:
        alive += _receive(sock, PING) == b"y" * PING
    print(json.dumps({"alive": alive, "local": socks[0].getsockname()[0]}), flush=True)


def _begin(host: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((host, port))
    return sock


class _Batch:
    """Datagrams for sendmmsg(2) and recvmmsg(2): `BATCH` of them, each with a buffer of its own."""

    def __init__(self) -> None:
        self.data = bytearray(2048 * BATCH)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.data))
        self._iovecs = (ctypes.c_uint64 * (2 * BATCH))()
        self._headers = (ctypes.c_uint64 * (8 * BATCH))()
        for index in range(BATCH):
            self._iovecs[2 * index], self._iovecs[2 * index + 1] = base + 2048 * index, DATAGRAM
            self._headers[8 * index + 2] = ctypes.addressof(self._iovecs) + 16 * index
            self._headers[8 * index + 3] = 1
        self._libc = ctypes.CDLL(None, use_errno=True)

    def send(self, descriptor: int, count: int) -> int:
        """The number of datagrams that went."""
        return int(self._libc.sendmmsg(descriptor, self._headers, count, 0))

    def receive(self, descriptor: int) -> int:
        """The number of datagrams that came, at least one unless the socket is non-blocking (-1)."""
        return int(self._libc.recvmmsg(descriptor, self._headers, BATCH, 0x40, None))


def send(host: str, port: str, rate: str, seconds: str) -> None:
    """Datagrams at an even rate, in bursts of half a millisecond; behind schedule it catches up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        sock.connect((host, int(port)))
        sock.send(b"begin")  # the first datagram of a flow waits for the provider's decision
        sock.settimeout(20)
        seen = sock.recv(64).decode()
        batch, clock, per_second, total = _Batch(), time.monotonic, float(rate), int(float(rate) * float(seconds))
        descriptor, sent, start = sock.fileno(), 0, time.monotonic()
        sock.setblocking(True)
        while sent < total:
            due = min(total, int((clock() - start + TICK) * per_second))
            while sent < due:
                went = batch.send(descriptor, min(BATCH, due - sent))
                if went <= 0:
                    raise OSError(ctypes.get_errno(), "sendmmsg")
                sent += went
            if (ahead := start + sent / per_second - clock()) > 0:
                select.select([], [], [], ahead)
        took = clock() - start
        local = sock.getsockname()[0]
    print(json.dumps({"sent": sent, "seconds": took, "seen": seen, "local": local}))


def count(port: str) -> None:
    """Answer small datagrams with the sender's address, count large ones; the result comes when stdin ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.bind(("", int(port)))
        batch, got, seen = _Batch(), 0, set()
        print("ready", flush=True)
        _, address = sock.recvfrom(2048)
        sock.sendto(address[0].encode(), address)
        seen.add(address[0])
        sock.connect(address)
        while True:
            readable, _, _ = select.select([sock, sys.stdin], [], [])
            if sock in readable:
                while (number := batch.receive(sock.fileno())) > 0:
                    got += number
            elif sys.stdin in readable:
                break
    print(json.dumps({"received": got, "seen": sorted(seen)}), flush=True)


def time_command(count: str, *command: str) -> None:
    """Milliseconds from the start of a process to its end, each time."""
    times = []
    for _ in range(int(count)):
        start = time.perf_counter()
        # Python ignores SIGPIPE, and pasta does not start with that.
        pid = os.posix_spawnp(command[0], command, os.environ, setsigdef=[signal.SIGPIPE])
        _, status = os.waitpid(pid, 0)
        times.append((time.perf_counter() - start) * 1000)
        if status:
            raise SystemExit(f"{command[0]}: exit status {os.waitstatus_to_exitcode(status)}")
    print(json.dumps(times))


ACTIONS: dict[str, Callable[..., None]] = {
    "echo": echo,
    "ping": ping,
    "connect": connect,
    "hello": connect_with_hello,
    "hold": hold,
    "send": send,
    "count": count,
    "time": time_command,
}

if __name__ == "__main__":
    ACTIONS[sys.argv[1]](*sys.argv[2:])
