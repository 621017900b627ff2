"""From a configuration to a catalogue: finds the files, opens the shards, keeps what has not changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ...errors import ConfigurationError
from ...pir.errors import PirError
from ..database_build_manifest import Manifest, current_version
from .catalogue import Catalogue, Prefilter, ServedVersion
from .configuration import BuiltUseCase, FileUseCase, ServiceConfiguration

PREFILTER_FILE = "prefilter.plist"


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """Where one version lies."""

    use_case: str
    label: str
    shards: tuple[tuple[Path, Path], ...]
    """Of each shard: the .bin file and its parameters."""


OpenVersion = Callable[[VersionFiles], ServedVersion]
"""Opens all shards and describes them. Raises `PirError` and OSError."""
Warn = Callable[[str], None]
_Stamp = tuple[tuple[int, int, int, int], ...]


class Loader:
    """Makes catalogues. `warn` hears of older versions that cannot be served any more."""

    def __init__(self, open_version: OpenVersion, warn: Warn) -> None:
        self._open_version = open_version
        self._warn = warn
        self._opened: dict[tuple[str, str], tuple[_Stamp, ServedVersion]] = {}

    def load(self, configuration: ServiceConfiguration, previous: Catalogue) -> Catalogue:
        """The catalogue, with the versions of `previous` that clients may still ask for. Blocks for seconds.

        Raises `ConfigurationError` when the newest version of a use case cannot be served.
        """
        versions: dict[str, tuple[ServedVersion, ...]] = {}
        for use_case in configuration.use_cases:
            found = self._load_use_case(use_case)
            name = found[0].use_case
            together = _without_doubles([*found, *previous.versions.get(name, ())])
            versions[name] = tuple(together[: use_case.version_count])
        kept = {(version.use_case, version.label) for served in versions.values() for version in served}
        self._opened = {key: opened for key, opened in self._opened.items() if key in kept}
        return Catalogue(MappingProxyType(versions))

    def _load_use_case(self, use_case: FileUseCase | BuiltUseCase) -> list[ServedVersion]:
        if isinstance(use_case, FileUseCase):
            stem = use_case.stem
            return [self._open(VersionFiles(use_case.name, stem.name, _shards(stem, use_case.shard_count)))]
        newest, *older = _built_versions(use_case)
        opened = [self._open_built(newest)]
        for directory in older:
            try:
                version = self._open_built(directory)
            except ConfigurationError as error:
                self._warn(f"an older version is not served: {error}")
            else:
                if version.use_case == opened[0].use_case:
                    opened.append(version)
        return opened

    def _open_built(self, directory: Path) -> ServedVersion:
        manifest = Manifest.read(directory)
        shards = _shards(directory / manifest.file_stem, manifest.shard_count)
        version = self._open(VersionFiles(manifest.usecase, f"version {manifest.version}", shards))
        try:
            content = (directory / PREFILTER_FILE).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{error.filename}: {error.strerror}; run netext urlfilter build again") from error
        return replace(version, prefilter=Prefilter(content, manifest.prefilter.tag))

    def _open(self, files: VersionFiles) -> ServedVersion:
        """Open it, unless its files are those that were opened before."""
        try:
            stamp = tuple(_stamp(path) for pair in files.shards for path in pair)
            known = self._opened.get((files.use_case, files.label))
            if known is not None and known[0] == stamp:
                return known[1]
            version = self._open_version(files)
        except OSError as error:
            raise ConfigurationError(
                f"{error.filename or files.label}: {error.strerror}; build the database again, or correct fileStem"
            ) from error
        except PirError as error:
            raise ConfigurationError(f"{files.use_case}, {files.label}: {error}") from error
        self._opened[files.use_case, files.label] = stamp, version
        return version


def _shards(stem: Path, count: int) -> tuple[tuple[Path, Path], ...]:
    names = [f"{stem.name}-{index}" for index in range(count)]
    return tuple((stem.parent / f"{name}.bin", stem.parent / f"{name}.params.txtpb") for name in names)


def _built_versions(use_case: BuiltUseCase) -> Iterator[Path]:
    """The current version, then the others, newest first, as many as may be served."""
    current = current_version(use_case.directory)
    yield current
    others = [entry for entry in current.parent.iterdir() if entry.name.isdecimal() and entry.name != current.name]
    others.sort(key=lambda entry: int(entry.name), reverse=True)
    yield from others[: use_case.version_count - 1]


def _stamp(path: Path) -> tuple[int, int, int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _without_doubles(versions: Sequence[ServedVersion]) -> list[ServedVersion]:
    """The first of each config_id: new content under the same id takes the place of the old."""
    by_id: dict[bytes, ServedVersion] = {}
    for version in versions:
        by_id.setdefault(version.config_id, version)
    return list(by_id.values())
