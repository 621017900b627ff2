"""Who gets a flow: each row of the table, the order of the providers, and a model that any list of answers follows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import NetworkRule, TransparentProxyNetworkSettings
from network_extension.core.filter_decision import FilterSlot
from network_extension.core.flow_decision import (
    ON_TROUBLE,
    PASS_THROUGH_NAME,
    Action,
    Decision,
    Policy,
    ProviderKind,
    ProviderSlot,
    ProviderState,
    Step,
    Trouble,
)
from network_extension.core.rule_matching import TransparentProxyMatcher
from network_extension.errors import FlowErrorCode
from network_extension.rules import Protocol

APP, TRANSPARENT = ProviderKind.APP_PROXY, ProviderKind.TRANSPARENT_PROXY
RUNNING = ProviderState.RUNNING
FAR, NEAR = b"\xc0\0\2\1", b"\x7f\0\0\1"


def slot(
    index: int = 0, kind: ProviderKind = TRANSPARENT, state: ProviderState = RUNNING, policy: Policy | None = None
) -> ProviderSlot:
    made = ProviderSlot(index, f"p{index}", kind, policy)
    made.state = state
    return made


def decision(*slots: ProviderSlot, address: bytes = FAR, port: int = 80, host: str | None = None) -> Decision:
    return Decision(slots, Protocol.TCP, address, port, host, address == NEAR)


def offer(to: ProviderSlot) -> Step:
    return Step(Action.OFFER, to, 0, to.name, "")


def passed(reason: str = "no provider claimed it") -> Step:
    return Step(Action.PASS_THROUGH, None, 0, PASS_THROUGH_NAME, reason)


def refused(by: ProviderSlot, name: str, reason: str) -> Step:
    return Step(Action.REFUSE, by, FlowErrorCode.REFUSED, name, reason)


class TestAnswers:
    def test_without_providers(self) -> None:
        assert decision().advance() == passed()

    def test_false_of_a_transparent_proxy_passes_on(self) -> None:
        first, second = slot(0), slot(1)
        flow = decision(first, second)
        assert flow.advance() == offer(first)
        assert flow.declined() == offer(second)
        assert flow.declined() == passed()

    def test_false_of_an_app_proxy_refuses(self) -> None:
        first, second = slot(0, APP), slot(1)
        flow = decision(first, second)
        assert flow.advance() == offer(first)
        assert flow.declined() == refused(first, "p0", "handle_new_flow returned False")

    def test_the_first_is_asked_first(self) -> None:
        """Whoever claims is not the table's business: nobody is asked after it, because nobody calls."""
        slots = [slot(index, kind) for index, kind in enumerate((APP, TRANSPARENT, APP))]
        assert decision(*slots).advance() == offer(slots[0])

    def test_each_decision_has_its_own_way(self) -> None:
        slots = [slot(0), slot(1)]
        one, other = decision(*slots), decision(*slots)
        one.advance(), one.declined()
        assert other.advance() == offer(slots[0])


class TestWhoseBusiness:
    def test_loopback_is_offered_to_nobody_by_itself(self) -> None:
        assert decision(slot(0), slot(1, APP), address=NEAR).advance() == passed()

    @pytest.mark.parametrize(
        ("rule", "facts", "wanted"),
        [
            (NetworkRule.destination_network("192.0.2.0", 24, port=80), {}, True),
            (NetworkRule.destination_network("192.0.2.0", 24, port=443), {}, False),
            (NetworkRule.destination_network("198.51.100.0", 24), {}, False),
            (NetworkRule.destination_host("example.com", port=80), {"host": "www.example.com"}, True),
            (NetworkRule.destination_host("example.com", port=80), {}, False),
            (NetworkRule.destination_network("127.0.0.1", 32), {"address": NEAR}, True),
        ],
        ids=["network", "other port", "other network", "host", "host unknown", "loopback by its own rule"],
    )
    def test_settings_choose(self, rule: NetworkRule, facts: dict[str, object], wanted: bool) -> None:
        chooser, next_one = slot(0), slot(1)
        chooser.matcher = TransparentProxyMatcher(TransparentProxyNetworkSettings(included_network_rules=[rule]))
        step = decision(chooser, next_one, **facts).advance()  # type: ignore[arg-type]
        assert (step == offer(chooser)) is wanted

    def test_trouble_of_one_whose_business_it_is_not_does_not_matter(self) -> None:
        """A dead provider with policy closed refuses what its rules name, and nothing else."""
        dead = slot(0, state=ProviderState.DEAD, policy=Policy.CLOSED)
        rule = NetworkRule.destination_network("198.51.100.0", 24)
        dead.matcher = TransparentProxyMatcher(TransparentProxyNetworkSettings(included_network_rules=[rule]))
        assert decision(dead).advance() == passed()
        assert decision(dead, address=b"\xc6\x33\x64\1").advance().action is Action.REFUSE


