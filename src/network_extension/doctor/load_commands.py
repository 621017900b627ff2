"""The load commands of one Mach-O image: what the kernel and dyld read first (<mach-o/loader.h>)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from .bounded_bytes import BoundedBytes
from .errors import UnreadableFile
from .os_version import OSVersion

__all__ = [
    "BuildVersion",
    "Encryption",
    "FileRange",
    "Library",
    "LibraryLink",
    "LoadCommands",
    "Platform",
    "SymbolTable",
    "read_load_commands",
]


class Platform(IntEnum):
    """What an image is built for (PLATFORM_*)."""

    MACOS = 1
    IOS = 2
    TVOS = 3
    WATCHOS = 4
    BRIDGEOS = 5
    MAC_CATALYST = 6
    IOS_SIMULATOR = 7
    TVOS_SIMULATOR = 8
    WATCHOS_SIMULATOR = 9
    DRIVERKIT = 10
    VISIONOS = 11
    VISIONOS_SIMULATOR = 12


class LibraryLink(StrEnum):
    """How an image wants a library: the LC_LOAD_DYLIB family."""

    LOAD = "load"
    WEAK = "weak"
    REEXPORT = "reexport"
    LAZY = "lazy"
    UPWARD = "upward"


class BuildVersion(NamedTuple):
    """LC_BUILD_VERSION, or LC_VERSION_MIN_* of older linkers."""

    platform: int
    """A Platform, or a number that is not known here."""
    minimum_os: OSVersion
    sdk: OSVersion


class Library(NamedTuple):
    """A library that dyld loads with the image."""

    path: str
    link: LibraryLink


class FileRange(NamedTuple):
    """Bytes of an image; the offset counts from the image's start."""

    offset: int
    size: int


class Encryption(NamedTuple):
    """LC_ENCRYPTION_INFO. Apps from the App Store of iOS are encrypted after they were signed."""

    range: FileRange
    system: int
    """0: not, or not yet, encrypted."""


class SymbolTable(NamedTuple):
    """LC_SYMTAB: `entries` of nlist at `offset`, their names in `names`."""

    offset: int
    entries: int
    names: FileRange


@dataclass(frozen=True)
class LoadCommands:
    """What the load commands say, as far as the doctor needs it. No range has been checked against the image yet,
    save that of the code signature.
    """

    build_versions: tuple[BuildVersion, ...] = ()
    """More than one where an image runs on macOS and in Mac Catalyst."""
    libraries: tuple[Library, ...] = ()
    code_signature: FileRange | None = None
    encryption: Encryption | None = None
    symbol_table: SymbolTable | None = None
    bind_opcodes: tuple[FileRange, ...] = ()
    """LC_DYLD_INFO: bind, weak bind, lazy bind."""
    chained_fixups: FileRange | None = None
    sections: dict[tuple[str, str], FileRange] = field(default_factory=dict)
    """By segment and section, "__TEXT" and "__info_plist". The first of each name."""


_COMMAND = {order: struct.Struct(f"{order}2I") for order in "<>"}
_LIBRARIES = {
    0x0C: LibraryLink.LOAD,
    0x80000018: LibraryLink.WEAK,
    0x8000001F: LibraryLink.REEXPORT,
    0x20: LibraryLink.LAZY,
    0x80000023: LibraryLink.UPWARD,
}
_MINIMUM_VERSIONS = {0x24: Platform.MACOS, 0x25: Platform.IOS, 0x2F: Platform.TVOS, 0x30: Platform.WATCHOS}
_BUILD_VERSION = 0x32
_CODE_SIGNATURE = 0x1D
_SYMTAB = 0x02
_DYLD_INFO = (0x22, 0x80000022)
_CHAINED_FIXUPS = 0x80000034
_ENCRYPTION_INFO = (0x21, 0x2C)
_SEGMENT, _SEGMENT_64 = 0x01, 0x19


