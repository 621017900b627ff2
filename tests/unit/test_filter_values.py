"""Verdicts, settings and flows of content filters as values."""

from __future__ import annotations

import pytest

from network_extension import (
    FLOW_BYTES_MAX,
    ConfigurationError,
    Direction,
    Endpoint,
    FilterAction,
    FilterControlVerdict,
    FilterDataVerdict,
    FilterFlow,
    FilterNewFlowVerdict,
    FilterReportFrequency,
    FilterRule,
    FilterSettings,
    FilterVerdict,
    NetworkRule,
)
from network_extension.filter_verdicts import VerdictKind

RULE = FilterRule(NetworkRule.destination_network("192.0.2.0/24"), FilterAction.DROP)


def test_a_verdict_keeps_its_class_when_it_asks_for_reports() -> None:
    verdict = FilterNewFlowVerdict.allow().reported().with_statistics(FilterReportFrequency.HIGH)
    assert isinstance(verdict, FilterNewFlowVerdict)
    assert verdict.should_report
    assert verdict.statistics_report_frequency.seconds == 5


@pytest.mark.parametrize(
    "verdict",
    [FilterDataVerdict.data(2**70, 2**70), FilterDataVerdict.data(FLOW_BYTES_MAX, FLOW_BYTES_MAX)],
)
def test_a_count_of_bytes_is_at_most_the_constant(verdict: FilterVerdict) -> None:
    assert (verdict.pass_bytes, verdict.peek_bytes) == (FLOW_BYTES_MAX, FLOW_BYTES_MAX)


@pytest.mark.parametrize(("count", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("9", TypeError)])
def test_what_is_no_count_of_bytes(count: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="peek_bytes"):
        FilterDataVerdict.data(0, count)  # type: ignore[arg-type]


def test_a_control_verdict_with_new_rules() -> None:
    assert FilterControlVerdict.updating_rules().kind is VerdictKind.UPDATE_RULES
    assert FilterControlVerdict.drop().and_update_rules().update_rules


def test_1001_rules_are_refused_and_1000_are_not() -> None:
    assert len(FilterSettings([RULE] * 1000).rules) == 1000
    with pytest.raises(ConfigurationError, match="1001 rules; at most 1000"):
        FilterSettings([RULE] * 1001)


@pytest.mark.parametrize("action", [FilterAction.ALLOW, FilterAction.DROP])
def test_a_default_that_decides_needs_a_rule(action: FilterAction) -> None:
    FilterSettings([RULE], action)
    with pytest.raises(ConfigurationError, match="at least one rule"):
        FilterSettings([], action)


@pytest.mark.parametrize("action", [FilterAction.INVALID, FilterAction.REMEDIATE, 7, "drop"])
def test_actions_that_no_rule_can_have(action: object) -> None:
    with pytest.raises(ConfigurationError):
        FilterRule(RULE.network_rule, action)  # type: ignore[arg-type]


def test_a_flow_shows_itself() -> None:
    flow = FilterFlow(remote_endpoint=Endpoint("192.0.2.1", 443), remote_hostname="example.com")
    assert repr(flow) == "<FilterFlow ? → example.com:443 tcp>"
    assert repr(FilterFlow(direction=Direction.INBOUND)) == "<FilterFlow ? ← ?:0 tcp>"
