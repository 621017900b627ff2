"""A filter's end of its channel, in the provider's process: events of the engine become calls, answers go back.

It is also the stage that the provider sees (`content_filter.FilterStage`). One host serves the provider for all its
life; channels come and go with the engine's process.

The engine may ask 10,000 times a second, so this is a hot path: many events arrive in one packet, the answers of one
turn of the event loop leave in one packet, and a callback that is no coroutine costs no task.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..content_filter import (
    FilterControlProvider,
    FilterPacketProvider,
    FilterProvider,
    Packet,
)
from ..filter_flow import FilterFlow
from ..filter_settings import FilterSettings
from ..filter_verdicts import FilterDataVerdict, FilterGrade, FilterVerdict
from ..network_settings import TunnelNetworkSettings
from ..rules import Direction
from . import filter_wire
from .channel import Channel
from .filter_hello import MAX_MAP, MAX_MAP_TEXT, ControlMaps, FilterHello, pack_filter_hello
from .filter_wire import EventReader, pack_answers, pack_plain
from .hosted_flows import HostedFlows
from .hosted_packets import HostedPackets
from .wire import MessageType, WireError, decode, encode, int_field

BATCH = 8
"""Packets that are read at a time; each may hold hundreds of events."""
MOST_PATIENCE = 30.0
"""Seconds that a thread of the author's waits for the event loop."""
LONGEST_WAIT = 0.005
"""Seconds that an answer waits for others of its batch, where callbacks are slow."""


class HostOwner(Protocol):
    """What a filter's host needs of the process that it is in."""

    def log(self, level: str, text: str, error: BaseException | None = None) -> None:
        """One line for the log; the traceback of `error` goes along where debugging is on."""

    def cancel(self, error: BaseException | None) -> None:
        """The provider ends itself."""


