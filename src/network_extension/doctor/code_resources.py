"""The seal of a bundle: _CodeSignature/CodeResources names every file that belongs to it, with its hash.

Two generations stand in one file. The second (`rules2`, `files2`) counts where it is there: SHA-256, symbolic links by
what they name, nested code by its code directory's hash and a requirement. The first (`rules`, `files`) has SHA-1 and
no more. Which files have to be sealed is said by rules: expressions over paths, of which the one with the highest
weight counts (Security.framework, resources.cpp).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from .bundle_files import BundleFiles, EntryKind
from .errors import UnreadableFile
from .xml_plist import read_xml_plist

__all__ = ["MAX_FILES", "CodeResources", "NestedSeal", "SealFault", "SealRule", "SealState", "read_code_resources"]

_WHAT = "CodeResources"
MAX_FILES = 400_000
MAX_RULES = 64
"""`codesign` writes about fifteen."""
MAX_PATH = 4096
MAX_PATTERN = 1024
_META = "_CodeSignature"
_EXCLUDED = (_META, "CodeResources", "_MASReceipt")
"""Never sealed: the signature itself, the place of the ticket, the App Store's receipt."""


class SealRule(NamedTuple):
    """Which files a rule is for, and what becomes of them."""

    pattern: str
    weight: float = 1.0
    omit: bool = False
    optional: bool = False
    nested: bool = False


class NestedSeal(NamedTuple):
    """What the seal says of nested code: which it was, and what any that takes its place must meet."""

    cdhash: bytes
    requirement: str


class SealState(StrEnum):
    """What is wrong with a file."""

    MISSING = "missing"
    CHANGED = "changed"
    ADDED = "added"
    UNREADABLE = "unreadable"


class SealFault(NamedTuple):
    """A file that is not as it was sealed. Its path counts from the bundle's contents."""

    path: str
    state: SealState


class _Sealed(NamedTuple):
    hashes: tuple[tuple[str, bytes], ...]
    link: str | None
    nested: NestedSeal | None
    optional: bool


@dataclass(frozen=True)
class CodeResources:
    """One seal, as far as it is checked: its second generation, or its first where there is no second."""

    rules: tuple[SealRule, ...]
    entries: Mapping[str, _Sealed]
    generation: int
    """2, or 1."""

    @property
    def nested(self) -> dict[str, NestedSeal]:
        """Nested code that is sealed as such, by its path below the contents."""
        return {path: entry.nested for path, entry in self.entries.items() if entry.nested is not None}

    @cached_property
    def _compiled(self) -> list[tuple[Any, SealRule]]:
        # Expressions from the bundle itself, against every path: an engine that backtracks could be held up for days.
        import re2

        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        try:
            return [(re2.compile(rule.pattern, options), rule) for rule in self.rules]
        except re2.error as error:
            raise UnreadableFile(_WHAT, f"a rule is no expression: {str(error)[:200]}") from None

    def rule_for(self, path: str) -> SealRule | None:
        """The rule with the highest weight among those that match; None: the file is not sealed at all."""
        text = path.encode("utf-8", "replace").decode()  # a name that is no UTF-8 is still a name
        found = [rule for pattern, rule in self._compiled if pattern.search(text)]
        return max(found, key=lambda rule: rule.weight, default=None)

    def faults(self, files: BundleFiles, contents: str, executable: str) -> list[SealFault]:
        """What is not as it was sealed, sorted. `contents` is the folder that the seal is of, `executable` the main
        executable: both paths in `files`. Nested code is not looked into: only whether it is there.

        Raises UnreadableFile: a rule cannot be read.
        """
        prefix = f"{contents}/" if contents else ""
        found = [
            SealFault(path, state)
            for path, entry in self.entries.items()
            if (state := _state(files, prefix + path, entry)) is not None
        ]
        found += [SealFault(path, SealState.ADDED) for path in self._added(files, contents, prefix, executable)]
        return sorted(found)

    def _added(self, files: BundleFiles, contents: str, prefix: str, executable: str) -> Iterator[str]:
        nested = {path for path, entry in self.entries.items() if entry.nested is not None}
        waiting = [contents]
        while waiting:
            for whole in files.children(waiting.pop()):
                path = whole[len(prefix) :]
                if whole == executable or path in _EXCLUDED or path in nested:
                    continue
                if files.is_folder(whole):
                    rule = self.rule_for(path)
                    # A folder with a dot in its name under a rule for nested code is a bundle, sealed as one.
                    is_bundle = rule is not None and rule.nested and "." in path.rsplit("/", 1)[-1]
                    if is_bundle and path not in self._folders:
                        yield path
                    else:
                        waiting.append(whole)
                elif not self._is_sealed(path):
                    rule = self.rule_for(path)
                    if rule is not None and not rule.omit:
                        yield path

    def _is_sealed(self, path: str) -> bool:
        return path in self.entries or any(form in self.entries for form in _other_forms(path))

    @cached_property
    def _folders(self) -> frozenset[str]:
        """Folders above what is sealed."""
        found: set[str] = set()
        for path in self.entries:
            while (path := path.rpartition("/")[0]) and path not in found:
                found.add(path)
        return frozenset(found)


