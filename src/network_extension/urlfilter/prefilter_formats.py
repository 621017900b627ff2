"""Prefilters as files: Apple's property list, JSON, the bare bits, and the file in which devices keep theirs.

What is read is outside data: its size is bounded, and whatever is wrong with it raises PrefilterError.
"""

from __future__ import annotations

import base64
import binascii
import json
import plistlib
import struct
from collections.abc import Mapping
from pathlib import Path
from xml.parsers.expat import ExpatError

from .bloom_hashes import BloomHash
from .prefilter import LARGEST_BIT_COUNT, Prefilter, PrefilterError

LARGEST_FILE = (LARGEST_BIT_COUNT + 7) // 8 * 3 // 2
"""Bytes: the largest field in base64, and some."""
_CACHE_MAGIC = 0x5061747269636961
_CACHE_HEAD = struct.Struct("<QQIIII")
_LARGEST_CACHE_TAG = 4096
_KEYS = {
    "data": ("data", "bitVectorData"),
    "bit_count": ("bitCount", "numberOfBits"),
    "hash_count": ("hashCount", "numberOfHashes"),
    "murmur_seed": ("murmurSeed",),
    "item_count": ("itemCount", "numberOfItems"),
    "tolerance": ("falsePositiveTolerance",),
}
"""Keys of a property list: the released sample's, and the beta's where they differ."""


def to_plist(prefilter: Prefilter) -> bytes:
    """A binary property list with the keys of Apple's sample, which its control provider reads as it is."""
    _refuse_beta(prefilter)
    return plistlib.dumps({**_parameters(prefilter), "data": prefilter.data}, fmt=plistlib.FMT_BINARY)


def to_json(prefilter: Prefilter, *, has_data: bool = True) -> str:
    """JSON with the same keys, the data in base64, and the tag and the name of the hash besides.

    Without data it is what goes beside a raw file (`raw_parameters`).
    """
    _refuse_beta(prefilter)
    data = {"data": base64.b64encode(prefilter.data).decode()} if has_data else {}
    return json.dumps({**_parameters(prefilter), "tag": prefilter.tag, "hash": str(prefilter.hash), **data}) + "\n"


def to_raw(prefilter: Prefilter) -> bytes:
    """The bits alone: NEURLFilterPrefilter's `data`. Whoever reads them needs the three numbers from elsewhere."""
    _refuse_beta(prefilter)
    return prefilter.data


def _refuse_beta(prefilter: Prefilter) -> None:
    if prefilter.hash is not BloomHash.FNV_1A:
        raise PrefilterError(
            f"prefilter made with {prefilter.hash}: released systems find nothing in it, so it is not written; build it"
            " anew from its list"
        )


def _parameters(prefilter: Prefilter) -> dict[str, object]:
    parameters: dict[str, object] = {
        "itemCount": prefilter.item_count,
        "falsePositiveTolerance": prefilter.tolerance,
        "murmurSeed": prefilter.murmur_seed,
        "bitCount": prefilter.bit_count,
        "byteCount": len(prefilter.data),
        "hashCount": prefilter.hash_count,
    }
    return {key: value for key, value in parameters.items() if value is not None}


def read_prefilter(source: str | Path | bytes) -> Prefilter:
    """A prefilter from a file or its bytes: a property list of the release or the beta, JSON, or a device's cache file.

    A property list with the beta's keys is taken to be made with the beta's hash; `diagnose` makes sure. Raises
    PrefilterError for bytes that are none of these, and OSError for a file that cannot be read.
    """
    if not isinstance(source, bytes) and raw_parameters(Path(source)).exists():
        beside = _json_mapping(_contents(raw_parameters(Path(source))))
        return _from_mapping({**beside, "data": _contents(Path(source))})
    data = source if isinstance(source, bytes) else _contents(Path(source))
    if data.startswith(_CACHE_MAGIC.to_bytes(8, "little")):
        return read_device_cache(data)
    if data.lstrip()[:1] == b"{":
        return _from_mapping(_json_mapping(data))
    return _from_mapping(_plist_mapping(data))


def raw_parameters(path: Path) -> Path:
    """The file beside a raw one that holds its three numbers."""
    return path.with_name(f"{path.name}.parameters.json")


