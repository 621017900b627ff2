"""Which filters belong to a run, in which order they are asked, and how each of them is: the filter stage's roster."""

from __future__ import annotations

from collections.abc import Callable

from ..core.filter_decision import FilterSlot
from ..core.filter_rule_matching import FilterRuleMatcher
from ..core.flow_decision import Policy, ProviderState
from ..linux.reactor import Reactor
from .channel import Channel
from .filter_hello import ControlMaps, FilterHello
from .filter_link import FilterLink
from .filter_wire import Answer
from .filtered_flow import FilteredFlow
from .packet_link import PacketFilterLink, PacketFilters

DATA, CONTROL, PACKET = "filter-data", "filter-control", "filter-packet"

Lost = Callable[[FilterLink, str], None]
Running = Callable[[FilterLink], None]


class ControlSlot:
    """The slot of a control provider, which is asked for no flows of its own."""

    __slots__ = ("index", "kind", "name", "policy", "state")

    def __init__(self, index: int, name: str, policy: Policy | None = None) -> None:
        self.index, self.name, self.kind, self.policy = index, name, CONTROL, policy or Policy.OPEN
        self.state = ProviderState.STARTING


class FilterRoster:
    """The filters of a run. What they say about flows is for a subclass, the stage."""

    def __init__(self, reactor: Reactor, *, deadline: float, policy: Policy | None) -> None:
        self._reactor, self._policy = reactor, policy
        self._slots: dict[int, FilterSlot | ControlSlot] = {}
        self._order: tuple[FilterSlot, ...] = ()
        self._links: dict[int, FilterLink] = {}
        self._callbacks: dict[int, tuple[Lost, Running]] = {}
        self.packets = PacketFilters(reactor, deadline=deadline, policy=policy)
        """The packet filters of the run: `packets.decide(…)`; false where there are none."""
        reactor.after_each_batch(self.flush)

    @property
    def has_filters(self) -> bool:
        """Whether any provider that decides flows belongs to the run, in whatever state."""
        return bool(self._order)

    @property
    def wants_loopback(self) -> bool:
        """Whether any filter's rules can match loopback flows, which pass unasked otherwise."""
        return any(slot.matcher is not None and slot.matcher.names_loopback for slot in self._order)

    def expect(self, index: int, name: str, kind: str) -> FilterSlot | ControlSlot | PacketFilterLink:
        """A provider of this kind belongs to the run; until it is attached its flows get what STARTING gets."""
        if kind == PACKET:
            return self.packets.expect(index, name)
        slot = self._slots.get(index)
        if slot is None or slot.kind != kind:
            make = FilterSlot(index, name, policy=self._policy) if kind == DATA else None
            slot = self._slots[index] = make or ControlSlot(index, name, self._policy)
        slot.name, slot.state = name or slot.name, ProviderState.STARTING
        self._sort()
        return slot

    def attach(
        self,
        index: int,
        name: str,
        kind: str,
        channel: Channel,
        pid: int = 0,
        lost: Lost = lambda link, why: None,
        running: Running = lambda link: None,
    ) -> FilterLink:
        """A filter's process has a channel: `running(link)` when it has greeted, `lost(link, why)` at its end."""
        if (old := self._links.get(index)) is not None:
            old.end("its process was replaced")
        slot = self.expect(index, name, kind)
        if isinstance(slot, PacketFilterLink):
            return slot.attach(channel, pid, lost, running)
        link = FilterLink(self._reactor, self, slot, kind, channel, pid)
        self._links[index], self._callbacks[index] = link, (lost, running)
        return link

    def set_state(self, index: int, state: ProviderState) -> None:
        """What the supervisor says about a filter's process."""
        slot = self._slots.get(index) or self.packets.get(index)
        if slot is not None:
            slot.state = state

    def forget(self, index: int) -> None:
        """The provider does not belong to the run any more."""
        self.packets.forget(index)
        if (link := self._links.get(index)) is not None:
            link.end("it was removed")
        self._slots.pop(index, None)
        self._sort()

    def flush(self) -> None:
        """Send what was collected for the filters; happens after each batch of events by itself."""
        for link in list(self._links.values()):
            link.flush()
        self.packets.flush()

    def _sort(self) -> None:
        """Every firewall before any inspector, in the order of the run within each. Flows keep the order they got."""
        data = [slot for slot in self._slots.values() if isinstance(slot, FilterSlot)]
        self._order = tuple(sorted(data, key=lambda slot: (slot.grade, slot.index)))

    # What links say

    def greeted(self, link: FilterLink, hello: FilterHello) -> None:
        """HELLO: grade and settings hold for every flow from now on."""
        slot = self._slots.get(link.slot.index)
        if slot is None or slot is not link.slot:
            return
        if isinstance(slot, FilterSlot):
            slot.grade = hello.grade
            slot.matcher = FilterRuleMatcher(hello.settings) if hello.settings is not None else None
            self._sort()
        if slot.state is ProviderState.STARTING:
            slot.state = ProviderState.RUNNING
            self._callbacks[slot.index][1](link)

    def link_ended(self, link: FilterLink, flows: list[FilteredFlow], why: str) -> None:
        """The filter is gone, and had these flows."""
        index = link.slot.index
        lost = self._callbacks[index][0]
        if self._links.get(index) is link:  # else the provider is back on another link
            del self._links[index]
            self._slots[index].state = ProviderState.DEAD
        lost(link, why)

    def answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow | None) -> None:
        """The filter has said something, about a flow that it has."""

    # Control providers

    def _nearest_control(self, index: int) -> FilterLink | None:
        """The control provider next to a filter in the order of the run, the one behind it where two are as near."""
        found = [link for link in self._links.values() if link.kind == CONTROL and link.hello is not None]
        return min(found, key=lambda link: (abs(link.slot.index - index), -link.slot.index), default=None)

    def _maps(self, index: int) -> ControlMaps:
        """The maps for block pages and redirects of a filter."""
        link = self._nearest_control(index)
        return link.hello.maps if link is not None and link.hello is not None else ControlMaps()

    def _tell_rules_changed(self) -> None:
        """Before any flow is asked about again, the data providers hear that there are new rules."""
        for link in self._links.values():
            if link.kind == DATA:
                link.rules_changed()
