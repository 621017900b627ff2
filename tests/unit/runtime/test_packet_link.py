"""Packet filters from the engine to the author's class and back: a real channel, a real host in an event loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from network_extension.content_filter import FilterPacketProvider, Packet
from network_extension.core.flow_decision import Policy, ProviderState
from network_extension.errors import ProviderError
from network_extension.filter_verdicts import FilterGrade, FilterPacketVerdict
from network_extension.rules import Direction
from network_extension.runtime import filter_wire as w
from network_extension.runtime import packet_link
from tests.unit.linux.driving import Driver, driving

from .filtering import Filter, Stage
from .hosting import Engine, run

ALLOW, DROP, DELAY = FilterPacketVerdict.ALLOW, FilterPacketVerdict.DROP, FilterPacketVerdict.DELAY
OUT = Direction.OUTBOUND
PACKET = "filter-packet"


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


@pytest.fixture
def make(driver: Driver) -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def stage(*kinds: str, policy: Policy | None = None, deadline: float = 60.0) -> Stage:
        made.append(Stage(driver, *(kinds or (PACKET,)), policy=policy, deadline=deadline))
        return made[-1]

    yield stage
    for one in made:
        one.close()


class Verdicts(list[FilterPacketVerdict]):
    """What came of packets, in order."""

    def of(self, stage: Stage, data: bytes = b"\x45packet") -> Verdicts:
        stage.stage.packets.decide(data, "eth0", OUT, self.append)
        return self


class TestEngineSide:
    def test_a_packet_and_its_verdict(self, make: Callable[..., Stage]) -> None:
        stage = make().greeted()
        (judge,) = stage.filters
        assert stage.stage.packets and not stage.stage.has_filters
        seen = Verdicts().of(stage).of(stage)
        assert judge.hears(w.PACKET, 1)[2:] == ("eth0", OUT, b"\x45packet")
        judge.hears(w.PACKET, 2)
        judge.sends(w.pack_plain(w.PACKET_VERDICT, 2, DROP), w.pack_plain(w.PACKET_VERDICT, 1, ALLOW))
        stage.driver.until(lambda: len(seen) == 2)
        assert seen == [DROP, ALLOW]

    def test_delayed_and_let_go_or_dropped(self, make: Callable[..., Stage]) -> None:
        stage = make().greeted()
        (judge,) = stage.filters
        seen = Verdicts().of(stage).of(stage)
        for number in (1, 2):
            judge.sends(w.pack_plain(w.PACKET_VERDICT, number, DELAY))
        judge.sends(w.pack_plain(w.PACKET_ALLOW, 2))
        stage.driver.until(lambda: seen)
        judge.sends(w.pack_plain(w.PACKET_VERDICT, 1, DROP), w.pack_plain(w.PACKET_ALLOW, 1))
        stage.driver.until(lambda: len(seen) == 2)
        assert seen == [ALLOW, DROP]
        filters = stage.stage.packets
        found = filters.get(0)
        assert found is not None and found.in_flight == 0

    def test_every_filter_must_allow_firewalls_first(self, make: Callable[..., Stage]) -> None:
        stage = make(PACKET, PACKET)
        inspector, firewall = stage.filters
        inspector.greets(FilterGrade.INSPECTOR)
        firewall.greets()
        seen = Verdicts().of(stage)
        firewall.hears(w.PACKET, 1)
        inspector.hears_nothing()
        firewall.sends(w.pack_plain(w.PACKET_VERDICT, 1, ALLOW))
        inspector.hears(w.PACKET, 1)
        inspector.sends(w.pack_plain(w.PACKET_VERDICT, 1, DROP))
        stage.driver.until(lambda: seen)
        assert seen == [DROP]

    @pytest.mark.parametrize("policy", [Policy.OPEN, Policy.CLOSED])
    @pytest.mark.parametrize("trouble", ["starting", "dead", "dies", "delayed", "fails", "slow", "full", "nonsense"])
    def test_trouble(
        self, make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, policy: Policy, trouble: str
    ) -> None:
        stage = make(policy=policy, deadline=0.02)
        (judge,) = stage.filters
        if trouble != "starting":
            stage.greeted()
        if trouble == "dead":
            stage.stage.set_state(0, ProviderState.DEAD)
        if trouble == "full":
            monkeypatch.setattr(packet_link, "MOST_PACKETS", 0)
        seen = Verdicts().of(stage)
        if trouble == "delayed":
            judge.sends(w.pack_plain(w.PACKET_VERDICT, 1, DELAY))
            stage.driver.quiet(0.04)
            assert seen == []  # without a deadline
            judge.dies()
        elif trouble == "dies":
            judge.dies()
        elif trouble == "fails":
            judge.sends(w.pack_failure(w.PACKET, 1, "ValueError"))
        elif trouble == "nonsense":
            judge.sends(w.pack_plain(w.PACKET_VERDICT, 1, 77))
        stage.driver.until(lambda: seen)
        assert seen == [ALLOW if policy is Policy.OPEN else DROP]

    def test_it_comes_back(self, make: Callable[..., Stage]) -> None:
        stage = make().greeted()
        stage.filters[0].dies()
        stage.driver.until(lambda: stage.lost)
        again: Filter = stage.join(0, PACKET)
        stage.filters.append(again)
        again.greets()
        Verdicts().of(stage)
        again.hears(w.PACKET, 1)


class Author(FilterPacketProvider):
    """Does with each packet what the test has laid ready."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.kept: list[Packet] = []
        self.contexts: list[object] = []

    def handle_packet(self, context: object, interface: str, direction: Direction, data: bytes) -> Any:
        self.contexts.append(context)
        answer = self.answers.pop(0)
        if answer == "delay":
            self.kept.append(self.delay_current_packet(context))
            return DELAY
        if answer == "keep but drop":
            self.delay_current_packet(context)
            return DROP
        if answer == "let go at once":
            self.delay_current_packet(context)
            return DELAY
        if isinstance(answer, Exception):
            raise answer
        return answer


