"""What is served, to whom: from a directory that `netext urlfilter build` wrote, or from Apple's service configuration.

Apple's (specification §1.2):

    {"users": [{"tier": "tier1", "tokens": ["AAAA"]}],
     "usecases": [{"name": "com.example.app.url.filtering", "fileStem": "urls", "shardCount": 3, "versionCount": 2}],
     "reportDirectory": "reports"}

File names in it are relative to the file itself. `issuerRequestUri` is read and ignored, as Apple's service does. One
thing is ours: a use case may be {"directory": "db"}, a directory of `netext urlfilter build`, which knows its name.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ...errors import ConfigurationError

DEFAULT_VERSIONS = 2
MOST_SHARDS = 10_000
"""A device reads no configuration of more (specification §3.3)."""
_LARGEST_FILE = 16 << 20


@dataclass(frozen=True, slots=True)
class FileUseCase:
    """A use case as Apple's service has it: `<stem>-<i>.bin` and `<stem>-<i>.params.txtpb`, replaced in place."""

    name: str
    stem: Path
    shard_count: int
    version_count: int = DEFAULT_VERSIONS


@dataclass(frozen=True, slots=True)
class BuiltUseCase:
    """A directory of `netext urlfilter build`: its `current` version and those before it."""

    directory: Path
    version_count: int = DEFAULT_VERSIONS


@dataclass(frozen=True, slots=True)
class ServiceConfiguration:
    """What the service reads at its start and at SIGHUP."""

    source: Path
    """The file or directory that it was read from."""
    use_cases: tuple[FileUseCase | BuiltUseCase, ...]
    tiers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By user token (base64, as it stands in the Authorization header): its tier. Empty: nobody needs a token."""
    report_directory: Path | None = None


def read_configuration(path: Path) -> ServiceConfiguration:
    """The configuration at `path`. Raises `ConfigurationError` naming the file, the key and what it should be."""
    if path.is_dir():
        if not (path / "current").exists():
            raise ConfigurationError(
                f"{path}: no version has been built there; run netext urlfilter build LIST -o {path}"
            )
        return ServiceConfiguration(path, (BuiltUseCase(path),))
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {error.strerror}; give a directory of netext urlfilter build, or a service configuration"
        ) from error
    if len(text) > _LARGEST_FILE:
        raise ConfigurationError(f"{path}: more than {_LARGEST_FILE} bytes; this is no service configuration")
    return parse_configuration(text, path)


def parse_configuration(text: bytes, source: Path) -> ServiceConfiguration:
    """Apple's service configuration from the bytes of the file `source`. Raises `ConfigurationError`."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source}: not JSON: {error}") from error
    reader = _Reader(source)
    known = {"users", "usecases", "reportDirectory", "issuerRequestUri"}
    top = reader.table(content, "the file", known)
    use_cases = tuple(reader.use_case(item) for item in reader.items(top, "usecases"))
    if not use_cases:
        raise ConfigurationError(f"{source}: usecases is empty, so there is nothing to serve; add one")
    names = [use_case.name if isinstance(use_case, FileUseCase) else use_case.directory for use_case in use_cases]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{source}: two use cases are the same; give each its own name")
    reports = top.get("reportDirectory")
    if reports is not None and not isinstance(reports, str):
        raise reader.wrong("reportDirectory", "the path of a directory")
    return ServiceConfiguration(
        source, use_cases, reader.tiers(top), source.parent / reports if isinstance(reports, str) else None
    )


def is_user_token(text: str) -> bool:
    """Whether a device can send it: it decodes base64 and encodes it again (specification §1.4)."""
    try:
        return bool(text) and base64.b64encode(base64.b64decode(text, validate=True)) == text.encode()
    except (binascii.Error, ValueError):
        return False


class _Reader:
    """Values of the JSON document, checked."""

    def __init__(self, source: Path) -> None:
        self._source = source

    def wrong(self, key: str, wanted: str) -> ConfigurationError:
        return ConfigurationError(f"{self._source}: {key} must be {wanted}")

    def table(self, value: object, where: str, known: set[str]) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self.wrong(where, "an object in braces")
        if unknown := sorted(set(value) - known):
            raise ConfigurationError(
                f"{self._source}: {where} has an unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}"
            )
        return value

    def items(self, table: dict[str, object], key: str) -> list[object]:
        value = table.get(key, [])
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def use_case(self, value: object) -> FileUseCase | BuiltUseCase:
        if isinstance(value, dict) and "directory" in value:
            return self._built(self.table(value, "a use case with a directory", {"directory", "versionCount"}))
        known = {"name", "fileStem", "shardCount", "versionCount", "symmetricPirArguments"}
        table = self.table(value, "a use case", known)
        name, stem = table.get("name"), table.get("fileStem")
        if not isinstance(name, str) or not name:
            raise self.wrong("name of a use case", "a text such as com.example.app.url.filtering")
        if table.get("symmetricPirArguments") is not None:
            raise ConfigurationError(
                f"{self._source}: {name} has symmetricPirArguments, which URL filters do not use; take them out"
            )
        if not isinstance(stem, str) or not stem:
            raise self.wrong(f"fileStem of {name}", "the path of its files without -0.bin")
        shards = self._count(table.get("shardCount"), f"shardCount of {name}", MOST_SHARDS)
        versions = self._count(table.get("versionCount", DEFAULT_VERSIONS), f"versionCount of {name}", 100)
        return FileUseCase(name, self._source.parent / stem, shards, versions)

    def _built(self, table: dict[str, object]) -> BuiltUseCase:
        directory = table["directory"]
        if not isinstance(directory, str) or not directory:
            raise self.wrong("directory of a use case", "the path of a directory that netext urlfilter build wrote")
        versions = self._count(table.get("versionCount", DEFAULT_VERSIONS), f"versionCount of {directory}", 100)
        return BuiltUseCase(self._source.parent / directory, versions)

    def _count(self, value: object, key: str, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise self.wrong(key, f"a number from 1 to {most}")
        return value

    def tiers(self, top: dict[str, object]) -> Mapping[str, str]:
        tiers: dict[str, str] = {}
        for item in self.items(top, "users"):
            table = self.table(item, "a user", {"tier", "tokens"})
            tier = table.get("tier")
            if not isinstance(tier, str) or not 0 < len(tier) <= 64:
                raise self.wrong("tier of a user", "a name such as tier1")
            for number, token in enumerate(self.items(table, "tokens")):
                # The token itself is a secret: its place says which one is meant.
                if not isinstance(token, str) or not is_user_token(token):
                    raise self.wrong(f"token {number} of {tier}", "base64 with padding: devices decode and encode it")
                if tiers.setdefault(token, tier) != tier:
                    raise ConfigurationError(f"{self._source}: token {number} of {tier} is another tier's as well")
        return MappingProxyType(tiers)
