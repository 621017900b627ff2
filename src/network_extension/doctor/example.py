"""A rule's fault in a few lines, and the same mended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from .rule import Rule

__all__ = ["Example", "Value", "fragment", "titles"]

Value = str | bool | datetime | Sequence["Value"] | Mapping[str, "Value"]
"""What a property list in an example is made of."""


class Example(NamedTuple):
    """Before and after, for a page about a rule."""

    language: str
    """Of both: "xml" (a part of a property list), "sh" (commands and what they print), "text" (files), "swift"."""
    before: str
    after: str
    what: str = ""
    """What both are a part of, where they do not say it themselves. Not as a comment in them: those that stand in
    entitlements are a fault of their own (ENT026)."""


def titles(rule: Rule) -> tuple[str, str]:
    """What stands over before and after: there is nothing to mend where a rule has no `fix`."""
    return ("Before", "After") if rule.fix else ("As it is", "What one may do")


def fragment(values: Mapping[str, Value]) -> str:
    """Keys and values as they stand in the dictionary of a property list in XML, indented by two blanks.

    Without plistlib, whose import takes longer than all that is made here.
    """
    return "\n".join(_entries(values))


def _entries(values: Mapping[str, Value]) -> Iterator[str]:
    for key, value in values.items():
        yield f"<key>{_escaped(key)}</key>"
        yield from _element(value)


def _element(value: Value) -> Iterator[str]:
    if isinstance(value, bool):
        yield "<true/>" if value else "<false/>"
    elif isinstance(value, str):
        yield f"<string>{_escaped(value)}</string>"
    elif isinstance(value, datetime):
        yield f"<date>{value:%Y-%m-%dT%H:%M:%SZ}</date>"
    elif isinstance(value, Mapping):
        yield from _around("dict", _entries(value))
    else:
        yield from _around("array", (line for item in value for line in _element(item)))


def _around(name: str, inner: Iterator[str]) -> Iterator[str]:
    lines = [f"  {line}" for line in inner]
    yield from [f"<{name}>", *lines, f"</{name}>"] if lines else [f"<{name}/>"]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
