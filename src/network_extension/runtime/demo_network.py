"""The little internet of `netext demo`: a web server and a name server in namespaces of their own, without root."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ..core.dns_messages import DnsMessageError, parse_query
from ..core.packets import address_bytes
from ..errors import DatapathError
from ..linux import interfaces, namespaces
from .demo_providers import PLAIN
from .sandbox import forbidden

SERVER, NAME_SERVER, NAME = "203.0.113.10", "203.0.113.53", "web.example"  # RFC 5737 and RFC 6761: nobody's
PORTS = (80, 8080)


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"This is " + PLAIN + b" from " + NAME.encode() + b".\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 — the base class's name for it
        pass


def answer_name(query: bytes) -> bytes | None:
    """A name server's answer: `web.example` has one IPv4 address, no other name and no other type has anything."""
    try:
        asked = parse_query(query)
    except DnsMessageError:
        return None
    known = asked.name == NAME and asked.record_type == 1
    flags = 0x8580 if asked.name == NAME else 0x8583  # QR, AA, RD, RA; and NXDOMAIN
    head = query[:2] + flags.to_bytes(2, "big") + b"\0\1" + (b"\0\1" if known else b"\0\0") + b"\0\0\0\0"
    question = query[12 : asked.question_end]
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address_bytes(SERVER) if known else b""
    return head + question + record


def _serve_names(sock: socket.socket) -> None:
    while True:
        query, client = sock.recvfrom(4096)
        if (answer := answer_name(query)) is not None:
            sock.sendto(answer, client)


def _start_servers() -> None:
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind((NAME_SERVER, 53))
    threading.Thread(target=_serve_names, args=(names,), daemon=True).start()
    for port in PORTS:
        server = ThreadingHTTPServer((SERVER, port), _Page)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()


def run_inside(story: Callable[[], int]) -> int:
    """Call `story` in a child process that has the little internet as its host; its result. Raises DatapathError."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        mine.close()
        _live_inside(theirs, story)
    theirs.close()
    try:
        report = mine.recv(4096)
        if report == b"unshared":
            namespaces.map_identity(child, os.getuid(), os.getgid())
            mine.send(b"mapped")
            report = mine.recv(4096)
    finally:
        mine.close()
        _, status = os.waitpid(child, 0)
    if report != b"ready":
        number, _, text = report.decode().partition(":")
        raise forbidden(DatapathError(f"demo: {text or 'its network could not be made'}", errno=int(number or 0)))
    return os.waitstatus_to_exitcode(status)


def _live_inside(control: socket.socket, story: Callable[[], int]) -> None:
    status = 1
    try:
        try:
            namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS)
            control.send(b"unshared")
            if control.recv(16) != b"mapped":
                return
            _build()
            _start_servers()
        except (DatapathError, OSError) as error:
            control.send(f"{error.errno or 0}:{error}".encode())
            return
        control.send(b"ready")
        status = story()
    finally:
        os._exit(status)


def _build() -> None:
    with interfaces.Interfaces() as network:
        index = network.bring_up("lo")
        for address in (SERVER, NAME_SERVER):
            network.add_address(index, f"{address}/32")
    namespaces.private_mounts()
    namespaces.replace_file("/etc/resolv.conf", f"nameserver {NAME_SERVER}\n")
