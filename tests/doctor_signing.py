"""Signs real Mach-O files again, in place, so that they are right in all ways but the one that a test is about.

LC_CODE_SIGNATURE keeps its place and size, so nothing in front of it moves; the SuperBlob is built anew and padded.
What is not asked for stays as it is (`KEEP`), for each slice by itself.
"""

from __future__ import annotations

import hashlib
import plistlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from asn1crypto import core

from tests.doctor_authorities import SIGNING_TIME, Identity, code_attributes, sign_cms
from tests.doctor_code_directory import (
    ADHOC,
    CMS_WRAPPER,
    CUT,
    DER_ENTITLEMENTS,
    ENTITLEMENTS,
    SLOT_ALTERNATE,
    SLOT_CMS,
    SLOT_CODE_DIRECTORY,
    SLOT_DER_ENTITLEMENTS,
    SLOT_ENTITLEMENTS,
    SLOT_INFO,
    SLOT_REQUIREMENTS,
    SLOT_RESOURCES,
    CodeDirectory,
    Slice,
    blob,
    page_hashes,
    read_super_blob,
    slices,
    super_blob,
)


class Kept(Enum):
    """Stays as it is in the signature that is there."""

    KEEP = "keep"


KEEP = Kept.KEEP


@dataclass(frozen=True)
class Signing:
    """How to sign. None means: without it."""

    identity: Identity | None
    """None: ad hoc."""
    identifier: str | Kept = KEEP
    team: str | Kept | None = KEEP
    """In the CodeDirectory. KEEP: the team of the identity; ad hoc code has none."""
    flags: int | Kept = KEEP
    """KEEP: as they are, with ADHOC as the identity says."""
    entitlements: Mapping[str, Any] | Kept | None = KEEP
    """Goes into XML and DER."""
    entitlements_xml: bytes | Kept | None = KEEP
    """Instead of what `entitlements` would make of the XML slot; without the blob's head."""
    entitlements_der: bytes | Kept | None = KEEP
    info_plist: bytes | Kept | None = KEEP
    """The Info.plist that the special slot is to be right for."""
    code_resources: bytes | Kept | None = KEEP
    requirements: bytes | Kept | None = KEEP
    """A whole blob, as `requirement_set` and `developer_id_requirement` make it."""
    digests: tuple[str, ...] = ("sha256",)
    """One CodeDirectory for each: the first in slot 0, the others as alternates."""
    page_shift: int | Kept = KEEP
    signing_time: datetime | None = SIGNING_TIME
    timestamp: Identity | None = None
    listed_cdhashes: Sequence[bytes] | None = None
    """Instead of the right ones, in the signed attributes."""
    message_digest: bytes | None = None
    """Instead of the right one."""
    cms: Callable[[bytes], bytes] | None = None
    """Makes something else of the finished CMS."""
    with_cms_slot: bool = True
    """Ad hoc only: `codesign` writes an empty CMS slot, the linker none."""


def resign(data: bytes, signing: Signing) -> bytes:
    """The Mach-O file `data`, thin or fat, with all slices signed as `signing` says. Of the same length."""
    changed = bytearray(data)
    for found in slices(data):
        assert found.signature_command, "the file has no place for a signature"
        blobs = _sign(bytes(data[found.offset : found.offset + found.size]), found, signing)
        signature = super_blob(blobs)
        if len(signature) > found.signature_size:
            raise ValueError(f"a signature of {len(signature)} bytes has no place in {found.signature_size}")
        start = found.offset + found.signature_offset
        changed[start : start + found.signature_size] = signature.ljust(found.signature_size, b"\0")
    return bytes(changed)


def _sign(code: bytes, found: Slice, signing: Signing) -> dict[int, bytes]:
    existing = read_super_blob(code[found.signature_offset :][: found.signature_size])
    old = CodeDirectory.parse(existing[SLOT_CODE_DIRECTORY])
    blobs = _attached(existing, signing)
    template = _template(old, signing)
    directories = []
    for name in signing.digests:
        special = _special(old, blobs, signing, name)
        pages = page_hashes(code[: old.code_limit], template.page_shift, name)
        directories.append(replace(template, hash_name=name, code_hashes=pages, special=special).build())
    slots = {SLOT_CODE_DIRECTORY: directories[0], **blobs}
    slots |= {SLOT_ALTERNATE + number: directory for number, directory in enumerate(directories[1:])}
    if signing.identity is not None or signing.with_cms_slot:
        slots[SLOT_CMS] = blob(CMS_WRAPPER, _cms(directories, signing))
    return slots


