"""The prefilter's public names: making, reading, testing, writing and diagnosing Bloom filters for Apple's devices."""

from __future__ import annotations

from .bloom_hashes import BloomHash
from .prefilter import DEFAULT_TOLERANCE, Explanation, Prefilter, PrefilterError, TestedBit
from .prefilter_build import PrefilterSize, build_prefilter, build_prefilter_from_blocks, size_for
from .prefilter_diagnosis import Diagnosis, Reading, diagnose
from .prefilter_formats import raw_parameters, read_device_cache, read_prefilter, read_raw, to_json, to_plist, to_raw

__all__ = [
    "DEFAULT_TOLERANCE",
    "BloomHash",
    "Diagnosis",
    "Explanation",
    "Prefilter",
    "PrefilterError",
    "PrefilterSize",
    "Reading",
    "TestedBit",
    "build_prefilter",
    "build_prefilter_from_blocks",
    "diagnose",
    "raw_parameters",
    "read_device_cache",
    "read_prefilter",
    "read_raw",
    "size_for",
    "to_json",
    "to_plist",
    "to_raw",
]
