"""What a rule of the doctor is: which fault it names, who refuses a bundle for it, and what to do."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple


class Severity(IntEnum):
    """How bad it is."""

    INFO = 1
    """Worth knowing."""
    WARN = 2
    """May fail, somewhere or some day."""
    ERROR = 3
    """Refused on this channel and platform."""
    FATAL = 4
    """Refused everywhere."""


class Grade(StrEnum):
    """How a rule is known; the best of its sources counts."""

    APPLE = "A"
    """From Apple's documentation, or said by Apple's engineers."""
    REPORTED = "B"
    """From several reports of developers."""
    SEEN = "D"
    """Seen in products that ship, or follows from the file formats."""
    EXPERIENCE = "E"
    """From experience alone: a warning at most, until a Mac has confirmed it."""


class Rule(NamedTuple):
    """One fault. `check` modules know how to find it; this is what is known of it."""

    id: str
    severity: Severity
    title: str
    """The fault, in one line."""
    cause: str
    """Why it is one."""
    fix: str
    """What to do; empty where nothing has to be done."""
    grade: Grade
    sources: tuple[str, ...] = ()
    """Keys of `sources.SOURCES`."""
    speaker: str = ""
    """The process of the system that refuses, where it is known."""
    line: str = ""
    """What it writes to the log."""

    @property
    def effective_severity(self) -> Severity:
        """The severity that a finding has: what is known from experience alone warns at most."""
        return min(self.severity, Severity.WARN) if self.grade is Grade.EXPERIENCE else self.severity

    @property
    def family(self) -> str:
        """The letters of its id."""
        return self.id.rstrip("0123456789")


FAMILIES = {
    "PKG": "Packaging",
    "SIG": "Signature",
    "ENT": "Entitlements",
    "PROF": "Provisioning profile",
    "INF": "Info.plist",
    "APP": "Container app",
    "DEP": "Deployment",
}
