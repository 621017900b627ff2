"""JUnit's XML, as CI servers read it: test cases for findings, for what holds, and for rules that found nothing."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ..report import Finding, Report
from ..rule import FAMILIES, Severity
from .shown_text import shown

__all__ = ["junit"]

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write."""


def junit(report: Report) -> str:
    """FATAL and ERROR are failures; WARN and INFO are passed, with what was found as their output."""
    failures = sum(finding.severity >= Severity.ERROR for finding in report.findings)
    quiet = [
        family
        for family in FAMILIES
        if report.bundles and all(finding.rule.family != family for finding in report.findings)
    ]
    suite = Element(
        "testsuite",
        name=f"netext doctor {_clean(report.subject)}",
        tests=str(len(report.findings) + len(report.verified) + len(quiet)),
        failures=str(failures),
        errors="0",
    )
    for said in report.verified:
        SubElement(suite, "testcase", classname="netext.doctor", name=_clean(said))
    for family in quiet:
        SubElement(suite, "testcase", classname="netext.doctor", name=f"{family}: {FAMILIES[family]}")
    for finding in report.findings:
        _case(suite, finding)
    if report.notes:
        SubElement(suite, "system-out").text = "\n".join(_clean(note) for note in report.notes)
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode")


def _case(suite: Element, finding: Finding) -> None:
    rule = finding.rule
    name = f"{rule.id} {_clean(finding.bundle)}".strip()
    case = SubElement(suite, "testcase", classname=f"netext.doctor.{rule.family}", name=name)
    said = f"{_clean(finding.evidence)}\n{rule.cause}\n{rule.fix}".strip()
    if finding.severity >= Severity.ERROR:
        SubElement(case, "failure", type=finding.severity.name, message=rule.title).text = said
    else:
        SubElement(case, "system-out").text = f"{finding.severity.name}: {rule.title}\n{said}"


def _clean(words: str) -> str:
    return _FORBIDDEN.sub("?", shown(words))
