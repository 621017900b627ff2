"""The engine's end of a flow channel, with the test as the provider: a real channel, a real pipeline, no packets.

Each test is a trace: `provider.says(…)`, `provider.hears(…)`, and what the datapath was asked to do (`recorder.told`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import NetworkRule, TransparentProxyNetworkSettings
from network_extension.core.flow_decision import FlowState, ProviderKind, ProviderState
from network_extension.errors import FlowErrorCode
from network_extension.metadata import ParentProcess, ProcessInfo
from network_extension.runtime.channel import Channel
from network_extension.runtime.hello import pack_hello
from network_extension.runtime.intercepted import InterceptedFlow, Pipeline
from network_extension.runtime.provider_link import ProviderLink
from network_extension.runtime.wire import MAX_MESSAGE, MessageType
from tests.unit.linux.driving import Driver, driving

from .staging import Recorder, slot, tcp_flow

M = MessageType
REFUSED, ABORTED = FlowErrorCode.REFUSED, FlowErrorCode.ABORTED


class Provider:
    """The provider's end of its flow channel."""

    def __init__(self, driver: Driver, sock: socket.socket) -> None:
        self.driver, self.channel = driver, Channel(sock)
        self.kept: list[tuple[MessageType, int, dict[str, Any], list[int]]] = []

    def says(
        self, kind: MessageType, flow: int = 0, body: dict[str, Any] | None = None, fds: tuple[int, ...] = ()
    ) -> None:
        self.channel.send(kind, flow, body, fds)

    def says_bytes(self, data: bytes) -> None:
        self.channel._sock.send(data)

    def hears(self, kind: MessageType, flow: int = 0) -> dict[str, Any]:
        """The next message is of this type and about this flow; its body."""

        def read() -> bool:
            if not self.kept:
                self.kept += self.channel.receive()
            return bool(self.kept)

        self.driver.until(read)
        found, number, body, self.fds = self.kept.pop(0)
        assert (found, number) == (kind, flow)
        return body

    def hears_nothing(self) -> None:
        self.driver.quiet(0.005)
        assert self.kept + self.channel.receive() == []


