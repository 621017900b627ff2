from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from network_extension.doctor.archives.installer_package import PackageInfo, read_distribution, read_package_info
from network_extension.doctor.archives.unpack import unpack
from network_extension.doctor.errors import UnreadableFile

from . import archive_bytes as made
from .archive_bytes import APP, INFO, SIGNATURE, Item, component, distribution, expected, program, tree
from .test_formats import unpacked

NESTED = "./Example.app/Contents/Library/SystemExtensions/com.example.ext.systemextension"


def test_a_package_s_description_is_read() -> None:
    assert read_package_info(INFO.encode()) == PackageInfo(
        identifier="com.example.pkg",
        version="1.2",
        install_location="/Applications",
        relocatable=("com.example.app",),
        bundle_paths=("./Example.app", NESTED),
        scripts=("postinstall",),
    )


@pytest.mark.parametrize(
    ("text", "relocatable"),
    [
        ('<pkg-info identifier="p"/>', ()),
        ('<pkg-info identifier="p" relocatable="true"/>', ("p",)),
        ('<pkg-info identifier="p" relocatable="true"><bundle id="a" path="./A.app"/></pkg-info>', ("./A.app",)),
        ('<pkg-info><bundle id="a" path="A.app" relocatable="true"/><bundle id="b" path="B.app"/></pkg-info>', ("a",)),
        ('<pkg-info><relocate><bundle id="a"/><bundle path="./B.app"/></relocate></pkg-info>', ("a", "./B.app")),
        ('<pkg-info relocatable="false"><relocate/></pkg-info>', ()),
        ('<pkg-info><upgrade-bundle><bundle id="a"/></upgrade-bundle></pkg-info>', ()),
    ],
)
def test_bundles_that_the_installer_may_put_elsewhere(text: str, relocatable: tuple[str, ...]) -> None:
    found = read_package_info(text.encode())
    assert found.relocatable == relocatable and found.install_location == "/"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not XML"),
        ("<pkg-info>", "is not XML"),
        ("<plist/>", "begins with the element 'plist'"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><pkg-info>&b;</pkg-info>', "a document type"),
        ("<pkg-info>" + "<a>" * 100, "nested deeper than 80"),
        ("<pkg-info>" + "<a/>" * 500_000, "more than 500000 elements"),
        ("<pkg-info>" + " " * (8 << 20), "XML of 8388618 bytes"),
        ("<pkg-info>" + "".join(f'<bundle path="{i}"/>' for i in range(10_001)), "more than 10000 bundles"),
        ("<pkg-info>" + f'<bundle path="{"a" * 200}">' * 70, "a path of"),
    ],
)
def test_descriptions_that_cannot_be_read(text: str, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why):
        read_package_info(text.encode())


def test_of_a_distribution_what_moves_packages_elsewhere_is_read() -> None:
    options = (
        '<domains enable_anywhere="false" enable_currentUserHome="true"/>'
        '<choice id="a" customLocation="/opt/example"/><choice id="b"/>'
    )
    found = read_distribution(distribution("A.pkg", "B.pkg", options=options).content)
    assert (found.title, found.packages) == ("Example", ("A.pkg", "B.pkg"))
    assert (found.custom_locations, found.home_folder_allowed) == (("/opt/example",), True)
    assert not read_distribution(distribution("A.pkg").content).home_folder_allowed
    with pytest.raises(UnreadableFile, match="Distribution: begins with the element 'pkg-info'"):
        read_distribution(INFO.encode())


PAYLOADS = {
    "gzip": gzip.compress(made.cpio(APP)),
    "pbzx": made.pbzx(made.cpio(APP)),
    "newc in pbzx": made.pbzx(made.cpio(APP, b"070701")),
    "plain": made.cpio(APP),
}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_component_package_holds_its_app_as_payload(payload: str, tmp_path: Path) -> None:
    scripts = [program("./preinstall", b"#!/bin/sh\npfctl -e\n"), program("./long", b"x" * 70_000)]
    found = unpacked(made.xar(component(PAYLOADS[payload], scripts)), tmp_path, "Example.pkg")
    (package,) = found.packages
    assert (package.path, package.signed, package.stapled) == ("", False, False)
    assert package.info == read_package_info(INFO.encode())
    assert package.payload_folder == found.folder / "Payload" and tree(package.payload_folder) == expected(APP)
    assert package.scripts == (("preinstall", b"#!/bin/sh\npfctl -e\n"), ("long", b"x" * 65536))
    assert found.archives == ("Example.pkg",) and found.kind == "xar"


