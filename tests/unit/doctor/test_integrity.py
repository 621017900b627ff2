"""What was signed against what is there: frameworks, nested code, what the linker or the App Store has touched."""

from __future__ import annotations

import plistlib
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from network_extension.doctor.report import Report
from network_extension.doctor.rule import Severity
from tests.doctor_builds import Build, identity, mac_build, mobile_build, provider, time_stamper
from tests.doctor_bundles import SEAL, executable_of, resign_bundle
from tests.doctor_code_directory import slices
from tests.doctor_signing import Signing, resign

from .corpus import app

DEVELOPER_ID = "Developer ID Application"


def ids(report: Report) -> set[str]:
    return {finding.rule.id for finding in report.findings if finding.severity >= Severity.WARN}


def add_framework(build: Build, team: str = "FAKETEAM01") -> Path:
    """A framework as Xcode embeds it: versions, links, and a signature of its own. Returns its version's folder."""
    framework = build.app.contents / "Frameworks" / "Kit.framework"
    version = framework / "Versions" / "A"
    (version / "Resources").mkdir(parents=True)
    (version / "_CodeSignature").mkdir()
    shutil.copy(app("0.3.0") / "Contents" / "Frameworks" / "libswift_Concurrency.dylib", version / "Kit")
    information = {"CFBundleExecutable": "Kit", "CFBundleIdentifier": "org.example.kit", "CFBundlePackageType": "FMWK"}
    (version / "Resources" / "Info.plist").write_bytes(plistlib.dumps(information))
    (version / "Resources" / "words.txt").write_bytes(b"words")
    seal = {"files": {}, "files2": {}, "rules": {}, "rules2": {"^.*": True}}
    (version / SEAL).write_bytes(plistlib.dumps(seal))
    (framework / "Versions" / "Current").symlink_to("A")
    for name in ("Kit", "Resources"):
        (framework / name).symlink_to(f"Versions/Current/{name}")
    signing = Signing(identity(DEVELOPER_ID, team), identifier="org.example.kit", timestamp=time_stamper())
    resign_bundle(framework, signing)
    return version


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return mac_build(tmp_path)


def test_a_framework_that_is_right(build: Build) -> None:
    add_framework(build)
    build.finish()
    report = build.examine()
    assert ids(report) == set(), report.findings
    seal = plistlib.loads((build.app.contents / SEAL).read_bytes())
    assert "cdhash" in seal["files2"]["Frameworks/Kit.framework"]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("Kit", "SIG003"),
        ("Resources/Info.plist", "SIG004"),
        ("Resources/words.txt", "SIG005"),
        ("_CodeSignature/CodeResources", "SIG005"),
    ],
)
def test_a_change_in_a_framework_is_told_of_the_framework(build: Build, name: str, rule: str) -> None:
    version = add_framework(build)
    build.finish()
    data = bytearray((version / name).read_bytes())
    at = slices(bytes(data))[0].offset + 0x6000 if name == "Kit" else len(data) - 2
    data[at] ^= 0x20
    (version / name).write_bytes(data)
    report = build.examine()
    assert rule in ids(report) and ids(report) <= {rule, "SIG005"}
    places = {finding.bundle for finding in report.findings if finding.rule.id in (rule, "SIG005")}
    assert places == {"Example.app/Contents/Frameworks/Kit.framework"}


def test_a_framework_that_was_added_or_taken_out(build: Build) -> None:
    build.finish()
    add_framework(build)
    report = build.examine()
    assert ids(report) == {"SIG005"}
    assert "added: Frameworks/Kit.framework" in next(one.evidence for one in report.findings if one.rule.id == "SIG005")


def test_a_framework_that_is_missing(build: Build) -> None:
    version = add_framework(build)
    build.finish()
    shutil.rmtree(version.parents[1])
    report = build.examine()
    assert ids(report) == {"SIG005"}


