"""Bundles of each shape: where their parts are, what lies in what, and what is no bundle."""

from __future__ import annotations

import plistlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.bundles import BundleKind, find_bundles
from network_extension.doctor.certificate_kinds import CertificateKind as Certificate
from network_extension.doctor.channels import SigningChannel, channel_of
from network_extension.doctor.deployment_table import Platform
from network_extension.doctor.product import make_product
from network_extension.doctor.provisioning_profile import ProfileKind

from .corpus import EXTENSION, app
from .macho_bytes import command, thin

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def write(root: Path, name: str, data: bytes = b"x") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)


def plist(**values: Any) -> bytes:
    return plistlib.dumps(values)


def test_deep_bundles() -> None:
    outer, inner = find_bundles(BundleFiles(app("0.12.15")))
    assert (outer.path, outer.kind, outer.contents) == ("", BundleKind.APP, "Contents")
    assert (inner.path, inner.kind) == (str(EXTENSION), BundleKind.SYSTEM_EXTENSION)
    assert inner.parent is outer and outer.children == [inner] and inner.app is outer
    assert outer.executable_path == "Contents/MacOS/Mitmproxy Redirector"
    assert inner.version == "2.0 (1)" and inner.name.endswith(".systemextension")
    assert outer.code is not None and outer.profile is not None and outer.ticket is not None


def test_shallow_bundles(tmp_path: Path) -> None:
    write(tmp_path, "Payload/A.app/Info.plist", plist(CFBundleExecutable="Run", CFBundleIdentifier="a"))
    write(tmp_path, "Payload/A.app/PlugIns/B.appex/Info.plist", plist(CFBundleIdentifier="a.b"))
    write(tmp_path, "Payload/A.app/Frameworks/C.framework/Info.plist", plist(CFBundleExecutable="C"))
    files = BundleFiles(tmp_path)
    outer, framework, extension = find_bundles(files)
    assert not outer.is_deep and outer.executable_path == "Payload/A.app/Run"
    assert framework.kind is BundleKind.FRAMEWORK and framework.executable_path.endswith("C.framework/C")
    assert extension.app is outer and extension.executable_path.endswith("B.appex/B")
    assert extension.code is None and extension.code_problem == "there is no such file"


def test_frameworks_with_versions(tmp_path: Path) -> None:
    base = "A.app/Contents/Frameworks/F.framework"
    write(tmp_path, f"{base}/Versions/B/Resources/Info.plist", plist(CFBundleExecutable="F"))
    write(tmp_path, f"{base}/Versions/A/F")
    (tmp_path / base / "Versions" / "Current").symlink_to("B")
    (found,) = [one for one in find_bundles(BundleFiles(tmp_path)) if one.kind is BundleKind.FRAMEWORK]
    assert found.contents == f"{base}/Versions/B" and found.executable_path == f"{base}/Versions/B/F"
    # An archive that lost the link, with one version left.
    (tmp_path / base / "Versions" / "Current").unlink()
    (tmp_path / base / "Versions" / "A" / "F").unlink()
    (tmp_path / base / "Versions" / "A").rmdir()
    (found,) = [one for one in find_bundles(BundleFiles(tmp_path)) if one.kind is BundleKind.FRAMEWORK]
    assert found.contents == f"{base}/Versions/B"


def test_a_version_that_leads_out_of_the_framework_is_not_followed(tmp_path: Path) -> None:
    base = "A.app/Contents/Frameworks/F.framework"
    write(tmp_path, f"{base}/Info.plist", plist())
    write(tmp_path, "elsewhere/F")
    (tmp_path / base / "Versions").mkdir()
    (tmp_path / base / "Versions" / "Current").symlink_to("../../../../../elsewhere")
    (found,) = [one for one in find_bundles(BundleFiles(tmp_path)) if one.kind is BundleKind.FRAMEWORK]
    assert found.contents == base


def test_folders_that_are_only_called_so(tmp_path: Path) -> None:
    (tmp_path / "resources.bundle").mkdir()
    (tmp_path / ".app").mkdir()
    write(tmp_path, "file.app")
    assert find_bundles(BundleFiles(tmp_path)) == []