def _contents(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise PrefilterError(f"{path} is larger than any prefilter ({LARGEST_FILE} bytes)")
    return data


def _json_mapping(data: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(data)
        if not isinstance(value, dict):
            raise TypeError("not an object")
        if isinstance(value.get("data"), str):
            value["data"] = base64.b64decode(value["data"], validate=True)
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise PrefilterError(f"prefilter in JSON cannot be read: {error}") from error
    return value


def _plist_mapping(data: bytes) -> Mapping[str, object]:
    try:
        value = plistlib.loads(data)
    except (
        # plistlib lets through whatever its steps meet in a broken file.
        plistlib.InvalidFileException,
        ExpatError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        RecursionError,
        MemoryError,
        struct.error,
    ) as error:
        raise PrefilterError(
            f"neither a property list, nor JSON, nor a device's cache file ({type(error).__name__}: {error}); the bare"
            " bits of a raw file need their three numbers beside them"
        ) from error
    if not isinstance(value, dict):
        raise PrefilterError(f"property list of a prefilter holds a {type(value).__name__} instead of a dictionary")
    return value


def _from_mapping(values: Mapping[str, object]) -> Prefilter:
    found = {name: _first(values, keys) for name, keys in _KEYS.items()}
    data, item_count, tolerance = found["data"], found["item_count"], found["tolerance"]
    if not isinstance(data, bytes) or not data:
        raise PrefilterError("prefilter without data: the keys data (or the beta's bitVectorData) hold no bytes")
    if not (item_count is None or (isinstance(item_count, int) and item_count >= 0)):
        raise PrefilterError("prefilter whose itemCount is no count")
    if not (tolerance is None or isinstance(tolerance, int | float)):
        raise PrefilterError("prefilter whose falsePositiveTolerance is no number")
    is_beta = not any(key in values for key in ("data", "bitCount"))
    return Prefilter(
        data,
        _whole(found["bit_count"], "bitCount"),
        _whole(found["hash_count"], "hashCount"),
        _whole(found["murmur_seed"], "murmurSeed"),
        item_count=item_count,
        tolerance=None if tolerance is None else float(tolerance),
        hash=BloomHash.FNV_1 if is_beta or values.get("hash") == BloomHash.FNV_1 else BloomHash.FNV_1A,
    )


def _first(values: Mapping[str, object], keys: tuple[str, ...]) -> object:
    return next((values[key] for key in keys if key in values), None)


def _whole(value: object, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise PrefilterError(f"prefilter without {key}, or with one that is no whole number")
    return value


def read_raw(data: bytes, *, bit_count: int, hash_count: int, murmur_seed: int) -> Prefilter:
    """A prefilter from its bare bits and the three numbers that came beside them."""
    return Prefilter(data, bit_count, hash_count, murmur_seed)


def read_device_cache(data: bytes) -> Prefilter:
    """A prefilter from the file in which a device keeps it, /private/var/db/urlPrefilter/* (specification §3.1).

    Little-endian: u64 magic, u64 version 1 or 2, u32 each of bits, hashes, seed and size of the field; in version 2 u32
    size of the tag and the tag; the field.
    """
    if len(data) < _CACHE_HEAD.size:
        raise PrefilterError(f"device's cache file of {len(data)} bytes: its head alone has {_CACHE_HEAD.size}")
    magic, version, bit_count, hash_count, seed, byte_count = _CACHE_HEAD.unpack_from(data)
    if magic != _CACHE_MAGIC or version not in (1, 2):
        raise PrefilterError(f"device's cache file with magic {magic:#x} and version {version}: 1 and 2 are known")
    at, tag = _CACHE_HEAD.size, ""
    if version == 2:
        tag, at = _cache_tag(data, at)
    field = data[at:]
    if len(field) != byte_count:
        raise PrefilterError(f"device's cache file tells of {byte_count} bytes of data and has {len(field)}: truncated")
    return Prefilter(field, bit_count, hash_count, seed, tag=tag)


def _cache_tag(data: bytes, at: int) -> tuple[str, int]:
    size = int.from_bytes(data[at : at + 4], "little")
    end = at + 4 + size
    if size > _LARGEST_CACHE_TAG or end > len(data):
        raise PrefilterError(f"device's cache file with a tag of {size} bytes: truncated, or not such a file")
    try:
        return data[at + 4 : end].decode(), end
    except UnicodeDecodeError as error:
        raise PrefilterError("device's cache file whose tag is no text") from error
