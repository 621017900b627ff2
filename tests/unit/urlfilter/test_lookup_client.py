"""Lookups against a service in memory: what is asked for, in which order, and what follows whatever it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.urlfilter.lookup_client import MOST_QUERIES
from network_extension.urlfilter.lookup_recovery import Forget
from network_extension.urlfilter.lookup_session import KEY_LIFETIME, KEY_ROTATION
from network_extension.urlfilter.url_filter_errors import LookupFailed, URLFilterErrorCode
from network_extension.urlfilter.verdicts import StepLog
from network_extension.urlfilter.web_exchange import WebAnswer

from .fake_service import Clock, FakeService, busy, listed, lookup_client, lost, ok, refused

T = TypeVar("T")
FIRST = ["/token-key-for-user-token", *["/issue"] * 4, "/config", "/key", "/queries"]
ROWS = ("blocked.example", "example.org/ad")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def new_log() -> StepLog:
    return StepLog(Clock())


async def ask(client: Any, *keywords: str, log: StepLog | None = None) -> list[bool]:
    return listed(await client.lookup(keywords, log or new_log()), keywords)


def test_a_first_lookup_takes_each_step_once() -> None:
    service, log = FakeService(ROWS), new_log()
    assert run(ask(lookup_client(service), "blocked.example", "other.example", log=log)) == [True, False]
    assert service.requests == FIRST
    assert [step.name.value for step in log.steps] == ["issuer", "token", "config", "key", "key", "query"]
    assert all(step.is_well and step.text for step in log.steps)


def test_a_second_lookup_only_asks() -> None:
    async def twice() -> list[bool]:
        await ask(client, "other.example")
        service.requests.clear()
        return await ask(client, "blocked.example")

    service = FakeService(ROWS)
    client = lookup_client(service)
    assert run(twice()) == [True] and service.requests == ["/queries"]


def test_a_service_without_users_gets_no_tokens() -> None:
    service = FakeService(ROWS)
    service.takes_tokens = False
    assert run(ask(lookup_client(service, tokens=False), "blocked.example")) == [True]
    assert service.requests == ["/config", "/key", "/queries"]


def test_many_strings_are_asked_about_in_several_requests() -> None:
    service = FakeService(["39.example"])
    keywords = [f"{number}.example" for number in range(40)]
    found = run(ask(lookup_client(service), *keywords))
    assert found.index(True) == 39 and sum(found) == 1
    assert service.requests.count("/queries") == -(-40 // MOST_QUERIES)


@pytest.mark.parametrize(
    ("loses", "again"),
    [
        pytest.param(Forget.NOTHING, ["/queries"], id="nothing"),
        pytest.param(Forget.TOKENS, ["/queries", *FIRST[:5], "/queries"], id="the keys of the issuer"),
        pytest.param(Forget.CONFIGURATION, ["/queries", "/config", "/queries"], id="the configuration"),
        pytest.param(Forget.UPLOAD, ["/queries", "/key", "/queries"], id="the evaluation keys"),
        pytest.param(~Forget.NOTHING, ["/queries", *FIRST[:5], "/queries", *FIRST[5:]], id="everything"),
    ],
)
def test_a_restart_costs_what_it_lost_and_no_more(loses: Forget, again: list[str]) -> None:
    async def around_a_restart() -> list[bool]:
        await ask(client, "other.example")
        service.requests.clear()
        service.restart(loses)
        return await ask(client, "blocked.example")

    service = FakeService(ROWS)
    client = lookup_client(service)
    assert run(around_a_restart()) == [True]
    if Forget.TOKENS not in loses:  # fetched because the first four have been spent, whatever else happens
        service.requests = [path for path in service.requests if path != "/issue"]
    assert service.requests == again


@settings(deadline=None)
@given(st.dictionaries(st.integers(1, 25), st.sampled_from([Forget.NOTHING, ~Forget.NOTHING, *Forget]), max_size=4))
def test_restarts_before_any_requests_never_reach_whoever_asks(restarts: dict[int, Forget]) -> None:
    """Scenario S5 at the client: with a lost connection or without state, at any request, the answer is right."""

    def before_request(number: int) -> None:
        if number in restarts:
            service.restart(restarts[number])

    service = FakeService(ROWS)
    service.before_request = before_request
    assert run(ask(lookup_client(service), "blocked.example", "other.example")) == [True, False]


@pytest.mark.parametrize("number", range(1, len(FIRST) + 1))
def test_a_connection_that_is_lost_at_any_step_is_made_again_at_once(number: int) -> None:
    def before_request(count: int) -> None:
        if count == number:
            service.restart(~Forget.NOTHING)
            service.next_answers[service.requests[-1]] = [lost()]

    service = FakeService(ROWS)
    service.before_request = before_request
    assert run(ask(lookup_client(service), "blocked.example")) == [True]


class TestWhatCannotHeal:
    def failure(self, service: FakeService, **options: Any) -> LookupFailed:
        with pytest.raises(LookupFailed) as caught:
            run(ask(lookup_client(service, **options), "blocked.example"))
        return caught.value

    def test_a_use_case_that_the_service_does_not_have(self) -> None:
        service = FakeService()
        service.use_case = "org.example.url.filtering"
        error = self.failure(service)
        assert (error.stage, error.code, str(error)) == (
            "config", URLFilterErrorCode.SERVER_SETUP_INCOMPLETE, "POST /config: 404: no such use case",
        )  # fmt: skip
        assert service.requests.count("/config") == 1

    def test_a_user_token_that_the_issuer_refuses(self) -> None:
        service = FakeService()
        service.next_answers["/token-key-for-user-token"] = [refused(401)]
        assert self.failure(service).stage == "issuer"

    def test_a_service_that_wants_tokens_of_a_client_without_a_user(self) -> None:
        error = self.failure(FakeService(), tokens=False)
        assert error.stage == "tokens" and error.is_permanent

    def test_a_web_page_in_place_of_a_service(self) -> None:
        service = FakeService()
        service.next_answers["/config"] = [ok(b"<html>")]
        error = self.failure(service)
        assert error.is_permanent and "cannot be read" in str(error)

    def test_responses_that_are_too_few_twice(self) -> None:
        service = FakeService()
        service.next_answers["/queries"] = [ok(b""), ok(b"")]
        error = self.failure(service)
        assert (error.stage, str(error)) == ("query", "POST /queries: 0 responses to 1 queries")


class TestWhatHeals:
    def test_a_busy_service_is_left_alone_by_all_until_its_time(self) -> None:
        async def work() -> None:
            with pytest.raises(LookupFailed, match="503") as caught:
                await ask(client, "blocked.example")
            assert not caught.value.is_permanent
            asked = len(service.requests)
            with pytest.raises(LookupFailed, match=r"asked for 60 s of quiet"):
                await ask(client, "other.example")
            assert len(service.requests) == asked
            clock.now += 60
            assert await ask(client, "blocked.example") == [True]

        service, clock = FakeService(ROWS), Clock()
        service.next_answers["/queries"] = [busy(60)]
        client = lookup_client(service, clock)
        run(work())

    def test_nobody_waits_again_for_a_service_that_is_away(self) -> None:
        async def work() -> None:
            for attempts in (2, 2):  # without patience: one more at once, as always
                service.requests.clear()
                with pytest.raises(LookupFailed, match="connection reset"):
                    await ask(client, "blocked.example")
                assert len(service.requests) == attempts
            service.next_answers.clear()
            assert await ask(client, "blocked.example") == [True]

        service = FakeService(ROWS)
        service.next_answers["/token-key-for-user-token"] = [lost() for _ in range(9)]
        client = lookup_client(service, patience=0.0)
        run(work())

    def test_a_fault_is_tried_again_after_a_pause(self) -> None:
        service = FakeService(ROWS)
        service.next_answers["/queries"] = [WebAnswer(500, {}, b"oops")]
        assert run(ask(lookup_client(service), "blocked.example")) == [True]


class TestMaintenance:
    def test_a_key_is_replaced_a_day_before_it_expires_under_another_pseudonym(self) -> None:
        async def work() -> None:
            await ask(client, "other.example")
            old = client.session.keys
            clock.now += KEY_LIFETIME - KEY_ROTATION
            await client.lookup(["a"], new_log())  # tokens have expired: they are fetched by this
            await client.maintain(log)
            assert client.session.keys is not old and len({user for user, _ in service.stored}) == 2
            assert await ask(client, "blocked.example") == [True]

        service, clock, log = FakeService(ROWS), Clock(), new_log()
        client = lookup_client(service, clock)
        run(work())
        assert "rotated" in log.steps[0].text

    def test_an_expired_key_is_replaced_by_the_next_lookup(self) -> None:
        async def work() -> None:
            await ask(client, "other.example")
            clock.now += KEY_LIFETIME
            assert await ask(client, "blocked.example") == [True]

        service, clock = FakeService(ROWS), Clock()
        client = lookup_client(service, clock)
        run(work())
        assert service.requests.count("/key") == 2 and len({user for user, _ in service.stored}) == 2

    def test_tokens_are_filled_up_to_ten(self) -> None:
        async def work() -> int:
            await ask(client, "other.example")
            await client.maintain(new_log())
            return client.session.wanted_tokens(1000.0)

        service = FakeService(ROWS)
        client = lookup_client(service)
        assert run(work()) == 0 and service.requests.count("/issue") == 13

    def test_a_refresh_of_the_parameters_asks_with_what_it_has(self) -> None:
        async def work() -> list[str]:
            await ask(client, "other.example")
            await client.maintain(new_log())
            service.requests.clear()
            client.session.refresh()
            await ask(client, "blocked.example")
            return service.requests

        service = FakeService(ROWS)
        client = lookup_client(service)
        assert run(work()) == ["/config", "/queries"]


def test_lookups_side_by_side_prepare_once() -> None:
    async def many() -> list[list[bool]]:
        return await asyncio.gather(*(ask(client, "blocked.example", f"{number}.example") for number in range(8)))

    service = FakeService(ROWS)
    client = lookup_client(service)
    assert run(many()) == [[True, False]] * 8
    assert (service.requests.count("/config"), service.requests.count("/key")) == (1, 1)
    assert service.requests.count("/queries") == 8
