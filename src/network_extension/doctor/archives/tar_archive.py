"""tar: ustar, pax and GNU's long names (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, appendix).

Read as a stream. Of pax records only path, linkpath and size count; extended attributes and times are left out.
"""

from __future__ import annotations

from typing import IO, NamedTuple

from ..errors import UnreadableFile
from .byte_stream import ByteStream, file_part
from .compression import compression_of, decompressed
from .limits import quoted
from .unpacked_folder import UnpackedFolder

__all__ = ["is_tar_header", "read_tar", "unpack_tar"]

BLOCK = 512
MAX_RECORDS = 8 << 20
"""Bytes of the pax records of one file: they hold its extended attributes."""
MAX_LONG_NAME = 1 << 16
_WHAT_IS_LEFT_OUT = {b"3": "a device", b"4": "a device", b"6": "a pipe"}
_FILES = (b"0", b"\0", b"7")
_WITHOUT_BYTES = (b"1", b"2", b"3", b"4", b"5", b"6")


class _Header(NamedTuple):
    name: bytes
    """Of long names a part, which may end within a letter: text only where no record or long name stands in."""
    mode: int
    size: int
    kind: bytes
    target: bytes


class _Entry(NamedTuple):
    name: str
    mode: int
    size: int
    kind: bytes
    target: str


def is_tar_header(block: bytes) -> bool:
    """Whether these 512 bytes are the first of a tar: their checksum holds."""
    if len(block) < BLOCK or not any(block[:100]):
        return False
    try:
        claimed = _number(block[148:156], "tar")
    except UnreadableFile:
        return False
    return claimed in _checksums(block)


def unpack_tar(file: IO[bytes], into: UnpackedFolder) -> None:
    """A tar, plain or compressed with gzip, bzip2 or xz. Raises UnreadableFile."""
    kind = compression_of(ByteStream(file_part(file, into.what), into.what).up_to(8))
    chunks = file_part(file, into.what)
    if kind is None:
        read_tar(ByteStream(chunks, into.what), into)
        return
    stream = ByteStream(decompressed(chunks, kind, into.what, into.budget), into.what)
    read_tar(stream, into)
    stream.exhaust()  # behind the tar's end are the checksums of what compressed it


def read_tar(stream: ByteStream, into: UnpackedFolder) -> None:
    """Unpack a plain tar up to its end mark, a block of zeros, or to the end of the stream.

    Raises UnreadableFile: a header whose checksum does not hold, a sparse file, what is cut off, and what
    UnpackedFolder refuses.
    """
    shared: dict[str, str] = {}
    own: dict[str, str] = {}
    count = 0
    while (block := stream.up_to(BLOCK)) and any(block):
        count += 1
        if count > 4 * into.limits.entries:  # a file and what comes before it: records, a long name, a long link
            raise UnreadableFile(into.what, f"more than {into.limits.entries} files and folders")
        header = _header(block, into.what)
        padding = -header.size % BLOCK
        if header.kind in (b"x", b"g"):
            records = _records(stream, header.size, into.what)
            (own if header.kind == b"x" else shared).update(records)
        elif header.kind in (b"L", b"K"):
            own["path" if header.kind == b"L" else "linkpath"] = _long_name(stream, header.size, into.what)
        else:
            entry = _amended(header, {**shared, **own}, into.what)
            padding = -entry.size % BLOCK
            own = {}
            _unpack(entry, stream, into)
        stream.skip(padding)


def _unpack(entry: _Entry, stream: ByteStream, into: UnpackedFolder) -> None:
    name, kind = entry.name, entry.kind
    if kind in _FILES and not name.endswith("/"):
        into.write(name, stream.pieces(entry.size), bool(entry.mode & 0o111))
        return
    if kind == b"5" or kind in _FILES:
        into.folder(name)
    elif kind == b"1":
        into.copy(name, entry.target)
    elif kind == b"2":
        into.link(name, entry.target)
    elif kind == b"S":
        raise UnreadableFile(into.what, f"{quoted(name)}: a sparse file; pack it without --sparse")
    else:
        into.leave_out(name, _WHAT_IS_LEFT_OUT.get(kind, f"an entry of the kind {quoted(kind.decode('latin-1'))}"))
    stream.skip(entry.size)


def _header(block: bytes, what: str) -> _Header:
    if len(block) < BLOCK:
        raise UnreadableFile(what, "cut off within a header")
    if _number(block[148:156], what) not in _checksums(block):
        raise UnreadableFile(what, "the checksum of a header does not hold")
    name = _before_nul(block[:100])
    # GNU tar's own magic is "ustar  "; it keeps times where ustar has the start of a name.
    if block[257:263] == b"ustar\0" and block[345]:
        name = _before_nul(block[345:500]) + b"/" + name
    mode, size = _number(block[100:108], what), _number(block[124:136], what)
    kind = block[156:157]
    if kind in _WITHOUT_BYTES:
        size = 0  # some writers tell the size of what the entry stands for
    return _Header(name, mode, size, kind, _before_nul(block[157:257]))


def _amended(header: _Header, records: dict[str, str], what: str) -> _Entry:
    name = records["path"] if "path" in records else _text(header.name, what)
    target = records["linkpath"] if "linkpath" in records else _text(header.target, what)
    if any(key.startswith("GNU.sparse") for key in records):
        raise UnreadableFile(what, f"{quoted(name)}: a sparse file; pack it without --sparse")
    size = records.get("size", "")
    if size and not (size.isascii() and size.isdigit() and len(size) < 20):
        raise UnreadableFile(what, f"{quoted(name)}: the size {quoted(size)}")
    own_size = int(size) if size and header.kind not in _WITHOUT_BYTES else header.size
    return _Entry(name, header.mode, own_size, header.kind, target)


def _records(stream: ByteStream, size: int, what: str) -> dict[str, str]:
    """pax: "25 path=some/long/name\\n", the number being the length of all of it."""
    if size > MAX_RECORDS:
        raise UnreadableFile(what, f"{size} bytes of pax records for one file")
    data = stream.take(size)
    found: dict[str, str] = {}
    at = 0
    while at < size and data[at]:
        space = data.find(b" ", at, at + 12)
        digits = data[at : max(space, at)]
        if not digits.isdigit() or not space - at < int(digits) <= size - at or data[at + int(digits) - 1] != 0x0A:
            raise UnreadableFile(what, "damaged pax records")
        key, equals, value = data[space + 1 : at + int(digits) - 1].partition(b"=")
        if not equals:
            raise UnreadableFile(what, "damaged pax records")
        if key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse"):
            found[key.decode("latin-1")[:64]] = _text(value, what)
        at += int(digits)
    return found


def _long_name(stream: ByteStream, size: int, what: str) -> str:
    if size > MAX_LONG_NAME:
        raise UnreadableFile(what, f"a name of {size} bytes")
    return _text(stream.take(size), what)


def _number(field: bytes, what: str) -> int:
    """Octal digits, or a number in base 256 behind a byte 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if len(digits.strip(b"01234567")):
        raise UnreadableFile(what, f"a number in a header is {quoted(field.decode('latin-1'))}")
    return int(digits, 8)


def _checksums(block: bytes) -> tuple[int, int]:
    """Of bytes, and of signed ones as old programs have it; the field itself counts as spaces."""
    counted = block[:148] + b" " * 8 + block[156:]
    total = sum(counted)
    return total, total - 256 * sum(byte > 127 for byte in counted)


def _before_nul(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _text(raw: bytes, what: str) -> str:
    raw = _before_nul(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise UnreadableFile(what, f"the name {quoted(raw.decode('latin-1'))} is not UTF-8") from None
