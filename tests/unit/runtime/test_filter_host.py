"""The filter's end of its channel, with the test as the engine: `engine.asks`, `await engine.hears`."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable
from typing import Any

import pytest

from network_extension.content_filter import FilterControlProvider, FilterDataProvider
from network_extension.endpoint import Endpoint
from network_extension.errors import ConfigurationError, ProviderError
from network_extension.filter_flow import FilterFlow, FilterReport, FilterSocketFlow
from network_extension.filter_settings import FilterSettings
from network_extension.filter_verdicts import (
    FilterAction,
    FilterControlVerdict,
    FilterDataVerdict,
    FilterGrade,
    FilterNewFlowVerdict,
    FilterRemediationVerdict,
    FilterReportEvent,
    VerdictKind,
)
from network_extension.rules import Direction
from network_extension.runtime import filter_wire as w

from .hosting import Engine, new, run

ALLOW, PAUSE = FilterNewFlowVerdict.allow(), FilterNewFlowVerdict.pause()
SHOW = FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=10)


class Scripted(FilterDataProvider):
    """Answers what the test has laid ready: a verdict, an awaitable of one, or an exception to raise."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.told: list[tuple[Any, ...]] = []
        self.flows: list[FilterFlow] = []

    def _next(self, *told: Any) -> Any:
        self.told.append(told)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def handle_new_flow(self, flow: FilterFlow) -> Any:
        self.flows.append(flow)
        return self._next("new")

    def handle_outbound_data(self, flow: FilterFlow, offset: int, data: bytes) -> Any:
        return self._next("out", flow is self.flows[0], offset, data)

    def handle_inbound_data(self, flow: FilterFlow, offset: int, data: bytes) -> Any:
        return self._next("in", flow is self.flows[0], offset, data)

    def handle_outbound_data_complete(self, flow: FilterFlow) -> Any:
        return self._next("out complete")

    def handle_inbound_data_complete(self, flow: FilterFlow) -> Any:
        return self._next("in complete")

    def handle_remediation(self, flow: FilterFlow) -> Any:
        return self._next("remediation")

    def handle_report(self, report: FilterReport) -> Awaitable[None] | None:
        self.told.append(("report", report.action, report.event, report.bytes_inbound_count))
        return None

    def handle_rules_changed(self) -> Any:
        return self._next("rules changed")


def kinds(answers: list[w.Answer]) -> list[tuple[int, int, str]]:
    return [(answer.op, answer.number, answer.verdict.kind.value if answer.verdict else "") for answer in answers]


