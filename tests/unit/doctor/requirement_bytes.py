"""Code requirements in their binary form, from the tree that the reader makes of it."""

from __future__ import annotations

import struct

from network_extension.doctor.requirement_match import Match
from network_extension.doctor.requirement_tree import (
    And,
    AppleAnchor,
    CertificateExtension,
    CertificateField,
    CertificateHash,
    CodeDirectoryHash,
    Constant,
    EntitlementField,
    ExtensionKind,
    Identifier,
    InfoField,
    LegacyDeveloperID,
    NamedAnchor,
    NamedCode,
    Not,
    Notarized,
    Or,
    PlatformIs,
    Requirement,
    Trusted,
)

from .signature_bytes import blob


def requirement(tree: Requirement) -> bytes:
    return raw_requirement(_expression(tree))


def raw_requirement(expression: bytes) -> bytes:
    return blob(0xFADE0C00, _u32(1) + expression)


def requirement_set(requirements: dict[int, bytes]) -> bytes:
    at = 12 + 8 * len(requirements)
    index, bodies = b"", b""
    for kind, body in requirements.items():
        index += struct.pack(">2I", kind, at + len(bodies))
        bodies += body
    return blob(0xFADE0C01, _u32(len(requirements)) + index + bodies)


def data(raw: bytes) -> bytes:
    return _u32(len(raw)) + raw + bytes(-len(raw) % 4)


def object_identifier(text: str) -> bytes:
    first, second, *rest = (int(arc) for arc in text.split("."))
    out = b""
    for arc in (40 * first + second, *rest):
        run = bytes([arc & 0x7F])
        while arc := arc >> 7:
            run = bytes([arc & 0x7F | 0x80]) + run
        out += run
    return out


def _u32(number: int) -> bytes:
    return struct.pack(">I", number)


def _i32(number: int) -> bytes:
    return struct.pack(">i", number)


def _match(match_: Match) -> bytes:
    head = _u32(match_.comparison)
    if isinstance(match_.operand, int):
        return head + struct.pack(">q", match_.operand)
    return head if match_.operand is None else head + data(match_.operand)


_EXTENSIONS = {ExtensionKind.FIELD: 14, ExtensionKind.POLICY: 17, ExtensionKind.TIMESTAMP: 22}


def _expression(tree: Requirement) -> bytes:  # noqa: C901  # one line for each kind of node
    match tree:
        case Constant(value):
            return _u32(int(value))
        case Identifier(name):
            return _u32(2) + data(name)
        case AppleAnchor(generic):
            return _u32(15 if generic else 3)
        case CertificateHash(position, wanted):
            return _u32(4) + _i32(position) + data(wanted)
        case And(left, right):
            return _u32(6) + _expression(left) + _expression(right)
        case Or(left, right):
            return _u32(7) + _expression(left) + _expression(right)
        case CodeDirectoryHash(wanted):
            return _u32(8) + data(wanted)
        case Not(test):
            return _u32(9) + _expression(test)
        case InfoField(key, match_):
            return _u32(10) + data(key) + _match(match_)
        case CertificateField(position, name, match_):
            return _u32(11) + _i32(position) + data(name) + _match(match_)
        case Trusted(position):
            return _u32(13) if position is None else _u32(12) + _i32(position)
        case CertificateExtension(position, kind, oid, match_):
            return _u32(_EXTENSIONS[kind]) + _i32(position) + data(object_identifier(oid)) + _match(match_)
        case EntitlementField(key, match_):
            return _u32(16) + data(key) + _match(match_)
        case NamedAnchor(name):
            return _u32(18) + data(name)
        case NamedCode(name):
            return _u32(19) + data(name)
        case PlatformIs(number):
            return _u32(20) + _i32(number)
        case Notarized():
            return _u32(21)
        case LegacyDeveloperID():
            return _u32(23)
        case _:
            raise AssertionError(f"no bytes for {tree!r}")
