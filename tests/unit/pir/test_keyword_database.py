"""Databases in Apple's two formats: read, written, and told what is wrong where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.pir.errors import DatabaseError
from network_extension.pir.keyword_database import read_database, write_database
from network_extension.pir.proto import database_pb2

VECTORS = Path(__file__).parents[2] / "vectors" / "pir"
ROWS = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=40)), max_size=12)


@pytest.mark.parametrize("name", ["small", "urls"])
def test_apples_files_as_protobuf_reads_them(name: str) -> None:
    path = VECTORS / f"{name}.txtpb"
    whole = text_format.Parse(path.read_text(), database_pb2.KeywordDatabase())
    assert list(read_database(path)) == [(row.keyword, row.value) for row in whole.rows]


@pytest.mark.parametrize("suffix", [".txtpb", ".binpb"])
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[tuple[bytes, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("database") / f"d{suffix}"
    assert write_database(path, rows) == len(rows)
    assert list(read_database(path)) == rows
    message = database_pb2.KeywordDatabase()
    if suffix == ".binpb":
        message.ParseFromString(path.read_bytes())
    else:
        text_format.Parse(path.read_text(), message)
    assert [(row.keyword, row.value) for row in message.rows] == rows


@pytest.mark.parametrize("cut", [0, 1, 7, 40])
def test_a_file_of_one_long_line(tmp_path: Path, cut: int) -> None:
    """As protobuf writes with as_one_line: pieces of a megabyte end in the middle of something."""
    path = tmp_path / "d.txtpb"
    rows = [(b"%d.example" % number, b"1") for number in range(40_000)]
    text = "rows: [" + ", ".join(f'{{ keyword: "{keyword.decode()}", value: "1" }}' for keyword, _ in rows) + "]"
    path.write_text(" " * cut + text)
    assert path.stat().st_size > 1 << 20
    assert list(read_database(path)) == rows
    longest = b"k" * (1 << 16)
    path.write_bytes(b'rows { keyword: "' + b"\\153" * (1 << 16) + b'" value: "1" } ')
    assert list(read_database(path)) == [(longest, b"1")]


def test_a_long_line_that_ends_with_a_piece(tmp_path: Path) -> None:
    path = tmp_path / "d.txtpb"
    row = b'rows { keyword: "a" value: "1" }'
    path.write_bytes(row + b" " * (8 * ((1 << 16) + 65535) - len(row)))
    assert list(read_database(path)) == [(b"a", b"1")]


@pytest.mark.parametrize(
    "text",
    [
        'rows { keyword: "a" value: "1" } rows: { value: \'1\', keyword: "b"; }',
        '# a comment\n\nrows {\n\n keyword:"a"\n # another\n value: "1"\n}\nrows{keyword:"b" value:"1"}',
        'rows: [{ keyword: "a", value: "1" }, { keyword: "b", value: "1" }]',
        'rows: [\n  { keyword: "a", value: "1" },\n  { keyword: "b", value: "1" }\n]\n',
        'rows [] rows [{ keyword: "a" value: "1" }] rows { keyword: "b" value: "1" }',
    ],
)
def test_other_arrangements(tmp_path: Path, text: str) -> None:
    path = tmp_path / "d.txtpb"
    path.write_text(text)
    assert list(read_database(path)) == [(b"a", b"1"), (b"b", b"1")]
    whole = text_format.Parse(text, database_pb2.KeywordDatabase())
    assert [(row.keyword, row.value) for row in whole.rows] == [(b"a", b"1"), (b"b", b"1")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'rows {\n keyword: "a"\n', "ends in the middle of a row"),
        (b'rows: [{ keyword: "a" }', "ends in the middle of a row"),
        (b'rows: [{ keyword: "a" }\n rows {', "d.txtpb:2: `rows {` is wanted"),
        (b"hello\n", "d.txtpb:1: `rows {` is wanted"),
        (b"rows {\n keyword: 5\n}", "d.txtpb:2: neither keyword"),
        (b'rows {\n keyword: "\xff"\n}', "d.txtpb:2: a text that is not UTF-8"),
        (b'rows {\n value: "1"\n}', "d.txtpb:3: its keyword is empty"),
        (b"\x00\x01\x02", "d.txtpb:1"),
    ],
)
def test_bad_texts(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "d.txtpb"
    path.write_bytes(data)
    with pytest.raises(DatabaseError, match=re.escape(message)):
        list(read_database(path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a", "row 1: its length is cut off"),
        (b"\x0a\x05ab", "row 1: of 5 bytes only 2"),
        (b"\x0a\xff\xff\xff\xff\xff\x01", "too long"),
        (b"\x0a\xff\xff\xff\x7f", "only 0 can be read"),
        (b"\x12\x00", "does not begin as a row"),
        (b"\x0a\x02\x0a\x05", "is no row"),
    ],
)
def test_bad_binaries(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "d.binpb"
    path.write_bytes(data)
    with pytest.raises(DatabaseError, match=message):
        list(read_database(path))


@given(st.binary(max_size=200), st.sampled_from([".txtpb", ".binpb"]))
@settings(deadline=None)
def test_any_bytes_are_rows_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"d{suffix}"
    path.write_bytes(data)
    try:
        for keyword, _ in read_database(path):
            assert keyword
    except DatabaseError:
        pass


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="No such file"):
        list(read_database(tmp_path / "none.txtpb"))
    with pytest.raises(DatabaseError, match=r"ends with \.txtpb or \.binpb"):
        list(read_database(tmp_path / "d.json"))
    with pytest.raises(DatabaseError, match=r"ends with \.txtpb or \.binpb"):
        write_database(tmp_path / "d.json", [])
    with pytest.raises(DatabaseError, match="row 2: its keyword is empty"):
        write_database(tmp_path / "d.txtpb", [(b"a", b""), (b"", b"")])
    assert list(tmp_path.iterdir()) == []
