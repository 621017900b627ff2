"""What is said of real apps, of apps that have nothing to do with Network Extension, and of what lies around them."""

from __future__ import annotations

import plistlib
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.channels import SigningChannel
from network_extension.doctor.examination import examine, read_product
from network_extension.doctor.report import Bundle, Report
from network_extension.doctor.rule import Severity
from tests.doctor_builds import NE, anchors, identity, mac_build, with_certificate
from tests.doctor_bundles import executable_of
from tests.doctor_code_directory import RUNTIME, slices
from tests.doctor_signing import Signing, resign

from .corpus import EXTENSION, VERSIONS, app

LIBRARY_VALIDATION = 0x2000
NOW = datetime(2026, 11, 1, tzinfo=UTC)
SIGNED = ("macos", "developer-id", "S8XHQB96PW")
TOLD = {"PKG021", "SIG019", "ENT015", "PROF014", "DEP007", "DEP008"}


def said_of(folder: Path) -> Report:
    return examine("it", BundleFiles(folder), NOW)


def ids(report: Report) -> set[str]:
    return {finding.rule.id for finding in report.findings}


@pytest.mark.parametrize("version", VERSIONS)
def test_real_apps_have_no_errors_and_no_warnings(version: str) -> None:
    report = said_of(app(version))
    assert report.worst is Severity.INFO
    assert ids(report) == (TOLD if version == "0.3.0" else TOLD | {"INF007"})
    kind = "packet-tunnel" if version == "0.3.0" else "transparent-proxy"
    number = "1.0 (1)" if version == "0.3.0" else "2.0 (1)"
    identifier = "org.mitmproxy.macos-redirector"
    assert report.bundles == (
        Bundle("", "app", identifier, number, *SIGNED),
        Bundle(str(EXTENSION), "system extension", f"{identifier}.network-extension", number, *SIGNED, (kind,)),
    )
    assert report.notes == ()


def test_apps_without_a_network_extension_are_let_be() -> None:
    """The wheel has another app beside the one with the extension."""
    other = app("0.3.0").parent / "macos-certificate-truster.app"
    report = said_of(other)
    assert report.findings == () and report.bundles == ()
    assert report.notes == ("no Network Extension here: macos-certificate-truster.app",)


def test_what_the_certificate_says_does_not_hang_on_today() -> None:
    late = examine("it", BundleFiles(app("0.12.15")), datetime(2030, 1, 1, tzinfo=UTC))
    assert late.worst is Severity.WARN and ids(late) == TOLD | {"INF007", "SIG018"}


def test_a_folder_with_several_apps(tmp_path: Path) -> None:
    for version in ("0.3.0", "0.12.15"):
        shutil.copytree(app(version), tmp_path / version / "A.app")
    report = said_of(tmp_path)
    assert [bundle.path for bundle in report.bundles if bundle.kind == "app"] == ["0.12.15/A.app", "0.3.0/A.app"]
    assert Counter(finding.rule.id for finding in report.findings)["PKG021"] == 2


def test_an_extension_by_itself() -> None:
    report = said_of(app("0.12.15") / EXTENSION)
    assert report.worst is Severity.INFO and [bundle.kind for bundle in report.bundles] == ["system extension"]


def test_an_empty_folder(tmp_path: Path) -> None:
    assert said_of(tmp_path).notes == ("no Network Extension here: no app and no extension",)


def test_the_channel_may_be_another_than_it_was_signed_for() -> None:
    files = BundleFiles(app("0.12.15"))
    report = examine("it", files, NOW, channel=SigningChannel.APP_STORE)
    assert {"ENT002", "ENT014", "PROF009"} <= ids(report)


def test_the_same_version_twice_is_found_in_real_releases() -> None:
    """2.0 (1) in 0.11.5 and in 0.12.15."""
    previous = read_product(BundleFiles(app("0.11.5")), NOW)
    report = examine("it", BundleFiles(app("0.12.15")), NOW, previous=previous)
    assert {finding.rule.id for finding in report.findings if finding.severity is Severity.WARN} == {"PKG022"}
    older = read_product(BundleFiles(app("0.3.0")), NOW)
    assert "PKG022" not in ids(examine("it", BundleFiles(app("0.12.15")), NOW, previous=older))


def test_findings_come_the_worst_first() -> None:
    report = examine("it", BundleFiles(app("0.12.15")), NOW, channel=SigningChannel.APP_STORE)
    levels = [finding.severity for finding in report.findings]
    assert levels == sorted(levels, reverse=True) and len(set(levels)) > 1


def test_entitlements_of_the_sources_are_read_as_well(tmp_path: Path) -> None:
    text = plistlib.dumps({NE: ["transparent-proxy-systemextension"]}).replace(b"<dict>", b"<!-- c --><dict>", 1)
    (tmp_path / "App.entitlements").write_bytes(text)
    (tmp_path / "Broken.entitlements").write_bytes(b"no property list")
    report = said_of(tmp_path)
    assert {(finding.rule.id, finding.bundle) for finding in report.findings} == {
        ("ENT008", "App.entitlements"),
        ("ENT026", "App.entitlements"),
    }
    (note,) = report.notes
    assert note.startswith("Broken.entitlements was left out: XML entitlements: no XML property list")


