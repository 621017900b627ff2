"""Archives that want out of their folder, or to become larger than anybody's disk. No test writes more than it says."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from network_extension.doctor.archives.byte_stream import ByteStream
from network_extension.doctor.archives.cpio import read_cpio
from network_extension.doctor.archives.limits import Budget, Limits
from network_extension.doctor.archives.pbzx import expanded_pbzx
from network_extension.doctor.archives.unpack import unpack
from network_extension.doctor.archives.unpacked_folder import UnpackedFolder
from network_extension.doctor.errors import UnreadableFile

from . import archive_bytes as made
from .archive_bytes import APP, Heap, Item, component, link
from .test_formats import unpacked

FORMATS: dict[str, Callable[[Sequence[Item]], bytes]] = {
    "tar": made.tar,
    "gnu tar": lambda items: made.tar(items, form=tarfile.GNU_FORMAT),
    "tar.xz": lambda items: made.tar(items, "w:xz"),
    "zip": made.zipped,
    "package": lambda items: made.xar(component(gzip.compress(made.cpio(items)))),
    "pbzx": lambda items: made.xar(component(made.pbzx(made.cpio(items, b"070701")))),
    "scripts": lambda items: made.xar(component(scripts=items)),
    "zip in a zip": lambda items: made.zipped([Item("inner.zip", made.zipped(items))]),
}


def refused(data: bytes, below: Path, why: str, limits: Limits | None = None) -> None:
    """It is refused for this reason, and nothing was written beside the folder."""
    (below / "archive").write_bytes(data)
    (below / "into").mkdir()
    with pytest.raises(UnreadableFile, match=why) as error:
        unpack(below / "archive", below / "into", limits or Limits())
    assert str(error.value).isprintable() and len(str(error.value)) < 1000
    assert sorted(path.name for path in below.iterdir()) == ["archive", "into"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil-of-netext", "a/.."])
@pytest.mark.parametrize("form", FORMATS)
def test_names_that_lead_outside(form: str, name: str, tmp_path: Path) -> None:
    refused(FORMATS[form]([Item("first", b"x"), Item(name, b"evil")]), tmp_path, "leads outside|an absolute path")
    assert not Path("/tmp/evil-of-netext").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_files_through_links(form: str, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    refused(
        FORMATS[form]([link("out", "../.."), Item("out/evil", b"x")]), tmp_path / "1", "through the symbolic link 'out'"
    )
    (tmp_path / "2").mkdir()
    inside = [Item("a/b/file", b"x"), link("within", "a"), Item("within/b/evil", b"x")]
    refused(FORMATS[form](inside), tmp_path / "2", "through the symbolic link 'within'")
    (tmp_path / "3").mkdir()
    refused(FORMATS[form]([link("out", "/etc/hostname"), Item("out", b"x")]), tmp_path / "3", "'out': comes twice")


@pytest.mark.parametrize("form", FORMATS)
def test_links_that_lead_outside_are_told_and_not_made(form: str, tmp_path: Path) -> None:
    items = [Item("a/b/file", b"x"), link("a/b/up", "../.."), link("a/out", "b/up/../.."), link("abs", "/etc")]
    found = unpacked(FORMATS[form](items), tmp_path)
    assert [(Path(name).name, target) for name, target in found.refused_links] == [
        ("out", "b/up/../.."),
        ("abs", "/etc"),
    ]
    for path in found.folder.rglob("*"):
        assert path.resolve().is_relative_to(found.folder.resolve())


@pytest.mark.parametrize("form", FORMATS)
def test_two_files_of_one_name(form: str, tmp_path: Path) -> None:
    if "zip" in form:
        data = made.zipped([Item("a/b", b"x"), Item("a/c", b"y")]).replace(b"a/c", b"a/b")
        data = made.zipped([Item("inner.zip", data)]) if "in" in form else data
    else:
        data = FORMATS[form]([Item("a/b", b"x"), Item("a/./b", b"y")])
    refused(data, tmp_path, "b': comes twice")


def test_a_xar_cannot_name_what_is_outside(tmp_path: Path) -> None:
    refused(made.xar([Item("..", b"x")]), tmp_path, "leads outside")


@pytest.mark.parametrize("name", ["../evil", "/evil", "", "."])
def test_a_name_in_a_xar_is_a_name_and_no_path(name: str, tmp_path: Path) -> None:
    entry = f'<file id="9"><name>{name}</name><type>directory</type></file>'
    refused(made.xar([], extra=entry), tmp_path, "table of contents: a file named")


ZEROS = bytes(80 << 20)
BOMBS: dict[str, Callable[[], bytes]] = {
    "zip": lambda: made.zipped([Item("zeros", ZEROS)]),
    "bzip2 zip": lambda: made.zipped([Item("zeros", ZEROS)], zipfile.ZIP_BZIP2),
    "tar.gz": lambda: made.tar([Item("zeros", ZEROS)], "w:gz"),
    "tar.bz2": lambda: made.tar([Item("zeros", ZEROS)], "w:bz2"),
    "tar.xz": lambda: made.tar([Item("zeros", ZEROS)], "w:xz"),
    "xar": lambda: made.xar([Item("zeros", ZEROS)]),
    "payload": lambda: made.xar(component(gzip.compress(made.cpio([Item("zeros", ZEROS)])))),
    "xz in pbzx": lambda: made.xar(component(made.pbzx(made.cpio([Item("zeros", ZEROS)]), 1 << 24))),
    "zip in a zip": lambda: made.zipped([Item("a.zip", made.zipped([Item("zeros", ZEROS)]))]),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_do_not_go_off(bomb: str, tmp_path: Path) -> None:
    # The limit is by ratio: 80 MiB come out of at most 300 KB, of which 200 times their size and 16 MiB are allowed.
    data = BOMBS[bomb]()
    limits = Limits(allowance=16 << 20)
    assert len(data) < 300_000
    refused(data, tmp_path, "out of proportion", limits)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "into").rglob("*") if path.is_file())
    assert on_disk <= limits.ratio * len(data) + limits.allowance


def test_entries_of_a_zip_that_share_their_bytes(tmp_path: Path) -> None:
    data = made.zipped([Item("a", b"x" * 5000), Item("b", b"x" * 5000)])
    at = data.rindex(b"PK\1\2")
    refused(data[: at + 42] + bytes(4) + data[at + 46 :], tmp_path, "lies on another entry")


def test_a_zip_that_says_it_has_a_million_entries(tmp_path: Path) -> None:
    data = made.zipped([Item(str(number), b"") for number in range(50)])
    refused(data, tmp_path, "a directory of 50 entries", Limits(entries=49))


@pytest.mark.parametrize(
    ("offset", "value", "why"),
    [
        (8, b"\1\0", "is encrypted"),
        (10, b"\x0e\0", "compressed in way 14|contradict"),
        (16, b"\0\0\0\0", "its CRC does not hold"),
        (24, b"\1\0\0\0", "bytes or more, where the directory says 1"),
        (20, b"\xff\xff\xff\x7f", "not within the archive"),
        (42, b"\xff\xff\xff\x7f", "not within the archive"),
        (42, b"\1\0\0\0", "contradict each other|lies on|not within"),
        (28, b"\xff\xff", "not within|entries in its directory"),
    ],
)
def test_a_zip_with_a_wrong_directory(offset: int, value: bytes, why: str, tmp_path: Path) -> None:
    data = bytearray(made.zipped([Item("name", b"content" * 50)]))
    at = data.rindex(b"PK\1\2") + offset
    data[at : at + len(value)] = value
    if offset == 8:
        data[6:8] = value
    refused(bytes(data), tmp_path, why)


def test_a_zip_in_parts_or_without_end(tmp_path: Path) -> None:
    data = made.zipped([Item("name", b"content" * 50)])
    for number, (raw, why) in enumerate(
        [
            (data[:-1], "no directory at its end"),
            (data[:-22], "no directory at its end"),
            (data[:-18] + b"\1\0" + data[-16:], "in several parts"),
            (data[:-10] + b"\xff" * 4 + data[-6:], "is not in the file"),
            (data[:-6] + b"\xf0\xff\xff\x00" + data[-2:], "is not in the file"),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        refused(raw, tmp_path / str(number), why)


def test_tar_headers_that_do_not_hold(tmp_path: Path) -> None:
    data = made.tar([Item("a", b"x" * 600), Item("b", b"y" * 600)], form=tarfile.USTAR_FORMAT)
    for number, (raw, why) in enumerate(
        [
            (data[:1540] + b"Z" + data[1541:], "the checksum of a header"),
            (data[:1000], "cut off"),
            (data[:1700], "cut off"),
            (data[:2048], "cut off"),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        refused(raw, tmp_path / str(number), why)


def patched_tar(data: bytes, at: int, field: bytes) -> bytes:
    """A header with another field, and the checksum for it."""
    block = bytearray(data[:512])
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ((124, b"77777777777\0"), "cut off"),
        ((124, b"\x80" + b"\xff" * 11), "cut off"),
        ((124, b"\xff" * 12), "a number in a header"),
        ((124, b"-0000000001\0"), "a number in a header"),
        ((156, b"S"), "a sparse file"),
        ((156, b"x"), "damaged pax records"),
        ((0, b"\xff\xfe"), "not UTF-8"),
    ],
)
def test_a_tar_header_that_lies(field: tuple[int, bytes], why: str, tmp_path: Path) -> None:
    data = made.tar([Item("file", b"content" * 100)], form=tarfile.USTAR_FORMAT)
    refused(patched_tar(data, *field), tmp_path, why)


@pytest.mark.parametrize(
    "records",
    [b"99 path=x\n", b"0 path=x\n", b"-1 path=x\n", b"9 path=xx", b"8 pathx\n", b"15 size=-10000\n", b"path\n"],
)
def test_pax_records_that_lie(records: bytes, tmp_path: Path) -> None:
    data = made.tar([Item("x", records), Item("file", b"content")], form=tarfile.USTAR_FORMAT)
    refused(patched_tar(data, 156, b"x"), tmp_path, "damaged pax records|the size '-10000'")


def test_records_and_long_names_of_a_tar_are_bounded(tmp_path: Path) -> None:
    for number, (kind, why) in enumerate([(b"x", "bytes of pax records"), (b"L", "a name of 9000000 bytes")]):
        data = made.tar([Item("x", bytes(9_000_000))], "w", tarfile.USTAR_FORMAT)
        (tmp_path / str(number)).mkdir()
        refused(gzip.compress(patched_tar(data, 156, kind)), tmp_path / str(number), why)


def test_a_tar_of_headers_alone_ends(tmp_path: Path) -> None:
    data = made.tar([Item("x", b"")], form=tarfile.USTAR_FORMAT)[:512]
    refused(patched_tar(data, 156, b"g") * 401 + bytes(1024), tmp_path, "more than 100 files", Limits(entries=100))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"%06o%011o" % (5, 4), b"%06o%011o" % (0o777777, 4), "a name of 262143 bytes"),
        (b"%06o%011o" % (5, 4), b"%06o%011o" % (0, 4), "a name of 0 bytes"),
        (b"%06o%011o" % (5, 4), b"%06o%011o" % (5, 8**11 - 1), "cut off"),
        (b"%06o%011o" % (5, 4), b"%06o%011o" % (4, 4), "does not end where it should"),
        (b"%06o%011o" % (5, 4), b"-00005%011o" % 4, "a number in a header"),
        (b"070707", b"070708", "no cpio header"),
        (b"TRAILER", b"trailer", "cut off"),
    ],
)
def test_a_cpio_that_lies(old: bytes, new: bytes, why: str, tmp_path: Path) -> None:
    data = made.cpio([Item("name", b"four")]).replace(old, new)
    with pytest.raises(UnreadableFile, match=why):
        read_cpio(ByteStream([data], "cpio"), UnpackedFolder(tmp_path))


def test_a_sum_of_a_cpio_that_does_not_hold(tmp_path: Path) -> None:
    data = made.cpio([Item("name", b"four")], b"070702").replace(b"four", b"five")
    with pytest.raises(UnreadableFile, match="'name': the sum of its bytes does not hold"):
        read_cpio(ByteStream([data], "cpio"), UnpackedFolder(tmp_path))


def test_hard_links_of_a_cpio_that_wait_for_nothing_are_counted(tmp_path: Path) -> None:
    data = made.cpio([Item(f"{number}", inode=number + 1, links=2) for number in range(60)])
    with pytest.raises(UnreadableFile, match="more than 50 files"):
        read_cpio(ByteStream([data], "cpio"), UnpackedFolder(tmp_path, Limits(entries=50)))


CHUNK = lzma.compress(b"x" * 100)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"pbzy" + bytes(8), "is no pbzx"),
        (b"pbzx" + bytes(8), "chunks of 0 bytes"),
        (b"pbzx" + b"\xff" * 8, "chunks of 18446744073709551615 bytes"),
        (b"pbzx" + struct.pack(">QQQ", 200, 201, 100), "is to become 201 of 200"),
        (b"pbzx" + struct.pack(">QQQ", 200, 0, 100), "is to become 0 of 200"),
        (b"pbzx" + struct.pack(">QQQ", 200, 100, 0), "a chunk of 0 bytes"),
        (b"pbzx" + struct.pack(">QQQ", 200, 100, 2**60) + CHUNK, "cut off|damaged xz|more than one"),
        (b"pbzx" + struct.pack(">QQQ", 200, 101, len(CHUNK)) + CHUNK, "becomes 100 bytes or more, and says 101"),
        (b"pbzx" + struct.pack(">QQQ", 200, 99, len(CHUNK)) + CHUNK, "becomes 100 bytes or more, and says 99"),
        (b"pbzx" + struct.pack(">QQQ", 200, 100, 50) + bytes(50), "damaged xz data"),
        (b"pbzx" + struct.pack(">QQQ", 200, 100, 100) + bytes(50), "cut off"),
        (b"pbzx" + struct.pack(">QQ", 200, 100), "cut off"),
    ],
)
def test_a_pbzx_that_lies(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why):
        for _ in expanded_pbzx(ByteStream([data], "pbzx"), Budget(Limits())):
            pass


def test_an_xz_dictionary_is_bounded() -> None:
    data = bytearray(lzma.compress(b"x", preset=0))
    data[16] = 38  # of 1 GiB: in the header of the first block, which has a CRC of its own
    data[20:24] = struct.pack("<I", zlib.crc32(data[12:20]))
    with pytest.raises(UnreadableFile, match=r"(?i)memory"):
        raw = b"pbzx" + struct.pack(">QQQ", 1, 1, len(data)) + data
        list(expanded_pbzx(ByteStream([raw], "pbzx"), Budget(Limits())))


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"expanded": 100 << 20}, "a table of contents of .* that is to become 104857600"),
        ({"packed": 100 << 20}, "a table of contents of 104857600 bytes"),
        ({"packed": 2**63}, "a table of contents of"),
        ({"header": 27}, "a header of 27 bytes"),
        ({"header": 65535}, "a header of 65535 bytes"),
        ({"version": 2}, "a xar of version 2"),
        ({"packed": 5}, "cut off|damaged"),
        ({"kind": 9}, "a checksum of the kind 9"),
        ({"kind": 2}, "the checksum of its table of contents, 20 bytes"),
    ],
)
def test_a_xar_header_that_lies(header: dict[str, int], why: str, tmp_path: Path) -> None:
    refused(made.xar([Item("file", b"content")], header=header), tmp_path, why)


def test_a_table_of_contents_that_grows_is_stopped(tmp_path: Path) -> None:
    table = zlib.compress(b"<xar><toc>" + b" " * (100 << 20))
    assert len(table) < 150_000
    refused(struct.pack(">4sHHQQI", b"xar!", 28, 1, len(table), 1000, 0) + table, tmp_path, "more than 8388608 bytes")


@pytest.mark.parametrize(
    ("heap", "why"),
    [
        (Heap(offset=10**9), "of the heap are not in the file"),
        (Heap(length=10**18), "of the heap are not in the file"),
        (Heap(offset=0), "damaged|checksum does not hold"),
        (Heap(length=3), "cut off|checksum does not hold"),
        (Heap(size=99), "more or less than the 99 bytes"),
        (Heap(size=1), "more or less than the 1 bytes"),
        (Heap(archived="00" * 20), "its sha1 checksum does not hold"),
        (Heap(archived="zz"), "has the checksum 'zz'"),
    ],
)
def test_files_of_a_xar_that_are_not_where_or_what_they_should_be(heap: Heap, why: str, tmp_path: Path) -> None:
    refused(made.xar([Item("file", b"content" * 9)], heap), tmp_path, f"'file'.*({why})")


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ('<file id="9"><name>a</name><name>b</name></file>', "two of name"),
        ('<file id="9"><name enctype="base64">!</name></file>', "a file named ''|not base64"),
        ('<file id="9"><name>a</name><data><offset>1</offset></data></file>', "lacks an offset or a size"),
        ('<file id="9"><name>a</name><data><offset>x</offset></data></file>', "lacks|the number 'x'"),
        ('<file id="9"><name>a</name><type link="7">hardlink</type></file>', "a hard link to nothing"),
        ('<file id="9"><name>a</name><type link="9">hardlink</type></file>', "no file before it"),
        ("</toc></xar><xar>", "is not XML"),
    ],
)
def test_a_table_of_contents_that_lies(extra: str, why: str, tmp_path: Path) -> None:
    refused(made.xar([], extra=extra), tmp_path, why)


def test_a_table_of_contents_has_no_entities(tmp_path: Path) -> None:
    refused(made.xar([], before='<!DOCTYPE xar [<!ENTITY a "aaaa">]>'), tmp_path, "document type")


def test_a_changed_table_of_contents_is_noticed(tmp_path: Path) -> None:
    data = bytearray(made.xar([Item("file", b"content")], checksum="sha256"))
    length = struct.unpack_from(">Q", data, 8)[0]
    data[28 + length] ^= 1  # the checksum at the start of the heap
    refused(bytes(data), tmp_path, "the checksum of its table of contents does not hold")


def test_a_zip_that_holds_itself_ends(tmp_path: Path) -> None:
    """As the famous one does that is its own content: here each level is a zip of two zips, 2**20 files if nobody
    counted."""
    data = made.zipped([Item("leaf", b"x" * 100)])
    for _ in range(20):
        data = made.zipped([Item("a.zip", data), Item("b.zip", data)])
    found = unpacked(data, tmp_path)
    assert len(found.archives) == 1 + 2 + 4 + 8 and len(found.left_out) == 16


def test_a_damaged_archive_within_another_is_told(tmp_path: Path) -> None:
    inner = made.tar(APP, "w:gz")
    refused(made.zipped([Item("a/app.tar.gz", inner[:-30])]), tmp_path, "^a/app.tar.gz: .*cut off")


def test_gzip_streams_without_end_or_sense(tmp_path: Path) -> None:
    packed = gzip.compress(made.tar(APP))
    for number, (data, why) in enumerate(
        [(packed + b"more", "damaged gzip"), (packed[:-4], "cut off"), (packed[:-8] + bytes(8), "damaged gzip")]
    ):
        (tmp_path / str(number)).mkdir()
        refused(data, tmp_path / str(number), why)


def test_memory_stays_small_where_much_comes_out(tmp_path: Path) -> None:
    """In a process of its own, whose address space is bounded: 200 MiB from each format, with 160 MiB to spare."""
    sizes = 200 << 20
    zeros = tmp_path / "zeros"
    with zeros.open("wb") as file:
        file.truncate(sizes)
    for name, method in [("zip", zipfile.ZIP_DEFLATED), ("bz", zipfile.ZIP_BZIP2)]:
        with zipfile.ZipFile(tmp_path / name, "w", method) as archive:
            archive.write(zeros, "zeros")
    for mode in ("gz", "xz"):
        with tarfile.open(tmp_path / f"tar.{mode}", f"w:{mode}") as tar:  # type: ignore[call-overload]  # one of two
            tar.add(zeros, "zeros")
    script = (
        "import resource, sys, tempfile\n"
        "from pathlib import Path\n"
        "from network_extension.doctor.archives.unpack import Limits, unpack\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (160 << 20),) * 2)\n"
        "for name in sys.argv[2:]:\n"
        "    into = Path(tempfile.mkdtemp(dir=sys.argv[1]))\n"
        "    unpack(Path(sys.argv[1], name), into, Limits(ratio=10**7))\n"
        "    (into / 'zeros').unlink()\n"
    )
    names = ["zip", "bz", "tar.gz", "tar.xz"]
    subprocess.run([sys.executable, "-c", script, str(tmp_path), *names], check=True, timeout=50)


def test_a_zip_whose_headers_name_another_file(tmp_path: Path) -> None:
    data = made.zipped([Item("name", b"content" * 50)])
    refused(data.replace(b"name", b"else", 1), tmp_path, "its header and the directory contradict each other")


def test_a_payload_whose_checksum_does_not_hold(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(made.cpio(APP) + bytes(600_000)))  # more than comes out at once
    packed[-5] ^= 1
    refused(made.xar(component(bytes(packed))), tmp_path, "Payload: damaged gzip data")


def test_what_has_one_stream_has_one(tmp_path: Path) -> None:
    entry = (
        '<file id="9"><name>a</name><data><offset>{}</offset><length>{}</length><size>2</size>'
        '<encoding style="application/x-gzip"/></data></file>'
    )
    packed = zlib.compress(b"a") * 2
    data = made.xar([], extra=entry.format(20, len(packed)))
    refused(data + packed, tmp_path, "'a': more than one zlib stream")
