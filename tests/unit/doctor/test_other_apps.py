"""Real programs for macOS that have nothing to do with Network Extension: unsigned, signed by the linker, ad hoc."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.bundles import find_bundles
from network_extension.doctor.examination import examine
from network_extension.doctor.signed_code import SignedCode, read_signed_code

from .corpus import CORPUS

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PACKAGES = {
    "node-notifier": "node-notifier@10.0.1",
    "esbuild": "@esbuild/darwin-arm64@0.25.0",
    "vsce-sign": "@vscode/vsce-sign-darwin-arm64@2.0.6",
}


@cache
def package(name: str) -> Path:
    """An npm package, unpacked. Skips where npm or its registry is not there."""
    folder = CORPUS / "npm" / name
    if folder.is_dir():
        return folder
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        try:
            command = ["npm", "pack", "--silent", PACKAGES[name]]
            subprocess.run(command, cwd=made, check=True, capture_output=True, timeout=45)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"{PACKAGES[name]} cannot be had: {error}")
        (packed,) = Path(made).glob("*.tgz")
        target = Path(made) / "unpacked"
        with tarfile.open(packed) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    path = (target / member.name).resolve()
                    assert path.is_relative_to(target.resolve()), member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
        shutil.copytree(target, folder, dirs_exist_ok=True)
    return folder


def program(path: Path) -> SignedCode:
    found = read_signed_code(BundleFiles.of_file(path), path.name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", PACKAGES)
def test_there_is_no_network_extension_in_them(name: str) -> None:
    report = examine(name, BundleFiles(package(name)), NOW)
    assert report.findings == () and report.bundles == ()
    (note,) = report.notes
    assert note.startswith("no Network Extension here")


def test_an_app_that_nobody_signed() -> None:
    (bundle,) = find_bundles(BundleFiles(package("node-notifier") / "package/vendor/mac.noindex/terminal-notifier.app"))
    assert bundle.code is not None and bundle.code.main.signature is None
    assert [found.image.architecture for found in bundle.code.slices] == ["x86_64"]
    assert bundle.seal_problem == "no CodeResources"


def test_a_program_that_the_linker_signed() -> None:
    code = program(package("esbuild") / "package" / "bin" / "esbuild")
    signature = code.main.signature
    assert signature is not None and signature.is_linker_signed and signature.is_adhoc
    assert all(check.holds for check in code.main.code_checks) and code.main.certificate is None


def test_a_program_that_was_signed_ad_hoc() -> None:
    path = next(path for path in (package("vsce-sign") / "package" / "bin").iterdir() if path.stat().st_size > 10_000)
    signature = program(path).main.signature
    assert signature is not None and signature.is_adhoc and not signature.is_linker_signed
    assert all(check.holds for check in program(path).main.code_checks)
