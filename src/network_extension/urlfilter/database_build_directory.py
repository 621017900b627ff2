"""The folder of a database: one build at a time, unfinished work that survives, versions that are switched at once."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..pir.replacing import PART, sync_folder
from .database_build_manifest import NAME, BuildError, Manifest
from .storage import write_whole


class BuildDirectory:
    """DIR of `netext urlfilter build`. What it does not know, such as the service's own folder, it leaves alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / "building"
        """What the present or an interrupted build has so far."""
        self._versions = path / "versions"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other builds. Raises BuildError while one is running, OSError."""
        self._versions.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BuildError(f"{self.path} is being built by another process; wait until it is done") from error
            self._finish_switch()
            yield

    def _finish_switch(self) -> None:
        """A build that was killed between its last two steps left a whole version behind that is not current."""
        if (finished := self._finished()) and self._current_number() < finished[-1]:
            self._point_at(finished[-1])

    def _finished(self) -> list[int]:
        names = [each.name for each in self._versions.iterdir() if each.name.isdecimal() and (each / NAME).exists()]
        return sorted(map(int, names))

    def _current_number(self) -> int:
        try:
            name = os.path.basename(os.readlink(self.path / "current"))
        except OSError:
            return 0
        return int(name) if name.isdecimal() else 0

    def version(self, number: int) -> Path:
        """The folder of a version."""
        return self._versions / str(number)

    def previous(self) -> Manifest | None:
        """The manifest of the current version; None before the first. Raises BuildError for one that is broken."""
        number = self._current_number()
        return Manifest.read(self.version(number)) if number else None

    def start_work(self, key: str) -> bool:
        """Make the folder for work, or find what a build of the same `key` left there (True)."""
        marker = self.work / "key"
        if marker.exists() and marker.read_text() == key:
            return True
        if self.work.exists():
            shutil.rmtree(self.work)
        self.work.mkdir()
        write_whole(marker, key.encode())
        return False

    def publish(self, manifest: Manifest, keep: int) -> None:
        """Make of the work a version, switch to it, and remove all but the newest `keep`."""
        write_whole(self.work / NAME, manifest.to_json().encode())
        for leftover in ("key", "plan.json"):
            (self.work / leftover).unlink(missing_ok=True)
        for leftover_file in (*self.work.glob("*.record.json"), *self.work.glob(f".*{PART}")):
            leftover_file.unlink()
        target = self.version(manifest.version)
        if target.exists():  # unfinished, and so not ours: finished ones have smaller numbers
            shutil.rmtree(target)
        self.work.rename(target)
        sync_folder(self._versions)
        self._point_at(manifest.version)
        for number in self._finished()[: -max(keep, 1)]:
            shutil.rmtree(self.version(number))

    def _point_at(self, number: int) -> None:
        temporary = self.path / f".current.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.join("versions", str(number)))
        temporary.replace(self.path / "current")
        sync_folder(self.path)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links. Raises OSError."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
