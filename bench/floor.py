"""What the kernel's own parts cost, with as little of a filter as there can be: the floor under the figures of ours.

    conntrack          one rule that matches on a connection's state, so that connections are tracked
    queue              conntrack, and each connection's first packet through a queue whose reader says ACCEPT to
                       everything: the barest loop in Python, without looking at the packet
    two processes      the same, but the reader asks a second process first, over the same kind of socket as ours

Run inside the lab's host: `floor.py QUEUE read|ask`. Standard library only, no part of network_extension.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from collections.abc import Iterator

NUMBER = 20100
CONNTRACK, QUEUE, TWO_HOPS = "conntrack alone", "barest queue", "barest queue, two processes"
READERS = {QUEUE: "read", TWO_HOPS: "ask"}
TRACKED = ("iptables", "-t", "mangle", "-A", "OUTPUT", "-p", "tcp", "-m", "conntrack", "--ctstate", "NEW")
"""A rule that needs conntrack; how it goes on is the caller's."""
_NETFILTER, _QUEUE_PACKET, _QUEUE_VERDICT, _QUEUE_CONFIG = 12, 0x300, 0x301, 0x302
_BIND, _COPY, _ACCEPT = 1, 2, 1
_SEND = int(socket.MSG_DONTWAIT)


def main(number: int, how: str) -> None:
    """Answer the queue until the end. Says on stdout when it is bound."""
    queue = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    queue.bind((0, 0))
    for kind, body in ((1, struct.pack(">BxH", _BIND, 0)), (2, struct.pack(">IB", 0xFFFF, _COPY)), (3, b"\0\0\x40\0")):
        attribute = struct.pack("=HH", 4 + len(body), kind) + body
        attribute += b"\0" * (-len(attribute) % 4)
        queue.send(_message(_QUEUE_CONFIG, number, attribute, flags=5))
        answer = queue.recv(4096)
        if (error := struct.unpack_from("=i", answer, 16)[0]) != 0:
            raise SystemExit(f"queue {number}: {os.strerror(-error)}")
    if how == "ask":
        questions, answers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            queue.close()
            questions.close()
            _second(answers)
        answers.close()
        print("bound", flush=True)
        _ask(queue, questions, number)
    else:
        print("bound", flush=True)
        _read(queue, number)


def _message(kind: int, number: int, attributes: bytes, flags: int = 1) -> bytes:
    return (
        struct.pack("=IHHIIBB", 20 + len(attributes), kind, flags, 0, 0, 0, 0) + number.to_bytes(2, "big") + attributes
    )


def _packets(queue: socket.socket) -> Iterator[bytes]:
    """The ids of what is there now: the packet header is each message's first attribute."""
    while True:
        try:
            yield queue.recv(70000, _SEND)[24:28]
        except BlockingIOError:
            return


def _read(queue: socket.socket, number: int) -> None:
    head = _message(_QUEUE_VERDICT, number, struct.pack("=HH", 12, 2) + struct.pack(">I", _ACCEPT) + b"\0" * 4)[:-4]
    poll = select.epoll()
    poll.register(queue.fileno(), select.EPOLLIN)
    while True:
        poll.poll()
        queue.send(b"".join([head + packet for packet in _packets(queue)]))


def _ask(queue: socket.socket, questions: socket.socket, number: int) -> None:
    head = _message(_QUEUE_VERDICT, number, struct.pack("=HH", 12, 2) + struct.pack(">I", _ACCEPT) + b"\0" * 4)[:-4]
    poll = select.epoll()
    poll.register(queue.fileno(), select.EPOLLIN)
    poll.register(questions.fileno(), select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == queue.fileno():
                if packets := b"".join(_packets(queue)):
                    questions.send(packets)
            else:
                packets = questions.recv(1 << 20)
                queue.send(b"".join([head + packets[at : at + 4] for at in range(0, len(packets), 4)]))


def _second(answers: socket.socket) -> None:
    poll = select.epoll()
    poll.register(answers.fileno(), select.EPOLLIN)
    while True:
        poll.poll()
        packets = answers.recv(1 << 20)
        if not packets:
            os._exit(0)
        answers.send(packets)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
