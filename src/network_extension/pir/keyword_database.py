"""Databases before they are processed: rows of keyword and value, in Apple's two formats (§1.3, §2.10).

`.txtpb` is protobuf's text format, as Apple's tools write it; `.binpb` is the same message in binary. Both are read
row by row, so that a file may be larger than memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from google.protobuf import text_encoding
from google.protobuf.message import DecodeError

from .errors import DatabaseError
from .hash_bucket import LONGEST_VALUE
from .proto import database_pb2
from .replacing import replacing

Row = tuple[bytes, bytes]
"""Keyword and value."""

LONGEST_KEYWORD = 1 << 16
_LONGEST_LINE = 8 * (LONGEST_KEYWORD + LONGEST_VALUE)
_LONGEST_FIELD = 4 * LONGEST_KEYWORD + 1024
"""Bytes of a keyword or a value in a text file, where an escaped byte takes four: what may be cut in two in a line that
is read in pieces."""
_ROWS_TAG = 0x0A  # field 1, length-delimited
_FIELD = re.compile(rb'\s*(keyword|value)\s*:\s*(?:"((?:[^"\\\n]|\\.)*)"|\'((?:[^\'\\\n]|\\.)*)\')\s*[;,]?')
_OPEN, _CLOSE = re.compile(rb"\s*rows\s*:?\s*\{"), re.compile(rb"\s*\}\s*[;,]?")
_OPEN_LIST, _CLOSE_LIST = re.compile(rb"\s*rows\s*:?\s*\["), re.compile(rb"\s*\]\s*[;,]?")
_OPEN_IN_LIST = re.compile(rb"\s*\{")
_BLANK = re.compile(rb"\s*(#.*)?$")


def read_database(path: Path) -> Iterator[Row]:
    """The rows of a `.txtpb` or `.binpb` file, in order. `DatabaseError`: what is wrong, and where."""
    readers = {".txtpb": _read_text, ".binpb": _read_binary}
    reader = readers.get(path.suffix)
    if reader is None:
        raise DatabaseError(f"{path}: a database's name ends with .txtpb or .binpb; rename it as what it is")
    try:
        with path.open("rb") as file:
            yield from reader(file, str(path))
    except OSError as error:
        raise DatabaseError(f"{path}: {error.strerror}; name a file that can be read") from error


def write_database(path: Path, rows: Iterable[Row]) -> int:
    """Write `rows` in the format of the file's name; how many. `DatabaseError`: the disk, or a row too long."""
    if path.suffix not in (".txtpb", ".binpb"):
        raise DatabaseError(f"{path}: a database's name ends with .txtpb or .binpb; rename it as what it is")
    count = 0
    with replacing(path) as file:
        for keyword, value in rows:
            count += 1
            _check(keyword, value, f"{path}: row {count}")
            file.write(_text_row(keyword, value) if path.suffix == ".txtpb" else _binary_row(keyword, value))
    return count


def _check(keyword: bytes, value: bytes, where: str) -> None:
    if not keyword:
        raise DatabaseError(f"{where}: its keyword is empty; leave the row out")
    if len(keyword) > LONGEST_KEYWORD or len(value) > LONGEST_VALUE:
        raise DatabaseError(f"{where}: a keyword has {LONGEST_KEYWORD} bytes at most, a value {LONGEST_VALUE}")


def _text_row(keyword: bytes, value: bytes) -> bytes:
    escape = text_encoding.CEscape
    return f'rows {{\n  keyword: "{escape(keyword, False)}"\n  value: "{escape(value, False)}"\n}}\n'.encode()


def _binary_row(keyword: bytes, value: bytes) -> bytes:
    row = database_pb2.KeywordDatabaseRow(keyword=keyword, value=value).SerializeToString()
    return bytes((_ROWS_TAG,)) + _varint(len(row)) + row


def _read_text(file: BinaryIO, name: str) -> Iterator[Row]:
    """Rows of the text format, in any arrangement over lines: `rows { keyword: "…" value: "…" }`, or a list of them as
    in Apple's sample, `rows: [{ keyword: "…", value: "…" }]` (§2.9).
    """
    fields: dict[bytes, bytes] | None = None
    is_list = False
    number, rest = 1, b""
    for piece in chain(iter(lambda: file.readline(_LONGEST_LINE), b""), [b""]):
        line, rest, at = rest + piece, b"", 0
        goes_on = len(piece) == _LONGEST_LINE and not piece.endswith(b"\n")
        where = f"{name}:{number}"
        while not _BLANK.match(line, at):
            if goes_on and len(line) - at < _LONGEST_FIELD:
                rest = line[at:]  # a field may be cut in two here
                break
            if fields is None and (bracket := (_CLOSE_LIST if is_list else _OPEN_LIST).match(line, at)) is not None:
                at, is_list = bracket.end(), not is_list
            elif fields is None:
                opening = _OPEN_IN_LIST if is_list else _OPEN
                at = _skip(opening, line, at, f"{where}: `rows {{` is wanted here; is this a keyword database?")
                fields = {}
            elif (found := _FIELD.match(line, at)) is not None:
                fields[found[1]] = _unescaped(found[2] if found[2] is not None else found[3], where)
                at = found.end()
            else:
                at = _skip(_CLOSE, line, at, f"{where}: neither keyword, value nor the end of the row; mend this line")
                keyword, value = fields.get(b"keyword", b""), fields.get(b"value", b"")
                _check(keyword, value, where)
                yield keyword, value
                fields = None
        number += not goes_on
    if fields is not None or is_list:
        raise DatabaseError(
            f"{name}: ends in the middle of a row or of their list; the file was cut off, make it again"
        )


def _skip(pattern: re.Pattern[bytes], line: bytes, at: int, message: str) -> int:
    found = pattern.match(line, at)
    if found is None:
        raise DatabaseError(message)
    return found.end()


def _unescaped(text: bytes, where: str) -> bytes:
    try:
        return text_encoding.CUnescape(text.decode("utf-8"))
    except (UnicodeDecodeError, ValueError):
        raise DatabaseError(f"{where}: a text that is not UTF-8 or has a false escape; mend this line") from None


def _read_binary(file: BinaryIO, name: str) -> Iterator[Row]:
    number = 0
    while (tag := file.read(1)) != b"":
        number += 1
        where = f"{name}: row {number}"
        if tag[0] != _ROWS_TAG:
            raise DatabaseError(f"{where}: does not begin as a row does; is this a keyword database?")
        size = _read_varint(file, where)
        data = file.read(size) if size <= LONGEST_KEYWORD + LONGEST_VALUE + 16 else b""
        if len(data) != size:
            raise DatabaseError(f"{where}: of {size} bytes only {len(data)} can be read; make the file again")
        try:
            row = database_pb2.KeywordDatabaseRow.FromString(data)
        except DecodeError:
            raise DatabaseError(f"{where}: is no row; make the file again") from None
        _check(row.keyword, row.value, where)
        yield row.keyword, row.value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(file: BinaryIO, where: str) -> int:
    number = 0
    for shift in range(0, 35, 7):
        byte = file.read(1)
        if not byte:
            break
        number |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return number
    raise DatabaseError(f"{where}: its length is cut off or too long; make the file again")


__all__ = ["LONGEST_KEYWORD", "Row", "read_database", "write_database"]
