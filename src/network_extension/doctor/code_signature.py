"""The code signature of an image: a SuperBlob of blobs by slot (xnu, osfmk/kern/cs_blobs.h).

    slot 0, 0x1000…0x1004   code directories: the first, and alternates with other hashes
    slot 2                  requirements
    slot 5, 7               entitlements as XML, and as DER
    slot 8…11               launch constraints: self, parent, responsible process; library constraint
    slot 0x10000            CMS signature over the code directory

Slots 1 (Info.plist), 3 (CodeResources) and others have a hash in the code directory, but no blob.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from .bounded_bytes import BoundedBytes
from .code_directory import CodeDirectory, CodeFlags, read_code_directory
from .errors import UnreadableFile

__all__ = ["MAX_BLOBS", "CodeSignature", "Slot", "read_code_signature"]

_WHAT = "code signature"
_SUPER_BLOB = 0xFADE0CC0
MAX_BLOBS = 64
_HEAD, _ENTRY, _BLOB = struct.Struct(">3I"), struct.Struct(">2I"), struct.Struct(">2I")


class Slot(IntEnum):
    """Numbers of slots, of blobs and of special hashes alike (CSSLOT_*)."""

    CODE_DIRECTORY = 0
    INFO_PLIST = 1
    REQUIREMENTS = 2
    RESOURCES = 3
    APPLICATION = 4
    ENTITLEMENTS = 5
    REPRESENTATION = 6
    """Of disk images."""
    ENTITLEMENTS_DER = 7
    LAUNCH_CONSTRAINT_SELF = 8
    LAUNCH_CONSTRAINT_PARENT = 9
    LAUNCH_CONSTRAINT_RESPONSIBLE = 10
    LIBRARY_CONSTRAINT = 11
    ALTERNATE_CODE_DIRECTORIES = 0x1000
    """The first of five."""
    CMS = 0x10000


_ALTERNATES = range(0x1000, 0x1005)
_CONSTRAINTS = range(Slot.LAUNCH_CONSTRAINT_SELF, Slot.LIBRARY_CONSTRAINT + 1)
_MAGIC = {
    Slot.CODE_DIRECTORY: 0xFADE0C02,
    Slot.REQUIREMENTS: 0xFADE0C01,
    Slot.ENTITLEMENTS: 0xFADE7171,
    Slot.ENTITLEMENTS_DER: 0xFADE7172,
    Slot.CMS: 0xFADE0B01,
    **dict.fromkeys(_ALTERNATES, 0xFADE0C02),
    **dict.fromkeys(_CONSTRAINTS, 0xFADE8181),
}


@dataclass(frozen=True)
class CodeSignature:
    """What a SuperBlob holds. Nothing has been verified yet: see `code_check`."""

    directories: tuple[CodeDirectory, ...]
    """Never empty: that of slot 0 first, then alternates."""
    blobs: Mapping[int, bytes]
    """By slot, each with its head of eight bytes, which the hashes cover as well."""

    @property
    def directory(self) -> CodeDirectory:
        """The code directory that counts: the system takes the one with the strongest hash."""
        return max(self.directories, key=lambda directory: directory.hash_type.strength)

    @property
    def signed_directory(self) -> CodeDirectory:
        """That of slot 0, over which the CMS signature is; alternates are bound by signed attributes."""
        return self.directories[0]

    @property
    def requirements(self) -> bytes | None:
        """The requirement set with its head, as `requirements.read_requirement_set` takes it."""
        return self.blobs.get(Slot.REQUIREMENTS)

    @property
    def entitlements_xml(self) -> bytes | None:
        """What `codesign -d --entitlements -` prints."""
        return self._content(Slot.ENTITLEMENTS)

    @property
    def entitlements_der(self) -> bytes | None:
        """What the system reads."""
        return self._content(Slot.ENTITLEMENTS_DER)

    @property
    def constraints(self) -> dict[int, bytes]:
        """Launch and library constraints by slot, each in DER."""
        return {slot: self.blobs[slot][_BLOB.size :] for slot in _CONSTRAINTS if slot in self.blobs}

    @property
    def cms(self) -> bytes | None:
        """The CMS SignedData over `signed_directory.raw`; None where no certificate signs the code: the slot is absent,
        or its blob is empty.
        """
        return self._content(Slot.CMS) or None

    @property
    def is_adhoc(self) -> bool:
        """Whether no certificate stands behind the signature, by its flag or for want of one."""
        return CodeFlags.ADHOC in self.directory.flags or self.cms is None

    @property
    def is_linker_signed(self) -> bool:
        """Whether the linker signed it, ad hoc, and nobody since."""
        return CodeFlags.LINKER_SIGNED in self.directory.flags

    def _content(self, slot: int) -> bytes | None:
        blob = self.blobs.get(slot)
        return None if blob is None else blob[_BLOB.size :]


def read_code_signature(data: bytes | memoryview) -> CodeSignature:
    """The signature at the start of `data`; what is behind its SuperBlob (LC_CODE_SIGNATURE's padding) is left alone.

    Raises UnreadableFile: a blob that is not within its bounds, overlaps another, comes twice, or has the wrong magic
    number; or no code directory.
    """
    magic, length, count = BoundedBytes(data, _WHAT).numbers(_HEAD, 0)
    if magic != _SUPER_BLOB:
        raise UnreadableFile(_WHAT, f"begins with {magic:#x}, which is no SuperBlob's magic number")
    if count > MAX_BLOBS:
        raise UnreadableFile(_WHAT, f"{count} blobs")
    whole = BoundedBytes(BoundedBytes(data, _WHAT).part(0, length), _WHAT)
    blobs: dict[int, bytes] = {}
    places: list[tuple[int, int]] = []
    for number in range(count):
        slot, offset = whole.numbers(_ENTRY, _HEAD.size + number * _ENTRY.size)
        if slot in blobs:
            raise UnreadableFile(_WHAT, f"two blobs for slot {slot:#x}")
        blobs[slot] = _blob(whole, slot, offset)
        places.append((offset, len(blobs[slot])))
    end = _HEAD.size + count * _ENTRY.size
    for offset, size in sorted(places):
        if offset < end:
            raise UnreadableFile(_WHAT, f"the blob at {offset} overlaps what ends at {end}")
        end = offset + size
    if Slot.CODE_DIRECTORY not in blobs:
        raise UnreadableFile(_WHAT, "no code directory")
    directories = [slot for slot in (Slot.CODE_DIRECTORY, *_ALTERNATES) if slot in blobs]
    return CodeSignature(tuple(read_code_directory(blobs[slot]) for slot in directories), blobs)


def _blob(whole: BoundedBytes, slot: int, offset: int) -> bytes:
    magic, length = whole.numbers(_BLOB, offset)
    if length < _BLOB.size:
        raise UnreadableFile(_WHAT, f"the blob of slot {slot:#x} has {length} bytes")
    if magic != _MAGIC.get(slot, magic):
        raise UnreadableFile(_WHAT, f"the blob of slot {slot:#x} has the magic number {magic:#x}")
    return bytes(whole.part(offset, length))
