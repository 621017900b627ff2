"""The name of a flow's far side from the first bytes that the program sends: TLS, QUIC, or plain HTTP.

One `NameSniffer` belongs to one flow. It is fed whatever the program sends, in whatever pieces, until it is `done`: it
has found a name, or knows that there is none to be found. What a name is worth is told by its source:

- `tls`, `quic`: the server name of the ClientHello, which the server's certificate has to match;
- `tls-ech-outer`: the same, of a hello that carries another, encrypted one (draft-ietf-tls-esni). The true name may be
  hidden in that; or nothing is, since browsers send a meaningless extension that looks the same ("GREASE"). Nobody on
  the way can tell them apart, so this source says: perhaps;
- `http`: the Host field or the absolute target of a request. An address there is no name; the URL has it.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import PeerError
from .client_hello import MAX_LENGTH, ClientHello, NotTLSError, read_client_hello
from .http_request import MAX_HEAD, NotHTTPError, read_request_head
from .quic_initial import InitialReader

TCP, UDP = 6, 17
TLS, TLS_ECH_OUTER, QUIC, HTTP = "tls", "tls-ech-outer", "quic", "http"
DNS_PORTS = frozenset((53, 5353))
_HANDSHAKE_RECORD, _CLIENT_HELLO = 0x16, 1
_RECORD_HEAD = b"\x16\x03"
_LONGEST_RECORD = 5 + 16384


class Sniffed(NamedTuple):
    """What was found."""

    host: str | None
    """Lower case, without a final dot; None where the first bytes name no host."""
    source: str
    url: str | None = None
    """Of a plain HTTP request."""
    hello: ClientHello | None = None


class NameSniffer:
    """Reads the first bytes of one flow. `remote_port` is where the flow goes to."""

    __slots__ = ("_data", "_initial", "_message", "_port", "_protocol", "_record", "_wanted", "done")

    def __init__(self, protocol_number: int, remote_port: int) -> None:
        self._protocol, self._port = protocol_number, remote_port
        self._data = bytearray()
        self._wanted = 0
        self._record = self._message = 0  # where the first incomplete TLS record begins; handshake bytes before it
        self._initial: InitialReader | None = None
        self.done = protocol_number not in (TCP, UDP) or (protocol_number == UDP and remote_port in DNS_PORTS)
        """Nothing more can come of it."""

    def feed(self, data: bytes) -> Sniffed | None:
        """The next bytes of a TCP stream, or the next UDP datagram; what has been found with them, once."""
        if self.done or not data:
            return None
        try:
            return self._stream(data) if self._protocol == TCP else self._datagram(data)
        except PeerError:
            self._finish()
            return None

    def _finish(self) -> None:
        self.done, self._data, self._initial = True, bytearray(), None

    def _stream(self, data: bytes) -> Sniffed | None:
        self._data += data
        # What is looked at again with each piece must not cost the square of its length: wait for twice as much.
        if len(self._data) < self._wanted and b"\n" not in data:
            return None
        found = self._tls() if self._data[0] == _HANDSHAKE_RECORD else self._http()
        most = MAX_LENGTH if self._data[0] == _HANDSHAKE_RECORD else MAX_HEAD
        if found is not None or len(self._data) >= most:
            self._finish()
        return found

    def _tls(self) -> Sniffed | None:
        if not self._may_be_complete():
            return None
        hello = read_client_hello(bytes(self._data[:MAX_LENGTH]))
        if hello is None:
            return None
        source = TLS_ECH_OUTER if hello.has_encrypted_client_hello else TLS
        return Sniffed(hello.server_name, source, None, hello)

    def _may_be_complete(self) -> bool:
        """Whether the hello's end is there, or what cannot belong to one: each record is walked over only once.

        To read all of them again with each piece would cost the square of their number, and a record may have one byte.
        """
        data, at = self._data, self._record
        end = at + 5
        while at + 5 <= len(data):
            end = at + 5 + (data[at + 3] << 8 | data[at + 4])
            if data[at : at + 2] != _RECORD_HEAD or end == at + 5 or end - at > _LONGEST_RECORD:
                return True  # to be refused by the reader
            if end > len(data):
                break
            self._message += end - at - 5
            self._record = at = end
        self._wanted = min(max(at + 5, end), MAX_LENGTH)
        return not self._message or self._message >= self._length()

    def _length(self) -> int:
        """Of the handshake message, from its first four bytes; 4 while these are not there, 0 for what is no hello."""
        head, at = bytearray(), 0
        while at < self._record and len(head) < 4:
            size = self._data[at + 3] << 8 | self._data[at + 4]
            head += self._data[at + 5 : at + 5 + min(size, 4 - len(head))]
            at += 5 + size
        length = 4 + int.from_bytes(head[1:], "big") if len(head) == 4 else 4
        return length if head[0] == _CLIENT_HELLO and length <= MAX_LENGTH else 0

    def _http(self) -> Sniffed | None:
        head = read_request_head(bytes(self._data[:MAX_HEAD]), self._port)
        if head is None:
            self._wanted = 0 if len(self._data) < 64 else min(2 * len(self._data), MAX_HEAD)
            return None
        return Sniffed(head.host if _is_name(head.host) else None, HTTP, head.url)

    def _datagram(self, data: bytes) -> Sniffed | None:
        if self._initial is None:
            self._initial = InitialReader()
        hello = self._initial.feed(data)
        if hello is not None:
            self._finish()
            return Sniffed(hello.server_name, QUIC, None, hello)
        if self._initial.done:
            self._finish()
        return None


def _is_name(host: str) -> bool:
    """Whether it is a name rather than an address: one whose last label is a number is none (URL Standard §3.5)."""
    return bool(host) and ":" not in host and not host.rpartition(".")[2].isdecimal()


__all__ = ["HTTP", "QUIC", "TLS", "TLS_ECH_OUTER", "NameSniffer", "NotHTTPError", "NotTLSError", "Sniffed"]
