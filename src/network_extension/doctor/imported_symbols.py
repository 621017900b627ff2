"""Names that an image takes from other images: its undefined symbols, and what dyld binds.

Three places hold them: the symbol table (LC_SYMTAB, <mach-o/nlist.h>), the bind opcodes of LC_DYLD_INFO, and since
macOS 12 and iOS 15 chained fixups (<mach-o/fixup-chains.h>). Tools that strip an image may leave any of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .bounded_bytes import BoundedBytes
from .errors import UnreadableFile
from .load_commands import SymbolTable
from .macho import Slice

__all__ = ["imported_classes", "imported_symbols"]

_WHAT = "symbols of a Mach-O file"
_CLASS = "_OBJC_CLASS_$_"
_TYPE_MASK, _STABS, _EXTERNAL = 0x0E, 0xE0, 0x01


def imported_classes(image: Slice) -> frozenset[str]:
    """The Objective-C classes that the image takes from others: "NEPacketTunnelProvider". Raises UnreadableFile."""
    return frozenset(name.removeprefix(_CLASS) for name in imported_symbols(image) if name.startswith(_CLASS))


def imported_symbols(image: Slice) -> frozenset[str]:
    """The symbols that the image takes from others, as the linker spells them: "_NSExtensionMain".

    Raises UnreadableFile.
    """
    data = BoundedBytes(image.data, _WHAT)
    names: set[bytes] = set()
    if image.commands.symbol_table is not None:
        names.update(_undefined(data, image.commands.symbol_table, image))
    for place in image.commands.bind_opcodes:
        names.update(_bound(bytes(data.part(*place))))
    if image.commands.chained_fixups is not None:
        fixups = BoundedBytes(data.part(*image.commands.chained_fixups), _WHAT)
        names.update(_chained(fixups, image.byte_order))
    return frozenset(name.decode("utf-8", "backslashreplace") for name in names if name)


def _undefined(data: BoundedBytes, table: SymbolTable, image: Slice) -> Iterator[bytes]:
    entry = struct.Struct(f"{image.byte_order}I2BH{'Q' if image.is_64_bit else 'I'}")
    names = bytes(data.part(*table.names))
    # Names may share bytes, so that the sum of their lengths has no bound of its own.
    budget = 4 * len(names)
    seen: set[int] = set()
    for start, kind, *_ in entry.iter_unpack(data.part(table.offset, table.entries * entry.size)):
        if kind & _STABS or kind & _TYPE_MASK or not kind & _EXTERNAL or start in seen:
            continue
        seen.add(start)
        end = names.find(b"\0", start)
        if end < 0:
            raise UnreadableFile(_WHAT, f"the name at {start} does not end within the {len(names)} bytes of names")
        budget -= end - start
        if budget < 0:
            raise UnreadableFile(_WHAT, "names that overlap")
        yield names[start:end]


_ONE_NUMBER = (0x20, 0x60, 0x70, 0x80, 0xA0)
_SYMBOL, _TIMES_SKIPPING, _THREADED = 0x40, 0xC0, 0xD0


def _bound(opcodes: bytes) -> Iterator[bytes]:
    """The names in bind opcodes (<mach-o/loader.h>, BIND_OPCODE_*)."""
    at = 0
    while at < len(opcodes):
        opcode, immediate = opcodes[at] & 0xF0, opcodes[at] & 0x0F
        at += 1
        if opcode == _SYMBOL:
            end = opcodes.find(b"\0", at)
            if end < 0:
                raise UnreadableFile(_WHAT, f"the name at {at} of the bind opcodes does not end")
            yield opcodes[at:end]
            at = end + 1
        elif opcode in _ONE_NUMBER or (opcode == _THREADED and not immediate):
            at = _after_number(opcodes, at)
        elif opcode == _TIMES_SKIPPING:
            at = _after_number(opcodes, _after_number(opcodes, at))
        elif opcode > _THREADED:
            raise UnreadableFile(_WHAT, f"bind opcode {opcode:#x}")


def _after_number(opcodes: bytes, at: int) -> int:
    """Past a number in LEB128, of which the last byte has no high bit."""
    while at < len(opcodes) and opcodes[at] & 0x80:
        at += 1
    return at + 1


def _chained(fixups: BoundedBytes, order: str) -> Iterator[bytes]:
    """dyld_chained_fixups_header: the names of all imports are one run of C strings, at its end."""
    _, _, _, symbols, count, _, packed = fixups.numbers(struct.Struct(f"{order}7I"), 0)
    if packed:
        raise UnreadableFile(_WHAT, f"names of chained fixups are packed in format {packed}")
    if count:
        yield from bytes(fixups.part(symbols, len(fixups) - symbols)).split(b"\0")
