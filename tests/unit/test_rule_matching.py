"""Which flows a set of rules claims: Apple's semantics as a table, the fast matcher against the plain definition."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension import Endpoint, NetworkRule, Protocol, TransparentProxyNetworkSettings
from network_extension.core.rule_matching import (
    DNS_PORT,
    FlowFacts,
    TransparentProxyMatcher,
    is_loopback,
    matches,
    name_fits,
    stands_for_dns,
)

TCP, UDP = Protocol.TCP, Protocol.UDP
net, host = NetworkRule.destination_network, NetworkRule.destination_host


def facts(address: str, port: int = 443, name: str | None = None, protocol: Protocol = TCP) -> FlowFacts:
    return FlowFacts(protocol, ip_address(address).packed, port, name)


@pytest.mark.parametrize(
    ("rule", "flow", "expected"),
    [
        (net("192.0.2.0/24"), facts("192.0.2.9"), True),
        (net("192.0.2.7/24"), facts("192.0.2.9"), True),  # host bits do not count
        (net("192.0.2.0/24"), facts("192.0.3.9"), False),
        (net("192.0.2.0/24"), facts("::ffff:192.0.2.9"), True),
        (net("::ffff:192.0.2.0", 120), facts("192.0.2.9"), True),
        (net("192.0.2.1"), facts("2001:db8::1"), False),
        (net("192.0.2.1", port=80), facts("192.0.2.1", 443), False),
        (net("192.0.2.1", protocol="udp"), facts("192.0.2.1"), False),
        (net("0.0.0.0", port=443), facts("2001:db8::1"), True),  # the wildcard is of both families
        (net("0.0.0.0", port=443), facts("127.0.0.1"), False),
        (net("::", port=443), facts("::1"), False),
        (net("127.0.0.0/8"), facts("127.0.0.53"), True),
        (net("::1"), facts("::1"), True),
        (net("::1"), facts("::ffff:127.0.0.1"), False),
        (NetworkRule.remote_and_local(), facts("127.0.0.1"), False),
        (NetworkRule.remote_and_local(), facts("192.0.2.1"), True),
        (NetworkRule.remote_and_local(direction="inbound"), facts("192.0.2.1"), False),
        (host("localhost"), facts("127.0.0.1", name="localhost"), False),
        (host("printer"), facts("192.0.2.1", name="printer"), True),
        (host("printer"), facts("192.0.2.1", name="a.printer"), False),
        (host("example.com"), facts("192.0.2.1", name="example.com"), True),
        (host("example.com"), facts("192.0.2.1", name="a.b.example.com"), True),
        (host("example.com"), facts("192.0.2.1", name="badexample.com"), False),
        (host("example.com"), facts("192.0.2.1"), False),
        (host("example.com", port=80), facts("192.0.2.1", 443, "example.com"), False),
    ],
)
def test_one_rule_over_one_flow(rule: NetworkRule, flow: FlowFacts, expected: bool) -> None:
    assert matches(rule, flow) is expected
    if rule.match_direction == 2:
        matcher = TransparentProxyMatcher(TransparentProxyNetworkSettings([rule]))
        claimed, text = matcher.claims(flow.protocol, flow.remote_address, flow.remote_port, flow.host)
        assert claimed is expected
        assert text == (f"included[0] {rule}" if expected else "no included rule matches")


def test_local_network_counts_where_it_may_be_given() -> None:
    rule = NetworkRule.remote_and_local(local="10.0.0.0/8")
    flow = facts("192.0.2.1")._replace(local_address=ip_address("10.1.1.1").packed)
    assert matches(rule, flow)
    assert not matches(rule, flow._replace(local_address=ip_address("11.1.1.1").packed))


def test_traffic_over_lo_to_an_own_address_is_loopback() -> None:
    matcher = TransparentProxyMatcher(TransparentProxyNetworkSettings([net("192.0.2.0/24")]))
    assert matcher.claims(TCP, ip_address("192.0.2.1").packed, 80)[0]
    assert not matcher.claims(TCP, ip_address("192.0.2.1").packed, 80, None, True)[0]


def test_excluded_wins_in_any_order_and_says_so() -> None:
    matcher = TransparentProxyMatcher(
        TransparentProxyNetworkSettings(
            [net("192.0.2.1"), host("a.example")], [net("192.0.2.0/24"), host("b.a.example")]
        )
    )
    claimed, text = matcher.claims(TCP, ip_address("192.0.2.1").packed, 80)
    assert (claimed, text) == (False, "excluded[0] outbound any protocol to 192.0.2.0/24")
    assert matcher.claims(TCP, ip_address("198.51.100.1").packed, 80, "c.a.example")[0]
    assert not matcher.claims(TCP, ip_address("198.51.100.1").packed, 80, "x.b.a.example")[0]


def test_no_settings_and_empty_settings() -> None:
    everything, nothing = (
        TransparentProxyMatcher(),
        TransparentProxyMatcher(TransparentProxyNetworkSettings()),
    )
    for address, expected in (
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("127.0.0.1", False),
        ("::1", False),
    ):
        assert everything.claims(UDP, ip_address(address).packed, 53)[0] is expected
        assert nothing.claims(UDP, ip_address(address).packed, 53)[0] is False


@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        (host("example.com"), "www.example.com", True),
        (host("example.com", port=53), "example.com", True),
        (host("example.com", port=443), "example.com", False),
        (host("example.com", "tcp"), "example.com", False),
        (net("0.0.0.0", port=443), "example.com", False),
    ],
)
def test_host_rules_stand_for_dns_queries(rule: NetworkRule, name: str, expected: bool) -> None:
    assert TransparentProxyMatcher(TransparentProxyNetworkSettings([rule])).claims_dns(name)[0] is expected
    assert not TransparentProxyMatcher(TransparentProxyNetworkSettings([rule], [rule])).claims_dns(name)[0]
    assert not TransparentProxyMatcher().claims_dns(name)[0]


names = st.sampled_from(["a", "b", "a.b", "b.a", "x.a.b", "xa.b", "c.x.a.b", "b.b", "a.b.b"])
addresses = st.sampled_from(
    ["10.0.0.1", "10.0.0.2", "10.128.0.1", "11.0.0.1", "126.0.0.1", "127.0.0.1", "127.9.9.9", "128.0.0.1"]
    + ["::1", "::2", "2001:db8::1", "2001:db8::2", "2001:db9::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1"]
)
ports = st.sampled_from([0, 53, 80, 443])
protocols = st.sampled_from(list(Protocol))


@st.composite
def rules(draw: Any) -> NetworkRule:
    if draw(st.booleans()):
        return host(draw(names), draw(protocols), port=draw(ports))
    remote = draw(st.none() | st.sampled_from(["0.0.0.0", "::"]) | addresses)
    if remote is None:
        return NetworkRule.remote_and_local(protocol=draw(protocols), direction="outbound")
    prefix = None if remote in ("0.0.0.0", "::") else draw(st.integers(1, 128 if ":" in remote else 32))
    return net(Endpoint(remote, draw(ports)), prefix, draw(protocols))


@given(
    st.lists(rules(), max_size=6),
    st.lists(rules(), max_size=3),
    st.sampled_from([TCP, UDP]),
    addresses,
    st.sampled_from([53, 80, 443, 1]),
    st.none() | names,
    st.booleans(),
)
@settings(max_examples=1500, deadline=None)
def test_the_matcher_agrees_with_the_definition(
    included: list[NetworkRule],
    excluded: list[NetworkRule],
    protocol: Protocol,
    address: str,
    port: int,
    name: str | None,
    loopback: bool,
) -> None:
    packed = ip_address(address).packed
    flow = FlowFacts(protocol, packed, port, name, loopback)
    hit, missed = [matches(rule, flow) for rule in included], [matches(rule, flow) for rule in excluded]
    matcher = TransparentProxyMatcher(TransparentProxyNetworkSettings(included, excluded))
    claimed, text = matcher.claims(protocol, packed, port, name, loopback)
    assert claimed is (any(hit) and not any(missed))
    if "[" in text and text.startswith(("included[", "excluded[")):
        index = int(text.partition("[")[2].partition("]")[0])
        assert (hit if claimed else missed)[index]
    if name is not None:
        asked = [stands_for_dns(rule) and _names(rule, name, protocol) for rule in included]
        spared = [stands_for_dns(rule) and _names(rule, name, protocol) for rule in excluded]
        assert matcher.claims_dns(name, protocol)[0] is (any(asked) and not any(spared))


def _names(rule: NetworkRule, name: str, protocol: Protocol) -> bool:
    end = rule.match_remote_endpoint
    fits = end is not None and end.port in (0, DNS_PORT) and name_fits(end.host, name)
    return fits and rule.match_protocol in (Protocol.ANY, protocol)


def test_loopback_addresses() -> None:
    assert [is_loopback(ip_address(a).packed) for a in ("127.1.2.3", "::1", "128.0.0.1", "::2")] == [
        True,
        True,
        False,
        False,
    ]
