"""A flow's way through the pipeline: offered, claimed or not, and at its end once. Links and datapath write down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.flow_decision import FlowState, ProviderKind, ProviderSlot, ProviderState, Trouble
from network_extension.errors import FlowErrorCode
from network_extension.runtime.intercepted import TCP, UDP, InterceptedFlow, Pipeline
from tests.unit.linux.driving import Driver, driving

from .staging import PROGRAM, Recorder, slot, tcp_flow

REFUSED = FlowErrorCode.REFUSED


class Link:
    """Stands in for a provider's link; in the same trace as the datapath."""

    def __init__(self, name: str, told: list[tuple[Any, ...]]) -> None:
        self.name, self.told = name, told

    def offer(self, flow: InterceptedFlow, deadline: float) -> None:
        flow.link = self  # type: ignore[assignment]
        self.told.append((f"offer to {self.name}", flow.id))

    def withdraw(self, flow: InterceptedFlow) -> None:
        flow.link = None
        self.told.append((f"withdraw from {self.name}", flow.id))

    def closed(self, flow: InterceptedFlow) -> None:
        flow.link = None
        self.told.append((f"closed to {self.name}", flow.id))


class Stage:
    """A pipeline with providers; `told` is all that it asked of links and datapath."""

    def __init__(self, driver: Driver, *slots: ProviderSlot, deadline: float = 60.0) -> None:
        self.driver = driver
        self.pipeline = Pipeline(driver.reactor, slots, deadline)
        self.recorder = Recorder(self.pipeline)
        self.told = self.recorder.told
        self.pipeline.links = {one.index: Link(one.name, self.told) for one in slots}  # type: ignore[misc]
        self.finished: list[int] = []
        self.decided: list[tuple[int, str, str]] = []
        self.pipeline.finished = lambda flow: self.finished.append(flow.id)
        self.pipeline.decided = lambda flow: self.decided.append((flow.id, flow.outcome, flow.by))
        self.numbers = 0

    def flow(self, **more: Any) -> InterceptedFlow:
        """A new flow is admitted."""
        self.numbers += 1
        flow = tcp_flow(self.numbers, self.recorder, **more)
        self.pipeline.admit(flow)
        return flow

    def heard(self) -> list[Any]:
        """What was asked since; without the flow's number, where nothing else is told."""
        since = [entry[0] if len(entry) == 2 else (entry[0], *entry[2:]) for entry in self.told]
        self.told.clear()
        return since


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


@pytest.fixture
def two(driver: Driver) -> Stage:
    """Two transparent proxies."""
    return Stage(driver, slot(0), slot(1))


class TestTheWay:
    def test_without_providers(self, driver: Driver) -> None:
        stage = Stage(driver)
        flow = stage.flow()
        assert stage.heard() == ["pass_through"]
        assert (flow.state, flow.outcome, flow.by) == (FlowState.CLAIMED, "passed", "pass-through")
        assert stage.decided == [(1, "passed", "pass-through")]

    def test_claimed_by_the_first(self, two: Stage) -> None:
        flow = two.flow()
        assert two.heard() == ["offer to p0"]
        assert flow.state is FlowState.OFFERED and flow.timer
        two.pipeline.claimed(flow)
        assert (flow.state.value, flow.outcome, flow.by) == ("claimed", "claimed", "p0")
        assert two.heard() == [] and two.decided == [(1, "claimed", "p0")]

    def test_declined_by_both(self, two: Stage) -> None:
        flow = two.flow()
        two.pipeline.declined(flow)
        two.pipeline.declined(flow)
        assert two.heard() == ["offer to p0", "withdraw from p0", "offer to p1", "withdraw from p1", "pass_through"]
        assert two.decided == [(1, "passed", "pass-through")]

    def test_refused_by_an_app_proxy(self, driver: Driver) -> None:
        stage = Stage(driver, slot(0, ProviderKind.APP_PROXY), slot(1))
        flow = stage.flow()
        stage.pipeline.declined(flow)
        assert stage.heard() == ["offer to p0", "withdraw from p0", ("refuse", REFUSED)]
        assert (flow.state, flow.outcome, flow.by, flow.error) == (FlowState.CLOSED, "refused", "p0", REFUSED)
        assert stage.finished == [1]

    def test_no_provider_wants_loopback(self, two: Stage) -> None:
        two.flow(server=b"\x7f\0\0\1")
        assert two.heard() == ["pass_through"]

    def test_who_and_what_is_found_out_before_anybody_is_asked(self, two: Stage) -> None:
        def describe(flow: InterceptedFlow) -> None:
            assert two.told == []
            flow.host = "example.com"

        two.pipeline.describe = describe
        assert two.flow().host == "example.com"

    def test_many_at_once_do_not_mix(self, two: Stage) -> None:
        flows = [two.flow() for _ in range(3)]
        two.pipeline.claimed(flows[1])
        two.pipeline.declined(flows[2])
        two.pipeline.claimed(flows[2])
        two.pipeline.declined(flows[0])
        two.pipeline.declined(flows[0])
        assert [flow.by for flow in flows] == ["pass-through", "p0", "p1"]


