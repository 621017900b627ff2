"""What lines of Apple's logs point to."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.doctor.catalogue import RULES
from network_extension.doctor.log_lines import LINES, explain, read_log


def rules_of(text: str) -> tuple[str, ...]:
    return tuple(name for line in explain(text) for name in line.rules)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Signature check failed: code failed to satisfy specified code requirement(s)", "PKG001"),
        ("sysextd: no policy, cannot allow apps outside /Applications", "SIG001"),
        ('Error Domain=OSSystemExtensionErrorDomain Code=4 "Extension not found in App bundle"', "PKG003"),
        ("The operation couldn't be completed. (OSSystemExtensionErrorDomain error 2.)", "ENT005"),
        ("OSSystemExtensionErrorDomain code=3", "PKG020"),
        ("OSSystemExtensionErrorDomain Code=6", "PKG018"),
        ("OSSystemExtensionErrorDomain Code=7", "INF001"),
        ("OSSystemExtensionErrorDomain Code=8", "SIG016"),
        ("extension category returned error", "INF006"),
        ("OSSystemExtensionErrorDomain Code=10", "DEP007"),
        ("bundle code signature is not valid - does not satisfy requirement: -67050", "SIG016"),
        ("Error checking with notarization daemon: 3", "SIG016"),
        ("MacOS error: -67062", "SIG001"),
        ("Disallowing com.example.app because no eligible provisioning profiles found", "PROF001"),
        ('Error Domain=AppleMobileFileIntegrityError Code=-413 "No matching profile found"', "PROF001"),
        ("com.example.app: Unsatisfied entitlements: com.apple.developer.networking.networkextension", "PROF004"),
        ("rejecting; Ignoring mis-configured plugin at [/x.appex]: plug-ins must be sandboxed", "ENT013"),
        ("com.example: invalid mach service name or is not signed, the value must be prefixed", "INF006"),
        ("package type not SYSX", "PKG005"),
        ("AMFI: Code has restricted entitlements, but the validation of its code signature failed.", "PROF001"),
        ("AMFIUnserializeXML: syntax error near line 5", "ENT026"),
    ],
)
def test_what_to_look_at_first(text: str, first: str) -> None:
    assert rules_of(text)[0] == first
    assert rules_of(text.upper())[0] == first


def test_codes_are_not_mixed_up() -> None:
    """Code 1 is nothing that is known; 10 and 13 are not 1."""
    assert explain("OSSystemExtensionErrorDomain Code=1") == []
    for code in range(2, 14):
        assert len(explain(f"OSSystemExtensionErrorDomain Code={code}")) <= 1


def test_noise_is_told_as_noise() -> None:
    (line,) = explain("Provider is not signed with a Developer ID certificate")
    assert line.rules == () and "Noise" in line.means


def test_all_rules_that_are_named_exist() -> None:
    assert all(name in RULES for line in LINES for name in line.rules)


def test_the_words_of_a_line_lead_to_it() -> None:
    for line in LINES:
        assert line in explain(line.words)


def test_a_rules_own_line_points_to_it() -> None:
    """What the catalogue says a fault writes to the log is found again, and points to the fault."""
    for rule in RULES.values():
        if rule.line:
            assert rule.id in rules_of(rule.line), rule.id


def test_a_capture_is_read_line_by_line() -> None:
    capture = ["nothing", "2026-11-23 sysextd: package type not SYSX\n", "", "pkd: plug-ins must be sandboxed\r\n"]
    found = [(line.number, line.text, line.line.rules) for line in read_log(capture)]
    assert found == [
        (2, "2026-11-23 sysextd: package type not SYSX", ("PKG005",)),
        (4, "pkd: plug-ins must be sandboxed", ("ENT013",)),
    ]


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    explain(text)


@pytest.mark.parametrize("unit", ["OSSystemExtensionErrorDomain ", "-413 ", "no policy, ", "code=", "\0"])
def test_a_long_line_costs_little(unit: str) -> None:
    began = time.process_time()
    explain(unit * 100_000)
    assert time.process_time() - began < 1
