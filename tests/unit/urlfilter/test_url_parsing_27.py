"""What an app may set from system 27 on: the documentation's examples, and expressions that no URL can make slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.errors import ConfigurationError
from network_extension.urlfilter.url_forms import candidates
from network_extension.urlfilter.url_parsing import UnusableURL
from network_extension.urlfilter.url_parsing_27 import DomainOptions, ParsingConfiguration, PathOptions, QueryOptions
from network_extension.urlfilter.url_parsing_expression import ParsingExpression

URL = "https://www.example.com/a/b/c?id=123#fragment"
WHOLE_ONLY = {
    "domain": DomainOptions(enumerate_hierarchy=False),
    "path": PathOptions(enumerate_hierarchy=False),
    "exclude_intermediates": True,
}


def without_ports(configuration: ParsingConfiguration, url: str = URL) -> set[str]:
    return {form for form in candidates(url, "27", configuration) if ":443" not in form}


def test_an_excluded_path_leaves_its_mark() -> None:
    forms = candidates(URL, "27", ParsingConfiguration(path=PathOptions(excluded=True)))
    assert "example.com/%*?id=123#fragment" in forms
    assert "example.com/a" not in forms


def test_an_excluded_domain_leaves_its_mark_and_no_port() -> None:
    forms = candidates(URL, "27", ParsingConfiguration(domain=DomainOptions(excluded=True, levels=1)))
    assert "%*/a/b/c?id=123#fragment" in forms and "%*" in forms
    assert all(form.startswith("%*") for form in forms)


def test_query_and_fragment_excluded() -> None:
    configuration = ParsingConfiguration(query=QueryOptions(excluded=True), exclude_fragment=True)
    assert "example.com/a/b/c?%*#%*" in candidates(URL, "27", configuration)
    assert not any("%*" in form for form in candidates("https://example.com/a", "27", configuration))


def test_query_items_are_picked_in_the_order_named() -> None:
    configuration = ParsingConfiguration(query=QueryOptions(parameters=("id", "external")))
    forms = candidates("http://example.com/a/b/c?external&id=123&type=abc", "27", configuration)
    assert "example.com/a/b/c?id=123&external" in forms
    assert not any("type" in form for form in forms)
    assert not any("?" in form for form in candidates("http://example.com/?type=abc", "27", configuration))


def test_levels_segments_and_hierarchies() -> None:
    levels = ParsingConfiguration(domain=DomainOptions(levels=2, enumerate_hierarchy=False))
    assert "example.com" in candidates("https://www.sub.example.com/", "27", levels)
    assert not any("sub" in form for form in candidates("https://www.sub.example.com/", "27", levels))
    segments = without_ports(ParsingConfiguration(path=PathOptions(segments=2)), "https://example.com/a/b/c/d")
    assert "example.com/a/b" in segments and not any("/c" in form for form in segments)
    exact = ParsingConfiguration(domain=DomainOptions(enumerate_hierarchy=False))
    assert "example.com" not in candidates("https://sub.example.com/", "27", exact)


def test_only_the_whole_url() -> None:
    whole = {"example.com/a/b/c?id=123#fragment", "example.com/a/b/c/?id=123#fragment"}
    assert without_ports(ParsingConfiguration(**WHOLE_ONLY)) == whole  # type: ignore[arg-type]  # values of several types
    assert without_ports(ParsingConfiguration(**WHOLE_ONLY), "https://example.com/a") == {  # type: ignore[arg-type]  # same
        "example.com/a",
        "example.com/a/",
    }


def test_scheme_www_and_case_are_kept_on_demand() -> None:
    configuration = ParsingConfiguration(
        exclude_scheme=False, domain=DomainOptions(strip_www=False), case_sensitive=True
    )
    forms = candidates("https://www.Example.com/Path", "27", configuration)
    assert "https://www.example.com/Path" in forms and "https://example.com/Path" in forms


def test_an_expressions_named_groups_become_one_string() -> None:
    expression = ParsingExpression(r"https?://(?<host>[^/]+)(/(?<first>[^/?#]*))?.*[?&]v=(?<v>[^&#]*)")
    assert candidates("https://BÜCHER.example/watch?list=2&v=AbC#t", "27", expression) == (
        "host=xn--bcher-kva.example first=watch v=AbC",
    )
    assert candidates("https://example.com/watch", "27", expression) == ()


def test_a_group_without_a_part_in_the_match_is_left_out() -> None:
    expression = ParsingExpression("(?<a>x)?(?<host>example)")
    assert candidates("https://example.com", "27", expression) == ("host=example",)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("https://[^/]+", "without a named group"),
        ("(?<host", "invalid named capture"),
        ("(?<ho_st>a)", "ASCII letters"),
        ("(?=a)(?<h>b)", "look-around"),
        (r"(?<h>a)\1", "references back"),
        ("(?<h>a", "missing"),
        ("[a", "missing"),
        ("*", "repetition"),
        ("(?<h>a{2000})", "repetition"),
        ("(?<h>((a{100}){100}){100})", "repetition|large"),
        ("(?<h>\ud800)", "UTF-8"),
        ("a" * 2000, "longer"),
    ],
)
def test_patterns_that_are_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        ParsingExpression(pattern)


@pytest.mark.parametrize("pattern", ["(?<h>(a+)+b)", "(?<h>(a|a)*b)", "(?<h>(a*)*(a*)*(a*)*b)", "(?<h>(.*.*.*)*;b)"])
def test_expressions_that_ruin_a_backtracking_matcher_are_done_in_time(pattern: str) -> None:
    # Python's own matcher takes 2^4000 steps for the first of them; this test would meet pytest's time limit.
    assert ParsingExpression(pattern).candidates(f"https://x.example/{'a' * 4000}") == ()


def test_a_url_too_long_for_an_expression_is_refused() -> None:
    with pytest.raises(UnusableURL, match="8192"):
        ParsingExpression("(?<h>.)").candidates("https://example.com/" + "a" * 9000)


@given(st.text("()[]{}?*+|^$\\<>:=!abn-,19", max_size=30))
def test_fuzz_any_pattern_is_taken_or_refused(pattern: str) -> None:
    try:
        expression = ParsingExpression(pattern)
    except ConfigurationError:
        return
    assert len(expression.candidates("https://example.com/ab?n=1")) <= 1
