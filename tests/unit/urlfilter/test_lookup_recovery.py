"""Each way in which a step can fail, and what follows: the table, the pauses, and the bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.urlfilter.lookup_recovery import (
    LONGEST_PAUSE,
    MOST_AT_ONCE,
    REACTIONS,
    Forget,
    GiveUp,
    Outcome,
    Pace,
    Recovery,
    Retry,
    Stage,
    outcome_of,
)


def recovery(patience: float = 10.0, fraction: float = 1.0) -> Recovery:
    return Recovery(0.0, patience, lambda: fraction)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b"", None),
        (204, b"", None),
        (400, b'{"error":{"message":"Evaluation key not found"}}', Outcome.KEY_MISSING),
        (400, b'{"error":{"message":"unknown use case"}}', Outcome.REFUSED),
        (401, b"Evaluation key not found", Outcome.UNAUTHORIZED),
        (403, b"", Outcome.REFUSED),
        (404, b"", Outcome.NOT_FOUND),
        (410, b"", Outcome.GONE),
        (422, b"", Outcome.UNPROCESSABLE),
        (429, b"", Outcome.BUSY),
        (500, b"", Outcome.FAULT),
        (502, b"", Outcome.LOST),
        (503, b"", Outcome.BUSY),
        (504, b"", Outcome.LOST),
        (301, b"", Outcome.REFUSED),
    ],
)
def test_what_a_status_means(status: int, body: bytes, outcome: Outcome | None) -> None:
    assert outcome_of(status, body) is outcome


def test_the_table_has_each_outcome_of_each_stage() -> None:
    assert set(REACTIONS) == {(stage, outcome) for stage in Stage for outcome in Outcome}


@pytest.mark.parametrize(
    ("stage", "outcome", "forget"),
    [
        (Stage.CONFIGURATION, Outcome.UNAUTHORIZED, Forget.TOKENS),
        (Stage.KEY, Outcome.UNAUTHORIZED, Forget.TOKENS),
        (Stage.QUERY, Outcome.UNAUTHORIZED, Forget.TOKENS),
        (Stage.QUERY, Outcome.GONE, Forget.CONFIGURATION),
        (Stage.QUERY, Outcome.KEY_MISSING, Forget.UPLOAD),
        (Stage.KEY, Outcome.REFUSED, Forget.CONFIGURATION),
        (Stage.TOKENS, Outcome.UNPROCESSABLE, Forget.TOKENS),
        (Stage.TOKENS, Outcome.UNREADABLE, Forget.TOKENS),
    ],
)
def test_what_a_restarted_service_forgot_is_renewed_at_once(stage: Stage, outcome: Outcome, forget: Forget) -> None:
    assert recovery().after(stage, outcome, 0.0) == Retry(forget, 0.0)


@pytest.mark.parametrize(
    ("stage", "outcome"),
    [
        pytest.param(Stage.ISSUER, Outcome.UNAUTHORIZED, id="the user token is refused"),
        pytest.param(Stage.TOKENS, Outcome.UNAUTHORIZED, id="the user token was withdrawn"),
        pytest.param(Stage.ISSUER, Outcome.NOT_FOUND, id="no issuer there"),
        pytest.param(Stage.CONFIGURATION, Outcome.NOT_FOUND, id="the use case is unknown"),
        pytest.param(Stage.CONFIGURATION, Outcome.UNREADABLE, id="some web page"),
    ],
)
def test_what_cannot_heal_ends_the_lookup_at_once(stage: Stage, outcome: Outcome) -> None:
    assert recovery().after(stage, outcome, 0.0) == GiveUp(is_permanent=True)


def test_a_lost_connection_is_tried_again_at_once_and_then_with_growing_pauses() -> None:
    tried = recovery(patience=60)
    answers = [tried.after(Stage.QUERY, Outcome.LOST, 0.0) for _ in range(9)]
    assert [answer.delay for answer in answers if isinstance(answer, Retry)] == [0, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]


def test_half_of_each_pause_is_chance() -> None:
    quick, slow = recovery(fraction=0.0), recovery(fraction=1.0)
    assert (quick.after(Stage.KEY, Outcome.FAULT, 0.0), slow.after(Stage.KEY, Outcome.FAULT, 0.0)) == (
        Retry(Forget.NOTHING, 0.05),
        Retry(Forget.NOTHING, 0.1),
    )


def test_a_busy_service_says_itself_when_to_come_again() -> None:
    assert recovery(fraction=0.0).after(Stage.QUERY, Outcome.BUSY, 0.0, retry_after=3) == Retry(Forget.NOTHING, 3.0)
    later = recovery(fraction=1.0).after(Stage.QUERY, Outcome.BUSY, 0.0, retry_after=3)
    assert isinstance(later, Retry) and later.delay == pytest.approx(3.3)


def test_nobody_waits_for_longer_than_the_lookup_has_patience() -> None:
    assert recovery(patience=2).after(Stage.QUERY, Outcome.BUSY, 0.0, retry_after=3) == GiveUp(is_permanent=False)
    assert recovery(patience=2).after(Stage.QUERY, Outcome.LOST, 2.1) == GiveUp(is_permanent=False)


def test_an_answer_that_cannot_be_read_is_forgiven_once() -> None:
    tried = recovery()
    assert tried.after(Stage.QUERY, Outcome.UNREADABLE, 0.0) == Retry(Forget.CONFIGURATION, 0.0)
    assert tried.after(Stage.QUERY, Outcome.UNREADABLE, 0.0) == GiveUp(is_permanent=True)


@given(
    st.lists(st.tuples(st.sampled_from(Stage), st.sampled_from(Outcome), st.floats(0, 1)), max_size=200),
    st.floats(0, 60),
    st.one_of(st.none(), st.floats(0, 100)),
)
def test_no_sequence_of_failures_goes_on_for_ever(
    failures: list[tuple[Stage, Outcome, float]], patience: float, retry_after: float | None
) -> None:
    """At most MOST_AT_ONCE tries and one more come without a pause, and none is due after the patience has ended."""
    now, at_once = 0.0, 0
    chance = iter([fraction for _, _, fraction in failures] * 2)
    tried = Recovery(now, patience, lambda: next(chance))
    for stage, outcome, _ in failures:
        answer = tried.after(stage, outcome, now, retry_after)
        if isinstance(answer, GiveUp):
            break
        assert 0 <= answer.delay <= max(LONGEST_PAUSE, 1.1 * (retry_after or 0))
        assert now + answer.delay <= patience
        at_once += not answer.delay and REACTIONS[stage, outcome].pace is Pace.AT_ONCE
        now += answer.delay
    if retry_after != 0:
        assert at_once <= MOST_AT_ONCE + 1
