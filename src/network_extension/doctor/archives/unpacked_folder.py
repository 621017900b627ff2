"""The folder that an archive is unpacked into: nothing is written outside of it, and no more than its limits allow.

Names come from the archive, so each is taken apart and checked before the file system sees it, and no file is written
through a link. A link is made only where it cannot lead outside, whatever comes after it in the archive: its target is
walked through the links that are there, and `..` may only leave a real folder. What a link finds nowhere may become a
link later, but one for which the same holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import chain
from pathlib import Path

from ..errors import UnreadableFile
from .byte_stream import file_part
from .limits import DEFAULT_LIMITS, Budget, Limits, quoted

__all__ = ["Limits", "UnpackedFolder"]

_MAX_HOPS = 40
"""Links that lead to links. Linux follows as many."""
_MAX_STEPS = 128
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_FOR_APPLE_DOUBLES = "__MACOSX"


class _Kind(Enum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    REFUSED = "refused link"


class UnpackedFolder:
    """Writes into `root`, an empty folder that the caller owns and removes. `what` names the archive in errors.

    All methods raise UnreadableFile: a name that leads outside, comes twice, or does not fit; too much of it; or the
    file system refuses. What was written until then stays.
    """

    def __init__(
        self, root: Path, limits: Limits = DEFAULT_LIMITS, *, what: str = "archive", budget: Budget | None = None
    ) -> None:
        self.root = root
        self.limits = limits
        self.what = what
        self.budget = budget or Budget(limits)
        self.refused_links: list[tuple[str, str]] = []
        """Links that were not made, with what they name."""
        self.left_out: list[str] = []
        """Devices, pipes and sockets, and what else has no place in a bundle."""
        self.files: list[str] = []
        """Paths of the files, in order."""
        self._kinds: dict[str, _Kind] = {"": _Kind.FOLDER}
        self._targets: dict[str, str] = {}

    def write(self, name: str, chunks: Iterable[bytes], executable: bool = False) -> None:
        """A file of all that `chunks` yields, which is read to its end.

        Left out is what macOS does not unpack as a file either, but into attributes of another one: AppleDouble files
        (`._name`), in zips below `__MACOSX`.
        """
        path = self._new(name)
        pieces = iter(chunks)
        last = path.rpartition("/")[2]
        if last.startswith("._"):
            head = _head(pieces)
            pieces = chain((head,), pieces)
            if head.startswith(_APPLE_DOUBLE):
                self._drain(name, pieces)
                return
        if path.partition("/")[0] == _FOR_APPLE_DOUBLES:
            self._drain(name, pieces)
            return
        self._parents(path, name)
        try:
            self._write(path, name, pieces, executable)
        except OSError as error:
            raise self._fault(name, error.strerror or str(error)) from None
        self._kinds[path] = _Kind.FILE
        self.files.append(path)

    def copy(self, name: str, earlier: str, executable: bool = False) -> None:
        """A file with the content of one that was written before: what becomes of a hard link."""
        source = self._path(earlier)
        if self._kinds.get(source) is not _Kind.FILE:
            raise self._fault(name, f"a hard link to {quoted(earlier)}, which is no file before it")
        try:
            with (self.root / source).open("rb") as file:
                executable = executable or bool(os.fstat(file.fileno()).st_mode & 0o100)
                self.write(name, file_part(file, self.what), executable)
        except OSError as error:
            raise self._fault(name, error.strerror or str(error)) from None

    def link(self, name: str, target: str) -> None:
        """A symbolic link, or an entry in `refused_links` where it would lead outside."""
        path = self._new(name)
        if path.partition("/")[0] == _FOR_APPLE_DOUBLES:
            return
        self._parents(path, name)
        if not self._stays_inside(path, target):
            self._refuse(path, target)
            return
        try:
            os.symlink(target, self.root / path)
        except (OSError, ValueError):
            self._refuse(path, target)
            return
        self._kinds[path] = _Kind.LINK
        self._targets[path] = target

    def folder(self, name: str) -> None:
        """A folder, with those above it. It may come more than once."""
        path = self._path(name)
        if self._kinds.get(path) is _Kind.FOLDER or path.partition("/")[0] == _FOR_APPLE_DOUBLES:
            self.budget.enter(self.what)
        else:
            self._parents(f"{path}/.", name)

    def leave_out(self, name: str, kind: str) -> None:
        """Note an entry of a kind that is not unpacked."""
        self.budget.enter(self.what)
        self.left_out.append(f"{quoted(name)}: {kind}")

    def is_file(self, path: str) -> bool:
        """Whether a file was written to this path."""
        return self._kinds.get(path) is _Kind.FILE

    def apps(self) -> list[str]:
        """Paths of the folders whose name ends in .app, those inside of others left out, sorted."""
        found = (path for path, kind in self._kinds.items() if kind is _Kind.FOLDER and path.endswith(".app"))
        return sorted(path for path in found if ".app/" not in path)

    def _write(self, path: str, name: str, pieces: Iterator[bytes], executable: bool) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        size = 0
        with os.fdopen(os.open(self.root / path, flags, 0o755 if executable else 0o644), "wb") as file:
            for piece in pieces:
                size += len(piece)
                if size > self.limits.file:
                    raise self._fault(name, f"more than {self.limits.file} bytes")
                self.budget.write(len(piece), self.what)
                file.write(piece)

    def _drain(self, name: str, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.budget.write(len(piece), self.what)
        self.left_out.append(f"{quoted(name)}: attributes of another file, as AppleDouble")

    def _new(self, name: str) -> str:
        """The path of a file or link that was not there before."""
        path = self._path(name)
        self.budget.enter(self.what)
        if not path:
            raise self._fault(name, "a file that stands for the whole archive")
        if path in self._kinds:
            raise self._fault(name, f"comes twice: a {self._kinds[path].value} of this name came before")
        return path

    def _path(self, name: str) -> str:
        """`name` relative to the root, with neither `.` nor double slashes."""
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise self._fault(name, "a name that is not UTF-8, which no Mac unpacks") from None
        if size > self.limits.name:
            raise self._fault(name, f"a name of {size} bytes")
        if "\0" in name:
            raise self._fault(name, "a name with a NUL")
        if name.startswith("/") or (os.name == "nt" and set(name) & set("\\:")):
            raise self._fault(name, "an absolute path")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._fault(name, "a path with `..`, which leads outside")
        if len(parts) > self.limits.depth:
            raise self._fault(name, f"folders nested deeper than {self.limits.depth}")
        return "/".join(parts)

    def _parents(self, path: str, name: str) -> None:
        """Make the folders above `path`."""
        missing: list[str] = []
        folder = path.rpartition("/")[0]
        while (kind := self._kinds.get(folder)) is None:  # ends at the root, which is there
            missing.append(folder)
            folder = folder.rpartition("/")[0]
        if kind is _Kind.FILE:
            raise self._fault(name, f"comes twice: {quoted(folder)} is a file")
        if kind is not _Kind.FOLDER:
            raise self._fault(name, f"leads through the symbolic link {quoted(folder)}")
        for folder in reversed(missing):
            self.budget.enter(self.what)  # a folder that only its files name is one on disk as well
            try:
                os.mkdir(self.root / folder, 0o755)
            except OSError as error:
                raise self._fault(name, error.strerror or str(error)) from None
            self._kinds[folder] = _Kind.FOLDER

    def _refuse(self, path: str, target: str) -> None:
        self._kinds[path] = _Kind.REFUSED
        self.refused_links.append((path, quoted(target)[1:-1]))

    def _stays_inside(self, path: str, target: str) -> bool:
        if not target or target.startswith("/") or len(target) > self.limits.name or "\0" in target:
            return False
        waiting = target.split("/")[::-1]
        here = path.rpartition("/")[0]
        hops = steps = 0
        while waiting:
            part = waiting.pop()
            steps += 1
            if steps > _MAX_STEPS:
                return False
            if part in ("", "."):
                continue
            if part == "..":
                if not here or self._kinds.get(here) is not _Kind.FOLDER:
                    return False
                here = here.rpartition("/")[0]
                continue
            here = f"{here}/{part}" if here else part
            kind = self._kinds.get(here)
            if kind is _Kind.REFUSED or here == path:  # the second leads in a circle
                return False
            if kind is _Kind.LINK:
                hops += 1
                if hops > _MAX_HOPS:
                    return False
                waiting.extend(self._targets[here].split("/")[::-1])
                here = here.rpartition("/")[0]
        return True

    def _fault(self, name: str, why: str) -> UnreadableFile:
        return UnreadableFile(self.what, f"{quoted(name)}: {why}")


def _head(pieces: Iterator[bytes]) -> bytes:
    """The first bytes: four, unless there are fewer."""
    head = b""
    while len(head) < len(_APPLE_DOUBLE) and (piece := next(pieces, None)) is not None:
        head += piece
    return head