def packet(number: int) -> tuple[Any, ...]:
    return (w.PACKET, number, "eth0", 2, b"\x45packet")


class TestAuthorSide:
    def test_verdicts(self) -> None:
        async def later() -> FilterPacketVerdict:
            await asyncio.sleep(0)
            return DROP

        async def trace() -> None:
            async with Engine(Author(ALLOW, later(), DROP, "keep but drop")) as engine:
                assert engine.hellos[0].kind == "filter-packet"
                engine.asks(packet(1), packet(2), packet(3), packet(4))
                answers = await engine.hears(4)
                assert sorted((answer.number, answer.value) for answer in answers) == [
                    (1, ALLOW), (2, DROP), (3, DROP), (4, DROP),
                ]  # fmt: skip

        run(trace())

    def test_delay_then_allow_or_forget(self) -> None:
        async def trace() -> None:
            author = Author("delay", "delay", "let go at once")
            async with Engine(author) as engine:
                engine.asks(packet(1), packet(2))
                assert [(answer.number, answer.value) for answer in await engine.hears(2)] == [(1, DELAY), (2, DELAY)]
                kept = author.kept[0]
                assert (kept.data, kept.interface, kept.direction) == (b"\x45packet", "eth0", OUT)
                author.allow_packet(kept)
                (answer,) = await engine.hears()
                assert (answer.op, answer.number) == (w.PACKET_ALLOW, 1)
                with pytest.raises(ProviderError, match="is not delayed"):
                    author.allow_packet(kept)
                author.kept.clear()
                del kept
                gc.collect()
                (answer,) = await engine.hears()
                assert (answer.op, answer.number, answer.value) == (w.PACKET_VERDICT, 2, DROP)
                engine.asks(packet(3))
                assert [answer.value for answer in await engine.hears(2)] == [DELAY, DROP]

        run(trace())

    def test_only_within_the_handler(self) -> None:
        async def trace() -> None:
            author = Author(ALLOW)
            async with Engine(author) as engine:
                engine.asks(packet(1))
                await engine.hears()
                with pytest.raises(ProviderError, match="valid within handle_packet only"):
                    author.delay_current_packet(author.contexts[0])
                with pytest.raises(ProviderError, match="not a context of handle_packet"):
                    author.delay_current_packet(None)
                with pytest.raises(ProviderError, match="a Packet is needed"):
                    author.allow_packet("x")  # type: ignore[arg-type]

        run(trace())

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (None, "handle_packet returned None; a FilterPacketVerdict is needed"),
            (True, "handle_packet returned bool"),
            (0, "handle_packet returned int"),
            (DELAY, "returned DELAY without delay_current_packet"),
            (ValueError("x"), "handle_packet raised ValueError: x"),
        ],
    )
    def test_what_is_no_verdict(self, answer: Any, text: str) -> None:
        async def trace() -> None:
            async with Engine(Author(answer)) as engine:
                engine.asks(packet(1))
                (failed,) = await engine.hears()
                assert (failed.op, failed.number) == (w.FAIL, 1) and text in failed.text
                assert text in engine.owner.lines[0]

        run(trace())

    def test_packets_of_an_engine_that_has_gone(self) -> None:
        async def trace() -> None:
            author = Author("delay", ALLOW)
            async with Engine(author) as engine:
                engine.asks(packet(1))
                await engine.hears()
                await engine.connect()
                with pytest.raises(ProviderError, match="or the engine has ended"):
                    author.allow_packet(author.kept[0])
                author.kept.clear()
                gc.collect()
                engine.asks(packet(1))
                (answer,) = await engine.hears()
                assert answer.value == ALLOW

        run(trace())
