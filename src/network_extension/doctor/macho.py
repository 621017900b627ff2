"""Mach-O files, thin and fat: one image per architecture, what it is built for, what it links, where its signature is.

After <mach-o/fat.h> and <mach-o/loader.h>. Nothing is disassembled: that a class is implemented, or a selector is
called, is shown by its name, which an image holds as a C string.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from .bounded_bytes import BoundedBytes
from .errors import UnreadableFile
from .load_commands import FileRange, LoadCommands, read_load_commands

__all__ = ["FileType", "Slice", "is_macho", "read_macho"]

_WHAT = "Mach-O file"
_FAT, _FAT_64 = 0xCAFEBABE, 0xCAFEBABF
_THIN = {
    b"\xce\xfa\xed\xfe": ("<", False),
    b"\xcf\xfa\xed\xfe": ("<", True),
    b"\xfe\xed\xfa\xce": (">", False),
    b"\xfe\xed\xfa\xcf": (">", True),
}
MAX_SLICES = 42
"""A Java class file has the magic number of a fat file, and its version, 43 at least, where the count is."""


# The names of classes that Swift implements are among the other C strings up to Xcode 16, and apart since Xcode 26.
_CLASS_NAMES = ("__objc_classname", "__cstring")
_STRINGS = (*_CLASS_NAMES, "__objc_methname")


class FileType(IntEnum):
    """What an image is (MH_*), as far as bundles hold it."""

    OBJECT = 1
    EXECUTE = 2
    DYLIB = 6
    DYLINKER = 7
    BUNDLE = 8
    DSYM = 10
    KEXT_BUNDLE = 11


_CPU_64, _CPU_64_32 = 0x01000000, 0x02000000
_SUBTYPE_MASK = 0x00FFFFFF  # above it: CPU_SUBTYPE_LIB64, and the version of arm64e's pointer authentication
_X86, _ARM, _POWERPC = 7, 12, 18
_ARCHITECTURES = {
    (_X86, 3): "i386",
    (_X86 | _CPU_64, 3): "x86_64",
    (_X86 | _CPU_64, 8): "x86_64h",
    (_ARM, 6): "armv6",
    (_ARM, 9): "armv7",
    (_ARM, 11): "armv7s",
    (_ARM, 12): "armv7k",
    (_ARM | _CPU_64, 0): "arm64",
    (_ARM | _CPU_64, 1): "arm64",
    (_ARM | _CPU_64, 2): "arm64e",
    (_ARM | _CPU_64_32, 1): "arm64_32",
    (_POWERPC, 0): "ppc",
    (_POWERPC | _CPU_64, 0): "ppc64",
}


@dataclass(frozen=True)
class Slice:
    """One image of a Mach-O file."""

    file: bytes = field(repr=False)
    """The whole file; this image is `size` bytes from `offset`."""
    offset: int
    size: int
    architecture: str
    """As `lipo -archs` prints it; "cpu 7.3" where it is not known here."""
    file_type: int
    """A FileType, or a number that is not known here."""
    is_64_bit: bool
    byte_order: str
    """"<" or ">", as struct has it."""
    commands: LoadCommands = field(repr=False)

    @property
    def data(self) -> memoryview:
        """The image's bytes, not copied."""
        return memoryview(self.file)[self.offset : self.offset + self.size]

    @property
    def signature_data(self) -> memoryview | None:
        """What LC_CODE_SIGNATURE names: a SuperBlob, and zeros up to a round number. None: not signed."""
        place = self.commands.code_signature
        return None if place is None else self.data[place.offset : place.offset + place.size]

    @property
    def is_encrypted(self) -> bool:
        """Whether the code is encrypted, as in apps that the App Store of iOS delivered; its hashes then hold on the
        device only.
        """
        return self.commands.encryption is not None and self.commands.encryption.system != 0

    def contains(self, needle: bytes) -> bool:
        """Whether the bytes occur in the image. The code signature is left out: what it says is not the code's."""
        signature = self.commands.code_signature
        end = self.size if signature is None else signature.offset
        return self.file.find(needle, self.offset, self.offset + end) >= 0

    def contains_string(self, text: str) -> bool:
        """Whether the text is one of the image's C strings, as a whole: a selector, say."""
        return self._holds(text, _STRINGS)

    def contains_class(self, name: str) -> bool:
        """Whether the image implements the class that a property list names "Class" or "Module.Class".

        Swift gives "Module.Class" the Objective-C name _TtC6Module5Class (swift/docs/ABI/OldMangling.rst) unless
        @objc(…) says otherwise; "Class" alone, which Swift keeps as well, is no name by which it can be found.
        """
        module, dot, inner = name.partition(".")
        if dot and module and inner and "." not in inner:
            mangled = "_TtC" + "".join(f"{len(_utf8(part))}{part}" for part in (module, inner))
            return self._holds(mangled, _CLASS_NAMES) or self._holds(name, _CLASS_NAMES)
        return self._holds(name, _CLASS_NAMES)

    def _holds(self, text: str, sections: tuple[str, ...]) -> bool:
        """Whether one of these sections of C strings has the text; an image that has none of them counts as one."""
        whole = _utf8(text) + b"\0"
        places = [self.commands.sections.get(("__TEXT", name)) for name in sections]
        for place in [place for place in places if place] or [FileRange(0, self.size)]:
            start = self.offset + place.offset
            end = min(start + place.size, self.offset + self.size)
            if self.file.startswith(whole, start, end) or self.file.find(b"\0" + whole, start, end) >= 0:
                return True
        return False

    def section(self, segment: str, name: str) -> bytes | None:
        """The contents of a section ("__TEXT", "__info_plist"); None where there is none. Raises UnreadableFile."""
        place = self.commands.sections.get((segment, name))
        return None if place is None else bytes(BoundedBytes(self.data, _WHAT).part(*place))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # what a property list says is searched for, whatever it is