def test_an_executable_named_to_lead_out(tmp_path: Path) -> None:
    write(tmp_path, "secret")
    write(tmp_path, "A.app/Contents/Info.plist", plist(CFBundleExecutable="../../../secret"))
    (found,) = find_bundles(BundleFiles(tmp_path))
    assert found.code is None and found.code_problem == "there is no such file"


@pytest.mark.parametrize(
    ("kinds", "profile", "channel"),
    [
        ({Certificate.DEVELOPER_ID_APPLICATION}, ProfileKind.DEVELOPER_ID, SigningChannel.DEVELOPER_ID),
        ({Certificate.IOS_DEVELOPMENT, Certificate.MAC_DEVELOPMENT}, None, SigningChannel.DEVELOPMENT),
        ({Certificate.IOS_DISTRIBUTION}, ProfileKind.APP_STORE, SigningChannel.APP_STORE),
        ({Certificate.IOS_DISTRIBUTION}, ProfileKind.AD_HOC, SigningChannel.AD_HOC),
        ({Certificate.IOS_DISTRIBUTION}, ProfileKind.ENTERPRISE, SigningChannel.ENTERPRISE),
        ({Certificate.IOS_DISTRIBUTION}, None, SigningChannel.APP_STORE),
        ({Certificate.IOS_APP_STORE}, None, SigningChannel.APP_STORE),
        ({Certificate.TESTFLIGHT}, None, SigningChannel.TESTFLIGHT),
        ({Certificate.MAC_APP_STORE}, None, SigningChannel.APP_STORE),
        (set(), ProfileKind.APP_STORE, SigningChannel.UNKNOWN),
    ],
)
def test_channels(kinds: set[Certificate], profile: ProfileKind | None, channel: SigningChannel) -> None:
    assert channel_of(kinds, profile) is channel


@pytest.mark.parametrize(
    ("number", "platform"),
    [(1, "macos"), (2, "ios"), (3, "tvos"), (6, "catalyst"), (7, "ios"), (11, "visionos"), (12, "visionos")],
)
def test_the_platform_is_the_codes(number: int, platform: str, tmp_path: Path) -> None:
    write(tmp_path, "A.app/Info.plist", plist(CFBundleExecutable="A", CFBundleSupportedPlatforms=["MacOSX"]))
    write(tmp_path, "A.app/PlugIns/B.appex/Info.plist", _extension())
    for name in ("A.app/A", "A.app/PlugIns/B.appex/B"):
        write(tmp_path, name, thin([command(0x32, number, 0x110000, 0x110000, 0)]))
    product = make_product(find_bundles(BundleFiles(tmp_path)), NOW)
    assert [member.platform for member in product.members] == [Platform(platform)] * 2
    assert product.members[0].is_for_simulator is (number in (7, 12))


def _extension() -> bytes:
    return plist(NSExtension={"NSExtensionPointIdentifier": "com.apple.networkextension.packet-tunnel"})


@pytest.mark.parametrize(("name", "platform"), [("iPhoneOS", "ios"), ("AppleTVOS", "tvos"), ("XROS", "visionos")])
def test_without_code_the_platform_is_info_plists(name: str, platform: str, tmp_path: Path) -> None:
    write(tmp_path, "A.app/Info.plist", plist(DTPlatformName=name.lower()))
    write(tmp_path, "A.app/PlugIns/B.appex/Info.plist", _extension())
    (found,) = make_product(find_bundles(BundleFiles(tmp_path)), NOW).apps
    assert found.platform is Platform(platform)


def test_other_system_extensions_are_no_network_extensions(tmp_path: Path) -> None:
    write(tmp_path, "A.app/Contents/Info.plist", plist())
    security = "A.app/Contents/Library/SystemExtensions/s.systemextension/Contents/Info.plist"
    write(tmp_path, security, plist(CFBundlePackageType="SYSX", NSEndpointSecurityEarlyBoot=True))
    assert make_product(find_bundles(BundleFiles(tmp_path)), NOW).members == []
