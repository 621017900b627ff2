"""A rule's fault in a few lines, and the same mended."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Example"]


class Example(NamedTuple):
    """Before and after, for a page about a rule."""

    language: str
    """Of both: "xml" (a part of a property list), "sh" (commands and what they print), "text" (files), "swift"."""
    before: str
    after: str
