"""What devices test for a URL: the documentation's two lists as golden tests, and what holds for any URL."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.errors import ConfigurationError
from network_extension.urlfilter.url_forms import SYSTEMS, System, candidates, row_of
from network_extension.urlfilter.url_parsing import UnusableURL, parse_url
from network_extension.urlfilter.url_parsing_27 import ParsingConfiguration

FORMS_26_0 = [
    "example.com",
    "example.com/",
    "www.example.com",
    "www.example.com/",
    "example.com/a",
    "example.com/a/",
    "www.example.com/a",
    "www.example.com/a/",
    "example.com/a/b",
    "example.com/a/b/",
    "www.example.com/a/b",
    "www.example.com/a/b/",
    "example.com/a/b/c",
    "example.com/a/b/c/",
    "www.example.com/a/b/c",
    "www.example.com/a/b/c/",
    "example.com/a/b/c?id=123",
    "example.com/a/b/c?id=123/",
    "www.example.com/a/b/c?id=123",
    "www.example.com/a/b/c?id=123/",
    "example.com/a/b/c?id=123#fragment",
    "example.com/a/b/c?id=123#fragment/",
    "www.example.com/a/b/c?id=123#fragment",
    "www.example.com/a/b/c?id=123#fragment/",
]
BEHIND_26_4 = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/",
    "/a/b/c",
    "/a/b/c/",
    "/a/b/c/?id=123",
    "/a/b/c/?id=123#fragment",
    "/a/b/c?id=123",
    "/a/b/c?id=123#fragment",
]
HOSTS_26_4 = ["example.com", "example.com:443", "sub1.example.com", "sub1.example.com:443"]


def test_the_24_forms_of_26_0() -> None:
    assert len(FORMS_26_0) == 24
    assert candidates("https://www.example.com/a/b/c?id=123#fragment", "26.0") == tuple(FORMS_26_0)


def test_the_48_forms_of_26_4_in_the_documentations_order() -> None:
    expected = [host + behind for host, behind in product(HOSTS_26_4, ["", *BEHIND_26_4])]
    assert len(expected) == 48
    assert list(candidates("https://www.sub1.example.com/a/b/c?id=123#fragment", "26.4")) == expected


def test_system_27_tests_the_same_in_lower_case() -> None:
    url = "https://www.sub1.example.com/A/b/c?Id=123#Fragment"
    assert candidates(url, "27") == tuple(form.lower() for form in candidates(url, "26.4"))
    assert candidates(url, "27", ParsingConfiguration()) == candidates(url, "27")


def test_what_was_seen_on_26_0_beyond_the_documentation() -> None:
    url = "https://www.example.com/a?q=1"
    extra = set(candidates(url, "26.0", include_observed=True)) - set(candidates(url, "26.0"))
    assert extra == {"com", "com/", "example.com/a/?q=1", "www.example.com/a/?q=1"}


@pytest.mark.parametrize(
    ("url", "row"),
    [
        ("example.com", "example.com"),
        ("HTTPS://WWW.Example.COM./", "example.com"),
        ("http://user:secret@example.com:80/", "example.com"),
        ("https://example.com:443/Path/", "example.com/Path"),
        ("https://example.com:8443/a//b/", "example.com:8443/a//b"),
        ("http://example.com:443/", "example.com:443"),
        ("https://bücher.example/ü", "xn--bcher-kva.example/%C3%BC"),
        ("https://BÜCHER。example", "xn--bcher-kva.example"),
        ("https://☃.example", "xn--n3h.example"),
        ("https://faß.example", "xn--fa-hia.example"),
        ("https://ex%61mple.com/a%2Fb", "example.com/a%2Fb"),
        ("https://example.com/a/../b/./c", "example.com/b/c"),
        ("https://example.com/a/%2E%2e/b", "example.com/b"),
        ("https://example.com/a/..", "example.com"),
        ("https://example.com\\a\\b", "example.com/a/b"),
        ("https://example.com/?q=1", "example.com?q=1"),
        ("https://example.com?", "example.com?"),
        ("https://example.com/a#top", "example.com/a#top"),
        ("//example.com/a", "example.com/a"),
        ("https://[2001:DB8:0::1]:8443/a", "[2001:db8::1]:8443/a"),
        ("https://192.0.2.1/a", "192.0.2.1/a"),
        ("https://0xC0000201/", "192.0.2.1"),
        ("https://192.0.513/", "192.0.2.1"),
        ("https://0300.0.2.1", "192.0.2.1"),
        ("ws://track_er.example/x", "track_er.example/x"),
        ("https://www.com/", "www.com"),
        ("https://example.0xzz1", "example.0xzz1"),
        ("https://example.com/a?x=<y>", "example.com/a?x=%3Cy%3E"),
    ],
)
def test_rows(url: str, row: str) -> None:
    assert row_of(url) == row


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("https://exa mple.com", "space"),
        ("https://example.com/\x00", "control"),
        ("ftp://example.com", "not ftp"),
        ("mailto:someone@example.com", "not mailto"),
        ("javascript:alert(1)", "not javascript"),
        ("https://example..com", "empty label"),
        ("https://-example.com", "hyphen"),
        ("https://exam!ple.com", "character"),
        (f"https://{'a' * 64}.com", "63"),
        (f"https://{'a.' * 130}com", "253"),
        ("https://example.com:port/", "port"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://[::1/", "brackets"),
        ("https://[fe80::1%25eth0]/", "zone"),
        ("https://[example]/", "IPv6"),
        ("https://1.2.3.4.5/", "IPv4"),
        ("https://256.1.1.1/", "IPv4"),
        ("https://xn--\N{SNOWMAN}\N{SOFT HYPHEN}.example\N{REPLACEMENT CHARACTER}", "character"),
        ("https://example.com/" + "a" * 70_000, "longer"),
    ],
)
def test_what_is_no_url_is_refused_with_the_reason_and_without_the_url(text: str, reason: str) -> None:
    with pytest.raises(UnusableURL, match=reason) as caught:
        row_of(text)
    assert "someone" not in str(caught.value) and "example" not in str(caught.value)


def test_addresses_have_no_domains_above() -> None:
    assert candidates("https://192.0.2.1/") == ("192.0.2.1", "192.0.2.1/", "192.0.2.1:443", "192.0.2.1:443/")
    assert candidates("http://[2001:db8::1]") == tuple(f"[2001:db8::1]{end}" for end in ("", "/", ":80", ":80/"))
    assert candidates("https://192.0.2.1", "26.0") == ("192.0.2.1", "192.0.2.1/")


def test_ports_other_than_the_schemes_own() -> None:
    assert "example.com:8443/a" in candidates("https://example.com:8443/a")
    assert "example.com/a" in candidates("https://example.com:8443/a")
    assert "example.com:443/a" not in candidates("https://example.com:8443/a")


def test_the_number_of_forms_is_bounded_for_any_url() -> None:
    url = f"https://{'a.' * 120}example.com/{'b/' * 30_000}?q#f"
    forms = candidates(url)
    assert len(forms) < 10_000
    assert "example.com/b" in forms and "example.com" in forms


def test_a_row_deeper_than_what_is_tested_is_refused() -> None:
    with pytest.raises(UnusableURL, match="64 segments"):
        row_of("https://example.com/" + "a/" * 65)


def test_unknown_systems_and_misplaced_configurations_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"26\.4"):
        candidates("https://example.com", "28")  # type: ignore[arg-type]  # what a caller without types may do
    with pytest.raises(ConfigurationError, match="from system 27 on"):
        candidates("https://example.com", "26.4", ParsingConfiguration())


LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,10}[a-z0-9_])?", fullmatch=True).filter(lambda text: "xn--" not in text)
HOST = st.builds(lambda labels: ".".join([*labels, "example"]), st.lists(LABEL, min_size=1, max_size=4))
PATH = st.lists(st.text("abcABC0.%-/", max_size=5), max_size=5).map(lambda parts: "".join(f"/{part}" for part in parts))
TAIL = st.sampled_from(["", "?", "?q=1", "?q=1&r#f", "#", "#f/g", "?a/b"])
PORT = st.sampled_from(["", ":443", ":80", ":8443"])


@given(st.sampled_from(["https://", "http://", ""]), HOST, PORT, PATH, TAIL)
def test_a_url_published_as_its_row_is_found_by_every_system(
    scheme: str, host: str, port: str, path: str, tail: str
) -> None:
    url = scheme + host + port + path + tail
    row = row_of(url)
    if scheme != "http://":  # of http, :443 is a port of its own, which without the scheme is not seen any more
        assert row_of(row) == row
    for system in SYSTEMS:
        tested = candidates(url, system)
        assert (row.lower() if system == "27" else row) in tested
        assert len(set(tested)) == len(tested)


@given(HOST, PATH)
def test_a_published_domain_blocks_its_sub_domains_on_every_system(host: str, path: str) -> None:
    for system in SYSTEMS:
        assert row_of(host) in candidates(f"https://deep.{host}{path}", system)
        assert row_of(host) in candidates(f"http://www.{host}{path}", system)


@given(st.text(), st.sampled_from(SYSTEMS))
def test_fuzz_any_text_gives_forms_or_its_error(text: str, system: System) -> None:
    for url in (text, f"https://{text}", f"https://example.com/{text}", f"https://xn--{text}.example"):
        try:
            assert candidates(url, system, include_observed=True)
            row_of(url)
        except UnusableURL:
            pass


def test_parts_say_what_was_there() -> None:
    parts = parse_url("http://u@example.com:8080/p?#")
    assert (parts.scheme, parts.host, parts.port, parts.path, parts.query, parts.fragment) == (
        "http",
        "example.com",
        8080,
        "/p",
        "",
        "",
    )
