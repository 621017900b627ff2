"""The central directory of a zip, which says what is in it and where (APPNOTE.TXT 6.3.10, sections 4.3 to 4.5).

The standard library's reader takes in a directory of any size before anybody can object, and knows nothing of entries
that lie on each other; so this is read here.
"""

from __future__ import annotations

import stat
import struct
from typing import IO, NamedTuple

from ..bounded_bytes import BoundedBytes
from ..errors import UnreadableFile
from .byte_stream import file_part
from .limits import quoted

__all__ = ["LOCAL", "ZipEntry", "read_zip_directory"]

MAX_SIZE = 64 << 20
"""Bytes of a central directory: some 500,000 entries."""
LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END, _END_64, _LOCATOR = struct.Struct("<4s4H2IH"), struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI")
_MAX_COMMENT = 0xFFFF
_FULL, _FULL_64 = 0xFFFF, 0xFFFFFFFF
_UNIX = (3, 19)
"""Systems that keep a mode beside a file: Unix, and OS X by its own number."""


class ZipEntry(NamedTuple):
    """One entry, as the central directory has it."""

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    packed: int
    """Bytes in the archive."""
    size: int
    """Bytes when unpacked."""
    offset: int
    """Of its local header."""
    mode: int
    """Of Unix, with the kind of file; 0 where the archive was made elsewhere."""

    @property
    def is_folder(self) -> bool:
        """By its mode, or by the slash at its end."""
        return self.name.endswith("/") or stat.S_ISDIR(self.mode)


def read_zip_directory(file: IO[bytes], size: int, what: str, most: int) -> list[ZipEntry]:
    """At most `most` entries of a zip of `size` bytes, in the directory's order.

    Raises UnreadableFile: no directory, damaged, too many entries, several disks, or entries that overlap.
    """
    start, length, count = _place(file, size, what)
    if length > MAX_SIZE or count > most:
        raise UnreadableFile(what, f"a directory of {count} entries in {length} bytes")
    data = BoundedBytes(b"".join(file_part(file, what, start, length)), what)
    found: list[ZipEntry] = []
    at = 0
    while at < length:
        if len(found) == most:
            raise UnreadableFile(what, f"more than {most} entries")
        entry, at = _entry(data, at, what)
        found.append(entry)
    if len(found) != count:
        raise UnreadableFile(what, f"{len(found)} entries in its directory, which says {count}")
    _must_not_overlap(found, start, what)
    return found


def _place(file: IO[bytes], size: int, what: str) -> tuple[int, int, int]:
    """Offset and length of the directory, and how many entries it says it has."""
    start = max(0, size - _END.size - _MAX_COMMENT)
    tail = b"".join(file_part(file, what, start, size - start))
    at = len(tail)
    while (at := tail.rfind(b"PK\5\6", 0, at)) != -1:
        if at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[-1] == len(tail):
            break
        at += 3
    if at == -1:
        raise UnreadableFile(what, "the zip has no directory at its end: cut off")
    _, disk, first_disk, here, count, length, offset, _ = _END.unpack_from(tail, at)
    end = start + at
    if _FULL in (here, count) or _FULL_64 in (length, offset):
        place = _place_64(file, end, what)
        if place is not None:
            return place
    if disk or first_disk or here != count:
        raise UnreadableFile(what, "a zip in several parts")
    if offset + length > end:
        raise UnreadableFile(what, f"its directory, {length} bytes at {offset}, is not in the file")
    return offset, length, count


def _place_64(file: IO[bytes], end: int, what: str) -> tuple[int, int, int] | None:
    """The same of a zip with large numbers; None: it is none, and has just so many entries."""
    if end < _LOCATOR.size + _END_64.size:
        return None
    raw = b"".join(file_part(file, what, end - _LOCATOR.size, _LOCATOR.size))
    magic, disk, offset, disks = _LOCATOR.unpack(raw)
    if magic != b"PK\6\7":
        return None
    if disk or disks > 1 or offset > end - _LOCATOR.size - _END_64.size:
        raise UnreadableFile(what, "a zip in several parts, or one that is damaged at its end")
    raw = b"".join(file_part(file, what, offset, _END_64.size))
    magic, _, _, _, disk, first_disk, here, count, length, start = _END_64.unpack(raw)
    if magic != b"PK\6\6" or disk or first_disk or here != count or start + length > offset:
        raise UnreadableFile(what, "damaged at its end")
    return start, length, count


def _entry(data: BoundedBytes, at: int, what: str) -> tuple[ZipEntry, int]:
    raw = bytes(data.part(at, _CENTRAL.size))
    magic, made_by, _, flags, method, _, _, crc, packed, size, *lengths, _, _, attributes, offset = _CENTRAL.unpack(raw)
    if magic != b"PK\1\2":
        raise UnreadableFile(what, f"no entry at byte {at} of its directory")
    name_size, extra_size, comment_size = lengths[:3]
    at += _CENTRAL.size
    name = bytes(data.part(at, name_size))
    extra = bytes(data.part(at + name_size, extra_size))
    data.part(at + name_size + extra_size, comment_size)
    if _FULL_64 in (size, packed, offset):
        size, packed, offset = _large(extra, size, packed, offset, what)
    mode = attributes >> 16 if made_by >> 8 in _UNIX else 0
    found = ZipEntry(name, _name(name, flags, what), flags, method, crc, packed, size, offset, mode)
    return found, at + name_size + extra_size + comment_size


def _large(extra: bytes, size: int, packed: int, offset: int, what: str) -> tuple[int, int, int]:
    """Numbers that have no place in 32 bits, from the extra field 1: those that are all ones, in order."""
    field = BoundedBytes(_extra_field(extra, 1), f"{what}: extra field")
    at = 0
    numbers: list[int] = []
    for number in (size, packed, offset):
        if number == _FULL_64:
            number = int.from_bytes(field.part(at, 8), "little")
            at += 8
        numbers.append(number)
    return numbers[0], numbers[1], numbers[2]


def _extra_field(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _name(raw: bytes, flags: int, what: str) -> str:
    """UTF-8 where the flag says so; else UTF-8 if it is, because macOS writes that and forgets the flag."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        if flags & 0x800:
            raise UnreadableFile(what, f"the name {quoted(raw.decode('latin-1'))} is not UTF-8") from None
        return raw.decode("cp437")


def _must_not_overlap(entries: list[ZipEntry], directory: int, what: str) -> None:
    """A few kilobytes that a hundred thousand entries share would be unpacked a hundred thousand times."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.offset < end:
            raise UnreadableFile(what, f"{quoted(entry.name)}: lies on another entry")
        end = entry.offset + LOCAL.size + len(entry.raw_name) + entry.packed
    if end > directory:
        raise UnreadableFile(what, "an entry is not within the archive")
