"""Code requirements: the tests that signed code must pass, read from their binary form into a tree, and as text.

A requirement is a stream of opcodes, each in front of its operands; the opcodes are those of Security.framework
(requirement.h), the text is what `codesign -d -r-` prints (reqdumper.cpp). What a tree means for a given signature is
in `requirement_evaluation`.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from .bounded_bytes import BoundedBytes
from .errors import UnreadableFile
from .requirement_match import Comparison, Match
from .requirement_tree import (
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
    Unknown,
)

__all__ = ["MAX_DEPTH", "MAX_SIZE", "RequirementType", "read_requirement", "read_requirement_set"]

_WHAT = "code requirement"
_SET, _REQUIREMENT = 0xFADE0C01, 0xFADE0C00
_EXPRESSION_FORM = 1
MAX_DEPTH = 100
"""Tests inside tests. Each `and` of a chain is inside the next."""
MAX_SIZE = 1 << 16
"""Bytes. The one that codesign writes has about 200."""
MAX_REQUIREMENTS = 64
_U32, _I32, _I64 = struct.Struct(">I"), struct.Struct(">i"), struct.Struct(">q")
_HEAD, _PAIR = struct.Struct(">3I"), struct.Struct(">2I")
_GENERIC_FALSE, _GENERIC_SKIP, _FLAGS = 0x80000000, 0x40000000, 0xFF000000


class RequirementType(IntEnum):
    """What a requirement of a set is for. `DESIGNATED` says which code counts as the same program."""

    HOST = 1
    GUEST = 2
    DESIGNATED = 3
    LIBRARY = 4
    PLUGIN = 5


def read_requirement_set(blob: bytes | memoryview) -> dict[int, Requirement]:
    """The requirements of a signature's slot 2 (the blob with its head) by RequirementType, or a number not known here.

    Raises UnreadableFile.
    """
    data = _blob(blob, _SET)
    (count,) = data.numbers(_U32, 8)
    if count > MAX_REQUIREMENTS:
        raise UnreadableFile(_WHAT, f"a set of {count}")
    found: dict[int, Requirement] = {}
    for number in range(count):
        kind, offset = data.numbers(_PAIR, 12 + number * _PAIR.size)
        if kind in found:
            raise UnreadableFile(_WHAT, f"two of type {kind} in one set")
        _, length = data.numbers(_PAIR, offset)
        found[kind] = read_requirement(data.part(offset, length))
    return found


def read_requirement(blob: bytes | memoryview) -> Requirement:
    """The tree of one requirement (a blob with its head); `str()` of it is the text that `codesign` prints.

    Raises UnreadableFile: an opcode that is not known and cannot be skipped, nested too deep, not of the form of
    expressions, or bytes left over.
    """
    data = _blob(blob, _REQUIREMENT)
    _, _, form = data.numbers(_HEAD, 0)
    if form != _EXPRESSION_FORM:
        raise UnreadableFile(_WHAT, f"of form {form}, not an expression")
    stream = _Stream(data, _HEAD.size)
    tree = stream.expression(1)
    if stream.at != len(data):
        raise UnreadableFile(_WHAT, f"{len(data) - stream.at} bytes behind its expression")
    return tree


def _blob(blob: bytes | memoryview, expected: int) -> BoundedBytes:
    data = BoundedBytes(blob, _WHAT)
    magic, length = data.numbers(_PAIR, 0)
    if magic != expected or length != len(data) or length > MAX_SIZE:
        raise UnreadableFile(_WHAT, f"magic {magic:#x} and a length of {length} in a blob of {len(data)} bytes")
    return data


_WITHOUT_OPERANDS: dict[int, Requirement] = {
    0: Constant(False),
    1: Constant(True),
    3: AppleAnchor(generic=False),
    13: Trusted(None),
    15: AppleAnchor(generic=True),
    21: Notarized(),
    23: LegacyDeveloperID(),
}
_EXTENSION_KINDS = {14: ExtensionKind.FIELD, 17: ExtensionKind.POLICY, 22: ExtensionKind.TIMESTAMP}


class _Stream:
    """The operands and opcodes from `at` on."""

    def __init__(self, data: BoundedBytes, at: int) -> None:
        self.data = data
        self.at = at

    def expression(self, depth: int) -> Requirement:
        if depth > MAX_DEPTH:
            raise UnreadableFile(_WHAT, f"nested deeper than {MAX_DEPTH}")
        raw = self._number(_U32)
        opcode = raw & ~_FLAGS
        if opcode in _WITHOUT_OPERANDS:
            return _WITHOUT_OPERANDS[opcode]
        match opcode:
            case 6:
                return And(self.expression(depth + 1), self.expression(depth + 1))
            case 7:
                return Or(self.expression(depth + 1), self.expression(depth + 1))
            case 9:
                return Not(self.expression(depth + 1))
        return self._with_certificate(opcode) or self._with_values(opcode) or self._generic(raw, depth)

    def _with_certificate(self, opcode: int) -> Requirement | None:
        """Tests of one certificate of the chain."""
        match opcode:
            case 4:
                return CertificateHash(self._number(_I32), self._bytes())
            case 11:
                return CertificateField(self._number(_I32), self._bytes(), self._match())
            case 12:
                return Trusted(self._number(_I32))
            case 14 | 17 | 22:
                position, oid = self._number(_I32), _object_identifier(self._bytes())
                return CertificateExtension(position, _EXTENSION_KINDS[opcode], oid, self._match())
        return None

    def _with_values(self, opcode: int) -> Requirement | None:
        """Tests of what the code directory, Info.plist, or the entitlements say."""
        match opcode:
            case 2:
                return Identifier(self._bytes())
            case 5:
                return InfoField(self._bytes(), Match(Comparison.EQUAL, self._bytes()))
            case 8:
                return CodeDirectoryHash(self._bytes())
            case 10:
                return InfoField(self._bytes(), self._match())
            case 16:
                return EntitlementField(self._bytes(), self._match())
            case 18:
                return NamedAnchor(self._bytes())
            case 19:
                return NamedCode(self._bytes())
            case 20:
                return PlatformIs(self._number(_I32))
        return None

    def _generic(self, raw: int, depth: int) -> Requirement:
        """Opcodes of later systems say whether those that do not know them take them for false, or pass over them."""
        if not raw & (_GENERIC_FALSE | _GENERIC_SKIP):
            raise UnreadableFile(_WHAT, f"opcode {raw} is not known")
        self._bytes(padded=False)
        return Unknown(raw & ~_FLAGS, None if raw & _GENERIC_FALSE else self.expression(depth + 1))

    def _match(self) -> Match:
        number = self._number(_U32)
        try:
            comparison = Comparison(number)
        except ValueError:
            raise UnreadableFile(_WHAT, f"comparison {number} is not known") from None
        if comparison in (Comparison.EXISTS, Comparison.ABSENT):
            return Match(comparison)
        return Match(comparison, self._number(_I64) if comparison.is_of_times else self._bytes())

    def _number(self, layout: struct.Struct) -> int:
        (number,) = self.data.numbers(layout, self.at)
        self.at += layout.size
        return number

    def _bytes(self, *, padded: bool = True) -> bytes:
        """A counted run of bytes, followed by zeros up to a multiple of four."""
        length = self._number(_U32)
        found = bytes(self.data.part(self.at, length))
        taken = length + (-length % 4 if padded else 0)
        self.data.part(self.at, taken)
        self.at += taken
        return found


def _object_identifier(raw: bytes) -> str:
    """1.2.840.113635… from the contents of an OBJECT IDENTIFIER (X.690 §8.19)."""
    if not 0 < len(raw) <= 64 or raw[-1] & 0x80:
        raise UnreadableFile(_WHAT, f"{raw[:16].hex()} is no object identifier")
    arcs, arc = [], 0
    for byte in raw:
        arc = arc << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))
