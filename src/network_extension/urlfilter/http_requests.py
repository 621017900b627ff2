"""Where the requests of a plain HTTP/1 connection begin and end (RFC 9112 §6, §7.1). Sans-IO.

A connection carries many requests, each to a URL of its own: whoever decides by URLs has to find each head behind the
body of the one before. Bodies are passed unread. What servers could take in two ways (a length and chunks, two lengths)
is refused, since another request could hide there.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..core.http_request import MAX_HEAD, NotHTTPError, RequestHead, head_lines, read_request_head

_LONGEST_CHUNK_LINE = 1024
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_CRLF = b"\r\n"


class Body(NamedTuple):
    """Bytes of a body, which may be passed; more of them than are there already, if `size` says so."""

    size: int


class Head(NamedTuple):
    """A request, whose head has `size` bytes: to be decided."""

    request: RequestHead
    size: int


class More(NamedTuple):
    """The bytes shown are the beginning of something, or nothing."""


class Tunnel(NamedTuple):
    """All that follows belongs to another protocol (CONNECT, Upgrade)."""


Piece = Body | Head | More | Tunnel


class RequestReader:
    """Reads the program's half of one connection to a server at `port`."""

    __slots__ = ("_chunks", "_left", "_port", "_tunnels", "requests")

    def __init__(self, port: int) -> None:
        self._port = port
        self._left = 0  # of the body, or of the chunk
        self._chunks = ""  # what comes next of a chunked body: "size", "trailer", or nothing
        self._tunnels = False
        self.requests = 0
        """Heads read so far."""

    def read(self, data: bytes) -> Piece:
        """What the bytes begin with that follow all that was read before. Raises NotHTTPError."""
        if self._left:
            count, self._left = self._left, 0
            return Body(count)
        if self._tunnels:
            return Tunnel()
        if self._chunks:
            return self._chunk(data)
        if not data:
            return More()
        request, found = read_request_head(data, self._port), head_lines(data)
        if request is None or found is None:
            return More()
        lines, count = found
        self._frame(request, lines[1:])
        self.requests += 1
        return Head(request, count)

    def _frame(self, request: RequestHead, lines: list[bytes]) -> None:
        """How the body that follows is delimited (RFC 9112 §6.3)."""
        fields = [line.partition(b":")[::2] for line in lines]
        lengths = {value.strip(b" \t") for name, value in fields if name.lower() == b"content-length"}
        codings = [value.strip(b" \t").lower() for name, value in fields if name.lower() == b"transfer-encoding"]
        self._tunnels = request.method == "CONNECT" or any(name.lower() == b"upgrade" for name, _ in fields)
        if codings:
            if codings != [b"chunked"] or lengths:
                raise NotHTTPError("a body whose end servers may see in two places (RFC 9112 §6.3)")
            self._chunks = "size"
        elif lengths:
            length = lengths.pop()
            if lengths or not length.isdigit() or len(length) > 18:
                raise NotHTTPError("a Content-Length that is no length, or several (RFC 9112 §6.3)")
            self._left = int(length)

    def _chunk(self, data: bytes) -> Piece:
        end = data.find(_CRLF, 0, _LONGEST_CHUNK_LINE)
        if self._chunks == "trailer":
            return self._trailer(data)
        if end < 0:
            if len(data) >= _LONGEST_CHUNK_LINE:
                raise NotHTTPError("no size of a chunk within 1024 bytes")
            return More()
        size = data[:end].partition(b";")[0].rstrip(b" \t")
        if not _CHUNK_SIZE.fullmatch(size):
            raise NotHTTPError(f"no size of a chunk: {data[:16]!r}")
        if count := int(size, 16):
            return Body(end + 2 + count + 2)
        self._chunks = "trailer"
        return Body(end + 2)

    def _trailer(self, data: bytes) -> Piece:
        """Field lines up to an empty one (RFC 9112 §7.1.2)."""
        if data.startswith(_CRLF):
            self._chunks = ""
            return Body(2)
        end = data.find(_CRLF * 2, 0, MAX_HEAD)
        if end < 0:
            if len(data) >= MAX_HEAD:
                raise NotHTTPError("no end of a trailer within 16 KiB")
            return More()
        self._chunks = ""
        return Body(end + 4)
