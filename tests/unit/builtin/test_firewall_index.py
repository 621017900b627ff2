"""The index gives the answers of the plain loop over the rules, for rules and flows of every kind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension import ParentProcess, ProcessInfo
from network_extension.builtin.firewall.facts import FlowFacts, numeric
from network_extension.builtin.firewall.index import RuleIndex
from network_extension.builtin.firewall.lists import TargetList
from network_extension.builtin.firewall.places import Way
from network_extension.builtin.firewall.rule_keys import action_of, conditions_of
from network_extension.builtin.firewall.rules import Action, Rule, decide_plainly
from network_extension.builtin.firewall.tables import Table

PROGRAMS = ["/usr/bin/curl", "/usr/bin/wget", "/opt/a/bin/curl"]
HOSTS = ["example.com", "www.example.com", "a.b.example.com", "example.net", "com", "ads.example.net"]
ADDRESSES = ["192.0.2.1", "192.0.2.130", "198.51.100.7", "2001:db8::1", "2001:db8:1::1"]
LISTS = {
    "names": TargetList("names", ["0.0.0.0 www.example.com", "example.net"]),
    "networks": TargetList("networks", ["192.0.2.0/25", "2001:db8::/33"]),
    "both": TargetList("both", ["*.example.com", "198.51.100.0/24"]),
}
KEYS = {
    "program": st.sampled_from(["curl", "/usr/bin/wget", "c*", "/usr/*/curl", "/opt/**", "?get"]),
    "parent": st.sampled_from(["make", "/bin/*sh", "bash"]),
    "arguments": st.sampled_from(["*--insecure*", "curl *", "x"]),
    "user": st.sampled_from([0, 1000, [1, 1000]]),
    "pid": st.just(7),
    "host": st.sampled_from(["*.example.com", "example.com", "*", "*ads*", ["example.net", "*.b.example.com"], "com"]),
    "domain": st.sampled_from(["example.com", "com", ["example.net", "b.example.com"]]),
    "network": st.sampled_from(["192.0.2.0/24", ["192.0.2.128/25", "2001:db8::/32"], "0.0.0.0/0", "192.0.2.1"]),
    "list": st.sampled_from([*LISTS, ["names", "networks"]]),
    "port": st.sampled_from([443, "80-90", [22, "400-500"], "0-65535"]),
    "protocol": st.sampled_from(["tcp", "udp", "icmp", ["tcp", "udp"], "any"]),
    "direction": st.sampled_from(["outbound", "inbound", "any"]),
    "interface": st.sampled_from(["wg*", "eth0"]),
    "hours": st.sampled_from(["08:00-12:00", "22:00-06:00"]),
    "weekdays": st.sampled_from(["mon-fri", "sat"]),
}


def no_list(name: str, way: Way) -> TargetList:
    return LISTS[name]


@st.composite
def rules(draw: st.DrawFn) -> list[Rule]:
    made = []
    for number in range(draw(st.integers(0, 12))):
        keys = draw(st.sets(st.sampled_from(sorted(KEYS)), max_size=3))
        data: dict[str, Any] = {key: draw(KEYS[key]) for key in sorted(keys)}
        if "pid" in data:
            data["start_time"] = 70
        data["action"] = draw(st.sampled_from([str(action) for action in Action]))
        table = Table(data, ())
        made.append(Rule(f"rule {number}", action_of(table), conditions_of(table, no_list)))
    return made


@st.composite
def flows(draw: st.DrawFn) -> FlowFacts:
    process = None
    if draw(st.booleans()):
        program = draw(st.sampled_from(PROGRAMS))
        parents = draw(st.lists(st.sampled_from(["/bin/bash", "/usr/bin/make"]), max_size=2))
        process = ProcessInfo(
            draw(st.sampled_from([7, 8])),
            draw(st.sampled_from([70, 80])),
            draw(st.sampled_from([0, 1000, 5])),
            program,
            draw(st.sampled_from([(program, "--insecure"), ("curl", "x"), ()])),
            tuple(ParentProcess(2, path) for path in parents),
        )
    host = draw(st.none() | st.sampled_from(HOSTS))
    version, address = numeric(draw(st.sampled_from([*ADDRESSES, "a name"])))
    protocol = draw(st.sampled_from([6, 17, 1, 58]))
    return FlowFacts(
        process.executable if process else "",
        process,
        process.uid if process else -1,
        host,
        version,
        address,
        draw(st.sampled_from([443, 80, 22, 8080])) if protocol in (6, 17) else -1,
        protocol,
        draw(st.booleans()),
        draw(st.sampled_from(["", "eth0", "wg1"])),
        draw(st.booleans()),
        host is not None and draw(st.booleans()),
    )


@settings(max_examples=600, deadline=None)
@given(rules(), st.sampled_from(Action), st.lists(flows(), max_size=6), st.datetimes(timezones=st.just(UTC)))
def test_the_index_decides_as_the_plain_loop(
    given_rules: list[Rule], default: Action, given_flows: list[FlowFacts], now: datetime
) -> None:
    index = RuleIndex(given_rules, default)
    for facts in given_flows:
        plainly, quickly = decide_plainly(given_rules, default, facts, now), index.decide(facts, now)
        assert quickly.action == plainly.action
        assert quickly.needs_name == plainly.needs_name
        if not plainly.needs_name:
            assert quickly.rule == plainly.rule
