from __future__ import annotations

import plistlib
import struct
from pathlib import Path

import pytest

from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.imported_symbols import imported_classes, imported_symbols
from network_extension.doctor.load_commands import Library, LibraryLink, Platform
from network_extension.doctor.macho import FileType, Slice, is_macho, read_macho
from network_extension.doctor.os_version import OSVersion

from .corpus import VERSIONS, executables
from .macho_bytes import ARM64, X86_64, command, fat, head_size, library, segment, thin

NETWORK_EXTENSION = "/System/Library/Frameworks/NetworkExtension.framework/Versions/A/NetworkExtension"
SYSTEM_EXTENSIONS = "/System/Library/Frameworks/SystemExtensions.framework/Versions/A/SystemExtensions"
MACOS_13 = command(0x32, 1, 13 << 16 | 2 << 8, 14 << 16 | 5 << 8 | 1, 0)


def one(data: bytes) -> Slice:
    (image,) = read_macho(data)
    return image


@pytest.mark.parametrize("version", VERSIONS)
def test_real_executables_say_what_they_are_built_for(version: str) -> None:
    minimum = OSVersion(11) if version == "0.3.0" else OSVersion(12)
    sdk = {"0.3.0": OSVersion(13, 1), "0.11.5": OSVersion(14, 5), "0.12.15": OSVersion(26, 5)}[version]
    for executable in executables(version):
        images = read_macho(executable.read_bytes())
        assert [image.architecture for image in images] == ["x86_64", "arm64"]
        for image in images:
            assert image.file_type == FileType.EXECUTE and image.is_64_bit and not image.is_encrypted
            assert image.commands.build_versions == ((Platform.MACOS, minimum, sdk),)


@pytest.mark.parametrize("version", VERSIONS)
def test_real_executables_show_by_their_names_what_they_do(version: str) -> None:
    app, extension = ([*read_macho(path.read_bytes())] for path in executables(version))
    provider = "NEPacketTunnelProvider" if version == "0.3.0" else "NETransparentProxyProvider"
    for image in app:
        assert {NETWORK_EXTENSION, SYSTEM_EXTENSIONS} <= {name for name, _ in image.commands.libraries}
        assert "OSSystemExtensionRequest" in imported_classes(image) and provider not in imported_classes(image)
        assert image.contains(b"activationRequestForExtension:queue:")
        assert not image.contains(b"startSystemExtensionMode")
    for image in extension:
        libraries = {name for name, _ in image.commands.libraries}
        assert NETWORK_EXTENSION in libraries and SYSTEM_EXTENSIONS not in libraries
        assert provider in imported_classes(image) and "_NSExtensionMain" not in imported_symbols(image)
        assert image.contains_string("startSystemExtensionMode")
        assert all(image.contains_class(name) for name in declared(executables(version)[1]))
        assert not any(
            image.contains_class(f"other_module.{provider}") for provider in ("PacketTunnelProvider", "Nope")
        )


def declared(executable: Path) -> list[str]:
    """What NEProviderClasses of the extension names: "module.Class"."""
    with (executable.parents[1] / "Info.plist").open("rb") as file:
        return [*plistlib.load(file)["NetworkExtension"]["NEProviderClasses"].values()]


def test_fat_records_of_32_and_64_bits_hold_the_same_images() -> None:
    images = [(X86_64, thin([MACOS_13], cpu=X86_64)), (ARM64, thin([MACOS_13]))]
    narrow, wide = read_macho(fat(images)), read_macho(fat(images, wide=True))
    for found in (narrow, wide):
        assert [(image.architecture, bytes(image.data)) for image in found] == [
            ("x86_64", images[0][1]),
            ("arm64", images[1][1]),
        ]
    assert narrow[0].offset != wide[0].offset


@pytest.mark.parametrize(
    ("cpu", "name"),
    [
        ((0x0100000C, 0x80000002), "arm64e"),
        ((12, 9), "armv7"),
        ((7, 3), "i386"),
        ((0x01000007, 0x80000003), "x86_64"),
        ((99, 5), "cpu 99.5"),
    ],
)
def test_architectures_have_the_names_of_lipo(cpu: tuple[int, int], name: str) -> None:
    assert one(thin([], cpu=cpu)).architecture == name


