"""Access to bytes from a file, every offset and length of which is checked before it is used."""

from __future__ import annotations

import struct

from .errors import UnreadableFile

__all__ = ["BoundedBytes"]


class BoundedBytes:
    """A view of `data` that never reads past its end. `what` names it in errors.

    All methods raise UnreadableFile where the range is not within the data; offsets count from its start.
    """

    __slots__ = ("view", "what")

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self.view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        self.what = what

    def __len__(self) -> int:
        return len(self.view)

    def numbers(self, layout: struct.Struct, at: int) -> tuple[int, ...]:
        """The numbers of `layout` at offset `at`."""
        self._must_hold(at, layout.size)
        return layout.unpack_from(self.view, at)

    def part(self, at: int, length: int) -> memoryview:
        """`length` bytes from offset `at`, not copied."""
        self._must_hold(at, length)
        return self.view[at : at + length]

    def text(self, at: int, end: int) -> str:
        """The UTF-8 text from offset `at` to the next NUL, which has to come before `end`."""
        self._must_hold(at, end - at)
        raw, nul, _ = bytes(self.view[at:end]).partition(b"\0")
        if not nul:
            raise UnreadableFile(self.what, f"the text at {at} does not end")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise UnreadableFile(self.what, f"the text at {at} is not UTF-8") from None

    def _must_hold(self, at: int, length: int) -> None:
        if at < 0 or length < 0 or at + length > len(self.view):
            raise UnreadableFile(self.what, f"{length} bytes at {at} are not within its {len(self.view)}")
