"""From a URL to a verdict: its strings, the prefilter, what is remembered, and the service about the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from ..errors import NetworkExtensionError
from .result_cache import ResultCache
from .url_forms import System, candidates
from .verdicts import StepLog, StepName, Verdict, VerdictReport

if TYPE_CHECKING:
    from .prefilter import Prefilter
    from .url_parsing_27 import ParsingConfiguration
    from .url_parsing_expression import ParsingExpression


class Lookups(Protocol):
    """Who is asked about strings that the prefilter does not rule out: a `LookupClient`."""

    async def lookup(self, keywords: Sequence[str], log: StepLog) -> Mapping[str, bytes | None]:
        """The value of each that the list has; None for the others. Raises LookupFailed."""


class Decider:
    """Decides URLs. `prefilter` may be exchanged at any time; without one every string is asked about."""

    def __init__(
        self,
        lookups: Lookups,
        clock: Callable[[], float],
        *,
        system: System = "26.4",
        parsing: ParsingConfiguration | ParsingExpression | None = None,
        fails_closed: bool = False,
    ) -> None:
        """`system` is the generation whose strings are looked up; `fails_closed` denies what cannot be found out."""
        self._lookups, self._clock, self._system, self._parsing = lookups, clock, system, parsing
        self._fails_closed = fails_closed
        self.prefilter: Prefilter | None = None
        self.cache = ResultCache()

    async def decide(self, url: str) -> VerdictReport:
        """The verdict and its steps. Whatever goes wrong is in the report, and decided by `fails_closed`."""
        log, matched, error = StepLog(self._clock), None, None
        try:
            matched = await self._find(self._suspects(self._forms(url, log), log), log)
        except NetworkExtensionError as raised:
            error = raised
        with log.step(StepName.VERDICT) as step:
            if error is not None:
                verdict = Verdict.DENY if self._fails_closed else Verdict.UNKNOWN
                step.text = f"could not be found out; fails {'closed' if self._fails_closed else 'open'}"
            elif matched is not None:
                verdict, step.text = Verdict.DENY, f"blocked: {matched} is on the list"
            else:
                verdict, step.text = Verdict.ALLOW, "allowed"
        return VerdictReport(url, verdict, tuple(log.steps), matched, error)

    def _forms(self, url: str, log: StepLog) -> tuple[str, ...]:
        with log.step(StepName.FORMS) as step:
            forms = candidates(url, system=self._system, parsing=self._parsing)
            step.text, step.details = f"{len(forms)} strings, as systems of {self._system} make them", forms
            return forms

    def _suspects(self, forms: tuple[str, ...], log: StepLog) -> list[str]:
        with log.step(StepName.PREFILTER) as step:
            prefilter = self.prefilter
            if prefilter is None:
                step.text = "there is none: every string is asked about"
                return list(forms)
            found = [form for form in forms if form in prefilter]
            step.text = f"{len(found)} of {len(forms)} may be on the list; prefilter {prefilter.tag[:16]}"
            step.details = tuple(found)
            return found

    async def _find(self, suspects: list[str], log: StepLog) -> str | None:
        """The first string that is on the list."""
        known = {form: self.cache.get(form, self._clock()) for form in suspects}
        if remembered := [form for form, is_listed in known.items() if is_listed is not None]:
            with log.step(StepName.CACHE) as step:
                step.text = f"{len(remembered)} of {len(suspects)} asked about before"
                step.details = tuple(remembered)
            if (listed := next((form for form in remembered if known[form]), None)) is not None:
                return listed
        asked = [form for form in suspects if known[form] is None]
        if not asked:
            return None
        values = await self._lookups.lookup(asked, log)
        for form, value in values.items():
            self.cache.put(form, value is not None, self._clock())
        return next((form for form in asked if values[form] is not None), None)
