"""Installer packages, Xcode's archives and .ipa files from the file to the finding."""

from __future__ import annotations

import gzip
import plistlib
import stat
from pathlib import Path

import pytest

from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.examination import examine
from network_extension.doctor.examined_path import examined_path
from network_extension.doctor.report import Report
from network_extension.doctor.rule import Severity
from tests.doctor_builds import NOW, Build, anchors, mac_build, mobile_build, provider

from .archives.archive_bytes import Item, component, cpio, distribution, folder, link, pbzx, program, tar, xar, zipped

IDENTIFIER = "org.mitmproxy.macos-redirector"


def items_of(root: Path, at: str = "") -> list[Item]:
    """Everything below a folder, as an archive holds it."""
    found: list[Item] = []
    for path in sorted(root.rglob("*")):
        name = at + path.relative_to(root).as_posix()
        if path.is_symlink():
            found.append(link(name, str(path.readlink())))
        elif path.is_dir():
            found.append(folder(name))
        elif path.stat().st_mode & stat.S_IXUSR:
            found.append(program(name, path.read_bytes()))
        else:
            found.append(Item(name, path.read_bytes()))
    return found


def said_of(path: Path) -> Report:
    with examined_path(path) as found:
        report = examine(
            path.name,
            found.files,
            NOW,
            anchors=anchors(),
            packages=found.packages,
            in_stapled_package=found.in_stapled_package,
        )
        return Report(**{**vars(report), "notes": (*report.notes, *found.notes)})


def errors(report: Report) -> set[str]:
    return {finding.rule.id for finding in report.findings if finding.severity >= Severity.WARN}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    (tmp_path / "root").mkdir()
    made = mac_build(tmp_path / "root")
    made.finish()
    return made


def info(location: str = "/Applications", relocate: bool = False, scripts: str = "") -> str:
    bundle = f'<bundle path="./Example.app" id="{IDENTIFIER}"/>'
    moved = f"<relocate>{bundle}</relocate>" if relocate else "<relocate/>"
    head = f'<pkg-info identifier="org.example" version="1" install-location="{location}">'
    return f"{head}{bundle}{moved}{scripts}</pkg-info>"


def package(
    build: Build, text: str, *, payload: str = "gzip", scripts: tuple[Item, ...] = (), at: str = ""
) -> list[Item]:
    archive = cpio(items_of(build.root, "./"))
    packed = pbzx(archive) if payload == "pbzx" else gzip.compress(archive)
    return component(packed, scripts, text, at)


@pytest.mark.parametrize("payload", ["gzip", "pbzx"])
def test_a_package_that_is_right(build: Build, payload: str, tmp_path: Path) -> None:
    path = tmp_path / "Example.pkg"
    path.write_bytes(xar(package(build, info(), payload=payload)))
    report = said_of(path)
    assert errors(report) == set(), report.findings
    assert [bundle.kind for bundle in report.bundles] == ["app", "system extension"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (info(relocate=True), "PKG019"),
        (info(location="/opt/example"), "PKG020"),
        (info(location="/Library"), "PKG020"),
    ],
)
def test_a_package_that_installs_elsewhere(build: Build, text: str, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "Example.pkg"
    path.write_bytes(xar(package(build, text)))
    report = said_of(path)
    assert errors(report) == {rule}
    assert next(one.bundle for one in report.findings if one.rule.id == rule) == "Example.pkg"


@pytest.mark.parametrize("location", ["/", "/Applications", "/Applications/Example"])
def test_places_below_applications_are_right(build: Build, location: str, tmp_path: Path) -> None:
    path = tmp_path / "Example.pkg"
    text = info(location=location)
    if location == "/":
        text = text.replace("./Example.app", "./Applications/Example.app")
    path.write_bytes(xar(package(build, text)))
    assert errors(said_of(path)) == set()


def test_a_product_archive_with_a_place_of_its_own(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "Example.pkg"
    options = '<choice id="app" customLocation="/opt/example"><pkg-ref id="org.example"/></choice>'
    path.write_bytes(xar([distribution("App.pkg", options=options), *package(build, info(), at="App.pkg")]))
    assert errors(said_of(path)) == {"PKG020"}


def test_a_script_that_calls_pfctl(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "Example.pkg"
    script = program("./postinstall", b"#!/bin/sh\npfctl -e\n")
    path.write_bytes(xar(package(build, info(), scripts=(script,))))
    found = [finding for finding in said_of(path).findings if finding.rule.id == "DEP010"]
    assert [finding.evidence for finding in found] == ["the script postinstall calls pfctl"]


def test_an_app_without_a_ticket_in_a_package_that_has_one(build: Build, tmp_path: Path) -> None:
    (build.app.contents / "CodeResources").unlink()
    path = tmp_path / "Example.pkg"
    data = xar(package(build, info()))
    path.write_bytes(data)
    assert [one.severity for one in said_of(path).findings if one.rule.id == "SIG016"] == [Severity.ERROR]
    path.write_bytes(data + b"ticket" + b"t8lr" + bytes(12))
    assert [one.severity for one in said_of(path).findings if one.rule.id == "SIG016"] == [Severity.WARN]


def test_an_archive_of_xcode(tmp_path: Path) -> None:
    products = tmp_path / "Example.xcarchive" / "Products" / "Applications"
    products.mkdir(parents=True)
    made = mac_build(products, "development")
    made.finish()
    properties = {"SigningIdentity": "Apple Development: A Developer (FAKETEAM01)", "Team": "FAKETEAM01"}
    (tmp_path / "Example.xcarchive" / "Info.plist").write_bytes(plistlib.dumps({"ApplicationProperties": properties}))
    report = said_of(tmp_path / "Example.xcarchive")
    assert errors(report) == set()
    assert "PKG023" in {finding.rule.id for finding in report.findings}
    assert report.bundles[0].path == "Products/Applications/Example.app"


def test_an_ipa(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    made = mobile_build(tmp_path / "root")
    provider(made, "NEPacketTunnelProvider", "packet-tunnel-provider", "NETunnelProviderManager")
    made.finish()
    path = tmp_path / "Example.ipa"
    path.write_bytes(zipped(items_of(made.root, "Payload/")))
    report = said_of(path)
    assert errors(report) == set()
    assert [(bundle.path, bundle.platform) for bundle in report.bundles] == [
        ("Payload/Example.app", "ios"),
        ("Payload/Example.app/PlugIns/Provider.appex", "ios"),
    ]


def test_links_of_an_archive_that_lead_outside_are_told(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "Example.tar"
    path.write_bytes(tar([*items_of(build.root), link("Example.app/passwd", "../../../../etc/passwd")]))
    report = said_of(path)
    assert any(note.startswith("left out: the link Example.app/passwd") for note in report.notes)


def test_a_disk_image_has_to_be_mounted_first(tmp_path: Path) -> None:
    path = tmp_path / "Example.dmg"
    path.write_bytes(bytes(4096) + b"koly" + bytes(508))
    with pytest.raises(UnreadableFile, match="mount it"):
        said_of(path)


def test_nothing_is_left_behind(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    path = tmp_path / "Example.zip"
    path.write_bytes(zipped(items_of(build.root)))
    said_of(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UnreadableFile):
        said_of(path)
    assert list((tmp_path / "temporary").iterdir()) == []
