"""From what a user names to files: a folder as it is, an archive unpacked for the while, a file by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .bundle_files import BundleFiles
from .errors import UnreadableFile
from .macho import is_macho
from .product import InstallerPackage

__all__ = ["ExaminedPath", "examined_path", "is_profile"]

_SOURCES = (".entitlements", "Info.plist")
_PROFILES = (".provisionprofile", ".mobileprovision")
_HEAD = 512
_MOST_NOTED = 5


@dataclass(frozen=True)
class ExaminedPath:
    """Files to look at."""

    files: BundleFiles
    packages: Sequence[InstallerPackage] = ()
    in_stapled_package: bool = False
    notes: Sequence[str] = ()
    """What a reader has to know: what was unpacked, and what was left out."""


@contextmanager
def examined_path(path: Path) -> Iterator[ExaminedPath]:
    """The files behind `path`, until the end of the block. Archives are unpacked into a folder that goes with it.

    Raises UnreadableFile: there is nothing, or nothing that a bundle can be in.
    """
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UnreadableFile(str(path), getattr(error, "strerror", None) or "cannot be found") from None
    if real.is_dir():
        yield ExaminedPath(BundleFiles(real))
        return
    if not real.is_file():
        raise UnreadableFile(str(path), "neither a file nor a folder")
    head = _head(real)
    if real.name.endswith(_SOURCES):
        yield ExaminedPath(BundleFiles.of_file(real))
    elif is_macho(head):
        note = f"{path.name} is a program by itself: a Network Extension lies in a bundle; name its .app"
        yield ExaminedPath(BundleFiles.of_file(real), notes=(note,))
    elif is_profile(path):
        raise UnreadableFile(str(path), "a profile by itself")
    else:
        yield from _unpacked(path, real, head)


def is_profile(path: Path) -> bool:
    """Whether a file is called like a provisioning profile: `lone_profile` looks at those."""
    return path.name.endswith(_PROFILES)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error)) from None


def _unpacked(path: Path, real: Path, head: bytes) -> Iterator[ExaminedPath]:
    from .archives.unpack import is_archive, unpack

    if is_archive(head, real) is None:
        raise UnreadableFile(
            str(path), "no app, no archive and no installer package; name an .app, .ipa, .pkg, .xcarchive, .zip or .tar"
        )
    with tempfile.TemporaryDirectory(prefix="netext-doctor-") as folder:
        found = unpack(real, Path(folder))
        packages = [
            InstallerPackage(
                path=package.path or path.name,
                install_location=package.info.install_location,
                relocatable=package.info.relocatable,
                bundle_paths=package.info.bundle_paths,
                scripts=package.scripts,
            )
            for package in found.packages
        ]
        # What a product archive's Distribution says counts instead of what its components say.
        apps = tuple(path for package in packages for path in package.bundle_paths)
        for distribution in found.distributions:
            packages += [InstallerPackage(path.name, place, (), apps) for place in distribution.custom_locations]
        left_out = [f"the link {name}, which leads to {target}" for name, target in found.refused_links]
        left_out += found.left_out
        notes = [f"left out: {one}" for one in left_out[:_MOST_NOTED]]
        if len(left_out) > _MOST_NOTED:
            notes.append(f"left out: {len(left_out) - _MOST_NOTED} more")
        stapled = any(package.stapled for package in found.packages)
        yield ExaminedPath(BundleFiles(found.folder), packages, stapled, notes)