def test_a_framework_of_which_the_signature_was_taken_off(build: Build) -> None:
    from tests.doctor_code_directory import without_signature

    version = add_framework(build)
    build.finish()
    (version / "Kit").write_bytes(without_signature((version / "Kit").read_bytes()))
    assert "SIG006" in ids(build.examine())


def test_code_that_the_linker_signed_knows_no_bundle(build: Build) -> None:
    """Its seal and its Info.plist are nobody's fault; that an app with entitlements is signed so is."""
    build.both(lambda part: part.signing.update(identity=None, requirements=None, timestamp=None, flags=0x20002))
    build.has_ticket = False
    build.finish()
    for part in build.parts:
        (part.contents / SEAL).unlink()
    assert ids(build.examine()) == {"SIG002"}


def _encrypt(path: Path) -> None:
    """LC_ENCRYPTION_INFO_64 where LC_UUID was, and other bytes from there on, as the App Store delivers code."""
    data = bytearray(path.read_bytes())
    for found in slices(bytes(data)):
        at = found.offset + 32
        for _ in range(struct.unpack_from("<I", data, found.offset + 16)[0]):
            kind, size = struct.unpack_from("<2I", data, at)
            if kind == 0x1B and size == 24:
                struct.pack_into("<6I", data, at, 0x2C, 24, 0x4000, 0x1000, 1, 0)
            at += size
        data[found.offset + 0x4000] ^= 0xFF
    path.write_bytes(data)


def test_code_that_the_app_store_encrypted_is_let_be(tmp_path: Path) -> None:
    build = mobile_build(tmp_path)
    provider(build, "NEPacketTunnelProvider", "packet-tunnel-provider", "NETunnelProviderManager")
    build.both(lambda part: setattr(part, "identity", identity("Apple iPhone OS Application Signing")))
    build.finish()
    assert "SIG003" not in ids(build.examine())
    for part in build.parts:
        _encrypt(part.folder / part.information["CFBundleExecutable"])
    report = build.examine()
    assert ids(report) == set(), report.findings
    assert any("encrypted by the App Store" in note for note in report.notes)


def test_a_build_for_a_simulator_is_asked_for_no_signature(tmp_path: Path) -> None:
    build = mobile_build(tmp_path, "development")
    provider(build, "NEPacketTunnelProvider", "packet-tunnel-provider", "NETunnelProviderManager")
    for part in build.parts:
        part.patches = [
            (old, new.replace(struct.pack("<3I", 0x32, 32, 2), struct.pack("<3I", 0x32, 32, 7)))
            for old, new in part.patches
        ]
        part.signing = {"identity": None, "requirements": None, "timestamp": None, "entitlements": None}
        part.profile = None
    build.finish()
    report = build.examine()
    assert ids(report) == set(), report.findings
    assert any("simulator" in note for note in report.notes)


@pytest.mark.parametrize("damage", [lambda data: data[:3000], lambda data: b"\xcf\xfa\xed\xfe" + data[4:]])
def test_code_that_cannot_be_read_is_told(build: Build, damage: Callable[[bytes], bytes]) -> None:
    build.finish()
    path = executable_of(build.extension.folder)
    path.write_bytes(damage(path.read_bytes()))
    assert ids(build.examine()) & {"PKG016", "SIG003", "SIG001"}


def test_resigned_parts_are_named_with_both_hashes(build: Build) -> None:
    version = add_framework(build)
    build.finish()
    data = (version / "Kit").read_bytes()
    plist, seal = ((version / name).read_bytes() for name in ("Resources/Info.plist", str(SEAL)))
    signing = Signing(
        identity(DEVELOPER_ID, "OTHERTEAM9"), info_plist=plist, code_resources=seal, timestamp=time_stamper()
    )
    (version / "Kit").write_bytes(resign(data, signing))
    found = [finding for finding in build.examine().findings if finding.rule.id == "SIG006"]
    assert len(found) == 1 and "does not meet the sealed requirement" in found[0].evidence
