"""What the rules of a content filter say, and what is refused before the kernel hears of it."""

from __future__ import annotations

import errno
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.errors import ConfigurationError, DatapathError, ExitCode
from network_extension.linux import filter_chains, filter_ruleset
from network_extension.linux.filter_ruleset import FilterRuleset, FilterRulesetOptions, FlowMark, verdict
from network_extension.linux.nfqueue import ACCEPT, REPEAT
from network_extension.linux.nftables import OWNER, PERSIST, Change, NftError

OPTIONS = FilterRulesetOptions(packet_queue=8, dns_queue=9)


def chains(options: FilterRulesetOptions = OPTIONS) -> dict[str, list[str]]:
    return {chain.name: [rule.text for rule in chain.rules] for chain in filter_chains.table(options).chains}


# --- the rules


@pytest.mark.parametrize("options", [OPTIONS, FilterRulesetOptions(loopback=True, inbound=False, closed=True)])
def test_each_chain_is_reached_and_each_target_is_there(options: FilterRulesetOptions) -> None:
    """But what only filtered loopback needs."""
    table = filter_chains.table(options)
    targets = set(re.findall(r"(?:goto|jump) (\w+)", table.text))
    regular = {chain.name for chain in table.chains if chain.hook is None}
    assert targets <= regular
    assert regular - targets <= (set() if options.loopback else {"decided_loopback"})
    assert set(re.findall(r'counter name "(\w+)"', table.text)) == set(filter_ruleset.COUNTERS) - (
        set() if options.inbound else {"asked_in"}
    )


def test_an_allowed_flow_leaves_by_the_second_rule() -> None:
    """Only a SYN in a connection that was answered goes on from there."""
    for name, way in (("output", "out"), ("input", "in")):
        assert chains()[name][1] == f"ct mark & 0x70000000 == 0x10000000 goto allowed_{way}"
        opening, accept = chains()[f"allowed_{way}"]
        assert opening.startswith("meta l4proto tcp tcp flags") and opening.endswith(f"goto reopened_{way}")
        assert accept == "accept"


def test_our_bits_never_stay_in_a_packet() -> None:
    """Each chain in which a packet comes back clears them before it says what becomes of it."""
    for state in list(FlowMark)[1:7]:
        write, clear, end = chains()[f"become_{state.name.lower()}"]
        assert write == f"ct mark set ct mark & 0x8fffffff ^ {state << 28:#010x}"
        assert clear.startswith("meta mark set meta mark & 0x8fffffff")
        assert end.split()[-1] == {5: "drop", 6: "refuse"}.get(state, "accept")


def test_only_what_is_asked_about_is_queued() -> None:
    queued = [(name, text) for name, rules in chains().items() for text in rules if "queue" in text]
    assert {name for name, text in queued if text.endswith("queue flags bypass to 20037")} == {
        *("decided_out", "decided_in", "undecided_out", "undecided_in", "decided_loopback"),
        *("reopened_out", "reopened_in"),
    }
    assert {(name, text.split()[-1]) for name, text in queued if not text.endswith("20037")} == {
        *(("dns_answers", "9"), ("packets_in", "8"), ("packets_out", "8"))
    }


def test_closed_means_that_a_queue_without_reader_drops() -> None:
    """But for answers from name servers, which are only looked at."""
    told = [text for rules in chains(OPTIONS._replace(closed=True)).values() for text in rules if "queue" in text]
    assert [text for text in told if "bypass" in text] == ["meta l4proto udp udp sport 53 queue flags bypass to 9"]
    assert len(told) == 12


def test_who_does_not_ask_for_inbound_flows_lets_them_in() -> None:
    assert chains(FilterRulesetOptions(inbound=False))["undecided_in"][-1] == "accept"


def test_other_bits() -> None:
    text = filter_chains.table(FilterRulesetOptions(mask=0x700)).text
    assert "ct mark & 0x00000700 == 0x00000100 goto allowed_out" in text
    assert "70000000" not in text
    assert verdict(0xFFFFFFFF, FlowMark.HOLD_BOTH, 0x700) == (REPEAT, 0xFFFFFCFF)


def test_the_text_says_how_it_was_done() -> None:
    open_rules, closed_rules = (FilterRuleset(FilterRulesetOptions(closed=closed)) for closed in (False, True))
    assert "flags owner;" in open_rules.text()
    assert "flags owner,persist;" in closed_rules.text()
    for rules in (open_rules, closed_rules):
        rules.abandon()


