"""Endpoints: parsing and printing are each other's opposite."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import ConfigurationError, Endpoint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1:80", Endpoint("192.0.2.1", 80)),
        ("[2001:DB8:0::1]:443", Endpoint("2001:db8::1", 443)),
        ("example.com:53", Endpoint("example.com", 53)),
        ("[fe80::1%eth0]:1", Endpoint("fe80::1%eth0", 1)),
    ],
)
def test_parse(text: str, expected: Endpoint) -> None:
    assert Endpoint.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", ":80", "192.0.2.1", "host:", "host:-1", "host:65536", "host:٣", "[::1", "[::1]x", "a b:1", "a/b:1"],
)
def test_nonsense_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="endpoint"):
        Endpoint.parse(text)


def test_default_port_and_bare_ipv6() -> None:
    assert Endpoint.parse("2001:db8::1", 443) == Endpoint("2001:db8::1", 443)
    assert Endpoint.parse("name", 1).hostname == "name"


@given(st.ip_addresses(), st.integers(0, 65535))
def test_print_and_parse(address: object, port: int) -> None:
    endpoint = Endpoint(str(address), port)
    assert Endpoint.parse(str(endpoint)) == endpoint
    assert endpoint.address == address
    assert endpoint.hostname is None


def test_wildcards_and_tuple() -> None:
    assert Endpoint("0.0.0.0").is_wildcard_address and Endpoint("::").is_wildcard_address
    assert Endpoint("192.0.2.1").is_wildcard_port
    assert Endpoint("192.0.2.1", 80) == ("192.0.2.1", 80)
