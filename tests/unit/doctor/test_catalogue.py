"""The catalogue of rules is whole: ids, families, sources, and texts that say something."""

from __future__ import annotations

import re

import pytest

from network_extension.doctor.catalogue import RULES, rule_named
from network_extension.doctor.rule import FAMILIES, Grade, Rule, Severity
from network_extension.doctor.sources import SOURCES
from network_extension.errors import ConfigurationError

ALL = pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))


@ALL
def test_each_rule_says_what_it_is_about(rule: Rule) -> None:
    assert re.fullmatch(r"[A-Z]{3,4}\d{3}", rule.id) and rule.family in FAMILIES
    assert rule.title and not rule.title.endswith(".") and len(rule.title) <= 100
    assert rule.cause.endswith((".", "'")), "whole sentences"
    assert rule.fix.endswith((".", "")) and "  " not in rule.cause + rule.fix
    assert set(rule.sources) <= set(SOURCES)
    assert rule.sources or rule.grade is Grade.EXPERIENCE, "what is known is known from somewhere"


@ALL
def test_what_is_only_experience_warns_at_most(rule: Rule) -> None:
    assert rule.effective_severity <= rule.severity
    assert (rule.grade is not Grade.EXPERIENCE) or rule.effective_severity <= Severity.WARN


def test_no_rule_is_lost_and_none_is_there_twice() -> None:
    from network_extension.doctor import catalogue

    count = sum(len(part.RULES) for part in catalogue._PARTS)
    assert count == len(RULES) == 123
    families = {family: [rule.id for rule in RULES.values() if rule.family == family] for family in FAMILIES}
    assert {family: len(ids) for family, ids in families.items()} == {
        "PKG": 23, "SIG": 23, "ENT": 25, "PROF": 14, "INF": 20, "APP": 5, "DEP": 13,
    }  # fmt: skip
    assert all(ids == sorted(ids) for ids in families.values())


def test_every_source_is_used_and_leads_to_apple() -> None:
    used = {key for rule in RULES.values() for key in rule.sources}
    assert used == set(SOURCES)
    assert all(url == "" or url.startswith("https://developer.apple.com/") for _, url in SOURCES.values())


def test_a_rule_by_its_id() -> None:
    assert rule_named("pkg001") is RULES["PKG001"]
    with pytest.raises(ConfigurationError, match="did you mean PKG0"):
        rule_named("PKG00")
    with pytest.raises(ConfigurationError, match="see netext doctor rules"):
        rule_named("something else")
