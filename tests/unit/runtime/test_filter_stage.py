"""The filter stage, with the test as filters and as datapath: real channels, real verdict machine, no packets."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.core.flow_decision import Policy, ProviderState
from network_extension.filter_settings import FilterRule, FilterSettings
from network_extension.filter_verdicts import (
    FLOW_BYTES_MAX,
    FilterAction,
    FilterControlVerdict,
    FilterDataVerdict,
    FilterGrade,
    FilterNewFlowVerdict,
    FilterRemediationVerdict,
    FilterReportEvent,
    FilterReportFrequency,
)
from network_extension.metadata import ProcessInfo
from network_extension.rules import Direction, NetworkRule
from network_extension.runtime import filter_link
from network_extension.runtime import filter_wire as w
from network_extension.runtime.filter_hello import ControlMaps
from tests.unit.linux.driving import Driver, driving

from .filtering import UDP, Filter, Flow, Stage

ALLOW, DROP, PAUSE = FilterNewFlowVerdict.allow(), FilterNewFlowVerdict.drop(), FilterNewFlowVerdict.pause()
SHOW_OUT = FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX)
OUT, IN = Direction.OUTBOUND, Direction.INBOUND
FREE = ("open", False, False)
REQUEST = b"GET /page?q=1 HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
URL = "http://www.example.com/page?q=1"
MAPS = ControlMaps(
    {"url": "http://access.example/?u=NE_FLOW_URL&h=NE_FLOW_HOSTNAME&by=NE_USERNAME"},
    {"button": "Bitte"}, {"safe": "&safe=on"}, "Firm & Co", "a b",
)  # fmt: skip
DATA, CONTROL = "filter-data", "filter-control"


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


@pytest.fixture
def make(driver: Driver) -> Iterator[Callable[..., Stage]]:
    """Makes stages; no descriptor is left at the end."""
    before, made = len(os.listdir("/proc/self/fd")), list[Stage]()

    def stage(*kinds: str, policy: Policy | None = None, deadline: float = 60.0) -> Stage:
        made.append(Stage(driver, *kinds, policy=policy, deadline=deadline))
        return made[-1]

    yield stage
    for one in made:
        one.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def stage(make: Callable[..., Stage]) -> Stage:
    """One data filter, greeted."""
    return make().greeted()


@pytest.fixture
def judge(stage: Stage) -> Filter:
    return stage.filters[0]


class TestNewFlows:
    def test_without_filters_all_may_go(self, driver: Driver) -> None:
        stage = Stage(driver)
        stage.stage.forget(0)
        assert not stage.stage.has_filters
        assert stage.flow().told == [FREE]
        stage.close()

    def test_what_a_filter_is_told(self, stage: Stage, judge: Filter) -> None:
        process = ProcessInfo(4711, 99, 1000, "/usr/bin/curl", ("curl",))
        flow = stage.flow(host="example.com", name_source="dns", process=process)
        assert judge.hears(w.PROCESS, 1)[2:6] == (4711, 99, 1000, "/usr/bin/curl")
        assert judge.hears(w.NEW, 1) == (
            w.NEW, 1, 6, OUT, 2, "10.0.0.1", 40001, "192.0.2.1", 80, "example.com", "dns", None, "eth0", 1,
        )  # fmt: skip
        judge.says(w.NEW, 1, ALLOW)
        stage.until_told(flow, FREE)
        assert stage.decided == [(1, "p0", "handle_new_flow: allow")]
        stage.flow(process=process)
        assert judge.hears(w.NEW, 2)[-1] == 1  # the process is known
        stage.flow(process=process._replace(executable="/usr/bin/wget"))
        judge.hears(w.PROCESS, 1)
        judge.hears(w.NEW, 3)

    @pytest.mark.parametrize("silent", [False, True])
    def test_a_drop(self, stage: Stage, judge: Filter, silent: bool) -> None:
        flow = stage.flow()
        judge.says(w.NEW, 1, FilterNewFlowVerdict.drop(silent=silent))
        stage.until_told(flow, ("drop", silent))
        assert (flow.by, flow.reason, flow.filter) == ("p0", "handle_new_flow: drop", None)

    def test_all_must_allow_firewalls_first(self, make: Callable[..., Stage]) -> None:
        stage = make(DATA, DATA)
        inspector, firewall = stage.filters
        inspector.greets(FilterGrade.INSPECTOR)
        firewall.greets(FilterGrade.FIREWALL)
        flow = stage.flow()
        firewall.hears(w.NEW, 1)
        inspector.hears_nothing()
        firewall.says(w.NEW, 1, ALLOW)
        inspector.hears(w.NEW, 1)
        assert flow.told == []
        inspector.says(w.NEW, 1, DROP)
        stage.until_told(flow, ("drop", False))
        assert flow.by == "p0" and stage.left == (0, 0)

    def test_two_pauses_need_two_resumes(self, make: Callable[..., Stage]) -> None:
        stage = make(DATA, DATA).greeted()
        one, two = stage.filters
        flow = stage.flow()
        one.says(w.NEW, 1, PAUSE)
        two.hears_nothing()
        one.says(w.RESUME, 1, ALLOW)
        two.hears(w.NEW, 1)
        two.says(w.NEW, 1, PAUSE)
        stage.driver.quiet(0.01)
        assert flow.told == []
        two.says(w.RESUME, 1, ALLOW)
        stage.until_told(flow, FREE)

    def test_rules_decide_without_a_call(self, stage: Stage, judge: Filter) -> None:
        rule = NetworkRule.destination_network("192.0.2.0/24")
        judge.greets(settings=FilterSettings([FilterRule(rule, FilterAction.DROP)]), serial=2)
        flow = stage.flow()
        assert flow.told == [("drop", False)]
        judge.greets(settings=None, serial=3)
        stage.flow()
        judge.hears(w.NEW, 2)

    def test_rules_that_name_loopback(self, stage: Stage, judge: Filter) -> None:
        assert not stage.stage.wants_loopback
        rule = NetworkRule.destination_network("127.0.0.0/8")
        judge.greets(settings=FilterSettings([FilterRule(rule, FilterAction.FILTER_DATA)]), serial=2)
        assert stage.stage.wants_loopback

    def test_inbound_flows(self, stage: Stage, judge: Filter) -> None:
        stage.flow(direction=IN)
        assert judge.hears(w.NEW, 1)[3:9] == (IN, 2, "10.0.0.1", 40001, "192.0.2.1", 80)

    def test_a_datapath_that_fails_costs_its_flow_only(self, stage: Stage, judge: Filter) -> None:
        broken, whole = stage.flow(fails_with=OSError("no more")), stage.flow()
        judge.sends(w.pack_verdict(w.NEW, 1, ALLOW), w.pack_verdict(w.NEW, 2, ALLOW))
        with pytest.raises(OSError, match="no more"):
            stage.driver.until(lambda: whole.told)
        assert (broken.told, whole.told, stage.left) == ([FREE], [FREE], (0, 0))

    def test_nothing_is_left_of_many_flows(self, stage: Stage, judge: Filter) -> None:
        first = weakref.ref(stage.flow())
        stage.driver.quiet(0.005)
        for number in range(2, 8001):
            stage.flow()
            if not number % 200:
                judge.sends(*(w.pack_verdict(w.NEW, each, ALLOW) for each in range(number - 199, number + 1)))
                stage.driver.until(lambda: stage.flows[-1].told and judge.last)
                stage.flows[:-1] = [stage.flows[-1]] * (len(stage.flows) - 1)
        gc.collect()
        assert stage.left == (0, 0) and first() is None
        assert len(stage.stage._times) <= 4096 + 8


class TestPolicy:
    @pytest.mark.parametrize("policy", [Policy.OPEN, Policy.CLOSED])
    @pytest.mark.parametrize(
        ("trouble", "words"),
        [
            ("starting", "is still starting"),
            ("dead", "has died"),
            ("dies", "has died (its process ended)"),
            ("fails", "raised an exception (ValueError)"),
            ("slow", "did not decide in time"),
            ("stopping", "is stopping"),
            ("full", "queue"),
            ("nonsense", "has died (it sent what is not a message: "),
        ],
    )
    def test_trouble(
        self, make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, policy: Policy, trouble: str, words: str
    ) -> None:
        stage = make(policy=policy, deadline=0.02 if trouble == "slow" else 60.0)
        (judge,) = stage.filters
        if trouble != "starting":
            stage.greeted()
        if trouble in ("dead", "stopping"):
            stage.stage.set_state(0, ProviderState(trouble))
        if trouble == "full":
            monkeypatch.setattr(filter_link, "MOST_FLOWS", 0)
        flow = stage.flow()
        if trouble == "dies":
            judge.dies()
        elif trouble == "fails":
            judge.sends(w.pack_failure(w.NEW, 1, "ValueError"))
        elif trouble == "nonsense":
            judge.channel.send_packet(w.ANSWERS + b"?")
        stage.until_told(flow, FREE if policy is Policy.OPEN else ("drop", False))
        assert flow.by == "policy" and words in flow.reason and f"policy {policy.value}" in flow.reason
        assert stage.left == (0, 0)

    def test_one_that_does_not_keep_up_is_told_of_once(
        self, make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(filter_link, "MOST_FLOWS", 1)
        stage = make().greeted()
        for _ in range(5):
            stage.flow()
        assert stage.lines == ["filter p0: does not keep up (1 flows wait); new flows get the policy"]
        assert [flow.told for flow in stage.flows] == [[], [FREE], [FREE], [FREE], [FREE]]

    def test_a_late_answer_is_nobodys(self, make: Callable[..., Stage]) -> None:
        stage = make(DATA, DATA, deadline=0.05).greeted()
        slow, second = stage.filters
        flow = stage.flow()
        second.hears(w.NEW, 1)
        slow.says(w.NEW, 1, DROP)
        stage.driver.quiet(0.01)
        second.says(w.NEW, 1, ALLOW)
        stage.until_told(flow, FREE)
        assert stage.left == (0, 0) and stage.lost == []

    def test_a_provider_comes_back(self, stage: Stage, judge: Filter) -> None:
        judge.dies()
        stage.driver.until(lambda: stage.lost)
        assert stage.flow().told == [FREE]
        again = stage.join(0)
        assert stage.flow().told == [FREE]
        stage.filters.append(again)
        again.greets()
        stage.flow()
        again.hears(w.NEW, 3)
        assert stage.running == ["p0", "p0"]

    def test_a_new_link_before_the_old_one_has_ended(self, stage: Stage, judge: Filter) -> None:
        flow = stage.flow()
        again = stage.join(0)
        stage.filters.append(again)
        stage.until_told(flow, FREE)
        assert stage.lost == [("p0", "its process was replaced")]
        again.greets()
        stage.flow()
        again.hears(w.NEW, 2)

    def test_an_expected_filter_holds_its_place(self, make: Callable[..., Stage]) -> None:
        """A new engine knows what belongs to the run before the providers have joined it."""
        stage = make(policy=Policy.CLOSED)
        stage.stage.expect(5, "later", DATA)
        assert stage.stage.has_filters
        assert stage.flow().told == [("drop", False)]


class TestData:
    def test_a_stream_until_it_may_pass(self, stage: Stage, judge: Filter) -> None:
        flow = stage.flow()
        judge.hears(w.NEW, 1)
        judge.says(w.NEW, 1, SHOW_OUT.reported())
        stage.until_told(flow, ("open", False, True))
        judge.hears(w.REPORT, 1)
        stage.stage.received(flow, OUT, b"hello")
        assert judge.hears(w.DATA_OUT, 1)[2:] == (0, b"hello")
        judge.says(w.DATA_OUT, 1, FilterDataVerdict.data(2, FLOW_BYTES_MAX))
        assert judge.hears(w.DATA_OUT, 1)[2:] == (2, b"llo")
        judge.says(w.DATA_OUT, 1, FilterDataVerdict.allow())
        stage.driver.until(lambda: flow.told and flow.told[-1] == ("pass", "OUTBOUND", FLOW_BYTES_MAX))
        assert ("pass", "OUTBOUND", 2) in flow.told
        flow.counts = (7, 5)
        stage.stage.closed(flow)
        assert judge.hears(w.REPORT, 1)[2:] == (FilterAction.ALLOW, FilterReportEvent.FLOW_CLOSED, 7, 5)
        assert judge.hears(w.GONE, 1) == (w.GONE, 1, False) and stage.left == (0, 0)

    def test_the_end_of_a_direction(self, stage: Stage, judge: Filter) -> None:
        flow = stage.flow()
        judge.hears(w.NEW, 1)
        judge.says(w.NEW, 1, SHOW_OUT)
        stage.until_told(flow, ("open", False, True))
        stage.stage.ended(flow, OUT)
        judge.hears(w.COMPLETE_OUT, 1)
        judge.says(w.COMPLETE_OUT, 1, FilterDataVerdict.drop())
        stage.driver.until(lambda: ("drop", False) in flow.told)
        assert judge.hears(w.GONE, 1)[2] is False

    def test_a_flow_that_passes_for_good_is_gone_but_lives(self, stage: Stage, judge: Filter) -> None:
        flow = stage.flow()
        judge.hears(w.NEW, 1)
        judge.says(w.NEW, 1, SHOW_OUT)
        stage.until_told(flow, ("open", False, True))
        judge.says(w.UPDATE_ANY, 1, FilterDataVerdict.allow())
        assert judge.hears(w.GONE, 1) == (w.GONE, 1, True)
        assert flow.filter is None

    def test_the_name_comes_before_the_bytes(self, stage: Stage, judge: Filter) -> None:
        flow = stage.flow(host="cdn.example", name_source="dns")
        judge.hears(w.NEW, 1)
        judge.says(w.NEW, 1, SHOW_OUT)
        stage.until_told(flow, ("open", False, True))
        stage.stage.received(flow, OUT, REQUEST)
        assert judge.hears(w.ABOUT, 1)[2:] == ("www.example.com", "http", URL, "192.0.2.1", 80)
        assert judge.hears(w.DATA_OUT, 1)[3] == REQUEST
        assert (flow.host, flow.name_source, flow.url) == ("www.example.com", "http", URL)

    def test_a_remote_end_that_is_known_late(self, stage: Stage, judge: Filter) -> None:
        flow = stage.flow(UDP, 9)
        judge.hears(w.NEW, 1)
        judge.says(w.NEW, 1, SHOW_OUT)
        stage.until_told(flow, ("open", False, True))
        flow.remote, flow.key = ("192.0.2.9", 99), (*flow.key[:3], b"\xc0\0\2\x09", 99)
        stage.stage.received(flow, OUT, b"x")
        assert judge.hears(w.ABOUT, 1)[5:] == ("192.0.2.9", 99)
        judge.hears(w.DATA_OUT, 1)

    def test_statistics(self, make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(FilterReportFrequency, "seconds", property(lambda self: 0.01))
        stage = make().greeted()
        (judge,) = stage.filters
        flow = stage.flow()
        judge.hears(w.NEW, 1)
        judge.says(w.NEW, 1, ALLOW.with_statistics(FilterReportFrequency.LOW))
        stage.until_told(flow, FREE)
        flow.counts = (10, 20)
        for _ in range(3):
            assert judge.hears(w.REPORT, 1)[2:] == (FilterAction.ALLOW, FilterReportEvent.STATISTICS, 10, 20)
        stage.stage.closed(flow)
        stage.driver.until(lambda: judge.last == w.GONE)
        assert stage.left == (0, 0)

    def test_an_update_of_a_flow_that_nobody_keeps(self, stage: Stage, judge: Filter) -> None:
        asked = list[object]()

        def update(*what: object) -> bool:
            asked.append(what)
            return True

        stage.stage.update_forgotten = update
        flow = stage.flow()
        judge.says(w.NEW, 1, ALLOW)
        stage.until_told(flow, FREE)
        named = w.ForgottenFlow(6, OUT, "10.0.0.1", 40001, "192.0.2.1", 80, Direction.ANY)
        judge.sends(w.pack_forgotten(1, FilterDataVerdict.drop(), named))
        stage.driver.until(lambda: asked)
        assert asked == [(flow.key, FilterDataVerdict.drop(), Direction.ANY)]
        assert stage.lines == ["filter p0: update_flow: drop: tcp 10.0.0.1:40001 → 192.0.2.1:80"]

    def test_one_that_cannot_be_shown_any_more_is_named_once(self, stage: Stage, judge: Filter) -> None:
        flow = stage.flow()
        judge.says(w.NEW, 1, ALLOW)
        stage.until_told(flow, FREE)
        named = w.ForgottenFlow(6, OUT, "10.0.0.1", 40001, "192.0.2.1", 80, Direction.ANY)
        for _ in range(2):
            judge.sends(w.pack_forgotten(1, FilterDataVerdict.data(peek_bytes=1, pass_bytes=0), named))
        asked: list[object] = []

        def update(*arguments: object) -> bool:
            asked.append(arguments)
            return False

        stage.stage.update_forgotten = update
        judge.sends(w.pack_forgotten(1, FilterDataVerdict.drop(), named))
        stage.driver.until(lambda: asked)
        (line,) = stage.lines
        assert line.startswith("filter p0: update_flow: data: 10.0.0.1:40001 → 192.0.2.1:80 was allowed for good")

    def test_an_update_of_a_flow_that_another_filter_has(self, make: Callable[..., Stage]) -> None:
        stage = make(DATA, DATA).greeted()
        one, two = stage.filters
        flow = stage.flow()
        one.says(w.NEW, 1, ALLOW)
        two.hears(w.NEW, 1)
        two.says(w.NEW, 1, SHOW_OUT)
        stage.until_told(flow, ("open", False, True))
        named = w.ForgottenFlow(6, OUT, "10.0.0.1", 40001, "192.0.2.1", 80, Direction.ANY)
        one.sends(w.pack_forgotten(1, FilterDataVerdict.drop(), named))
        stage.until_told(flow, ("drop", False))
        assert flow.by == "p0"

    def test_one_that_names_no_address_ends_the_link(self, stage: Stage, judge: Filter) -> None:
        named = w.ForgottenFlow(6, OUT, "nowhere", 1, "192.0.2.1", 80, Direction.ANY)
        judge.sends(w.pack_forgotten(1, FilterDataVerdict.drop(), named))
        stage.driver.until(lambda: stage.lost)


class TestControl:
    def test_it_decides_what_a_filter_has_no_rules_for(self, make: Callable[..., Stage]) -> None:
        stage = make(DATA, CONTROL).greeted()
        judge, control = stage.filters
        flow = stage.flow(host="example.com")
        judge.says(w.NEW, 1, FilterNewFlowVerdict.need_rules())
        assert control.hears(w.CONTROL, 1)[9] == "example.com"
        control.says(w.CONTROL, 1, FilterControlVerdict.allow())
        stage.until_told(flow, FREE)
        assert stage.left == (0, 0)

    def test_reports_that_it_asked_for(self, make: Callable[..., Stage]) -> None:
        stage = make(DATA, CONTROL).greeted()
        judge, control = stage.filters
        flow = stage.flow()
        judge.says(w.NEW, 1, FilterNewFlowVerdict.need_rules())
        control.hears(w.CONTROL, 1)
        control.says(w.CONTROL, 1, FilterControlVerdict.allow().reported())
        stage.until_told(flow, FREE)
        assert control.hears(w.REPORT, 1)[2:4] == (FilterAction.ALLOW, FilterReportEvent.NEW_FLOW)
        flow.counts = (5, 6)
        stage.stage.closed(flow)
        assert control.hears(w.REPORT, 1)[3:] == (FilterReportEvent.FLOW_CLOSED, 5, 6)
        control.hears(w.GONE, 1)
        assert stage.left == (0, 0)

    def test_new_rules_are_told_before_the_question_comes_again(self, make: Callable[..., Stage]) -> None:
        stage = make(DATA, CONTROL).greeted()
        judge, control = stage.filters
        flow = stage.flow()
        judge.hears(w.NEW, 1)
        judge.says(w.NEW, 1, FilterNewFlowVerdict.need_rules())
        control.hears(w.CONTROL, 1)
        control.says(w.CONTROL, 1, FilterControlVerdict.updating_rules())
        judge.hears(w.RULES_CHANGED, 0)
        judge.hears(w.NEW, 1)
        judge.says(w.NEW, 1, ALLOW)
        stage.until_told(flow, FREE)

    def test_a_filter_that_needs_rules_for_ever(self, make: Callable[..., Stage]) -> None:
        stage = make(DATA, CONTROL).greeted()
        judge, control = stage.filters
        flow = stage.flow()
        for _ in range(6):
            judge.says(w.NEW, 1, FilterNewFlowVerdict.need_rules())
            stage.driver.until(lambda: control.last or flow.told)
            if flow.told:
                break
            control.events.clear()
            control.says(w.CONTROL, 1, FilterControlVerdict.updating_rules())
            stage.driver.quiet(0.005)
        assert flow.told == [("drop", False)] and stage.left == (0, 0)

    @pytest.mark.parametrize(
        ("how", "reason"),
        [
            ("none", "rules are needed, and no control provider is running"),
            ("dies", "control provider p1 has died (its process ended)"),
            ("fails", "control provider p1 raised an exception (KeyError)"),
        ],
    )
    def test_without_an_answer_the_flow_is_dropped(self, make: Callable[..., Stage], how: str, reason: str) -> None:
        stage = make(DATA, *([CONTROL] if how != "none" else [])).greeted()
        flow = stage.flow()
        stage.filters[0].says(w.NEW, 1, FilterNewFlowVerdict.need_rules())
        if how != "none":
            stage.filters[1].hears(w.CONTROL, 1)
        if how == "dies":
            stage.filters[1].dies()
        elif how == "fails":
            stage.filters[1].sends(w.pack_failure(w.CONTROL, 1, "KeyError"))
        stage.until_told(flow, ("drop", False))
        assert flow.reason == reason

    def test_the_nearest_one_is_asked(self, make: Callable[..., Stage]) -> None:
        stage = make(CONTROL, DATA, DATA, CONTROL).greeted()
        stage.flow()
        stage.filters[1].says(w.NEW, 1, ALLOW)
        stage.filters[2].hears(w.NEW, 1)
        stage.filters[2].says(w.NEW, 1, FilterNewFlowVerdict.need_rules())
        stage.filters[3].hears(w.CONTROL, 1)
        stage.filters[0].hears_nothing()

    def test_a_word_of_new_rules(self, make: Callable[..., Stage]) -> None:
        stage = make(DATA, CONTROL).greeted()
        stage.filters[1].sends(w.pack_plain(w.NOTIFY_RULES, 0))
        stage.filters[0].hears(w.RULES_CHANGED, 0)
        stage.filters[0].sends(w.pack_plain(w.NOTIFY_RULES, 0))  # not a data provider's to say
        stage.filters[0].hears_nothing()


class TestPages:
    @pytest.fixture
    def stage(self, make: Callable[..., Stage]) -> Stage:
        stage = make(DATA, CONTROL).greeted()
        stage.filters[1].greets(maps=MAPS, serial=2)
        return stage

    def test_a_block_page_for_the_request_that_follows(self, stage: Stage, judge: Filter) -> None:
        """Asked for before any byte was seen: the stage waits for the request."""
        flow = stage.flow()
        judge.says(w.NEW, 1, FilterNewFlowVerdict.remediate("url", "button"))
        stage.until_told(flow, ("open", True, True))
        stage.stage.received(flow, OUT, REQUEST[:20])
        stage.stage.received(flow, OUT, REQUEST[20:])
        stage.until_told(flow, ("drop", False))
        assert flow.page is not None and flow.page.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        link = (
            b"http://access.example/?u=http%3A%2F%2Fwww.example.com%2Fpage%3Fq%3D1&amp;h=www.example.com&amp;by=a%20b"
        )
        assert link in flow.page and b">Bitte</a>" in flow.page and b"Firm &amp; Co" in flow.page
        assert (flow.by, flow.reason) == ("p0", "handle_new_flow: remediate") and stage.left == (0, 0)

    def test_one_in_answer_to_the_bytes(self, stage: Stage, judge: Filter) -> None:
        flow = stage.flow()
        judge.says(w.NEW, 1, SHOW_OUT)
        stage.until_told(flow, ("open", False, True))
        stage.stage.received(flow, OUT, REQUEST)
        judge.says(w.DATA_OUT, 1, FilterDataVerdict.remediate("none such"))
        stage.driver.until(lambda: ("drop", False) in flow.told)
        assert flow.page is not None and b"<a " not in flow.page

    @pytest.mark.parametrize("resumed", [False, True])
    def test_one_in_answer_to_half_a_request(self, stage: Stage, judge: Filter, resumed: bool) -> None:
        flow = stage.flow()
        judge.says(w.NEW, 1, SHOW_OUT)
        stage.until_told(flow, ("open", False, True))
        stage.stage.received(flow, OUT, REQUEST[:20])
        if resumed:
            judge.says(w.DATA_OUT, 1, FilterDataVerdict.pause())
        judge.says(w.RESUME if resumed else w.DATA_OUT, 1, FilterDataVerdict.remediate("url"))
        stage.driver.quiet(0.02)
        assert ("drop", False) not in flow.told
        stage.stage.received(flow, OUT, REQUEST[20:])
        stage.driver.until(lambda: ("drop", False) in flow.told)
        assert flow.page is not None and "remediate" in flow.reason and stage.left == (0, 0)

    @pytest.mark.parametrize("what", ["tls", "server first", "end", "udp", "nothing"])
    def test_what_is_no_http_is_dropped(self, make: Callable[..., Stage], what: str) -> None:
        stage = make(DATA, CONTROL, deadline=0.1).greeted()
        flow = stage.flow(UDP if what == "udp" else 6)
        stage.filters[0].says(w.NEW, 1, FilterNewFlowVerdict.remediate("url"))
        if what != "udp":
            stage.until_told(flow, ("open", True, True))
        if what == "tls":
            stage.stage.received(flow, OUT, b"\x80nonsense")
        elif what == "server first":
            stage.stage.received(flow, IN, b"220 hello")
        elif what == "end":
            stage.stage.ended(flow, OUT)
        stage.until_told(flow, ("drop", False))
        assert flow.page is None and stage.left == (0, 0)

    def test_a_redirect_and_its_return(self, stage: Stage, judge: Filter) -> None:
        flow = stage.flow()
        judge.says(w.NEW, 1, FilterNewFlowVerdict.url_append_string("safe"))
        stage.until_told(flow, ("open", True, True))
        stage.stage.received(flow, OUT, REQUEST)
        stage.until_told(flow, ("drop", False))
        assert (
            flow.page is not None and b"302 Found\r\nLocation: http://www.example.com/page?q=1&safe=on\r\n" in flow.page
        )
        again = stage.flow()
        judge.says(w.NEW, 2, FilterNewFlowVerdict.url_append_string("safe"))
        stage.until_told(again, ("open", True, True))
        stage.stage.received(again, OUT, REQUEST.replace(b"q=1", b"q=1&safe=on"))
        stage.driver.until(lambda: len(again.told) == 2)
        assert sorted(again.told) == [("pass", "INBOUND", FLOW_BYTES_MAX), ("pass", "OUTBOUND", FLOW_BYTES_MAX)]

    @pytest.mark.parametrize(
        ("verdict", "control", "told"),
        [
            (FilterRemediationVerdict.allow(), None, "pass"),
            (FilterRemediationVerdict.drop(), None, "drop"),
            (FilterRemediationVerdict.need_rules(), FilterControlVerdict.allow(), "pass"),
            (FilterRemediationVerdict.need_rules(), FilterControlVerdict.drop(), "drop"),
        ],
    )
    def test_the_user_asks_for_access(
        self,
        stage: Stage,
        judge: Filter,
        verdict: FilterRemediationVerdict,
        control: FilterControlVerdict | None,
        told: str,
    ) -> None:
        """A request for the URL behind the button of a page."""
        stage.filters[1].greets(maps=ControlMaps({"url": "http://access.example/?h=NE_FLOW_HOSTNAME"}), serial=3)
        flow = stage.flow()
        judge.hears(w.NEW, 1)
        judge.says(w.NEW, 1, FilterNewFlowVerdict.remediate("url"))
        stage.until_told(flow, ("open", True, True))
        stage.stage.received(flow, OUT, REQUEST)
        stage.until_told(flow, ("drop", False))
        access = stage.flow()
        stage.driver.until(lambda: judge.last == w.NEW)
        judge.events.clear()
        judge.says(w.NEW, 2, FilterNewFlowVerdict.remediate("url"))
        stage.until_told(access, ("open", True, True))
        stage.stage.received(access, OUT, b"GET /?h=www.example.com HTTP/1.1\r\nHost: access.example\r\n\r\n")
        judge.hears(w.ABOUT, 2)
        judge.hears(w.REMEDIATION, 2)
        judge.says(w.REMEDIATION, 2, verdict)
        if control is not None:
            stage.filters[1].hears(w.CONTROL_REMEDIATION, 2)
            stage.filters[1].says(w.CONTROL_REMEDIATION, 2, control)
        stage.driver.until(lambda: access.told)
        assert access.told[0][0] == told and access.page is None


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    with driving() as driver:
        stage = Stage(driver, policy=Policy.CLOSED)
        stage.filters[0].dies()
        yield stage
        stage.close()


class TestWhatAFilterMaySend:
    @given(st.binary(max_size=120), st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_whatever_it_is(self, shared: Stage, data: bytes, framed: bool) -> None:
        """The flow gets an answer or the policy; the engine lives, and so does the next filter."""
        judge = shared.join(0)
        shared.filters[:] = [judge]
        judge.greets()
        flow = shared.flow()
        judge.channel.send_packet((w.ANSWERS if framed else b"") + data or b"\0")
        judge.dies()
        shared.driver.until(lambda: flow.told)
        assert not shared.driver.faults
        shared.driver.until(lambda: shared.left == (0, 0) or flow.told != [("open", False, False)])

    @pytest.mark.parametrize("op", [*range(1, 9), *range(16, 25)])
    @pytest.mark.parametrize("kind", [DATA, CONTROL])
    def test_answers_that_nobody_asked_for(self, make: Callable[..., Stage], op: int, kind: str) -> None:
        stage = make(DATA, kind).greeted()
        flow = stage.flow()
        stage.filters[0].hears(w.NEW, 1)
        verdict = FilterControlVerdict.drop()
        for number in (0, 1, 7):
            if op in w.KINDS_OF and op != w.UPDATE_FORGOTTEN:
                stage.filters[1].says(op, number, verdict)
            else:
                stage.filters[1].sends(w.pack_plain(op, number))
        stage.driver.quiet(0.01)
        assert flow.told == []
        stage.filters[0].says(w.NEW, 1, DROP)
        stage.until_told(flow, ("drop", False))

    def test_one_that_never_reads(self, stage: Stage, judge: Filter) -> None:
        """What waits for it is bounded, and its flows get the policy."""
        process = [ProcessInfo(number, 1, 0, "/x", ("a" * 50_000,)) for number in range(400)]
        for one in process:
            stage.flow(process=one)
            stage.stage.flush()
        stage.driver.until(lambda: all(flow.told for flow in stage.flows[200:]))
        link = stage.stage._links.get(0)
        assert link is None or link._channel.queued_bytes <= 16 << 20

    def test_flows_are_closed_in_any_state(self, stage: Stage, judge: Filter) -> None:
        flows: list[Flow] = [stage.flow() for _ in range(3)]
        for number in (1, 2, 3):
            judge.hears(w.NEW, number)
        judge.says(w.NEW, 2, PAUSE)
        judge.says(w.NEW, 3, SHOW_OUT)
        stage.until_told(flows[2], ("open", False, True))
        for flow in flows:
            stage.stage.closed(flow)
            stage.stage.closed(flow)
        for number in (1, 2, 3):
            judge.hears(w.GONE, number)
        assert stage.left == (0, 0)
