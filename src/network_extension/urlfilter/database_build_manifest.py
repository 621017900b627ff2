"""The manifest of a built database: what a version holds, and of what it was made.

    DIR/current                     → versions/<n>, replaced by a rename
    DIR/versions/<n>/manifest.json  written last: a version without one is not finished
                     <stem>-<i>.bin, <stem>-<i>.params.txtpb    the shards, as Apple's service reads them
                     <stem>-<i>.rows                            their rows, sorted, one a line
                     <stem>-<i>.retired                         rows on their way out, with the time since
                     prefilter.plist, prefilter.json

A version's prefilter goes to devices once its database is served. Rows that were taken off the lists are gone from the
prefilter at once, and stay in the database until devices have had the time to fetch it (specification §7.2): so a
version can be served at once, whole, and each order of publication is right. Standard library only, because the
service reads manifests as well.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any

from ..errors import ConfigurationError

FORMAT = 1
NAME = "manifest.json"
DEFAULT_USECASE = "netext.url.filtering"
"""`<app bundle id>.url.filtering`: the app's own for Apple's devices."""
_LARGEST = 64 << 20


class BuildError(ConfigurationError):
    """A database folder, or what was asked of it, does not fit; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard. `content_sha256` covers its rows, the retired ones, and the parameters: equal content, equal shard."""

    rows: int
    retired: int
    content_sha256: str
    bin_sha256: str
    bin_bytes: int
    params_sha256: str


@dataclass(frozen=True, slots=True)
class PrefilterEntry:
    """The prefilter's numbers; `tag` names its content."""

    tag: str
    bit_count: int
    hash_count: int
    murmur_seed: int
    item_count: int


@dataclass(frozen=True, slots=True)
class InputEntry:
    """A list that went in."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version holds. Times are seconds since 1970."""

    version: int
    created: float
    usecase: str
    file_stem: str
    row_count: int
    """Rows on the lists, and so in the prefilter."""
    retired_count: int
    """Rows in the database that are on the lists no more."""
    added_count: int
    """Against the version before."""
    removed_count: int
    parameters: dict[str, Any]
    """How shards are processed, with the keys of Apple's processing configuration."""
    settings: dict[str, Any]
    """The options of the build."""
    shards: tuple[ShardEntry, ...]
    prefilter: PrefilterEntry
    inputs: tuple[InputEntry, ...]
    refused: dict[str, int] = field(default_factory=dict)
    """How many lines became no row, by reason."""

    @property
    def shard_count(self) -> int:
        """How many shards the database has."""
        return len(self.shards)

    @property
    def pending_removals(self) -> bool:
        """Whether a later build will take rows out of the database that are in no prefilter any more."""
        return self.retired_count > 0

    def to_json(self) -> str:
        """As it stands in the file."""
        facts = {"format": FORMAT, "shard_count": self.shard_count, "pending_removals": self.pending_removals}
        return json.dumps(facts | asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read one. Raises BuildError for what is none."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BuildError(f"manifest is no JSON: {error}; build the database again") from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise BuildError(f"manifest of a format other than {FORMAT}; build the database again with this version")
        return cls(
            **{name: _member(value, name, kind) for name, kind in _MEMBERS.items()},
            refused={str(reason): _counted(count) for reason, count in _member(value, "refused", dict).items()},
            shards=tuple(_entry(ShardEntry, each) for each in _member(value, "shards", list)),
            prefilter=_entry(PrefilterEntry, value.get("prefilter")),
            inputs=tuple(_entry(InputEntry, each) for each in _member(value, "inputs", list)),
        )

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """The manifest of a version's folder. Raises BuildError, and OSError where there is none."""
        with (directory / NAME).open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise BuildError(f"{directory / NAME} is larger than any manifest")
        try:
            return cls.from_json(data)
        except BuildError as error:
            raise BuildError(f"{directory / NAME}: {error}") from error


_MEMBERS: dict[str, type | UnionType] = {
    "version": int,
    "created": int | float,
    "usecase": str,
    "file_stem": str,
    "row_count": int,
    "retired_count": int,
    "added_count": int,
    "removed_count": int,
    "parameters": dict,
    "settings": dict,
}
_ENTRY_TYPES: dict[str, type] = {"str": str, "int": int}


def _member(value: dict[str, Any], name: str, kind: type | UnionType) -> Any:
    found = value.get(name)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise BuildError(f"manifest without {name}, or with one of a wrong kind")
    return found


def _counted(value: object) -> int:
    if not isinstance(value, int):
        raise BuildError("manifest with a count that is no number")
    return value


def _entry(kind: type[Any], value: object) -> Any:
    if not isinstance(value, dict):
        raise BuildError(f"manifest with a {kind.__name__} that is no object")
    types = {name: _ENTRY_TYPES[annotation] for name, annotation in kind.__annotations__.items()}
    return kind(**{name: _member(value, name, each) for name, each in types.items()})


def current_version(directory: Path) -> Path:
    """The folder of the version to serve: what DIR/current leads to, as a path that later builds leave alone.

    Raises BuildError where nothing was built yet.
    """
    link = directory / "current"
    try:
        version = link.resolve(strict=True)
    except OSError as error:
        raise BuildError(f"{directory} holds no database yet: netext urlfilter build LIST -o {directory}") from error
    return version
