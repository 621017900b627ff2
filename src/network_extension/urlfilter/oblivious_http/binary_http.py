"""Binary HTTP messages (RFC 9292): requests and responses as bytes, in both of its forms.

Known-length messages say how long each part is, indeterminate-length ones end each with a zero. A message may be cut
off where all that follows would be empty (§3.8), and zeros may pad it. Everything is bounded; what is against the rules
is refused, since a gateway that guesses can be made to say something else than what was meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...core.variable_length import decode_integer, encode_integer, sized
from .errors import MalformedMessage

Fields = tuple[tuple[str, str], ...]
"""Names in lower case, and values, in order."""

LARGEST_CONTENT = 16 << 20
LARGEST_FIELDS = 1 << 16
MOST_FIELDS = 256
MOST_INFORMATIONAL = 16
MOST_PIECES = 1 << 14
"""Of an indeterminate-length content: pieces of one byte would keep the reader busy for seconds."""
_KNOWN_REQUEST, _KNOWN_RESPONSE, _OPEN_REQUEST, _OPEN_RESPONSE = range(4)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(r"([\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
"""No white space at the ends (RFC 9292 §3.6, RFC 9113 §8.2.1)."""
_PATH = re.compile(r"[\x21-\x7e]*")
_AUTHORITY = re.compile(r"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")


@dataclass(frozen=True, slots=True)
class BinaryRequest:
    """A request. `authority` may be empty when a Host field names the target."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: Fields = ()
    content: bytes = field(default=b"", repr=False)
    trailers: Fields = ()


@dataclass(frozen=True, slots=True)
class BinaryResponse:
    """A final response, and the informational ones before it: status and fields of each."""

    status: int
    headers: Fields = ()
    content: bytes = field(default=b"", repr=False)
    trailers: Fields = ()
    informational: tuple[tuple[int, Fields], ...] = ()


def encode_request(request: BinaryRequest, *, known_length: bool = True, padding: int = 0) -> bytes:
    """The bytes of a request; `padding` zeros at the end hide its length. `ValueError`: a part that cannot be."""
    control = (request.method, request.scheme, request.authority, request.path)
    if not _is_control(*control):
        raise ValueError("binary request: a method, scheme, authority or path that HTTP does not allow")
    kind = bytes((_KNOWN_REQUEST if known_length else _OPEN_REQUEST,))
    head = kind + b"".join(sized(each.encode()) for each in control)
    return head + _encode_rest(request.headers, request.content, request.trailers, known_length) + bytes(padding)


def encode_response(response: BinaryResponse, *, known_length: bool = True, padding: int = 0) -> bytes:
    """The bytes of a response. `ValueError`: a part that cannot be."""
    if not 200 <= response.status <= 599 or any(not 100 <= status <= 199 for status, _ in response.informational):
        raise ValueError(f"binary response: status {response.status} is no final one, or one before it is")
    head = bytes((_KNOWN_RESPONSE if known_length else _OPEN_RESPONSE,))
    for status, fields in response.informational:
        head += encode_integer(status) + _encode_fields(fields, known_length)
    head += encode_integer(response.status)
    return head + _encode_rest(response.headers, response.content, response.trailers, known_length) + bytes(padding)


def decode_request(data: bytes) -> BinaryRequest:
    """The request that `data` is. `MalformedMessage`: it is none, or too large."""
    reader = _Reader(data, (_KNOWN_REQUEST, _OPEN_REQUEST), "binary request")
    method, scheme, authority, path = (reader.text(LARGEST_FIELDS) for _ in range(4))
    if not _is_control(method, scheme, authority, path):
        raise MalformedMessage("binary request: a method, scheme, authority or path that HTTP does not allow")
    headers, content, trailers = reader.rest()
    return BinaryRequest(method, scheme, authority, path, headers, content, trailers)


def decode_response(data: bytes) -> BinaryResponse:
    """The response that `data` is. `MalformedMessage`: it is none, or too large."""
    reader = _Reader(data, (_KNOWN_RESPONSE, _OPEN_RESPONSE), "binary response")
    informational = list[tuple[int, Fields]]()
    while 100 <= (status := reader.integer()) <= 199:
        informational.append((status, reader.fields()))
        if len(informational) > MOST_INFORMATIONAL:
            raise MalformedMessage(f"binary response: more than {MOST_INFORMATIONAL} informational responses")
    if not 200 <= status <= 599:
        raise MalformedMessage(f"binary response: status {status} is none")
    headers, content, trailers = reader.rest()
    return BinaryResponse(status, headers, content, trailers, tuple(informational))


