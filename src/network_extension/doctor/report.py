"""What an examination says, apart from how it is shown: of a bundle, or of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .rule import Grade, Rule, Severity

__all__ = ["Bundle", "Finding", "Report", "Undecided", "joined"]


class Finding(NamedTuple):
    """One fault, at one place."""

    rule: Rule
    bundle: str
    """The path of the bundle, or of the file, that has it, below what was examined; "" for the whole."""
    evidence: str
    """The value that shows it, in words for a reader."""
    level: Severity | None = None
    """Instead of the rule's own severity."""

    @property
    def severity(self) -> Severity:
        """How bad this finding is. What is known from experience alone warns at most."""
        level = self.rule.effective_severity if self.level is None else self.level
        return min(level, Severity.WARN) if self.rule.grade is Grade.EXPERIENCE else level


class Bundle(NamedTuple):
    """What was looked at, for the head of a report. A field that is not known is empty."""

    path: str
    """Below what was examined; "" when it is that itself."""
    kind: str
    """"app", "app extension", "system extension"."""
    identifier: str
    version: str
    """CFBundleShortVersionString and CFBundleVersion: "2.0 (1)"."""
    platform: str
    channel: str
    team: str
    providers: tuple[str, ...] = ()
    """Names of `provider_kinds`."""


class Undecided(NamedTuple):
    """What no file can tell, and the command that tells it on a Mac."""

    question: str
    command: str
    """For a shell; may have more than one line. Empty where no command tells it."""


@dataclass(frozen=True)
class Report:
    """All that an examination has found."""

    subject: str
    """What was examined, as the user named it."""
    bundles: tuple[Bundle, ...] = ()
    findings: tuple[Finding, ...] = ()
    """The worst first; within one severity in the catalogue's order."""
    undecided: tuple[Undecided, ...] = ()
    verified: tuple[str, ...] = ()
    """Sentences about what was looked at and holds."""
    notes: tuple[str, ...] = ()
    """Sentences about the whole: "no Network Extension here"."""

    @property
    def worst(self) -> Severity | None:
        """The severity of the worst finding; None without any."""
        return max((finding.severity for finding in self.findings), default=None)

    def count(self, severity: Severity) -> int:
        """How many findings have this severity."""
        return sum(finding.severity is severity for finding in self.findings)


def joined(reports: Sequence[Report]) -> Report:
    """One report of several paths: what was below a path is named with it."""

    def below(subject: str, path: str) -> str:
        # A file that is examined by itself has its own name for a path.
        is_itself = not path or subject == path or subject.endswith(f"/{path}")
        return subject if is_itself else f"{subject}/{path}"

    findings = [one._replace(bundle=below(report.subject, one.bundle)) for report in reports for one in report.findings]
    return Report(
        subject="",
        bundles=tuple(
            one._replace(path=below(report.subject, one.path)) for report in reports for one in report.bundles
        ),
        findings=tuple(sorted(findings, key=lambda one: -one.severity)),
        undecided=tuple(dict.fromkeys(one for report in reports for one in report.undecided)),
        verified=tuple(f"{report.subject}: {said}" for report in reports for said in report.verified),
        notes=tuple(f"{report.subject}: {said}" for report in reports for said in report.notes),
    )
