"""What comes out of each format is what went in: from writers here, and from other programs' where they are."""

from __future__ import annotations

import gzip
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from network_extension.doctor.archives.byte_stream import ByteStream
from network_extension.doctor.archives.cpio import read_cpio
from network_extension.doctor.archives.limits import DEFAULT_LIMITS, Budget
from network_extension.doctor.archives.pbzx import expanded_pbzx
from network_extension.doctor.archives.unpack import Unpacked, is_archive, unpack
from network_extension.doctor.archives.unpacked_folder import UnpackedFolder
from network_extension.doctor.errors import UnreadableFile

from ..corpus import VERSIONS, app, wheel
from . import archive_bytes as made
from .archive_bytes import APP, Heap, Item, expected, folder, link, program, tree

WRITERS: dict[str, tuple[str, Callable[[Sequence[Item]], bytes]]] = {
    "tar": ("tar", made.tar),
    "ustar": ("tar", lambda items: made.tar(items, form=tarfile.USTAR_FORMAT)),
    "gnu tar": ("tar", lambda items: made.tar(items, form=tarfile.GNU_FORMAT)),
    "tar.gz": ("tar", lambda items: made.tar(items, "w:gz")),
    "tar.bz2": ("tar", lambda items: made.tar(items, "w:bz2")),
    "tar.xz": ("tar", lambda items: made.tar(items, "w:xz")),
    "zip": ("zip", made.zipped),
    "stored zip": ("zip", lambda items: made.zipped(items, zipfile.ZIP_STORED)),
    "bzip2 zip": ("zip", lambda items: made.zipped(items, zipfile.ZIP_BZIP2)),
    "xar without sum": ("xar", lambda items: made.xar(items, checksum="")),
}


def _of_xar(style: str, checksum: str) -> tuple[str, Callable[[Sequence[Item]], bytes]]:
    return "xar", lambda items: made.xar(items, Heap(style, checksum), checksum=checksum)


WRITERS |= {f"xar {style}": _of_xar(style, "sha1") for style in made.PACK}
WRITERS |= {f"xar {checksum}": _of_xar("application/x-gzip", checksum) for checksum in ("md5", "sha256", "sha512")}


def unpacked(data: bytes, below: Path, name: str = "archive") -> Unpacked:
    (below / name).write_bytes(data)
    (below / "into").mkdir()
    return unpack(below / name, below / "into")


def cpio_tree(data: bytes, below: Path) -> dict[str, bytes | str | None]:
    below.mkdir(exist_ok=True)
    read_cpio(ByteStream([data], "cpio"), UnpackedFolder(below))
    return tree(below)


@pytest.mark.parametrize("writer", WRITERS)
def test_an_app_comes_out_as_it_went_in(writer: str, tmp_path: Path) -> None:
    kind, write = WRITERS[writer]
    data = write(APP)
    found = unpacked(data, tmp_path)
    assert tree(found.folder) == expected(APP)
    assert (found.kind, found.archives, found.packages, found.refused_links) == (kind, ("archive",), (), ())
    assert is_archive(data[:512], tmp_path / "archive") == kind
    program_itself = found.folder / "Example.app/Contents/MacOS/Example"
    assert program_itself.stat().st_mode & stat.S_IXUSR
    assert not (found.folder / "Example.app/Contents/Info.plist").stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("magic", [b"070707", b"070701", b"070702"])
def test_cpio_of_each_kind_is_read(magic: bytes, tmp_path: Path) -> None:
    assert cpio_tree(made.cpio(APP, magic) + bytes(512), tmp_path) == expected(APP)


@pytest.mark.parametrize("size", [1, 3, 4096, 65536])
def test_it_does_not_matter_how_the_bytes_come(size: int, tmp_path: Path) -> None:
    data = made.cpio(APP, b"070701")
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    read_cpio(ByteStream(chunks, "cpio"), UnpackedFolder(tmp_path))
    assert tree(tmp_path) == expected(APP)


@pytest.mark.parametrize("length", [1, 65535, 65536, 65537, 400_000])
def test_pbzx_holds_chunks_of_xz_and_of_plain_bytes(length: int) -> None:
    data = (bytes(range(256)) * 1000 + bytes(200_000))[:length]
    budget = Budget(DEFAULT_LIMITS)
    assert b"".join(expanded_pbzx(ByteStream([made.pbzx(data)], "pbzx"), budget)) == data
    assert budget.expanded == length


