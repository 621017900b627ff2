"""Whatever the values in a bundle are, of whatever type: an examination ends, with a report in every format."""

from __future__ import annotations

import plistlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.examination import examine
from network_extension.doctor.reporters import REPORTERS
from tests.doctor_builds import NE, NOW, Build, anchors, app_extension, mac_build, mobile_build

ROUNDS = 24
STRANGE: list[Any] = [
    0, -1, 1 << 60, True, False, 2.5, "", "x", "../..", "a\x00b", "\u202e", "$(X)", "9" * 300, b"", b"\xff" * 40, [],
    {}, [[]], [1, "a", True], {"a": {}}, ["com.apple.networkextension.packet-tunnel"], datetime(2026, 1, 1),  # noqa: DTZ001
]  # fmt: skip
KEYS = [
    "CFBundleIdentifier", "CFBundleExecutable", "CFBundlePackageType", "CFBundleVersion", "CFBundleShortVersionString",
    "LSMinimumSystemVersion", "MinimumOSVersion", "CFBundleSupportedPlatforms", "DTPlatformName", "NSExtension",
    "EXAppExtensionAttributes", "NetworkExtension", "NSSystemExtensionUsageDescription", "NEMachServiceName",
    "UIBackgroundModes", "XPCService",
]  # fmt: skip
INNER = ["NEProviderClasses", "NEMachServiceName", "NSExtensionPointIdentifier", "NSExtensionPrincipalClass"]
CLAIMS = [
    NE, "com.apple.security.application-groups", "com.apple.developer.system-extension.install",
    "com.apple.application-identifier", "application-identifier", "com.apple.developer.team-identifier",
    "com.apple.security.app-sandbox", "get-task-allow", "keychain-access-groups",
    "com.apple.developer.networkextension", "com.apple.developer.family-controls",
]  # fmt: skip
BASES: dict[str, Callable[[Path], Build]] = {
    "system extension": mac_build,
    "app extension": lambda root: app_extension(mac_build(root, "app store")),
    "mobile": mobile_build,
}


@pytest.fixture(scope="module", params=BASES)
def build(request: pytest.FixtureRequest) -> Iterator[Build]:
    with tempfile.TemporaryDirectory() as folder:
        made = BASES[request.param](Path(folder))
        made.finish()
        yield made


def assert_it_ends(root: Path) -> None:
    report = examine("strange", BundleFiles(root), NOW, anchors=anchors())
    assert all(reporter(report) for reporter in REPORTERS.values())


def strange(values: dict[str, Any], keys: list[str], chance: random.Random) -> dict[str, Any]:
    """Some values are others, some are gone, and some inside of dictionaries are others."""
    changed = dict(values)
    for key in chance.sample(keys, chance.randint(1, 3)):
        match chance.randrange(4):
            case 0:
                changed.pop(key, None)
            case 1 if isinstance(changed.get(key), dict):
                changed[key] = {**changed[key], chance.choice(INNER): chance.choice(STRANGE)}
            case _:
                changed[key] = chance.choice(STRANGE)
    return {key: value for key, value in changed.items() if not (isinstance(value, str) and "\x00" in value)}


def test_information_of_any_kind(build: Build) -> None:
    chance = random.Random(str(build.extension.folder.suffix))
    for _ in range(ROUNDS):
        for part in build.parts:
            path = part.contents / "Info.plist"
            before = path.read_bytes()
            path.write_bytes(plistlib.dumps(strange(part.information, KEYS, chance), fmt=plistlib.FMT_BINARY))
            try:
                assert_it_ends(build.root)
            finally:
                path.write_bytes(before)


def test_claims_of_any_kind(build: Build) -> None:
    """In signatures that are valid: DER has no dates and no reals, so XML holds them alone."""
    chance = random.Random(str(build.extension.folder.suffix))
    for _ in range(ROUNDS // 4):
        for part in build.parts:
            before = dict(part.entitlements)
            part.entitlements = {
                key: value
                for key, value in strange(before, CLAIMS, chance).items()
                if not isinstance(value, (float, datetime)) and value != ["", 1, True]
            }
            try:
                part.sign()
                assert_it_ends(build.root)
            finally:
                part.entitlements = before
                part.sign()


def test_profiles_of_any_kind(build: Build) -> None:
    from tests.doctor_builds import profile_signer
    from tests.doctor_bundles import make_profile

    chance = random.Random(str(build.extension.folder.suffix))
    for _ in range(ROUNDS // 4):
        for part in build.parts:
            assert part.profile is not None
            contents = dict(part.profile)
            contents["Entitlements"] = strange(contents["Entitlements"], CLAIMS, chance)
            keys = [
                "Name",
                "Platform",
                "TeamIdentifier",
                "ProvisionedDevices",
                "ExpirationDate",
                "Entitlements",
                "TimeToLive",
            ]
            contents = strange(contents, keys, chance)
            path = part.contents / part.profile_name
            before = path.read_bytes()
            path.write_bytes(make_profile(contents, profile_signer()))
            try:
                assert_it_ends(build.root)
            finally:
                path.write_bytes(before)


def test_files_that_are_gone_or_in_each_others_place(build: Build, tmp_path: Path) -> None:
    chance = random.Random(7)
    copy = Path(shutil.copytree(build.root, tmp_path / "copy"))
    for _ in range(ROUNDS // 2):
        files = [path for path in copy.rglob("*") if path.is_file()]
        first, second = chance.sample(files, 2)
        kept = first.read_bytes(), second.read_bytes()
        first.write_bytes(kept[1])
        if chance.random() < 0.5:
            second.unlink()
        try:
            assert_it_ends(copy)
        finally:
            first.write_bytes(kept[0])
            second.write_bytes(kept[1])


def test_the_moment_is_an_argument(build: Build) -> None:
    for moment in (datetime(1970, 1, 2, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)):
        examine("then", BundleFiles(build.root), moment, anchors=anchors())
