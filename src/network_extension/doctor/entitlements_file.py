"""An .entitlements file of the sources: what codesign is handed, before variables in it are filled in."""

from __future__ import annotations

from .der_entitlements import read_xml_entitlements
from .product import EntitlementsFile

__all__ = ["read_entitlements_file"]


def read_entitlements_file(data: bytes, path: str) -> EntitlementsFile:
    """Raises UnreadableFile: no XML property list, or no dictionary."""
    at = data.find(b"<!--")
    return EntitlementsFile(path, read_xml_entitlements(data), 0 if at < 0 else data.count(b"\n", 0, at) + 1)
