"""What a provider would say to a flow that nobody sends: by its own explanation, its rules, or its code."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ..builtin.firewall import Firewall
from ..content_filter import FilterDataProvider, FilterProvider
from ..core.filter_rule_matching import FilterRuleMatcher
from ..core.flow_description import facts_of
from ..errors import NetworkExtensionError, ProviderError
from ..filter_flow import FilterFlow
from ..filter_settings import FilterSettings
from ..filter_verdicts import FilterAction, FilterGrade, FilterVerdict, VerdictKind
from ..runtime.loader import load_provider

START_TIMEOUT = 5.0


class Verdict(NamedTuple):
    """One provider's word. `action` is allow, deny, drop, ask, inspect, or unknown."""

    provider: str
    action: str
    text: str
    looked_at: tuple[tuple[str, str, str], ...] = ()
    """Rules that did not decide: name, place, why."""
    grade: FilterGrade = FilterGrade.FIREWALL

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        looked = [{"rule": rule, "place": place, "why": why} for rule, place, why in self.looked_at]
        return {"provider": self.provider, "action": self.action, "why": self.text, "looked_at": looked}


def explain_provider(spec: str, config: Mapping[str, Any], flow: FilterFlow, provider: Any = None) -> Verdict:
    """What the provider that `spec` names would say. Raises ConfigurationError or ProviderError."""
    if provider is None:
        provider = load_provider(spec)
    name = type(provider).__name__
    if not isinstance(provider, FilterProvider):
        return Verdict(name, "allow", "is no content filter: it has a say after all filters have allowed the flow")
    provider._configuration = MappingProxyType(dict(config))
    if isinstance(provider, Firewall):
        return _firewall(provider, flow)
    if not isinstance(provider, FilterDataProvider):
        return Verdict(name, "unknown", f"is a {provider.kind} provider, which does not decide new flows")
    text = provider.explain(flow)
    if text is not None:
        action = next((word for word in ("deny", "drop", "allow", "ask") if word in text.lower().split()), "unknown")
        return Verdict(name, action, text, grade=provider.grade)
    return asyncio.run(_try(name, provider, flow))


def _firewall(provider: Firewall, flow: FilterFlow) -> Verdict:
    found = provider.explanation(flow)
    action = str(found.decision.action)
    looked = tuple((rule.name, str(rule.place), why) for rule, why in found.looked_at)
    unknown = action in ("ask", "inspect")
    return Verdict("Firewall", "unknown" if unknown else action, str(found), looked, provider.grade)


class _Stage:
    """Keeps what a provider says while it starts, and does nothing."""

    def __init__(self) -> None:
        self.settings: FilterSettings | None = None

    async def apply_filter_settings(self, settings: FilterSettings | None) -> None:
        """Only kept."""
        self.settings = settings

    def resume_flow(self, flow: FilterFlow, verdict: FilterVerdict) -> None:
        """Nothing is paused here."""

    def update_flow(self, flow: FilterFlow, verdict: FilterVerdict, direction: object) -> None:
        """Nothing runs here."""

    def apply_settings(self, settings: object) -> None:
        """Filters have none."""

    def cancel(self, error: BaseException | None) -> None:
        """It need not go on."""
        raise ProviderError(f"the provider gave up: {error}")

    def log(self, level: str, text: str) -> None:
        """Nobody reads it."""


async def _try(name: str, provider: FilterDataProvider, flow: FilterFlow) -> Verdict:
    """Start it in memory, look at its rules, then call it."""
    stage = _Stage()
    provider._stage = stage
    try:
        await asyncio.wait_for(provider.start_filter(), START_TIMEOUT)
        found, rule = FilterRuleMatcher(stage.settings or FilterSettings()).decide(facts_of(flow))
        if found is not FilterAction.FILTER_DATA:
            action = "allow" if found is FilterAction.ALLOW else "deny"
            return Verdict(name, action, f"{action} by its settings: {rule}", grade=provider.grade)
        answer = provider.handle_new_flow(flow)
        verdict = answer if isinstance(answer, FilterVerdict) else await asyncio.wait_for(answer, START_TIMEOUT)
    except NetworkExtensionError:
        raise
    except Exception as error:
        return Verdict(name, "unknown", f"raised {type(error).__name__}: {error}", grade=provider.grade)
    action, text = _described(verdict)
    return Verdict(name, action, f"its handle_new_flow answers {text}", grade=provider.grade)


def _described(verdict: object) -> tuple[str, str]:
    if not isinstance(verdict, FilterVerdict):
        return "unknown", f"{verdict!r}, which is no verdict"
    if verdict.kind is VerdictKind.ALLOW:
        return "allow", "allow"
    if verdict.kind is VerdictKind.DROP:
        return ("drop", "drop, silently") if verdict.silent else ("deny", "drop")
    if verdict.kind is VerdictKind.FILTER_DATA:
        return "unknown", "filter data: it decides by the first bytes"
    if verdict.kind is VerdictKind.PAUSE:
        return "unknown", "pause: it decides later"
    return "unknown", verdict.kind.value
