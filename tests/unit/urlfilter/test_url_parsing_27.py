"""What an app may set from system 27 on: the examples of the documentation, and expressions held against Python's."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from network_extension.errors import ConfigurationError
from network_extension.urlfilter.regular_expression import ExpressionError, compile_expression, search
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
        ("(?<host", "no group"),
        ("(?<ho_st>a)", "ASCII letters"),
        ("(?<a>x)(?<a>y)", "two groups"),
        ("(?=a)(?<h>b)", "look-around"),
        (r"(?<h>a)\1", "backtracking"),
        ("(?<h>a", "not closed"),
        ("(?<h>a))", "not opened"),
        ("[a", "not closed"),
        ("[z-a]", "backwards"),
        ("*", "nothing stands before"),
        ("a++", "possessive"),
        ("^*", "repeated"),
        ("a{3,2}", "backwards"),
        ("a{2000}", "beyond"),
        ("((a{1000}){1000})", "steps"),
        ("(" * 60 + ")" * 60, "deeper"),
        ("a" * 2000, "longer"),
    ],
)
def test_patterns_that_are_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        ParsingExpression(pattern)


@pytest.mark.parametrize("pattern", ["(?<h>(a+)+b)", "(?<h>(a|a)*b)", "(?<h>(a*)*(a*)*(a*)*b)", "(?<h>(.*.*.*)*b)"])
def test_expressions_that_ruin_a_backtracking_matcher_are_done_in_time(pattern: str) -> None:
    # Python's own matcher takes 2^40 steps for the first of them; this test would meet pytest's time limit.
    assert search(compile_expression(pattern), "a" * 400) is None


def test_a_url_too_long_for_an_expression_is_refused() -> None:
    with pytest.raises(UnusableURL, match="8192"):
        ParsingExpression("(?<h>.)").candidates("https://example.com/" + "a" * 9000)


ATOM = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", "[a-c]", r"\w", r"\d", "A", r"\.", "[b-]", "1"])
PLACE = st.sampled_from(["^", "$", r"\b", r"\B"])
REPEAT = st.sampled_from(["", "", "", "*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0,2}?", "{1,}"])


def _patterns(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = st.sampled_from(["(", "(?:", "(?<NAME>"])
    return st.one_of(
        st.builds(lambda left, right: left + right, inner, inner),
        st.builds(lambda left, right: f"{left}|{right}", inner, inner),
        st.builds(lambda opened, body, repeat: f"{opened}{body}){repeat}", group, inner, REPEAT),
    )


PATTERN = st.recursive(st.builds(str.__add__, ATOM, REPEAT) | PLACE, _patterns, max_leaves=6)


@given(PATTERN, st.text("abcAB1.", min_size=1, max_size=8))
def test_matches_are_those_of_pythons_matcher(pattern: str, text: str) -> None:
    names = iter(f"g{number}" for number in range(100))
    pattern = re.sub("NAME", lambda _: next(names), pattern)
    expected = re.search(pattern.replace("(?<", "(?P<"), text, re.IGNORECASE | re.ASCII)
    found = search(compile_expression(pattern), text)
    assert (found is None) == (expected is None)
    # A loop around what may be empty leaves its groups differently in every matcher; the match itself is the same.
    assume(not re.search(r"\)(\*|\+|\{)", pattern))
    if expected is not None:
        assert found == {name: value for name, value in expected.groupdict().items() if value is not None}


@given(st.text("()[]{}?*+|^$\\<>:=!abn-,19", max_size=30))
def test_fuzz_any_pattern_is_compiled_or_refused(pattern: str) -> None:
    try:
        program = compile_expression(pattern)
    except ExpressionError:
        return
    search(program, "https://example.com/ab?n=1")
