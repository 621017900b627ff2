"""Other people's programs read the same of the same files."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.bundles import find_bundles
from network_extension.doctor.property_list import read_property_list
from network_extension.doctor.signed_code import read_signed_code
from tests.doctor_code_directory import slices

from .corpus import CORPUS, VERSIONS, app, executables

_MACHO_ENTITLEMENTS = "macho-entitlements"
_SCRIPT = 'process.stdout.write(require("macho-entitlements").parseFile(process.argv[1]).toString())'


@cache
def node_modules() -> Path:
    """A folder with npm's macho-entitlements. Skips where npm or its registry is not there."""
    folder = CORPUS / "node"
    if (folder / "node_modules" / _MACHO_ENTITLEMENTS).is_dir():
        return folder
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm is not installed")
    CORPUS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CORPUS) as made:
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", made]
        try:
            subprocess.run([*command, _MACHO_ENTITLEMENTS], check=True, capture_output=True, timeout=45)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"npm's {_MACHO_ENTITLEMENTS} cannot be had: {error}")
        shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("bundle", [0, 1])
def test_macho_entitlements_agrees(version: str, bundle: int, tmp_path: Path) -> None:
    """It reads thin files."""
    folder = node_modules()
    path = executables(version)[bundle]
    data = path.read_bytes()
    code = read_signed_code(BundleFiles.of_file(path), path.name)
    assert code is not None
    for place, ours in zip(slices(data), code.slices, strict=True):
        thin = tmp_path / f"thin-{place.offset}"
        thin.write_bytes(data[place.offset : place.offset + place.size])
        done = subprocess.run(
            ["node", "-e", _SCRIPT, str(thin)], cwd=folder, capture_output=True, text=True, timeout=30, check=True
        )
        assert plistlib.loads(done.stdout.encode()) == dict(ours.entitlements)


@pytest.mark.parametrize("version", VERSIONS)
def test_plistutil_agrees(version: str, tmp_path: Path) -> None:
    """libplist's, from Debian's libplist-utils."""
    if shutil.which("plistutil") is None:
        pytest.skip("plistutil (libplist-utils) is not installed")
    for bundle in find_bundles(BundleFiles(app(version))):
        source, made = tmp_path / "in.plist", tmp_path / "out.plist"
        source.write_bytes(bundle.information_bytes or b"")
        command = ["plistutil", "-i", str(source), "-o", str(made)]  # the other form than the one that it reads
        subprocess.run(command, capture_output=True, timeout=20, check=True)
        assert made.read_bytes().startswith(b"bplist00")
        assert read_property_list(made.read_bytes()) == bundle.information


def test_the_certificate_chain_is_what_openssl_makes_of_it(tmp_path: Path) -> None:
    """`openssl cms -verify` against the readers is in test_cms; here the whole chain, by `openssl verify`."""
    code = find_bundles(BundleFiles(app("0.12.15")))[0].code
    assert code is not None and code.main.cms is not None and code.main.cms.chain is not None
    names = []
    for number, certificate in enumerate(code.main.cms.chain.certificates):
        (tmp_path / f"{number}.der").write_bytes(certificate.der)
        _openssl("x509", "-inform", "der", "-in", f"{number}.der", "-out", f"{number}.pem", at=tmp_path)
        names.append(f"{number}.pem")
    leaf, intermediate, root = names
    moment = str(int((code.main.cms.proven_time or code.main.cms.signing_time).timestamp()))  # type: ignore[union-attr]
    said = _openssl(
        "verify", "-CAfile", root, "-untrusted", intermediate, "-attime", moment, "-ignore_critical", leaf, at=tmp_path
    )
    assert said.strip() == f"{leaf}: OK"


def _openssl(*words: str, at: Path) -> str:
    environment = {**os.environ, "OPENSSL_CONF": os.devnull}
    done = subprocess.run(
        ["openssl", *words], cwd=at, capture_output=True, text=True, timeout=20, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_these_are_other_peoples_programs() -> None:
    """What is compared here was not built from this package."""
    for name in ("openssl", "node"):
        found = shutil.which(name)
        assert found is None or not Path(found).resolve().is_relative_to(Path(sys.prefix))
