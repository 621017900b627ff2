"""What `netext doctor` finds on this machine, as the report that it makes of bundles: the same formats show both."""

from __future__ import annotations

from collections.abc import Sequence

from ..doctor.report import Finding, Report
from ..doctor.rule import Grade, Rule, Severity
from ..linux.probes import State
from ..runtime.doctor import Check

__all__ = ["host_report"]

_SUBJECT = "this machine"


def host_report(checks: Sequence[Check]) -> Report:
    """Each check that is not all well is a finding: FATAL where nothing works without it, WARN otherwise."""
    well = [check for check in checks if check.state is State.OK]
    return Report(
        subject=_SUBJECT,
        findings=tuple(
            sorted((_finding(check) for check in checks if check.state is not State.OK), key=lambda one: -one.severity)
        ),
        verified=tuple(f"{check.name}: {check.means}" for check in well),
    )


def _finding(check: Check) -> Finding:
    severity = Severity.FATAL if check.is_fatal else Severity.WARN
    rule = Rule(check.name, severity, f"{check.name} is {check.state}", check.means, check.next_step, Grade.SEEN)
    return Finding(rule, "", str(check.state))
