"""`netext urlfilter check`: where a URL goes, step by step, and the step at fault if it is not blocked."""

from __future__ import annotations

import argparse
import asyncio
import json
import textwrap
from typing import TYPE_CHECKING, Any

from .arguments import ArgumentParser

if TYPE_CHECKING:
    from ..urlfilter.checking import Checked
    from ..urlfilter.url_filter_configuration import URLFilterConfiguration
    from ..urlfilter.verdicts import Step

EPILOG = """\
The steps are a device's: the strings of the URL, the prefilter, a token from the issuer, the database's configuration,
an evaluation key, the query, the verdict. Where no system blocks the URL, the service is asked as well about strings
that a device would not ask about, to find the step at fault: --quick leaves that out.

Exit status: 0 allowed; 20 blocked; 21 it could not be found out, and the step at fault is named; 22 a verdict, but a
step is at fault: devices do not do what the list says. 64 wrong usage; 69 a package is missing; 78 wrong settings.
"""
_NAME_WIDTH, _WIDTH = 10, 118


def main(arguments: list[str]) -> int:
    """Check, and print what was found; the exit status. Raises NetworkExtensionError."""
    parsed = _parser().parse_args(arguments)
    from ..urlfilter.filter_provider import read_token
    from ..urlfilter.url_filter_configuration import DEFAULT_IDENTIFIER, URLFilterConfiguration

    use_case = parsed.use_case or f"{DEFAULT_IDENTIFIER}.url.filtering"
    configuration = URLFilterConfiguration(
        parsed.server,
        parsed.issuer,
        read_token(parsed.token_file) if parsed.token_file else None,
        f"file:{parsed.prefilter}" if parsed.prefilter else "service",
        app_bundle_identifier=use_case.removesuffix(".url.filtering"),
        should_fail_closed=parsed.fail_closed,
        oblivious_gateway_url=parsed.ohttp_gateway,
        oblivious_relay_url=parsed.ohttp_relay,
        system=parsed.system,
    )
    checked = asyncio.run(_check(configuration, parsed))
    print(json.dumps(record_of(checked), indent=2) if parsed.json else text_of(checked, details=parsed.verbose))
    return int(checked.status)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        "netext urlfilter check",
        usage="netext urlfilter check URL --server URL [options]",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("url", metavar="URL", help="what a browser would load")
    add("--server", metavar="URL", required=True, help="the service (PIRServerURL): https, or http to this machine")
    add("--issuer", metavar="URL", help="the Privacy Pass issuer, if it is elsewhere")
    add("--token-file", "--user-token-file", metavar="FILE", help="the user's authentication token, in base64")
    add("--ohttp-gateway", metavar="URL", help="ask through this Oblivious HTTP gateway")
    add("--ohttp-relay", metavar="URL", help="and through this relay to it")
    add("--prefilter", metavar="FILE", help="the prefilter that devices have, rather than the service's present one")
    add("--use-case", metavar="NAME", help="the database's name: <app bundle id>.url.filtering (netext.url.filtering)")
    add("--system", choices=("26.0", "26.4", "27"), default="26.4", help="the generation of systems to ask as (26.4)")
    add("--fail-closed", action="store_true", help="as a filter that blocks what cannot be found out")
    add("--ca-file", metavar="FILE", help="authorities to trust in place of the system's (PEM)")
    add("--patience", type=float, default=8.0, metavar="S", help="seconds to look for an answer (8)")
    add("--quick", action="store_true", help="only what a device asks")
    add("--verbose", "-v", action="store_true", help="also the strings of the URL, and which of them were asked about")
    add("--json", action="store_true", help="one JSON object on standard output")
    return parser


async def _check(configuration: URLFilterConfiguration, parsed: argparse.Namespace) -> Checked:
    from ..urlfilter.checking import check_configuration

    return await check_configuration(
        configuration, parsed.url, ca_file=parsed.ca_file, patience=parsed.patience, looks_further=not parsed.quick
    )


def record_of(checked: Checked) -> dict[str, Any]:
    """The result for programs."""
    report = checked.report
    return {
        "url": report.url,
        "verdict": report.verdict.name.lower(),
        "status": int(checked.status),
        "matched": report.matched,
        "error": str(report.error) if report.error is not None else None,
        "fault": report.fault.name.value if report.fault is not None else None,
        "steps": [_step_record(step) for step in report.steps],
        "diagnosis": [_step_record(step) for step in checked.diagnosis],
        "findings": [{**finding._asdict(), "step": finding.step.value} for finding in checked.findings],
    }


def _step_record(step: Step) -> dict[str, Any]:
    return {
        "name": step.name.value,
        "ms": round(step.seconds * 1000, 3),
        "well": step.is_well,
        "text": step.text,
        "details": list(step.details),
    }


def text_of(checked: Checked, *, details: bool = False) -> str:
    """The result for people."""
    report = checked.report
    lines = [report.url]
    lines += [line for step in report.steps for line in _step_lines(step, details)]
    if checked.diagnosis:
        lines.append("asked besides, which no device does:")
        lines += [line for step in checked.diagnosis for line in _step_lines(step, details)]
    for finding in checked.findings:
        lines.append("")
        lines += textwrap.wrap(f"AT FAULT: {finding.step.value}: {finding.text}", _WIDTH, subsequent_indent="  ")
        if finding.next_step:
            lines += textwrap.wrap(
                f"next step: {finding.next_step}", _WIDTH, initial_indent="  ", subsequent_indent="  "
            )
    return "\n".join(lines)


def _step_lines(step: Step, details: bool) -> list[str]:
    mark = "" if step.is_well else "FAILED: "
    line = f"  {step.name.value:{_NAME_WIDTH}} {step.seconds * 1000:8.1f} ms  {mark}{step.text}"
    return [line, *(f"{'':{_NAME_WIDTH + 16}}{text}" for text in step.details)] if details else [line]
