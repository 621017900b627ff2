"""Code signatures as `codesign` lays them out, over any code, in every version of the code directory."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

SHA1, SHA256, SHA256_TRUNCATED, SHA384 = 1, 2, 3, 4
_HASHES = {SHA1: ("sha1", 20), SHA256: ("sha256", 32), SHA256_TRUNCATED: ("sha256", 20), SHA384: ("sha384", 48)}
_HEADS = {0x20001: 44, 0x20100: 48, 0x20200: 52, 0x20300: 64, 0x20400: 88, 0x20500: 96, 0x20600: 108}
VERSIONS = tuple(_HEADS)


def digest(hash_type: int, data: bytes) -> bytes:
    name, size = _HASHES[hash_type]
    return hashlib.new(name, data).digest()[:size]


def blob(magic: int, content: bytes) -> bytes:
    return struct.pack(">2I", magic, 8 + len(content)) + content


def super_blob(blobs: Mapping[int, bytes]) -> bytes:
    at = 12 + 8 * len(blobs)
    index, bodies = b"", b""
    for slot, body in blobs.items():
        index += struct.pack(">2I", slot, at + len(bodies))
        bodies += body
    return struct.pack(">3I", 0xFADE0CC0, at + len(bodies), len(blobs)) + index + bodies


def code_directory(
    code: bytes,
    *,
    version: int = 0x20500,
    identifier: str = "com.example.app",
    team: str = "TEAM123456",
    flags: int = 0x10000,
    hash_type: int = SHA256,
    page_shift: int = 12,
    special: Mapping[int, bytes] | None = None,
    scatter: list[tuple[int, int, int]] | None = None,
) -> bytes:
    """Over all of `code`, with the hashes of `special` contents by slot. `scatter`: (pages, base, target offset)."""
    size = 1 << page_shift if page_shift else max(len(code), 1)
    pages = [code[at : at + size] for at in range(0, len(code), size)]
    if scatter:
        pages = [pages[base + number] for count, base, _ in scatter for number in range(count)]
    contents = special or {}
    slots = max(contents, default=0)
    width = _HASHES[hash_type][1]
    hashes = [digest(hash_type, contents[slot]) if slot in contents else bytes(width) for slot in range(slots, 0, -1)]
    hashes += [digest(hash_type, page) for page in pages]
    head, texts = _HEADS[version], identifier.encode() + b"\0"
    has_team = version >= 0x20200 and bool(team)
    team_at = head + len(texts) if has_team else 0
    texts += team.encode() + b"\0" if has_team else b""
    scatter_at = head + len(texts) if scatter and version >= 0x20100 else 0
    if scatter_at:
        texts += b"".join(struct.pack(">2I2Q", *part, 0) for part in scatter or []) + bytes(24)
    hash_at = head + len(texts) + slots * width
    length = head + len(texts) + len(b"".join(hashes))
    first = [0xFADE0C02, length, version, flags, hash_at, head, slots, len(pages), len(code)]
    fields = struct.pack(">9I4BI", *first, width, hash_type, 0, page_shift, 0)
    newer = struct.pack(">3IQ", scatter_at, team_at, 0, 0)
    newer += struct.pack(">3Q2I", 0, 4096, 1, 0x000E0500, 0) + struct.pack(">2BH2I", 0, 1, 2, 3, 4)
    return (fields + newer)[:head] + texts + b"".join(hashes)