@pytest.mark.parametrize(("order", "wide"), [("<", False), (">", True), (">", False)])
def test_other_byte_orders_and_widths_are_read(order: str, wide: bool) -> None:
    build = command(0x32, 2, 15 << 16, 16 << 16, 0, order=order)
    image = one(thin([build], cpu=(18, 0), order=order, wide=wide))
    assert (image.architecture, image.is_64_bit) == ("ppc", wide)
    assert image.commands.build_versions == ((Platform.IOS, OSVersion(15), OSVersion(16)),)


@pytest.mark.parametrize(
    ("kind", "platform"),
    [(0x24, Platform.MACOS), (0x25, Platform.IOS), (0x2F, Platform.TVOS), (0x30, Platform.WATCHOS)],
)
def test_older_linkers_name_the_platform_by_the_command(kind: int, platform: Platform) -> None:
    image = one(thin([command(kind, 10 << 16 | 15 << 8, 11 << 16)]))
    assert image.commands.build_versions == ((platform, OSVersion(10, 15), OSVersion(11)),)


def test_an_image_for_macos_and_catalyst_has_two_versions() -> None:
    image = one(thin([MACOS_13, command(0x32, 6, 16 << 16, 17 << 16, 0)]))
    assert [build.platform for build in image.commands.build_versions] == [Platform.MACOS, Platform.MAC_CATALYST]
    assert [str(build.minimum_os) for build in image.commands.build_versions] == ["13.2", "16.0"]
    assert str(image.commands.build_versions[0].sdk) == "14.5.1"


def test_libraries_come_with_the_way_they_are_linked() -> None:
    kinds = {0x0C: "load", 0x80000018: "weak", 0x8000001F: "reexport", 0x20: "lazy", 0x80000023: "upward"}
    image = one(
        thin([library(kind, f"/usr/lib/{word}") for kind, word in kinds.items()] + [library(0x0D, "/own/name")])
    )
    assert image.commands.libraries == tuple(Library(f"/usr/lib/{word}", LibraryLink(word)) for word in kinds.values())


def test_an_encrypted_app_is_seen() -> None:
    assert one(thin([command(0x2C, 0, 16, 1, 0)], bytes(16))).is_encrypted
    assert not one(thin([command(0x21, 0, 16, 0)], bytes(16))).is_encrypted


def test_a_section_is_found_by_its_names() -> None:
    size = head_size([segment("__TEXT", [("__info_plist", 0, 0), ("__bss", 0, 0)])])
    image = one(thin([segment("__TEXT", [("__info_plist", size, 6), ("__bss", 0, 1 << 40)])], b"<plist"))
    assert image.section("__TEXT", "__info_plist") == b"<plist"
    assert image.section("__TEXT", "__bss") is None
    beyond = one(thin([segment("__TEXT", [("__info_plist", size, 7)])], b""))
    with pytest.raises(UnreadableFile, match="not within"):
        beyond.section("__TEXT", "__info_plist")


def test_a_string_is_found_as_a_whole_within_its_section() -> None:
    body = b"first\0second\0third\0"
    start = head_size([segment("__TEXT", [("__cstring", 0, 0)])])
    image = one(thin([segment("__TEXT", [("__cstring", start, 13)])], body))
    assert image.contains_string("first") and image.contains_string("second")
    assert not image.contains_string("third") and not image.contains_string("econd")
    assert not image.contains_string("firs") and image.contains(b"third")
    beyond = one(thin([segment("__TEXT", [("__cstring", 1 << 31, 13)])], body))
    assert not beyond.contains_string("first")


def test_words_in_the_signature_are_no_evidence() -> None:
    body = b"\0_TtC3Foo8Provider\0code" + b"\0startSystemExtensionMode\0"
    start = head_size([command(0x1D, 0, 0)])
    signed = command(0x1D, start + body.index(b"\0start"), 26)
    image = one(thin([signed], body))
    assert image.contains(b"code") and image.contains_class("Foo.Provider")
    assert not image.contains(b"startSystemExtensionMode")
    assert bytes(image.signature_data or b"") == b"\0startSystemExtensionMode\0"
    assert one(thin([], body)).contains(b"startSystemExtensionMode")


