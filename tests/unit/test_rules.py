"""Network rules: Apple's restrictions on them, and their plain-data form (reference §2.13, §3.11)."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import (
    AppRule,
    ConfigurationError,
    Direction,
    Endpoint,
    NetworkRule,
    NetworkSettingsError,
    Protocol,
    TransparentProxyNetworkSettings,
)

VALID = [
    NetworkRule.destination_network("192.0.2.0/24"),
    NetworkRule.destination_network("192.0.2.1", protocol="tcp", port=443),
    NetworkRule.destination_network(Endpoint("2001:db8::", 80), 32),
    NetworkRule.destination_network("0.0.0.0", port=443),
    NetworkRule.destination_network("::", protocol=Protocol.UDP, port=443),
    NetworkRule.destination_network("127.0.0.1"),
    NetworkRule.destination_host("example.com"),
    NetworkRule.destination_host("example.com", port=53),
    NetworkRule.destination_host("printer", "udp"),
    NetworkRule.remote_and_local(protocol="tcp", direction="outbound"),
    NetworkRule.remote_and_local(Endpoint("192.0.2.0", 80), 24, direction="outbound"),
]
INVALID = [
    (NetworkRule.destination_network("192.0.2.1", port=53), "53 cannot be specified as the port"),
    (NetworkRule.destination_network("0.0.0.0", port=53), "53 cannot be specified as the port"),
    (NetworkRule.destination_network("0.0.0.0"), "wildcard address needs a specific port"),
    (NetworkRule.destination_network("::"), "wildcard address needs a specific port"),
    (NetworkRule.remote_and_local(local="10.0.0.0/8", direction="outbound"), "match_local_network"),
    (NetworkRule.remote_and_local(direction="inbound"), "direction must be outbound"),
    (NetworkRule.remote_and_local(), "direction must be outbound"),
]


@pytest.mark.parametrize("rule", VALID, ids=str)
def test_rules_that_a_transparent_proxy_may_have(rule: NetworkRule) -> None:
    TransparentProxyNetworkSettings([rule], [rule]).validate()


@pytest.mark.parametrize(("rule", "reason"), INVALID, ids=[str(rule) for rule, _reason in INVALID])
@pytest.mark.parametrize("place", ["included_network_rules", "excluded_network_rules"])
def test_rules_that_it_may_not_have(rule: NetworkRule, reason: str, place: str) -> None:
    rules = [VALID[0], rule]
    included = place.startswith("included")
    settings = TransparentProxyNetworkSettings(rules if included else None, None if included else rules)
    with pytest.raises(NetworkSettingsError, match=reason) as caught:
        settings.validate()
    assert (caught.value.domain, caught.value.code) == ("NETunnelProviderErrorDomain", 1)
    assert f"{place}[1]" in str(caught.value)
    assert str(rule) in str(caught.value)


@pytest.mark.parametrize("rule", VALID + [rule for rule, _reason in INVALID], ids=str)
def test_plain_data_and_back(rule: NetworkRule) -> None:
    again = NetworkRule.from_dict(rule.to_dict())
    assert again == rule and hash(again) == hash(rule) and pickle.loads(pickle.dumps(rule)) == rule


def test_read_back() -> None:
    network = NetworkRule.destination_network("192.0.2.0/24", protocol="tcp", port=80)
    assert network.match_remote_endpoint == Endpoint("192.0.2.0", 80)
    assert (network.match_remote_prefix, network.match_local_prefix) == (24, None)
    assert network.match_protocol is Protocol.TCP and network.match_direction is Direction.OUTBOUND
    host = NetworkRule.destination_host("WWW.Bücher.example.", port=443)
    assert host.match_remote_endpoint == Endpoint("www.xn--bcher-kva.example", 443)
    assert host.match_remote_prefix is None and host.is_host_rule
    with pytest.raises(AttributeError, match="immutable"):
        network.match_protocol = Protocol.UDP


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: NetworkRule.destination_network("example.com"), "use destination_host"),
        (lambda: NetworkRule.destination_host("192.0.2.1"), "use destination_network"),
        (lambda: NetworkRule.destination_network("192.0.2.1/33"), "prefix 33"),
        (lambda: NetworkRule.destination_network("192.0.2.1/0"), "would match every address"),
        (lambda: NetworkRule.destination_network("0.0.0.0/8"), "wildcard address"),
        (lambda: NetworkRule.destination_network("192.0.2.0/24", 24), "not a network"),
        (lambda: NetworkRule.destination_network("192.0.2.1", port=70000), "70000"),
        (
            lambda: NetworkRule.destination_network("192.0.2.1", protocol="sctp"),
            "'sctp' is not one of any, tcp, udp",
        ),
        (lambda: NetworkRule.remote_and_local(direction="up"), "not one of any, inbound, outbound"),
        (lambda: NetworkRule.destination_host("a..b"), "not a host name"),
        (lambda: NetworkRule.destination_host("x" * 64 + ".org"), "not a host name"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        make()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([], r"rules\[1\]: an object is needed"),
        ({"remote": "x"}, r"rules\[1\]\.remote: \[host, port\]"),
        ({"remote": [1, 2]}, r"rules\[1\]\.remote\[0\]: a text"),
        ({"remote": ["a", 65536]}, r"rules\[1\]\.remote\[1\]: 65536"),
        ({"remote": ["a", True]}, r"rules\[1\]\.remote\[1\]: True"),
        ({"remote": ["a b", 1]}, r"rules\[1\]\.remote\[0\]"),
        ({"remote": ["192.0.2.1", 1], "remote_prefix": 129}, r"rules\[1\]\.remote_prefix: 129"),
        ({"remote": ["192.0.2.1", 1], "remote_prefix": 64}, r"rules\[1\]\.remote: prefix 64"),
        ({"protocol": 9}, r"rules\[1\]\.protocol: 9"),
        ({"protocol": ["x" * 500]}, r"rules\[1\]\.protocol: .{1,100}is not one of"),
        ({"colour": 1}, r"rules\[1\]: 'colour' is not a key"),
    ],
)
def test_bad_plain_data_is_located(data: object, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        NetworkRule.from_dict(data, "rules[1]")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["remote", "remote_prefix", "local", "local_prefix", "protocol", "direction", "included"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_any_data_gives_a_value_or_a_configuration_error(data: object) -> None:
    for read in (NetworkRule.from_dict, TransparentProxyNetworkSettings.from_dict):
        try:
            read(data)
        except ConfigurationError as error:
            assert len(str(error)) < 600


def test_settings_round_trip() -> None:
    settings = TransparentProxyNetworkSettings(VALID[:4], VALID[4:])
    assert TransparentProxyNetworkSettings.from_dict(settings.to_dict()) == settings
    with pytest.raises(ConfigurationError, match=r"settings\.included\[0\]\.protocol"):
        TransparentProxyNetworkSettings.from_dict({"included": [{"protocol": "x"}]})
    with pytest.raises(NetworkSettingsError, match=r"included_network_rules\[0\]: a NetworkRule is needed"):
        TransparentProxyNetworkSettings(["tcp"]).validate()  # type: ignore[list-item]


def test_app_rule() -> None:
    tool = AppRule("curl")
    rule = AppRule("terminal", match_path="/usr/bin/xterm", match_domains=["Example.com."], match_tools=[tool])
    assert rule.match_domains == ("example.com",) and rule.match_tools == (tool,)
    assert rule == AppRule("terminal", match_path="/usr/bin/xterm", match_domains=["example.com"], match_tools=[tool])
    with pytest.raises(ConfigurationError, match="absolute path"):
        AppRule("x", match_path="curl")
