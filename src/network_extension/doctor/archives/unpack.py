"""From an archive or installer package to a folder in which apps lie as they would on a Mac.

An archive within it that can hold an app is opened as well, and becomes a folder of the same name; so do Payload and
Scripts of a package. What lies inside of a bundle is left alone: there it is a resource, and sealed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ..errors import UnreadableFile
from .bounded_xml import MAX_SIZE
from .byte_stream import ByteStream, file_part
from .compression import compression_of, decompressed
from .cpio import read_cpio
from .installer_package import Distribution, PackageInfo, read_distribution, read_package_info
from .limits import DEFAULT_LIMITS, Budget, Limits, quoted
from .pbzx import MAGIC as PBZX_MAGIC
from .pbzx import expanded_pbzx
from .recognition import DISK_IMAGE, archive_kind, is_archive
from .tar_archive import unpack_tar
from .unpacked_folder import UnpackedFolder
from .xar import unpack_xar
from .zip_archive import unpack_zip

__all__ = ["Package", "Unpacked", "is_archive", "unpack"]

_SUFFIXES = (".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip", ".ipa", ".whl", ".pkg")
_BUNDLES = (".app", ".appex", ".systemextension", ".framework", ".xpc", ".bundle", ".plugin", ".kext", ".dSYM")
_MAX_COMPONENTS = 1000
_MAX_SCRIPTS = 256
_SCRIPT_HEAD = 1 << 16


@dataclass(frozen=True)
class Package:
    """One component of an installer package."""

    path: str
    """Below the folder; "" when the package is what was unpacked, and has but one component."""
    info: PackageInfo
    """Where it names no bundle, the apps of its payload stand in."""
    payload_folder: Path
    """What goes to the install location. Empty where the package has scripts only."""
    scripts: tuple[tuple[str, bytes], ...]
    """Files of the scripts' folder by name, each with its first 64 KiB. None of them was run."""
    signed: bool
    """Whether the archive has a signature; nothing of it is verified."""
    stapled: bool
    """Whether a ticket's trailer ends the archive."""


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive."""

    kind: str
    """zip, tar or xar."""
    folder: Path
    packages: tuple[Package, ...]
    refused_links: tuple[tuple[str, str], ...]
    """Links that led outside, and what they named."""
    archives: tuple[str, ...]
    """All that were opened: the outermost by its name, the others by their path below the folder."""
    left_out: tuple[str, ...] = ()
    """What was not unpacked, and why."""
    distributions: tuple[Distribution, ...] = ()
    """Of product archives."""


def unpack(path: Path, into: Path, limits: Limits = DEFAULT_LIMITS) -> Unpacked:
    """Unpack into `into`, an empty folder that the caller owns and removes.

    Raises UnreadableFile: no archive, a disk image, damaged, and what leads outside of the folder or is too much; the
    folder may hold a part of it then. An archive within it that is damaged is an error as well: the app may be in it.
    """
    try:
        with path.open("rb") as file:
            opening = _Opening(into, limits, Budget(limits, os.fstat(file.fileno()).st_size))
            kind = opening.open_archive(file, path.name)
        opening.open_nested()
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error)) from None
    return Unpacked(
        kind,
        into,
        tuple(opening.packages),
        tuple(opening.refused_links),
        (path.name, *opening.archives),
        tuple(opening.left_out),
        tuple(opening.distributions),
    )


class _Opening:
    """One archive and all within it."""

    def __init__(self, root: Path, limits: Limits, budget: Budget) -> None:
        self.root = root
        self.limits = limits
        self.budget = budget
        self.packages: list[Package] = []
        self.refused_links: list[tuple[str, str]] = []
        self.archives: list[str] = []
        self.left_out: list[str] = []
        self.distributions: list[Distribution] = []
        self._waiting: deque[tuple[str, int]] = deque()

    def open_archive(self, file: IO[bytes], name: str, place: str = "", level: int = 1) -> str:
        """Unpack one into the folder `place` below the root; `name` is for errors. Returns its kind."""
        kind = archive_kind(file)
        into = self._folder(place, name)
        if kind == "xar":
            self._open_xar(file, into, place, level)
        elif kind == "zip":
            unpack_zip(file, into)
        elif kind == "tar":
            unpack_tar(file, into)
        elif kind == DISK_IMAGE or name.endswith(".dmg"):
            why = "a disk image: mount it on a Mac, or unpack it with `7z x`, and name the .app that is in it"
            raise UnreadableFile(name, why)
        if kind is None:
            raise UnreadableFile(name, "is no zip, no tar and no installer package")
        self._note(into, place, level)
        return kind

    def open_nested(self) -> None:
        """Go on into what was found, until there is nothing more."""
        while self._waiting:
            path, level = self._waiting.popleft()
            self.archives.append(path)
            with self._replaced(path) as file:
                self.open_archive(file, path, path, level)

    def _open_xar(self, file: IO[bytes], into: UnpackedFolder, place: str, level: int) -> None:
        found = unpack_xar(file, into)
        components = [name.rpartition("/")[0] for name in into.files if name.rpartition("/")[2] == "PackageInfo"]
        if len(components) > _MAX_COMPONENTS:
            raise UnreadableFile(into.what, f"more than {_MAX_COMPONENTS} packages in one")
        if into.is_file("Distribution"):
            text = self._head(_below(place, "Distribution"), MAX_SIZE + 1)
            self.distributions.append(read_distribution(text, f"{into.what}: Distribution"))
        for component in components:
            what = f"{into.what}: {component}" if component else into.what
            info = read_package_info(
                self._head(_below(place, _below(component, "PackageInfo")), MAX_SIZE + 1), f"{what}: PackageInfo"
            )
            payload = self._open_part(into, component, place, "Payload", level)
            scripts = self._open_part(into, component, place, "Scripts", level)
            if not info.bundle_paths:
                info = replace(info, bundle_paths=tuple(f"./{app}" for app in payload.apps()))
            heads = [(name, self._head(scripts.root / name, _SCRIPT_HEAD)) for name in scripts.files[:_MAX_SCRIPTS]]
            self.packages.append(
                Package(_below(place, component), info, payload.root, tuple(heads), found.is_signed, found.is_stapled)
            )

    def _open_part(self, package: UnpackedFolder, component: str, place: str, part: str, level: int) -> UnpackedFolder:
        """Payload or Scripts: the file becomes a folder."""
        name = _below(component, part)
        path = _below(place, name)
        into = self._folder(path, f"{package.what}: {name}")
        if package.is_file(name):
            with self._replaced(path) as file:
                _unpack_payload(file, into)
            self._note(into, path, level)
        elif part == "Payload":
            package.folder(name)
        return into

    def _folder(self, place: str, what: str) -> UnpackedFolder:
        return UnpackedFolder(self.root / place, self.limits, what=what, budget=self.budget)

    def _replaced(self, path: str) -> IO[bytes]:
        """The file that was unpacked to `path`; a folder stands there from now on."""
        place = self.root / path
        file = place.open("rb")
        try:
            place.unlink()
            place.mkdir()
        except OSError:
            file.close()
            raise
        return file

    def _head(self, path: str | Path, size: int) -> bytes:
        with (self.root / path).open("rb") as file:
            return file.read(size)

    def _note(self, into: UnpackedFolder, place: str, level: int) -> None:
        """What is to be told of it, and which of its files are archives to go on with."""
        self.refused_links += [(_below(place, name), target) for name, target in into.refused_links]
        self.left_out += [f"{into.what}: {text}" for text in into.left_out]
        for path in (_below(place, name) for name in into.files):
            if any(part.endswith(_BUNDLES) for part in path.split("/")[:-1]):
                continue
            if path.endswith(".dmg"):
                self.left_out.append(f"{quoted(path)}: a disk image, which is not read here")
            elif path.lower().endswith(_SUFFIXES) and self._is_archive(path):
                if level < self.limits.levels:
                    self._waiting.append((path, level + 1))
                else:
                    self.left_out.append(f"{quoted(path)}: nested deeper than {self.limits.levels} archives")

    def _is_archive(self, path: str) -> bool:
        with (self.root / path).open("rb") as file:
            return archive_kind(file) in ("zip", "tar", "xar")


def _unpack_payload(file: IO[bytes], into: UnpackedFolder) -> None:
    """A cpio, plain, compressed, or in pbzx."""
    head = ByteStream(file_part(file, into.what), into.what).up_to(8)
    chunks: Iterable[bytes] = file_part(file, into.what)
    if head.startswith(PBZX_MAGIC):
        chunks = expanded_pbzx(ByteStream(chunks, into.what), into.budget)
    elif (kind := compression_of(head)) is not None:
        chunks = decompressed(chunks, kind, into.what, into.budget)
    if head:
        stream = ByteStream(chunks, into.what)
        read_cpio(stream, into)
        stream.exhaust()  # behind the trailer are the checksums of what compressed it


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name