class Stage:
    """One or more links into one pipeline."""

    def __init__(self, driver: Driver, *kinds: ProviderKind, deadline: float = 60.0) -> None:
        self.driver = driver
        self.slots = [slot(index, kind, ProviderState.STARTING) for index, kind in enumerate(kinds)]
        self.pipeline = Pipeline(driver.reactor, self.slots, deadline)
        self.recorder = Recorder(self.pipeline)
        self.lost: list[tuple[str, str]] = []
        self.running: list[str] = []
        self.finished: list[InterceptedFlow] = []
        self.pipeline.finished = self.finished.append
        self.providers = [self.join(index) for index in range(len(kinds))]
        self.flows: list[InterceptedFlow] = []

    def join(self, index: int) -> Provider:
        """A provider's process gets a channel."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pipeline.links[index] = ProviderLink(
            self.driver.reactor,
            self.pipeline,
            self.slots[index],
            Channel(ours),
            lambda link, why: self.lost.append((link.slot.name, why)),
            lambda link: self.running.append(link.slot.name),
        )
        return Provider(self.driver, theirs)

    def greeted(self) -> Stage:
        """All providers have said who they are."""
        for one, provider in zip(self.slots, self.providers, strict=True):
            provider.says(M.HELLO, 0, pack_hello(one.name, one.kind.value, None)[0])
        self.driver.until(lambda: len(self.running) == len(self.slots))
        return self

    def flow(self, **more: Any) -> InterceptedFlow:
        """A new flow is admitted."""
        flow = tcp_flow(len(self.flows) + 1, self.recorder)
        for name, value in more.items():
            setattr(flow, name, value)
        self.flows.append(flow)
        self.pipeline.admit(flow)
        return flow

    def until_told(self, *entries: tuple[Any, ...]) -> None:
        """Wait until the datapath was asked just this since the last look."""
        self.driver.until(lambda: len(self.recorder.told) >= len(entries))
        assert self.recorder.told == list(entries)
        self.recorder.told.clear()

    def close(self) -> None:
        for link in list(self.pipeline.links.values()):
            link.end("the test is over")
        for provider in self.providers:
            provider.channel.close()


TRANSPARENT, APP = ProviderKind.TRANSPARENT_PROXY, ProviderKind.APP_PROXY


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


@pytest.fixture
def stage(driver: Driver) -> Iterator[Stage]:
    """A transparent proxy and an app proxy behind it, both greeted. No descriptor is left at the end."""
    before = len(os.listdir("/proc/self/fd"))
    stage = Stage(driver, TRANSPARENT, APP).greeted()
    yield stage
    stage.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def provider(stage: Stage) -> Provider:
    return stage.providers[0]


class TestHello:
    def test_before_it_nobody_is_asked(self, driver: Driver) -> None:
        stage = Stage(driver, TRANSPARENT)
        stage.flow()
        stage.until_told(("pass_through", 1))
        assert stage.flows[0].reason == "p0 is still starting; policy open"
        stage.close()

    def test_the_kind_and_the_settings_count_from_then_on(self, driver: Driver) -> None:
        """The slot knew neither before; and they may change while it runs."""
        stage = Stage(driver, TRANSPARENT)
        rule = NetworkRule.destination_network("198.51.100.0", 24)
        settings = TransparentProxyNetworkSettings(included_network_rules=[rule])
        stage.providers[0].says(M.HELLO, 0, pack_hello("x", "transparent-proxy", settings)[0])
        driver.until(lambda: stage.running == ["p0"])
        stage.flow()
        stage.until_told(("pass_through", 1))
        stage.providers[0].says(M.HELLO, 0, pack_hello("x", "app-proxy", None)[0])
        driver.until(lambda: stage.slots[0].kind is APP)
        stage.flow()
        stage.providers[0].hears(M.NEW_FLOW, 2)
        assert stage.running == ["p0"]
        stage.close()

    def test_settings_by_the_thousand_come_in_a_file(self, driver: Driver) -> None:
        stage = Stage(driver, TRANSPARENT)
        rules = [NetworkRule.destination_host(f"host-{number}.example.com") for number in range(2000)]
        body, fds = pack_hello("x", "transparent-proxy", TransparentProxyNetworkSettings(included_network_rules=rules))
        stage.providers[0].says(M.HELLO, 0, body, tuple(fds))
        os.close(fds[0])
        driver.until(lambda: stage.running)
        stage.flow(host="host-1999.example.com")
        stage.providers[0].hears(M.NEW_FLOW, 1)
        stage.close()

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({}, "kind: a text is needed"),
            ({"name": "x", "kind": "packet-tunnel"}, "'packet-tunnel' is not one of"),
            ({"name": "x", "kind": "app-proxy", "settings": {"included": 5}}, "included"),
            ({"name": "x", "kind": "app-proxy", "settings_size": 10}, "one descriptor is needed"),
        ],
    )
    def test_one_that_cannot_be_understood_ends_the_link(
        self, stage: Stage, provider: Provider, body: dict[str, Any], text: str
    ) -> None:
        provider.says(M.HELLO, 0, body)
        stage.driver.until(lambda: stage.lost)
        assert stage.lost[0][0] == "p0"
        assert stage.lost[0][1].startswith("its settings were not understood: ") and text in stage.lost[0][1]

    def test_what_comes_behind_it_in_the_same_batch_is_dropped(self, stage: Stage, provider: Provider) -> None:
        """Else a good HELLO behind a bad one would bring a closed link back to life."""
        provider.says(M.HELLO, 0, {})
        provider.says(M.HELLO, 0, pack_hello("p0", "transparent-proxy", None)[0], (0, 1))
        stage.driver.until(lambda: stage.lost)
        stage.driver.quiet(0.005)
        assert stage.slots[0].state is ProviderState.DEAD and len(stage.lost) == 1

    def test_one_that_is_stopping_does_not_come_back(self, stage: Stage, provider: Provider) -> None:
        """It changes its settings in stop_proxy."""
        stage.slots[0].state = ProviderState.STOPPING
        stage.slots[0].matcher = None
        rule = NetworkRule.destination_network("198.51.100.0", 24)
        settings = TransparentProxyNetworkSettings(included_network_rules=[rule])
        provider.says(M.HELLO, 0, pack_hello("p0", "transparent-proxy", settings)[0])
        stage.driver.until(lambda: stage.slots[0].matcher)
        assert stage.slots[0].state is ProviderState.STOPPING


class TestOffer:
    def test_what_a_provider_is_told(self, stage: Stage, provider: Provider) -> None:
        process = ProcessInfo(4711, 5, 1000, "/usr/bin/curl", ("curl", "-sS"), (ParentProcess(1, "/sbin/init"),))
        stage.flow(host="example.com", name_source="dns", process=process)
        assert provider.hears(M.NEW_FLOW, 1) == {
            "proto": "tcp",
            "local": ["192.0.0.2", 40001],
            "remote": ["192.0.2.1", 80],
            "host": "example.com",
            "name_source": "dns",
            "process": process.to_dict(),
            "interface": None,
            "deadline": 60.0,
        }

    def test_an_endless_command_line_is_left_out(self, stage: Stage, provider: Provider) -> None:
        """The kernel allows megabytes; a message has 64 KiB. Who it is counts, not what it was told."""
        process = ProcessInfo(4711, 5, 1000, "/usr/bin/find", ("x" * 100,) * 2000, (ParentProcess(1, "/sbin/init"),))
        stage.flow(process=process)
        told = provider.hears(M.NEW_FLOW, 1)["process"]
        assert told == process.to_dict() | {"arguments": [], "parents": []}

    def test_the_rest_waits_while_the_provider_is_busy(self, stage: Stage, provider: Provider) -> None:
        for _ in range(2000):
            stage.flow()
        for number in range(1, 2001):
            provider.hears(M.NEW_FLOW, number)

    def test_one_that_never_reads_is_given_up(self, stage: Stage) -> None:
        """16 MiB wait for it; then its flows get the policy, as if it had died."""
        process = ProcessInfo(1, 1, 1, "/bin/x", ("x" * 60_000,))
        for _ in range(500):
            stage.flow(process=process)
        stage.driver.until(lambda: stage.lost)
        assert stage.lost[0][0] == "p0" and "does not read its messages" in stage.lost[0][1]
        stage.driver.until(lambda: all(flow.link is not stage.pipeline.links[0] for flow in stage.flows))
        stage.providers[1].hears(M.NEW_FLOW, 1)


class TestAnswers:
    def test_claim_open_opened_relay_closed(self, stage: Stage, provider: Provider) -> None:
        flow = stage.flow()
        provider.hears(M.NEW_FLOW, 1)
        provider.says(M.CLAIM, 1)
        provider.says(M.OPEN, 1, {"local": None})
        stage.until_told(("open", 1))
        assert (flow.outcome, flow.by) == ("claimed", "p0")
        provider.hears_nothing()
        stage.recorder.opened(flow)
        provider.hears(M.OPENED, 1)
        provider.says(M.RELAY, 1, None, (provider.channel.fileno(),))
        stage.until_told(("relay", 1))
        flow.bytes_in, flow.bytes_out = 5, 3
        stage.pipeline.finish(flow)
        assert provider.hears(M.CLOSED, 1) == {"error": 0, "errno": 0, "in": 5, "out": 3, "reason": ""}

    def test_decline(self, stage: Stage, provider: Provider) -> None:
        stage.flow()
        provider.hears(M.NEW_FLOW, 1)
        provider.says(M.DECLINE, 1)
        assert provider.hears(M.CLOSED, 1)["reason"] == "the flow was given to the next provider"
        stage.providers[1].hears(M.NEW_FLOW, 1)
        stage.providers[1].says(M.DECLINE, 1)
        stage.until_told(("refuse", 1, REFUSED))

    def test_fail(self, stage: Stage, provider: Provider) -> None:
        flow = stage.flow()
        provider.hears(M.NEW_FLOW, 1)
        provider.says(M.FAIL, 1, {"error": "ValueError: " + "x" * 1000})
        stage.providers[1].hears(M.NEW_FLOW, 1)
        stage.providers[1].says(M.FAIL, 1, {"error": ["not a text"]})
        stage.until_told(("refuse", 1, REFUSED))
        assert flow.reason == "p1 raised an exception (['not a text']); policy closed"

    @pytest.mark.parametrize("kind", [M.OPEN, M.RELAY, M.CLOSE])
    def test_who_acts_has_claimed(self, stage: Stage, provider: Provider, kind: MessageType) -> None:
        """flow.open() and flow.connect() keep the flow, whatever the handler says later."""
        flow = stage.flow()
        provider.says(kind, 1, None, (provider.channel.fileno(),) if kind is M.RELAY else ())
        stage.driver.until(lambda: stage.recorder.told)
        assert (flow.outcome, flow.by, flow.timer) == ("claimed", "p0", None)

    def test_open_when_it_is_open(self, stage: Stage, provider: Provider) -> None:
        """relay() has opened it; open() is answered all the same."""
        flow = stage.flow()
        provider.says(M.CLAIM, 1)
        provider.hears(M.NEW_FLOW, 1)
        stage.driver.until(lambda: flow.state is FlowState.CLAIMED)
        flow.state = FlowState.OPEN
        provider.says(M.OPEN, 1)
        provider.hears(M.OPENED, 1)
        assert stage.recorder.told == []

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            ({}, (0, "both")),
            ({"error": 3, "direction": "both"}, (3, "both")),
            ({"error": 0, "direction": "write"}, (0, "write")),
            ({"error": "refused"}, (FlowErrorCode.INTERNAL, "both")),
            ({"error": None, "direction": None}, (FlowErrorCode.INTERNAL, "None")),
        ],
    )
    def test_close(self, stage: Stage, provider: Provider, body: dict[str, Any], told: tuple[Any, ...]) -> None:
        stage.flow()
        provider.says(M.CLOSE, 1, body)
        stage.until_told(("close", 1, *told))

    def test_the_reason_of_a_refusal_is_the_logs(self, stage: Stage, provider: Provider) -> None:
        flow = stage.flow()
        provider.says(M.CLOSE, 1, {"error": 6, "reason": "not on Sundays" + "!" * 1000})
        stage.until_told(("close", 1, 6, "both"))
        assert flow.reason.startswith("not on Sundays!!!") and len(flow.reason) == 500

    def test_attach_and_peer(self, stage: Stage, provider: Provider) -> None:
        flow = stage.flow()
        link = stage.pipeline.links[0]
        provider.hears(M.NEW_FLOW, 1)
        provider.says(M.ATTACH, 1)
        provider.says(M.PEER_REQUEST, 1, {"remote": ["192.0.2.9", 53]})
        stage.until_told(("attach", 1), ("request_peer", 1, ("192.0.2.9", 53)))
        link.attached(flow, 0)
        link.attached(flow, None)
        link.peer(flow, ("192.0.2.9", 53), 0)
        link.datagrams_ended(flow)
        for kind, descriptors in ((M.ATTACHED, 1), (M.ATTACHED, 0), (M.PEER, 1), (M.UDP_EOF, 0)):
            provider.hears(kind, 1)
            assert len(provider.fds) == descriptors
            for descriptor in provider.fds:
                os.close(descriptor)

    @pytest.mark.parametrize("remote", [None, [], ["192.0.2.9"], [1, 2], ["x", "y"], "192.0.2.9:53", {"a": 1}])
    def test_a_peer_that_is_none(self, stage: Stage, provider: Provider, remote: object) -> None:
        stage.flow()
        provider.says(M.PEER_REQUEST, 1, {"remote": remote})
        provider.says(M.ATTACH, 1)
        stage.until_told(("attach", 1))

    def test_relay_without_a_socket(self, stage: Stage, provider: Provider) -> None:
        """At the limit of open files the kernel drops what rides along; and a file is no socket."""
        flow = stage.flow()
        provider.hears(M.NEW_FLOW, 1)
        provider.says(M.RELAY, 1)
        body = provider.hears(M.ERROR, 1)
        assert (body["error"], body["for"]) == (FlowErrorCode.INTERNAL, M.RELAY) and "ulimit -n" in body["reason"]
        with open(os.devnull) as file:
            provider.says(M.RELAY, 1, None, (file.fileno(),))
        body = provider.hears(M.ERROR, 1)
        assert (body["error"], body["reason"]) == (FlowErrorCode.INVALID_ARGUMENT, "only a socket can be relayed")
        assert stage.recorder.told == [] and flow.state is FlowState.CLAIMED


class TestWhatIsDropped:
    @pytest.mark.parametrize("kind", [M.CLAIM, M.DECLINE, M.FAIL, M.OPEN, M.ATTACH, M.PEER_REQUEST, M.RELAY, M.CLOSE])
    @pytest.mark.parametrize("when", ["never had it", "after it went on", "after its end"])
    def test_words_about_a_flow_that_it_does_not_have(
        self, stage: Stage, provider: Provider, kind: MessageType, when: str
    ) -> None:
        """Late answers are no fault: they cross the message that takes the flow away. Their descriptors are closed."""
        flow = stage.flow()
        provider.hears(M.NEW_FLOW, 1)
        number = 1
        if when == "never had it":
            number = 99
        elif when == "after it went on":
            provider.says(M.DECLINE, 1)
            provider.hears(M.CLOSED, 1)
            stage.providers[1].hears(M.NEW_FLOW, 1)
        else:
            stage.pipeline.finish(flow)
            provider.hears(M.CLOSED, 1)
        before = (flow.state, flow.link, len(os.listdir("/proc/self/fd")))
        provider.says(kind, number, {"remote": ["192.0.2.1", 1]}, (0, 1, 2))
        provider.says(M.HELLO, 0, pack_hello("p0", "app-proxy", None)[0])
        stage.driver.until(lambda: stage.slots[0].kind is APP)
        assert (flow.state, flow.link, len(os.listdir("/proc/self/fd"))) == before
        assert stage.recorder.told == [] and stage.lost == []

    def test_messages_that_are_the_engines(self, stage: Stage, provider: Provider) -> None:
        stage.flow()
        for kind in (M.NEW_FLOW, M.OPENED, M.ATTACHED, M.CLOSED, M.START, M.KIT, M.FINISH):
            provider.says(kind, 1, None, (0,))
        provider.says(M.ATTACH, 1)
        stage.until_told(("attach", 1))

    def test_too_slow(self, driver: Driver) -> None:
        """The deadline takes the flow away; the claim that comes then is nobody's."""
        stage = Stage(driver, TRANSPARENT, deadline=0.01).greeted()
        flow = stage.flow()
        stage.providers[0].hears(M.NEW_FLOW, 1)
        stage.until_told(("pass_through", 1))
        stage.providers[0].hears(M.CLOSED, 1)
        stage.providers[0].says(M.CLAIM, 1)
        stage.providers[0].says(M.OPEN, 1)
        driver.quiet(0.005)
        assert flow.by == "pass-through" and stage.recorder.told == []
        stage.close()


