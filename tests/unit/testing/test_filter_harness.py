"""Filters in memory: what a test of a filter looks like, and what the harness plays."""

from __future__ import annotations

import asyncio

import pytest

from network_extension import (
    FLOW_BYTES_MAX,
    Direction,
    FilterAction,
    FilterControlProvider,
    FilterControlVerdict,
    FilterDataProvider,
    FilterDataVerdict,
    FilterFlow,
    FilterGrade,
    FilterNewFlowVerdict,
    FilterReport,
    FilterReportEvent,
    FilterRule,
    FilterSettings,
    NetworkRule,
    ProviderError,
)
from network_extension.testing import FilterHarness

HELLO = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"


class ByName(FilterDataProvider):
    """Drops blocked.example, looks at port 80, allows the rest."""

    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
        if flow.remote_hostname == "blocked.example":
            return FilterNewFlowVerdict.drop().reported()
        if flow.remote_endpoint is not None and flow.remote_endpoint.port == 80:
            return FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX).reported()
        return FilterNewFlowVerdict.allow()

    def handle_outbound_data(self, flow: FilterFlow, offset: int, data: bytes) -> FilterDataVerdict:
        return FilterDataVerdict.allow() if flow.url else FilterDataVerdict.data(0, len(data) + 1)


def test_a_transcript() -> None:
    with FilterHarness(ByName()) as filters:
        assert filters.connect("curl → blocked.example:443").state == "dropped"
        assert (
            filters.transcript
            == """
            >> new flow curl → blocked.example:443 tcp
            << drop
            -- refused
        """
        )


def test_bytes_are_shown_and_pass() -> None:
    with FilterHarness(ByName()) as filters:
        flow = filters.connect("curl → 192.0.2.7:80")
        flow.send(HELLO[:10])
        assert (flow.state, flow.sent) == ("open", b"")
        flow.send(HELLO[10:])
        assert (flow.state, flow.sent) == ("allowed", HELLO)
        assert (flow.flow.remote_hostname, flow.flow.host_name_source) == ("www.example.com", "http")
        assert flow.flow.url == "http://www.example.com/"
        flow.receive(b"answer")
        assert flow.received == b"answer"


def test_reports_with_byte_counts() -> None:
    heard: list[FilterReport] = []

    class Listens(ByName):
        def handle_report(self, report: FilterReport) -> None:
            heard.append(report)

    with FilterHarness(Listens()) as filters:
        flow = filters.connect("curl → www.example.com:80")
        flow.send(HELLO)
        flow.receive(b"12345")
        flow.close()
    events = [(report.event, report.action) for report in filters.reports]
    assert events == [
        (FilterReportEvent.NEW_FLOW, FilterAction.FILTER_DATA),
        (FilterReportEvent.FLOW_CLOSED, FilterAction.ALLOW),
    ]
    assert filters.reports[-1][3:] == (5, len(HELLO))
    assert heard == filters.reports


class Pauses(FilterDataProvider):
    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
        self.flow = flow
        return FilterNewFlowVerdict.pause()


def test_a_pause_and_its_end() -> None:
    pauses = Pauses()
    with FilterHarness(pauses) as filters:
        flow = filters.connect("ssh → 192.0.2.1:22")
        filters.advance(3600)
        assert flow.state == "held"
        pauses.resume_flow(flow.flow, FilterNewFlowVerdict.allow())
        assert flow.state == "allowed"
        with pytest.raises(ProviderError, match="not paused"):
            pauses.resume_flow(flow.flow, FilterNewFlowVerdict.allow())


def test_a_paused_udp_flow_has_ten_seconds() -> None:
    with FilterHarness(Pauses()) as filters:
        flow = filters.connect("dig → 192.0.2.53:53/udp")
        filters.advance(9.9)
        assert flow.state == "held"
        filters.advance(0.2)
        assert flow.state == "dropped"