# --- verdicts


@given(st.integers(0, 2**32 - 1), st.sampled_from(FlowMark), st.integers(0, 29))
def test_a_verdict_changes_none_of_others_bits(mark: int, state: FlowMark, place: int) -> None:
    mask = 7 << place
    decision, told = verdict(mark, state, mask)
    if state is FlowMark.UNDECIDED:
        assert (decision, told) == (ACCEPT, None)
    else:
        assert told is not None and decision == REPEAT
        assert told & ~mask == mark & ~mask
        assert (told & mask) >> place == state


# --- options


@pytest.mark.parametrize("mask", [0, -1, 1 << 32, 0x30000000, 0xF0000000, 0x50000000, 7 << 30])
def test_a_mask_is_three_bits_in_a_row(mask: int) -> None:
    with pytest.raises(ConfigurationError, match="three bits in a row"):
        FilterRuleset(FilterRulesetOptions(mask=mask))


@pytest.mark.parametrize("options", [{"queue": -1}, {"packet_queue": 65536}, {"queue": 7, "dns_queue": 7}])
def test_queue_numbers_are_checked(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="queue numbers"):
        FilterRuleset(FilterRulesetOptions(**options))  # type: ignore[arg-type]


def test_established_is_one_of_two_words() -> None:
    with pytest.raises(ConfigurationError, match='"keep" or "offer", not \'keeping\''):
        FilterRuleset(FilterRulesetOptions(established="keeping"))


# --- kernels that refuse something


class Refusing:
    """An NftSocket whose kernel refuses `refusals` (substrings of what is changed) by an errno."""

    def __init__(self, **refusals: int) -> None:
        self.refusals, self.applied = refusals, list[list[Change]]()
        self.socket = None

    def chains(self, table: str) -> list[str]:
        return []

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            native = change.queues and b"queue\0" in change.body
            kind = "native" if native else "target" if change.queues else "table" if not change.kind else ""
            if (
                kind == "table"
                and not change.body.endswith(bytes([OWNER]))
                and not change.body.endswith(bytes([OWNER | PERSIST]))
            ):
                kind = "plain"
            if "socket mark" in change.what:
                kind = "socket"
            if kind in self.refusals:
                raise NftError(change, self.refusals[kind])
        self.applied.append(changes)

    def close(self) -> None:
        """Nothing to close."""


def ruleset(monkeypatch: pytest.MonkeyPatch, kernel: Refusing, **options: bool) -> FilterRuleset:
    monkeypatch.setattr(FilterRuleset, "_sweep", lambda self, **_: None)
    rules = FilterRuleset(FilterRulesetOptions(**options))  # type: ignore[arg-type]
    rules.abandon()
    rules._nft = kernel  # type: ignore[assignment]
    return rules


def test_without_the_queue_expression_the_target_does(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Refusing(native=errno.ENOENT)
    rules = ruleset(monkeypatch, kernel)
    rules.install()
    assert (rules.native_queue, rules.owned, len(kernel.applied)) == (False, True, 1)


@pytest.mark.parametrize("closed", [False, True])
def test_without_owners_the_table_has_none(monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    """Linux before 5.12, and with policy closed before 6.9."""
    rules = ruleset(monkeypatch, Refusing(table=errno.EOPNOTSUPP), closed=closed)
    rules.install()
    assert (rules.native_queue, rules.owned) == (True, False)


def test_without_the_socket_expression_one_rule_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ruleset(monkeypatch, Refusing(socket=errno.ENOENT))
    assert "socket mark" in rules.text()
    rules.install()
    assert not rules.socket_marks and rules.native_queue and rules.owned
    assert "socket mark" not in rules.text()


def test_without_any_queue_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ruleset(monkeypatch, Refusing(native=errno.ENOENT, target=errno.ENOENT))
    with pytest.raises(DatapathError, match=r"nft rule inet netext_filter .*queues no packets.*modprobe") as caught:
        rules.install()
    assert caught.value.exit_code == ExitCode.UNAVAILABLE


def test_a_second_filter_is_told_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ruleset(monkeypatch, Refusing(table=errno.EPERM))
    with pytest.raises(DatapathError, match="belongs to a filter that is running; next step"):
        rules.install()


def test_any_other_refusal_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ruleset(monkeypatch, Refusing(native=errno.ENOMEM))
    with pytest.raises(NftError, match="Cannot allocate memory"):
        rules.install()
