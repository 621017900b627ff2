"""Why a rule does not match, in words, for each kind of condition."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from network_extension import ParentProcess, ProcessInfo
from network_extension.builtin.firewall.explaining import explain
from network_extension.builtin.firewall.facts import FlowFacts, numeric
from network_extension.builtin.firewall.rule_file import parse_rules
from network_extension.builtin.firewall.rules import Action

CURL = ProcessInfo(
    7, 70, 1000, "/usr/bin/curl", ("curl", "-k"), (ParentProcess(2, "/bin/sh"), ParentProcess(1, "/bin/a"))
)
FACTS = FlowFacts("/usr/bin/curl", CURL, 1000, "www.example.com", *numeric("192.0.2.1"), 443, interface="eth0")
NOTHING = FlowFacts(protocol=132)
NOW = datetime(2027, 1, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "why", "why_not_known"),
    [
        ({"program": ["wget", "/bin/x"]}, "program wget or /bin/x does not fit: program is /usr/bin/curl", "not known"),
        ({"parent": "make"}, "parent make does not fit: parents are /bin/sh ← /bin/a", "parents are not known"),
        ({"arguments": "x"}, "arguments x does not fit: arguments are 'curl -k'", "arguments are not known"),
        ({"user": [0, "1"]}, "user 0 or 1 does not fit: user is 1000", "user is not known"),
        ({"pid": 8, "start_time": 1}, "process 8 does not fit: process is 7", "process is not known"),
        ({"interface": "wg*"}, "interface wg* does not fit: interface is eth0", "interface is not known"),
        ({"host": "x.example"}, "host x.example does not fit: host is www.example.com", "the host's name is not known"),
        ({"domain": "x"}, "host x and all below does not fit: host is www.example.com", "the host's name is not known"),
        ({"network": "::/0"}, "network ::/0 does not fit: address is 192.0.2.1", "address is not known"),
        ({"port": [1, "3-4"]}, "port 1 or 3-4 does not fit: port is 443", "132 has no ports"),
        ({"protocol": ["udp", 99]}, "protocol udp or 99 does not fit: protocol is tcp", "protocol is 132"),
        ({"direction": "inbound"}, "direction inbound does not fit: direction is outbound", "direction is outbound"),
        (
            {"hours": "13:00-14:00", "weekdays": "sat-sun"},
            "time 13:00-14:00, sat sun does not fit: it is Mon 2027",
            "Mon",
        ),
        ({"until": "2026-01-01T00:00:00+00:00"}, "time until 2026-01-01 ", "it is Mon 2027-01-04 12:00"),
    ],
)
def test_each_condition(rule: dict[str, Any], why: str, why_not_known: str) -> None:
    book = parse_rules({"default": "allow", "rule": [{"action": "deny", **rule}]})
    found = explain(book.rules, book.default, FACTS, NOW)
    assert found.decision.action is Action.ALLOW
    assert found.looked_at[0].why.startswith(why)
    assert why_not_known in explain(book.rules, book.default, NOTHING, NOW).looked_at[0].why


def test_a_list_says_which(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("example.org\n")
    rule = {"action": "deny", "list": str(tmp_path / "names.txt")}
    book = parse_rules({"default": "allow", "rule": [rule]})
    why = explain(book.rules, book.default, FACTS, NOW).looked_at[0].why
    assert why == "list names.txt does not fit: neither name nor address of www.example.com is on names.txt"
    assert str(explain(book.rules, book.default, FACTS._replace(host="www.example.org"), NOW)).endswith(
        "list names.txt"
    )


def test_a_flow_whose_name_may_come() -> None:
    rules = [{"action": "inspect", "name": "look"}, {"action": "deny", "host": "x"}, {"action": "drop", "port": 443}]
    book = parse_rules({"default": "allow", "rule": rules})
    found = explain(book.rules, book.default, FACTS._replace(host=None, may_look=True), NOW)
    assert found.decision.needs_name
    assert [looked.why for looked in found.looked_at] == [
        "looks at the first bytes",
        "would deny if the name fits, which is not known yet",
        "would drop if no name comes",
    ]
    assert found.then == "without one in them, drop by rule 'rule 3' (configuration)"


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (FACTS, "curl → www.example.com:443 tcp"),
        (FACTS._replace(host=None, version=6, address=1, is_outbound=False), "curl ← [::1]:443 tcp"),
        (NOTHING, "? → ? 132"),
        (NOTHING._replace(protocol=58), "? → ? icmp"),
    ],
)
def test_a_flow_in_words(facts: FlowFacts, text: str) -> None:
    assert str(facts) == text
