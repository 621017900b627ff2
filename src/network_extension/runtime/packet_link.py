"""Packet filters, the engine's side: each packet goes to every packet filter in order, and all must allow it.

    ASKED ──allow──▶ the next filter ──▶ … ──▶ done(ALLOW)
      │ ├──drop──▶ done(DROP)
      │ └──delay──▶ DELAYED ──allow_packet──▶ the next filter      (the last reference has gone: done(DROP))
      └── trouble ──▶ the policy: open lets it go on, closed drops it

Trouble is a filter that is starting, has died, raised, gave no answer in time, or has as many packets as it may have.
A delayed packet has no deadline, as Apple's has none; the bound on their number holds for them too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..core.flow_decision import Policy, ProviderState
from ..filter_verdicts import FilterGrade, FilterPacketVerdict
from ..linux.reactor import Reactor, Timer
from ..rules import Direction
from . import filter_wire
from .channel import Channel
from .filter_hello import FilterHello
from .filter_link import FilterLink
from .filter_wire import Answer

if TYPE_CHECKING:
    from .filtered_flow import FilteredFlow

MOST_PACKETS = 4096
"""Packets that one filter has at a time, delayed ones included."""
ALLOW, DROP, DELAY = FilterPacketVerdict.ALLOW, FilterPacketVerdict.DROP, FilterPacketVerdict.DELAY

Done = Callable[[FilterPacketVerdict], None]


class _Asked(NamedTuple):
    """A packet that a filter has."""

    done: Done
    since: float


class PacketFilterLink:
    """One packet filter: its place in the order, and its channel while it has one."""

    def __init__(
        self, reactor: Reactor, index: int, name: str, *, policy: Policy | None = None, deadline: float = 10.0
    ) -> None:
        self.index, self.name, self.kind = index, name, "filter-packet"
        self.grade = FilterGrade.FIREWALL
        self.state = ProviderState.STARTING
        self.policy = policy or Policy.OPEN
        self._reactor, self._deadline = reactor, deadline
        self._link: FilterLink | None = None
        self._number = 0
        self._asked: dict[int, _Asked] = {}
        self._delayed: dict[int, Done] = {}
        self._due: deque[tuple[float, int]] = deque()
        self._timer: Timer | None = None
        self._lost: Callable[[FilterLink, str], None] = lambda link, why: None
        self._running: Callable[[FilterLink], None] = lambda link: None

    def attach(
        self,
        channel: Channel,
        pid: int = 0,
        lost: Callable[[FilterLink, str], None] = lambda link, why: None,
        running: Callable[[FilterLink], None] = lambda link: None,
    ) -> FilterLink:
        """The filter's process has a channel."""
        if self._link is not None:
            self._link.end("its process was replaced")
        self.state = ProviderState.STARTING
        self._lost, self._running = lost, running
        self._link = FilterLink(self._reactor, self, self, self.kind, channel, pid)
        return self._link

    def decide(self, packet: bytes, interface: str, direction: Direction, done: Done) -> None:
        """Ask about one packet, which begins with its IP header. `done(ALLOW or DROP)` follows, maybe at once."""
        link = self._link
        full = len(self._asked) + len(self._delayed) >= MOST_PACKETS
        if link is None or self.state is not ProviderState.RUNNING or full or not link.has_room:
            done(self._by_policy)
            return
        self._number += 1
        now = self._reactor.clock()
        self._asked[self._number] = _Asked(done, now)
        self._due.append((now + self._deadline, self._number))
        if self._timer is None:
            self._timer = self._reactor.call_later(self._deadline, self._time)
        link.packet(self._number, interface, direction, packet)

    @property
    def in_flight(self) -> int:
        """Packets that the filter has."""
        return len(self._asked) + len(self._delayed)

    @property
    def _by_policy(self) -> FilterPacketVerdict:
        return DROP if self.policy is Policy.CLOSED else ALLOW

    def flush(self) -> None:
        """Send what was collected."""
        if self._link is not None:
            self._link.flush()

    def end(self, why: str) -> None:
        """The provider does not belong to the run any more."""
        if self._link is not None:
            self._link.end(why)

    # What the link says

    def greeted(self, link: FilterLink, hello: FilterHello) -> None:
        """HELLO."""
        if link is not self._link:
            return
        self.grade = hello.grade
        if self.state is ProviderState.STARTING:
            self.state = ProviderState.RUNNING
            self._running(link)

    def answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow | None) -> None:
        """A verdict, or a delayed packet is let go. What is not known any more was decided by the deadline."""
        number = answer.number
        if answer.op == filter_wire.PACKET_ALLOW:
            if (waiting := self._delayed.pop(number, None)) is not None:
                waiting(ALLOW)
            return
        if answer.op == filter_wire.PACKET_VERDICT and answer.value == DROP and number in self._delayed:
            self._delayed.pop(number)(DROP)
            return
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        if answer.op == filter_wire.PACKET_VERDICT and answer.value in (ALLOW, DROP):
            asked.done(FilterPacketVerdict(answer.value))
        elif answer.op == filter_wire.PACKET_VERDICT and answer.value == DELAY:
            self._delayed[number] = asked.done
        else:
            asked.done(self._by_policy)

    def link_ended(self, link: FilterLink, flows: list[FilteredFlow], why: str) -> None:
        """The policy decides what the filter had."""
        if link is not self._link:
            return
        self._link, self.state = None, ProviderState.DEAD
        waiting = [asked.done for asked in self._asked.values()] + list(self._delayed.values())
        self._asked.clear()
        self._delayed.clear()
        self._due.clear()
        self._lost(link, why)
        for done in waiting:
            self._reactor.guard(partial(done, self._by_policy))

    def _time(self) -> None:
        """Packets that got no answer in time."""
        now, due = self._reactor.clock(), self._due
        while due and (due[0][0] <= now or due[0][1] not in self._asked):
            asked = self._asked.pop(due.popleft()[1], None)
            if asked is not None:
                self._reactor.guard(partial(asked.done, self._by_policy))
        self._timer = self._reactor.call_later(max(0.0, due[0][0] - now), self._time) if due else None