def test_two_filters_both_pause_and_both_resume() -> None:
    first, second = Pauses(), type("Second", (Pauses,), {})()
    with FilterHarness(first, second) as filters:
        flow = filters.connect("app → 192.0.2.1:49152")
        first.resume_flow(flow.flow, FilterNewFlowVerdict.allow())
        assert flow.state == "held"
        second.resume_flow(flow.flow, FilterNewFlowVerdict.allow())
        assert flow.state == "allowed"
        assert (
            filters.transcript
            == """
            >> Pauses: new flow app → 192.0.2.1:49152 tcp
            << Pauses: pause
            << Pauses: resume with allow
            >> Second: new flow app → 192.0.2.1:49152 tcp
            << Second: pause
            << Second: resume with allow
            -- allowed
        """
        )


def test_firewalls_come_before_inspectors() -> None:
    inspector = type("Inspector", (ByName,), {"grade": FilterGrade.INSPECTOR})()
    with FilterHarness(inspector, ByName()) as filters:
        filters.connect("curl → example.org:443")
        assert [line.split()[1] for line in filters.transcript.lines[:4:2]] == ["ByName:", "Inspector:"]


def test_rules_decide_without_a_call() -> None:
    class Ruled(FilterDataProvider):
        async def start_filter(self) -> None:
            rule = FilterRule(NetworkRule.destination_host("example.com"), FilterAction.DROP)
            await self.apply_settings(FilterSettings([rule]))

        def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
            raise AssertionError("must not be asked")

    with FilterHarness(Ruled(), policy="closed") as filters:
        flow = filters.connect("curl → www.example.com:443")
        assert (flow.state, "rules[0]" in flow.why) == ("dropped", True)


def test_coroutines_and_time() -> None:
    class Slow(FilterDataProvider):
        async def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
            await asyncio.sleep(5)
            return FilterNewFlowVerdict.drop(silent=True)

    with FilterHarness(Slow()) as filters:
        flow = filters.connect("curl → example.com:443")
        filters.advance(5)
        assert (flow.state, flow.is_silent) == ("dropped", True)


@pytest.mark.parametrize(("policy", "state"), [("open", "allowed"), ("closed", "dropped")])
def test_a_fault_gets_the_policy(policy: str, state: str) -> None:
    class Raises(FilterDataProvider):
        def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
            raise ValueError("broken")

    with FilterHarness(Raises(), policy=policy) as filters:
        assert filters.connect("curl → example.com:443").state == state
        assert filters.transcript.lines[1] == "<< raised ValueError: broken"


def test_a_control_provider() -> None:
    class Asks(FilterDataProvider):
        allowed = False

        def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
            return FilterNewFlowVerdict.allow() if self.allowed else FilterNewFlowVerdict.need_rules()

        def handle_rules_changed(self) -> None:
            self.allowed = True

    class Control(FilterControlProvider):
        def handle_new_flow(self, flow: FilterFlow) -> FilterControlVerdict:
            return FilterControlVerdict.updating_rules()

    with FilterHarness(Asks(), Control()) as filters:
        assert filters.connect("curl → example.com:443").state == "allowed"


def test_an_update_from_outside() -> None:
    looks = ByName()
    with FilterHarness(looks) as filters:
        flow = filters.connect("curl → www.example.com:80")
        flow.send(HELLO)
        looks.update_flow(flow.flow, FilterDataVerdict.data(0, 4), Direction.INBOUND)
        filters.transcript.clear()
        flow.receive(b"abcd")
        assert (
            filters.transcript
            == """
            >> inbound data at 0: b'abcd'
            << allow
            -- inbound passes b'abcd'
            -- allowed
        """
        )
        assert flow.received == b"abcd"


def test_a_flow_that_was_allowed_at_once_is_looked_at_later() -> None:
    class Later(FilterDataProvider):
        def handle_outbound_data(self, flow: FilterFlow, offset: int, data: bytes) -> FilterDataVerdict:
            return FilterDataVerdict.data(1, 1)

        def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
            return FilterNewFlowVerdict.allow().reported()

    later = Later()
    with FilterHarness(later) as filters:
        flow = filters.connect("curl → example.com:443")
        flow.send(b"abc")
        later.update_flow(flow.flow, FilterDataVerdict.data(0, 2), Direction.OUTBOUND)
        flow.send(b"de")
        assert (flow.sent, flow.state) == (b"abcde", "open")