class TestNewFlow:
    def test_what_a_filter_knows_of_a_flow(self) -> None:
        async def trace() -> None:
            provider = Scripted(PAUSE, ALLOW)
            async with Engine(provider) as engine:
                engine.asks(
                    (w.PROCESS, 1, 4711, 99, 1000, "/usr/bin/curl", ("curl", "-s"), [(1, "/sbin/init")]),
                    new(process=1),
                    new(2)[:9] + (None, None, None, None, 0),
                )
                await engine.hears(2)
                known, bare = provider.flows
                assert isinstance(known, FilterSocketFlow)
                assert (known.local_endpoint, known.remote_endpoint) == (
                    Endpoint("10.0.0.1", 40001), Endpoint("192.0.2.1", 443),
                )  # fmt: skip
                assert (known.remote_hostname, known.host_name_source, known.interface) == (
                    "example.com",
                    "dns",
                    "eth0",
                )
                assert (known.source_app_identifier, known.source_app_audit_token) == ("curl", (4711, 99, 1000))
                assert (
                    known.metadata.process is not None and known.metadata.process.parents[0].executable == "/sbin/init"
                )
                assert known.direction is Direction.OUTBOUND and known.identifier == known.identifier
                assert (bare.remote_hostname, bare.source_app_identifier, bare.url) == (None, "", None)
                assert repr(known) == "<FilterFlow curl → example.com:443 tcp>"

        run(trace())

    def test_answers_of_one_batch_leave_together_and_in_order(self) -> None:
        async def trace() -> None:
            provider = Scripted(ALLOW, FilterNewFlowVerdict.drop(silent=True), PAUSE)
            async with Engine(provider) as engine:
                engine.asks(new(1), new(2), new(3))
                assert kinds(await engine.hears(3)) == [(w.NEW, 1, "allow"), (w.NEW, 2, "drop"), (w.NEW, 3, "pause")]
                assert list(engine.host.flows.flows) == [3]

        run(trace())

    def test_a_coroutine_lets_other_flows_pass(self) -> None:
        async def trace() -> None:
            gate: asyncio.Future[FilterNewFlowVerdict] = asyncio.get_running_loop().create_future()

            async def slow() -> FilterNewFlowVerdict:
                return await gate

            provider = Scripted(slow(), ALLOW)
            async with Engine(provider) as engine:
                engine.asks(new(1), new(2))
                assert kinds(await engine.hears()) == [(w.NEW, 2, "allow")]
                gate.set_result(FilterNewFlowVerdict.drop())
                assert kinds(await engine.hears()) == [(w.NEW, 1, "drop")]
                assert engine.host.flows.flows == {}

        run(trace())

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (ValueError("no idea"), "handle_new_flow raised ValueError: no idea"),
            (None, "handle_new_flow returned None; a FilterNewFlowVerdict is needed"),
            (True, "handle_new_flow returned bool; a FilterNewFlowVerdict is needed"),
            (FilterDataVerdict.allow(), "handle_new_flow returned FilterDataVerdict; a FilterNewFlowVerdict"),
            (FilterNewFlowVerdict(VerdictKind.DATA), "handle_new_flow returned the verdict data; a"),
            (FilterNewFlowVerdict("x"), "handle_new_flow returned the verdict 'x'; a"),  # type: ignore[arg-type]
            (
                FilterNewFlowVerdict(VerdictKind.FILTER_DATA, peek_inbound=-5),
                "handle_new_flow returned a verdict that cannot be meant",
            ),
        ],
    )
    @pytest.mark.parametrize("as_coroutine", [False, True])
    def test_what_is_no_verdict(self, answer: Any, text: str, as_coroutine: bool) -> None:
        async def wrapped() -> Any:
            await asyncio.sleep(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def trace() -> None:
            provider = Scripted(wrapped() if as_coroutine else answer, ALLOW)
            async with Engine(provider) as engine:
                engine.asks(new(1))
                (failed,) = await engine.hears()
                assert (failed.op, failed.number, failed.value) == (w.FAIL, 1, w.NEW)
                assert failed.text.startswith(text)
                assert len(engine.owner.lines) == 1 and text in engine.owner.lines[0]
                assert engine.host.flows.flows == {}
                engine.asks(new(2))
                assert kinds(await engine.hears()) == [(w.NEW, 2, "allow")]

        run(trace())

    def test_a_flow_that_ends_meanwhile_ends_its_callback(self) -> None:
        async def trace() -> None:
            ended: list[str] = []

            async def endless() -> FilterNewFlowVerdict:
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append("cancelled")
                return ALLOW

            provider = Scripted(endless())
            async with Engine(provider) as engine:
                engine.asks(new(1))
                await engine.until(lambda: provider.flows)
                engine.asks((w.GONE, 1, False))
                await engine.until(lambda: ended)
                await engine.hears_nothing()
                assert engine.host.flows.flows == {} and engine.owner.lines == []

        run(trace())

    def test_nothing_is_left_of_a_hundred_thousand_allowed_flows(self) -> None:
        class Allow(FilterDataProvider):
            last: weakref.ref[FilterFlow] | None = None

            def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
                self.last = weakref.ref(flow)
                return ALLOW

        async def trace() -> None:
            provider = Allow()
            async with Engine(provider) as engine:
                for first in range(0, 100_000, 1000):
                    engine.asks(*(new(first + number) for number in range(1000)))
                    await engine.hears(1000)
                gc.collect()
                assert engine.host.flows.flows == {}
                assert provider.last is not None and provider.last() is None

        run(trace())


class TestData:
    def test_one_flow_from_the_first_byte_to_the_report(self) -> None:
        async def trace() -> None:
            provider = Scripted(
                SHOW.reported(), FilterDataVerdict.data(5, 100), FilterDataVerdict.allow(), FilterDataVerdict.allow()
            )
            async with Engine(provider) as engine:
                engine.asks(new(1))
                await engine.hears()
                engine.asks(
                    (w.ABOUT, 1, "www.example.com", "tls", None, "192.0.2.9", 443), (w.DATA_OUT, 1, 0, b"hello")
                )
                (answer,) = await engine.hears()
                assert answer.verdict is not None
                assert (answer.verdict.pass_bytes, answer.verdict.peek_bytes) == (5, 100)
                assert provider.flows[0].remote_hostname == "www.example.com"
                assert provider.flows[0].host_name_source == "tls"
                assert provider.flows[0].remote_endpoint == ("192.0.2.9", 443)
                engine.asks((w.DATA_IN, 1, 0, b"answer"), (w.COMPLETE_OUT, 1))
                assert kinds(await engine.hears(2)) == [(w.DATA_IN, 1, "allow"), (w.COMPLETE_OUT, 1, "allow")]
                engine.asks((w.REPORT, 1, 1, 3, 6, 5), (w.GONE, 1, False))
                await engine.until(lambda: len(provider.told) == 5)
                assert provider.told == [
                    ("new",),
                    ("out", True, 0, b"hello"),
                    ("in", True, 0, b"answer"),
                    ("out complete",),
                    ("report", FilterAction.ALLOW, FilterReportEvent.FLOW_CLOSED, 6),
                ]
                assert engine.host.flows.flows == {}

        run(trace())

    def test_callbacks_of_a_flow_wait_for_each_other(self) -> None:
        async def trace() -> None:
            gate: asyncio.Future[FilterDataVerdict] = asyncio.get_running_loop().create_future()

            async def slow() -> FilterDataVerdict:
                return await gate

            provider = Scripted(SHOW, slow(), FilterDataVerdict.allow())
            async with Engine(provider) as engine:
                engine.asks(new(1), (w.DATA_OUT, 1, 0, b"one"), (w.DATA_IN, 1, 0, b"two"))
                await engine.hears()
                await engine.hears_nothing()
                assert provider.told[-1] == ("out", True, 0, b"one")
                gate.set_result(FilterDataVerdict.data(3, 9))
                assert kinds(await engine.hears(2)) == [(w.DATA_OUT, 1, "data"), (w.DATA_IN, 1, "allow")]

        run(trace())

    @pytest.mark.parametrize("verdict", [FilterDataVerdict.pause(), FilterDataVerdict.data(1, 1)])
    def test_the_last_verdict_is_allow_or_drop(self, verdict: FilterDataVerdict) -> None:
        async def trace() -> None:
            provider = Scripted(SHOW, verdict)
            async with Engine(provider) as engine:
                engine.asks(new(1), (w.COMPLETE_IN, 1))
                assert [answer.op for answer in await engine.hears(2)] == [w.NEW, w.FAIL]
                assert (
                    f"handle_inbound_data_complete returned the verdict {verdict.kind.value}" in engine.owner.lines[0]
                )
                assert "(allow, drop)" in engine.owner.lines[0]

        run(trace())

    def test_questions_about_flows_that_are_gone(self) -> None:
        async def trace() -> None:
            provider = Scripted()
            async with Engine(provider) as engine:
                engine.asks((w.DATA_IN, 5, 0, b"x"), (w.COMPLETE_IN, 5), (w.ABOUT, 5, "x", "dns", None, "", 0))
                engine.asks((w.REPORT, 5, 1, 3, 0, 0), (w.GONE, 5, False), (99, 5))
                await engine.hears_nothing()
                assert provider.told == [] and engine.owner.lines == []

        run(trace())


class TestPause:
    def test_nothing_is_called_until_it_is_resumed(self) -> None:
        async def trace() -> None:
            provider = Scripted(PAUSE, FilterDataVerdict.pause(), FilterDataVerdict.allow())
            async with Engine(provider) as engine:
                engine.asks(new(1))
                await engine.hears()
                flow = provider.flows[0]
                provider.resume_flow(flow, SHOW)
                assert kinds(await engine.hears()) == [(w.RESUME, 1, "filter-data")]
                engine.asks((w.DATA_OUT, 1, 0, b"x"), (w.DATA_IN, 1, 0, b"y"))
                assert kinds(await engine.hears()) == [(w.DATA_OUT, 1, "pause")]
                await engine.hears_nothing()
                provider.resume_flow(flow, FilterDataVerdict.data(1, 5))
                assert kinds(await engine.hears(2)) == [(w.RESUME, 1, "data"), (w.DATA_IN, 1, "allow")]

        run(trace())

    def test_what_cannot_be_resumed(self) -> None:
        async def trace() -> None:
            provider = Scripted(PAUSE, ALLOW, SHOW, ValueError())
            async with Engine(provider) as engine:
                engine.asks(new(1), new(2), new(3), new(4))
                await engine.hears(4)
                paused, allowed, shown, failed = provider.flows
                for flow, verdict, text in (
                    (paused, FilterDataVerdict.allow(), "paused by handle_new_flow: a FilterNewFlowVerdict is needed"),
                    (paused, PAUSE, "is paused already"),
                    (paused, "allow", "not str"),
                    (allowed, ALLOW, "was allowed for good"),
                    (shown, ALLOW, "is not paused: it is being filtered"),
                    (failed, ALLOW, "was left to the policy after an error"),
                    (FilterSocketFlow(), ALLOW, "a flow of this filter is needed, not FilterSocketFlow"),
                ):
                    with pytest.raises(ProviderError, match="resume_flow: ") as caught:
                        provider.resume_flow(flow, verdict)  # type: ignore[arg-type]
                    assert text in str(caught.value)
                provider.resume_flow(paused, FilterNewFlowVerdict.drop())
                assert kinds(await engine.hears()) == [(w.RESUME, 1, "drop")]
                with pytest.raises(ProviderError, match="is not paused"):
                    provider.resume_flow(paused, ALLOW)

        run(trace())

    def test_a_flow_that_ended_while_it_was_paused(self) -> None:
        async def trace() -> None:
            provider = Scripted(PAUSE.reported())
            async with Engine(provider) as engine:
                engine.asks(new(1))
                await engine.hears()
                engine.asks((w.REPORT, 1, 2, 3, 0, 0), (w.GONE, 1, False))
                await engine.until(lambda: len(provider.told) == 2)
                with pytest.raises(ProviderError, match="has ended"):
                    provider.resume_flow(provider.flows[0], ALLOW)

        run(trace())

    def test_from_another_thread(self) -> None:
        """Who asks a user does so in a thread, as like as not; errors are raised there."""

        async def trace() -> None:
            provider = Scripted(PAUSE)
            async with Engine(provider) as engine:
                engine.asks(new(1))
                await engine.hears()
                await asyncio.to_thread(provider.resume_flow, provider.flows[0], SHOW)
                assert kinds(await engine.hears()) == [(w.RESUME, 1, "filter-data")]
                with pytest.raises(ProviderError, match="is not paused"):
                    await asyncio.to_thread(provider.resume_flow, provider.flows[0], SHOW)

        run(trace())

    def test_before_the_filter_runs(self) -> None:
        with pytest.raises(ProviderError, match="the filter is not running"):
            Scripted().resume_flow(FilterSocketFlow(), ALLOW)


class TestUpdate:
    def test_a_change_from_outside(self) -> None:
        async def trace() -> None:
            provider = Scripted(SHOW, ALLOW.reported())
            async with Engine(provider) as engine:
                engine.asks(new(1), new(2))
                await engine.hears(2)
                shown, reported = provider.flows
                provider.update_flow(shown, FilterDataVerdict.data(1, 2), Direction.INBOUND)
                provider.update_flow(shown, FilterDataVerdict.allow(), Direction.OUTBOUND)
                provider.update_flow(reported, FilterDataVerdict.drop())
                assert kinds(await engine.hears(3)) == [
                    (w.UPDATE_IN, 1, "data"), (w.UPDATE_OUT, 1, "allow"), (w.UPDATE_ANY, 2, "drop"),
                ]  # fmt: skip

        run(trace())

    def test_a_flow_that_was_allowed_and_forgotten(self) -> None:
        """Nobody keeps it but the provider; its addresses tell which it is."""

        async def trace() -> None:
            provider = Scripted(ALLOW, SHOW, SHOW)
            async with Engine(provider) as engine:
                engine.asks(new(1), new(2), new(3))
                await engine.hears(3)
                engine.asks((w.GONE, 2, True), (w.GONE, 3, False))
                await engine.until(lambda: not engine.host.flows.flows)
                allowed, passed, ended = provider.flows
                provider.update_flow(allowed, FilterDataVerdict.drop(silent=True))
                provider.update_flow(passed, FilterDataVerdict.data(0, 5), Direction.INBOUND)
                first, second = await engine.hears(2)
                assert (first.op, first.number) == (w.UPDATE_FORGOTTEN, 1)
                assert first.verdict is not None and first.verdict.silent and second.verdict is not None
                assert w.forgotten_flow(first.verdict) == (6, 2, "10.0.0.1", 40001, "192.0.2.1", 443, 0)
                assert w.forgotten_flow(second.verdict).update == Direction.INBOUND
                with pytest.raises(ProviderError, match="has ended"):
                    provider.update_flow(ended, FilterDataVerdict.drop())

        run(trace())

    def test_what_cannot_be_updated(self) -> None:
        async def trace() -> None:
            gate: asyncio.Future[FilterNewFlowVerdict] = asyncio.get_running_loop().create_future()

            async def slow() -> FilterNewFlowVerdict:
                return await gate

            provider = Scripted(PAUSE, FilterNewFlowVerdict.drop(), SHOW, slow())
            async with Engine(provider) as engine:
                engine.asks(new(1), new(2), new(3), new(4))
                await engine.hears(3)
                paused, dropped, shown, asked = provider.flows
                drop = FilterDataVerdict.drop()
                for flow, verdict, direction, text in (
                    (paused, drop, Direction.ANY, "end that with resume_flow"),
                    (dropped, drop, Direction.ANY, "was dropped"),
                    (shown, ALLOW, Direction.ANY, "a FilterDataVerdict is needed, not FilterNewFlowVerdict"),
                    (shown, FilterDataVerdict.pause(), Direction.ANY, "cannot be given the verdict pause"),
                    (shown, drop, 7, "is no direction"),
                    (asked, drop, Direction.ANY, "handle_new_flow has not answered yet"),
                ):
                    with pytest.raises(ProviderError, match="update_flow: ") as caught:
                        provider.update_flow(flow, verdict, direction)  # type: ignore[arg-type]
                    assert text in str(caught.value)
                gate.set_result(ALLOW)
                await engine.hears()

        run(trace())


class TestSettings:
    def test_before_the_engine_is_there_and_then_until_it_says_so(self) -> None:
        async def trace() -> None:
            provider = Scripted()
            provider.grade = FilterGrade.INSPECTOR
            engine = Engine(provider)
            await provider.apply_settings(FilterSettings())  # nobody to wait for
            async with engine:
                (hello,) = engine.hellos
                assert (hello.kind, hello.grade, hello.settings is not None) == (
                    "filter-data", FilterGrade.INSPECTOR, True,
                )  # fmt: skip
                task = provider.spawn(provider.apply_settings(None))
                await engine.until(lambda: len(engine.hellos) == 2)
                assert engine.hellos[1].settings is None
                engine.holds(hello.serial)  # an older one
                await engine.hears_nothing()
                assert not task.done()
                engine.holds(engine.hellos[1].serial)
                await task

        run(trace())

    def test_the_engine_dies_before_it_says_so(self) -> None:
        """Its successor is told first of all; nothing is waited for then."""

        async def trace() -> None:
            provider = Scripted()
            async with Engine(provider) as engine:
                task = provider.spawn(provider.apply_settings(FilterSettings()))
                await engine.until(lambda: len(engine.hellos) == 2)
                hello = await engine.connect()
                await task
                assert hello.settings is not None

        run(trace())

    def test_what_are_no_settings(self) -> None:
        async def trace() -> None:
            provider = Scripted()
            async with Engine(provider) as engine:
                with pytest.raises(ConfigurationError, match="FilterSettings are needed, not dict"):
                    await provider.apply_settings({})  # type: ignore[arg-type]
                await engine.hears_nothing()

        run(trace())


class TestTheEngineGoes:
    def test_its_flows_end_and_a_new_one_brings_others(self) -> None:
        async def trace() -> None:
            provider = Scripted(PAUSE, ALLOW)
            async with Engine(provider) as engine:
                engine.asks(new(1))
                await engine.hears()
                await engine.connect()
                with pytest.raises(ProviderError, match="has ended"):
                    provider.resume_flow(provider.flows[0], ALLOW)
                engine.asks(new(1))
                assert kinds(await engine.hears()) == [(w.NEW, 1, "allow")]
                assert provider.flows[0] is not provider.flows[1]

        run(trace())

    @pytest.mark.parametrize("packet", [b"\x00", b"nonsense", w.EVENTS + b"?", b"\x50", bytes(70_000)])
    def test_it_sends_what_is_no_message(self, packet: bytes) -> None:
        async def trace() -> None:
            async with Engine(Scripted()) as engine:
                assert engine.channel is not None
                engine.channel.send_packet(packet)
                await engine.until(lambda: engine.owner.lines)
                assert engine.owner.lines[0].startswith("error: flow channel: ")
                await engine.connect()

        run(trace())


class Control(FilterControlProvider):
    """Knows one good name."""

    def __init__(self) -> None:
        self.remediation_map = {"RemediationURLs": {"a": "http://r/"}, "RemediationButtonTexts": {"b": "Ask"}}
        self.url_append_string_map = {"s": "&safe=1"}

    def handle_new_flow(self, flow: FilterFlow) -> FilterControlVerdict:
        if flow.remote_hostname == "example.com":
            return FilterControlVerdict.allow().and_update_rules()
        return FilterControlVerdict.drop()

    async def handle_remediation(self, flow: FilterFlow) -> FilterControlVerdict:
        return FilterControlVerdict.updating_rules()


class TestControl:
    def test_verdicts_and_maps(self) -> None:
        async def trace() -> None:
            provider = Control()
            async with Engine(provider) as engine:
                maps = engine.hellos[0].maps
                assert (maps.urls, maps.button_texts) == ({"a": "http://r/"}, {"b": "Ask"})
                engine.asks(new(1, w.CONTROL), new(2, w.CONTROL, host="x"), new(3, w.CONTROL_REMEDIATION))
                answers = await engine.hears(3)
                assert kinds(answers) == [
                    (w.CONTROL, 1, "allow"), (w.CONTROL, 2, "drop"), (w.CONTROL_REMEDIATION, 3, "update-rules"),
                ]  # fmt: skip
                assert answers[0].verdict is not None and answers[0].verdict.update_rules
                assert engine.host.flows.flows == {}

        run(trace())

    def test_changed_maps_come_before_the_word_of_new_rules(self) -> None:
        async def trace() -> None:
            provider = Control()
            async with Engine(provider) as engine:
                provider.notify_rules_changed()
                (told,) = await engine.hears()
                assert told.op == w.NOTIFY_RULES and len(engine.hellos) == 1
                provider.url_append_string_map = {"s": "&safe=2", "bad": 5}  # type: ignore[dict-item]
                provider.notify_rules_changed()
                await engine.hears()
                assert engine.hellos[1].maps.append_strings == {"s": "&safe=2"}
                assert "url_append_string_map: not all of it is used" in engine.owner.lines[0]

        run(trace())

    def test_a_data_provider_hears_of_new_rules_before_it_is_asked_again(self) -> None:
        async def trace() -> None:
            gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            async def load() -> None:
                await gate

            provider = Scripted(FilterNewFlowVerdict.need_rules(), load(), ALLOW, ALLOW)
            async with Engine(provider) as engine:
                engine.asks(new(1))
                await engine.hears()
                engine.asks((w.RULES_CHANGED, 0), new(1), new(2))
                assert kinds(await engine.hears()) == [(w.NEW, 2, "allow")]
                await engine.hears_nothing()
                gate.set_result(None)
                assert kinds(await engine.hears()) == [(w.NEW, 1, "allow")]
                assert provider.flows[0] is provider.flows[2]

        run(trace())

    def test_new_rules_that_cannot_be_read_are_a_line_in_the_log(self) -> None:
        async def trace() -> None:
            provider = Scripted(ValueError("line 5"), ALLOW)
            async with Engine(provider) as engine:
                engine.asks((w.RULES_CHANGED, 0), new(1))
                await engine.hears()
                assert "handle_rules_changed raised ValueError: line 5" in engine.owner.lines[0]

        run(trace())

    def test_a_remediation_request(self) -> None:
        async def trace() -> None:
            provider = Scripted(SHOW, FilterRemediationVerdict.need_rules(), FilterRemediationVerdict.allow())
            async with Engine(provider) as engine:
                engine.asks(new(1), new(1, w.REMEDIATION), new(1, w.REMEDIATION))
                assert kinds(await engine.hears(3))[1:] == [
                    (w.REMEDIATION, 1, "need-rules"), (w.REMEDIATION, 1, "allow"),
                ]  # fmt: skip

        run(trace())


def test_reports_may_be_coroutines_and_may_fail() -> None:
    class Reported(Scripted):
        def handle_report(self, report: FilterReport) -> Any:
            self.told.append(("report", int(report.event)))
            return self._slow()

        async def _slow(self) -> None:
            await asyncio.sleep(0)
            raise OSError("disk full")

    async def trace() -> None:
        provider = Reported(ALLOW.reported())
        async with Engine(provider) as engine:
            engine.asks(new(1), (w.REPORT, 1, 1, 1, 0, 0), (w.REPORT, 1, 1, 3, 5, 6), (w.GONE, 1, False))
            await engine.hears()
            await engine.until(lambda: len(engine.owner.lines) == 2)
            assert provider.told == [("new",), ("report", 1), ("report", 3)]
            assert "handle_report raised OSError: disk full" in engine.owner.lines[1]

    run(trace())
