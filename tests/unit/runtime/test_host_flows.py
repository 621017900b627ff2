"""Flows of the host datapath, without a kernel: packets come, verdicts and marks go.

`>>` below is a packet that the kernel asks about, `<<` the verdict. Whatever comes: each packet gets one verdict.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.flow_decision import Policy
from network_extension.core.packets import ACK, FIN, RST, SYN, TCP, udp_datagram
from network_extension.core.tcp_segments import tcp_segment
from network_extension.filter_verdicts import FLOW_BYTES_MAX, FilterDataVerdict
from network_extension.linux.filter_ruleset import FlowMark
from network_extension.linux.nfqueue import ACCEPT, DROP, REPEAT, HeldPacket
from network_extension.rules import Direction
from network_extension.runtime import host_flows
from network_extension.runtime.host_flow import HostFlow, Stage
from network_extension.runtime.host_flows import HostFlows

NEAR, FAR = b"\xc6\x33\x64\x01", b"\xc6\x33\x64\x02"
OUT, IN = Direction.OUTBOUND, Direction.INBOUND
SHIFT, MASK = 28, 0x70000000


class FakeQueue:
    """Notes verdicts."""

    def __init__(self) -> None:
        self.verdicts: dict[int, tuple[int, int | None]] = {}
        self.waiting: list[HeldPacket] = []

    def decide(self, packet: int, verdict: int, mark: int | None = None) -> None:
        assert packet not in self.verdicts, f"packet {packet} was decided already"
        self.verdicts[packet] = verdict, mark

    def receive(self) -> list[HeldPacket]:
        packets, self.waiting = self.waiting, []
        return packets

    def flush(self) -> None:
        """Nothing to send."""


class FakeStage:
    """Notes what it hears; `on_admit` decides."""

    has_filters, is_final = True, False

    def __init__(self) -> None:
        self.admitted: list[HostFlow] = []
        self.heard: list[tuple[Any, ...]] = []
        self.on_admit: Callable[[HostFlow], None] = lambda flow: None

    def admit(self, flow: HostFlow) -> None:
        flow.filter = self  # type: ignore[assignment]
        self.admitted.append(flow)
        self.on_admit(flow)

    def given(self, direction: Direction) -> int:
        """As of a FlowFilter."""
        return sum(len(data) for way, data in self.heard if way is direction)

    def received(self, flow: HostFlow, direction: Direction, data: bytes) -> None:
        self.heard.append((direction, data))

    def ended(self, flow: HostFlow, direction: Direction) -> None:
        self.heard.append((direction, "end"))

    def closed(self, flow: HostFlow) -> None:
        self.heard.append(("closed", flow.id))
        flow.filter = None


class FakeKernel:
    """Notes what is asked of it."""

    mark_shift, mark_mask = SHIFT, MASK

    def __init__(self) -> None:
        self.marks: list[int] = []
        self.ended: list[int] = []
        self.injected: list[bytes] = []
        self.found: int | None = None

    def set_mark(self, key: Any, state: int) -> bool:
        self.marks.append(state)
        return True

    def state(self, key: Any) -> int | None:
        return self.found

    def destroy(self, flow: HostFlow) -> None:
        self.ended.append(flow.id)

    def inject(self, packet: bytes, state: int) -> bool:
        self.injected.append(packet)
        return True

    def is_ephemeral(self, port: int) -> bool:
        return port >= 32768

    def counters(self, key: Any) -> tuple[int, int] | None:
        return 100, 200

    def has_entry(self, key: Any) -> bool:
        return True

    def has_socket(self, flow: HostFlow) -> bool:
        return True

    def count_bytes(self) -> None:
        """Nothing to switch on."""


class FakeReactor:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.errors: list[Exception] = []

    def clock(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        """Never."""

    def guard(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:
            self.errors.append(error)


class Lab:
    """A datapath between fakes."""

    def __init__(self, policy: Policy = Policy.OPEN, *, offer: bool = False) -> None:
        self.queue, self.stage, self.kernel, self.reactor = FakeQueue(), FakeStage(), FakeKernel(), FakeReactor()
        parts: list[Any] = [self.reactor, self.queue, self.stage, self.kernel]
        self.flows = HostFlows(parts[0], parts[1], parts[2], parts[3], policy, offer=offer)
        self.last = 0

    def packet(self, payload: bytes, *, mark: int = 0, hook: int = 3) -> int:
        """A packet comes; its number."""
        self.last += 1
        self.queue.waiting = [HeldPacket(self.last, payload, len(payload), mark, hook, 2, 2)]
        self.flows.packets(1)
        self.flows.after_batch()
        return self.last

    def tcp(self, sequence: int, flags: int, data: bytes = b"", *, back: bool = False, mark: int = 0) -> int:
        """A segment from NEAR:40000 to FAR:80, or back."""
        ends = (FAR, 80, NEAR, 40000) if back else (NEAR, 40000, FAR, 80)
        return self.packet(tcp_segment(*ends, sequence, 1, flags, data), mark=mark, hook=1 if back else 3)

    def udp(self, data: bytes = b"data") -> int:
        """A datagram from NEAR:40000 to FAR:53."""
        return self.packet(udp_datagram(NEAR, 40000, FAR, 53, data))

    def verdict(self, packet: int) -> tuple[int, int | None] | None:
        """(verdict, state in its mark) of a packet; None while it waits."""
        found = self.queue.verdicts.get(packet)
        return found and (found[0], None if found[1] is None else found[1] >> SHIFT & 7)

    @property
    def flow(self) -> HostFlow:
        """The latest flow."""
        return self.stage.admitted[-1]


ALLOWED, REFUSED = (REPEAT, int(FlowMark.ALLOWED)), (REPEAT, int(FlowMark.REFUSED))


class TestNewFlows:
    def test_allowed_for_good_leaves_nothing_behind(self) -> None:
        lab = Lab()
        syn = lab.tcp(7, SYN, mark=0x1234)  # >> SYN, which waits
        assert lab.verdict(syn) is None
        assert (lab.flow.direction, lab.flow.local, lab.flow.remote) == (
            OUT,
            ("198.51.100.1", 40000),
            ("198.51.100.2", 80),
        )
        lab.flow.filter_open(False, False)
        assert lab.verdict(syn) == ALLOWED  # << REPEAT with the mark ALLOWED
        assert (lab.queue.verdicts[syn][1] or 0) & 0xFFFF == 0x1234  # and others' bits as they were
        assert not lab.flows.flows

    def test_a_syn_that_is_sent_again_waits_only_once(self) -> None:
        lab = Lab()
        first, second = lab.tcp(7, SYN), lab.tcp(7, SYN)
        assert (lab.verdict(first), lab.verdict(second)) == (None, (DROP, None))
        assert len(lab.stage.admitted) == 1

    def test_another_initial_sequence_number_is_another_flow(self) -> None:
        lab = Lab()
        first, second = lab.tcp(7, SYN), lab.tcp(8, SYN)
        assert (lab.verdict(first), lab.verdict(second)) == ((DROP, None), None)
        assert ("closed", 1) in lab.stage.heard
        assert len(lab.stage.admitted) == 2

    def test_a_syn_whose_answer_was_lost_is_not_asked_about_again(self) -> None:
        """Inbound: conntrack saw our SYN-ACK, so the kernel asks about the SYN that comes again (1, 3, 7 s)."""
        lab = Lab()
        lab.stage.on_admit = lambda flow: flow.filter_open(False, False)
        for second in (0, 1, 3, 7):
            lab.reactor.now = 1000 + second
            assert lab.verdict(lab.tcp(7, SYN, back=True)) == ALLOWED
        assert len(lab.stage.admitted) == 1
        assert lab.verdict(lab.tcp(8, SYN, back=True)) == ALLOWED
        assert len(lab.stage.admitted) == 2  # another initial sequence number is another flow

    @pytest.mark.parametrize("back", [False, True], ids=["the same direction", "the other one"])
    def test_a_new_flow_ends_the_one_whose_end_nobody_saw(self, back: bool) -> None:
        lab = Lab()
        lab.tcp(7, SYN)
        lab.flow.filter_open(False, False)
        lab.flows.after_batch()  # the stage wants reports, so it is kept
        assert list(lab.flows.tracked.values()) == [lab.flow]
        lab.tcp(8, SYN, back=back)
        assert ("closed", 1) in lab.stage.heard
        assert not lab.flows.tracked
        assert len(lab.stage.admitted) == 2

    def test_refused(self) -> None:
        lab = Lab()
        syn = lab.tcp(7, SYN)
        lab.flow.filter_drop(False, None)
        assert lab.verdict(syn) == REFUSED
        lab.tcp(8, SYN)  # the program tries again: a new question
        assert len(lab.stage.admitted) == 2

    def test_silently_dropped_is_asked_once_while_its_syns_come(self) -> None:
        lab = Lab()
        lab.stage.on_admit = lambda flow: flow.filter_drop(True, None)
        for second in (0, 1, 3, 7, 15, 31, 63, 127):
            lab.reactor.now = 1000 + second
            assert lab.verdict(lab.tcp(7, SYN)) == (DROP, None)
        assert len(lab.stage.admitted) == 1
        lab.reactor.now = 1131
        lab.tcp(7, SYN)
        assert len(lab.stage.admitted) == 2

    def test_datagrams_wait_together_and_go_together(self) -> None:
        lab = Lab()
        packets = [lab.udp(b"%d" % number) for number in range(3)]
        lab.flow.filter_open(False, False)
        assert [lab.verdict(packet) for packet in packets] == [ALLOWED] * 3
        assert lab.verdict(lab.udp()) == ALLOWED  # it was on its way to us already
        assert len(lab.stage.admitted) == 1

    def test_no_more_packets_of_a_flow_wait_than_there_is_room_for(self) -> None:
        lab = Lab()
        packets = [lab.udp() for _ in range(70)]
        assert [lab.verdict(packet) for packet in packets] == [None] * 64 + [(DROP, None)] * 6

    @pytest.mark.parametrize(("policy", "result"), [(Policy.OPEN, ALLOWED), (Policy.CLOSED, (DROP, None))])
    def test_too_many_flows_get_the_policy(
        self, monkeypatch: pytest.MonkeyPatch, policy: Policy, result: tuple[int, int | None]
    ) -> None:
        monkeypatch.setattr(host_flows, "MOST_FLOWS", 1)
        lab = Lab(policy)
        lab.tcp(7, SYN)
        assert lab.verdict(lab.udp()) == result
        assert lab.flows.overflows == 1

    def test_echo_requests_are_flows_by_their_identifier(self) -> None:
        lab = Lab()
        echo = struct.pack(">BBHHH", 8, 0, 0, 77, 1) + b"ping"
        header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(echo), 0, 0, 64, 1, 0, NEAR, FAR)
        packet = lab.packet(header + echo)
        assert (lab.flow.protocol, lab.flow.remote) == ("icmp", ("198.51.100.2", 0))
        lab.flow.filter_open(False, False)
        assert lab.verdict(packet) == ALLOWED


class TestHeldData:
    def opened(self, lab: Lab, *, inbound: bool = False, outbound: bool = True) -> HostFlow:
        """A TCP flow from sequence number 100 on, whose SYN has gone with the mark of its holds."""
        syn = lab.tcp(100, SYN)
        lab.flow.filter_open(inbound, outbound)
        states = {(False, True): FlowMark.HOLD_OUT, (True, False): FlowMark.HOLD_IN, (True, True): FlowMark.HOLD_BOTH}
        assert lab.verdict(syn) == (REPEAT, int(states[inbound, outbound]))
        return lab.flow

    def test_bytes_wait_and_go_when_they_are_passed(self) -> None:
        lab = Lab()
        flow = self.opened(lab)
        assert lab.verdict(lab.tcp(101, ACK)) is not None  # acknowledgements do not wait
        data = lab.tcp(101, ACK, b"hello")
        assert lab.verdict(data) is None
        assert lab.stage.heard == [(OUT, b"hello")]
        flow.filter_pass(OUT, 5)
        assert lab.verdict(data) == (REPEAT, int(FlowMark.HOLD_OUT))
        more = lab.tcp(106, ACK, b" world")
        flow.filter_pass(OUT, FLOW_BYTES_MAX)
        assert lab.verdict(more) == ALLOWED  # the last packet takes the news to the kernel
        assert not lab.flows.flows

    def test_without_a_packet_the_mark_is_set_at_once(self) -> None:
        lab = Lab()
        self.opened(lab).filter_pass(OUT, FLOW_BYTES_MAX)
        assert lab.kernel.marks == [FlowMark.ALLOWED]

    def test_a_packet_that_was_on_its_way_when_the_hold_ended(self) -> None:
        lab = Lab()
        self.opened(lab).filter_pass(OUT, FLOW_BYTES_MAX)
        assert lab.verdict(lab.tcp(101, ACK, b"late")) == ALLOWED

    def test_the_other_direction_begins_with_the_syn_ack(self) -> None:
        lab = Lab()
        flow = self.opened(lab, inbound=True, outbound=False)
        assert lab.verdict(lab.tcp(900, SYN | ACK, back=True)) is not None
        second, first = lab.tcp(904, ACK, b"def", back=True), lab.tcp(901, ACK, b"abc", back=True)
        assert lab.stage.heard == [(IN, b"abcdef")]
        flow.filter_pass(IN, 3)
        assert (lab.verdict(first), lab.verdict(second)) == ((REPEAT, int(FlowMark.HOLD_IN)), None)

    def test_the_end_of_a_direction(self) -> None:
        lab = Lab()
        flow = self.opened(lab)
        fin = lab.tcp(101, FIN | ACK)
        assert lab.stage.heard == [(OUT, "end")]
        assert lab.verdict(fin) is None
        flow.filter_pass(OUT, FLOW_BYTES_MAX)
        assert lab.verdict(fin) == ALLOWED

    def test_a_reset_ends_the_flow(self) -> None:
        lab = Lab()
        flow = self.opened(lab)
        data = lab.tcp(101, ACK, b"held")
        assert lab.verdict(lab.tcp(105, RST)) is not None
        assert lab.verdict(data) == (DROP, None)
        assert ("closed", flow.id) in lab.stage.heard
        assert not lab.flows.flows

    def test_dropped_with_bytes_that_wait(self) -> None:
        """Both ends are told, and the bytes do not go out."""
        lab = Lab()
        flow = self.opened(lab)
        data = lab.tcp(101, ACK, b"bad")
        flow.filter_drop(False, None)
        assert lab.verdict(data) == REFUSED  # a reset for the program
        assert lab.kernel.ended == [flow.id]
        (reset,) = lab.kernel.injected
        assert reset[33] == RST
        assert int.from_bytes(reset[24:28], "big") == 101
        assert lab.verdict(lab.tcp(101, ACK, b"bad")) == REFUSED  # sent again
        assert flow.stage is Stage.ENDED

    def test_held_again(self) -> None:
        lab = Lab()
        flow = self.opened(lab)
        lab.tcp(101, ACK, b"shown")
        flow.filter_pass(OUT, FLOW_BYTES_MAX)
        flow.filter_hold(OUT)
        assert lab.kernel.marks[-1] == FlowMark.HOLD_OUT
        data = lab.tcp(5000, ACK, b"mid-stream")
        assert lab.verdict(data) is None
        assert lab.stage.heard[-1] == (OUT, b"mid-stream")
        flow.filter_pass(OUT, 9)
        assert lab.verdict(data) is None
        flow.filter_pass(OUT, 15)  # the count goes on from what was shown before
        assert lab.verdict(data) == (REPEAT, int(FlowMark.HOLD_OUT))

    def test_datagrams_are_units(self) -> None:
        lab = Lab()
        first = lab.udp(b"one")
        lab.flow.filter_open(False, True)
        second = lab.udp(b"second")
        assert lab.stage.heard == [(OUT, b"one"), (OUT, b"second")]
        lab.flow.filter_pass(OUT, 5)
        assert (lab.verdict(first), lab.verdict(second)) == ((REPEAT, int(FlowMark.HOLD_OUT)), None)
        lab.flow.filter_pass(OUT, FLOW_BYTES_MAX)
        assert lab.verdict(second) == ALLOWED


class TestMidStream:
    @pytest.mark.parametrize("policy", list(Policy))
    def test_established_flows_are_let_be(self, policy: Policy) -> None:
        lab = Lab(policy)
        assert lab.verdict(lab.tcp(5000, ACK, b"old")) == ALLOWED
        assert not lab.stage.admitted

    @pytest.mark.parametrize(("policy", "result"), [(Policy.OPEN, ALLOWED), (Policy.CLOSED, REFUSED)])
    def test_what_a_dead_engine_held_gets_the_policy(self, policy: Policy, result: tuple[int, int | None]) -> None:
        lab = Lab(policy)
        lab.kernel.found = FlowMark.HOLD_OUT
        assert lab.verdict(lab.tcp(5000, ACK, b"old")) == result
        assert lab.kernel.ended == ([0] if policy is Policy.CLOSED else [])

    def test_offered(self) -> None:
        """Who began it follows from the ports: NEAR's is one that the kernel gives."""
        lab = Lab(offer=True)
        packet = lab.tcp(5000, ACK, b"old", back=True)
        assert (lab.flow.direction, lab.flow.remote) == (OUT, ("198.51.100.2", 80))
        lab.flow.filter_drop(False, None)
        assert lab.verdict(packet) == REFUSED
        assert lab.kernel.ended == [1]

    def test_a_drop_of_a_flow_that_was_forgotten(self) -> None:
        lab = Lab()
        key = (TCP, NEAR, 40000, FAR, 80)
        assert not lab.flows.update_forgotten(key, FilterDataVerdict.drop(), Direction.ANY)
        lab.kernel.found = FlowMark.ALLOWED
        assert lab.flows.update_forgotten(key, FilterDataVerdict.drop(), Direction.ANY)
        assert lab.kernel.marks == [FlowMark.REFUSED]
        assert lab.kernel.ended == [0]


