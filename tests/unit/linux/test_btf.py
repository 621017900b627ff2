"""The kernel's description of its types: by bytes written here, by any bytes, and by this kernel's own."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.errors import DatapathError
from network_extension.linux import btf
from network_extension.linux.btf import CONST, STRUCT, TYPEDEF, UNION, Btf, member_offsets

KIND_FLAG = 1 << 31


class Writer:
    """Makes a blob: records are numbered from 1."""

    def __init__(self) -> None:
        self.types, self.strings = b"", b"\0"

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text.encode()) - 1

    def record(self, kind: int, name: str = "", size_or_type: int = 0, tail: bytes = b"", count: int = 0) -> None:
        self.types += struct.pack("<III", self.name(name), kind << 24 | count, size_or_type) + tail

    def structure(self, name: str, *members: tuple[str, int, int], kind: int = STRUCT, flag: int = 0) -> None:
        tail = b"".join(struct.pack("<III", self.name(member), type_, bits) for member, type_, bits in members)
        head = struct.pack("<III", self.name(name), kind << 24 | len(members) | flag, 64)
        self.types += head + tail

    def data(self) -> bytes:
        sizes = 0, len(self.types), len(self.types), len(self.strings)
        return struct.pack("<HBBIIIII", btf.MAGIC, 1, 0, 24, *sizes) + self.types + self.strings


@pytest.fixture
def blob() -> bytes:
    writer = Writer()
    writer.record(1, "int", 4, struct.pack("<I", 32))  # 1: INT has four more bytes
    writer.record(6, "", 4, struct.pack("<Ii", 0, 7), 1)  # 2: an enumeration
    writer.structure("", ("deep", 1, 64), ("deeper", 1, 96))  # 3
    writer.structure("", ("", 3, 0), ("other", 1, 0), kind=UNION)  # 4
    writer.record(CONST, "", 6)  # 5: const struct inner
    writer.structure("inner", ("first", 1, 0), ("last", 1, 32))  # 6
    writer.record(TYPEDEF, "inner_t", 5)  # 7
    writer.structure("outer", ("head", 1, 0), ("", 4, 128), ("within", 7, 320))  # 8
    writer.structure("flagged", ("bits", 1, 3 << 24 | 40), flag=KIND_FLAG)  # 9: the width of a bit field on top
    writer.structure("ring", ("", 10, 0))  # 10: holds itself, which cannot be
    return writer.data()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("outer.head", 0),
        ("outer.deep", 24),
        ("outer.deeper", 28),
        ("outer.other", 16),
        ("outer.within", 40),
        ("outer.within.last", 44),
        ("inner.last", 4),
        ("flagged.bits", 5),
        ("outer", 0),
    ],
)
def test_members_are_found(blob: bytes, path: str, expected: int) -> None:
    assert Btf(blob).offset(path) == expected


@pytest.mark.parametrize(
    "path", ["nothing.x", "outer.nothing", "outer.head.x", "ring.x", "int.x", ".x", "inner_t.last"]
)
def test_what_is_absent_is_named(blob: bytes, path: str) -> None:
    with pytest.raises(DatapathError, match=f"this kernel has no {path}"):
        Btf(blob).offset(path)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 24, b"\xeb\x9f" + bytes(22), struct.pack("<HBBIIIII", btf.MAGIC, 2, *[0] * 6)]
)
def test_what_is_no_btf_is_refused(data: bytes) -> None:
    with pytest.raises(DatapathError, match="BTF"):
        Btf(data)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_refused_or_read(tail: bytes, end: int) -> None:
    data = struct.pack("<HBBIIIII", btf.MAGIC, 1, 0, 24, 0, len(tail), 0, end) + tail
    try:
        Btf(data).offset("a.b")
    except (DatapathError, struct.error):
        pass  # `member_offsets` makes one of both


def test_a_file_that_is_absent_or_broken_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatapathError, match=r"CONFIG_DEBUG_INFO_BTF"):
        member_offsets(("a.b",), str(tmp_path / "none"))
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(DatapathError, match="not BTF"):
        member_offsets(("a.b",), str(tmp_path / "empty"))


@pytest.mark.skipif(not os.access(btf.VMLINUX, os.R_OK), reason="this kernel describes no types")
def test_this_kernels_types_are_read_quickly() -> None:
    """The first member of a task is 0, those of a path are what `struct path` has always been."""
    paths = ("path.mnt", "path.dentry", "mm_struct.exe_file", "file.f_path.dentry", "sock_common.skc_num", "mount.mnt")
    started = time.perf_counter()
    found = member_offsets(paths)
    spent = time.perf_counter() - started
    assert (found["path.mnt"], found["path.dentry"]) == (0, 8)
    assert found["mm_struct.exe_file"] > 0
    assert spent < 0.5, "about 10 ms; a machine that is busy may take longer"
    assert member_offsets(paths) is found
