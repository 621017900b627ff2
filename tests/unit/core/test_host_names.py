"""Names of addresses: the asked name counts, the last one wins, and it holds while it is used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.dns_messages import A, Answers
from network_extension.core.host_names import HostNames

ONE, TWO, SIX = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), bytes(15) + b"\x07"
MINUTE, DAY = 60, 86400


def answers(
    name: str, *addresses: tuple[str, bytes, int], cnames: list[tuple[str, str, int]] | None = None, kind: int = A
) -> Answers:
    return Answers(1, 0x8180, name, kind, list(addresses), cnames or [])


def test_the_asked_name_counts() -> None:
    names = HostNames()
    chain = [("b.example", "c.example", 1), ("a.example", "b.example", 1)]  # in any order
    names.learn(answers("a.example", ("c.example", ONE, 300), ("c.example", SIX, 300), cnames=chain), 0)
    assert names.lookup(ONE, 1) == names.lookup(SIX, 1) == ("a.example", "dns")
    assert names.lookup(TWO, 1) is None


def test_a_name_that_was_not_asked_for_is_not_learned() -> None:
    names = HostNames()
    names.learn(answers("evil.example", ("bank.example", ONE, 300), ("evil.example", TWO, 300)), 0)
    assert names.lookup(ONE, 1) is None
    assert names.lookup(TWO, 1) == ("evil.example", "dns")


def test_an_answer_without_addresses_teaches_nothing() -> None:
    names = HostNames()
    names.learn(answers("a.example", ("a.example", ONE, 300)), 0)
    names.learn(answers("b.example", cnames=[("b.example", "a.example", 300)]), 0)
    assert names.lookup(ONE, 1) == ("a.example", "dns")


def test_names_that_lead_round_end() -> None:
    names = HostNames()
    round_trip = [("a.example", "b.example", 1), ("b.example", "a.example", 1)]
    names.learn(answers("a.example", ("b.example", ONE, 300), cnames=round_trip), 0)
    assert names.lookup(ONE, 1) == ("a.example", "dns")


def test_the_last_name_wins() -> None:
    names = HostNames()
    for asked in ("a.example", "b.example"):
        names.learn(answers(asked, (asked, ONE, 300)), 0)
    assert names.lookup(ONE, 1) == ("b.example", "dns")
    assert len(names) == 1


def test_the_port_of_a_service_record_is_not_part_of_the_host() -> None:
    names, asked = HostNames(), "_8443._https.a.example"
    names.learn(answers(asked, (asked, ONE, 300)), 0)
    assert names.lookup(ONE, 1) == ("a.example", "dns")


def test_a_name_holds_for_its_lifetime_but_no_less_than_a_minute() -> None:
    names = HostNames()
    names.learn(answers("a.example", ("a.example", ONE, 0), ("a.example", TWO, 300)), 1000)
    assert names.lookup(ONE, 1000 + MINUTE) is None
    assert names.lookup(TWO, 1299) == ("a.example", "dns")
    assert len(names) == 1  # what is over is forgotten


def test_use_renews_a_name_until_its_last_day() -> None:
    names = HostNames()
    names.learn(answers("a.example", ("a.example", ONE, 5), ("a.example", TWO, 10 * DAY)), 0)
    for now in range(0, DAY, 59):
        assert names.lookup(ONE, now) == ("a.example", "dns")
    assert names.lookup(ONE, DAY) is None
    assert names.lookup(TWO, DAY) is None


def test_the_longest_unused_goes_first() -> None:
    names = HostNames(maximum=3)
    for last in range(3):
        names.learn(answers("a.example", ("a.example", bytes([10, 0, 0, last]), 300)), 0)
    names.lookup(bytes([10, 0, 0, 0]), 1)
    names.learn(answers("a.example", ("a.example", bytes([10, 0, 0, 3]), 300)), 1)
    assert [names.lookup(bytes([10, 0, 0, last]), 2) is not None for last in range(4)] == [True, False, True, True]
    assert len(names) == 3


def test_the_hosts_file() -> None:
    names = HostNames()
    names.learn_hosts_file(
        "# a comment\n127.0.0.1\tlocalhost\n192.0.2.1  Db.Lan. db  # the database\n192.0.2.1 second\n"
        "::7 six\nfe80::1%eth0 scoped\n\nno.address name\n192.0.2.9\n192.0.2.8 bad\x1bname\n"
    )
    assert names.lookup(ONE, 0) == ("db.lan", "hosts")
    assert names.lookup(SIX, 0) == ("six", "hosts")
    assert names.lookup(bytes([127, 0, 0, 1]), 10 * DAY) == ("localhost", "hosts")
    assert names.lookup(bytes([192, 0, 2, 8]), 0) is None
    assert len(names) == 4
    names.learn_hosts_file("")
    assert names.lookup(ONE, 0) is None


def test_an_answer_goes_before_the_hosts_file_while_it_lives() -> None:
    names = HostNames()
    names.learn_hosts_file("192.0.2.1 static")
    names.learn(answers("a.example", ("a.example", ONE, 1)), 0)
    assert names.lookup(ONE, 59) == ("a.example", "dns")
    assert names.lookup(ONE, 59 + MINUTE) == ("static", "hosts")


def test_it_prints_what_it_holds() -> None:
    assert repr(HostNames()) == "<HostNames: 0 learned, 0 from hosts>"


@given(st.text())
def test_no_text_of_a_hosts_file_raises(text: str) -> None:
    HostNames().learn_hosts_file(text)


events = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3), st.integers(0, 400), st.booleans()), max_size=60)


@given(events)
def test_it_agrees_with_a_plain_model(steps: list[tuple[int, int, int, bool]]) -> None:
    """The model keeps all: what the table still knows must be what the model says, within its size."""
    names, model, now = HostNames(maximum=4), dict[bytes, tuple[str, float]](), 0
    for address_number, name_number, pause, learns in steps:
        address, name = bytes([10, 0, 0, address_number]), f"{name_number}.example"
        now += pause
        if learns:
            names.learn(answers(name, (name, address, 100)), now)
            model[address] = name, now + 100
        else:
            found = names.lookup(address, now)
            expected = model.get(address)
            if found is not None:
                assert expected is not None
                assert found[0] == expected[0]
                assert now < expected[1]
                model[address] = expected[0], max(expected[1], now + 60)
        assert len(names) <= 4


@pytest.mark.parametrize("count", [10_000])
def test_many_addresses_stay_within_bounds(count: int) -> None:
    names = HostNames(maximum=100)
    for number in range(count):
        names.learn(answers("a.example", ("a.example", number.to_bytes(4, "big"), 300)), 0)
    assert len(names) == 100