def test_evidence_of_one_slice_is_not_evidence_of_the_other() -> None:
    first, second = read_macho(fat([(X86_64, thin([], b"\0here\0", cpu=X86_64)), (ARM64, thin([], b"\0there\0"))]))
    assert first.contains_string("here") and not first.contains(b"there")
    assert second.contains_string("there") and not second.contains_string("here")


def test_imported_names_come_from_symbols_bind_opcodes_and_chained_fixups() -> None:
    names = b"\0_OBJC_CLASS_$_NEProvider\0_own\0_local\0"
    entries = [(1, 0x01), (names.index(b"_own"), 0x0F), (names.index(b"_local"), 0x00), (1, 0x64)]
    symbols = b"".join(struct.pack("<I2BHQ", start, kind, 0, 0, 0) for start, kind in entries)
    binds = (
        b"\x11\x40_OBJC_CLASS_$_NETunnelProviderManager\0\x51\x72\xff\x7f\x90\xc0\x80\x01\x05\x00\x42_NSExtensionMain\0"
    )
    chained = struct.pack("<7I", 0, 28, 28, 28, 1, 1, 0) + b"\0_OBJC_CLASS_$_OSSystemExtensionRequest\0\0"
    body = symbols + names + binds + chained

    def commands(start: int) -> list[bytes]:
        at = start + len(symbols) + len(names)
        return [
            command(0x02, start, len(entries), start + len(symbols), len(names)),
            command(0x80000022, 0, 0, at, len(binds), 0, 0, 0, 0, 0, 0),
            command(0x80000034, at + len(binds), len(chained)),
        ]

    image = one(thin(commands(head_size(commands(0))), body))
    assert imported_classes(image) == {"NEProvider", "NETunnelProviderManager", "OSSystemExtensionRequest"}
    assert imported_symbols(image) - {f"_OBJC_CLASS_$_{name}" for name in imported_classes(image)} == {
        "_NSExtensionMain"
    }


def test_names_that_share_their_bytes_do_not_cost_the_square() -> None:
    names = b"_" * 100_000 + b"\0"
    symbols = b"".join(struct.pack("<I2BHQ", start, 1, 0, 0, 0) for start in range(100_000))
    start = head_size([command(0x02, 0, 0, 0, 0)])
    image = one(thin([command(0x02, start, 100_000, start + len(symbols), len(names))], symbols + names))
    with pytest.raises(UnreadableFile, match="overlap"):
        imported_symbols(image)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no magic number"),
        (b"#!/bin/sh\nexit\n", "no magic number"),
        (b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(64), "no magic number"),  # Java 8
        (thin([MACOS_13])[:40], "not within"),
        (thin([command(0x0C, 500, 0, 0, 0)]), "not within"),
        (thin([command(0x0C, 12, tail=b"name")]), "load command 0: the text at 12 does not end"),
        (thin([command(0x0C, 12, tail=b"\xff\xff\xff\0")]), "is not UTF-8"),
        (thin([struct.pack("<2I", 0x32, 4)]), "has 4 bytes"),
        (thin([struct.pack("<2I", 0x32, 1 << 31)]), "has 2147483648 bytes"),
        (thin([command(0x1D, 0, 1 << 20)]), "not within"),
        (thin([command(0x1D, 0, 8), command(0x1D, 8, 8)]), "two load commands"),
        (fat([(X86_64, thin([]))]), "its record says"),
        (fat([(ARM64, b"!<arch>\n" + bytes(64))]), "begins with 213c6172"),
    ],
)
def test_what_is_no_macho_file_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why) as caught:
        read_macho(data)
    assert caught.value.what.startswith("Mach-O file")


def test_images_that_overlap_are_refused() -> None:
    image = thin([])
    record = struct.pack(">5I", *ARM64, 48, len(image), 0)
    with pytest.raises(UnreadableFile, match="overlaps"):
        read_macho(struct.pack(">2I", 0xCAFEBABE, 2) + record * 2 + image)


def test_the_magic_number_tells_a_macho_file() -> None:
    assert is_macho(thin([])[:8]) and is_macho(fat([(ARM64, thin([]))])[:8])
    assert not is_macho(b"\xca\xfe\xba\xbe\0\0\0\x34") and not is_macho(b"\xcf\xfa\xed")
