"""`netext doctor PATH`: what it prints, what it ends with, and what it says of paths that are none."""

from __future__ import annotations

import json
import plistlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from network_extension.cli.main import main
from tests.doctor_builds import INSTALL, Build, anchors, mac_build
from tests.unit.doctor.corpus import VERSIONS, app, wheel


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Without errors but one: the app may not install its extension."""
    (tmp_path / "build").mkdir()
    made = mac_build(tmp_path / "build")
    del made.app.entitlements[INSTALL]
    made.finish()
    return made


@pytest.fixture
def roots(tmp_path: Path) -> list[str]:
    """The options that make the doctor trust the build's authorities."""
    options = []
    for number, anchor in enumerate(anchors()):
        (tmp_path / f"root{number}.der").write_bytes(anchor.der)
        options += ["--trust-anchor", str(tmp_path / f"root{number}.der")]
    return options


@pytest.mark.parametrize("version", VERSIONS)
def test_real_apps_are_let_through(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(app(version))]) == 0
    said = capsys.readouterr().out
    assert "Nothing here will be refused" in said
    assert "under Apple Root CA; notarised 202" in said
    assert "xcrun stapler validate '/Applications/Mitmproxy Redirector.app'" in said


@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheels_themselves(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(wheel(version)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in found["bundles"]] == ["app", "system extension"]
    assert found["worst"] == "INFO"


def test_what_is_refused_makes_the_status_one(
    build: Build, roots: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(build.root / "Example.app")
    assert main(["doctor", path, *roots]) == 1
    said = capsys.readouterr().out
    assert "ERROR  ENT005" in said and "This will be refused. (1 ERROR" in said
    assert "OSSystemExtensionErrorDomain code=2" in said
    assert main(["doctor", path, *roots, "--fail-on", "fatal"]) == 0
    assert main(["doctor", path, *roots, "--fail-on", "never"]) == 0
    assert main(["doctor", path]) == 1
    assert "SIG009" in capsys.readouterr().out


def test_fail_on_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(app("0.12.15")), "--fail-on", "info"]) == 1
    assert main(["doctor", str(app("0.12.15")), "--fail-on", "warn"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("form", ["json", "sarif", "junit", "markdown", "text"])
def test_every_format_to_a_file(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out"
    assert main(["doctor", str(app("0.12.15")), "--format", form, "-o", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert "PKG021" in target.read_text()


def test_the_previous_build(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(app("0.12.15")), "--previous", str(app("0.11.5")), "--fail-on", "warn"]) == 1
    assert "WARN   PKG022" in capsys.readouterr().out


def test_a_previous_build_without_an_extension(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(app("0.12.15")), "--previous", str(tmp_path)]) == 78
    assert "no Network Extension in it to compare with" in capsys.readouterr().err


def test_the_channel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(app("0.12.15")), "--channel", "app-store"]) == 1
    assert "ENT002" in capsys.readouterr().out


def test_a_device(tmp_path: Path, roots: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "build").mkdir()
    made = mac_build(tmp_path / "build", "development")
    made.finish()
    path = str(made.root)
    assert main(["doctor", path, *roots, "--udid", "00008103-000000000000001E", "--fail-on", "warn"]) == 0
    assert main(["doctor", path, *roots, "--udid", "ANOTHER", "--fail-on", "warn"]) == 1
    assert "ANOTHER is not in the profile" in capsys.readouterr().out


def test_trust_anchors_in_pem(build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.doctor_builds import developer_id_authority, store_authority, ticket_authority

    authorities = (developer_id_authority(), store_authority(), ticket_authority())
    pem = b"".join(one.root.certificate.public_bytes(Encoding.PEM) for one in authorities)
    (tmp_path / "roots.pem").write_bytes(pem)
    assert main(["doctor", str(build.root), "--trust-anchor", str(tmp_path / "roots.pem"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["rule"] for one in found["findings"] if one["severity"] == "ERROR"] == ["ENT005"]


def test_a_zip_of_a_build(build: Build, roots: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "build.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for path in build.root.rglob("*"):
            archive.write(path, path.relative_to(build.root))
    assert main(["doctor", str(target), *roots, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["rule"] for one in found["findings"] if one["severity"] == "ERROR"] == ["ENT005"]


def test_apps_without_an_extension(capsys: pytest.CaptureFixture[str]) -> None:
    other = app("0.3.0").parent / "macos-certificate-truster.app"
    assert main(["doctor", str(other)]) == 0
    assert "no Network Extension here: macos-certificate-truster.app" in capsys.readouterr().out


def test_a_program_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    code = next((app("0.12.15") / "Contents" / "MacOS").iterdir())
    assert main(["doctor", str(code)]) == 0
    assert "is a program by itself" in capsys.readouterr().out


def test_entitlements_of_the_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "com.apple.developer.networking.networkextension"
    (tmp_path / "App.entitlements").write_bytes(plistlib.dumps({key: "packet-tunnel-provider"}))
    assert main(["doctor", str(tmp_path / "App.entitlements")]) == 1
    assert "ENT010" in capsys.readouterr().out


def test_information_of_the_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"NSExtension": {"NSExtensionPointIdentifier": "com.apple.networkextension.packettunnel"}}
    (tmp_path / "Tunnel-Info.plist").write_bytes(plistlib.dumps(values))
    assert main(["doctor", str(tmp_path / "Tunnel-Info.plist")]) == 1
    assert "FATAL  INF011" in capsys.readouterr().out
    assert main(["doctor", str(app("0.12.15") / "Contents" / "Info.plist")]) == 0


def test_a_profile_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = app("0.12.15") / "Contents" / "embedded.provisionprofile"
    assert main(["doctor", str(profile)]) == 0
    said = capsys.readouterr().out
    assert "for developer id on OSX, team S8XHQB96PW, until 2041-08-17" in said
    assert "for the App ID S8XHQB96PW.org.mitmproxy.macos-redirector" in said
    assert "dns-proxy-systemextension" in said
    changed = tmp_path / "changed.provisionprofile"
    changed.write_bytes(profile.read_bytes().replace(b"<true/>", b"<false/>", 1))
    assert main(["doctor", str(changed)]) == 1
    assert "FATAL  PROF002" in capsys.readouterr().out
    changed.write_bytes(b"no profile")
    assert main(["doctor", str(changed)]) == 1
    assert "FATAL  PROF002" in capsys.readouterr().out
    assert main(["doctor", str(tmp_path / "missing.mobileprovision")]) == 78
    assert "No such file" in capsys.readouterr().err


def test_several_paths_make_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "com.apple.developer.networking.networkextension"
    for name, value in (("a", "packet-tunnel-provider"), ("b", True), ("c", ["packet-tunnel-provider"])):
        (tmp_path / f"{name}.entitlements").write_bytes(plistlib.dumps({key: value}))
    paths = [str(tmp_path / f"{name}.entitlements") for name in "abc"]
    assert main(["doctor", *paths, str(app("0.12.15")), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["bundle"] for one in found["findings"] if one["rule"] == "ENT010"] == paths[:2]
    assert found["bundles"][0]["path"] == str(app("0.12.15"))
    assert found["bundles"][1]["path"].startswith(str(app("0.12.15") / "Contents"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.app", "No such file"),
        ("notes.txt", "no app, no archive and no installer package"),
    ],
)
def test_paths_that_cannot_be_examined(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"text\n")
    assert main(["doctor", str(tmp_path / name)]) == 78
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1


def test_a_bad_trust_anchor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").write_bytes(b"no certificate")
    assert main(["doctor", str(app("0.12.15")), "--trust-anchor", str(tmp_path / "root")]) == 78
    assert "name a certificate in PEM or DER" in capsys.readouterr().err


def test_a_bad_option_is_the_command_lines_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "X.app", "--channel", "carrier-pigeon"])
    assert ended.value.code == 64
    assert "developer-id" in capsys.readouterr().err


def test_an_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(app("0.12.15")), "-o", str(tmp_path / "none" / "out")]) == 78
    assert "name a file that can be written" in capsys.readouterr().err


def test_help_names_the_formats_and_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "X.app", "--help"])
    said = capsys.readouterr().out
    assert "sarif" in said and "Exit status" in said and re.search(r"--fail-on", said)


def test_it_needs_nothing_of_linux() -> None:
    """A Mac in CI, say: neither the datapath nor modules that only some systems have may be imported."""
    code = (
        "import sys\n"
        "class Elsewhere:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith(('network_extension.linux', 'network_extension.runtime', 'fcntl', 'resource')):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Elsewhere())\n"
        "from network_extension.cli.main import main\n"
        "words = [sys.argv[1:], ['rules'], ['explain', '-67062']]\n"
        "sys.exit(max(main(['doctor', *rest]) for rest in words))"
    )
    command = [sys.executable, "-c", code, str(app("0.12.15")), str(wheel("0.12.15"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_without_its_packages_it_says_what_to_install(tmp_path: Path) -> None:
    """asn1crypto is hidden from a process of its own."""
    code = (
        "import sys; sys.modules['asn1crypto'] = None\n"
        "from network_extension.cli.main import main\n"
        "sys.exit(main(['doctor', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 69
    assert "pip install 'network-extension[doctor]'" in done.stderr
