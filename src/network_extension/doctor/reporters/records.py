"""A report as plain data, the same for JSON and for whoever reads it."""

from __future__ import annotations

from typing import Any

from ..examples import EXAMPLES
from ..report import Bundle, Finding, Report
from ..rule import Rule, Severity
from ..sources import SOURCES

__all__ = ["finding_record", "report_record", "rule_record", "rule_url"]


def rule_record(rule: Rule) -> dict[str, Any]:
    """All that is known of a rule. `sources` that have no address have an empty `url`."""
    return {
        "id": rule.id,
        "severity": rule.effective_severity.name,
        "title": rule.title,
        "cause": rule.cause,
        "fix": rule.fix,
        "grade": rule.grade.value,
        "speaker": rule.speaker,
        "line": rule.line,
        "sources": _sources(rule),
        "example": EXAMPLES[rule.id]._asdict(),
    }


def _sources(rule: Rule) -> list[dict[str, str]]:
    return [{"title": SOURCES[key][0], "url": SOURCES[key][1]} for key in rule.sources]


def rule_url(rule: Rule) -> str:
    """The first source of the rule that has an address; empty where none has."""
    return next((SOURCES[key][1] for key in rule.sources if SOURCES[key][1]), "")


def finding_record(finding: Finding) -> dict[str, Any]:
    """One finding. `severity` is the finding's, which may be less than the rule's."""
    return {
        "rule": finding.rule.id,
        "severity": finding.severity.name,
        "bundle": finding.bundle,
        "evidence": finding.evidence,
        "title": finding.rule.title,
        "cause": finding.rule.cause,
        "fix": finding.rule.fix,
        "grade": finding.rule.grade.value,
        "speaker": finding.rule.speaker,
        "line": finding.rule.line,
        "sources": _sources(finding.rule),
    }


def _bundle_record(bundle: Bundle) -> dict[str, Any]:
    return {**bundle._asdict(), "providers": list(bundle.providers)}


def report_record(report: Report) -> dict[str, Any]:
    """The whole. `counts` has every severity, from the worst."""
    return {
        "subject": report.subject,
        "worst": None if report.worst is None else report.worst.name,
        "counts": {severity.name: report.count(severity) for severity in sorted(Severity, reverse=True)},
        "bundles": [_bundle_record(bundle) for bundle in report.bundles],
        "findings": [finding_record(finding) for finding in report.findings],
        "undecided": [item._asdict() for item in report.undecided],
        "verified": list(report.verified),
        "notes": list(report.notes),
    }
