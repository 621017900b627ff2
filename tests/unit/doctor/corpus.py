"""Real signed and notarised apps with a Network Extension: what mitmproxy ships for macOS (MIT), from its wheels.

Downloaded when a test asks, kept in `build/corpus` of the checkout, never committed. Tests skip where there is no
package index.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

VERSIONS = ("0.3.0", "0.11.5", "0.12.15")
CORPUS = Path(__file__).resolve().parents[3] / "build" / "corpus"
_APP = "Mitmproxy Redirector.app"
EXTENSION = Path("Contents/Library/SystemExtensions/org.mitmproxy.macos-redirector.network-extension.systemextension")


@functools.cache
def wheel(version: str) -> Path:
    """The wheel of one version. Skips the test when it cannot be had."""
    found = sorted(CORPUS.glob(f"mitmproxy_macos-{version}-*.whl"))
    if found:
        return found[0]
    CORPUS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CORPUS) as folder:
        where = ["--python-version", "3.12", "--platform", "macosx_12_0_universal2", "--only-binary=:all:"]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *where, "-d", folder]
        try:
            subprocess.run([*command, f"mitmproxy-macos=={version}"], check=True, capture_output=True, timeout=45)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"mitmproxy-macos {version} cannot be downloaded: {error}")
        (got,) = Path(folder).glob("*.whl")
        return Path(shutil.move(got, CORPUS / got.name))


@functools.cache
def app(version: str) -> Path:
    """The app of one version, unpacked. Do not write to it: copy it."""
    unpacked = CORPUS / f"mitmproxy-{version}"
    if not unpacked.exists():
        source = wheel(version)
        folder = Path(tempfile.mkdtemp(dir=CORPUS))
        with zipfile.ZipFile(source) as archive:
            archive.extractall(folder)
        for packed in sorted(folder.rglob("*.app.tar")):
            with tarfile.open(packed) as inner:
                _unpack(inner, folder)
        try:
            folder.rename(unpacked)
        except OSError:  # another process was quicker
            shutil.rmtree(folder)
    return next(unpacked.rglob(_APP))


def executables(version: str) -> list[Path]:
    """The main executables of the app and of its system extension."""
    bundles = [app(version), app(version) / EXTENSION]
    return [next((bundle / "Contents" / "MacOS").iterdir()) for bundle in bundles]


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Files only; `extractall(filter=...)` is not in all versions of Python 3.11."""
    for member in archive:
        target = (folder / member.name).resolve()
        assert target.is_relative_to(folder.resolve()), member.name
        if member.isfile():
            content = archive.extractfile(member)
            assert content is not None
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
