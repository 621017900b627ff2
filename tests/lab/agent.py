"""A program that does what a test tells it: it makes sockets, calls their methods and answers with results or errors.

It stands alone (no import of ours), runs natively or behind `netext`, and speaks pickled tuples over its standard input
and output. Each request has a thread of its own, so that a call that blocks holds no other.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

SOCKETS: dict[int, socket.socket] = {}
_numbers = itertools.count(1)
_writing = threading.Lock()
BLOCK = 1 << 18


def keep(sock: socket.socket) -> int:
    """Remember a socket; the handle by which the test names it."""
    number = next(_numbers)
    SOCKETS[number] = sock
    return number


def open_socket(family: int, kind: int, protocol: int = 0, timeout: float = 15.0) -> int:
    sock = socket.socket(family, kind, protocol)
    sock.settimeout(timeout)
    return keep(sock)


def close(handle: int) -> None:
    if handle in SOCKETS:
        SOCKETS.pop(handle).close()


def accept(sock: socket.socket) -> tuple[int, Any]:
    connection, name = sock.accept()
    connection.settimeout(sock.gettimeout())
    return keep(connection), name


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end of file."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """That many bytes."""
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError(f"the stream ended after {data[-100:]!r}")
        data += part
    return data


def send_singly(sock: socket.socket, data: bytes) -> None:
    """One send for each byte."""
    for byte in data:
        sock.send(bytes([byte]))


def send_bytes(sock: socket.socket, size: int) -> str:
    """Send random bytes; their SHA-256."""
    digest, block = hashlib.sha256(), os.urandom(BLOCK)
    for left in range(size, 0, -BLOCK):
        part = block[: min(left, BLOCK)]
        digest.update(part)
        sock.sendall(part)
        block = block[1:] + block[:1]
    return digest.hexdigest()


def receive_bytes(sock: socket.socket, size: int) -> str:
    """Receive that many bytes; their SHA-256."""
    digest, left = hashlib.sha256(), size
    while left:
        part = sock.recv(min(left, BLOCK))
        if not part:
            raise EOFError(f"{left} of {size} bytes are missing")
        digest.update(part)
        left -= len(part)
    return digest.hexdigest()


def send_until_full(sock: socket.socket, patience: float) -> int:
    """Send until nothing was taken for `patience` seconds; the number of bytes that were."""
    total, block = 0, bytes(BLOCK)
    while select.select([], [sock], [], patience)[1]:
        total += sock.send(block, socket.MSG_DONTWAIT)
    return total


def ask_many(sock: socket.socket, count: int, size: int) -> int:
    """Send small requests one after the other to a server that echoes; how many answers were right."""
    right = 0
    for number in range(count):
        question = number.to_bytes(4, "big") * (size // 4)
        sock.sendall(question)
        answer = b""
        while len(answer) < len(question) and (part := sock.recv(len(question) - len(answer))):
            answer += part
        right += answer == question
    return right


def connect_many(address: tuple[Any, ...], count: int, timeout: float, say: bytes = b"") -> dict[int, int]:
    """Begin `count` connections at once and wait for all; how often each errno came (0: connected; -1: not in time).

    With `say`, each sends it, and counts as connected only when the same bytes come back. All are closed then.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    poll, waiting = select.epoll(), {}
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    for _ in range(count):
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.connect_ex(address)
        poll.register(sock, select.EPOLLOUT)
        waiting[sock.fileno()] = sock
    found: dict[int, int] = {}
    done = []
    end = time.monotonic() + timeout
    while waiting and (left := end - time.monotonic()) > 0:
        for descriptor, events in poll.poll(left, 512):
            sock = waiting[descriptor]
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not number and say and events & select.EPOLLIN:
                number = 0 if sock.recv(len(say)) == say else 71
            elif not number and say and not events & (select.EPOLLHUP | select.EPOLLERR):
                sock.send(say)
                poll.modify(descriptor, select.EPOLLIN)
                continue
            found[number] = found.get(number, 0) + 1
            poll.unregister(descriptor)
            done.append(waiting.pop(descriptor))
    if waiting:
        found[-1] = len(waiting)
    for sock in [*done, *waiting.values()]:
        sock.close()
    return found


def open_many(address: tuple[Any, ...], count: int) -> int:
    """Open connections one after the other and leave them; how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for _ in range(count):
        keep(socket.create_connection(address, 15))
    return count


def send_numbered(sock: socket.socket, count: int, size: int, window: int) -> int:
    """Send numbered datagrams, at most `window` of them unanswered; the number of answers."""
    answers = 0
    for number in range(count):
        sock.send(number.to_bytes(4, "big").ljust(size, b"."))
        if number >= window:
            answers += len(sock.recv(100)) == 4
    while answers < count:
        answers += len(sock.recv(100)) == 4
    return answers


def send_burst(sock: socket.socket, count: int) -> None:
    """Numbered datagrams, one after the other without a pause."""
    for number in range(count):
        sock.send(b"%d" % number)


def send_and_close(address: tuple[Any, ...], data: bytes) -> int:
    """One datagram of a socket that is closed at once; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(data, address)
        port: int = sock.getsockname()[1]
        return port


def receive_errors(sock: socket.socket) -> list[tuple[int, tuple[Any, ...]]]:
    """The errno and the destination of each message in the socket's error queue."""
    found: list[tuple[int, tuple[Any, ...]]] = []
    sock.settimeout(0)
    while True:
        try:
            _, control, _, name = sock.recvmsg(0, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return found
        for _, _, content in control:
            found.append((struct.unpack_from("=I", content)[0], name))


def run(arguments: list[str], timeout: float = 20.0, **options: Any) -> tuple[int, bytes, bytes]:
    """Run a command; its status, output and complaints."""
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, **options)
    return done.returncode, done.stdout, done.stderr


def identity() -> dict[str, Any]:
    """Who and where this program is."""
    with open("/proc/self/status") as status:
        capabilities = {line.split()[0]: int(line.split()[1], 16) for line in status if line.startswith("Cap")}
    return {
        "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "directory": os.getcwd(),
        "environment": dict(os.environ), "arguments": sys.argv, "capabilities": capabilities, "pid": os.getpid(),
        "network": os.readlink("/proc/self/ns/net"),
        "signals": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
    }  # fmt: skip


def _serve(number: int, name: str, handle: int | None, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    result: Any
    try:
        if handle is None:
            result = globals()[name](*arguments, **options)
        elif name == "close":
            close(handle)
            result = None
        elif name in globals():
            result = globals()[name](SOCKETS[handle], *arguments, **options)
        else:
            result = getattr(SOCKETS[handle], name)(*arguments, **options)
        answer = (number, True, result)
    except BaseException as error:
        answer = (number, False, error)
    data = pickle.dumps(answer)
    with _writing:
        sys.stdout.buffer.write(len(data).to_bytes(4, "big") + data)
        sys.stdout.buffer.flush()


def main() -> None:
    """Serve until standard input ends."""
    source = sys.stdin.buffer
    while header := source.read(4):
        request = pickle.loads(source.read(int.from_bytes(header, "big")))
        threading.Thread(target=_serve, args=request, daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main()
