"""resolv.conf(5) as hosts have it, and as the sandbox gets it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.resolv_conf import name_servers, sandbox_resolv_conf


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.53\n", ["192.0.2.53"]),
        ("nameserver\t192.0.2.53", ["192.0.2.53"]),
        ("nameserver 192.0.2.53 # at home\nnameserver 2001:db8::53 ; away\n", ["192.0.2.53", "2001:db8::53"]),
        ("nameserver fe80::1%eth0\n", ["fe80::1%eth0"]),
        ("nameserver 192.0.2.1\r\nnameserver 192.0.2.2\r\n", ["192.0.2.1", "192.0.2.2"]),
        ("".join(f"nameserver 192.0.2.{number}\n" for number in range(5)), ["192.0.2.0", "192.0.2.1", "192.0.2.2"]),
        ("# nameserver 192.0.2.1\n;nameserver 192.0.2.2\n", ["127.0.0.1"]),
        ("search example.com\noptions ndots:2\n", ["127.0.0.1"]),
        ("nameserver\nnameservers 192.0.2.1\n", ["127.0.0.1"]),
        ("", ["127.0.0.1"]),
        # no addresses: asking for them would take the resolver itself, and block the engine
        ("nameserver dns.example\nnameserver 192.0.2.53\n", ["192.0.2.53"]),
        ("nameserver 192.0.2.256\nnameserver 192.0.2.53:53\n", ["127.0.0.1"]),
        (f"nameserver {'a' * 70}\nnameserver \0\n", ["127.0.0.1"]),
    ],
)
def test_servers(text: str, servers: list[str]) -> None:
    assert name_servers(text) == servers


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (
            "# by the network\nsearch example.com\n\nnameserver 192.0.2.53\noptions ndots:2\nnameserver 192.0.2.54\n",
            "# by the network\nsearch example.com\noptions ndots:2\nnameserver 192.0.0.1\n",
        ),
        ("nameserver 192.0.2.53", "nameserver 192.0.0.1\n"),
        (" nameserver nonsense\n", "nameserver 192.0.0.1\n"),
        ("", "nameserver 192.0.0.1\n"),
    ],
)
def test_the_sandbox_asks_us_and_searches_as_the_host_does(text: str, inside: str) -> None:
    assert sandbox_resolv_conf(text, "192.0.0.1") == inside


words = st.sampled_from(
    ["nameserver", "search", "options", "192.0.2.1", "::1", "#", "\t", " ", "\n", "\r", "\x0b", "\u2028"]
)
texts = st.text(max_size=100) | st.lists(words | st.text(max_size=5), max_size=20).map(" ".join)


@given(texts)
def test_any_text_gives_one_to_three_addresses(text: str) -> None:
    servers = name_servers(text)
    assert 1 <= len(servers) <= 3
    assert all(map(ip_address, servers))


@given(texts)
def test_whatever_the_host_says_the_sandbox_asks_nobody_else(text: str) -> None:
    inside = sandbox_resolv_conf(text, "192.0.0.1")
    assert name_servers(inside) == ["192.0.0.1"]
    assert [line for line in inside.split("\n") if line.startswith("nameserver")] == ["nameserver 192.0.0.1"]
