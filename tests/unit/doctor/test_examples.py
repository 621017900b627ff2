"""Before and after of each rule: well-formed, and the second without the first's fault."""

from __future__ import annotations

import plistlib
import re
import subprocess
from datetime import datetime
from typing import Any

import pytest

from network_extension.doctor.catalogue import RULES
from network_extension.doctor.claims import MISSPELT_ENTITLEMENTS
from network_extension.doctor.example import fragment, titles
from network_extension.doctor.examples import EXAMPLES
from network_extension.doctor.provider_kinds import ENTITLEMENT, POINTS, VALUES

SPECIALLY_NAMED = {"ENT008", "ENT009", "ENT025"}
IN_XML = [name for name, example in EXAMPLES.items() if example.language == "xml"]


def read(fragment: str) -> dict[str, Any]:
    found: dict[str, Any] = plistlib.loads(f'<plist version="1.0"><dict>{fragment}</dict></plist>'.encode())
    return found


def test_every_rule_has_one() -> None:
    assert list(EXAMPLES) == list(RULES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_both_are_there_and_differ(name: str) -> None:
    language, before, after, what = EXAMPLES[name]
    assert language in ("xml", "sh", "text", "swift")
    assert before.strip() and after.strip() and before != after
    assert all(len(line) <= 100 and line == line.rstrip() for line in f"{before}\n{after}".splitlines())
    assert not what.endswith(".") and len(what) <= 100


@pytest.mark.parametrize("name", IN_XML)
def test_fragments_are_parts_of_property_lists(name: str) -> None:
    before, after = read(EXAMPLES[name].before), read(EXAMPLES[name].after)
    # A comment in entitlements is a fault itself: none is shown but as that.
    assert before != after if name != "ENT026" else "<!--" in EXAMPLES[name].before
    assert "<!--" not in EXAMPLES[name].after


@pytest.mark.parametrize("name", IN_XML)
def test_what_is_mended_claims_what_apple_has(name: str) -> None:
    after = read(EXAMPLES[name].after)
    for value in after.get(ENTITLEMENT, []):
        assert value in VALUES
    assert not set(after) & set(MISSPELT_ENTITLEMENTS)
    declared = after.get("NetworkExtension", {}).get("NEProviderClasses", {})
    point = after.get("NSExtension", {}).get("NSExtensionPointIdentifier")
    assert set(declared) | ({point} if point else set()) <= set(POINTS)


@pytest.mark.parametrize("name", sorted(SPECIALLY_NAMED))
def test_the_fault_is_in_what_comes_before(name: str) -> None:
    before = read(EXAMPLES[name].before)
    values = [value for found in before.values() if isinstance(found, list) for value in found]
    assert set(values) - VALUES or set(before) & set(MISSPELT_ENTITLEMENTS)


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if example.language == "sh"])
def test_commands_are_a_shells(name: str) -> None:
    """What follows a prompt, or stands without one; output of a command is not read."""
    for text in (EXAMPLES[name].before, EXAMPLES[name].after):
        has_prompt = any(line.startswith("$ ") for line in text.splitlines())
        lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")] if has_prompt else [text]
        done = subprocess.run(["bash", "-n"], input="\n".join(lines), capture_output=True, text=True, timeout=10)
        assert done.returncode == 0, done.stderr


def test_signing_again_keeps_entitlements() -> None:
    """codesign --force without them takes them out."""
    for name, example in EXAMPLES.items():
        for text in (example.before, example.after):
            for command in text.replace("\\\n", "").splitlines():
                if "codesign" in command and "--sign" in command:
                    assert "--entitlements" in command or "--preserve-metadata=entitlements" in command, (name, command)


def test_a_fragment_is_what_plistlib_reads() -> None:
    day = datetime(2026, 1, 2)  # noqa: DTZ001 - as plistlib reads it
    values: dict[str, Any] = {"text": "a < b & c", "yes": True, "no": False, "list": ["x", {"y": []}], "empty": {}}
    assert read(fragment({**values, "day": day})) == {**values, "day": day}


def test_what_needs_no_mending_has_other_titles() -> None:
    assert titles(RULES["PKG001"]) == ("Before", "After")
    assert titles(RULES["INF007"]) == ("As it is", "What one may do")


def test_the_only_team_is_an_invented_one() -> None:
    teams = {team for example in EXAMPLES.values() for team in re.findall(r"\b[A-Z]{5}[0-9]{5}\b", "".join(example))}
    assert teams <= {"ABCDE12345", "ZYXWV98765"}