def read_load_commands(image: BoundedBytes, at: int, count: int, size: int, order: str) -> LoadCommands:
    """`count` load commands in `size` bytes from offset `at`; `order` is "<" or ">".

    Raises UnreadableFile: a command does not fit, or there are two code signatures.
    """
    builds: list[BuildVersion] = []
    libraries: list[Library] = []
    found: dict[str, FileRange] = {}
    encryption: Encryption | None = None
    symbols: SymbolTable | None = None
    binds: tuple[FileRange, ...] = ()
    sections: dict[tuple[str, str], FileRange] = {}
    for kind, command in _commands(image, at, count, size, order):

        def words(index: int, number: int, command: BoundedBytes = command) -> tuple[int, ...]:
            return command.numbers(struct.Struct(f"{order}{number}I"), 4 * index)

        if kind in _LIBRARIES:
            libraries.append(Library(command.text(words(2, 1)[0], len(command)), _LIBRARIES[kind]))
        elif kind == _BUILD_VERSION or kind in _MINIMUM_VERSIONS:
            builds.append(_build_version(kind, words(2, 3) if kind == _BUILD_VERSION else words(2, 2)))
        elif kind in (_CODE_SIGNATURE, _CHAINED_FIXUPS):
            _put_once(found, kind, FileRange(*words(2, 2)), image)
        elif kind in _ENCRYPTION_INFO:
            offset, length, system = words(2, 3)
            encryption = Encryption(FileRange(offset, length), system)
        elif kind == _SYMTAB:
            offset, entries, names, names_size = words(2, 4)
            symbols = SymbolTable(offset, entries, FileRange(names, names_size))
        elif kind in _DYLD_INFO:
            numbers = words(4, 6)
            binds = tuple(FileRange(*numbers[index : index + 2]) for index in (0, 2, 4))
        elif kind in (_SEGMENT, _SEGMENT_64):
            for name, place in _sections(command, kind == _SEGMENT_64, order):
                sections.setdefault(name, place)
    return LoadCommands(
        build_versions=tuple(builds),
        libraries=tuple(libraries),
        code_signature=found.get("code signature"),
        encryption=encryption,
        symbol_table=symbols,
        bind_opcodes=binds,
        chained_fixups=found.get("chained fixups"),
        sections=sections,
    )


def _commands(image: BoundedBytes, at: int, count: int, size: int, order: str) -> Iterator[tuple[int, BoundedBytes]]:
    end = at + size
    image.part(at, size)
    for number in range(count):
        if at + 8 > end:
            raise UnreadableFile(image.what, f"load command {number} of {count} is not within their {size} bytes")
        kind, length = image.numbers(_COMMAND[order], at)
        if length < 8 or length % 4 or at + length > end:
            raise UnreadableFile(image.what, f"load command {number} ({kind:#x}) has {length} bytes")
        yield kind, BoundedBytes(image.part(at, length), f"{image.what}, load command {number}")
        at += length


def _build_version(kind: int, numbers: tuple[int, ...]) -> BuildVersion:
    platform, minimum, sdk = numbers if kind == _BUILD_VERSION else (_MINIMUM_VERSIONS[kind], *numbers)
    return BuildVersion(platform, OSVersion.unpacked(minimum), OSVersion.unpacked(sdk))


def _put_once(found: dict[str, FileRange], kind: int, place: FileRange, image: BoundedBytes) -> None:
    name = "code signature" if kind == _CODE_SIGNATURE else "chained fixups"
    # Two signatures: a reader that takes the first and a kernel that takes the last would judge different ones.
    if name in found:
        raise UnreadableFile(image.what, f"two load commands name a {name}")
    if kind == _CODE_SIGNATURE:
        image.part(*place)
    found[name] = place


def _sections(command: BoundedBytes, wide: bool, order: str) -> Iterator[tuple[tuple[str, str], FileRange]]:
    """Of an LC_SEGMENT: names, and where the contents are. Sections that take no room in the file (S_ZEROFILL and its
    kin) have offset 0 and are left out.
    """
    head, stride = (72, 80) if wide else (56, 68)
    entry = struct.Struct(f"{order}2QI") if wide else struct.Struct(f"{order}3I")
    (count,) = command.numbers(struct.Struct(f"{order}I"), head - 8)
    command.part(head, count * stride)
    for at in range(head, head + count * stride, stride):
        _, size, offset = command.numbers(entry, at + 32)
        if offset:
            yield (_fixed_name(command.part(at + 16, 16)), _fixed_name(command.part(at, 16))), FileRange(offset, size)


def _fixed_name(raw: memoryview) -> str:
    return bytes(raw).rstrip(b"\0").decode("utf-8", "backslashreplace")
