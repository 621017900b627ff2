"""Where the members of kernel structures lie, read from the kernel's own description of its types (BTF).

`/sys/kernel/btf/vmlinux` is 5 MB of records (Documentation/bpf/btf.rst in the kernel's sources). Only a few structures
are needed, and those that matter are defined early, so the file is mapped and walked just as far as the last of them:
about 30 ms, and once for each process.

A member may stand in nameless structures and unions, as C allows: `mm_struct.exe_file` is such a one.
"""

from __future__ import annotations

import functools
import mmap
import os
import struct
from array import array
from collections.abc import Iterable, Iterator

from ..errors import DatapathError

VMLINUX = "/sys/kernel/btf/vmlinux"
MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_SIZE = _TYPE.size

ARRAY, STRUCT, UNION, TYPEDEF, VOLATILE, CONST, TYPE_TAG = 3, 4, 5, 8, 9, 10, 18
_ALIASES = (TYPEDEF, VOLATILE, CONST, TYPE_TAG)
# What follows the 12 bytes of each record: so many bytes, and so many for each of its entries.
_FIXED = {1: 4, ARRAY: 12, 14: 4, 17: 4}
_EACH = {STRUCT: 12, UNION: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_LAST_KIND = 19

Buffer = bytes | mmap.mmap


class Btf:
    """One blob of BTF. Raises DatapathError when it is none."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        try:
            magic, version, _, header, types, types_size, strings, strings_size = _HEADER.unpack_from(data)
        except struct.error:
            magic = version = header = types = types_size = strings = strings_size = 0
        if magic != MAGIC or version != 1:
            raise DatapathError("the kernel's type information is not BTF version 1", object=VMLINUX)
        self._next, self._end = header + types, min(header + types + types_size, len(data))
        self._strings = header + strings, min(header + strings + strings_size, len(data))
        self._offsets = array("I", [0])  # of each type by its number; number 0 is void
        self._structures: dict[int, int] = {}  # offset of the name in the strings → offset of the record

    def offset(self, path: str) -> int:
        """Bytes from the start of a structure to a member: `file.f_path.dentry`. A member that is absent raises."""
        name, *members = path.split(".")
        record = self._structure(name)
        total = 0
        for member in members:
            found = self._member(record, member) if record else None
            if found is None:
                raise DatapathError(f"this kernel has no {path}", object=VMLINUX)
            bits, kind = found
            total += bits // 8
            record = self._resolved(kind)
        return total

    def _structure(self, name: str) -> int:
        """The record of the structure with this name; 0 when there is none."""
        text = self._name_offset(name)
        if text and text not in self._structures:
            for known in self._walk():
                if known == text:
                    break
        return self._structures.get(text, 0)

    def _name_offset(self, name: str) -> int:
        """Where a name stands among the strings. They are unique, and may share their tails."""
        start, end = self._strings
        at = self._data.find(b"\0" + name.encode() + b"\0", start, end)
        return at + 1 - start if at >= 0 else 0

    def _name(self, offset: int) -> bytes:
        start, end = self._strings
        start += offset
        stop = self._data.find(b"\0", start, end)
        return self._data[start:stop] if stop >= start else b""

    def _walk(self) -> Iterator[int]:
        """Go on through the records, and note each; the names of the structures that are passed."""
        read, data, at, end = _TYPE.unpack_from, self._data, self._next, self._end
        append, structures = self._offsets.append, self._structures
        while at + _SIZE <= end:
            name, info, _ = read(data, at)
            kind = info >> 24 & 0x1F
            if not 0 < kind <= _LAST_KIND:
                raise DatapathError(f"the kernel's type information holds a record of unknown kind {kind}")
            append(at)
            here, at = at, at + _SIZE + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * (info & 0xFFFF)
            self._next = at
            if kind == STRUCT and name:
                structures.setdefault(name, here)
                yield name

    def _record(self, number: int) -> int:
        """The record of a type by its number; 0 for void and for what is out of range."""
        if number >= len(self._offsets):
            for _ in self._walk():
                if number < len(self._offsets):
                    break
        return self._offsets[number] if number < len(self._offsets) else 0

    def _resolved(self, number: int) -> int:
        """The record behind typedefs and qualifiers."""
        for _ in range(16):
            record = self._record(number)
            if not record:
                return 0
            _, info, number = _TYPE.unpack_from(self._data, record)
            if info >> 24 & 0x1F not in _ALIASES:
                return record
        return 0

    def _members(self, record: int) -> Iterator[tuple[bytes, int, int]]:
        """Name, type and offset in bits of each member of a structure or union."""
        _, info, _ = _TYPE.unpack_from(self._data, record)
        if info >> 24 & 0x1F not in (STRUCT, UNION):
            return
        for index in range(info & 0xFFFF):
            name, kind, bits = _TYPE.unpack_from(self._data, record + _SIZE + index * 12)
            yield self._name(name), kind, bits & 0xFFFFFF if info >> 31 else bits

    def _member(self, record: int, name: str, depth: int = 8) -> tuple[int, int] | None:
        """Offset in bits and type of a member, which may stand in nameless structures."""
        wanted = name.encode()
        for found, kind, bits in self._members(record):
            if found == wanted:
                return bits, kind
            if not found and depth and (inner := self._member(self._resolved(kind), name, depth - 1)):
                return bits + inner[0], inner[1]
        return None


@functools.cache
def member_offsets(paths: tuple[str, ...], source: str = VMLINUX) -> dict[str, int]:
    """The offset of each `structure.member` in the running kernel; raises DatapathError when one is not to be had."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        step = "the kernel must be built with CONFIG_DEBUG_INFO_BTF"
        raise DatapathError(f"{source}: {error.strerror}", errno=error.errno, object=source, next_step=step) from error
    try:
        return _offsets(_content(descriptor), paths)
    except (OSError, struct.error) as error:
        raise DatapathError(f"{source}: {error}", object=source) from error
    finally:
        os.close(descriptor)


def _offsets(data: Buffer, paths: Iterable[str]) -> dict[str, int]:
    try:
        btf = Btf(data)
        return {path: btf.offset(path) for path in paths}
    finally:
        if isinstance(data, mmap.mmap):
            data.close()


def _content(descriptor: int) -> Buffer:
    """The file, mapped; read where it cannot be mapped (sysfs allows it since Linux 6.16)."""
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read()
