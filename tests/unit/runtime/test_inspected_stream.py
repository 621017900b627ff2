"""Gates against a model: bytes go exactly when, and as far as, the filters pass them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.filter_verdicts import FLOW_BYTES_MAX
from network_extension.rules import Direction
from network_extension.runtime.datagram_gate import MOST_KEPT, MOST_UNITS, DatagramGate
from network_extension.runtime.inspected_stream import StreamGate


class Flow:
    """A flow that filters have."""

    filter: Any = object()


class Stage:
    """Stands in for the filter stage: writes down what it is shown, and can pass it at once."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []
        self.ends = 0
        self.at_once: Any = None

    def received(self, flow: Any, direction: Direction, data: bytes) -> None:
        self.shown.append(data)
        if self.at_once is not None:
            self.at_once(data)

    def ended(self, flow: Any, direction: Direction) -> None:
        self.ends += 1


def stream_gate(held: bool = True) -> tuple[StreamGate, Stage, Flow]:
    stage, flow = Stage(), Flow()
    return StreamGate(stage, flow, Direction.OUTBOUND, held), stage, flow  # type: ignore[arg-type]


STEPS = st.lists(st.one_of(st.binary(min_size=1, max_size=50), st.integers(1, 80)), max_size=40)


class TestStreams:
    @settings(deadline=None)
    @given(STEPS)
    def test_what_is_passed_goes_in_order_and_once(self, steps: list[bytes | int]) -> None:
        """A model: the filter's own count of what it was shown, and how far it has passed."""
        gate, stage, _ = stream_gate()
        given_, passed, out = b"", 0, b""
        for step in steps:
            if isinstance(step, bytes):
                gate.give(step)
                given_ += step
            else:
                passed += step
                gate.let(passed)
            out += gate.take()
            assert out == given_[: min(passed, len(given_))]
            assert gate.keeps == len(given_) - len(out)
        assert b"".join(stage.shown) == given_ and not gate.is_open
        gate.let(FLOW_BYTES_MAX)
        assert out + gate.take() == given_ and gate.is_open

    def test_room_is_bounded(self) -> None:
        gate, _, _ = stream_gate()
        gate.give(bytes(65000))
        assert gate.room == 536
        gate.give(bytes(536))
        assert gate.room == 0
        gate.let(1)
        gate.take()
        assert gate.room == 1

    def test_a_flow_that_the_stage_has_forgotten_is_free(self) -> None:
        gate, _, flow = stream_gate()
        gate.give(b"bytes")
        flow.filter = None
        assert gate.take() == b"bytes" and gate.is_open

    def test_held_again(self) -> None:
        """Offsets count what the filters were given, not what went freely in between."""
        gate, _, _ = stream_gate()
        gate.give(b"12345")
        gate.let(FLOW_BYTES_MAX)
        gate.take()
        gate.shut()
        assert not gate.is_open
        gate.give(b"67890")
        assert gate.take() == b""
        gate.let(7)
        assert gate.take() == b"67"

    def test_an_end_is_told(self) -> None:
        gate, stage, _ = stream_gate()
        gate.end()
        assert stage.ends == 1


class Clock:
    """Calls back when the test says so, as a reactor does after a batch."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def soon(self, callback: Any) -> None:
        self.waiting.append(callback)

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def datagram_gate(held: bool = True, prefix: bytes = b"") -> tuple[DatagramGate, Stage, Flow, Clock, list[bytes]]:
    stage, flow, clock, sent = Stage(), Flow(), Clock(), list[bytes]()
    gate = DatagramGate(clock.soon, stage, flow, Direction.OUTBOUND, held, sent.append, prefix)  # type: ignore[arg-type]
    return gate, stage, flow, clock, sent


class TestDatagrams:
    @settings(deadline=None)
    @given(st.lists(st.one_of(st.binary(max_size=30), st.integers(1, 60)), max_size=40))
    def test_whole_and_in_order(self, steps: list[bytes | int]) -> None:
        """One goes when its last byte is passed; boundaries stay, those of empty ones too."""
        gate, _, _, clock, sent = datagram_gate()
        units, passed = list[bytes](), 0
        for step in steps:
            if isinstance(step, bytes):
                gate.arrive(step)
                units.append(step)
            else:
                passed += step
                gate.let(passed)
            clock.run()
            expected, end = [], 0
            for unit in units:
                end += len(unit)
                if end > passed:
                    break
                expected.append(unit)
            assert sent == expected

    def test_shown_after_the_batch_and_dropped_then(self) -> None:
        gate, stage, _, clock, sent = datagram_gate()
        stage.at_once = lambda data: gate.discard()
        gate.arrive(b"one")
        gate.arrive(b"two")
        assert stage.shown == []
        clock.run()
        assert stage.shown == [b"one"] and sent == []
        gate.arrive(b"three")
        clock.run()
        assert gate.keeps == 0

    def test_a_prefix_is_shown_and_not_sent(self) -> None:
        gate, stage, _, clock, sent = datagram_gate(prefix=b"word")
        gate.arrive(b"packet")
        clock.run()
        gate.let(10)
        assert (stage.shown, sent) == ([b"wordpacket"], [b"packet"])

    def test_an_open_one_keeps_the_order(self) -> None:
        gate, stage, _, clock, sent = datagram_gate(held=False)
        gate.arrive(b"one")
        gate.arrive(b"two")
        clock.run()
        assert sent == [b"one", b"two"] and stage.shown == [] and gate.is_open

    def test_what_is_too_much_is_lost(self) -> None:
        gate, _, _, clock, _ = datagram_gate()
        for _ in range(MOST_UNITS + 5):
            gate.arrive(b"x")
        clock.run()
        assert (gate.keeps, gate.lost) == (MOST_UNITS, 5)
        big, _, _, clock, _ = datagram_gate()
        big.arrive(bytes(MOST_KEPT))
        big.arrive(b"x")
        assert (big.keeps, big.lost) == (1, 1)