class _Reader:
    """Reads parts from the front. Past the end there is nothing: where a section may be missing, it is empty."""

    def __init__(self, data: bytes, kinds: tuple[int, int], what: str) -> None:
        self._data, self._at, self._what = data, 0, what
        kind = self.integer()
        if kind not in kinds:
            raise MalformedMessage(f"{what}: framing {kind} is of another kind of message")
        self._known = kind == kinds[0]

    def rest(self) -> tuple[Fields, bytes, Fields]:
        """Header section, content, trailer section, padding."""
        headers, content, trailers = self.fields(), self._content(), self.fields()
        if self._data.count(0, self._at) != len(self._data) - self._at:
            raise MalformedMessage(f"{self._what}: its padding is not zeros")
        return headers, content, trailers

    def integer(self) -> int:
        """A variable-length integer (RFC 9000 §16)."""
        try:
            number, self._at = decode_integer(self._data, self._at)
        except IndexError:
            raise MalformedMessage(f"{self._what}: it is cut off") from None
        return number

    def text(self, most: int) -> str:
        """A string behind its length."""
        return self._take(self._bounded(self.integer(), most)).decode("latin-1")

    def fields(self) -> Fields:
        """A field section; none where the message ends before it."""
        found, begin = list[tuple[str, str]](), self._at
        if self._is_over:
            return ()
        if self._known:
            end = self._bounded(self.integer(), LARGEST_FIELDS) + self._at
            while self._at < end:
                found.append(self._field(self._take(self.integer())))
            if self._at != end:
                raise MalformedMessage(f"{self._what}: a field ends behind its section")
        else:
            while size := self.integer():
                found.append(self._field(self._take(size)))
                self._bounded(self._at - begin, LARGEST_FIELDS)
        if len(found) > MOST_FIELDS:
            raise MalformedMessage(f"{self._what}: more than {MOST_FIELDS} fields")
        return tuple(found)

    def _field(self, raw_name: bytes) -> tuple[str, str]:
        name, value = raw_name.decode("latin-1"), self._take(self.integer()).decode("latin-1")
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise MalformedMessage(f"{self._what}: a field whose name or value HTTP does not allow")
        return name, value

    def _content(self) -> bytes:
        if self._is_over:
            return b""
        if self._known:
            return self._take(self._bounded(self.integer(), LARGEST_CONTENT))
        content = bytearray()
        for _ in range(MOST_PIECES):
            if not (size := self.integer()):
                return bytes(content)
            content += self._take(size)
            self._bounded(len(content), LARGEST_CONTENT)
        raise MalformedMessage(f"{self._what}: {MOST_PIECES} pieces of content or more")

    @property
    def _is_over(self) -> bool:
        return self._at >= len(self._data)

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise MalformedMessage(f"{self._what}: it is cut off")
        taken, self._at = self._data[self._at : end], end
        return taken

    def _bounded(self, size: int, most: int) -> int:
        if size > most:
            raise MalformedMessage(f"{self._what}: a part of {size} bytes; {most} at most")
        return size


def is_authority(text: str) -> bool:
    """Host, and port where there is one; or nothing. No user information."""
    return bool(_AUTHORITY.fullmatch(text))


def _is_control(method: str, scheme: str, authority: str, path: str) -> bool:
    are_tokens = _TOKEN.fullmatch(method) and _TOKEN.fullmatch(scheme)
    return bool(are_tokens and is_authority(authority) and _PATH.fullmatch(path))


def _encode_rest(headers: Fields, content: bytes, trailers: Fields, known_length: bool) -> bytes:
    parts = [_encode_fields(headers, known_length)]
    if known_length:
        parts.append(sized(content))
    else:
        parts.append((sized(content) if content else b"") + b"\0")
    parts.append(_encode_fields(trailers, known_length))
    return b"".join(parts)


def _encode_fields(fields: Fields, known_length: bool) -> bytes:
    lines = []
    for name, value in fields:
        name = name.lower()
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"field {name!r}: HTTP does not allow this name or value")
        lines.append(sized(name.encode()) + sized(value.encode("latin-1")))
    section = b"".join(lines)
    return sized(section) if known_length else section + b"\0"


__all__ = [
    "BinaryRequest",
    "BinaryResponse",
    "Fields",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "is_authority",
]
