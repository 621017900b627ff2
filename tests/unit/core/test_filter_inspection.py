"""The verdict machine and the bytes of a flow: peek, pass, ends, updates, time, as transcripts (see filter_talk)."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from network_extension import FLOW_BYTES_MAX
from network_extension.core.filter_decision import AskData, FilterLimits, Pass
from network_extension.core.filter_stream import NEXT, Side, SideEvent, SideState
from network_extension.core.flow_decision import Policy

from .filter_talk import IN, OUT, flow, looks, plays, verdict


def one(script: str, **options: Any) -> None:
    """A transcript of a flow under one filter, from its answer on."""
    begin = """
        >> new flow
        << F0? new flow
    """
    plays(f"{dedent(begin).strip()}\n{dedent(script).strip()}", **options)


class TestPeekAndPass:
    def test_peek_then_allow(self) -> None:
        one("""
            >> F0: looks out 4
            << open, out held
            >> out: ab
            >> in: nobody looks here
            >> out: cdef
            << F0? out at 0: abcd
            >> F0: allow
            << out is free
            >> out: nor here
        """)

    def test_pass_some_and_look_again(self) -> None:
        one("""
            >> F0: looks out 2
            << open, out held
            >> out: abcdef
            << F0? out at 0: ab
            >> F0: pass 1, peek 3
            << out passes to 1
            << F0? out at 1: bcd
            >> F0: pass 2, peek 0
            << out passes to 3
            << F0? out at 3: def
            >> F0: drop
            << drop by F0: handle_outbound_data: drop
        """)

    def test_more_is_passed_than_is_there(self) -> None:
        one("""
            >> F0: looks out all
            << open, out held
            >> out: ab
            << F0? out at 0: ab
            >> F0: pass 6, peek 2
            << out passes to 6
            >> out: cd
            << out passes to 6
            >> out: efgh
            << out passes to 6
            << F0? out at 6: gh
            >> F0: pass all, peek 9
            << out is free
        """)

    def test_the_same_bytes_are_not_shown_twice_by_themselves(self) -> None:
        one("""
            >> F0: looks out 2
            << open, out held
            >> out: ab
            << F0? out at 0: ab
            >> F0: pass 0, peek 2
            >> out: cd
            << F0? out at 0: abc
        """)

    def test_fewer_bytes_than_asked_for_are_shown_when_nothing_more_comes(self) -> None:
        f = flow()
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: looks out 100
            << open, out held
            >> at 1
            >> out: abc
            >> at 1.04
            >> out: def
            >> at 1.08
            >> at 1.09
            << F0? out at 0: abcdef
            """,
            f,
        )

    def test_what_is_held_is_bounded(self) -> None:
        one(
            """
            >> F0: looks out 1000
            << open, out held
            >> out: 1234567
            >> out: 8
            << F0? out at 0: 12345678
            """,
            limits=FilterLimits(most_held=8),
        )

    def test_a_second_filter_sees_what_the_first_has_passed(self) -> None:
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: looks out 2
            << F1? new flow
            >> F1: looks out 1
            << open, out held
            >> out: abcd
            << F0? out at 0: ab
            >> F0: pass 1, peek 2
            << F0? out at 1: bc
            << F1? out at 0: a
            >> F1: pass 3, peek 1
            << out passes to 1
            >> F0: pass 2, peek 9
            << out passes to 3
            >> F0 is in trouble: RAISED
            << F1? out at 3: d
            >> F1: allow
            << out is free
            """,
            count=2,
        )

    def test_one_question_at_a_time(self) -> None:
        one("""
            >> F0: looks out 1 in 1
            << open, both held
            >> out: a
            << F0? out at 0: a
            >> in: b
            >> F0: allow
            << out is free
            << F0? in at 0: b
            >> F0: allow
            << in is free
        """)


class TestEnds:
    def test_the_rest_is_shown_then_the_end(self) -> None:
        one("""
            >> F0: looks out 10
            << open, out held
            >> out: abc
            >> out ends
            << F0? out at 0: abc
            >> F0: pass 3, peek 10
            << out passes to 3
            << F0? out complete
            >> F0: pass 5, peek 5
            << out is free
        """)

    def test_the_last_word_decides_about_bytes_that_were_not_passed(self) -> None:
        one("""
            >> F0: looks in 10
            << open, in held
            >> in: abc
            >> in ends
            << F0? in at 0: abc
            >> F0: pass 0, peek 10
            << F0? in complete
            >> F0: pause
            >> F0 resumes: drop
            << drop by F0: handle_inbound_data_complete: drop
        """)

    def test_no_last_word_where_nobody_looks_any_more(self) -> None:
        one("""
            >> F0: looks out 1 in 1
            << open, both held
            >> out: a
            << F0? out at 0: a
            >> F0: allow
            << out is free
            >> out ends
            >> in ends
            << F0? in complete
            >> F0: allow
            << in is free
        """)

    def test_bytes_under_inspection_when_the_program_goes(self) -> None:
        one("""
            >> F0: looks out 1 reported
            << report to F0: FILTER_DATA NEW_FLOW
            << open, out held
            >> out: a
            << F0? out at 0: a
            >> closed
            << report to F0: ALLOW FLOW_CLOSED
            >> F0: allow
            >> F0 updates out: allow
            << misuse: update_flow: the flow is closed
        """)


class TestDatagrams:
    def test_each_is_shown_by_itself(self) -> None:
        one(
            """
            >> F0: looks out 1000
            << open, out held
            >> out: one
            << F0? out at 0: one
            >> out: two
            >> out: three
            >> F0: pass 3, peek 1
            << out passes to 3
            << F0? out at 3: two
            >> F0: pass 3, peek 1000
            << out passes to 6
            << F0? out at 6: three
            """,
            udp=True,
        )

    def test_as_many_as_it_takes(self) -> None:
        """A ClientHello of QUIC in two datagrams."""
        one(
            """
            >> F0: looks out 1
            << open, out held
            >> out: hel
            << F0? out at 0: hel
            >> F0: pass 0, peek 5
            >> out: lo
            << F0? out at 0: hello
            >> F0: allow
            << out is free
            """,
            udp=True,
        )

    def test_half_of_one_is_none(self) -> None:
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: looks out 1
            << F1? new flow
            >> F1: looks out 1
            << open, out held
            >> out: abcd
            << F0? out at 0: abcd
            >> F0: pass 2, peek 0
            << F0? out at 2: cd
            >> F0: allow
            << F1? out at 0: abcd
            """,
            count=2,
            udp=True,
        )