class TestTheEnd:
    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            (FlowState.OFFERED, "next"),
            (FlowState.CLAIMED, "next"),
            (FlowState.OPENING, "orphan"),
            (FlowState.OPEN, "orphan"),
        ],
    )
    def test_of_the_process_in_each_state_of_a_flow(
        self, stage: Stage, provider: Provider, state: FlowState, expected: str
    ) -> None:
        flow = stage.flow()
        flow.state = state
        provider.channel.close()
        stage.driver.until(lambda: stage.lost)
        assert stage.lost == [("p0", "its process ended")]
        assert stage.slots[0].state is ProviderState.DEAD
        if expected == "next":
            assert stage.providers[1].hears(M.NEW_FLOW, 1)
            assert stage.recorder.told == []
        else:
            stage.until_told(("orphan", 1))
            assert flow.link is None

    def test_its_last_answers_count(self, stage: Stage, provider: Provider) -> None:
        flow = stage.flow()
        provider.hears(M.NEW_FLOW, 1)
        provider.says(M.OPEN, 1)
        provider.channel.close()
        stage.driver.until(lambda: stage.lost)
        assert stage.recorder.told == [("open", 1), ("orphan", 1)] and flow.by == "p0"

    @pytest.mark.parametrize("data", [b"x", b"\xff" + bytes(8), b"\x03" + bytes(8) + b"{", bytes(MAX_MESSAGE + 1)])
    def test_what_is_not_a_message_ends_the_link(self, stage: Stage, provider: Provider, data: bytes) -> None:
        stage.flow()
        provider.channel._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        provider.says_bytes(data)
        stage.driver.until(lambda: stage.lost)
        assert stage.lost[0][1].startswith("it sent what is not a message: ")
        stage.providers[1].hears(M.NEW_FLOW, 1)

    def test_it_ends_once(self, stage: Stage, provider: Provider) -> None:
        provider.says_bytes(b"x")
        provider.channel.close()
        stage.driver.until(lambda: stage.lost)
        stage.pipeline.links[0].end("again")
        stage.driver.quiet(0.005)
        assert len(stage.lost) == 1

    def test_a_new_flow_for_a_link_that_has_ended(self, stage: Stage, provider: Provider) -> None:
        provider.channel.close()
        stage.driver.until(lambda: stage.lost)
        stage.flow()
        stage.providers[1].hears(M.NEW_FLOW, 1)

    def test_an_old_link_does_not_speak_for_the_new_one(self, stage: Stage, provider: Provider) -> None:
        """The provider is back before the end of its former channel was noticed."""
        old = stage.pipeline.links[0]
        stage.slots[0].state = ProviderState.STARTING
        stage.providers.append(stage.join(0))
        stage.providers[-1].says(M.HELLO, 0, pack_hello("p0", "transparent-proxy", None)[0])
        stage.driver.until(lambda: len(stage.running) == 3)
        old.end("its process ended")
        assert stage.slots[0].state is ProviderState.RUNNING
        stage.flow()
        stage.providers[-1].hears(M.NEW_FLOW, 1)

    def test_flows_of_others_are_not_touched(self, stage: Stage, provider: Provider) -> None:
        first, second = stage.flow(), stage.flow()
        provider.says(M.DECLINE, 1)
        stage.providers[1].hears(M.NEW_FLOW, 1)
        stage.providers[1].says(M.CLAIM, 1)
        stage.driver.until(lambda: first.state is FlowState.CLAIMED)
        provider.channel.close()
        stage.driver.until(lambda: stage.lost)
        assert first.by == "p1" and second.state is FlowState.OFFERED
        stage.providers[1].hears(M.NEW_FLOW, 2)


