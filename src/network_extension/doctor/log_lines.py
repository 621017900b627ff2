"""What lines of Apple's logs mean, and which rules they point to.

Many of them lead astray: the line that an app's developer sees is rarely the one that tells the cause. So an
explanation names the rules in the order in which they are worth looking at, and says which lines are noise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LONGEST_LINE = 16384


class LogLine(NamedTuple):
    """A line that is known."""

    pattern: re.Pattern[str]
    words: str
    """Those that matter, as they stand in a log."""
    speaker: str
    """Who writes it."""
    means: str
    rules: tuple[str, ...]
    """Ids, the likeliest first; empty for noise."""


class Explained(NamedTuple):
    """A line of a log that means something."""

    number: int
    """From 1."""
    text: str
    line: LogLine


def _line(pattern: str, words: str, speaker: str, means: str, *rules: str) -> LogLine:
    return LogLine(re.compile(pattern, re.IGNORECASE), words, speaker, means, rules)


_DOMAIN = r"OSSystemExtensionErrorDomain.{0,40}?(?:code\s*[=:]\s*|error\s+)"
LINES: tuple[LogLine, ...] = (
    _line(
        r"signature check failed",
        "Signature check failed: code failed to satisfy specified code requirement(s)",
        "nesessionmanager",
        "The provider's signature is not what its packaging needs. With Developer ID that is nearly always an app"
        " extension that would have to be a system extension, or a value without its suffix.",
        "PKG001", "PKG002", "PROF011", "SIG011", "SIG012",
    ),
    _line(
        r"provider is not signed with a developer id certificate",
        "Provider is not signed with a Developer ID certificate",
        "nesessionmanager",
        "Noise in development builds: the provider runs all the same.",
    ),
    _line(
        r"no policy,? cannot allow apps outside /Applications",
        "no policy, cannot allow apps outside /Applications",
        "sysextd",
        "Rarely about /Applications: sysextd says this of every extension that it has no other word for. Look at the"
        " lines before it, and at these rules.",
        "SIG001", "ENT001", "PKG004", "SIG016", "PKG019", "PKG020", "PKG021", "DEP008",
    ),
    _line(
        rf"{_DOMAIN}4\b|extension not found in app bundle",
        "OSSystemExtensionErrorDomain code=4: Extension not found in App bundle",
        "sysextd",
        "The extension is not where it is looked for, or not named as its id.", "PKG003", "PKG004", "INF016",
    ),
    _line(
        rf"{_DOMAIN}2\b",
        "OSSystemExtensionErrorDomain code=2",
        "sysextd", "The app lacks the entitlement to install system extensions.", "ENT005",
    ),
    _line(
        rf"{_DOMAIN}3\b",
        "OSSystemExtensionErrorDomain code=3",
        "sysextd", "The app is not in /Applications.", "PKG020", "PKG021", "PKG003",
    ),
    _line(
        rf"{_DOMAIN}6\b",
        "OSSystemExtensionErrorDomain code=6",
        "sysextd", "Two extensions have the same id.", "PKG018",
    ),
    _line(
        rf"{_DOMAIN}7\b",
        "OSSystemExtensionErrorDomain code=7",
        "sysextd", "The extension has no category: sysextd finds no provider in its Info.plist.",
        "INF001", "INF002",
    ),
    _line(
        rf"{_DOMAIN}8\b",
        "OSSystemExtensionErrorDomain code=8",
        "sysextd", "The extension's signature is refused.", "SIG016", "SIG017", "SIG001", "SIG003",
        "SIG004", "SIG005", "SIG008", "SIG009",
    ),
    _line(
        rf"{_DOMAIN}9\b|extension category returned error",
        "OSSystemExtensionErrorDomain code=9: extension category returned error",
        "sysextd",
        "The category Network Extension has refused the extension's Info.plist.",
        "INF006", "INF010", "INF001", "INF009",
    ),
    _line(
        rf"{_DOMAIN}10\b",
        "OSSystemExtensionErrorDomain code=10",
        "sysextd", "A policy of this Mac (MDM) forbids the extension.", "DEP007",
    ),
    _line(
        rf"{_DOMAIN}13\b",
        "OSSystemExtensionErrorDomain code=13",
        "sysextd", "The user has not approved the extension yet.", "DEP007",
    ),
    _line(
        r"-67050|error checking with notarization daemon",
        "bundle code signature is not valid - does not satisfy requirement: -67050",
        "sysextd",
        "The extension is not notarised, or was changed afterwards.", "SIG016", "SIG017",
    ),
    _line(
        r"-67062",
        "MacOS error: -67062",
        "sysextd", "The extension is not signed (errSecCSUnsigned).", "SIG001",
    ),
    _line(
        r"no eligible provisioning profiles found|-413\b.{0,40}no matching profile found|no matching profile found",
        "Disallowing org.example.app because no eligible provisioning profiles found",
        "taskgated-helper, amfid",
        "No profile allows what the code claims: it is missing, of another app, or does not list the certificate.",
        "PROF001", "PROF005", "PROF007", "PROF009", "ENT011", "SIG002", "PKG016",
    ),
    _line(
        r"unsatisfied entitlements",
        "Unsatisfied entitlements: com.apple.developer.networking.networkextension",
        "taskgated-helper",
        "The code claims more than its profile allows; the line names what.", "PROF004", "ENT001", "ENT002",
    ),
    _line(
        r"restricted entitlements, but the validation of its code signature failed",
        "Code has restricted entitlements, but the validation of its code signature failed",
        "kernel (AMFI)",
        "The code claims a restricted entitlement, and no profile in its own bundle allows it.",
        "PROF001", "PROF004", "DEP012",
    ),
    _line(
        r"plug-ins must be sandboxed",
        "rejecting; Ignoring mis-configured plugin: plug-ins must be sandboxed",
        "pkd", "A macOS app extension without the App Sandbox.", "ENT013",
    ),
    _line(
        r"invalid mach service name|invalid NEMachServiceName",
        "invalid mach service name or is not signed, the value must be prefixed with one of the App Groups",
        "sysextd",
        "NEMachServiceName does not begin with an app group that the extension claims.", "INF006",
    ),
    _line(
        r"package type not SYSX",
        "package type not SYSX",
        "sysextd", "CFBundlePackageType has to be SYSX.", "PKG005",
    ),
    _line(
        r"AMFIUnserializeXML",
        "AMFIUnserializeXML: syntax error",
        "kernel (AMFI)", "The entitlements are no XML that the kernel reads.", "ENT026", "SIG007",
    ),
    _line(
        r"extension failed category property check",
        "extension failed category property check",
        "sysextd",
        "Of Endpoint Security and driver extensions; not of Network Extensions.",
    ),
)  # fmt: skip
"""What is known, the more telling ones first where a line fits several."""


def explain(text: str) -> list[LogLine]:
    """What a line (or a few words of it) means; [] when nothing is known of it."""
    text = text[:LONGEST_LINE]
    return [line for line in LINES if line.pattern.search(text)]


def read_log(lines: Iterable[str]) -> Iterator[Explained]:
    """The lines of a capture (`log show`) that mean something, in their order."""
    for number, text in enumerate(lines, 1):
        for line in explain(text):
            yield Explained(number, text.strip()[:LONGEST_LINE], line)