class TestPauses:
    def test_nothing_that_is_held_moves(self) -> None:
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: looks out 1 in 1
            << F1? new flow
            >> F1: looks in 1
            << open, both held
            >> in: a
            << F0? in at 0: a
            >> F0: pass 1, peek 1
            << F1? in at 0: a
            >> out: b
            << F0? out at 0: b
            >> F0: pause
            >> F1: allow
            >> in: c
            >> at 100
            >> F0 resumes: allow
            << out is free
            << in passes to 1
            << F0? in at 1: c
            """,
            count=2,
        )

    def test_what_waited_moves_even_if_the_resume_decides_nothing(self) -> None:
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: looks out 1
            << F1? new flow
            >> F1: looks in 1
            << open, both held
            >> in: a
            << F1? in at 0: a
            >> out: b
            << F0? out at 0: b
            >> F0: pause
            >> F1: allow
            >> F0 resumes: need rules
            << control of F0?
            << in is free
            """,
            count=2,
        )

    def test_deadlines_begin_anew_after_it(self) -> None:
        f = flow(policy=Policy.CLOSED)
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: looks out 1 in 1
            << open, both held
            >> out: a
            << F0? out at 0: a
            >> F0: pass 0, peek 50
            >> at 5
            >> in: b
            << F0? in at 0: b
            >> F0: pause
            >> at 100
            >> F0 resumes: pass 1, peek 1
            << in passes to 1
            >> at 109
            >> at 110
            << drop by policy: F0 did not decide in time (wants more outbound bytes than come); policy closed
            """,
            f,
        )


class TestUpdates:
    def test_it_ends_a_wait_and_a_pause(self) -> None:
        one("""
            >> F0: looks out 100
            << open, out held
            >> out: a
            >> F0 updates out: pass 1, peek 1
            << out passes to 1
            >> out: b
            << F0? out at 1: b
            >> F0: pause
            >> F0 updates both: allow
            << out is free
        """)

    def test_it_drops_what_was_allowed(self) -> None:
        one("""
            >> F0: allow
            << open
            >> F0 updates in: drop silently
            << drop silently by F0: update_flow: drop
            >> F0 updates in: drop
            >> F0 updates in: allow
            << misuse: update_flow: the flow is dropped
        """)

    def test_it_holds_again_what_was_free(self) -> None:
        f = flow()
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: looks out 1
            << open, out held
            >> out: ab
            << F0? out at 0: a
            >> F0: allow
            << out is free
            >> out: cd
            >> F0 updates both: pass 1, peek 1
            << out is held
            << in is held
            << out passes to 5
            << in passes to 1
            >> out: ef
            << out passes to 5
            << F0? out at 5: f
            >> F0: allow
            << out is free
            >> F0 updates in: allow
            << in is free
            """,
            f,
        )
        assert f.given(OUT) == 6

    def test_a_callback_under_way_still_counts(self) -> None:
        one("""
            >> F0: looks out 4
            << open, out held
            >> out: abcdef
            << F0? out at 0: abcd
            >> F0 updates out: pass 3, peek 1
            << out passes to 3
            >> F0: pass 2, peek 2
            << F0? out at 3: de
        """)

    def test_who_was_let_go_meanwhile_answers_in_vain(self) -> None:
        one("""
            >> F0: looks out 1 in 1
            << open, both held
            >> out: a
            << F0? out at 0: a
            >> F0 updates out: allow
            << out is free
            >> in: b
            >> F0: drop
            << F0? in at 0: b
            >> F0: allow
            << in is free
        """)

    def test_an_answer_that_never_comes_does_not_hold_for_ever(self) -> None:
        one("""
            >> F0: looks out 1
            << open, out held
            >> out: a
            << F0? out at 0: a
            >> F0 updates out: allow
            << out is free
            >> F0 updates out: pass 0, peek 1
            << out is held
            >> out: b
            >> at 10
            << out is free
        """)

    def test_while_another_filter_thinks(self) -> None:
        plays(
            """
            >> new flow
            << F0? new flow
            >> F0: looks out 1
            << F1? new flow
            >> F0 updates out: allow
            >> F0 updates in: pass 2, peek 1
            >> F1 updates in: allow
            << misuse: update_flow: the flow has not begun yet; it is before F1
            >> F1: pause
            >> F1 updates in: pause
            << misuse: update_flow: pause cannot be given; allow, drop and data can
            >> F1 resumes: allow
            << open, in held
            >> in: abc
            << in passes to 2
            << F0? in at 2: c
            """,
            count=2,
        )

    def test_while_the_control_provider_thinks(self) -> None:
        one("""
            >> F0: looks out 1
            << open, out held
            >> out: ab
            << F0? out at 0: a
            >> F0: need rules
            << control of F0?
            >> F0 updates out: pass 1, peek 1
            << out passes to 1
            << F0? out at 1: b
            >> control of F0: drop
            << misuse: the control provider was not asked about this flow, which is open, its bytes filtered
        """)