STATES = {
    ProviderState.STARTING: Trouble.STARTING,
    ProviderState.DEAD: Trouble.DEAD,
    ProviderState.STOPPING: Trouble.STOPPING,
}
KINDS = pytest.mark.parametrize("kind", ProviderKind)
POLICIES = pytest.mark.parametrize("policy", Policy)


class TestTrouble:
    def test_the_table_is_complete(self) -> None:
        assert set(ON_TROUBLE) == {(trouble, policy) for trouble in Trouble for policy in Policy}
        assert set(STATES) == set(ProviderState) - {RUNNING}

    @KINDS
    def test_the_policy_goes_with_the_kind_unless_it_is_given(self, kind: ProviderKind) -> None:
        assert slot(0, kind).policy is (Policy.OPEN if kind is TRANSPARENT else Policy.CLOSED)
        for policy in Policy:
            assert slot(0, kind, policy=policy).policy is policy

    @KINDS
    @POLICIES
    @pytest.mark.parametrize("trouble", Trouble)
    def test_after_it_was_asked(self, trouble: Trouble, policy: Policy, kind: ProviderKind) -> None:
        """The kind does not matter, once a policy is given."""
        first, second = slot(0, kind, policy=policy), slot(1)
        flow = decision(first, second)
        flow.advance()
        words = f"p0 {trouble.value} (why); policy {policy.value}"
        step = flow.troubled(trouble, "why")
        if ON_TROUBLE[trouble, policy] is Action.REFUSE:
            assert step == refused(first, "policy", words)
        else:
            assert step == offer(second)
            assert flow.declined() == passed(words)

    @KINDS
    @POLICIES
    @pytest.mark.parametrize("state", STATES)
    def test_before_it_was_asked(self, state: ProviderState, policy: Policy, kind: ProviderKind) -> None:
        first = slot(0, kind, state, policy)
        words = f"p0 {STATES[state].value}; policy {policy.value}"
        if ON_TROUBLE[STATES[state], policy] is Action.REFUSE:
            assert decision(first).advance() == refused(first, "policy", words)
        else:
            assert decision(first).advance() == passed(words)

    def test_one_in_trouble_between_two_that_are_not(self) -> None:
        first, dead, third = slot(0), slot(1, state=ProviderState.DEAD), slot(2)
        flow = decision(first, dead, third)
        assert flow.advance() == offer(first)
        assert flow.declined() == offer(third)
        assert flow.declined() == passed("p1 has died; policy open")

    def test_the_last_trouble_is_told(self) -> None:
        flow = decision(*(slot(index, state=ProviderState.DEAD) for index in range(3)))
        assert flow.advance() == passed("p2 has died; policy open")


class Answer(NamedTuple):
    """What a provider does when it is asked: claims, declines, or is in trouble."""

    claims: bool = False
    trouble: Trouble | None = None


answers = st.builds(Answer, st.booleans(), st.none() | st.sampled_from(Trouble))
slots = st.builds(
    slot,
    kind=st.sampled_from(ProviderKind),
    state=st.sampled_from([RUNNING, RUNNING, *STATES]),
    policy=st.none() | st.sampled_from(Policy),
)