class FilterHost:
    """Serves one filter provider."""

    def __init__(self, provider: FilterProvider, owner: HostOwner) -> None:
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._provider, self._owner = provider, owner
        self._name = type(provider).__name__
        self._settings: FilterSettings | None = None
        self._serial = 0
        self._unheld: dict[int, asyncio.Future[None]] = {}
        self._channel: Channel | None = None
        self._reader = EventReader()
        self._records: list[bytes] = []
        self._flushing = self._writing = False
        self._told: ControlMaps | None = None
        self._complained: set[str] = set()
        self.flows = HostedFlows(self, provider)
        self._packets = HostedPackets(self, provider) if isinstance(provider, FilterPacketProvider) else None
        self._events: dict[int, Callable[[tuple[Any, ...]], None]] = self._table()

    def _table(self) -> dict[int, Callable[[tuple[Any, ...]], None]]:
        flows = self.flows
        if self._packets is not None:
            return {filter_wire.PACKET: self._packets.packet}
        return {
            filter_wire.NEW: flows.new,
            filter_wire.CONTROL: flows.new,
            filter_wire.CONTROL_REMEDIATION: flows.new,
            filter_wire.DATA_OUT: flows.data,
            filter_wire.DATA_IN: flows.data,
            filter_wire.COMPLETE_OUT: flows.question,
            filter_wire.COMPLETE_IN: flows.question,
            filter_wire.REMEDIATION: flows.new,
            filter_wire.ABOUT: flows.about,
            filter_wire.REPORT: flows.report,
            filter_wire.GONE: flows.gone,
            filter_wire.RULES_CHANGED: flows.rules_changed,
            filter_wire.PROCESS: flows.process,
        }

    # The stage that the provider sees

    def apply_settings(self, settings: TunnelNetworkSettings | None) -> None:
        """Of proxies only."""
        raise TypeError("a filter has FilterSettings: use apply_settings")

    async def apply_filter_settings(self, settings: FilterSettings | None) -> None:
        """Done when the engine has them in force: for every flow that begins later. Before the first channel, and
        without an engine, that is so at once: they are the first thing that the engine is told."""
        self._settings = settings
        if self._channel is None:
            return
        held = self._unheld[self._serial + 1] = self.loop.create_future()
        self._say_hello()
        await held

    def resume_flow(self, flow: FilterFlow, verdict: FilterVerdict) -> None:
        """End a pause."""
        self._in_loop(self.flows.resume, flow, verdict)

    def update_flow(self, flow: FilterFlow, verdict: FilterDataVerdict, direction: Direction) -> None:
        """Change a flow's verdict from outside of a callback."""
        self._in_loop(self.flows.update, flow, verdict, direction)

    def notify_rules_changed(self) -> None:
        """A control provider changed its data providers' rules, and maybe its maps."""
        self._in_loop(self.answer, pack_plain(filter_wire.NOTIFY_RULES, 0))

    def delay_current_packet(self, context: object) -> Packet:
        """Keep the packet that is being handled."""
        assert self._packets is not None
        return self._packets.delay(context)

    def allow_packet(self, packet: Packet) -> None:
        """Let a delayed packet go."""
        assert self._packets is not None
        self._in_loop(self._packets.allow, packet)

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """Authors answer from threads too: what they ask for is done in the event loop, and its errors are theirs."""
        if threading.get_ident() == self._thread:
            call(*arguments)
            return
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.loop.call_soon_threadsafe(_fulfil, done, call, *arguments)
        done.result(MOST_PATIENCE)

    def cancel(self, error: BaseException | None) -> None:
        """The provider ends itself."""
        self._owner.cancel(error)

    def log(self, level: str, text: str, error: BaseException | None = None) -> None:
        """One line for the log."""
        self._owner.log(level, text, error)

    # The channel

    def link_up(self, sock: socket.socket) -> None:
        """A new channel, in place of the old one: the engine is there, or there again."""
        self.close()
        self._channel, self._reader = Channel(sock), EventReader()
        self.loop.add_reader(sock.fileno(), self._readable)
        self._say_hello()

    def close(self) -> None:
        """End the channel, and every flow that came through it."""
        if self._channel is not None and not self._channel.eof:
            self._flush()
        channel, self._channel = self._channel, None
        if channel is None:
            return
        self.loop.remove_reader(channel.fileno())
        self.loop.remove_writer(channel.fileno())
        channel.close()
        self._writing = False
        self._records.clear()
        self._held(self._serial)
        self.flows.end_all()
        if self._packets is not None:
            self._packets.end_all()

    def answer(self, record: bytes) -> None:
        """Send a record to the engine, with others of this turn of the event loop."""
        if self._provider.kind == "filter-control":
            self._tell_maps()  # what the verdict is about may be in them
        self._records.append(record)
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        records, self._records = self._records, []
        if records:
            self._send(pack_answers(records))

    def _send(self, packets: list[bytes], fds: list[int] | None = None) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            for packet in packets:
                channel.send_packet(packet, fds or ())
        except (WireError, OSError) as error:
            self.log("error", f"flow channel: nothing can be sent: {error}")
            channel.eof = True
            self.close()
            return
        if channel.wants_write and not self._writing:
            self._writing = True
            self.loop.add_writer(channel.fileno(), self._writable)

    def _writable(self) -> None:
        channel = self._channel
        assert channel is not None
        channel.flush()
        if not channel.wants_write:
            self._writing = False
            self.loop.remove_writer(channel.fileno())

    def _readable(self) -> None:
        channel = self._channel
        assert channel is not None
        self._flushing = True  # answers leave at the end of each packet
        try:
            for packet, fds in channel.receive_packets(BATCH):
                for fd in fds:
                    os.close(fd)
                if self._channel is channel:
                    self._packet(packet)
                    self._flush()
                    self._flushing = True
        except (WireError, OSError) as error:
            self.log("error", f"flow channel: {error}")
            self.close()
        finally:
            self._flushing = False
        if channel.eof and self._channel is channel:
            self.close()

    def _packet(self, packet: bytes) -> None:
        events = self._reader.feed(packet)
        if events is None:
            kind, _, body = decode(packet)
            if kind is MessageType.SETTINGS_HELD:
                self._held(int_field(body, "serial"))
            return
        table, clock = self._events, time.monotonic
        since = clock()
        for event in events:
            handler = table.get(event[0])
            if handler is not None:
                handler(event)
            if clock() - since > LONGEST_WAIT:
                self._flush()
                since = clock()

    # Settings

    def _say_hello(self) -> None:
        """Who we are, and what holds."""
        self._serial += 1
        self._told = maps = self._maps()
        hello = FilterHello(self._name, self._provider.kind, self._grade, self._settings, maps, self._serial)
        body, fds = pack_filter_hello(hello)
        try:
            self._send([encode(MessageType.HELLO, 0, body)], fds)
        finally:
            for fd in fds:
                os.close(fd)

    @property
    def _grade(self) -> FilterGrade:
        grade = getattr(self._provider, "grade", FilterGrade.FIREWALL)
        try:
            return FilterGrade(grade)
        except ValueError:
            self.log("error", f"{self._name}.grade: {grade!r} is no FilterGrade; it counts as a firewall")
            return FilterGrade.FIREWALL

    def _tell_maps(self) -> None:
        if self._channel is not None and self._maps() != self._told:
            self._say_hello()

    def _maps(self) -> ControlMaps:
        """A control provider's maps as they are now."""
        provider = self._provider
        if not isinstance(provider, FilterControlProvider):
            return ControlMaps()
        remediation, configuration = provider.remediation_map, provider.filter_configuration
        parts = remediation if isinstance(remediation, Mapping) else {}
        return ControlMaps(
            self._texts("remediation_map[RemediationURLs]", parts.get("RemediationURLs")),
            self._texts("remediation_map[RemediationButtonTexts]", parts.get("RemediationButtonTexts")),
            self._texts("url_append_string_map", provider.url_append_string_map),
            str(configuration.get("organization", ""))[:MAX_MAP_TEXT],
            str(configuration.get("username", ""))[:MAX_MAP_TEXT],
        )

    def _texts(self, name: str, data: object) -> dict[str, str]:
        """The entries of a map that are texts; what else is in it is said once, and left out."""
        if data is None:
            return {}
        given = data if isinstance(data, Mapping) else {}
        texts = {key: value for key, value in given.items() if isinstance(key, str) and isinstance(value, str)}
        texts = {key: value for key, value in list(texts.items())[:MAX_MAP] if len(value) <= MAX_MAP_TEXT}
        if (len(texts) != len(given) or given is not data) and name not in self._complained:
            self._complained.add(name)
            self.log("error", f"{name}: not all of it is used: {{text: text}} is needed, {MAX_MAP} entries at most")
        return texts

    def _held(self, serial: int) -> None:
        """The engine has our settings in force, up to this HELLO."""
        for number in [number for number in self._unheld if number <= serial]:
            future = self._unheld.pop(number)
            if not future.done():
                future.set_result(None)


def _fulfil(done: concurrent.futures.Future[None], call: Callable[..., None], *arguments: object) -> None:
    try:
        call(*arguments)
    except Exception as error:
        done.set_exception(error)
    else:
        done.set_result(None)
