"""Why is a URL blocked, or not? Ask as a device does, and where that blocks nothing, find the step at fault.

A device that is told "running" may block nothing for reasons that it shows to nobody: a prefilter that is older than
the database or was made with another hash, rows in a form that no system looks up, errors that a filter which fails
open swallows. `check` goes the device's way first. When that ends with "allowed", it asks the service about strings
that a device would not ask about: those that the prefilter rules out, and the forms in which lists are published by
mistake (`odd_rows`). What the service has of these names the fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from ..errors import ConfigurationError, NetworkExtensionError
from .deciding import Decider, Lookups
from .filter_session import FilterSession
from .lookup_client import PATIENCE, seconds_since_boot
from .lookup_recovery import Stage
from .prefilter import Prefilter
from .prefilter_diagnosis import SATURATED, diagnose
from .url_filter_configuration import URLFilterConfiguration
from .url_filter_errors import LookupFailed
from .url_forms import SYSTEMS, System, candidates, domains_above, row_of
from .url_parsing import parse_url
from .verdicts import Step, StepLog, StepName, Verdict, VerdictReport


class CheckStatus(IntEnum):
    """The exit status of `netext urlfilter check`."""

    ALLOWED = 0
    BLOCKED = 20
    UNKNOWN = 21
    """It could not be found out: a step is at fault."""
    AT_FAULT = 22
    """A verdict was found, and yet a step is at fault: devices do not do what the list says."""


class Finding(NamedTuple):
    """Something that is wrong, where, and what to do."""

    step: StepName
    text: str
    next_step: str


class Checked(NamedTuple):
    """What came of it."""

    report: VerdictReport
    """As a device finds it."""
    findings: tuple[Finding, ...] = ()
    diagnosis: tuple[Step, ...] = ()
    """Steps that no device takes."""

    @property
    def status(self) -> CheckStatus:
        """What the command ends with."""
        if self.report.error is not None:
            return CheckStatus.UNKNOWN
        if self.findings:
            return CheckStatus.AT_FAULT
        return CheckStatus.BLOCKED if self.report.verdict is Verdict.DENY else CheckStatus.ALLOWED


class OddRow(NamedTuple):
    """A string that lists are published with by mistake."""

    row: str
    mistake: str


async def check(decider: Decider, lookups: Lookups, url: str, system: System, *, looks_further: bool = True) -> Checked:
    """Decide a URL as a device does, and look for the step at fault. Never raises for what the service does."""
    report = await decider.decide(url)
    prefilter = decider.prefilter
    findings = list(_about_prefilter(prefilter)) if prefilter is not None else []
    if report.error is not None:
        return Checked(report, (*findings, _about_error(report)))
    if report.verdict is Verdict.DENY or not looks_further:
        return Checked(report, tuple(findings))
    log = StepLog(seconds_since_boot)
    try:
        findings += await _look_further(lookups, url, system, prefilter, log)
    except LookupFailed as error:
        findings.append(Finding(StepName.QUERY, str(error), "run the check again: the service has answered before"))
    return Checked(report, tuple(findings), tuple(log.steps))


async def _look_further(
    lookups: Lookups, url: str, system: System, prefilter: Prefilter | None, log: StepLog
) -> Iterator[Finding]:
    """Ask about what a device does not ask about. Raises LookupFailed."""
    forms = candidates(url, system=system)
    odd = list({one.row: one for one in reversed(list(odd_rows(url, system))) if one.row not in forms}.values())
    ruled_out = [form for form in forms if prefilter is not None and form not in prefilter]
    asked = list(dict.fromkeys([*ruled_out, *(one.row for one in odd)]))
    values = await lookups.lookup(asked, log) if asked else {}
    return _conclusions(forms, odd, values, prefilter)


def _conclusions(
    forms: tuple[str, ...], odd: list[OddRow], values: Mapping[str, bytes | None], prefilter: Prefilter | None
) -> Iterator[Finding]:
    listed = [form for form in forms if values.get(form) is not None]
    if listed and prefilter is not None:
        yield _ruled_out(listed, prefilter)
    for row, mistake in odd:
        if values.get(row) is not None:
            yield Finding(
                StepName.FORMS,
                f"the list has {row}: {mistake}",
                "build the list again with `netext urlfilter build`, which writes rows as every system looks them up",
            )
    hits = [form for form in forms if form in prefilter] if prefilter is not None and not listed else []
    if prefilter is not None and hits and prefilter.fill < SATURATED:
        yield Finding(
            StepName.QUERY,
            f"the prefilter has {hits[0]} and the database does not: a false positive (one string in"
            f" {1 / max(prefilter.false_positive_rate, 1e-9):.0f}), or a database that is older than the prefilter",
            "publish additions to the database first and then the prefilter; a false positive is harmless",
        )


def _ruled_out(listed: list[str], prefilter: Prefilter) -> Finding:
    """The database has it and the prefilter rules it out, so no device ever asks."""
    diagnosis = diagnose(prefilter, listed)
    if diagnosis.reading is not None and not diagnosis.reading.is_right:
        text = f"the database has {listed[0]}, and the prefilter has it only in another way: {diagnosis.verdict}"
        return Finding(StepName.PREFILTER, text, "make the prefilter with `netext urlfilter bloom`, or `build`")
    return Finding(
        StepName.PREFILTER,
        f"the database has {listed[0]} and the prefilter rules it out, so no device asks: the prefilter"
        f" ({prefilter.tag[:16]}) is older than the database, or of another list",
        "give devices the prefilter of the version that is served; they fetch it every prefilterFetchInterval",
    )


def _about_prefilter(prefilter: Prefilter) -> Iterator[Finding]:
    if prefilter.fill >= SATURATED:
        yield Finding(
            StepName.PREFILTER,
            f"{prefilter.fill:.0%} of the prefilter's bits are set: devices ask about nearly every URL",
            "make it again for the number of rows that it holds: `netext urlfilter bloom LIST -o FILE`",
        )


_STEPS_OF_STAGES: Mapping[str, StepName] = {
    Stage.ISSUER.value: StepName.ISSUER,
    Stage.TOKENS.value: StepName.TOKEN,
    Stage.CONFIGURATION.value: StepName.CONFIGURATION,
    Stage.KEY.value: StepName.KEY,
    Stage.QUERY.value: StepName.QUERY,
}
_TOKEN_STEP = "is the user token (--token-file) one of the service's users, in the base64 form that it has there?"
_NEXT_STEPS: Mapping[StepName, str] = {
    StepName.FETCH: "does the service serve a prefilter (GET /prefilter), or is --prefilter the right file?",
    StepName.FORMS: "give a whole URL with http:// or https://",
    StepName.PREFILTER: "see what the file is: `netext urlfilter bloom inspect FILE`",
    StepName.ISSUER: _TOKEN_STEP,
    StepName.TOKEN: _TOKEN_STEP,
    StepName.CONFIGURATION: "the use case is <app bundle id>.url.filtering; --use-case names another",
    StepName.KEY: "look at the service's log; through a gateway, bodies of 1 MiB must be let through",
    StepName.QUERY: "look at the service's log",
}


def _about_error(report: VerdictReport) -> Finding:
    fault = report.fault
    name = fault.name if fault is not None else StepName.VERDICT
    if isinstance(report.error, LookupFailed):
        name = _STEPS_OF_STAGES[report.error.stage]
    text = str(report.error)
    if isinstance(report.error, LookupFailed):
        text += (
            ". A filter that fails closed blocks everything that its prefilter has now"
            if report.verdict is Verdict.DENY
            else ". A filter that fails open lets everything through now, and still says running"
        )
    step = _NEXT_STEPS.get(name, "")
    if isinstance(report.error, LookupFailed) and not report.error.is_permanent:
        step = "is the service running, and reachable at this URL from here?"
    return Finding(name, text, step)


def odd_rows(url: str, system: System) -> Iterator[OddRow]:
    """Strings of a URL that lists are published with, and that a system does not look up. Raises UnusableURL."""
    parts = parse_url(url)
    for host in dict.fromkeys((parts.host, *domains_above(parts.host))):
        if not host.startswith("www."):
            yield OddRow(f"www.{host}", "devices from 26.4 on strip www.; publish it without")
        yield OddRow(f"*.{host}", "there are no wildcards; publish the bare domain, which covers all below it")
        yield OddRow(f".{host}", "publish the bare domain, which covers all below it")
        yield OddRow(f"||{host}^", "that is Adblock syntax; `netext urlfilter build` reads it, devices do not")
        for scheme in ("https", "http"):
            yield OddRow(f"{scheme}://{host}", "devices look strings up without the scheme")
    row = row_of(url)
    for scheme in ("https", "http"):
        yield OddRow(f"{scheme}://{row}", "devices look strings up without the scheme")
    yield OddRow(f"www.{row}", "devices from 26.4 on strip www.; publish it without")
    if (typed := url.partition("://")[2]) != row:
        yield OddRow(typed, "hosts are looked up in lower case and Punycode, paths without a slash at their end")
    for other in SYSTEMS:
        if other != system:
            for form in candidates(url, system=other):
                yield OddRow(form, f"systems of {other} look that up, those of {system} do not")


async def check_configuration(
    configuration: URLFilterConfiguration,
    url: str,
    *,
    ca_file: str | None = None,
    patience: float = PATIENCE,
    looks_further: bool = True,
) -> Checked:
    """Check a URL against the service of a configuration, with the prefilter that its control provider brings.

    `patience` is in seconds; without `looks_further` only what a device asks is asked. Whatever is wrong with the
    service or the prefilter is in the result.
    """
    session = FilterSession(configuration, ca_file=ca_file, patience=patience)
    log = StepLog(seconds_since_boot)
    try:
        with log.step(StepName.FETCH) as step:
            prefilter = await session.bring_prefilter()
            step.text = f"{configuration.control_provider}: {prefilter.tag[:16]}, {len(prefilter.data)} bytes"
        checked = await check(session.decider, session.lookups, url, configuration.system, looks_further=looks_further)
        return checked._replace(report=checked.report._replace(steps=(*log.steps, *checked.report.steps)))
    except (NetworkExtensionError, OSError) as error:
        verdict = Verdict.DENY if configuration.should_fail_closed else Verdict.UNKNOWN
        own = error if isinstance(error, NetworkExtensionError) else ConfigurationError(f"prefilter: {error}")
        report = VerdictReport(url, verdict, tuple(log.steps), None, own)
        return Checked(report, (_about_error(report),))
    finally:
        await session.stop()
