"""The head of a plain HTTP/1 request (RFC 9112): whom does it speak to, and what does it want?

Whoever decides by these reads them as a server will. Hence empty lines before the request and lines that end by LF
alone are read, as servers may read them (RFC 9112 §2.2), and what servers refuse, or read in two ways, is refused: two
Host fields, folded lines, control characters, a space before a colon.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import PeerError

MAX_HEAD = 16384
MAX_METHOD = 32
MAX_EMPTY = 256
"""Bytes of empty lines before a request."""
_END = re.compile(rb"\n\r?\n")
_EMPTY_LINES = b"\r\n"
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_HOST = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._~%!$&'()*+,;=:[]")


class NotHTTPError(PeerError):
    """A stream that does not begin with an HTTP/1 request that a server would take."""


class RequestHead(NamedTuple):
    """What the head of a request says."""

    method: str
    target: str
    """As sent: a path, an absolute URL, or host:port."""
    host: str
    """Lower case, without port; empty where the request names none (HTTP/1.0)."""
    url: str | None
    """`http://host[:port]/path`; None for CONNECT, `*`, or without a host."""


def read_request_head(data: bytes, port: int = 80) -> RequestHead | None:
    """Read the beginning of a stream to a server at `port`; None when more bytes are needed.

    Raises NotHTTPError when no more bytes could make it a request's head, or not within 16 KiB.
    """
    found = head_lines(data)
    if found is None:
        _check_beginning(data[:MAX_HEAD].lstrip(_EMPTY_LINES))
        if len(data) >= MAX_HEAD:
            raise NotHTTPError(f"no end of the request's head within {MAX_HEAD} bytes")
        return None
    lines, _ = found
    method, target, version = _request_line(lines[0])
    host = _host_field(lines[1:])
    if host is None and version != b"HTTP/1.0":
        raise NotHTTPError("no Host field")
    return _head(method, target, host or b"", port)


def head_lines(data: bytes) -> tuple[list[bytes], int] | None:
    """The lines of the head that a stream begins with, without their ends, and how many bytes it has with the empty
    lines before and behind it; None when more bytes are needed. Raises NotHTTPError for too many empty lines.
    """
    start = 0
    while data[start : start + 1] in (b"\r", b"\n"):
        start += 1
        if start > MAX_EMPTY:
            raise NotHTTPError(f"more than {MAX_EMPTY} bytes of empty lines before a request")
    end = _END.search(data, start, MAX_HEAD)
    if end is None:
        return None
    return [line.removesuffix(b"\r") for line in data[start : end.start()].split(b"\n")], end.end()


def _check_beginning(data: bytes) -> None:
    """Refuse as soon as possible what cannot be a request line: other protocols must not wait."""
    method, space, _ = data[: MAX_METHOD + 1].partition(b" ")
    if not _TOKEN.issuperset(method) or (not method and space) or (not space and len(method) > MAX_METHOD):
        raise NotHTTPError(f"no method: {bytes(data[:16])!r}")
    line, newline, _ = data.partition(b"\n")
    if newline:
        _request_line(line.removesuffix(b"\r"))
    elif b"\0" in line:
        raise NotHTTPError("a control character in the request line")


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[0] or not _TOKEN.issuperset(parts[0]) or not parts[1]:
        raise NotHTTPError(f"no request line: {line[:40]!r}")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise NotHTTPError(f"version {version[:16]!r}")
    if any(byte <= 32 or byte == 127 for byte in target):
        raise NotHTTPError("a control character in the target")
    return method, target, version


def _host_field(lines: list[bytes]) -> bytes | None:
    host: bytes | None = None
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            raise NotHTTPError("a folded field line (RFC 9112 §5.2)")
        name, colon, value = line.partition(b":")
        if not colon or not name or not _TOKEN.issuperset(name):
            raise NotHTTPError(f"no field line: {line[:40]!r}")
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise NotHTTPError("a control character in a field")
        if name.lower() == b"host":
            if host is not None:
                raise NotHTTPError("two Host fields (RFC 9112 §3.2)")
            host = value.strip(b" \t")
    return host


def _head(method: bytes, target: bytes, host: bytes, port: int) -> RequestHead:
    """Put together the URL (RFC 9112 §3.3): an absolute target goes before the Host field."""
    authority, path = host, target
    has_url = method != b"CONNECT" and target != b"*"
    if target[:7].lower() == b"http://":
        rest = target[7:]
        cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        authority, path = rest[:cut].rpartition(b"@")[2], rest[cut:]
        if not path.startswith(b"/"):
            path = b"/" + path
    elif method == b"CONNECT":
        authority = target
    elif not target.startswith(b"/") and target != b"*":
        raise NotHTTPError(f"target {target[:40]!r} is neither a path nor an http URL")
    name, there = _authority(authority, port)
    text = path.decode("ascii", "backslashreplace")
    shown = f"[{name}]" if ":" in name else name
    url = f"http://{shown}{'' if there == 80 else f':{there}'}{text}" if name and has_url else None
    return RequestHead(method.decode("ascii"), target.decode("ascii", "backslashreplace"), name, url)


def _authority(text: bytes, port: int) -> tuple[str, int]:
    """Host and port; the flow's port where none is said."""
    if not _HOST.issuperset(text) or len(text) > 300:
        raise NotHTTPError(f"no host: {text[:40]!r}")
    name, colon, number = text.rpartition(b":")
    if not colon or name.count(b"[") != name.count(b"]"):
        name, number = text, b""
    if number and not (number.isdigit() and int(number) < 65536):
        raise NotHTTPError(f"no port: {number[:10]!r}")
    if (b":" in name) != (name[:1] == b"[" and name[-1:] == b"]") or b"[" in name[1:] or b"]" in name[:-1]:
        raise NotHTTPError(f"no host: {text[:40]!r}")
    if name[:1] == b"[":
        name = name[1:].removesuffix(b"]")
    return name.decode("ascii").lower().rstrip("."), int(number) if number else port
