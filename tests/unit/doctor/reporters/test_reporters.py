"""Every format of a report: what it holds, and that nothing from a bundle gets out of its place."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.doctor.catalogue import RULES
from network_extension.doctor.report import Bundle, Finding, Report, Undecided
from network_extension.doctor.reporters import REPORTERS
from network_extension.doctor.reporters.shown_text import LONGEST, shown
from network_extension.doctor.reporters.text import text
from network_extension.doctor.rule import FAMILIES, Severity

APP = "Example.app"
EXTENSION = "Example.app/Contents/PlugIns/P Ä.appex"
FINDINGS = (
    Finding(RULES["PKG002"], EXTENSION, "claims packet-tunnel-provider-systemextension"),
    Finding(RULES["PKG001"], EXTENSION, "an app extension, signed with Developer ID"),
    Finding(RULES["SIG018"], APP, "ran out"),
    Finding(RULES["INF009"], APP, "empty", Severity.WARN),
    Finding(RULES["PKG021"], APP, "org.example"),
)
REPORT = Report(
    subject="build/Example.app",
    bundles=(Bundle("", "app", "org.example", "1.0 (1)", "macos", "developer-id", "ABCDE12345", ("packet-tunnel",)),),
    findings=FINDINGS,
    undecided=(Undecided("Whether it is approved", "systemextensionsctl list"), Undecided("Whether it is managed", "")),
    verified=("every hash holds",),
    notes=("left out: a link",),
)
NASTY = st.text(
    st.characters() | st.sampled_from("\x1b\x00\n\r\u202e\u2066\ufeff\u2028|`*[]()<>&\"'\\@#"), min_size=1, max_size=60
)


def nasty_report(words: str) -> Report:
    return Report(
        subject=words,
        bundles=(Bundle(words, "app", words, words, words, words, words, (words,)),),
        findings=tuple(Finding(RULES[name], words, words) for name in ("PKG001", "SIG018", "PKG021")),
        undecided=(Undecided(words, "command"),),
        verified=(words,),
        notes=(words,),
    )


def test_json_holds_all_of_it() -> None:
    found = json.loads(REPORTERS["json"](REPORT))
    assert found["subject"] == "build/Example.app" and found["worst"] == "FATAL"
    assert found["counts"] == {"FATAL": 1, "ERROR": 1, "WARN": 2, "INFO": 1}
    assert [one["rule"] for one in found["findings"]] == ["PKG002", "PKG001", "SIG018", "INF009", "PKG021"]
    first = found["findings"][0]
    assert set(first) == {
        "rule", "severity", "bundle", "evidence", "title", "cause", "fix", "grade", "speaker", "line", "sources",
    }  # fmt: skip
    assert first["bundle"] == EXTENSION and first["sources"][0]["url"].startswith("https://developer.apple.com/")
    assert found["bundles"][0]["providers"] == ["packet-tunnel"]
    assert found["undecided"][0] == {"question": "Whether it is approved", "command": "systemextensionsctl list"}
    assert found["verified"] == ["every hash holds"] and found["notes"] == ["left out: a link"]


def test_json_of_nothing() -> None:
    found = json.loads(REPORTERS["json"](Report("x", notes=("no Network Extension here",))))
    assert found["worst"] is None and found["findings"] == [] and found["bundles"] == []


def test_text_says_what_why_and_what_to_do() -> None:
    said = text(REPORT)
    assert "FATAL  PKG002" in said and RULES["PKG002"].cause[:40] in said
    assert "→ Take the suffix off" in said
    assert "nesessionmanager says: Signature check failed" in said
    assert "This will be refused. (1 FATAL, 1 ERROR, 2 WARN, 1 INFO)" in said
    assert "    systemextensionsctl list" in said.splitlines()
    assert (
        said.index("FATAL  PKG002")
        < said.index("ERROR  PKG001")
        < said.index("WARN   SIG018")
        < said.index("INFO   PKG021")
    )
    assert "\x1b" not in said
    assert max(len(line) for line in said.splitlines() if "https://" not in line) <= 118


def test_text_in_colour() -> None:
    said = text(REPORT, colour=True)
    assert "\x1b[1;31mFATAL \x1b[0m" in said
    assert re.sub(r"\x1b\[[0-9;]*m", "", said) == text(REPORT)


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        (FINDINGS, "This will be refused."),
        (FINDINGS[2:], "Nothing here is sure to be refused; some of it may fail."),
        (FINDINGS[4:], "Nothing here will be refused, as far as files tell."),
        ((), "Nothing here will be refused, as far as files tell."),
    ],
)
def test_the_verdict(findings: tuple[Finding, ...], verdict: str) -> None:
    assert verdict in text(Report("x", REPORT.bundles, findings))


def test_sarif_has_the_shape_that_code_scanning_takes() -> None:
    found = json.loads(REPORTERS["sarif"](REPORT))
    assert found["version"] == "2.1.0" and "sarif-schema-2.1.0" in found["$schema"]
    (run,) = found["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["PKG002", "PKG001", "SIG018", "INF009", "PKG021"]
    results = run["results"]
    assert [one["level"] for one in results] == ["error", "error", "warning", "warning", "note"]
    assert all(rules[one["ruleIndex"]]["id"] == one["ruleId"] for one in results)
    place = results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "build/Example.app/Example.app/Contents/PlugIns/P%20%C3%84.appex"
    prints = [one["partialFingerprints"]["finding/v1"] for one in results]
    assert len(set(prints)) == len(prints)
    again = json.loads(REPORTERS["sarif"](REPORT))["runs"][0]["results"]
    assert [one["partialFingerprints"]["finding/v1"] for one in again] == prints


def test_sarif_of_an_absolute_path_has_no_absolute_uri() -> None:
    report = Report("/home/me/Example.app", findings=FINDINGS)
    for one in json.loads(REPORTERS["sarif"](report))["runs"][0]["results"]:
        uri = one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert uri.startswith("Example.app/") and ":" not in uri


def test_junit_counts_failures() -> None:
    suite = ElementTree.fromstring(REPORTERS["junit"](REPORT).split("\n", 1)[1])
    cases = suite.findall("testcase")
    assert suite.attrib["tests"] == str(len(cases)) and suite.attrib["failures"] == "2"
    assert len(suite.findall("testcase/failure")) == 2
    quiet = set(FAMILIES) - {finding.rule.family for finding in FINDINGS}
    assert {case.attrib["name"].split(":")[0] for case in cases if ":" in case.attrib["name"]} == quiet
    assert "every hash holds" in {case.attrib["name"] for case in cases}
    assert "→" not in suite.findall("testcase/failure")[0].attrib["message"]


def test_markdown_is_a_table() -> None:
    said = REPORTERS["markdown"](REPORT)
    rows = [line for line in said.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    assert len(rows) == len(FINDINGS) and all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    assert "[PKG001](https://developer.apple.com/" in said
    assert "- PKG002: Take the suffix off" in said


@pytest.mark.parametrize("name", REPORTERS)
def test_a_report_of_nothing(name: str) -> None:
    assert "no Network Extension here" in REPORTERS[name](Report("x", notes=("no Network Extension here",)))


@given(words=NASTY)
@settings(max_examples=150, deadline=None)
def test_nothing_hidden_reaches_a_terminal(words: str) -> None:
    for name in ("text", "markdown", "junit"):
        said = REPORTERS[name](nasty_report(words))
        hidden = [one for one in said if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") and one != "\n"]
        assert hidden == [], (name, hidden)


@given(words=NASTY)
@settings(max_examples=150, deadline=None)
def test_what_programs_read_stays_well_formed(words: str) -> None:
    report = nasty_report(words)
    assert json.loads(REPORTERS["json"](report))["findings"][0]["evidence"] == words
    found: dict[str, Any] = json.loads(REPORTERS["sarif"](report))
    for one in found["runs"][0]["results"]:
        uri = one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9._~/%-]*", uri)
    suite = ElementTree.fromstring(REPORTERS["junit"](report).split("\n", 1)[1])
    assert len(suite.findall("testcase")) == int(suite.attrib["tests"])
    rows = [line for line in REPORTERS["markdown"](report).splitlines() if re.match(r"\| (ERROR|WARN|INFO)", line)]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 5 for row in rows)


@given(words=NASTY)
def test_shown_text_is_one_line(words: str) -> None:
    assert len(shown(words).splitlines()) <= 1
    assert shown("plain, Äpfel 東京 🙂") == "plain, Äpfel 東京 🙂"


def test_shown_text_is_bounded() -> None:
    assert len(shown("a" * 100_000)) == LONGEST + 1
    assert shown("\x1b[31mred\u202e") == "\\u001b[31mred\\u202e"
