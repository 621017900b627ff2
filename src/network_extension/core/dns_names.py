"""Domain names inside DNS messages (RFC 1035 §4.1.4), read in bounded time and as text that is safe to log.

The text is lower case and has no final dot (the root is "."). Bytes that a zone file would escape are escaped as
there (RFC 1035 §5.1, RFC 4343 §2.1): `\\.` for a dot inside a label, `\\000` for what is not printable. So two names
are equal exactly when their texts are, and no name can carry a line break or a terminal's control codes into a log.
"""

from __future__ import annotations

from ..errors import PeerError

MAX_NAME = 255
"""Bytes of a name on the wire, the root's zero byte included (RFC 1035 §2.3.4)."""
MAX_LABEL = 63
MAX_POINTERS = 127
"""Compression pointers in one name; a name of single letters has as many labels."""

_HEADER = 12
_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'"().;\\@$')
_PLAIN_AND_DOT = _PLAIN + b"."
_LABEL_TEXT = {byte: chr(byte) for byte in _PLAIN} | {byte: "\\" + chr(byte) for byte in b'"().;\\@$'}


class DnsMessageError(PeerError):
    """Bytes that are no DNS message, or not the kind of message that was asked for."""


def read_name(message: bytes, at: int, known: dict[int, str]) -> tuple[str, int]:
    """The name at an offset, and the offset behind it. Raises DnsMessageError.

    `known` remembers names by offset within one message: most names are just a pointer to one that was read before.
    A pointer must lead to before all that has been read of this name, so that no loop can be built.
    """
    start, end, limit, size, pointers = at, 0, at, 1, 0
    labels: list[bytes] = []
    try:
        while length := message[at]:
            if length <= MAX_LABEL:
                at += length + 1
                size += length + 1
                if size > MAX_NAME:
                    raise DnsMessageError(f"the name at byte {start} is longer than {MAX_NAME}")
                labels.append(message[at - length : at])
                continue
            if length < 0xC0:
                raise DnsMessageError(f"label type {length >> 6} at byte {at}")
            target, end = (length & 0x3F) << 8 | message[at + 1], end or at + 2
            if not labels and target in known:
                return known[target], end
            pointers += 1
            if target >= limit or target < _HEADER or pointers > MAX_POINTERS:
                raise DnsMessageError(f"the name at byte {start} points astray, to byte {target}")
            at = limit = target
    except IndexError:
        raise DnsMessageError(f"the name at byte {start} runs past the end") from None
    known[start] = name = _text(labels)
    return name, end or at + 1


def _text(labels: list[bytes]) -> str:
    name = b".".join(labels).lower()
    if not name.translate(None, _PLAIN_AND_DOT) and name.count(b".") == len(labels) - 1:
        return name.decode("ascii")
    return ".".join("".join(map(_byte_text, label.lower())) for label in labels) or "."


def _byte_text(byte: int) -> str:
    return _LABEL_TEXT.get(byte) or f"\\{byte:03d}"
