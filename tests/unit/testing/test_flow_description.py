"""Flows as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import ConfigurationError, Direction, Endpoint
from network_extension.testing import parse_flow


@pytest.mark.parametrize(
    ("text", "program", "host", "port", "protocol"),
    [
        ("curl → example.com:443", "curl", "example.com", 443, 6),
        ("/usr/bin/curl -> example.com:443/udp", "/usr/bin/curl", "example.com", 443, 17),
        ("curl to example.com", "curl", "example.com", 443, 6),
        ("→ 192.0.2.1:80", "", "192.0.2.1", 80, 6),
        ("example.com:53/UDP", "", "example.com", 53, 17),
        ("my program → [2001:db8::1]:22", "my program", "2001:db8::1", 22, 6),
        ("ping → 192.0.2.1/icmp", "ping", "192.0.2.1", 0, 1),
    ],
)
def test_what_it_says(text: str, program: str, host: str, port: int, protocol: int) -> None:
    flow = parse_flow(text)
    assert flow.remote_endpoint == Endpoint(host, port)
    assert flow.source_app_identifier == program.rpartition("/")[2]
    assert flow.socket_protocol == protocol
    assert flow.direction is Direction.OUTBOUND


def test_a_flow_that_comes_in() -> None:
    flow = parse_flow("sshd ← 192.0.2.7:50022")
    assert (flow.direction, flow.source_app_identifier) == (Direction.INBOUND, "sshd")


def test_a_name_is_the_host_name_and_an_address_is_not() -> None:
    assert parse_flow("→ Example.COM.:1").remote_hostname == "example.com"
    assert parse_flow("→ 192.0.2.1:1").remote_hostname is None


@pytest.mark.parametrize(
    "text", ["", "curl example.com", "curl →", "curl → a b", "→ example.com:99999", "→ x/sctp", "→ [::1", "→ :80"]
)
def test_what_cannot_be_understood(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_flow(text)


@given(st.text(max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        parse_flow(text)
    except ConfigurationError:
        pass
