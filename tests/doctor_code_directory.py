"""Code signatures in Mach-O files, written and read for tests. Independent of the doctor's own reader on purpose.

The layout follows Apple's `cs_blobs.h` (xnu, osfmk/kern): numbers are big-endian, offsets count from the blob's start.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

FAT, FAT_64, MACH_O_64, MACH_O_32 = 0xCAFEBABE, 0xCAFEBABF, 0xFEEDFACF, 0xFEEDFACE
LC_CODE_SIGNATURE = 0x1D

SUPER_BLOB, CODE_DIRECTORY, REQUIREMENT_SET, REQUIREMENT = 0xFADE0CC0, 0xFADE0C02, 0xFADE0C01, 0xFADE0C00
ENTITLEMENTS, DER_ENTITLEMENTS, CMS_WRAPPER = 0xFADE7171, 0xFADE7172, 0xFADE0B01

SLOT_CODE_DIRECTORY, SLOT_INFO, SLOT_REQUIREMENTS, SLOT_RESOURCES = 0, 1, 2, 3
SLOT_ENTITLEMENTS, SLOT_DER_ENTITLEMENTS, SLOT_ALTERNATE, SLOT_CMS = 5, 7, 0x1000, 0x10000

HASH_TYPES = {"sha1": 1, "sha256": 2, "sha384": 4}
HASH_NAMES = {number: name for name, number in HASH_TYPES.items()}
CUT = 20

ADHOC, RUNTIME, LINKER_SIGNED = 0x2, 0x10000, 0x20000


class Slice(NamedTuple):
    """One architecture in a file: where it is, and where in it its signature is."""

    offset: int
    size: int
    cpu: int
    signature_command: int
    """Offset of LC_CODE_SIGNATURE in the slice; 0 when there is none."""
    signature_offset: int
    signature_size: int


def slices(data: bytes) -> list[Slice]:
    """The slices of a Mach-O file, thin or fat."""
    (magic,) = struct.unpack_from(">I", data)
    if magic not in (FAT, FAT_64):
        return [_slice(data, 0, len(data))]
    record = struct.Struct(">5I" if magic == FAT else ">2I2Q2I")
    (count,) = struct.unpack_from(">I", data, 4)
    records = (record.unpack_from(data, 8 + number * record.size) for number in range(count))
    return [_slice(data, found[2], found[3]) for found in records]


def _slice(data: bytes, offset: int, size: int) -> Slice:
    magic, cpu = struct.unpack_from("<2I", data, offset)
    at = {MACH_O_64: 32, MACH_O_32: 28}[magic]
    (commands,) = struct.unpack_from("<I", data, offset + 16)
    for _ in range(commands):
        command, length = struct.unpack_from("<2I", data, offset + at)
        if command == LC_CODE_SIGNATURE:
            return Slice(offset, size, cpu, at, *struct.unpack_from("<2I", data, offset + at + 8))
        at += length
    return Slice(offset, size, cpu, 0, 0, 0)


def without_signature(data: bytes) -> bytes:
    """The file as it would be if nobody had signed it: LC_CODE_SIGNATURE is gone, and zeros where the signature was."""
    changed = bytearray(data)
    for found in slices(data):
        base = found.offset
        count, size = struct.unpack_from("<2I", data, base + 16)
        start, end = base + found.signature_command, base + _commands_start(data, base) + size
        changed[start:end] = data[start + 16 : end] + bytes(16)
        struct.pack_into("<2I", changed, base + 16, count - 1, size - 16)
        at = base + found.signature_offset
        changed[at : at + found.signature_size] = bytes(found.signature_size)
    return bytes(changed)


def _commands_start(data: bytes, base: int) -> int:
    return 32 if struct.unpack_from("<I", data, base)[0] == MACH_O_64 else 28


def blob(magic: int, body: bytes) -> bytes:
    """A blob: magic, length, body."""
    return struct.pack(">2I", magic, 8 + len(body)) + body


def super_blob(slots: Mapping[int, bytes]) -> bytes:
    """Blobs by slot, in one SuperBlob."""
    at, index, body = 12 + 8 * len(slots), b"", b""
    for slot, data in slots.items():
        index += struct.pack(">2I", slot, at + len(body))
        body += data
    return struct.pack(">3I", SUPER_BLOB, at + len(body), len(slots)) + index + body


def read_super_blob(data: bytes) -> dict[int, bytes]:
    """Blobs by slot, each whole."""
    magic, _, count = struct.unpack_from(">3I", data)
    assert magic == SUPER_BLOB, hex(magic)
    found = {}
    for number in range(count):
        slot, offset = struct.unpack_from(">2I", data, 12 + 8 * number)
        (length,) = struct.unpack_from(">I", data, offset + 4)
        found[slot] = data[offset : offset + length]
    return found


def signatures(data: bytes) -> Iterator[dict[int, bytes]]:
    """The blobs of each slice of a Mach-O file."""
    for found in slices(data):
        start = found.offset + found.signature_offset
        yield read_super_blob(data[start : start + found.signature_size])


_HEAD = struct.Struct(">9I4BI")  # all versions
_LATER = struct.Struct(
    ">3IQ3Q2I"
)  # scatter, team, spare, code limit of 64 bits, executable segment, runtime, pre-encrypt
_LATER_SIZES = {0x20001: 0, 0x20100: 4, 0x20200: 8, 0x20300: 20, 0x20400: 44, 0x20500: 52}
"""Version → how much of _LATER it has."""


@dataclass(frozen=True)
class CodeDirectory:
    """A CodeDirectory of any version. What a version has no place for is left out."""

    identifier: str
    team: str | None
    flags: int
    hash_name: str
    page_shift: int
    code_limit: int
    code_hashes: tuple[bytes, ...] = field(repr=False)
    special: Mapping[int, bytes]
    """Slot → hash, for those that are not zero."""
    platform: int = 0
    executable_segment: tuple[int, int, int] = (0, 0, 0)
    """Offset, size, flags (1: main binary)."""
    runtime: int = 0
    version: int = 0x20500

    def build(self) -> bytes:
        size = hashlib.new(self.hash_name).digest_size
        head_size = _HEAD.size + _LATER_SIZES[self.version]
        strings = self.identifier.encode() + b"\0"
        team_at = 0
        if self.team is not None:
            team_at = head_size + len(strings)
            strings += self.team.encode() + b"\0"
        count = max((slot for slot in self.special), default=0)
        hashes_at = head_size + len(strings) + count * size
        special = b"".join(self.special.get(slot, bytes(size)) for slot in range(count, 0, -1))
        code = b"".join(self.code_hashes)
        head = _HEAD.pack(
            *(CODE_DIRECTORY, hashes_at + len(code), self.version, self.flags, hashes_at, head_size),
            *(count, len(self.code_hashes), self.code_limit, size, HASH_TYPES[self.hash_name], self.platform),
            *(self.page_shift, 0),
        )
        later = _LATER.pack(0, team_at, 0, 0, *self.executable_segment, self.runtime, 0)
        return head + later[: _LATER_SIZES[self.version]] + strings + special + code

    @classmethod
    def parse(cls, data: bytes) -> CodeDirectory:
        head = _HEAD.unpack_from(data)
        _, _, version, flags, hashes_at, identifier_at, count, pages, limit, size, kind, platform, shift, _ = head
        later = data[_HEAD.size :][: _LATER_SIZES[version]].ljust(_LATER.size, b"\0")
        _, team_at, _, _, *segment, runtime, _ = _LATER.unpack(later)
        special = {slot: data[hashes_at - slot * size :][:size] for slot in range(1, count + 1)}
        return cls(
            _text(data, identifier_at),
            _text(data, team_at) if team_at else None,
            flags,
            HASH_NAMES[kind],
            shift,
            limit,
            tuple(data[hashes_at + page * size :][:size] for page in range(pages)),
            {slot: value for slot, value in special.items() if any(value)},
            platform,
            (segment[0], segment[1], segment[2]),
            runtime,
            version,
        )


def page_hashes(code: bytes, shift: int, hash_name: str) -> tuple[bytes, ...]:
    """The hash of each page of `code`, of which the last may be short."""
    size = 1 << shift
    return tuple(hashlib.new(hash_name, code[at : at + size]).digest() for at in range(0, len(code), size))


def cdhash(directory: bytes) -> bytes:
    """What identifies signed code: its CodeDirectory's hash, cut to 20 bytes."""
    return hashlib.new(HASH_NAMES[directory[37]], directory).digest()[:CUT]


