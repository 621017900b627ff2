"""The verdict machine: flows under one filter and under several, as transcripts, and under whatever comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension import (
    FLOW_BYTES_MAX,
    Direction,
    FilterAction,
    FilterControlVerdict,
    FilterDataVerdict,
    FilterGrade,
    FilterNewFlowVerdict,
    FilterReportEvent,
    FilterReportFrequency,
    FilterRule,
    FilterSettings,
    FilterVerdict,
    NetworkRule,
    Protocol,
)
from network_extension.core.filter_decision import (
    AppendString,
    AskComplete,
    AskControl,
    AskData,
    AskNewFlow,
    Drop,
    FilterLimits,
    FilterMisuse,
    FilterSlot,
    FlowFilter,
    Hold,
    Open,
    Pass,
    Remediate,
    Report,
    Step,
)
from network_extension.core.filter_rule_matching import FilterRuleMatcher
from network_extension.core.flow_decision import Policy, ProviderState, Trouble
from network_extension.core.rule_matching import FlowFacts

ALLOW, DROP, PAUSE = FilterNewFlowVerdict.allow(), FilterNewFlowVerdict.drop(), FilterNewFlowVerdict.pause()
PASS_ALL, DROP_DATA = FilterDataVerdict.allow(), FilterDataVerdict.drop()
OUT, IN, ALL = Direction.OUTBOUND, Direction.INBOUND, FLOW_BYTES_MAX
FACTS = FlowFacts(Protocol.TCP, bytes([192, 0, 2, 1]), 443)
data = FilterDataVerdict.data


def looks(out: int | None = None, into: int | None = None) -> FilterNewFlowVerdict:
    return FilterNewFlowVerdict.filter_data(
        filter_outbound=out is not None,
        peek_outbound=out or 0,
        filter_inbound=into is not None,
        peek_inbound=into or 0,
    )


def flow(count: int = 1, *, policy: Policy | None = None, udp: bool = False, **options: Any) -> FlowFilter:
    slots = [FilterSlot(index, f"F{index}", FilterGrade.FIREWALL, policy) for index in range(count)]
    for slot in slots:
        slot.state = ProviderState.RUNNING
    return FlowFilter(slots, options.pop("facts", FACTS), is_datagram=udp, protocol=17 if udp else 6, **options)


def opened(machine: FlowFilter, *verdicts: FilterVerdict) -> FlowFilter:
    machine.start(0.0)
    for index, verdict in enumerate(verdicts):
        machine.answer_new_flow(index, verdict, 0.0)
    return machine


# New flows


def test_allowed_for_good() -> None:
    f = flow()
    assert f.start(0.0) == [AskNewFlow(0)]
    assert f.answer_new_flow(0, ALLOW, 0.0) == [Open(False, False)]
    assert (f.is_final, f.outcome, f.by, f.next_deadline) == (True, "allowed", "F0", None)


def test_dropped() -> None:
    f = flow()
    f.start(0.0)
    assert f.answer_new_flow(0, DROP, 0.0) == [Drop(False, "F0", "handle_new_flow: drop")]
    assert f.answer_new_flow(0, ALLOW, 0.0) == []


def test_every_filter_must_allow() -> None:
    f = flow(2)
    assert f.start(0.0) == [AskNewFlow(0)]
    assert f.answer_new_flow(0, ALLOW, 0.0) == [AskNewFlow(1)]
    (drop,) = f.answer_new_flow(1, FilterNewFlowVerdict.drop(silent=True), 0.0)
    assert isinstance(drop, Drop)
    assert (drop.silent, drop.by) == (True, "F1")


def test_two_pauses_need_two_resumes() -> None:
    f = flow(2)
    f.start(0.0)
    assert f.answer_new_flow(0, PAUSE, 0.0) == []
    assert (f.is_paused(0), f.next_deadline) == (True, None)
    assert f.resume(0, ALLOW, 99.0) == [AskNewFlow(1)]
    assert f.answer_new_flow(1, PAUSE, 99.0) == []
    with pytest.raises(FilterMisuse, match="not paused"):
        f.resume(0, ALLOW, 99.0)
    assert f.resume(1, ALLOW, 999.0) == [Open(False, False)]


def test_a_paused_udp_flow_is_dropped_after_ten_seconds() -> None:
    f = flow(udp=True)
    f.start(0.0)
    f.answer_new_flow(0, PAUSE, 1.0)
    assert f.next_deadline == 11.0
    assert f.tick(10.9) == []
    (drop,) = f.tick(11.0)
    assert isinstance(drop, Drop)
    assert "10 s" in drop.reason


def test_rules_come_before_the_filters_code() -> None:
    network = NetworkRule.destination_network("192.0.2.0/24")
    f = flow(2)
    f._slots[0].matcher = FilterRuleMatcher(FilterSettings([FilterRule(network, FilterAction.ALLOW)]))
    f._slots[1].matcher = FilterRuleMatcher(FilterSettings([FilterRule(network, FilterAction.DROP)]))
    (drop,) = f.start(0.0)
    assert isinstance(drop, Drop)
    assert (drop.by, drop.reason.split()[0]) == ("F1", "rules[0]")


def test_loopback_is_not_asked_about() -> None:
    f = flow(facts=FACTS._replace(remote_address=bytes([127, 0, 0, 1])))
    assert f.start(0.0) == [Open(False, False)]


@pytest.mark.parametrize("kind", [data(1, 1), FilterControlVerdict.updating_rules()])
def test_nonsense_is_as_bad_as_an_exception(kind: FilterVerdict) -> None:
    f = flow(policy=Policy.CLOSED)
    f.start(0.0)
    (drop,) = f.answer_new_flow(0, kind, 0.0)
    assert isinstance(drop, Drop)
    assert f"raised an exception ({kind.kind.value} is no answer of handle_new_flow)" in drop.reason
    f = flow()
    f.start(0.0)
    assert f.answer_new_flow(0, kind, 0.0) == [Open(False, False)]


def test_who_was_not_asked_cannot_answer() -> None:
    f = flow(2)
    f.start(0.0)
    with pytest.raises(FilterMisuse, match="not asked"):
        f.answer_new_flow(1, ALLOW, 0.0)


# Data


def test_peek_then_allow() -> None:
    f = flow()
    f.start(0.0)
    assert f.answer_new_flow(0, looks(out=4), 0.0) == [Open(False, True)]
    assert f.received(OUT, b"ab", 0.0) == []
    assert f.received(OUT, b"cdef", 0.0) == [AskData(0, OUT, 0, b"abcd")]
    assert f.received(IN, b"zzz", 0.0) == []
    assert f.answer_data(0, OUT, PASS_ALL, 0.0) == [Pass(OUT, ALL)]
    assert (f.is_final, f.outcome) == (True, "allowed")


def test_pass_and_peek_again() -> None:
    f = opened(flow(), looks(out=2, into=1))
    assert f.received(OUT, b"abcdef", 0.0) == [AskData(0, OUT, 0, b"ab")]
    assert f.answer_data(0, OUT, data(1, 3), 0.0) == [AskData(0, OUT, 1, b"bcd"), Pass(OUT, 1)]
    assert f.answer_data(0, OUT, data(10, 2), 0.0) == [Pass(OUT, 11)]  # ahead of what is there
    assert f.received(OUT, b"ghijk", 0.0) == [Pass(OUT, 11)]  # they may go at once
    assert f.received(OUT, b"lm", 0.0) == [AskData(0, OUT, 11, b"lm")]
    assert f.answer_data(0, OUT, data(ALL, 0), 0.0) == [Pass(OUT, ALL)]
    assert not f.is_final  # the other direction


def test_the_same_bytes_are_not_shown_twice() -> None:
    f = opened(flow(), looks(out=2))
    f.received(OUT, b"ab", 0.0)
    assert f.answer_data(0, OUT, data(0, 2), 0.0) == []
    assert f.received(OUT, b"c", 1.0) == [AskData(0, OUT, 0, b"abc")]


def test_fewer_bytes_than_asked_for_are_shown_when_nothing_more_comes() -> None:
    f = opened(flow(), looks(out=100))
    assert f.received(OUT, b"abc", 1.0) == []
    assert f.next_deadline == pytest.approx(1.05)
    assert f.tick(1.05) == [AskData(0, OUT, 0, b"abc")]


def test_as_much_as_there_is() -> None:
    f = opened(flow(), looks(out=ALL))
    assert f.received(OUT, b"abc", 1.0) == [AskData(0, OUT, 0, b"abc")]


def test_what_is_held_is_bounded() -> None:
    f = opened(flow(limits=FilterLimits(most_held=8)), looks(out=1000))
    assert f.received(OUT, b"12345678", 1.0) == [AskData(0, OUT, 0, b"12345678")]


def test_datagrams_are_shown_at_once() -> None:
    f = opened(flow(udp=True), looks(out=1000))
    assert f.received(OUT, b"one", 0.0) == [AskData(0, OUT, 0, b"one")]
    assert f.answer_data(0, OUT, data(0, 1000), 0.0) == []
    assert f.received(OUT, b"two", 0.0) == [AskData(0, OUT, 0, b"onetwo")]


def test_the_end_of_a_direction() -> None:
    f = opened(flow(), looks(out=10))
    f.received(OUT, b"abc", 0.0)
    assert f.ended(OUT, 0.0) == [AskData(0, OUT, 0, b"abc")]
    assert f.answer_data(0, OUT, data(3, 10), 0.0) == [AskComplete(0, OUT), Pass(OUT, 3)]
    assert f.answer_complete(0, OUT, PASS_ALL, 0.0) == [Pass(OUT, ALL)]


def test_dropped_at_the_end() -> None:
    f = opened(flow(), looks(out=10))
    f.ended(OUT, 0.0)
    (drop,) = f.answer_complete(0, OUT, DROP_DATA, 0.0)
    assert isinstance(drop, Drop)
    assert drop.reason == "handle_outbound_data_complete: drop"


def test_a_second_filter_sees_what_the_first_has_passed() -> None:
    f = opened(flow(2), looks(out=2), looks(out=1))
    assert f.received(OUT, b"abcd", 0.0) == [AskData(0, OUT, 0, b"ab")]
    assert f.answer_data(0, OUT, data(1, 2), 0.0) == [AskData(0, OUT, 1, b"bc"), AskData(1, OUT, 0, b"a")]
    assert f.answer_data(1, OUT, PASS_ALL, 0.0) == [Pass(OUT, 1)]
    assert f.answer_data(0, OUT, PASS_ALL, 0.0) == [Pass(OUT, ALL)]


def test_a_pause_in_data_holds_both_directions_of_its_filter() -> None:
    f = opened(flow(), looks(out=1, into=1))
    f.received(OUT, b"a", 0.0)
    assert f.answer_data(0, OUT, FilterDataVerdict.pause(), 0.0) == []
    assert f.received(IN, b"b", 0.0) == []
    assert f.resume(0, PASS_ALL, 5.0) == [Pass(OUT, ALL), AskData(0, IN, 0, b"b")]
    with pytest.raises(FilterMisuse, match="not paused"):
        f.resume(0, PASS_ALL, 5.0)


def test_a_resume_must_be_of_the_paused_callbacks_kind() -> None:
    f = flow()
    f.start(0.0)
    f.answer_new_flow(0, PAUSE, 0.0)
    with pytest.raises(FilterMisuse, match="FilterNewFlowVerdict"):
        f.resume(0, data(1, 1), 0.0)
    with pytest.raises(FilterMisuse, match="already"):
        f.resume(0, PAUSE, 0.0)
    assert f.resume(0, looks(out=1), 0.0) == [Open(False, True)]
    f.received(OUT, b"a", 0.0)
    f.answer_data(0, OUT, FilterDataVerdict.pause(), 0.0)
    with pytest.raises(FilterMisuse, match="FilterDataVerdict"):
        f.resume(0, looks(out=1), 0.0)
    (drop,) = f.resume(0, DROP_DATA, 0.0)
    assert isinstance(drop, Drop)


# Updates


def test_update_ends_a_wait() -> None:
    f = opened(flow(), looks(out=100))
    f.received(OUT, b"a", 0.0)
    assert f.update(0, PASS_ALL, Direction.ANY, 0.0) == [Pass(OUT, ALL)]


def test_update_drops_a_flow_that_was_allowed() -> None:
    f = opened(flow(), ALLOW.reported())
    (drop,) = f.update(0, DROP_DATA, OUT, 0.0)
    assert isinstance(drop, Drop)
    assert f.update(0, DROP_DATA, OUT, 0.0) == []
    with pytest.raises(FilterMisuse, match="dropped"):
        f.update(0, PASS_ALL, OUT, 0.0)


def test_update_holds_a_direction_again() -> None:
    f = opened(flow(), looks(out=1))
    f.received(OUT, b"ab", 0.0)
    f.answer_data(0, OUT, PASS_ALL, 0.0)
    assert f.update(0, data(0, 2), IN, 1.0) == [Hold(IN)]
    assert f.received(IN, b"xy", 1.0) == [AskData(0, IN, 0, b"xy")]
    assert f.answer_data(0, IN, PASS_ALL, 1.0) == [Pass(IN, ALL)]


def test_update_before_the_flow_has_begun() -> None:
    f = flow()
    f.start(0.0)
    with pytest.raises(FilterMisuse, match="not begun"):
        f.update(0, PASS_ALL, OUT, 0.0)
    with pytest.raises(FilterMisuse, match="pause cannot be given"):
        f.update(0, PAUSE, OUT, 0.0)


# Control providers, pages


def test_need_rules_until_the_rules_are_there() -> None:
    need = FilterNewFlowVerdict.need_rules()
    f = flow()
    f.start(0.0)
    assert f.answer_new_flow(0, need, 0.0) == [AskControl(0)]
    assert f.control_answer(0, FilterControlVerdict.updating_rules(), 0.0) == [AskNewFlow(0)]
    assert f.answer_new_flow(0, need, 0.0) == [AskControl(0)]
    assert f.control_answer(0, FilterControlVerdict.allow(), 0.0) == [Open(False, False)]


def test_a_control_provider_cannot_ask_for_ever() -> None:
    f = flow()
    f.start(0.0)
    for _ in range(4):
        assert f.answer_new_flow(0, FilterNewFlowVerdict.need_rules(), 0.0) == [AskControl(0)]
        f.control_answer(0, FilterControlVerdict.updating_rules(), 0.0)
    (drop,) = f.answer_new_flow(0, FilterNewFlowVerdict.need_rules(), 0.0)
    assert isinstance(drop, Drop)


def test_need_rules_about_data() -> None:
    f = opened(flow(), looks(out=1))
    f.received(OUT, b"a", 0.0)
    assert f.answer_data(0, OUT, FilterDataVerdict.need_rules(), 0.0) == [AskControl(0)]
    assert f.received(OUT, b"b", 0.0) == []
    assert f.control_answer(0, FilterControlVerdict.updating_rules(), 0.0) == [AskData(0, OUT, 0, b"a")]
    assert f.answer_data(0, OUT, PASS_ALL, 0.0) == [Pass(OUT, ALL)]


def test_pages_end_the_flow() -> None:
    f = flow()
    f.start(0.0)
    assert f.answer_new_flow(0, FilterNewFlowVerdict.remediate("url", "button"), 0.0) == [
        Remediate(0, "F0", "url", "button")
    ]
    assert (f.is_final, f.outcome) == (True, "remediated")
    f = flow()
    f.start(0.0)
    assert f.answer_new_flow(0, FilterNewFlowVerdict.url_append_string("safe"), 0.0) == [AppendString(0, "F0", "safe")]


# Reports


def test_reports() -> None:
    f = flow()
    f.start(0.0)
    verdict = looks(out=1).reported().with_statistics(FilterReportFrequency.LOW)
    assert f.answer_new_flow(0, verdict, 0.0) == [
        Report(0, FilterAction.FILTER_DATA, FilterReportEvent.NEW_FLOW),
        Open(False, True),
    ]
    assert f.statistics == [(0, FilterReportFrequency.LOW)]
    f.received(OUT, b"a", 0.0)
    assert f.answer_data(0, OUT, PASS_ALL.reported(), 0.0) == [
        Report(0, FilterAction.ALLOW, FilterReportEvent.DATA_DECISION),
        Pass(OUT, ALL),
    ]
    assert f.wants_reports
    assert f.closed(1.0) == [Report(0, FilterAction.ALLOW, FilterReportEvent.FLOW_CLOSED)]
    assert f.closed(1.0) == []


# Trouble


@pytest.mark.parametrize("trouble", list(Trouble))
def test_the_policy_decides_about_a_new_flow(trouble: Trouble) -> None:
    f = flow(2)
    f.start(0.0)
    assert f.trouble(0, trouble, "", 0.0) == [AskNewFlow(1)]
    f = flow(2, policy=Policy.CLOSED)
    f.start(0.0)
    (drop,) = f.trouble(0, trouble, "why", 0.0)
    assert isinstance(drop, Drop)
    assert (drop.by, "why" in drop.reason) == ("policy", True)


@pytest.mark.parametrize("state", [ProviderState.STARTING, ProviderState.DEAD, ProviderState.STOPPING])
def test_a_filter_that_is_not_running_is_not_asked(state: ProviderState) -> None:
    f = flow()
    f._slots[0].state = state
    assert f.start(0.0) == [Open(False, False)]
    assert f.by == "policy"
    f = flow(policy=Policy.CLOSED)
    f._slots[0].state = state
    assert isinstance(f.start(0.0)[0], Drop)


def test_no_answer_in_time() -> None:
    f = flow()
    f.start(0.0)
    assert f.next_deadline == 10.0
    assert f.tick(10.0) == [Open(False, False)]


def test_a_death_while_bytes_are_held() -> None:
    f = opened(flow(), looks(out=100, into=5))
    f.received(OUT, b"abc", 0.0)
    assert f.trouble(0, Trouble.DEAD, "", 0.0) == [Pass(OUT, ALL), Pass(IN, ALL)]
    f = opened(flow(policy=Policy.CLOSED), looks(out=100))
    assert isinstance(f.trouble(0, Trouble.DEAD, "", 0.0)[0], Drop)


def test_a_death_of_who_has_no_say_any_more() -> None:
    f = opened(flow(2, policy=Policy.CLOSED), ALLOW, looks(out=1))
    assert f.trouble(0, Trouble.DEAD, "", 0.0) == []


def test_more_than_can_come_is_waited_for_until_the_deadline() -> None:
    f = opened(flow(), looks(out=4))
    f.received(OUT, b"abcd", 0.0)
    f.answer_data(0, OUT, data(0, 1000), 1.0)
    assert f.next_deadline == 11.0
    assert f.tick(11.0) == [Pass(OUT, ALL)]


# Whatever comes

VERDICTS: list[Callable[[], FilterVerdict]] = [
    FilterNewFlowVerdict.allow,
    FilterNewFlowVerdict.drop,
    FilterNewFlowVerdict.pause,
    FilterNewFlowVerdict.need_rules,
    lambda: looks(out=3),
    lambda: looks(out=ALL, into=2),
    lambda: data(0, 5),
    lambda: data(2, 0),
    lambda: data(7, 1),
    lambda: data(ALL, 0),
]
NUMBERS = st.integers(0, 2)
WAYS = st.sampled_from([OUT, IN])
ACTIONS = st.one_of(
    st.tuples(st.just("answer"), st.sampled_from(VERDICTS)),
    st.tuples(st.just("received"), WAYS, st.binary(min_size=1, max_size=9)),
    st.tuples(st.just("ended"), WAYS),
    st.tuples(st.just("resume"), NUMBERS, st.sampled_from(VERDICTS)),
    st.tuples(st.just("update"), NUMBERS, st.sampled_from(VERDICTS), WAYS),
    st.tuples(st.just("trouble"), NUMBERS, st.sampled_from(list(Trouble))),
    st.tuples(st.just("wait"), st.floats(0, 12)),
    st.tuples(st.just("control"), NUMBERS, st.sampled_from([FilterControlVerdict.allow, FilterControlVerdict.drop])),
)


class Watcher:
    """Carries out steps and checks what must hold after any of them."""

    def __init__(self, machine: FlowFilter) -> None:
        self.machine, self.now = machine, 0.0
        self.asked: list[Step] = []
        self.passed = {OUT: 0, IN: 0}
        self.ended: set[Direction] = set()
        self.over = False

    def take(self, steps: list[Step]) -> None:
        for step in steps:
            assert not self.over, f"{step} after the end"
            if isinstance(step, (AskNewFlow, AskData, AskComplete)):
                key = (step.index, getattr(step, "direction", None))
                open_questions = [(one.index, getattr(one, "direction", None)) for one in self.asked]
                assert key not in open_questions, "asked twice at the same time"
                self.asked.append(step)
            elif isinstance(step, Pass):
                assert step.up_to >= self.passed[step.direction]
                self.passed[step.direction] = step.up_to
            elif isinstance(step, Hold):
                self.passed[step.direction] = 0
            elif isinstance(step, (Drop, Remediate, AppendString)):
                self.over = True
        if self.machine.outcome == "dropped":
            assert self.machine.is_final

    def act(self, action: tuple[Any, ...]) -> None:
        name, *rest = action
        if name == "received" and rest[0] in self.ended:
            return
        try:
            self.take(getattr(self, f"_{name}")(*rest))
        except FilterMisuse:
            pass

    def _answer(self, make: Callable[[], FilterVerdict]) -> list[Step]:
        if not self.asked:
            return []
        question, machine, now = self.asked.pop(0), self.machine, self.now
        if isinstance(question, AskNewFlow):
            return machine.answer_new_flow(question.index, make(), now)
        if isinstance(question, AskData):
            return machine.answer_data(question.index, question.direction, make(), now)
        assert isinstance(question, AskComplete)
        return machine.answer_complete(question.index, question.direction, make(), now)

    def _received(self, direction: Direction, content: bytes) -> list[Step]:
        return self.machine.received(direction, content, self.now)

    def _ended(self, direction: Direction) -> list[Step]:
        self.ended.add(direction)
        return self.machine.ended(direction, self.now)

    def _resume(self, index: int, make: Callable[[], FilterVerdict]) -> list[Step]:
        return self.machine.resume(index, make(), self.now)

    def _update(self, index: int, make: Callable[[], FilterVerdict], direction: Direction) -> list[Step]:
        return self.machine.update(index, make(), direction, self.now)

    def _trouble(self, index: int, trouble: Trouble) -> list[Step]:
        return self.machine.trouble(index, trouble, "", self.now)

    def _control(self, index: int, make: Callable[[], FilterVerdict]) -> list[Step]:
        return self.machine.control_answer(index, make(), self.now)

    def _wait(self, seconds: float) -> list[Step]:
        self.now += seconds
        return self.machine.tick(self.now)


@settings(max_examples=800, deadline=None)
@given(st.integers(1, 3), st.sampled_from(list(Policy)), st.booleans(), st.lists(ACTIONS, max_size=40))
def test_whatever_comes(count: int, policy: Policy, udp: bool, actions: list[tuple[Any, ...]]) -> None:
    watcher = Watcher(flow(count, policy=policy, udp=udp))
    watcher.take(watcher.machine.start(0.0))
    for action in actions:
        watcher.act(action)
    for _ in range(50):  # time alone brings every question to an end
        deadline = watcher.machine.next_deadline
        if deadline is None:
            break
        watcher.now = max(watcher.now, deadline)
        watcher.take(watcher.machine.tick(watcher.now))
    else:
        raise AssertionError("deadlines without end")