class PacketFilters:
    """All packet filters of a run."""

    def __init__(self, reactor: Reactor, *, deadline: float, policy: Policy | None) -> None:
        self._reactor, self._deadline, self._policy = reactor, deadline, policy
        self._filters: dict[int, PacketFilterLink] = {}

    def __bool__(self) -> bool:
        return bool(self._filters)

    def expect(self, index: int, name: str) -> PacketFilterLink:
        """A packet filter belongs to the run; until it is attached, its policy decides."""
        found = self._filters.get(index)
        if found is None:
            found = PacketFilterLink(self._reactor, index, name, policy=self._policy, deadline=self._deadline)
            self._filters[index] = found
        found.name = name or found.name
        return found

    def get(self, index: int) -> PacketFilterLink | None:
        """The packet filter at a place in the run."""
        return self._filters.get(index)

    def forget(self, index: int) -> None:
        """It does not belong to the run any more."""
        if (found := self._filters.pop(index, None)) is not None:
            found.end("it was removed")

    def flush(self) -> None:
        """Send what was collected."""
        for found in list(self._filters.values()):
            found.flush()

    def decide(self, packet: bytes, interface: str, direction: Direction, done: Done) -> None:
        """Ask every packet filter in order, firewalls first; `done(ALLOW or DROP)` follows, maybe at once."""
        order = sorted(self._filters.values(), key=lambda one: (one.grade, one.index))
        self._ask(deque(order), packet, interface, direction, done)

    def _ask(
        self, left: deque[PacketFilterLink], packet: bytes, interface: str, direction: Direction, done: Done
    ) -> None:
        if not left:
            done(ALLOW)
            return

        def answered(verdict: FilterPacketVerdict) -> None:
            if verdict is ALLOW:
                self._ask(left, packet, interface, direction, done)
            else:
                done(DROP)

        left.popleft().decide(packet, interface, direction, answered)