def cdhashes(data: bytes) -> list[bytes]:
    """The cdhash of each slice of a Mach-O file."""
    return [cdhash(found[SLOT_CODE_DIRECTORY]) for found in signatures(data)]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def requirement_set(expression: bytes) -> bytes:
    """A set with one requirement, the designated one (type 3)."""
    requirement = blob(REQUIREMENT, struct.pack(">I", 1) + expression)
    return blob(REQUIREMENT_SET, struct.pack(">3I", 1, 3, 20) + requirement)


def developer_id_requirement(identifier: str, team: str) -> bytes:
    """The designated requirement that `codesign` writes for Developer ID, as a set."""
    store, authority, leaf = (bytes.fromhex("2a864886f7636406" + end) for end in ("0109", "0206", "010d"))
    team_is = struct.pack(">2I", 11, 0) + _counted(b"subject.OU") + struct.pack(">I", 1) + _counted(team.encode())
    developer_id = _and(_and(_field(1, authority), _field(0, leaf)), team_is)
    by_whom = struct.pack(">I", 7) + _field(0, store) + developer_id
    return requirement_set(
        _and(_and(struct.pack(">I", 15), struct.pack(">I", 2) + _counted(identifier.encode())), by_whom)
    )


def _and(first: bytes, second: bytes) -> bytes:
    return struct.pack(">I", 6) + first + second


def _field(certificate: int, identifier: bytes) -> bytes:
    """certificate N[field.OID] exists"""
    return struct.pack(">Ii", 14, certificate) + _counted(identifier) + struct.pack(">I", 0)


def _counted(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)