def is_macho(head: bytes) -> bool:
    """Whether a file that begins with these eight bytes or more is to be read as Mach-O."""
    if len(head) < 8:
        return False
    magic, count = struct.unpack_from(">2I", head)
    return head[:4] in _THIN or (magic in (_FAT, _FAT_64) and 0 < count <= MAX_SLICES)


def read_macho(data: bytes | memoryview) -> tuple[Slice, ...]:
    """The images of a Mach-O file, in its order.

    Raises UnreadableFile: no Mach-O file, or one whose parts overlap or reach out of it.
    """
    file = bytes(data)  # no copy where it is bytes already
    if not is_macho(file[:8]):
        raise UnreadableFile(_WHAT, f"begins with {file[:8].hex()}, which is no magic number of Mach-O")
    if file[:4] in _THIN:
        return (_image(file, FileRange(0, len(file))),)
    return tuple(_image(file, place, cpu) for cpu, place in _architectures(BoundedBytes(file, _WHAT)))


class _Cpu(NamedTuple):
    type: int
    subtype: int


def _architectures(file: BoundedBytes) -> list[tuple[_Cpu, FileRange]]:
    """The records of a fat file, always in big-endian order."""
    magic, count = file.numbers(struct.Struct(">2I"), 0)
    record = struct.Struct(">2I2Q2I" if magic == _FAT_64 else ">5I")
    found: list[tuple[_Cpu, FileRange]] = []
    for number in range(count):
        cpu, subtype, offset, size, *_ = file.numbers(record, 8 + number * record.size)
        file.part(offset, size)
        found.append((_Cpu(cpu, subtype), FileRange(offset, size)))
    end = 8 + count * record.size
    for _, place in sorted(found, key=lambda entry: entry[1]):
        if place.offset < end:
            raise UnreadableFile(_WHAT, f"the image at {place.offset} overlaps what ends at {end}")
        end = place.offset + place.size
    return found


def _image(file: bytes, place: FileRange, announced: _Cpu | None = None) -> Slice:
    image = BoundedBytes(memoryview(file)[place.offset : place.offset + place.size], _WHAT)
    magic = bytes(image.part(0, 4))
    if magic not in _THIN:
        raise UnreadableFile(_WHAT, f"the image at {place.offset} begins with {magic.hex()}")
    order, wide = _THIN[magic]
    cpu, subtype, file_type, count, size, _ = image.numbers(struct.Struct(f"{order}6I"), 4)
    if announced is not None and announced.type != cpu:
        raise UnreadableFile(_WHAT, f"the image at {place.offset} is for cpu {cpu}, its record says {announced.type}")
    subtype &= _SUBTYPE_MASK
    if announced is not None and announced.subtype & _SUBTYPE_MASK != subtype:
        why = f"the image at {place.offset} has subtype {subtype}, its record {announced.subtype}"
        raise UnreadableFile(_WHAT, why)
    return Slice(
        file=file,
        offset=place.offset,
        size=place.size,
        architecture=_ARCHITECTURES.get((cpu, subtype), f"cpu {cpu}.{subtype}"),
        file_type=file_type,
        is_64_bit=wide,
        byte_order=order,
        commands=read_load_commands(image, 32 if wide else 28, count, size, order),
    )
