#!/usr/bin/env python3
"""What a decision of the firewall costs, and what its files cost to read: the figures of docs/firewall.md.

    bench/firewall.py [--names N]

No kernel, no flow: the rule index is asked directly, about hosts and programs that it has never seen. Each figure is
the median of several rounds. Before anything is timed, the answers are compared with those of the plain loop.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from network_extension import ProcessInfo
from network_extension.builtin.firewall.document import Document
from network_extension.builtin.firewall.facts import FlowFacts, numeric
from network_extension.builtin.firewall.index import RuleIndex
from network_extension.builtin.firewall.list_cache import ListCache
from network_extension.builtin.firewall.rule_file import RuleBook, parse_rules
from network_extension.builtin.firewall.rules import Action, Rule, decide_plainly

ROUNDS, CALLS, CHECKED = 7, 20_000, 200
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def text_of(count: int, what: Callable[[int], str]) -> str:
    """A rule file of `count` rules."""
    rules = (f'[[rule]]\naction = "deny"\n{what(number)}\n' for number in range(count))
    return 'default = "allow"\n' + "\n".join(rules)


def host_rule(number: int) -> str:
    """A rule about a domain of its own."""
    return f'domain = "d{number}.example"'


def program_rule(number: int) -> str:
    """A rule about a program of its own, by pattern."""
    return f'program = "/opt/p{number}/**"'


def book_of(text: str) -> RuleBook:
    """The rules of a file with this text."""
    return parse_rules(Document.parse("rules.toml", text.encode()).data)


def flow(number: int) -> FlowFacts:
    """One of endlessly many flows, each to a host that no rule names."""
    program = f"/usr/bin/program-{number % 50}"
    process = ProcessInfo(100 + number % 50, 1, 1000, program, (program,))
    version, address = numeric(f"198.51.{number // 250 % 250}.{number % 250}")
    return FlowFacts(program, process, 1000, f"h{number}.example.org", version, address, 443, 6, True, "", False, False)


def decision_time(rules: tuple[Rule, ...], default: Action) -> float:
    """Microseconds for one decision. Raises AssertionError if the index and the plain loop differ."""
    index, flows = RuleIndex(rules, default), [flow(number) for number in range(CALLS)]
    for facts in flows[:: CALLS // CHECKED]:
        assert index.decide(facts, NOW).action == decide_plainly(rules, default, facts, NOW).action
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for facts in flows:
            index.decide(facts, NOW)
        times.append((time.perf_counter() - begun) / CALLS * 1e6)
    return median(times)


def first_flow_time(rules: tuple[Rule, ...], default: Action) -> float:
    """Microseconds for the first flow of a program that was never seen."""
    times = []
    for number in range(200):
        index = RuleIndex(rules, default)
        index.decide(flow(0), NOW)
        program = f"/srv/never-seen-{number}"
        facts = flow(number)._replace(program=program, process=ProcessInfo(7, number, 0, program, (program,)))
        begun = time.perf_counter()
        index.decide(facts, NOW)
        times.append((time.perf_counter() - begun) * 1e6)
    return median(times)


def seconds_for(call: Callable[[], object], rounds: int = 3) -> float:
    """The median of some calls."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return median(times)


def resident_mb() -> float:
    """The most that this process has had resident, in MB."""
    return getrusage(RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def with_list(path: Path, lists: ListCache) -> RuleBook:
    """1,000 rules and one about a list."""
    text = text_of(1000, host_rule) + f'\n[[rule]]\naction = "deny"\nlist = "{path}"\n'
    return parse_rules(Document.parse("rules.toml", text.encode()).data, lists=lists)


def list_figures(count: int, folder: Path) -> None:
    """A list of names and one of networks, from files."""
    names, networks, lists = folder / "names", folder / "networks", ListCache()
    names.write_text("".join(f"h{number}.n{number % 997}.example.net\n" for number in range(count)))
    networks.write_text(
        "".join(f"10.{n >> 12 & 255}.{n >> 4 & 255}.{(n & 15) * 16}/28\n" for n in range(count))
    )  # fmt: skip
    before, begun = resident_mb(), time.perf_counter()
    found = lists.get(str(names))
    print(f"read a list of {count:,} names: {time.perf_counter() - begun:.1f} s, {resident_mb() - before:.0f} MB")
    looked = seconds_for(lambda: [found.has_name(f"x{number}.example.org") for number in range(CALLS)])
    print(f"look-up in it: {looked / CALLS * 1e6:.2f} us")
    book = with_list(names, lists)
    print(f"decision, 1,000 rules and the list: {decision_time(book.rules, book.default):.1f} us")
    begun = time.perf_counter()
    lists.get(str(networks))
    print(f"read a list of {count:,} networks: {time.perf_counter() - begun:.1f} s")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What the firewall's verdicts and files cost.")
    parser.add_argument("--names", type=int, default=1_000_000, help="names in the long list (1,000,000)")
    options = parser.parse_args()
    one, thousand, programs = (
        book_of(text_of(1, host_rule)), book_of(text_of(1000, host_rule)), book_of(text_of(1000, program_rule))
    )  # fmt: skip
    print(f"decision, 1 rule: {decision_time(one.rules, one.default):.1f} us")
    print(f"decision, 1,000 rules: {decision_time(thousand.rules, thousand.default):.1f} us")
    print(f"first flow of a program, 1,000 rules: {first_flow_time(programs.rules, programs.default):.0f} us")
    print(f"read 1,000 rules: {seconds_for(lambda: book_of(text_of(1000, host_rule))) * 1000:.0f} ms")
    with TemporaryDirectory() as folder:
        list_figures(options.names, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
