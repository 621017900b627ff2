"""Markdown, for a comment on a change or a job's summary."""

from __future__ import annotations

import re

from ..report import Report
from ..rule import Severity
from .records import rule_url
from .shown_text import shown

__all__ = ["markdown"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~@&])")


def markdown(report: Report) -> str:
    """A heading, a table of the findings, and what to do about the errors."""
    lines = [f"### netext doctor: {_plain(report.subject)}", ""]
    for bundle in report.bundles:
        known = [bundle.identifier, bundle.version, bundle.platform, bundle.channel, *bundle.providers]
        lines.append(f"- {bundle.kind}: {_plain(', '.join(one for one in known if one))}")
    lines += [f"- {_plain(note)}" for note in (*report.verified, *report.notes)]
    if report.findings:
        lines += ["", "| | rule | found | in |", "|---|---|---|---|"]
    for finding in report.findings:
        address = rule_url(finding.rule)
        name = f"[{finding.rule.id}]({address})" if address else finding.rule.id
        rule = f"{name} {_plain(finding.rule.title)}"
        lines.append(f"| {finding.severity.name} | {rule} | {_plain(finding.evidence)} | {_plain(finding.bundle)} |")
    errors = {
        found.rule.id: found.rule for found in report.findings if found.severity >= Severity.ERROR and found.rule.fix
    }
    if errors:
        lines += ["", "What to do:", ""]
        lines += [f"- {name}: {_plain(rule.fix)}" for name, rule in errors.items()]
    return "\n".join(lines) + "\n"


def _plain(words: str) -> str:
    """Nothing in it is markup, a link, or a mention."""
    return _SPECIAL.sub(r"\\\1", shown(words))
