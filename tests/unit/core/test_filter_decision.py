"""The verdict machine, from the new flow to its end: each row of its tables, as transcripts (see filter_talk)."""

from __future__ import annotations

import itertools

import pytest

from network_extension import FilterReportFrequency, FilterRule, FilterSettings, NetworkRule
from network_extension.core.filter_answers import ANSWERS, Question
from network_extension.core.filter_decision import FilterMisuse, Open
from network_extension.core.filter_rule_matching import FilterRuleMatcher
from network_extension.core.flow_decision import ON_TROUBLE, Action, Policy, ProviderState, Trouble
from network_extension.filter_verdicts import FilterAction, FilterVerdict, VerdictKind

from .filter_talk import FACTS, OUT, flow, looks, plays, verdict

CLOSED = Policy.CLOSED


class TestAnswers:
    def test_allowed_for_good(self) -> None:
        f = plays("""
            >> new flow
            << F0? new flow
            >> F0: allow
            << open
            >> out: nobody looks
        """)
        assert (f.is_final, f.outcome, f.by, f.reason) == (True, "allowed", "F0", "handle_new_flow: allow")
        assert f.next_deadline is None

    def test_dropped(self) -> None:
        f = plays("""
            >> new flow
            << F0? new flow
            >> F0: drop silently
            << drop silently by F0: handle_new_flow: drop
            >> F0: allow
            >> closed
        """)
        assert (f.is_final, f.outcome) == (True, "dropped")

    def test_every_filter_must_allow(self) -> None:
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: allow
            << F1? new flow
            >> F1: looks out 4
            << F2? new flow
            >> F2: drop
            << drop by F2: handle_new_flow: drop
            """,
            count=3,
        )

    def test_looking_at_nothing_is_allowing(self) -> None:
        plays("""
            >> new flow
            << F0? new flow
            >> F0: looks
            << open
        """)

    def test_pages_end_the_flow(self) -> None:
        f = plays("""
            >> new flow
            << F0? new flow
            >> F0: page
            << page url, button by F0
        """)
        assert (f.is_final, f.outcome) == (True, "remediated")
        plays("""
            >> new flow
            << F0? new flow
            >> F0: append
            << append safe by F0
        """)

    def test_who_was_not_asked_cannot_answer(self) -> None:
        plays(
            """
            >> new flow
            << F0? new flow
            >> F1: drop
            << misuse: filter 1 was not asked about the new flow, which is before F0
            >> F0: looks out 1
            << F1? new flow
            >> F0: drop
            << misuse: filter 0 was not asked about the new flow, which is before F1
            >> F1: allow
            << open, out held
            >> F0: drop
            << misuse: filter 0 was not asked about the new flow, which is open, its bytes filtered
            """,
            count=2,
        )

    @pytest.mark.parametrize(("question", "kind"), list(itertools.product(Question, VerdictKind)))
    def test_what_is_in_no_row_is_as_bad_as_an_exception(self, question: Question, kind: VerdictKind) -> None:
        f = flow(policy=CLOSED)
        f.start(0.0)
        given = FilterVerdict(kind, pass_bytes=1, filter_outbound=True)
        if question is Question.NEW_FLOW:
            f.answer_new_flow(0, given, 0.0)
        else:
            f.answer_new_flow(0, looks(out=1), 0.0)
        if question is Question.DATA:
            f.received(OUT, b"a", 0.0)
            f.answer_data(0, OUT, given, 0.0)
        if question is Question.COMPLETE:
            f.ended(OUT, 0.0)
            f.answer_complete(0, OUT, given, 0.0)
        is_nonsense = f.by == "policy" and "is no answer of handle_" in f.reason
        assert is_nonsense == (kind not in ANSWERS[question])


class TestRules:
    def test_they_come_before_the_filters_code_and_hold_without_its_process(self) -> None:
        network = NetworkRule.destination_network("192.0.2.0/24")
        f = flow(2)
        f._slots[0].matcher = FilterRuleMatcher(FilterSettings([FilterRule(network, FilterAction.ALLOW)]))
        f._slots[1].matcher = FilterRuleMatcher(FilterSettings([FilterRule(network, FilterAction.DROP)]))
        f._slots[0].state = f._slots[1].state = ProviderState.DEAD
        plays(
            """
            >> new flow
            << drop by F1: rules[1] drop to 192.0.2.0/24
            """.replace("rules[1] drop to 192.0.2.0/24", f._slots[1].matcher.decide(FACTS)[1]),
            f,
        )

    def test_loopback_is_not_asked_about(self) -> None:
        f = plays(
            """
            >> new flow
            << open
            """,
            facts=FACTS._replace(remote_address=bytes([127, 0, 0, 1])),
        )
        assert f.reason == "loopback, which no rule names"


class TestPauses:
    def test_two_pauses_need_two_resumes(self) -> None:
        f = plays(
            """
            >> new flow
            << F0? new flow
            >> F0: pause
            >> F0: allow
            << misuse: filter 0 was not asked about the new flow, which is paused by F0 in handle_new_flow
            >> at 3600
            >> F0 resumes: allow
            << F1? new flow
            >> F1: pause
            >> F0 resumes: allow
            << misuse: F0: the flow is not paused: it is paused by F1 in handle_new_flow
            >> F1 resumes: pause
            << misuse: the flow is paused already; resume it with another verdict
            >> F1 resumes: allow
            << open
            >> F1 resumes: allow
            << misuse: F1: the flow is not paused: it is allowed
            """,
            count=2,
        )
        assert not f.is_paused(1)

    def test_a_resume_is_what_the_paused_callback_would_have_said(self) -> None:
        plays("""
            >> new flow
            << F0? new flow
            >> F0: pause
            >> F0 resumes: pass 1, peek 1
            << misuse: the flow is paused by F0 in handle_new_flow: resume it with a FilterNewFlowVerdict
            >> F0 resumes: looks out 1
            << open, out held
            >> out: a
            << F0? out at 0: a
            >> F0: pause
            >> F0 resumes: looks out 1
            << misuse: the flow is paused by F0 in handle_outbound_data: resume it with a FilterDataVerdict
            >> F0 resumes: drop
            << drop by F0: handle_outbound_data: drop
        """)

    def test_udp_is_paused_for_ten_seconds(self) -> None:
        for script in (
            """
            >> at 5
            >> new flow
            << F0? new flow
            >> F0: pause
            >> at 14.9
            >> at 15
            << drop by F0: paused for 10 s, which is all that UDP gets
            """,
            """
            >> new flow
            << F0? new flow
            >> F0: looks out 1
            << open, out held
            >> out: query
            << F0? out at 0: query
            >> F0: pause
            >> at 10
            << drop by F0: paused for 10 s, which is all that UDP gets
            """,
        ):
            plays(script, udp=True)

    def test_who_dies_while_the_flow_is_paused_is_in_trouble(self) -> None:
        script = """
            >> new flow
            << F0? new flow
            >> F0: pause
            >> F0 is in trouble: DEAD
            << {}
        """
        plays(script.format("open"))
        plays(script.format("drop by policy: F0 has died; policy closed"), policy=CLOSED)


class TestControlProviders:
    def test_need_rules_until_the_rules_are_there(self) -> None:
        plays("""
            >> new flow
            << F0? new flow
            >> F0: need rules
            << control of F0?
            >> control of F0: new rules
            << F0? new flow
            >> F0: need rules
            << control of F0?
            >> control of F0: allow
            << open
            >> control of F0: allow
        """)

    def test_new_rules_may_decide(self) -> None:
        f = flow()
        f.start(0.0)
        f.answer_new_flow(0, verdict("need rules"), 0.0)
        rule = FilterRule(NetworkRule.destination_network("192.0.2.0/24"), FilterAction.ALLOW)
        f._slots[0].matcher = FilterRuleMatcher(FilterSettings([rule]))
        plays(
            """
            >> control of F0: new rules
            << open
            """,
            f,
        )

    def test_about_bytes(self) -> None:
        plays("""
            >> new flow
            << F0? new flow
            >> F0: looks out 1
            << open, out held
            >> out: a
            << F0? out at 0: a
            >> F0: need rules
            << control of F0?
            >> out: b
            >> control of F0: new rules
            << F0? out at 0: a
            >> F0: need rules
            << control of F0?
            >> control of F0: allow
            << out is free
        """)

    def test_its_deadline_and_its_nonsense(self) -> None:
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: need rules
            << control of F0?
            >> at 10
            << drop by policy: F0 did not decide in time (the control provider); policy closed
            """,
            policy=CLOSED,
        )
        plays("""
            >> new flow
            << F0? new flow
            >> control of F0: allow
            << misuse: the control provider was not asked about this flow, which is before F0
            >> F0: need rules
            << control of F0?
            >> control of F0: need rules
            << drop by F0: control provider: need-rules
        """)

    def test_it_cannot_ask_for_ever(self) -> None:
        again = """
            >> F0: need rules
            << control of F0?
            >> control of F0: new rules
            << F0? new flow"""
        plays(f"""
            >> new flow
            << F0? new flow{again * 4}
            >> F0: need rules
            << drop by F0: needed rules 4 times over
        """)


