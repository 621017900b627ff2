"""One changed byte anywhere in a signed app is found: in code, Info.plist, resources, profile, seal or ticket."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.examination import examine
from network_extension.doctor.report import Report
from network_extension.doctor.rule import Severity

from .corpus import app

NOW = datetime(2026, 11, 1, tzinfo=UTC)
POSITIONS = 4
"""For each file and each of its thirds: where the heads are, where the code is, and where the signature is."""
ALIGNMENTS = {*range(24, 28), *range(44, 48)}
"""Of slices, in the head of a fat file: nothing reads them, and nothing signs them."""
NOT_SEALED = "PkgInfo"
"""Eight bytes that the rules of every seal leave out."""


def said_of(bundle: Path) -> Report:
    return examine("changed", BundleFiles(bundle), NOW)


def files_of(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != NOT_SEALED)


def positions(size: int, chance: random.Random) -> Iterator[int]:
    """The first and the last byte, and some in the head, in the tail, and anywhere."""
    yield from (0, size - 1)
    for _ in range(POSITIONS):
        yield chance.randrange(min(size, 4096))
        yield size - 1 - chance.randrange(min(size, 20_000))
        yield chance.randrange(size)


@pytest.mark.parametrize("version", ["0.3.0", "0.12.15"])
@pytest.mark.timeout(180)
def test_one_changed_byte_is_found(version: str, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(app(version), tmp_path / "Changed.app"))
    chance = random.Random(version)
    assert said_of(bundle).worst is Severity.INFO
    for path in files_of(bundle):
        original = path.read_bytes()
        is_fat = original[:4] == b"\xca\xfe\xba\xbe"
        for at in sorted(set(positions(len(original), chance)) - (ALIGNMENTS if is_fat else set())):
            changed = bytearray(original)
            changed[at] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            worst = said_of(bundle).worst
            assert worst is not None and worst >= Severity.ERROR, f"{path.relative_to(bundle)}, byte {at}"
        path.write_bytes(original)
    assert said_of(bundle).worst is Severity.INFO


def test_bytes_that_nothing_signs_are_found(tmp_path: Path) -> None:
    """Between slices, behind the last one, and behind the signature in the room that is kept for it."""
    bundle = Path(shutil.copytree(app("0.12.15"), tmp_path / "Changed.app"))
    path = next((bundle / "Contents" / "MacOS").iterdir())
    original = path.read_bytes()
    first = int.from_bytes(original[16:20], "big")
    for changed in (
        original[: first - 5] + b"x" + original[first - 4 :],
        original + b"x",
        original[:-1] + b"x",
    ):
        path.write_bytes(changed)
        report = said_of(bundle)
        assert {finding.rule.id for finding in report.findings} & {"SIG003", "SIG008"}
