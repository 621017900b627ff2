"""For a terminal: what was looked at, what will be refused and why, what to do, and what nobody can tell from here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ..report import Bundle, Finding, Report
from ..rule import Severity
from ..sources import SOURCES
from .shown_text import shown

__all__ = ["text"]

_WIDTH = 118
_COLOURS = {Severity.FATAL: "1;31", Severity.ERROR: "31", Severity.WARN: "33", Severity.INFO: "36"}
_INDENT = " " * 7


def text(report: Report, width: int = _WIDTH, colour: bool = False) -> str:
    """The report in lines of at most `width` columns, save for commands, which are there to be copied. `colour` is for
    terminals.
    """
    parts = [_head(report, width)]
    for level in (Severity.FATAL, Severity.ERROR, Severity.WARN):
        parts += [_finding(same, width, colour) for same in _alike(report, level)]
    parts.append(_worth_knowing(report, width, colour))
    if report.bundles or report.findings:
        parts.append(_verdict(report))
    if report.undecided:
        parts.append("\n".join(["What no file can tell; on the Mac:", *_undecided(report)]))
    return "\n\n".join(part for part in parts if part)


def _head(report: Report, width: int) -> str:
    lines = [_bundle(bundle, report.subject) for bundle in report.bundles]
    lines += [_wrapped(shown(note), width, "") for note in (*report.verified, *report.notes)]
    return "\n".join(lines)


def _bundle(bundle: Bundle, subject: str) -> str:
    name = bundle.path or subject
    known = (bundle.identifier, bundle.version, bundle.platform, bundle.channel, bundle.team and f"team {bundle.team}")
    providers = f": {', '.join(bundle.providers)}" if bundle.providers else ""
    return f"{bundle.kind} {shown(name)}{shown(providers)}\n  {shown(', '.join(one for one in known if one))}"


def _worth_knowing(report: Report, width: int, colour: bool) -> str:
    """What is only worth knowing, in two lines each, and once where it is the same for several bundles."""
    told: dict[tuple[str, str], str] = {}
    for found in report.findings:
        if found.severity is Severity.INFO:
            told[found.rule.id, found.evidence] = found.rule.title
    lines: list[str] = []
    for (name, evidence), title in told.items():
        lines.append(f"{_level(Severity.INFO, colour)} {name:7} {title}")
        lines.append(_wrapped(shown(evidence), width, " " * 15))
    return "\n".join([*lines, "       netext doctor rules ID says more of one."]) if lines else ""


def _level(severity: Severity, colour: bool) -> str:
    name = f"{severity.name:6}"
    return f"\x1b[{_COLOURS[severity]}m{name}\x1b[0m" if colour else name


def _alike(report: Report, level: Severity) -> list[list[Finding]]:
    """What is found alike in several bundles, together: app and extension mostly share a fault."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for found in report.findings:
        if found.severity is level:
            groups.setdefault((found.rule.id, found.evidence), []).append(found)
    return list(groups.values())


def _finding(same: list[Finding], width: int, colour: bool) -> str:
    found = same[0]
    rule = found.rule
    lines = [f"{_level(found.severity, colour)} {rule.id:7} {rule.title}"]
    lines += [_wrapped(shown(one.bundle), width) for one in same if one.bundle]
    lines += [_wrapped(shown(found.evidence), width), _wrapped(rule.cause, width)]
    if rule.fix:
        lines.append(_wrapped(f"→ {rule.fix}", width))
    if found.severity >= Severity.ERROR:
        if rule.line:
            lines.append(_wrapped(f"{rule.speaker or 'the log'} says: {rule.line}", width))
        lines += [f"{_INDENT}{SOURCES[key][1]}" for key in rule.sources if SOURCES[key][1]]
    return "\n".join(lines)


def _wrapped(words: str, width: int, indent: str = _INDENT) -> str:
    return textwrap.fill(
        words, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _verdict(report: Report) -> str:
    counts = [f"{report.count(level)} {level.name}" for level in sorted(Severity, reverse=True) if report.count(level)]
    if report.worst is None or report.worst < Severity.WARN:
        said = "Nothing here will be refused, as far as files tell."
    elif report.worst is Severity.WARN:
        said = "Nothing here is sure to be refused; some of it may fail."
    else:
        said = "This will be refused."
    return f"{said} ({', '.join(counts)})" if counts else said


def _undecided(report: Report) -> Iterator[str]:
    for item in report.undecided:
        yield f"  {shown(item.question)}"
        yield from (f"    {shown(line)}" for line in item.command.splitlines())
