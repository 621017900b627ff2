"""SARIF 2.1.0 (OASIS), as code scanning reads it."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from ... import __version__
from ..report import Finding, Report
from ..rule import Rule, Severity
from .records import rule_url
from .shown_text import shown

__all__ = ["sarif"]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Severity.FATAL: "error", Severity.ERROR: "error", Severity.WARN: "warning", Severity.INFO: "note"}
_SECURITY = "networkextension"


def sarif(report: Report) -> str:
    """One run, with the rules that were broken, and a result for each finding."""
    rules = list(dict.fromkeys(finding.rule for finding in report.findings))
    run = {
        "tool": {
            "driver": {
                "name": "netext doctor",
                "semanticVersion": __version__,
                "rules": [_rule(rule) for rule in rules],
            }
        },
        "results": [_result(finding, rules.index(finding.rule), report.subject) for finding in report.findings],
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {"level": "note", "message": {"text": shown(one)}} for one in report.notes
                ],
            }
        ],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(rule: Rule) -> dict[str, Any]:
    said = f"{rule.cause}\n\n{rule.fix}".strip()
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.cause},
        "help": {"text": said, "markdown": f"{rule.cause}\n\n**What to do:** {rule.fix or 'nothing.'}"},
        **({"helpUri": rule_url(rule)} if rule_url(rule) else {}),
        "defaultConfiguration": {"level": _LEVELS[rule.effective_severity]},
        "properties": {"tags": [_SECURITY, rule.family], "grade": rule.grade.value},
    }


def _result(finding: Finding, index: int, subject: str) -> dict[str, Any]:
    path = "/".join(part for part in (_relative(subject), finding.bundle) if part)
    message = f"{finding.rule.title}: {shown(finding.evidence)}"
    identity = repr((finding.rule.id, finding.bundle, finding.evidence)).encode()
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": message},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(path)}}}],
        "partialFingerprints": {"finding/v1": hashlib.sha256(identity).hexdigest()[:32]},
    }


def _relative(subject: str) -> str:
    """A path from the repository's root on, which is what code scanning takes; of an absolute one its last part."""
    parts = [part for part in subject.split("/") if part not in ("", ".", "..")]
    return "/".join(parts[-1:] if subject.startswith("/") else parts)


def _uri(path: str) -> str:
    try:
        raw = path.encode("utf-8", "surrogateescape")  # a name that is no UTF-8, as the file system has it
    except UnicodeEncodeError:
        raw = path.encode("utf-8", "replace")
    return quote(raw, safe="/")