class TestReports:
    def test_from_the_first_verdict_to_the_end(self) -> None:
        f = plays("""
            >> new flow
            << F0? new flow
            >> F0: looks out 1 reported
            << report to F0: FILTER_DATA NEW_FLOW
            << open, out held
            >> out: a
            << F0? out at 0: a
            >> F0: pass 1, peek 1
            << out passes to 1
            >> out: b
            << F0? out at 1: b
            >> F0: allow reported
            << report to F0: ALLOW DATA_DECISION
            << out is free
            >> closed
            << report to F0: ALLOW FLOW_CLOSED
            >> closed
        """)
        assert f.wants_reports

    def test_of_a_flow_that_was_dropped_later(self) -> None:
        plays("""
            >> new flow
            << F0? new flow
            >> F0: allow reported
            << report to F0: ALLOW NEW_FLOW
            << open
            >> F0 updates both: drop
            << drop by F0: update_flow: drop
            >> closed
            << report to F0: DROP FLOW_CLOSED
        """)

    def test_statistics(self) -> None:
        f = flow(2)
        f.start(0.0)
        assert not f.wants_reports
        f.answer_new_flow(0, verdict("allow").with_statistics(FilterReportFrequency.HIGH), 0.0)
        f.answer_new_flow(1, verdict("allow"), 0.0)
        assert (f.wants_reports, f.statistics) == (True, [(0, FilterReportFrequency.HIGH)])