class TestTime:
    def test_no_answer_about_bytes(self) -> None:
        one("""
            >> F0: looks out 1 in 1
            << open, both held
            >> out: a
            << F0? out at 0: a
            >> at 10
            << out is free
            << in is free
            >> F0: drop
        """)

    def test_more_than_can_come_is_waited_for_until_the_deadline(self) -> None:
        one("""
            >> F0: looks out 4
            << open, out held
            >> out: abcd
            << F0? out at 0: abcd
            >> at 1
            >> F0: pass 0, peek 1000
            >> at 10.9
            >> at 11
            << out is free
        """)

    def test_drop_by_drop_a_sender_does_not_outwait_a_filter(self) -> None:
        """Each byte comes before what is there may be shown, and the deadline finds something new: it is shown."""
        f = flow()
        f.start(0.0)
        f.answer_new_flow(0, looks(out=1000), 0.0)
        now, steps = 0.0, f.received(OUT, b"a", 0.0)
        while not steps:
            now += 0.04
            steps = f.received(OUT, b"a", now) or f.tick(now)
        assert now <= 10.1
        (asked,) = steps
        assert isinstance(asked, AskData)
        assert f.answer_data(0, OUT, verdict("allow"), now) == [Pass(OUT, FLOW_BYTES_MAX)]


class TestSides:
    @pytest.mark.parametrize("state", SideState)
    @pytest.mark.parametrize("event", SideEvent)
    def test_only_what_is_in_the_table_may_happen(self, state: SideState, event: SideEvent) -> None:
        side = Side(1)
        side.state = state
        if (state, event) in NEXT:
            side.move(event)
            assert side.state is NEXT[state, event]
        else:
            with pytest.raises(KeyError):
                side.move(event)

    def test_every_state_is_reached_and_left(self) -> None:
        assert {state for state, _ in NEXT} == set(SideState) == set(NEXT.values())


def test_a_direction_is_not_two() -> None:
    f = flow()
    f.start(0.0)
    f.answer_new_flow(0, looks(into=1), 0.0)
    assert f.received(OUT, b"a", 0.0) == []
    assert f.received(IN, b"b", 0.0) == [AskData(0, IN, 0, b"b")]
