"""`netext doctor` without a path: what this machine allows, what is missing, and whether a sandbox works on it."""

from __future__ import annotations

import argparse
import json
import textwrap

from ..runtime.doctor import Check, examine, exit_status, self_check
from .arguments import ArgumentParser

EPILOG = """\
Of Apple bundles (macOS, iOS), which this machine need not run:

  netext doctor PATH                   why an app's Network Extension will be refused: netext doctor PATH --help
  netext doctor explain 'LOG LINE'     what a line of Apple's logs means, and which rules it points to
  netext doctor logs FILE              which lines of a capture matter
  netext doctor rules [ID]             what refuses a Network Extension, and how to mend it
  netext doctor plan --provider KIND --platform PLATFORM [--channel CHANNEL]
                                       packaging, entitlements, Info.plist keys to start from

Exit status: 0 all well; 69 something that is needed is missing; 71 the self-check failed.
Nothing is changed: all is tried in child processes, in namespaces that end with them.
"""
_NAME_WIDTH, _STATE_WIDTH, _WIDTH = 29, 9, 118


def doctor_host(arguments: list[str]) -> int:
    """Examine, print, and check; the exit status."""
    parser = ArgumentParser(
        "netext doctor",
        description="What this machine allows, what is missing, and whether a sandbox works on it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    formats = ("text", "json", "sarif", "junit", "markdown")
    parser.add_argument("--format", choices=formats, default="text", help="for people (text), or for a CI server")
    options = parser.parse_args(arguments)
    form = "json" if options.json else options.format
    report = _say if form == "text" else _say_nothing
    checks = examine(report)
    self_checks = [] if exit_status(checks, []) else self_check(report)
    status = exit_status(checks, self_checks)
    if form == "json":
        print(json.dumps({"status": status, "checks": [_record(check) for check in (*checks, *self_checks)]}, indent=2))
    elif form == "text":
        print(_verdict(checks, self_checks))
    else:
        from ..doctor.reporters import REPORTERS
        from .host_report import host_report

        print(REPORTERS[form](host_report([*checks, *self_checks])))
    return status


def _record(check: Check) -> dict[str, object]:
    return {**check._asdict(), "state": str(check.state)}


def _say_nothing(check: Check) -> None:
    pass


def _say(check: Check) -> None:
    """One check, with what to do about it below."""
    head = f"{check.state.upper() if check.is_fatal else check.state:{_STATE_WIDTH}}{check.name:{_NAME_WIDTH}}"
    indent = " " * len(head)
    print(textwrap.fill(check.means, _WIDTH, initial_indent=head, subsequent_indent=indent), flush=True)
    if check.next_step:
        # Not wrapped: commands are there to be copied.
        print(f"{indent}next step: {check.next_step}", flush=True)


def _verdict(checks: list[Check], self_checks: list[Check]) -> str:
    missing = [check.name for check in checks if check.is_fatal]
    if missing:
        return f"\nnetext run cannot work here yet: {', '.join(missing)}. The first next step comes first."
    if any(check.is_fatal for check in self_checks):
        return "\nAll that is needed is there, and yet the self-check failed."
    return "\nAll that is needed is there, and a sandbox works."
