"""The engine's loop: what is called, in which order, and that one fault stays one. Time is a number of the test's."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.linux.reactor import EDGE, HANGUP, PEER_CLOSED, READ, WRITE, Reactor

Trace = list[object]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class World:
    """A reactor, its clock, and what was said to `on_error`."""

    def __init__(self) -> None:
        self.clock, self.errors = Clock(), list[str]()
        self.reactor = Reactor(self.clock, lambda error: self.errors.append(str(error)))
        self.pipes: list[int] = []

    def pipe(self, content: bytes = b"") -> tuple[int, int]:
        """A pipe with something in it."""
        ends = os.pipe2(os.O_NONBLOCK)
        self.pipes += ends
        os.write(ends[1], content)
        return ends

    def run_batches(self, count: int) -> None:
        """Let so many batches of events come, without waiting for any."""
        left = [count]

        def again() -> None:
            left[0] -= 1
            if left[0] > 0:
                self.reactor.call_soon(again)
            else:
                self.reactor.stop()

        self.reactor.call_soon(again)
        self.reactor.run()

    def run_at(self, now: float) -> None:
        """One batch at a time of the day."""
        self.clock.now = 100.0 + now
        self.run_batches(1)

    def close(self) -> None:
        self.reactor.close()
        for end in self.pipes:
            try:
                os.close(end)
            except OSError:
                continue


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def failing(text: str) -> Callable[[], None]:
    def fail() -> None:
        raise ValueError(text)

    return fail


class TestTimers:
    def test_they_fire_in_the_order_of_their_times(self, world: World) -> None:
        trace: Trace = []
        for delay in (3, 1, 2):
            world.reactor.call_later(delay, partial(trace.append, delay))
        world.run_at(0.9)
        assert trace == []
        world.run_at(1)
        assert trace == [1]
        world.run_at(10)
        assert trace == [1, 2, 3]
        world.run_at(20)
        assert trace == [1, 2, 3]

    def test_a_cancelled_one_never_fires(self, world: World) -> None:
        trace: Trace = []
        first, second, _ = (world.reactor.call_later(delay, partial(trace.append, delay)) for delay in (1, 2, 3))
        second.cancel()
        second.cancel()
        world.run_at(5)
        first.cancel()  # it has fired: nothing to take back
        assert trace == [1, 3]

    def test_one_cancels_another_of_the_same_batch(self, world: World) -> None:
        trace: Trace = []
        world.reactor.call_later(1, lambda: later.cancel())
        later = world.reactor.call_later(2, lambda: trace.append("late"))
        world.run_at(5)
        assert trace == []

    def test_one_that_schedules_itself_comes_once_a_batch(self, world: World) -> None:
        trace: Trace = []

        def tick() -> None:
            trace.append(world.clock.now)
            world.reactor.call_later(1, tick)

        tick()
        for now in (0.5, 1, 1.5, 2, 10):
            world.run_at(now)
        assert trace == [100, 101, 102, 110]

    def test_a_cancelled_one_wakes_nobody(self) -> None:
        """With a clock that runs: the loop waits for the next one that counts, however many were cancelled."""
        reactor, batches = Reactor(time.monotonic, lambda error: None), list[int]()
        reactor.after_each_batch(lambda: batches.append(1))
        for _ in range(100):
            reactor.call_later(0.001, lambda: None).cancel()
        reactor.call_later(0.01, reactor.stop)
        reactor.run()
        assert len(batches) <= 2  # epoll counts whole milliseconds, and may come a moment early
        reactor.close()

    @given(
        st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30), st.lists(st.integers(0, 60), max_size=5)
    )
    def test_any_schedule(self, schedule: list[tuple[int, bool]], looks: list[int]) -> None:
        world, fired = World(), list[int]()
        for delay, cancelled in schedule:
            timer = world.reactor.call_later(delay, partial(fired.append, delay))
            if cancelled:
                timer.cancel()
        for look in sorted(looks):
            world.run_at(look)
            assert fired == sorted(delay for delay, cancelled in schedule if not cancelled and delay <= look)
        world.close()


class TestEvents:
    def test_a_level_is_told_again_and_again_an_edge_once(self, world: World) -> None:
        trace: Trace = []
        (level, _), (edge, writer) = world.pipe(b"x"), world.pipe(b"x")
        world.reactor.register(level, READ, lambda events: trace.append("level"))
        world.reactor.register(edge, READ | EDGE, lambda events: trace.append("edge"))
        world.run_batches(3)
        assert sorted(map(str, trace)) == ["edge", "level", "level", "level"]
        os.write(writer, b"y")
        world.run_batches(1)
        assert trace.count("edge") == 2

    def test_the_handler_gets_the_events(self, world: World) -> None:
        trace: list[int] = []
        near, far = socket.socketpair()
        with near, far:
            world.reactor.register(near.fileno(), READ | WRITE | PEER_CLOSED | EDGE, trace.append)
            world.run_batches(1)
            far.send(b"x")
            world.run_batches(1)
            far.close()
            world.run_batches(1)
        assert trace == [WRITE, READ | WRITE, READ | WRITE | PEER_CLOSED | HANGUP]

    def test_modify_replace_unregister(self, world: World) -> None:
        trace: Trace = []
        reader, _ = world.pipe(b"x")
        world.reactor.register(reader, 0, lambda events: trace.append("first"))
        world.run_batches(1)
        world.reactor.modify(reader, READ)
        world.run_batches(1)
        world.reactor.replace(reader, READ, lambda events: trace.append("second"))
        world.run_batches(1)
        world.reactor.unregister(reader)
        world.run_batches(1)
        assert trace == ["first", "second"]

    def test_unregister_is_harmless_when_there_is_nothing(self, world: World) -> None:
        reader, _ = world.pipe()
        world.reactor.unregister(reader)
        world.reactor.register(reader, READ, lambda events: None)
        os.close(reader)
        world.reactor.unregister(reader)
        world.reactor.unregister(reader)

    def test_registering_twice_or_what_is_closed_is_told(self, world: World) -> None:
        reader, _ = world.pipe()
        world.reactor.register(reader, READ, lambda events: None)
        with pytest.raises(FileExistsError):
            world.reactor.register(reader, READ, lambda events: None)
        world.reactor.unregister(reader)
        os.close(reader)
        with pytest.raises(OSError, match="Bad file descriptor"):
            world.reactor.register(reader, READ, lambda events: None)

    def test_unregistered_by_a_handler_of_the_same_batch(self, world: World) -> None:
        """Both are ready; whoever comes first takes the other away, and the other is not called."""
        trace: Trace = []
        (one, _), (two, _) = world.pipe(b"x"), world.pipe(b"x")
        for mine, other in ((one, two), (two, one)):

            def handle(events: int, mine: int = mine, other: int = other) -> None:
                trace.append(mine)
                world.reactor.unregister(other)

            world.reactor.register(mine, READ, handle)
        world.run_batches(1)
        assert len(trace) == 1

    def test_a_reused_number_gets_no_event_of_its_predecessor(self, world: World) -> None:
        """As above, and a new descriptor gets the number at once: its first event comes with the next batch."""
        trace: Trace = []
        (one, _), (two, _), (idle, writer) = world.pipe(b"x"), world.pipe(b"x"), world.pipe()
        for mine, other in ((one, two), (two, one)):

            def handle(events: int, mine: int = mine, other: int = other) -> None:
                if trace:
                    return
                trace.append("old")
                world.reactor.unregister(mine)
                world.reactor.unregister(other)
                os.dup2(idle, other)
                world.reactor.register(other, READ, lambda events: trace.append("new"))

            world.reactor.register(mine, READ, handle)
        world.run_batches(2)
        assert trace == ["old"]
        os.write(writer, b"x")
        world.run_batches(1)
        assert trace == ["old", "new"]

    def test_the_same_descriptor_again_within_a_batch(self, world: World) -> None:
        """What a handler registers anew is called in the next batch."""
        trace: Trace = []
        reader, _ = world.pipe(b"x")

        def handle(events: int) -> None:
            trace.append("first")
            world.reactor.unregister(reader)
            world.reactor.register(reader, READ | EDGE, lambda events: trace.append("second"))

        world.reactor.register(reader, READ, handle)
        world.run_batches(1)
        assert trace == ["first"]
        world.run_batches(1)
        assert trace == ["first", "second"]


class TestOrder:
    def test_events_then_call_soon_then_timers_then_the_batch_ends(self, world: World) -> None:
        trace: Trace = []
        reader, _ = world.pipe(b"x")
        world.reactor.after_each_batch(lambda: trace.append("end"))
        world.reactor.call_later(0, lambda: trace.append("timer"))
        world.reactor.call_soon(lambda: trace.append("soon"))
        world.reactor.register(reader, READ | EDGE, lambda events: trace.append("event"))
        world.run_batches(1)
        assert trace == ["event", "soon", "timer", "end"]

    def test_call_soon_from_call_soon_waits_for_the_next_batch(self, world: World) -> None:
        """Else a flow with much to move would keep the events of all others waiting."""
        trace: Trace = []
        reader, _ = world.pipe(b"x")
        world.reactor.register(reader, READ, lambda events: trace.append("event"))

        def again() -> None:
            trace.append("soon")
            world.reactor.call_soon(again)

        world.reactor.call_soon(again)
        world.run_batches(3)
        assert trace == ["event", "soon"] * 3

    def test_stop_lets_the_batch_end(self, world: World) -> None:
        trace: Trace = []
        (one, _), (two, _) = world.pipe(b"x"), world.pipe(b"x")

        def handle(events: int) -> None:
            trace.append("event")
            world.reactor.stop()

        world.reactor.register(one, READ, handle)
        world.reactor.register(two, READ, handle)
        world.reactor.after_each_batch(lambda: trace.append("end"))
        world.reactor.run()
        assert trace == ["event", "event", "end"]

    def test_it_can_run_again(self, world: World) -> None:
        trace: Trace = []
        for number in range(3):
            world.reactor.call_soon(partial(trace.append, number))
            world.run_batches(1)
        assert trace == [0, 1, 2]


class TestFaults:
    def test_of_one_handler_stop_no_other(self, world: World) -> None:
        trace: Trace = []

        def fail(events: int) -> None:
            raise ValueError("event")

        for end, _ in (world.pipe(b"x"), world.pipe(b"x"), world.pipe(b"x")):
            world.reactor.register(end, READ | EDGE, fail)
        good, _ = world.pipe(b"x")
        world.reactor.register(good, READ | EDGE, lambda events: trace.append("event"))
        world.run_batches(1)
        assert trace == ["event"] and world.errors == ["event"] * 3

    def test_of_timers_calls_and_ends_of_batches_stop_no_other(self, world: World) -> None:
        trace: Trace = []
        world.reactor.call_later(0, failing("timer"))
        world.reactor.call_later(1, lambda: trace.append("timer"))
        world.reactor.call_soon(failing("soon"))
        world.reactor.call_soon(lambda: trace.append("soon"))
        world.reactor.after_each_batch(failing("end"))
        world.reactor.after_each_batch(lambda: trace.append("end"))
        world.run_at(1)
        assert trace == ["soon", "timer", "end"] and world.errors == ["soon", "timer", "end"]

    def test_guard_is_for_the_parts_of_a_batch(self, world: World) -> None:
        trace: Trace = []
        world.reactor.guard(failing("one of many"))
        world.reactor.guard(lambda: trace.append("another"))
        assert trace == ["another"] and world.errors == ["one of many"]

    def test_control_c_is_no_fault(self, world: World) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        world.reactor.call_soon(interrupt)
        with pytest.raises(KeyboardInterrupt):
            world.reactor.run()
        assert world.errors == []
