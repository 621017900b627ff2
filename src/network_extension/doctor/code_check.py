"""Whether a code signature fits the code, and what is bundled with it: every hash is made anew and compared.

That the code directory itself is what somebody signed is for its CMS signature to show.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from .code_directory import CodeDirectory
from .code_signature import CodeSignature, Slot

__all__ = ["CodeCheck", "SlotCheck", "SlotState", "check_code", "check_slots"]


class CodeCheck(NamedTuple):
    """Pages of one image against the hashes of one code directory."""

    bad_pages: tuple[int, ...]
    """Numbers of pages whose bytes are not what was signed, or that are not there."""
    page_size: int
    covered: int
    """Bytes from the image's start that hashes cover without a gap, whether or not they hold."""
    to_be_covered: int
    """Bytes in front of the signature."""

    @property
    def holds(self) -> bool:
        """Whether all of the code is what was signed."""
        return not self.bad_pages and self.covered == self.to_be_covered


def check_code(directory: CodeDirectory, image: bytes | memoryview, signature_offset: int) -> CodeCheck:
    """Each page's hash made anew. `image` is one slice of a file, its signature begins at `signature_offset`.

    Pages as the kernel finds them (ubc_subr.c, cs_validate_hash): the last one ends at the code limit.
    """
    view, limit, size = memoryview(image), directory.code_limit, directory.page_size or directory.code_limit
    bad: list[int] = []
    covered = 0
    for page, stored in _pages(directory):
        start, end = page * size, min((page + 1) * size, limit)
        if start >= end or end > len(view) or directory.hash_type.digest(view[start:end]) != stored:
            bad.append(page)
        if start <= covered < end:
            covered = end
    return CodeCheck(tuple(bad), size, covered, signature_offset)


def _pages(directory: CodeDirectory) -> Iterator[tuple[int, bytes]]:
    """Page numbers and their hashes."""
    if not directory.scatter:
        yield from enumerate(directory.page_hashes)
        return
    first = 0
    for part in directory.scatter:
        hashes = directory.page_hashes[first : first + part.pages]
        yield from enumerate(hashes, start=part.base)
        first += part.pages


class SlotState(StrEnum):
    """What became of a special slot."""

    HOLDS = "holds"
    DIFFERS = "differs"
    """The content is not what was signed."""
    MISSING = "missing"
    """There is a hash, but nothing that it is of."""
    UNSEALED = "unsealed"
    """There is content, but no hash of it."""
    UNCHECKED = "unchecked"
    """There is a hash of something that is not looked at here: application specific, or a disk image's."""


class SlotCheck(NamedTuple):
    """One special slot of one code directory."""

    slot: int
    state: SlotState


def check_slots(
    signature: CodeSignature, directory: CodeDirectory, info_plist: bytes | None, resources: bytes | None
) -> tuple[SlotCheck, ...]:
    """Each special slot that has a hash or a content, in the order of their numbers.

    `info_plist` and `resources` are the files Info.plist and _CodeSignature/CodeResources of the bundle whose main
    executable this is; None where there is none, as for a bare library.
    """
    contents = {slot: blob for slot, blob in signature.blobs.items() if Slot.CODE_DIRECTORY < slot < 0x1000}
    if info_plist is not None:
        contents[Slot.INFO_PLIST] = info_plist
    if resources is not None:
        contents[Slot.RESOURCES] = resources
    hashed = {slot for slot in range(1, len(directory.special_hashes) + 1) if directory.special_hash(slot)}
    return tuple(
        SlotCheck(slot, _state(directory, slot, contents.get(slot))) for slot in sorted(hashed | contents.keys())
    )


def _state(directory: CodeDirectory, slot: int, content: bytes | None) -> SlotState:
    stored = directory.special_hash(slot)
    if stored is None:
        return SlotState.UNSEALED
    if content is None:
        return SlotState.UNCHECKED if slot in (Slot.APPLICATION, Slot.REPRESENTATION) else SlotState.MISSING
    return SlotState.HOLDS if directory.hash_type.digest(content) == stored else SlotState.DIFFERS
