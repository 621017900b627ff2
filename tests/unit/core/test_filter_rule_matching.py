"""The index of a filter's rules gives the answers of a walk through them."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension import Direction, Endpoint, FilterAction, FilterRule, FilterSettings, NetworkRule, Protocol
from network_extension.core.filter_rule_matching import FilterRuleMatcher
from network_extension.core.rule_matching import FlowFacts, is_loopback, matches, plain_address

ACTIONS = st.sampled_from([FilterAction.ALLOW, FilterAction.DROP, FilterAction.FILTER_DATA])
NETWORKS = st.sampled_from(
    [
        ("192.0.2.0", 24),
        ("192.0.2.128", 25),
        ("192.0.2.7", 32),
        ("10.0.0.0", 8),
        ("2001:db8::", 32),
        ("2001:db8::7", 128),
        ("::ffff:192.0.2.0", 120),
        ("127.0.0.0", 8),
        ("::1", 128),
        ("0.0.0.0", 0),
        ("::", 0),
    ]
)
ADDRESSES = st.sampled_from(
    ["192.0.2.7", "192.0.2.200", "10.1.2.3", "203.0.113.1", "2001:db8::7", "::1", "127.0.0.1", "::ffff:192.0.2.7"]
).map(lambda text: ip_address(text).packed)
NAMES = st.sampled_from(["example.com", "www.example.com", "localhost", "example.org"])
PORTS = st.sampled_from([0, 53, 443])


@st.composite
def ends(draw: st.DrawFn, ports: st.SearchStrategy[int]) -> tuple[Endpoint | None, int | None]:
    if draw(st.integers(0, 2)) == 0:
        return None, None
    host, prefix = draw(NETWORKS)
    return Endpoint(host, draw(ports)), prefix


@st.composite
def network_rules(draw: st.DrawFn) -> NetworkRule:
    protocol = draw(st.sampled_from(list(Protocol)))
    if draw(st.integers(0, 2)) == 0:
        return NetworkRule.destination_host(draw(NAMES), protocol, port=draw(PORTS))
    far, near = draw(ends(PORTS)), draw(ends(st.sampled_from([0, 53, 50000])))
    return NetworkRule.remote_and_local(*far, *near, protocol, draw(st.sampled_from(list(Direction))))


@st.composite
def facts(draw: st.DrawFn) -> FlowFacts:
    return FlowFacts(
        draw(st.sampled_from(list(Protocol))),
        draw(ADDRESSES),
        draw(st.sampled_from([53, 80, 443])),
        draw(st.none() | NAMES),
        draw(st.booleans()),
        draw(st.sampled_from([Direction.INBOUND, Direction.OUTBOUND])),
        draw(ADDRESSES),
        draw(st.sampled_from([53, 50000])),
    )


def walked(given_settings: FilterSettings, flow: FlowFacts) -> FilterAction:
    for rule in given_settings.rules:
        if matches(rule.network_rule, flow):
            return rule.action
    if flow.loopback or is_loopback(plain_address(flow.remote_address)):
        return FilterAction.ALLOW
    return given_settings.default_action


@settings(max_examples=600)
@given(st.lists(st.builds(FilterRule, network_rules(), ACTIONS), min_size=1, max_size=40), ACTIONS, facts())
def test_the_index_agrees_with_the_walk(rules: list[FilterRule], default: FilterAction, flow: FlowFacts) -> None:
    given_settings = FilterSettings(rules, default)
    assert FilterRuleMatcher(given_settings).decide(flow)[0] is walked(given_settings, flow)


def flow_to(address: str, port: int = 443) -> FlowFacts:
    return FlowFacts(Protocol.TCP, ip_address(address).packed, port)


def test_the_first_rule_wins_and_is_named() -> None:
    narrow = FilterRule(NetworkRule.destination_network("192.0.2.7/32"), FilterAction.ALLOW)
    wide = FilterRule(NetworkRule.destination_network("192.0.2.0/24"), FilterAction.DROP)
    assert FilterRuleMatcher(FilterSettings([narrow, wide])).decide(flow_to("192.0.2.7"))[0] is FilterAction.ALLOW
    action, text = FilterRuleMatcher(FilterSettings([wide, narrow])).decide(flow_to("192.0.2.7"))
    assert (action, text.split()[:2]) == (FilterAction.DROP, ["rules[0]", "drop"])


def test_loopback_passes_unless_a_rule_names_it() -> None:
    everything = FilterRule(NetworkRule.remote_and_local(), FilterAction.DROP)
    loopback = FilterRule(NetworkRule.destination_network("127.0.0.0/8"), FilterAction.FILTER_DATA)
    assert FilterRuleMatcher(FilterSettings([everything])).decide(flow_to("127.0.0.1"))[0] is FilterAction.ALLOW
    both = FilterSettings([everything, loopback])
    assert FilterRuleMatcher(both).decide(flow_to("127.0.0.1"))[0] is FilterAction.FILTER_DATA
    assert [FilterRuleMatcher(given).names_loopback for given in (FilterSettings([everything]), both)] == [False, True]
    assert FilterRuleMatcher(both).decide(flow_to("192.0.2.1"))[0] is FilterAction.DROP


def test_the_default_action() -> None:
    rule = FilterRule(NetworkRule.destination_network("192.0.2.0/24"), FilterAction.ALLOW)
    matcher = FilterRuleMatcher(FilterSettings([rule], FilterAction.DROP))
    assert matcher.decide(flow_to("203.0.113.1")) == (FilterAction.DROP, "default action")


def far_networks(number: int) -> NetworkRule:
    return NetworkRule.destination_network(f"10.{number >> 8}.{number & 255}.0/24", port=443)


def far_prefixes(number: int) -> NetworkRule:
    return NetworkRule.destination_network(f"10.{number >> 8}.{number & 255}.0/{8 + number % 25}", port=number)


def names(number: int) -> NetworkRule:
    return NetworkRule.destination_host(f"h{number}.example.com")


def one_near_network(number: int) -> NetworkRule:
    return NetworkRule.remote_and_local(f"10.{number >> 8}.{number & 255}.0/24", None, "192.168.0.0/16")


def near_networks(number: int) -> NetworkRule:
    return NetworkRule.remote_and_local(None, None, f"192.168.{number >> 8}.{number & 255}/32")


@pytest.mark.parametrize("kind", [far_networks, far_prefixes, names, one_near_network, near_networks])
def test_the_time_does_not_grow_with_the_rules(kind: Callable[[int], NetworkRule]) -> None:
    """A walk through 1000 rules takes a thousand times as long as through one; the bound is for busy machines."""
    local = ip_address("192.168.250.250").packed
    flow = FlowFacts(Protocol.TCP, ip_address("203.0.113.9").packed, 443, "www.example.org", local_address=local)
    took = []
    for count in (1, 1000):
        rules = [FilterRule(kind(number), FilterAction.DROP) for number in range(count)]
        matcher = FilterRuleMatcher(FilterSettings(rules))
        assert matcher.decide(flow) == (FilterAction.FILTER_DATA, "default action")
        took.append(min(timeit.repeat(lambda matcher=matcher: matcher.decide(flow), number=100, repeat=20)))  # type: ignore[misc]
    assert took[1] < 30 * took[0]