def _source(path: Path, **values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plistlib.dumps(values))


def test_information_of_the_sources_is_read_as_well(tmp_path: Path) -> None:
    """As Xcode has it, with variables; what it adds when it builds is not missed."""
    point = "com.apple.networkextension."
    classes = {"filter-data": "$(PRODUCT_MODULE_NAME).Provider"}
    _source(tmp_path / "Filter" / "Info.plist", NetworkExtension={"NEProviderClasses": classes})
    right = {f"{point}filter-data": "$(PRODUCT_MODULE_NAME).Provider"}
    service = "$(TeamIdentifierPrefix)org.example"
    _source(
        tmp_path / "Right" / "Info.plist",
        CFBundlePackageType="$(PRODUCT_BUNDLE_PACKAGE_TYPE)",
        NetworkExtension={"NEProviderClasses": right, "NEMachServiceName": service},
    )
    _source(tmp_path / "Top" / "Info.plist", NetworkExtension={"NEProviderClasses": right}, NEMachServiceName=service)
    _source(tmp_path / "Tunnel-Info.plist", NSExtension={"NSExtensionPointIdentifier": f"{point}packettunnel"})
    _source(
        tmp_path / "Widget" / "Info.plist", NSExtension={"NSExtensionPointIdentifier": "com.apple.widgetkit-extension"}
    )
    _source(tmp_path / "App" / "Info.plist", CFBundleIdentifier="$(PRODUCT_BUNDLE_IDENTIFIER)")
    report = said_of(tmp_path)
    assert {(finding.rule.id, finding.bundle) for finding in report.findings} == {
        ("INF002", "Filter/Info.plist"),
        ("INF008", "Top/Info.plist"),
        ("INF011", "Tunnel-Info.plist"),
    }
    assert report.notes == ()


def test_broken_information_is_told_and_nothing_raises(tmp_path: Path) -> None:
    build = mac_build(tmp_path)
    build.finish()
    (build.extension.contents / "Info.plist").write_bytes(b"no property list")
    report = build.examine()
    assert "SIG004" in ids(report)
    assert any("Info.plist: not an XML property list" in note for note in report.notes)
    (build.extension.contents / "Info.plist").unlink()
    assert "SIG004" in ids(build.examine())


def test_library_signed_again_by_the_same_team_is_a_warning(tmp_path: Path) -> None:
    """The seal has a hash of it, and the system asks for the requirement only."""
    bundle = Path(shutil.copytree(app("0.3.0"), tmp_path / "A.app"))
    library = bundle / "Contents" / "Frameworks" / "libswift_Concurrency.dylib"
    data = library.read_bytes()
    again = resign(
        data, Signing(identity("Developer ID Application", "S8XHQB96PW"), flags=RUNTIME | LIBRARY_VALIDATION)
    )
    library.write_bytes(again)
    report = examine("it", BundleFiles(bundle), NOW, anchors=anchors())
    found = [finding for finding in report.findings if finding.rule.id == "SIG006"]
    assert [finding.severity for finding in found] == [Severity.WARN]
    library.write_bytes(resign(data, Signing(identity("Developer ID Application"))))
    report = examine("it", BundleFiles(bundle), NOW, anchors=anchors())
    found = [finding for finding in report.findings if finding.rule.id == "SIG006"]
    assert [finding.severity for finding in found] == [Severity.FATAL]


def test_a_link_in_place_of_code_is_not_followed(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(app("0.12.15"), tmp_path / "A.app"))
    code = executable_of(bundle)
    elsewhere = tmp_path / "elsewhere"
    code.rename(elsewhere)
    code.symlink_to(elsewhere)
    assert "PKG016" in ids(said_of(bundle))


def test_two_certificates_of_one_kind_make_no_difference(tmp_path: Path) -> None:
    build = mac_build(tmp_path)
    with_certificate(build.extension, identity("Developer ID Application"))
    build.finish()
    assert build.examine().worst is Severity.INFO


def test_code_of_a_debug_build_may_be_in_a_library(tmp_path: Path) -> None:
    """Xcode 16 links debug builds as a stub and X.debug.dylib: what rules look for in the code is in the second."""
    build = mac_build(tmp_path, "development")
    code = executable_of(build.extension.folder)
    library = code.with_name(f"{code.name}.debug.dylib")
    data = code.read_bytes()
    changed = data
    for found in slices(data):
        changed = changed[: found.offset + 12] + b"\x06" + changed[found.offset + 13 :]  # MH_DYLIB
    library.write_bytes(resign(changed, Signing(build.extension.identity, info_plist=None, code_resources=None)))
    for word in (b"startSystemExtensionMode", b"TransparentProxyProvider\0"):
        build.extension.patches.append((word, b"x" * len(word)))
    build.finish()
    report = build.examine()
    assert report.worst is Severity.INFO, report.findings
    library.unlink()
    assert {"PKG012", "INF004"} <= ids(build.examine())
