"""Writers of what the standard library does not write: xar, cpio, pbzx, installer packages; and faults on wish."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr


@dataclass(frozen=True)
class Item:
    """One entry of any archive: a file unless its mode says otherwise; a link's content is its target."""

    name: str
    content: bytes = b""
    mode: int = stat.S_IFREG | 0o644
    inode: int = 0
    links: int = 1

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.mode)


def folder(name: str) -> Item:
    return Item(name, mode=stat.S_IFDIR | 0o755)


def link(name: str, target: str) -> Item:
    return Item(name, target.encode(), stat.S_IFLNK | 0o777)


def program(name: str, content: bytes = b"#!/bin/sh\n") -> Item:
    return Item(name, content, stat.S_IFREG | 0o755)


APP = (
    folder("Example.app"),
    folder("Example.app/Contents"),
    Item("Example.app/Contents/Info.plist", b"<plist/>" * 400),
    program("Example.app/Contents/MacOS/Example", bytes(range(256)) * 300),
    link("Example.app/Contents/Current", "MacOS/Example"),
    Item("Example.app/Contents/Resources/empty"),
    Item("Example.app/Contents/Resources/Grüße.txt", "Grüße".encode()),
)


def tar(items: Sequence[Item], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    """`mode` as tarfile has it: w, w:gz, w:bz2, w:xz."""
    out = io.BytesIO()
    types = {stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFIFO: tarfile.FIFOTYPE}
    types |= {stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE}
    with tarfile.open(fileobj=out, mode=mode, format=form) as archive:  # type: ignore[call-overload]  # any of the four
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.mode = item.mode & 0o7777
            info.type = types.get(item.kind, tarfile.REGTYPE)
            if info.type == tarfile.SYMTYPE:
                info.linkname = item.content.decode()
            info.size = len(item.content) if info.type == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(item.content))
    return out.getvalue()


def zipped(items: Sequence[Item], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")  # a name that comes twice is meant
        for item in items:
            info = zipfile.ZipInfo(item.name + ("/" if item.kind == stat.S_IFDIR else ""))
            info.create_system = 3
            info.external_attr = item.mode << 16
            info.compress_type = method
            archive.writestr(info, item.content)
    return out.getvalue()


def cpio(items: Sequence[Item], magic: bytes = b"070707") -> bytes:
    out = io.BytesIO()
    trailer = Item("TRAILER!!!", mode=0)
    for number, item in enumerate([*items, trailer], 1):
        name = item.name.encode() + b"\0"
        inode = item.inode or number
        if magic == b"070707":
            out.write(magic + b"%06o%06o%06o%06o%06o%06o%06o" % (1, inode, item.mode, 501, 20, item.links, 0))
            out.write(b"%011o%06o%011o" % (0, len(name), len(item.content)) + name + item.content)
            continue
        check = sum(item.content) if magic == b"070702" else 0
        numbers = [inode, item.mode, 501, 20, item.links, 0, len(item.content), 0, 1, 0, 0, len(name), check]
        out.write(magic + b"".join(b"%08X" % number for number in numbers) + name)
        out.write(bytes(-out.tell() % 4) + item.content)
        out.write(bytes(-out.tell() % 4))
    return out.getvalue()


def pbzx(data: bytes, chunk: int = 1 << 16) -> bytes:
    out = [b"pbzx", struct.pack(">Q", chunk)]
    for at in range(0, len(data), chunk):
        part = data[at : at + chunk]
        packed = lzma.compress(part, preset=0)
        if len(packed) >= len(part):
            packed = part
        out.append(struct.pack(">QQ", len(part), len(packed)) + packed)
    return b"".join(out)


@dataclass(frozen=True)
class Heap:
    """How one file of a xar is kept."""

    style: str = "application/x-gzip"
    checksum: str = "sha1"
    offset: int | None = None
    """In place of the right one."""
    length: int | None = None
    size: int | None = None
    archived: str | None = None


PACK: dict[str, Callable[[bytes], bytes]] = {
    "application/x-gzip": zlib.compress,
    "application/x-bzip2": bz2.compress,
    "application/x-lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "application/x-xz": lzma.compress,
    "application/octet-stream": bytes,
}


def xar(
    items: Sequence[Item],
    heap: Heap | Mapping[str, Heap] = Heap(),
    *,
    checksum: str = "sha1",
    extra: str = "",
    before: str = "",
    header: Mapping[str, int] | None = None,
) -> bytes:
    """Paths become nested elements. `extra` goes into the table; `header` overrides numbers of the header."""
    items = with_folders(items)
    hashed = hashlib.new(checksum).digest_size if checksum else 0
    body = bytearray(hashed)
    tree: dict[str, list[Item]] = {}
    for item in items:
        tree.setdefault(item.name.rpartition("/")[0], []).append(item)
    numbers = {item.name: number for number, item in enumerate(items, 1)}

    def element(item: Item) -> str:
        kinds = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}
        kind = kinds.get(item.kind, "file")
        how = heap if isinstance(heap, Heap) else heap.get(item.name, Heap())
        parts = [f"<name>{escape(item.name.rpartition('/')[2])}</name><type>{kind}</type><mode>{item.mode:04o}</mode>"]
        if kind == "symlink":
            parts.append(f'<link type="broken">{escape(item.content.decode())}</link>')
        elif kind == "file":
            packed = PACK[how.style](item.content)
            place = how.offset if how.offset is not None else len(body)
            body.extend(packed)
            sums = [hashlib.new(how.checksum, data).hexdigest() for data in (packed, item.content)]
            parts.append(
                f"<data><length>{how.length if how.length is not None else len(packed)}</length>"
                f"<offset>{place}</offset><size>{how.size if how.size is not None else len(item.content)}</size>"
                f'<encoding style="{how.style}"/>'
                f'<archived-checksum style="{how.checksum}">{how.archived or sums[0]}</archived-checksum>'
                f'<extracted-checksum style="{how.checksum}">{sums[1]}</extracted-checksum></data>'
            )
        inner = "".join(element(child) for child in tree.get(item.name, []))
        return f'<file id="{numbers[item.name]}">{"".join(parts)}{inner}</file>'

    files = "".join(element(item) for item in tree.get("", []))
    own = f'<checksum style="{checksum}"><size>{hashed}</size><offset>0</offset></checksum>' if checksum else ""
    table = f'<?xml version="1.0" encoding="UTF-8"?>{before}<xar><toc>{own}{extra}{files}</toc></xar>'.encode()
    packed = zlib.compress(table)
    body[:hashed] = hashlib.new(checksum, packed).digest() if checksum else b""
    kind = {"": 0, "sha1": 1, "md5": 2, "sha256": 3, "sha512": 4}[checksum]
    numbers_ = {
        "header": 28,
        "version": 1,
        "packed": len(packed),
        "expanded": len(table),
        "kind": kind,
        **(header or {}),
    }
    return struct.pack(">4sHHQQI", b"xar!", *numbers_.values()) + packed + bytes(body)