@pytest.mark.parametrize("contents", [(b"same", b"same"), (b"same", b""), (b"", b"same"), (b"", b"")])
def test_hard_links_of_a_cpio_are_files_whichever_has_the_bytes(contents: tuple[bytes, bytes], tmp_path: Path) -> None:
    items = [Item(name, content, inode=9, links=2) for name, content in zip("ab", contents, strict=True)]
    wanted = max(contents)
    assert cpio_tree(made.cpio([*items, Item("c", b"other")]), tmp_path) == {"a": wanted, "b": wanted, "c": b"other"}


def test_hard_links_of_a_tar_are_files(tmp_path: Path) -> None:
    data = bytearray(made.tar([Item("a/file", b"x" * 700), link("a/hard", "a/file")], form=tarfile.USTAR_FORMAT))
    at = data.index(b"a/hard")
    data[at + 156 : at + 157] = b"1"
    data[at + 148 : at + 156] = b"%06o\0 " % (sum(data[at : at + 148]) + 256 + sum(data[at + 156 : at + 512]))
    assert tree(unpacked(bytes(data), tmp_path).folder) == {"a": None, "a/file": b"x" * 700, "a/hard": b"x" * 700}


def test_long_names_and_links_of_a_tar_are_read(tmp_path: Path) -> None:
    items = [Item("n" * 90 + "/" + "ä" * 100, b"content"), link("l", "n" * 90 + "/" + "ä" * 100)]
    for number, form in enumerate([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]):
        (tmp_path / str(number)).mkdir()
        assert tree(unpacked(made.tar(items, form=form), tmp_path / str(number)).folder) == expected(items)


def test_several_gzip_streams_with_zeros_behind_are_one(tmp_path: Path) -> None:
    data = made.tar(APP)
    packed = gzip.compress(data[:5000]) + gzip.compress(b"") + gzip.compress(data[5000:]) + bytes(1000)
    assert tree(unpacked(packed, tmp_path).folder) == expected(APP)


def test_names_that_macos_zips_without_a_flag_are_utf_8(tmp_path: Path) -> None:
    data = made.zipped([Item("Grüße.txt", b"x")])
    raw = data.replace(b"\x00\x08", b"\x00\x00")  # the flag, in both headers
    assert raw != data
    assert tree(unpacked(raw, tmp_path).folder) == {"Grüße.txt": b"x"}


def test_devices_and_pipes_are_left_out(tmp_path: Path) -> None:
    odd = [Item(kind, mode=mode | 0o644) for kind, mode in [("fifo", stat.S_IFIFO), ("disk", stat.S_IFBLK)]]
    items = [*odd, Item("file", b"x")]
    for number, data in enumerate([made.tar(items), made.zipped(items), made.xar([odd[0], items[-1]])]):
        (tmp_path / str(number)).mkdir()
        found = unpacked(data, tmp_path / str(number))
        assert tree(found.folder) == {"file": b"x"} and len(found.left_out) == (1 if number == 2 else 2)
    assert cpio_tree(made.cpio(items), tmp_path / "cpio") == {"file": b"x"}


def test_set_id_bits_are_not_set(tmp_path: Path) -> None:
    items = [Item("tool", b"x", stat.S_IFREG | 0o6755)]
    for number, data in enumerate([made.tar(items), made.zipped(items), made.xar(items)]):
        (tmp_path / str(number)).mkdir()
        mode = (unpacked(data, tmp_path / str(number)).folder / "tool").stat().st_mode
        assert stat.S_IMODE(mode) & 0o7000 == 0 and mode & stat.S_IXUSR


@pytest.mark.parametrize("version", VERSIONS)
def test_real_wheels_hold_the_real_apps(version: str, tmp_path: Path) -> None:
    found = unpack(wheel(version), tmp_path)
    (bundle,) = tmp_path.rglob("Mitmproxy Redirector.app")
    assert tree(bundle) == tree(app(version)) and len(tree(bundle)) > 10
    assert found.kind == "zip" and found.refused_links == () and found.left_out == ()
    inner = () if version == "0.3.0" else ("mitmproxy_macos/Mitmproxy Redirector.app.tar",)
    assert found.archives == (wheel(version).name, *inner)