class TestTrouble:
    def test_too_slow(self, driver: Driver) -> None:
        """The next one is asked, with a time of its own; a late answer is not for it."""
        stage = Stage(driver, slot(0), slot(1), deadline=0.01)
        flow = stage.flow()
        driver.until(lambda: flow.state is FlowState.CLAIMED)
        assert stage.heard() == ["offer to p0", "withdraw from p0", "offer to p1", "withdraw from p1", "pass_through"]
        assert flow.reason == "p1 did not decide in time; policy open"
        stage.pipeline.claimed(flow)
        assert flow.by == "pass-through"

    def test_a_claim_ends_the_deadline(self, driver: Driver) -> None:
        stage = Stage(driver, slot(0), deadline=0.01)
        flow = stage.flow()
        stage.pipeline.claimed(flow)
        driver.quiet(0.03)
        assert stage.heard() == ["offer to p0"]

    @pytest.mark.parametrize("claimed", [False, True])
    def test_dead_before_the_flow_is_open(self, two: Stage, claimed: bool) -> None:
        """Also a claimed one: nothing has been said to the program yet."""
        flow = two.flow()
        if claimed:
            two.pipeline.claimed(flow)
        two.pipeline.troubled(flow, Trouble.DEAD, "its process ended")
        assert two.heard() == ["offer to p0", "withdraw from p0", "offer to p1"]
        assert flow.state is FlowState.OFFERED

    def test_an_app_proxys_flows_are_refused(self, driver: Driver) -> None:
        stage = Stage(driver, slot(0, ProviderKind.APP_PROXY))
        flow = stage.flow()
        stage.pipeline.troubled(flow, Trouble.RAISED, "ValueError: x")
        assert stage.heard() == ["offer to p0", "withdraw from p0", ("refuse", REFUSED)]
        assert (flow.by, flow.reason) == ("policy", "p0 raised an exception (ValueError: x); policy closed")

    def test_one_that_is_starting_is_not_asked(self, driver: Driver) -> None:
        stage = Stage(driver, slot(0, state=ProviderState.STARTING), slot(1))
        stage.flow()
        assert stage.heard() == ["offer to p1"]

    @pytest.mark.parametrize("state", [FlowState.OPENING, FlowState.OPEN, FlowState.CLOSED, FlowState.HELD])
    def test_afterwards_no_answer_counts(self, two: Stage, state: FlowState) -> None:
        flow = two.flow()
        two.heard()
        flow.state = state
        two.pipeline.claimed(flow)
        two.pipeline.declined(flow)
        two.pipeline.troubled(flow, Trouble.DEAD)
        assert two.heard() == [] and flow.state is state


class TestTheEnd:
    def test_once(self, two: Stage) -> None:
        flow = two.flow()
        two.pipeline.finish(flow, FlowErrorCode.PEER_RESET)
        two.pipeline.finish(flow, FlowErrorCode.INTERNAL)
        assert two.finished == [1] and flow.error == FlowErrorCode.PEER_RESET
        assert two.heard() == ["offer to p0", "closed to p0"]

    def test_a_flow_that_ends_while_it_is_offered_has_no_deadline_left(self, driver: Driver) -> None:
        stage = Stage(driver, slot(0), deadline=0.01)
        flow = stage.flow()
        stage.pipeline.finish(flow)
        driver.quiet(0.03)
        assert stage.heard() == ["offer to p0", "closed to p0"] and stage.finished == [1]

    def test_without_a_provider_nobody_is_told(self, driver: Driver) -> None:
        stage = Stage(driver)
        flow = stage.flow()
        stage.pipeline.finish(flow)
        assert stage.heard() == ["pass_through"] and flow.error == 0


events = st.sampled_from(["claimed", "declined", "slow", "raised", "finish"])


@given(st.lists(st.sampled_from(ProviderKind), max_size=4), st.lists(events, max_size=12))
def test_any_events_in_any_order(kinds: list[ProviderKind], trace: list[str]) -> None:
    """One decision, one end; whoever was offered the flow is told that it went elsewhere, or how it ended."""
    with driving() as driver:
        stage = Stage(driver, *(slot(index, kind) for index, kind in enumerate(kinds)))
        flow = stage.flow()
        for event in trace:
            if event == "slow":
                stage.pipeline.troubled(flow, Trouble.SLOW)
            elif event == "raised":
                stage.pipeline.troubled(flow, Trouble.RAISED, "x")
            else:
                getattr(stage.pipeline, event)(flow)
        stage.pipeline.finish(flow)
        told = [entry[0] for entry in stage.told]
        offered = [name.removeprefix("offer to ") for name in told if name.startswith("offer")]
        told_again = [name.rpartition(" ")[2] for name in told if name.startswith(("withdraw", "closed"))]
        assert offered == told_again == sorted(set(offered))
        assert stage.finished == [1]
        assert told.count("pass_through") + told.count("refuse") <= 1


class TestWhatAFlowIs:
    def test_tcp_over_ipv4(self, driver: Driver) -> None:
        flow = Stage(driver).flow(port=443)
        assert (flow.protocol, flow.local, flow.remote) == ("tcp", ("192.0.0.2", 40001), ("192.0.2.1", 443))
        assert not flow.is_loopback

    @pytest.mark.parametrize(
        ("address", "text", "loopback"),
        [
            (b"\x7f\1\2\3", "127.1.2.3", True),
            (b"\x80\0\0\1", "128.0.0.1", False),
            (bytes(15) + b"\1", "::1", True),
            (bytes(15) + b"\2", "::2", False),
        ],
    )
    def test_udp_and_loopback(self, driver: Driver, address: bytes, text: str, loopback: bool) -> None:
        recorder = Recorder(Stage(driver).pipeline)
        flow = InterceptedFlow(7, (UDP, PROGRAM, 1, address, 53), b"", recorder, 0.0)
        assert (flow.protocol, flow.remote, flow.is_loopback) == ("udp", (text, 53), loopback)

    def test_the_numbers_are_the_kernels(self) -> None:
        assert (TCP, UDP) == (6, 17)