def _template(old: CodeDirectory, signing: Signing) -> CodeDirectory:
    flags = old.flags & ~ADHOC | (0 if signing.identity else ADHOC) if signing.flags is KEEP else signing.flags
    team = (signing.identity.team if signing.identity else None) if signing.team is KEEP else signing.team
    return replace(
        old,
        identifier=old.identifier if signing.identifier is KEEP else signing.identifier,
        team=team,
        flags=flags,
        page_shift=old.page_shift if signing.page_shift is KEEP else signing.page_shift,
    )


def _attached(existing: Mapping[int, bytes], signing: Signing) -> dict[int, bytes]:
    """Requirements and entitlements, by slot."""
    made: dict[int, bytes | Kept | None] = {
        SLOT_REQUIREMENTS: signing.requirements,
        SLOT_ENTITLEMENTS: KEEP,
        SLOT_DER_ENTITLEMENTS: KEEP,
    }
    if signing.entitlements is not KEEP:
        claimed = signing.entitlements
        made[SLOT_ENTITLEMENTS] = None if claimed is None else blob(ENTITLEMENTS, plistlib.dumps(dict(claimed)))
        made[SLOT_DER_ENTITLEMENTS] = None if claimed is None else blob(DER_ENTITLEMENTS, entitlements_der(claimed))
    for slot, magic, body in (
        (SLOT_ENTITLEMENTS, ENTITLEMENTS, signing.entitlements_xml),
        (SLOT_DER_ENTITLEMENTS, DER_ENTITLEMENTS, signing.entitlements_der),
    ):
        if body is not KEEP:
            made[slot] = None if body is None else blob(magic, body)
    final = {slot: existing.get(slot) if value is KEEP else value for slot, value in made.items()}
    return {slot: value for slot, value in final.items() if value is not None}


def _special(old: CodeDirectory, blobs: Mapping[int, bytes], signing: Signing, name: str) -> dict[int, bytes]:
    special = {slot: hashlib.new(name, data).digest() for slot, data in blobs.items()}
    for slot, content in ((SLOT_INFO, signing.info_plist), (SLOT_RESOURCES, signing.code_resources)):
        if content is KEEP:
            assert slot not in old.special or name == old.hash_name, f"the bytes behind slot {slot} are needed"
            if slot in old.special:
                special[slot] = old.special[slot]
        elif content is not None:
            special[slot] = hashlib.new(name, content).digest()
    return special


def _cms(directories: Sequence[bytes], signing: Signing) -> bytes:
    if signing.identity is None:
        return b""
    digests = [
        (name, hashlib.new(name, data).digest()) for name, data in zip(signing.digests, directories, strict=True)
    ]
    listed = [value[:CUT] for _, value in digests] if signing.listed_cdhashes is None else signing.listed_cdhashes
    message = sign_cms(
        directories[0],
        signing.identity,
        detached=True,
        signing_time=signing.signing_time,
        attributes=code_attributes(listed, digests),
        timestamp=signing.timestamp,
        message_digest=signing.message_digest,
    )
    return message if signing.cms is None else signing.cms(message)


def entitlements_der(entitlements: Mapping[str, Any]) -> bytes:
    """Entitlements as Apple encodes them in slot 7: version 1, and a dictionary in the order of its keys."""
    return _tagged(0x70, _der(1) + _der(entitlements))


def profile_der(contents: Mapping[str, Any]) -> bytes:
    """The content of a DER-Encoded-Profile: the outermost dictionary is a SET."""
    encoded = {
        key: (entitlements_der(value) if key == "Entitlements" else _der(value)) for key, value in contents.items()
    }
    entries = [_tagged(0x30, _der(key) + value) for key, value in encoded.items()]
    return _tagged(0x31, b"".join(sorted(entries)))


def _der(value: Any) -> bytes:
    if isinstance(value, Mapping):
        return _tagged(0xB0, b"".join(_tagged(0x30, _der(key) + _der(value[key])) for key in sorted(value)))
    if isinstance(value, (list, tuple)):
        return _tagged(0x30, b"".join(map(_der, value)))
    if isinstance(value, bool):
        return bytes([0x01, 0x01, 0xFF if value else 0])
    if isinstance(value, datetime):
        return bytes(core.UTCTime(value if value.tzinfo else value.replace(tzinfo=UTC)).dump())
    kinds: dict[type, Any] = {int: core.Integer, str: core.UTF8String, bytes: core.OctetString}
    return bytes(kinds[type(value)](value).dump())


def _tagged(tag: int, body: bytes) -> bytes:
    size = len(body)
    length = size.to_bytes((size.bit_length() + 7) // 8 or 1)
    return bytes([tag]) + (length if size < 0x80 else bytes([0x80 | len(length)]) + length) + body
