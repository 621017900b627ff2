"""How many tokens a user gets."""

from __future__ import annotations

import pytest

from network_extension.urlfilter.service import issuance_limit
from network_extension.urlfilter.service.issuance_limit import IssuanceLimit
from network_extension.urlfilter.service.refusals import Refusal


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(limit: IssuanceLimit, user: bytes, most: int = 100) -> int:
    """How many tokens the user gets now."""
    for count in range(most):
        try:
            limit.take(user)
        except Refusal as refusal:
            assert refusal.status == 429
            assert refusal.retry_after is not None and 1 <= refusal.retry_after <= 3600
            return count
    return most


def test_without_a_limit() -> None:
    assert taken(IssuanceLimit(0, Clock()), b"a", 10_000) == 10_000


def test_each_user_has_its_own() -> None:
    clock = Clock()
    limit = IssuanceLimit(12, clock)
    assert (taken(limit, b"a"), taken(limit, b"b"), taken(limit, b"a")) == (12, 12, 0)
    clock.now += 299
    assert taken(limit, b"a") == 0
    clock.now += 2  # five minutes: one of twelve
    assert taken(limit, b"a") == 1
    clock.now += 3600
    assert taken(limit, b"a") == 12


def test_the_time_that_is_told_is_enough() -> None:
    clock = Clock()
    limit = IssuanceLimit(7, clock)
    taken(limit, b"a")
    with pytest.raises(Refusal) as refused:
        limit.take(b"a")
    clock.now += refused.value.retry_after or 0
    limit.take(b"a")


def test_users_who_are_away_are_forgotten() -> None:
    clock = Clock()
    limit = IssuanceLimit(1, clock)
    for number in range(issuance_limit.FEW):
        limit.take(b"%d" % number)
    clock.now += 3601
    limit.take(b"one more")
    assert len(limit._full_at) == 1
