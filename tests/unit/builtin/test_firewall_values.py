"""The pieces that rules are made of: patterns, lists, times, answers."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import ConfigurationError, ProcessInfo
from network_extension.builtin.firewall.answers import Answer, domain_of, rule_data
from network_extension.builtin.firewall.facts import FlowFacts, numeric
from network_extension.builtin.firewall.lists import Ranges, TargetList, parse_network, plain_name
from network_extension.builtin.firewall.patterns import ProgramPatterns, literal, path_pattern, text_pattern
from network_extension.builtin.firewall.times import Hours, TimeLimits, parse_weekdays
from network_extension.builtin.firewall.toml_text import value_text


class TestPatterns:
    """Wildcards."""

    @given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
    def test_a_text_pattern_is_the_shells(self, glob: str, text: str) -> None:
        assert bool(text_pattern(glob).match(text)) == fnmatch.fnmatchcase(text, glob)

    @pytest.mark.parametrize(
        ("glob", "path", "fits"),
        [
            ("/usr/bin/*", "/usr/bin/curl", True),
            ("/usr/bin/*", "/usr/bin/x/curl", False),
            ("/usr/**", "/usr/bin/x/curl", True),
            ("/opt/*/bin/*", "/opt/a/bin/b", True),
            ("/opt/*/bin/*", "/opt/a/b/bin/b", False),
            ("**/curl", "/usr/bin/curl", True),
            ("/usr/bin/python3.1[12]", "/usr/bin/python3.11", True),
            ("/usr/bin/python3.1[!12]", "/usr/bin/python3.13", True),
            ("/a[b", "/a[b", True),
            ("/a?c", "/a/c", False),
        ],
    )
    def test_a_star_stays_in_its_part_of_a_path(self, glob: str, path: str, fits: bool) -> None:
        assert bool(path_pattern(glob).match(path)) == fits

    @given(st.text(min_size=1))
    def test_a_literal_fits_itself(self, text: str) -> None:
        assert text_pattern(literal(text)).match(text)
        assert ProgramPatterns.of(("/" + literal(text),)).fits("/" + text)

    def test_many_stars_are_quick_on_text_that_does_not_fit(self) -> None:
        before = time.perf_counter()
        assert not text_pattern("*a" * 30 + "b").match("a" * 60_000)
        assert time.perf_counter() - before < 2

    def test_a_name_fits_in_any_folder_and_a_path_in_its_own(self) -> None:
        patterns = ProgramPatterns.of(("curl", "/opt/wget", "python3*"))
        assert patterns.fits("/usr/bin/curl")
        assert patterns.fits("/opt/wget")
        assert patterns.fits("/usr/bin/python3.11")
        assert not patterns.fits("/usr/bin/wget")
        assert not patterns.fits("")


class TestLists:
    """Names and networks from files."""

    def test_each_format_means_what_it_means_elsewhere(self) -> None:
        found = TargetList(
            "x",
            [
                "# comment",
                "0.0.0.0 ads.example.com  tracker.example.net # both",
                "::1 localhost",
                "127.0.0.1\tlocalhost",
                "Example.ORG.",
                "*.below.example",
                ".dotted.example",
                "192.0.2.0/24",
                "2001:db8::/32",
                "198.51.100.7",
                "bücher.example",
                "",
            ],
        )
        assert found.bad_lines == 0
        assert found.has_name("ads.example.com")
        assert not found.has_name("www.ads.example.com")
        assert found.has_name("tracker.example.net")
        assert not found.has_name("localhost")
        assert found.has_name("a.b.example.org")
        assert found.has_name("example.org")
        assert not found.has_name("notexample.org")
        assert found.has_name("x.below.example")
        assert not found.has_name("below.example")
        assert found.has_name("dotted.example")
        assert found.has_name("xn--bcher-kva.example")
        assert found.has_address(*numeric("192.0.2.200"))
        assert found.has_address(*numeric("2001:db8:1::"))
        assert found.has_address(*numeric("198.51.100.7"))
        assert not found.has_address(*numeric("198.51.100.8"))
        assert not found.has_address(*numeric("no address"))

    @given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(20, 32)), max_size=20), st.data())
    def test_ranges_hold_what_the_networks_hold(self, networks: list[tuple[int, int]], data: st.DataObject) -> None:
        whole = [
            ipaddress.ip_network((address >> 24 << 24 | address & 0xFFFF, prefix), False)
            for address, prefix in networks
        ]
        ranges = Ranges(4, ((int(each[0]), int(each[-1])) for each in whole))
        near = (
            [int(each[0]) - 1 for each in whole]
            + [int(each[-1]) + 1 for each in whole]
            + [int(each[0]) for each in whole]
        )
        address = data.draw(st.sampled_from(near) if near else st.integers(0, 2**32 - 1)) % 2**32
        assert (address in ranges) == any(ipaddress.IPv4Address(address) in each for each in whole)

    @given(st.text(max_size=40))
    def test_a_network_is_what_the_standard_library_says(self, text: str) -> None:
        found = parse_network(text)
        if found is not None and found[0] == 4:
            network = ipaddress.ip_network(text, strict=False)
            assert (int(network[0]), int(network[-1])) == found[1:]

    @given(st.lists(st.text(max_size=60)))
    def test_whatever_a_list_holds_it_is_read(self, lines: list[str]) -> None:
        assert TargetList("x", lines).entries >= 0

    @pytest.mark.parametrize("name", ["a" * 64, "a b", "a/b", "", ".", "1.2.3.4", "x" * 260, "a..b", "*.x"])
    def test_what_is_no_name(self, name: str) -> None:
        assert plain_name(name) == ""

    def test_a_million_names_take_a_second_and_a_look_up_a_microsecond(self) -> None:
        lines = [f"host{number}.example{number % 1000}.com" for number in range(200_000)]
        before = time.process_time()
        found = TargetList("x", lines)
        assert time.process_time() - before < 2
        assert found.entries == 200_000
        before = time.process_time()
        for _ in range(10_000):
            found.has_name("www.images.example.org")
        assert time.process_time() - before < 0.2


class TestTimes:
    """Hours, days, moments."""

    @pytest.mark.parametrize(
        ("hours", "days", "moment", "holds"),
        [
            ("09:00-17:00", "", "2027-01-04T09:00", True),
            ("09:00-17:00", "", "2027-01-04T17:00", False),
            ("22:00-06:00", "", "2027-01-04T23:00", True),
            ("22:00-06:00", "", "2027-01-05T05:59", True),
            ("22:00-06:00", "", "2027-01-05T06:00", False),
            ("22:00-06:00", "mon", "2027-01-05T05:00", True),  # the night of Monday
            ("22:00-06:00", "mon", "2027-01-04T05:00", False),  # the night of Sunday
            ("08:00-24:00", "", "2027-01-04T23:59", True),
            ("00:00-00:00", "tue", "2027-01-05T12:00", True),
            ("", "mon-fri", "2027-01-08T12:00", True),
            ("", "mon-fri", "2027-01-09T12:00", False),
            ("", "sat-mon", "2027-01-10T12:00", True),
        ],
    )
    def test_hours_and_days(self, hours: str, days: str, moment: str, holds: bool) -> None:
        limits = TimeLimits(
            hours=(Hours.parse(hours),) if hours else (), weekdays=parse_weekdays(days) if days else frozenset()
        )
        assert limits.holds(datetime.fromisoformat(moment).replace(tzinfo=UTC)) == holds

    def test_from_is_part_of_the_time_and_until_is_not(self) -> None:
        start, end = datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC)
        limits = TimeLimits(start, end)
        assert limits.holds(start)
        assert not limits.holds(end)
        assert limits.is_over(end)
        assert not limits.is_over(start)


CURL = ProcessInfo(7, 70, 1000, "/usr/bin/curl", ("curl",))
FACTS = FlowFacts("/usr/bin/curl", CURL, 1000, "www.example.com", *numeric("192.0.2.1"), 443)
NOW = datetime(2027, 1, 1, tzinfo=UTC)


class TestAnswers:
    """What a person says becomes a rule."""

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (("allow", "ever"), {"host": "www.example.com", "protocol": "tcp", "port": 443}),
            (("allow", "run", "host"), {"host": "www.example.com"}),
            (("allow", "run", "domain"), {"domain": "example.com"}),
            (("allow", "run", "domain=www.example.com"), {"domain": "www.example.com"}),
            (("allow", "run", "port"), {"protocol": "tcp", "port": 443}),
            (("allow", "run", "program"), {}),
            (("drop", "exit", "program"), {"pid": 7, "start_time": 70, "until": "exit"}),
            (("drop", "15m", "program"), {"until": datetime(2027, 1, 1, 0, 15, tzinfo=UTC)}),
        ],
    )
    def test_scopes_and_durations(self, answer: tuple[str, ...], expected: dict[str, object]) -> None:
        found = rule_data(Answer.parse(*answer), FACTS, "x", NOW)
        assert found is not None
        assert (
            found == {"name": "x", "action": answer[0], "program": "/usr/bin/curl", "direction": "outbound"} | expected
        )

    def test_once_makes_no_rule(self) -> None:
        assert rule_data(Answer.parse("allow"), FACTS, "x", NOW) is None

    def test_a_host_without_a_name_is_its_address(self) -> None:
        found = rule_data(Answer.parse("allow", "run", "host"), FACTS._replace(host=None), "x", NOW)
        assert found is not None
        assert found["network"] == "192.0.2.1"

    @pytest.mark.parametrize(
        ("answer", "facts", "message"),
        [
            (("allow", "run"), FACTS._replace(program=""), "the program of this question is not known"),
            (("allow", "exit"), FACTS._replace(process=None), "the process of this question is not known"),
            (("allow", "run", "domain"), FACTS._replace(host=None), "has no domain"),
            (("allow", "run", "domain=example.net"), FACTS, "www.example.com is not in the domain example.net"),
            (("allow", "run"), FACTS._replace(host=None, version=0), "neither name nor address"),
        ],
    )
    def test_what_cannot_be_a_rule(self, answer: tuple[str, ...], facts: FlowFacts, message: str) -> None:
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            rule_data(Answer.parse(*answer), facts, "x", NOW)

    @pytest.mark.parametrize(
        "words", [("maybe",), ("allow", "soon"), ("allow", "once", "all"), ("allow", "1", "host=x")]
    )
    def test_what_is_no_answer(self, words: tuple[str, ...]) -> None:
        with pytest.raises(ConfigurationError, match="answer: "):
            Answer.parse(*words)

    @pytest.mark.parametrize(
        ("host", "domain"),
        [
            ("example.com", "example.com"),
            ("a.b.example.com", "example.com"),
            ("www.example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            ("localhost", "localhost"),
            ("www.example.de", "example.de"),
        ],
    )
    def test_the_domain_of_a_host(self, host: str, domain: str) -> None:
        assert domain_of(host) == domain


@given(st.text())
def test_any_text_survives_toml(text: str) -> None:
    import tomllib

    expected = text.encode("utf-8", "replace").decode()
    assert tomllib.loads(f"x = {value_text(text)}") == {"x": expected}