def expected(slots: Sequence[ProviderSlot], answers: Sequence[Answer]) -> tuple[list[int], str]:
    """Who is asked, and the end: the definition, as a person would write it down."""
    asked: list[int] = []
    for index, (one, answer) in enumerate(zip(slots, answers, strict=True)):
        if one.state is RUNNING:
            asked.append(index)
            if answer.claims:
                return asked, "claimed"
            in_trouble, refuses = answer.trouble is not None, one.kind is APP
        else:
            in_trouble, refuses = True, False
        if in_trouble:
            refuses = one.policy is Policy.CLOSED
        if refuses:
            return asked, "refused"
    return asked, "passed"


@given(st.lists(st.tuples(slots, answers), max_size=8))
def test_any_providers_with_any_answers(providers: list[tuple[ProviderSlot, Answer]]) -> None:
    """Exactly one end; nobody is asked twice, out of order, or after the end."""
    line = [ProviderSlot(index, f"p{index}", one.kind, one.policy) for index, (one, _) in enumerate(providers)]
    for mine, (one, _) in zip(line, providers, strict=True):
        mine.state = one.state
    flow, asked, end = decision(*line), [], ""
    step = flow.advance()
    while not end:
        if step.action is Action.OFFER:
            assert step.slot is not None
            asked.append(step.slot.index)
            answer = providers[step.slot.index][1]
            if answer.claims:
                end = "claimed"
            else:
                step = flow.declined() if answer.trouble is None else flow.troubled(answer.trouble)
        else:
            end = "passed" if step.action is Action.PASS_THROUGH else "refused"
    assert (asked, end) == expected(line, [answer for _, answer in providers])
    assert asked == sorted(set(asked))
    assert (step.error == FlowErrorCode.REFUSED) is (end == "refused")
    assert step.by


POLICY_PAGE = Path(__file__).parents[3] / "docs" / "policy.md"


def rows(page: str, head: str) -> dict[str, tuple[str, ...]]:
    """A table of the page: first cell -> the others."""
    _, found, rest = page.partition(f"| {head} |")
    assert found, f"no table {head!r}"
    lines = rest.split("\n\n")[0].splitlines()[2:]
    cells = [tuple(cell.strip() for cell in line.strip("| ").split("|")) for line in lines]
    return {first: tuple(others) for first, *others in cells}


class TestDocumentation:
    def test_the_page_says_what_the_table_says(self) -> None:
        told = rows(POLICY_PAGE.read_text(), "the provider …")
        words = {Action.PASS_THROUGH: "pass on", Action.REFUSE: "refuse"}
        assert told.pop("is running") == ("ask it", "ask it")
        for trouble in Trouble:
            (label,) = (label for label in told if label.startswith(trouble.value))
            assert told.pop(label) == tuple(
                words[ON_TROUBLE[trouble, policy]] for policy in (Policy.OPEN, Policy.CLOSED)
            )
        assert told == {}

    def test_the_page_knows_the_runtimes_own_troubles(self) -> None:
        told = rows(POLICY_PAGE.read_text(), "the runtime …")
        assert set(told) == {"has a full packet queue", "has lost its engine"}

    def test_the_page_says_what_goes_with_the_kind(self) -> None:
        told = rows(POLICY_PAGE.read_text(), "provider")
        assert told == {
            "`TransparentProxyProvider`": (slot(0, TRANSPARENT).policy.value,),
            "`AppProxyProvider`": (slot(0, APP).policy.value,),
            "`FilterDataProvider`, `FilterPacketProvider`": (FilterSlot(0, "").policy.value,),
        }

    def test_its_example_is_what_a_log_says(self) -> None:
        words = decision(slot(state=ProviderState.DEAD)).advance().reason
        assert re.sub(r"^p0", "Rewriter", words) in POLICY_PAGE.read_text()