class TestTrouble:
    @pytest.mark.parametrize(("trouble", "policy"), list(ON_TROUBLE))
    def test_the_policy_decides(self, trouble: Trouble, policy: Policy) -> None:
        f = plays(
            """
            >> new flow
            << F0? new flow
            >> F0 is in trouble: {} why
            << {}
            """.format(
                trouble.name,
                f"drop by policy: F0 {trouble.value} (why); policy closed"
                if ON_TROUBLE[trouble, policy] is Action.REFUSE
                else "F1? new flow",
            ),
            count=2,
            policy=policy,
        )
        assert f.by == "policy"

    @pytest.mark.parametrize("state", [ProviderState.STARTING, ProviderState.DEAD, ProviderState.STOPPING])
    def test_a_filter_that_is_not_running_is_not_asked(self, state: ProviderState) -> None:
        f = flow()
        f._slots[0].state = state
        assert f.start(0.0) == [Open(False, False)]
        assert f.by == "policy"

    def test_no_answer_in_time(self) -> None:
        plays("""
            >> new flow
            << F0? new flow
            >> at 9.9
            >> at 10
            << open
            >> F0: drop
        """)

    def test_of_who_has_no_say_any_more(self) -> None:
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: allow
            << F1? new flow
            >> F0 is in trouble: DEAD
            >> F1: looks out 1
            << open, out held
            >> F0 is in trouble: DEAD
            >> F1 is in trouble: DEAD
            << drop by policy: F1 has died; policy closed
            """,
            count=2,
            policy=CLOSED,
        )

    def test_of_who_would_have_looked(self) -> None:
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: looks out 1
            << F1? new flow
            >> F0 is in trouble: DEAD
            >> F1: allow
            << open
            """,
            count=2,
        )

    def test_of_who_does_not_exist(self) -> None:
        with pytest.raises(FilterMisuse, match="there is no filter 7"):
            flow().trouble(7, Trouble.DEAD, "", 0.0)