def test_a_product_archive_holds_several(tmp_path: Path) -> None:
    other = component(b"", scripts=(), info='<pkg-info identifier="other" install-location="/opt"/>', at="Other.pkg")
    items = [distribution("Example.pkg", "Other.pkg"), *component(at="Example.pkg"), *other]
    data = made.xar(items, extra=SIGNATURE, checksum="sha256") + b"s8ch" + bytes(400)
    found = unpacked(data + b"t8lr\1\0\2\0" + (404).to_bytes(4, "little") + bytes(4), tmp_path)
    assert [(package.path, package.info.identifier) for package in found.packages] == [
        ("Example.pkg", "com.example.pkg"),
        ("Other.pkg", "other"),
    ]
    assert all(package.signed and package.stapled for package in found.packages)
    assert tree(found.folder / "Example.pkg/Payload") == expected(APP)
    assert tree(found.packages[1].payload_folder) == {} and found.packages[1].payload_folder.is_dir()
    assert found.packages[1].scripts == ()
    (told,) = found.distributions
    assert told.packages == ("Example.pkg", "Other.pkg")


def test_where_a_package_names_no_bundle_its_payload_tells(tmp_path: Path) -> None:
    info = '<pkg-info identifier="p" install-location="/"/>'
    inner = [replace(item, name=f"./Applications/{item.name}") for item in APP]
    inner.append(Item("./Applications/Example.app/Contents/Helpers/Inner.app/Contents/Info.plist", b""))
    found = unpacked(made.xar(component(made.cpio(inner), info=info)), tmp_path)
    assert found.packages[0].info.bundle_paths == ("./Applications/Example.app",)


def test_a_package_without_payload_has_an_empty_folder(tmp_path: Path) -> None:
    items = [item for item in component() if item.name != "Payload"]
    (package,) = unpacked(made.xar(items), tmp_path).packages
    assert package.payload_folder.is_dir() and tree(package.payload_folder) == {}


def test_a_package_in_a_zip_in_a_tar_is_found(tmp_path: Path) -> None:
    data = made.tar([Item("a/b.zip", made.zipped([Item("c/Example.pkg", made.xar(component()))]))], "w:gz")
    found = unpacked(data, tmp_path)
    assert found.archives == ("archive", "a/b.zip", "a/b.zip/c/Example.pkg")
    (package,) = found.packages
    assert package.path == "a/b.zip/c/Example.pkg"
    assert tree(found.folder / package.path / "Payload") == expected(APP)


def test_a_payload_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="archive: Payload: no cpio header after 0 bytes") as refused:
        unpacked(made.xar(component(b"yaa! something new")), tmp_path)
    assert refused.value.why.isprintable()


def test_archives_within_bundles_are_resources(tmp_path: Path) -> None:
    inner = made.zipped(APP)
    items = [Item("Example.app/Contents/Resources/update.zip", inner), Item("update.zip", inner), Item("no.tar", b"x")]
    found = unpacked(made.tar(items), tmp_path)
    assert found.archives == ("archive", "update.zip")
    assert (found.folder / "Example.app/Contents/Resources/update.zip").read_bytes() == inner
    assert tree(found.folder / "update.zip") == expected(APP)


def test_archives_in_archives_in_archives_are_opened_to_the_fourth_level(tmp_path: Path) -> None:
    data = made.zipped([Item("file", b"x")])
    for level in range(6, 1, -1):
        data = made.zipped([Item(f"{level}.zip", data), Item(f"at {level - 1}", b"x")])
    found = unpacked(data, tmp_path)
    assert found.archives == ("archive", "2.zip", "2.zip/3.zip", "2.zip/3.zip/4.zip")
    assert (found.folder / "2.zip/3.zip/4.zip/5.zip").is_file()
    (left,) = found.left_out
    assert left == "'2.zip/3.zip/4.zip/5.zip': nested deeper than 4 archives"


def test_a_disk_image_in_an_archive_is_left_and_told(tmp_path: Path) -> None:
    found = unpacked(made.zipped([Item("Example.dmg", b"koly" * 500)]), tmp_path)
    assert found.left_out == ("'Example.dmg': a disk image, which is not read here",)
    assert unpack(tmp_path / "archive", _empty(tmp_path)).archives == ("archive",)


def _empty(below: Path) -> Path:
    (below / "again").mkdir()
    return below / "again"
