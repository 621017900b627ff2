"""Each rule fires on a build with its fault, and on nothing else; a build without a fault is let through."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from network_extension.doctor.catalogue import RULES
from network_extension.doctor.checks.registry import CHECKS
from network_extension.doctor.report import Report
from network_extension.doctor.rule import Severity

from .mutants import BASES, MUTANTS, SHOWN_BY_BASES, SHOWN_BY_REAL_APPS, Mutant


@cache
def base(name: str) -> Report:
    """What is said of a build without a fault."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "build"
        root.mkdir()
        build = BASES[name](root)
        build.finish()
        return build.examine()


def ids(report: Report) -> Counter[str]:
    return Counter(finding.rule.id for finding in report.findings)


def said(report: Report) -> str:
    return "\n".join(f"{found.rule.id} {found.bundle}: {found.evidence}" for found in report.findings)


@pytest.mark.parametrize("name", BASES)
def test_a_build_without_a_fault_has_no_errors(name: str) -> None:
    report = base(name)
    assert report.worst is None or report.worst <= Severity.INFO or set(ids(report)) & {"DEP012", "DEP011"}, said(
        report
    )
    assert not report.notes
    assert {bundle.kind for bundle in report.bundles} >= {"app"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_one_fault_is_found_and_nothing_else(mutant: Mutant, tmp_path: Path) -> None:
    root = tmp_path / "build"
    root.mkdir()
    build = BASES[mutant.base](root)
    mutant.plant(build)
    build.finish()
    report = build.examine()
    new = set(ids(report)) - set(ids(base(mutant.base)))
    assert new == {mutant.rule} | mutant.companions, said(report)
    found = [finding for finding in report.findings if finding.rule.id == mutant.rule]
    assert all(finding.evidence and finding.severity <= RULES[mutant.rule].effective_severity for finding in found)


@pytest.mark.parametrize(("rule", "name"), SHOWN_BY_BASES.items())
def test_what_is_no_fault_is_told(rule: str, name: str) -> None:
    assert rule in ids(base(name))


def test_every_rule_is_looked_for_and_shown() -> None:
    assert set(CHECKS) == set(RULES)
    shown = {mutant.rule for mutant in MUTANTS} | set(SHOWN_BY_BASES) | SHOWN_BY_REAL_APPS
    assert shown == set(RULES)
