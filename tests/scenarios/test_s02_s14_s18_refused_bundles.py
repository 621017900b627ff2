"""S2, S14, S18: an Apple bundle is refused, and the words that its developer sees mislead. The doctor names the cause.

Real builds (mitmproxy's code, signed anew by a fake Apple), the real command, and the lines of the log as they were
reported. No network and no privilege is needed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.doctor_builds import (
    NE,
    Build,
    anchors,
    app_extension,
    mac_build,
    mobile_build,
    provider,
)

pytestmark = pytest.mark.scenario

SIGNATURE_CHECK = "Signature check failed: code failed to satisfy specified code requirement(s)"
NO_POLICY = "no policy, cannot allow apps outside /Applications"
SUFFIX = "-systemextension"
TUNNEL = ("NEPacketTunnelProvider", "packet-tunnel-provider", "NETunnelProviderManager", "packet-tunnel")


def netext(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "network_extension", "doctor", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def trust(tmp_path: Path) -> list[str]:
    """Options that make the doctor take the fake Apple for the real one."""
    words = []
    for number, anchor in enumerate(anchors()):
        path = tmp_path / f"root-{number}.der"
        path.write_bytes(anchor.der)
        words += ["--trust-anchor", str(path)]
    return words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "built").mkdir()
    return tmp_path / "built"


def errors(build: Build, *words: str) -> list[dict[str, Any]]:
    """What the command finds to be refused."""
    done = netext(str(build.root), "--json", *words)
    found = [one for one in json.loads(done.stdout)["findings"] if one["severity"] in ("ERROR", "FATAL")]
    assert done.returncode == (1 if found else 0), done.stderr
    return found


def rules_for(line: str) -> list[str]:
    """The rules that the doctor points to for a line of the log, in their order."""
    done = netext("explain", line, "--json")
    assert done.returncode == 0
    return [rule for known in json.loads(done.stdout) for rule in known["rules"]]


def test_s02_a_tunnel_works_from_xcode_and_is_killed_after_the_export(folder: Path, trust: list[str]) -> None:
    """As Xcode's template has it: an app extension. From Xcode it runs."""
    from_xcode = app_extension(mac_build(folder, "development"), "packet-tunnel")
    provider(from_xcode, *TUNNEL)
    from_xcode.finish()
    assert errors(from_xcode, *trust) == []

    # The same archive exported for Developer ID: other certificate, other profiles, nothing else.
    shutil.rmtree(folder)
    folder.mkdir()
    exported = app_extension(mac_build(folder, "developer id"), "packet-tunnel")
    provider(exported, *TUNNEL)
    exported.finish()
    found = errors(exported, *trust)
    named = [one["rule"] for one in found]
    assert named == ["PKG002", "PKG001"]
    # The line in the log points to the same rules, and they to the way out.
    assert rules_for(SIGNATURE_CHECK)[:2] == ["PKG001", "PKG002"]
    assert found[1]["line"] == SIGNATURE_CHECK and found[1]["speaker"] == "nesessionmanager"
    assert "Contents/Library/SystemExtensions" in found[1]["fix"] and "App Store" in found[1]["fix"]

    # The way out: the same provider as a system extension.
    shutil.rmtree(folder)
    folder.mkdir()
    mended = mac_build(folder, "developer id")
    provider(mended, *TUNNEL)
    mended.finish()
    assert errors(mended, *trust) == []


def test_s14_a_dns_proxy_works_in_debug_and_not_from_testflight(folder: Path, trust: list[str]) -> None:
    build = mobile_build(folder, "app store", point="dns-proxy")
    provider(build, "NEDNSProxyProvider", "dns-proxy", "NEDNSProxyManager", "dns-proxy")
    build.finish()
    done = netext(str(build.root), *trust)
    # Nothing is wrong with the bundle; Apple's rule is about the devices.
    assert done.returncode == 0
    assert "WARN   DEP001" in done.stdout
    assert "supervision" in done.stdout and "NEDNSSettingsManager" in done.stdout
    # The plan says it before a line is written.
    plan = netext("plan", "--provider", "dns-proxy", "--platform", "ios", "--channel", "app-store")
    assert "supervised devices" in plan.stdout and "dns-settings" in plan.stdout


def _standard_value(build: Build) -> None:
    for part in build.parts:
        part.entitlements[NE] = ["content-filter-provider"]
        assert part.profile is not None
        part.profile["Entitlements"][NE] = ["content-filter-provider", f"content-filter-provider{SUFFIX}"]


def _other_name(build: Build) -> None:
    target = build.extension.folder.with_name("FilterData.systemextension")
    build.extension.folder.rename(target)
    build.extension.folder = target


def _not_notarised(build: Build) -> None:
    build.has_ticket = False


def _not_signed(build: Build) -> None:
    build.signed = build.has_ticket = False


@pytest.mark.parametrize(
    ("cause", "rule"),
    [
        (_standard_value, "ENT001"),
        (_other_name, "PKG004"),
        (_not_notarised, "SIG016"),
        (_not_signed, "SIG001"),
    ],
)
def test_s18_no_policy_although_it_is_in_applications(
    cause: Callable[[Build], None], rule: str, folder: Path, trust: list[str]
) -> None:
    """One line of the log, four causes: each is told from the others."""
    build = mac_build(folder)
    provider(build, "NEFilterDataProvider", "content-filter-provider", "NEFilterManager", "filter-data")
    cause(build)
    build.finish()
    assert {one["rule"] for one in errors(build, *trust)} == {rule}
    assert rule in rules_for(NO_POLICY)


def test_s18_a_correct_build_is_told_what_else_it_may_be(folder: Path, trust: list[str]) -> None:
    build = mac_build(folder)
    build.finish()
    done = netext(str(build.root), *trust)
    assert done.returncode == 0 and "DEP008" in done.stdout
    assert "mdfind" in done.stdout and "systemextensionsctl list" in done.stdout


def test_a_capture_leads_to_the_finding(folder: Path, trust: list[str], tmp_path: Path) -> None:
    """From the Mac's log to the rule, from the rule to the bundle."""
    capture = tmp_path / "capture.log"
    capture.write_text(
        "2026-11-20 10:00:00 sysextd: attempting to realize extension\n"
        "2026-11-20 10:00:00 sysextd: MacOS error: -67062\n"
        f"2026-11-20 10:00:01 sysextd: {NO_POLICY}\n"
    )
    done = netext("logs", str(capture), "--json")
    rules = json.loads(done.stdout)["rules"]
    assert rules[0] == "SIG001"
    build = mac_build(folder)
    _not_signed(build)
    build.finish()
    assert {one["rule"] for one in errors(build, *trust)} == {rules[0]}
