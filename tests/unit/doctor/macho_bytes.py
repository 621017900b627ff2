"""Mach-O files as a linker writes them, as small as can be."""

from __future__ import annotations

import struct

X86_64, ARM64 = (0x01000007, 3), (0x0100000C, 0)


def command(kind: int, *words: int, tail: bytes = b"", order: str = "<") -> bytes:
    """One load command: its number and length, `words` of 32 bits, then `tail` with zeros up to a multiple of eight."""
    content = struct.pack(f"{order}{len(words)}I", *words) + tail
    content += bytes(-len(content) % 8)
    return struct.pack(f"{order}2I", kind, 8 + len(content)) + content


def library(kind: int, path: str) -> bytes:
    return command(kind, 24, 0, 0, 0, tail=path.encode() + b"\0")


def segment(name: str, sections: list[tuple[str, int, int]]) -> bytes:
    """LC_SEGMENT_64; sections as (name, file offset, size)."""
    head = name.encode().ljust(16, b"\0") + struct.pack("<4Q4I", 0, 0, 0, 0, 0, 0, len(sections), 0)
    parts = [
        part.encode().ljust(16, b"\0")
        + name.encode().ljust(16, b"\0")
        + struct.pack("<2Q8I", 0, size, offset, *[0] * 7)
        for part, offset, size in sections
    ]
    return command(0x19, tail=head + b"".join(parts))


def head_size(commands: list[bytes], *, wide: bool = True) -> int:
    """Where the body of a thin image begins."""
    return (32 if wide else 28) + len(b"".join(commands))


def thin(
    commands: list[bytes],
    body: bytes = b"",
    *,
    cpu: tuple[int, int] = ARM64,
    file_type: int = 2,
    order: str = "<",
    wide: bool = True,
) -> bytes:
    """An image: its head, the load commands, and `body` right behind."""
    joined = b"".join(commands)
    magic = 0xFEEDFACF if wide else 0xFEEDFACE
    head = struct.pack(f"{order}7I", magic, *cpu, file_type, len(commands), len(joined), 0)
    return head + bytes(4 if wide else 0) + joined + body


def fat(images: list[tuple[tuple[int, int], bytes]], *, wide: bool = False) -> bytes:
    """A fat file with records of 32 bits, or of 64."""
    record = ">2I2Q2I" if wide else ">5I"
    at = 8 + len(images) * struct.calcsize(record)
    out, bodies = struct.pack(">2I", 0xCAFEBABF if wide else 0xCAFEBABE, len(images)), b""
    for cpu, image in images:
        out += struct.pack(record, *cpu, at + len(bodies), len(image), 12, *([0] if wide else []))
        bodies += image
    return out + bodies