# Other programs' archives, and other programs on ours.


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with an app in it."""
    path = tmp_path / "source"
    into = UnpackedFolder(path)
    path.mkdir()
    for item in APP:
        if item.kind == stat.S_IFDIR:
            into.folder(item.name)
        elif item.kind == stat.S_IFLNK:
            into.link(item.name, item.content.decode())
        else:
            into.write(item.name, [item.content], bool(item.mode & 0o100))
    (path / "Example.app/Contents/MacOS/Helper").hardlink_to(path / "Example.app/Contents/MacOS/Example")
    return path


HELPER = program("Example.app/Contents/MacOS/Helper", APP[3].content)


@pytest.mark.peer
@pytest.mark.parametrize("form", ["xar", "zip", "pax", "gnutar", "ustar", "v7tar"])
def test_archives_of_bsdtar_are_read(form: str, source: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    command = [tool("bsdtar"), f"--format={form}", "-cf", str(archive), "Example.app"]
    made_it = subprocess.run(command, cwd=source, check=False, capture_output=True, timeout=30)
    if made_it.returncode and form == "xar":
        pytest.skip("this bsdtar writes no xar")
    assert made_it.returncode == 0, made_it.stderr
    (tmp_path / "into").mkdir()
    assert unpack(archive, tmp_path / "into").kind == {"xar": "xar", "zip": "zip"}.get(form, "tar")
    assert tree(tmp_path / "into") == expected([*APP, HELPER])


@pytest.mark.peer
@pytest.mark.parametrize("form", ["odc", "newc"])
def test_cpios_of_bsdtar_are_read(form: str, source: Path, tmp_path: Path) -> None:
    command = [tool("bsdtar"), f"--format={form}", "-cf", "-", "Example.app"]
    data = subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=30).stdout
    assert cpio_tree(data, tmp_path / "into") == expected([*APP, HELPER])


@pytest.mark.peer
@pytest.mark.parametrize("form", ["odc", "newc", "crc"])
def test_cpios_of_cpio_are_read(form: str, source: Path, tmp_path: Path) -> None:
    names = "\n".join(path.relative_to(source).as_posix() for path in sorted(source.rglob("*"))).encode()
    command = [tool("cpio"), "--quiet", "-o", "-H", form]
    data = subprocess.run(command, input=names, cwd=source, check=True, capture_output=True, timeout=30).stdout
    assert cpio_tree(data, tmp_path / "into") == expected([*APP, HELPER])


@pytest.mark.peer
@pytest.mark.parametrize("name", ["xar", "odc", "newc", "crc"])
def test_bsdtar_reads_what_is_written_here(name: str, tmp_path: Path) -> None:
    magics = {"odc": b"070707", "newc": b"070701", "crc": b"070702"}
    data = made.cpio(APP, magics[name]) if name in magics else made.xar(APP)
    (tmp_path / "into").mkdir()
    (tmp_path / "archive").write_bytes(data)
    subprocess.run(
        [tool("bsdtar"), "-xf", "../archive"], cwd=tmp_path / "into", check=True, capture_output=True, timeout=30
    )
    assert tree(tmp_path / "into") == expected(APP)


def test_what_is_no_archive_is_told_so(tmp_path: Path) -> None:
    texts = {"text": b"hello " * 200, "gz": gzip.compress(b"hello" * 300), "cpio": made.cpio(APP), "none": b""}
    for name, data in texts.items():
        (tmp_path / name).mkdir()
        with pytest.raises(UnreadableFile, match="is no zip, no tar and no installer package"):
            unpacked(data, tmp_path / name)
        assert is_archive(data[:512], tmp_path / name / "archive") is None
    with pytest.raises(UnreadableFile, match="No such file"):
        is_archive(b"", tmp_path / "nothing")
    with pytest.raises(UnreadableFile, match="No such file"):
        unpack(tmp_path / "nothing", tmp_path)


@pytest.mark.parametrize(("name", "tail"), [("Example.dmg", bytes(512)), ("renamed", b"koly" + bytes(508))])
def test_a_disk_image_is_to_be_mounted_first(name: str, tail: bytes, tmp_path: Path) -> None:
    data = b"BZh9" + bytes(2000) + tail
    with pytest.raises(UnreadableFile, match=r"mount it on a Mac, or unpack it with `7z x`, and name the \.app"):
        unpacked(data, tmp_path, name)
    assert is_archive(data[:512], tmp_path / name) == "disk image"


def test_an_ipa_and_an_archive_of_xcode_in_a_zip_are_folders(tmp_path: Path) -> None:
    inside = [replace(item, name=f"Payload/{item.name}") for item in APP]
    found = unpacked(made.zipped([folder("build"), Item("build/Example.ipa", made.zipped(inside))]), tmp_path)
    assert found.archives == ("archive", "build/Example.ipa")
    assert (found.folder / "build/Example.ipa/Payload/Example.app/Contents/Info.plist").is_file()