class TestFaultsOfOurs:
    def test_one_flows_fault_stays_its_own(self, stage: Stage, provider: Provider) -> None:
        """The datapath raises for the first of three messages of one batch: the others are dealt with."""
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            stage.flow()
        stage.recorder.fails_with = ValueError("a fault")
        for number in (1, 2, 3):
            provider.says(M.ATTACH, number, None, (0,))
        stage.driver.reactor.call_later(0.005, stage.driver.reactor.stop)
        stage.driver.reactor.run()
        assert stage.recorder.told == [("attach", 1), ("attach", 2), ("attach", 3)]
        assert [str(fault) for fault in stage.driver.faults] == ["a fault"] * 3
        assert len(os.listdir("/proc/self/fd")) == before and stage.lost == []
        stage.driver.faults.clear()
        stage.recorder.fails_with = None


bodies = st.dictionaries(
    st.sampled_from(["error", "direction", "reason", "remote", "local", "kind", "name", "settings", "settings_size"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=4,
)
messages = st.tuples(st.sampled_from(M), st.integers(0, 3), bodies, st.integers(0, 2))


@given(st.lists(messages, max_size=8))
def test_any_messages(said: list[tuple[MessageType, int, dict[str, Any], int]]) -> None:
    """Nothing raises, no descriptor stays, and each flow is decided at most once."""
    before = len(os.listdir("/proc/self/fd"))
    with driving() as driver:
        stage = Stage(driver, TRANSPARENT, APP).greeted()
        for _ in range(3):
            stage.flow()
        for kind, number, body, count in said:
            stage.providers[0].says(kind, number, body, (0,) * count)
        stage.providers[0].channel.close()
        driver.until(lambda: stage.lost)
        decided = [entry[:2] for entry in stage.recorder.told if entry[0] in ("pass_through", "refuse")]
        assert len(decided) == len(set(decided))
        stage.close()
    assert len(os.listdir("/proc/self/fd")) == before