def with_folders(items: Sequence[Item]) -> list[Item]:
    """`items` with the folders that only their names tell, each before what is in it."""
    found: dict[str, Item] = {}
    for item in items:
        parts = item.name.split("/")
        for end in range(1, len(parts)):
            name = "/".join(parts[:end])
            found.setdefault(name, folder(name))
        found[item.name] = item
    return list(found.values())


INFO = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<pkg-info overwrite-permissions="true" relocatable="false" identifier="com.example.pkg" version="1.2"'
    ' format-version="2" install-location="/Applications" auth="root">'
    '<payload numberOfFiles="7" installKBytes="80"/>'
    '<bundle path="./Example.app" id="com.example.app" CFBundleShortVersionString="1.0" CFBundleVersion="1">'
    '<bundle path="./Contents/Library/SystemExtensions/com.example.ext.systemextension" id="com.example.ext"/></bundle>'
    '<bundle-version><bundle id="com.example.app"/></bundle-version>'
    '<relocate><bundle id="com.example.app"/></relocate>'
    '<scripts><postinstall file="./postinstall"/></scripts></pkg-info>'
)


def component(
    payload: bytes | None = None, scripts: Sequence[Item] = (program("./postinstall"),), info: str = INFO, at: str = ""
) -> list[Item]:
    """Entries of a component package, in a folder `at`."""
    below = f"{at}/" if at else ""
    payload = (
        gzip.compress(cpio([replace(item, name=f"./{item.name}") for item in APP])) if payload is None else payload
    )
    items = [folder(at)] if at else []
    items += [Item(f"{below}PackageInfo", info.encode()), Item(f"{below}Bom", b"BOMStore")]
    if scripts:
        items.append(Item(f"{below}Scripts", gzip.compress(cpio(scripts))))
    return [*items, Item(f"{below}Payload", payload)]


SIGNATURE = (
    '<signature style="RSA"><offset>20</offset><size>256</size><KeyInfo/></signature>'
    '<x-signature style="CMS"><offset>276</offset><size>9000</size></x-signature>'
)


def distribution(*names: str, options: str = "") -> Item:
    references = "".join(f"<pkg-ref id={quoteattr(name)}>#{name}</pkg-ref>" for name in names)
    text = '<?xml version="1.0" encoding="utf-8"?><installer-gui-script minSpecVersion="1"><title>Example</title>'
    return Item("Distribution", f"{text}{options}{references}</installer-gui-script>".encode())


def tree(root: Path) -> dict[str, bytes | str | None]:
    """All below a folder: contents of files, targets of links, None for folders."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def expected(items: Sequence[Item]) -> dict[str, bytes | str | None]:
    """What `tree` finds where `items` were unpacked."""
    found: dict[str, bytes | str | None] = {}
    for item in items:
        name = item.name.removeprefix("./")
        parts = name.split("/")
        found.update({"/".join(parts[:end]): None for end in range(1, len(parts))})
        kinds = {stat.S_IFDIR: None, stat.S_IFLNK: item.content.decode() if item.kind == stat.S_IFLNK else ""}
        found[name] = kinds.get(item.kind, item.content)
    return found
