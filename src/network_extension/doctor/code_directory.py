"""The CodeDirectory: what a code signature signs. Hashes of each page of the code, and of what belongs to it.

After xnu's osfmk/kern/cs_blobs.h and bsd/kern/ubc_subr.c, which checks it before the kernel maps a page. All numbers
are big-endian. Special slot n (1: Info.plist, 3: CodeResources …) lies before the hashes of the pages, counted
backwards.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import NamedTuple

from .bounded_bytes import BoundedBytes
from .errors import UnreadableFile
from .os_version import OSVersion

__all__ = [
    "CDHASH_SIZE",
    "CodeDirectory",
    "CodeFlags",
    "ExecutableSegment",
    "HashType",
    "Linkage",
    "Scatter",
    "read_code_directory",
]

_WHAT = "code directory"
_MAGIC = 0xFADE0C02
CDHASH_SIZE = 20
"""What names a piece of code to the system: the hash of its code directory, cut to these many bytes."""
MAX_PAGE_SHIFT = 24


class HashType(IntEnum):
    """How the hashes of a code directory, and its own, are made (CS_HASHTYPE_*)."""

    SHA1 = 1
    SHA256 = 2
    SHA256_TRUNCATED = 3
    SHA384 = 4

    @property
    def size(self) -> int:
        """Bytes of one hash."""
        return _ALGORITHMS[self][1]

    @property
    def algorithm(self) -> str:
        """The name that hashlib has for it."""
        return _ALGORITHMS[self][0]

    @property
    def strength(self) -> int:
        """Among several code directories the system takes the one whose hash has the highest (ubc_subr.c,
        hashPriorities).
        """
        return (HashType.SHA1, HashType.SHA256_TRUNCATED, HashType.SHA256, HashType.SHA384).index(self)

    def digest(self, data: bytes | memoryview) -> bytes:
        """The hash of `data`."""
        name, size = _ALGORITHMS[self]
        return hashlib.new(name, data, usedforsecurity=False).digest()[:size]


_ALGORITHMS = {
    HashType.SHA1: ("sha1", 20),
    HashType.SHA256: ("sha256", 32),
    HashType.SHA256_TRUNCATED: ("sha256", 20),
    HashType.SHA384: ("sha384", 48),
}


class CodeFlags(IntFlag):
    """Flags of a code directory (CS_*), as far as signers set them. Others are kept as numbers."""

    ADHOC = 0x2
    GET_TASK_ALLOW = 0x4
    FORCED_LIBRARY_VALIDATION = 0x10
    HARD = 0x100
    KILL = 0x200
    CHECK_EXPIRATION = 0x400
    RESTRICT = 0x800
    ENFORCEMENT = 0x1000
    LIBRARY_VALIDATION = 0x2000
    RUNTIME = 0x10000
    """The hardened runtime."""
    LINKER_SIGNED = 0x20000


class Scatter(NamedTuple):
    """The next `pages` hashes are those of the pages from number `base` on."""

    pages: int
    base: int
    target_offset: int


class ExecutableSegment(NamedTuple):
    """Where the text segment is, and CS_EXECSEG_* flags (0x1: a main binary)."""

    base: int
    limit: int
    flags: int


class Linkage(NamedTuple):
    """Version 0x20600: what the code is a part of."""

    hash_type: int
    application_type: int
    application_subtype: int
    offset: int
    size: int


@dataclass(frozen=True)
class CodeDirectory:
    """One code directory, all of whose offsets have been checked."""

    raw: bytes = field(repr=False)
    """The blob with its head: what the CMS signature signs."""
    version: int
    flags: CodeFlags
    identifier: str
    team: str | None
    platform: int
    """Not 0: a part of the operating system."""
    hash_type: HashType
    page_size: int
    """Bytes; 0: one hash over all of the code."""
    code_limit: int
    """The code ends before this offset of the image: where the signature begins."""
    special_hashes: tuple[bytes, ...] = field(repr=False)
    """Of special slots 1, 2, 3 …; zeros where there is nothing."""
    page_hashes: tuple[bytes, ...] = field(repr=False)
    scatter: tuple[Scatter, ...] = ()
    executable_segment: ExecutableSegment | None = None
    runtime_version: OSVersion | None = None
    """The SDK whose rules of the hardened runtime apply; None where no such version is set."""
    linkage: Linkage | None = None

    @property
    def digest(self) -> bytes:
        """The hash of this code directory, in full."""
        return self.hash_type.digest(self.raw)

    @property
    def cdhash(self) -> bytes:
        """The 20 bytes that name this code: in tickets, in requirements, in what is sealed of nested code."""
        return self.digest[:CDHASH_SIZE]

    def special_hash(self, slot: int) -> bytes | None:
        """The hash in special slot `slot`, from 1; None where there is none, or zeros."""
        if not 0 < slot <= len(self.special_hashes) or not any(self.special_hashes[slot - 1]):
            return None
        return self.special_hashes[slot - 1]


_HEAD = struct.Struct(">9I4BI")
_SIZES = ((0x20600, 108), (0x20500, 96), (0x20400, 88), (0x20300, 64), (0x20200, 52), (0x20100, 48), (0, 44))
_U32, _U64, _LINKAGE = struct.Struct(">I"), struct.Struct(">Q"), struct.Struct(">2BH2I")
_EXECUTABLE, _SCATTER = struct.Struct(">3Q"), struct.Struct(">2I2Q")
_VERSIONS = range(0x20001, 0x2F001)
"""What Security.framework reads (codedirectory.h, earliestVersion and compatibilityLimit)."""


def read_code_directory(blob: bytes | memoryview) -> CodeDirectory:
    """The code directory in a blob that begins with its magic number, and ends with it.

    Raises UnreadableFile.
    """
    data = BoundedBytes(blob, _WHAT)
    magic, length, version, flags, hashes, identifier, special, pages, limit, *small = data.numbers(_HEAD, 0)
    hash_size, hash_kind, platform, page_shift, _ = small
    if magic != _MAGIC or length != len(data):
        raise UnreadableFile(_WHAT, f"magic {magic:#x} and a length of {length} in a blob of {len(data)} bytes")
    if version not in _VERSIONS:
        raise UnreadableFile(_WHAT, f"version {version:#x} is not known")
    head_size = next(size for since, size in _SIZES if version >= since)
    data.part(0, head_size)
    hash_type = _hash_type(hash_kind, hash_size)
    if page_shift > MAX_PAGE_SHIFT:
        raise UnreadableFile(_WHAT, f"pages of 2^{page_shift} bytes")
    first = hashes - special * hash_size
    if first < head_size:
        raise UnreadableFile(_WHAT, f"{special} special hashes before {hashes} do not fit behind the head")
    table = bytes(data.part(first, (special + pages) * hash_size))
    each = tuple(table[at : at + hash_size] for at in range(0, len(table), hash_size))
    newer = _newer_fields(data, version, pages)
    return CodeDirectory(
        raw=bytes(data.view),
        version=version,
        flags=CodeFlags(flags),
        identifier=data.text(identifier, length),
        team=data.text(newer.team_offset, length) if newer.team_offset else None,
        platform=platform,
        hash_type=hash_type,
        page_size=1 << page_shift if page_shift else 0,
        code_limit=newer.code_limit or limit,
        special_hashes=tuple(reversed(each[:special])),
        page_hashes=each[special:],
        scatter=newer.scatter,
        executable_segment=newer.executable_segment,
        runtime_version=OSVersion.unpacked(newer.runtime) if newer.runtime else None,
        linkage=newer.linkage,
    )


class _NewerFields(NamedTuple):
    scatter: tuple[Scatter, ...] = ()
    team_offset: int = 0
    code_limit: int = 0
    executable_segment: ExecutableSegment | None = None
    runtime: int = 0
    linkage: Linkage | None = None


def _newer_fields(data: BoundedBytes, version: int, pages: int) -> _NewerFields:
    """What later versions added behind the head, each at a fixed offset."""
    fields = _NewerFields()
    if version >= 0x20100:
        fields = fields._replace(scatter=_scatter(data, data.numbers(_U32, 44)[0], pages))
    if version >= 0x20200:
        fields = fields._replace(team_offset=data.numbers(_U32, 48)[0])
    if version >= 0x20300:
        fields = fields._replace(code_limit=data.numbers(_U64, 56)[0])
    if version >= 0x20400:
        fields = fields._replace(executable_segment=ExecutableSegment(*data.numbers(_EXECUTABLE, 64)))
    if version >= 0x20500:
        fields = fields._replace(runtime=data.numbers(_U32, 88)[0])
    if version >= 0x20600:
        fields = fields._replace(linkage=Linkage(*data.numbers(_LINKAGE, 96)))
    return fields


def _hash_type(kind: int, size: int) -> HashType:
    try:
        hash_type = HashType(kind)
    except ValueError:
        raise UnreadableFile(_WHAT, f"hash type {kind} is not known") from None
    if hash_type.size != size:
        raise UnreadableFile(_WHAT, f"hashes of {size} bytes for {hash_type.name}, which has {hash_type.size}")
    return hash_type


def _scatter(data: BoundedBytes, at: int, pages: int) -> tuple[Scatter, ...]:
    """The list ends with a count of 0. Together its entries count no more hashes than there are, and go upwards: the
    kernel's search stops at the first that is behind the page it looks for.
    """
    found: list[Scatter] = []
    hashes = end = 0
    while at:
        count, base, target, _ = data.numbers(_SCATTER, at)
        if not count:
            break
        hashes += count
        if hashes > pages or base < end:
            raise UnreadableFile(_WHAT, f"scatter entry {len(found)} has {count} pages from page {base}")
        end = base + count
        found.append(Scatter(count, base, target))
        at += _SCATTER.size
    return tuple(found)