def _other_forms(path: str) -> list[str]:
    """Names with accents: one form in the seal, another in an archive; the Mac's file system takes them for one."""
    return [] if path.isascii() else [unicodedata.normalize(form, path) for form in ("NFC", "NFD")]


def _state(files: BundleFiles, path: str, sealed: _Sealed) -> SealState | None:
    path = next((form for form in (path, *_other_forms(path)) if form in files.entries), path)
    kind = files.kind(path)
    if kind is None:
        return None if sealed.optional else SealState.MISSING
    if sealed.link is not None:
        holds = kind is EntryKind.LINK and files.entries[path].target == sealed.link
        return None if holds else SealState.CHANGED
    if sealed.nested is not None:
        return None if kind in (EntryKind.FILE, EntryKind.FOLDER) else SealState.CHANGED
    if kind is not EntryKind.FILE:
        return SealState.CHANGED
    try:
        holds = all(files.digest(path, name) == value for name, value in sealed.hashes)
    except UnreadableFile:
        return SealState.UNREADABLE
    return None if holds else SealState.CHANGED


def read_code_resources(data: bytes) -> CodeResources:
    """The seal in a CodeResources file. Raises UnreadableFile."""
    found = read_xml_plist(data, _WHAT)
    generation = 2 if isinstance(found.get("files2"), dict) else 1
    suffix = "2" if generation == 2 else ""
    rules, entries = found.get(f"rules{suffix}"), found.get(f"files{suffix}")
    if not isinstance(rules, dict) or not isinstance(entries, dict):
        raise UnreadableFile(_WHAT, "no rules, or no files")
    if len(rules) > MAX_RULES or len(entries) > MAX_FILES:
        raise UnreadableFile(_WHAT, f"{len(rules)} rules and {len(entries)} files")
    return CodeResources(
        tuple(_rule(pattern, value) for pattern, value in rules.items()),
        {path: _sealed(path, value) for path, value in entries.items()},
        generation,
    )


def _rule(pattern: str, value: Any) -> SealRule:
    if len(pattern) > MAX_PATTERN:
        raise UnreadableFile(_WHAT, f"a rule of {len(pattern)} characters")
    if isinstance(value, bool):
        return SealRule(pattern, omit=not value)
    if not isinstance(value, dict):
        raise UnreadableFile(_WHAT, f"the rule {pattern!r} is neither true nor a dictionary")
    weight = value.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise UnreadableFile(_WHAT, f"the rule {pattern!r} has no number for a weight")
    flags = (value.get(name) is True for name in ("omit", "optional", "nested"))
    return SealRule(pattern, float(weight), *flags)


_HASHES = {"hash": "sha1", "hash2": "sha256"}
_SIZES = {"sha1": 20, "sha256": 32}


def _sealed(path: str, value: Any) -> _Sealed:
    if isinstance(value, bytes):
        value = {"hash": value}
    if not isinstance(value, dict):
        raise UnreadableFile(_WHAT, f"the entry of {path[:200]!r} is neither a hash nor a dictionary")
    if len(path) > MAX_PATH:
        raise UnreadableFile(_WHAT, f"a path of {len(path)} characters")
    optional, link, cdhash = value.get("optional") is True, value.get("symlink"), value.get("cdhash")
    if isinstance(link, str):
        return _Sealed((), link, None, optional)
    if isinstance(cdhash, bytes):
        requirement = value.get("requirement")
        return _Sealed((), None, NestedSeal(cdhash, requirement if isinstance(requirement, str) else ""), optional)
    hashes = tuple((name, value[key]) for key, name in _HASHES.items() if isinstance(value.get(key), bytes))
    if not hashes or any(len(found) != _SIZES[name] for name, found in hashes):
        raise UnreadableFile(_WHAT, f"the entry of {path[:200]!r} has no hash that is known")
    return _Sealed(hashes, None, None, optional)
