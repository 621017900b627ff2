"""Any bytes, and archives that are spoilt: each reader raises UnreadableFile or nothing, writes nothing beside its
folder and no more than it may.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from network_extension.doctor.archives.byte_stream import ByteStream
from network_extension.doctor.archives.cpio import read_cpio
from network_extension.doctor.archives.installer_package import read_distribution, read_package_info
from network_extension.doctor.archives.limits import Budget, Limits
from network_extension.doctor.archives.pbzx import expanded_pbzx
from network_extension.doctor.archives.tar_archive import read_tar, unpack_tar
from network_extension.doctor.archives.unpack import unpack
from network_extension.doctor.archives.unpacked_folder import UnpackedFolder
from network_extension.doctor.archives.xar import unpack_xar
from network_extension.doctor.archives.xar_contents import read_contents
from network_extension.doctor.archives.zip_archive import unpack_zip
from network_extension.doctor.errors import UnreadableFile

from ..damage import damaged
from . import archive_bytes as made
from .archive_bytes import APP, Item, component, distribution

LIMITS = Limits(entries=500, total=4 << 20, file=2 << 20, allowance=1 << 20)
many = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SMALL = [Item(item.name, item.content[:300], item.mode) for item in APP]
INSIDE = made.zipped(SMALL)


def _of_folder(read: Callable[[bytes, UnpackedFolder], object]) -> Callable[[bytes, Path], object]:
    return lambda data, root: read(data, UnpackedFolder(root, LIMITS, budget=Budget(LIMITS, len(data))))


def _contents(data: bytes) -> bytes:
    """The table of a xar, as it is compressed there."""
    return zlib.decompressobj().decompress(data[28:])


def _unpack(data: bytes, root: Path) -> None:
    path = root.parent / "archive"
    path.write_bytes(data)
    found = unpack(path, root, LIMITS)
    for package in found.packages:
        assert package.payload_folder.is_relative_to(root) and package.payload_folder.is_dir()


PACKAGE = made.xar([distribution("A.pkg"), *component(gzip.compress(made.cpio(SMALL)), at="A.pkg")], checksum="")
READERS: dict[str, tuple[Callable[[bytes, Path], object], bytes]] = {
    "zip": (_of_folder(lambda data, into: unpack_zip(io.BytesIO(data), into)), made.zipped(SMALL, 0)),
    "deflated zip": (_of_folder(lambda data, into: unpack_zip(io.BytesIO(data), into)), INSIDE),
    "tar": (_of_folder(lambda data, into: read_tar(ByteStream([data], "tar"), into)), made.tar(SMALL)),
    "tar.gz": (_of_folder(lambda data, into: unpack_tar(io.BytesIO(data), into)), made.tar(SMALL, "w:gz")),
    "tar.bz2": (_of_folder(lambda data, into: unpack_tar(io.BytesIO(data), into)), made.tar(SMALL, "w:bz2")),
    "tar.xz": (_of_folder(lambda data, into: unpack_tar(io.BytesIO(data), into)), made.tar(SMALL, "w:xz")),
    "odc": (_of_folder(lambda data, into: read_cpio(ByteStream([data], "cpio"), into)), made.cpio(SMALL)),
    "newc": (_of_folder(lambda data, into: read_cpio(ByteStream([data], "cpio"), into)), made.cpio(SMALL, b"070701")),
    "crc": (_of_folder(lambda data, into: read_cpio(ByteStream([data], "cpio"), into)), made.cpio(SMALL, b"070702")),
    "xar": (_of_folder(lambda data, into: unpack_xar(io.BytesIO(data), into)), made.xar(SMALL)),
    "contents": (lambda data, _: read_contents(data, "xar", 500), _contents(made.xar(SMALL))),
    "pbzx": (
        lambda data, _: sum(map(len, expanded_pbzx(ByteStream([data], "pbzx"), Budget(LIMITS, len(data))))),
        made.pbzx(made.cpio(SMALL), 1000),
    ),
    "PackageInfo": (lambda data, _: read_package_info(data), made.INFO.encode()),
    "Distribution": (lambda data, _: read_distribution(data), distribution("A.pkg").content),
    "package": (_unpack, PACKAGE),
    "nested": (_unpack, made.zipped([Item("a.tar", made.tar([Item("b.zip", INSIDE)])), Item("c.pkg", PACKAGE)], 0)),
}


def holds(kind: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        try:
            READERS[kind][0](data, root)
        except UnreadableFile as error:
            assert error.what and error.why and str(error).isprintable() and len(str(error)) < 1000
        assert {path.name for path in root.parent.iterdir()} <= {"root", "archive"}
        real = os.path.realpath(root)
        total = 0
        for path in root.rglob("*"):
            mode = path.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
            assert not mode & 0o7000
            assert path.is_symlink() is False or os.path.realpath(path).startswith(real)
            total += path.lstat().st_size if stat.S_ISREG(mode) else 0
        assert total <= LIMITS.ratio * len(data) + LIMITS.allowance


@pytest.mark.parametrize("kind", READERS)
def test_undamaged_they_are_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    READERS[kind][0](READERS[kind][1], tmp_path / "root")


@pytest.mark.parametrize("kind", READERS)
@many
@given(data=st.binary(max_size=1200))
@example(data=b"")
@example(data=b"PK\5\6" + bytes(18))
@example(data=b"070707" + b"0" * 200)
@example(data=b"pbzx" + bytes(7) + b"\1" * 200)
@example(data=struct.pack(">4sHHQQI", b"xar!", 28, 1, 8, 0, 0) + zlib.compress(b""))
def test_any_bytes(kind: str, data: bytes) -> None:
    holds(kind, data)


@pytest.mark.parametrize("kind", READERS)
@many
@given(data=st.data())
def test_archives_that_are_damaged(kind: str, data: st.DataObject) -> None:
    holds(kind, data.draw(damaged(READERS[kind][1])))


@many
@given(data=st.data())
def test_directories_of_zips_that_are_damaged(data: st.DataObject) -> None:
    """Faults where they count: behind the files."""
    at = INSIDE.index(b"PK\1\2")
    holds("zip", INSIDE[:at] + data.draw(damaged(INSIDE[at:])))


@many
@given(data=st.data())
def test_tables_of_contents_that_are_damaged(data: st.DataObject) -> None:
    """Packed again with the right sizes, so that what they say is what is read."""
    table = data.draw(damaged(_contents(PACKAGE)))
    packed = zlib.compress(table)
    heap = PACKAGE[28 + struct.unpack_from(">Q", PACKAGE, 8)[0] :]
    holds("package", struct.pack(">4sHHQQI", b"xar!", 28, 1, len(packed), len(table), 0) + packed + heap)


@many
@given(data=st.data())
def test_payloads_that_are_damaged(data: st.DataObject) -> None:
    payload = data.draw(damaged(made.cpio(SMALL)))
    holds("package", made.xar(component(gzip.compress(payload))))


names = st.lists(st.sampled_from(["a", "b", "..", ".", "", "._a", "x.zip", "__MACOSX", "é"]), min_size=1, max_size=5)
entries = st.builds(
    Item,
    names.map("/".join),
    st.sampled_from([b"", b"a", b"..", b"a/b", b"../..", b"/etc", b"\x00\x05\x16\x07", INSIDE]),
    st.sampled_from([stat.S_IFREG | 0o755, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777, stat.S_IFREG | 0o6755]),
    st.integers(1, 3),
    st.integers(1, 2),
)


@pytest.mark.parametrize("form", ["tar", "zip", "odc", "newc"])
@many
@given(items=st.lists(entries, max_size=8))
def test_well_formed_archives_of_any_names(form: str, items: list[Item]) -> None:
    items = [
        Item(item.name, b"a", item.mode) if stat.S_ISLNK(item.mode) and len(item.content) > 10 else item
        for item in items
    ]
    items = [item for item in items if not (stat.S_ISLNK(item.mode) and b"\0" in item.content)]
    writers: dict[str, Callable[[list[Item]], bytes]] = {
        "tar": made.tar,
        "zip": made.zipped,
        "odc": made.cpio,
        "newc": lambda items: made.cpio(items, b"070701"),
    }
    holds(form, writers[form](items))