@pytest.mark.parametrize(("policy", "result"), [(Policy.OPEN, ALLOWED), (Policy.CLOSED, (DROP, None))])
@pytest.mark.parametrize("payload", [b"", b"\x45", b"\x45" + b"\0" * 19, b"\xf0" * 60, b"\x60" + b"\0" * 39])
def test_what_is_no_packet_gets_the_policy(payload: bytes, policy: Policy, result: tuple[int, int | None]) -> None:
    lab = Lab(policy)
    packet = lab.packet(payload)
    if lab.stage.admitted:  # an IPv6 packet without an upper layer is one
        lab.flow.filter_open(False, False)
        result = ALLOWED
    assert lab.verdict(packet) == result
    assert not lab.reactor.errors


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("packet"), st.binary(max_size=80)),
            st.tuples(
                st.just("tcp"), st.integers(95, 130), st.sampled_from([SYN, ACK, FIN | ACK, RST, SYN | ACK, 0, 63]),
                st.binary(max_size=6), st.booleans(),
            ),
            st.tuples(st.just("udp"), st.binary(max_size=6)),
            st.tuples(st.just("open"), st.booleans(), st.booleans()),
            st.tuples(st.just("pass"), st.sampled_from([OUT, IN]), st.sampled_from([0, 1, 3, 10, FLOW_BYTES_MAX])),
            st.tuples(st.just("hold"), st.sampled_from([OUT, IN])),
            st.tuples(st.just("drop"), st.booleans()),
        ),
        max_size=40,
    ),
    st.sampled_from(Policy), st.booleans(),
)  # fmt: skip
def test_each_packet_gets_one_verdict(steps: list[tuple[Any, ...]], policy: Policy, offer: bool) -> None:
    """Whatever comes in whatever order, `FakeQueue.decide` is called once for each packet, and nothing raises."""
    lab = Lab(policy, offer=offer)
    for name, *values in steps:
        if name == "packet":
            lab.packet(*values)
        elif name == "tcp":
            lab.tcp(values[0], values[1], values[2], back=values[3])
        elif name == "udp":
            lab.udp(*values)
        elif lab.stage.admitted:
            arguments = (*values, None) if name == "drop" else values
            getattr(lab.flow, f"filter_{name}")(*arguments)
    lab.flows.finish()
    assert sorted(lab.queue.verdicts) == list(range(1, lab.last + 1))
    assert {verdict for verdict, _ in lab.queue.verdicts.values()} <= {ACCEPT, DROP, REPEAT}
    assert not lab.reactor.errors
    assert not lab.flows.flows
