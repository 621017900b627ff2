"""What the sources of an extension have of it before it is built: .entitlements files, and Info.plists.

Variables in them are not filled in yet, and Xcode adds keys of its own. So nothing is missed here: only what stands
there and is wrong is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .bundle_files import BundleFiles
from .bundles import BundleKind, CodeBundle
from .claims import EntitlementsFile
from .der_entitlements import read_xml_entitlements
from .errors import UnreadableFile
from .product import Extension
from .property_list import read_property_list

__all__ = ["RULES_OF_SOURCES", "SourceFiles", "find_source_files", "read_entitlements_file"]

RULES_OF_SOURCES = ("INF002", "INF003", "INF008", "INF010", "INF011", "INF013")
"""Rules that an Info.plist of the sources can break: about keys that stand there."""
_MAX_SIZE = 1 << 20
_APP_EXTENSION = ("NSExtension", "EXAppExtensionAttributes")


class SourceFiles(NamedTuple):
    """What was found outside of bundles."""

    entitlements: list[EntitlementsFile]
    extensions: list[Extension]
    """For each Info.plist of a Network Extension one whose path is that file, without code."""
    left_out: list[str]
    """What could not be read, in words."""


def find_source_files(files: BundleFiles, bundles: Sequence[CodeBundle]) -> SourceFiles:
    """Those that lie in no bundle: there such a file is a resource like any other, or the bundle's own."""
    inside = tuple(f"{bundle.path}/" if bundle.path else "" for bundle in bundles)
    found = SourceFiles([], [], [])
    for path in files.entries:
        if not files.is_file(path) or (inside and path.startswith(inside)):
            continue
        try:
            if path.endswith(".entitlements"):
                found.entitlements.append(read_entitlements_file(files.read(path, _MAX_SIZE), path))
            elif path.endswith("Info.plist") and (extension := _extension(files, path)) is not None:
                found.extensions.append(extension)
        except UnreadableFile as error:
            found.left_out.append(f"{path} was left out: {error}")
    return found


def read_entitlements_file(data: bytes, path: str) -> EntitlementsFile:
    """Raises UnreadableFile: no XML property list, or no dictionary."""
    at = data.find(b"<!--")
    return EntitlementsFile(path, read_xml_entitlements(data), 0 if at < 0 else data.count(b"\n", 0, at) + 1)


def _extension(files: BundleFiles, path: str) -> Extension | None:
    values = read_property_list(files.read(path, _MAX_SIZE))
    if any(key in values for key in _APP_EXTENSION) and "NetworkExtension" not in values:
        kind = BundleKind.APP_EXTENSION
    elif "NetworkExtension" in values:
        kind = BundleKind.SYSTEM_EXTENSION
    else:
        return None
    extension = Extension(CodeBundle(files, path, kind, contents=path.rpartition("/")[0], information_path=path))
    # Most app extensions are none of ours.
    is_ours = kind is BundleKind.SYSTEM_EXTENSION or any("networkext" in point.lower() for point in extension.points)
    return extension if is_ours else None
