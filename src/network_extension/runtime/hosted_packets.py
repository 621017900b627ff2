"""The packets of a packet filter, in its own process (NEFilterPacketProvider, reference §2.18).

A packet that the filter delays is a `Packet`, which the provider holds: the packet is dropped when the last reference
to it goes, and let go by `allow_packet`.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Awaitable
from functools import partial
from typing import Any

from ..content_filter import FilterPacketProvider, Packet
from ..errors import ProviderError
from ..filter_verdicts import FilterPacketVerdict
from ..rules import Direction
from .filter_wire import PACKET, PACKET_ALLOW, PACKET_VERDICT, pack_failure, pack_plain
from .hosted_flow import FlowsOwner
from .loader import one_line

_DIRECTIONS = {int(direction): direction for direction in Direction}


class PacketContext:
    """What `handle_packet` gets as its context: valid until it has returned."""

    __slots__ = ("_data", "_direction", "_interface", "delayed", "number", "over")

    def __init__(self, number: int, interface: str, direction: Direction, data: bytes) -> None:
        self.number, self._interface, self._direction, self._data = number, interface, direction, data
        self.delayed: Packet | None = None
        self.over = False

    def packet(self) -> Packet:
        """The packet, to be kept."""
        return Packet(self.number, self._data, self._direction, self._interface)


class HostedPackets:
    """All packets of one packet filter."""

    def __init__(self, owner: FlowsOwner, provider: FilterPacketProvider) -> None:
        self._owner, self._provider = owner, provider
        self._delayed: dict[int, weakref.finalize[Any, Packet]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._contexts: dict[int, PacketContext] = {}

    def packet(self, event: tuple[Any, ...]) -> None:
        """PACKET: ask about one."""
        _, number, interface, direction, data = event
        context = PacketContext(number, interface, _DIRECTIONS[direction], data)
        try:
            answer = self._provider.handle_packet(context, interface, context._direction, data)
        except Exception as error:
            self._fail(context, f"handle_packet raised {one_line(error)}", error)
            return
        if inspect.isawaitable(answer):
            task = self._owner.loop.create_task(_wait_for(answer), name=f"handle_packet {number}")
            self._tasks.add(task)
            task.add_done_callback(partial(self._returned, context))
        else:
            self._answered(context, answer)

    def delay(self, context: object) -> Packet:
        """Keep the packet that is being handled. Raises ProviderError."""
        if not isinstance(context, PacketContext):
            raise ProviderError(f"delay_current_packet: not a context of handle_packet: {type(context).__name__}")
        if context.over:
            raise ProviderError("delay_current_packet: valid within handle_packet only, which has returned")
        if context.delayed is None:
            packet = context.delayed = context.packet()
            finalizer = weakref.finalize(packet, self._dropped, context.number)
            finalizer.atexit = False
            self._delayed[context.number] = finalizer
        return context.delayed

    def allow(self, packet: Packet) -> None:
        """Let a delayed packet go. Raises ProviderError for one that was let go already."""
        if not isinstance(packet, Packet):
            raise ProviderError(f"allow_packet: a Packet is needed, not {type(packet).__name__}")
        finalizer = self._delayed.get(packet.identifier)
        found = finalizer.peek() if finalizer is not None else None
        if finalizer is None or found is None or found[0] is not packet:
            raise ProviderError("allow_packet: the packet is not delayed: it was let go, or the engine has ended")
        finalizer.detach()
        del self._delayed[packet.identifier]
        self._owner.answer(pack_plain(PACKET_ALLOW, packet.identifier))

    def end_all(self) -> None:
        """The engine has gone, and the packets with it."""
        delayed, self._delayed = list(self._delayed.values()), {}
        for finalizer in delayed:
            finalizer.detach()

    def _returned(self, context: PacketContext, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._fail(context, f"handle_packet raised {one_line(error)}", error)
        else:
            self._answered(context, task.result())

    def _answered(self, context: PacketContext, answer: object) -> None:
        context.over = True
        if not isinstance(answer, FilterPacketVerdict):
            what = "None" if answer is None else type(answer).__name__
            self._fail(context, f"handle_packet returned {what}; a FilterPacketVerdict is needed", None)
        elif answer is FilterPacketVerdict.DELAY and context.delayed is None:
            self._fail(context, "handle_packet returned DELAY without delay_current_packet(context)", None)
        else:
            if answer is not FilterPacketVerdict.DELAY:
                self._forget(context)
            # First the verdict: the last reference may go with the context, which says that it is dropped.
            self._owner.answer(pack_plain(PACKET_VERDICT, context.number, int(answer)))
        context.delayed = None

    def _fail(self, context: PacketContext, text: str, error: BaseException | None) -> None:
        context.over = True
        self._forget(context)
        context.delayed = None
        self._owner.log("error", f"packet of {context._interface}: {text}", error)
        self._owner.answer(pack_failure(PACKET, context.number, text))

    def _forget(self, context: PacketContext) -> None:
        finalizer = self._delayed.pop(context.number, None)
        if finalizer is not None:
            finalizer.detach()

    def _dropped(self, number: int) -> None:
        """The last reference to a delayed packet has gone; in which thread, nobody knows."""
        if self._delayed.pop(number, None) is not None and not self._owner.loop.is_closed():
            record = pack_plain(PACKET_VERDICT, number, int(FilterPacketVerdict.DROP))
            self._owner.loop.call_soon_threadsafe(self._owner.answer, record)


async def _wait_for(answer: Awaitable[Any]) -> Any:
    return await answer
