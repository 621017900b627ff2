"""The content filter providers (NEFilterProvider and its kinds, reference §2.16-2.18): what an author subclasses.

A `FilterDataProvider` sees each flow once, when it begins, and as much of its bytes as it asks for. The kernel carries
what it allowed. Callbacks may be plain methods or coroutines; those of one flow come one after the other, those of
different flows never wait for each other.

    class NoTelemetry(FilterDataProvider):
        def handle_new_flow(self, flow):
            if (flow.remote_hostname or "").endswith(".telemetry.example"):
                return FilterNewFlowVerdict.drop()
            return FilterNewFlowVerdict.allow()
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar, Protocol, final

from .errors import ConfigurationError, ProviderError
from .filter_flow import FilterFlow, FilterReport
from .filter_settings import FilterSettings
from .filter_verdicts import (
    FilterControlVerdict,
    FilterDataVerdict,
    FilterGrade,
    FilterNewFlowVerdict,
    FilterPacketVerdict,
    FilterRemediationVerdict,
    FilterVerdict,
)
from .provider import Provider, StopReason
from .rules import Direction


class FilterStage(Protocol):
    """What a filter provider runs in, beyond what every provider has (`ProviderStage`)."""

    def apply_filter_settings(self, settings: FilterSettings | None) -> Awaitable[None]:
        """Put checked settings into force; done when they are."""

    def resume_flow(self, flow: FilterFlow, verdict: FilterVerdict) -> None:
        """End a pause."""

    def update_flow(self, flow: FilterFlow, verdict: FilterDataVerdict, direction: Direction) -> None:
        """Change a flow's verdict from outside of a callback."""

    def notify_rules_changed(self) -> None:
        """A control provider changed its data providers' rules."""

    def delay_current_packet(self, context: object) -> Packet:
        """Keep the packet that is being handled."""

    def allow_packet(self, packet: Packet) -> None:
        """Let a delayed packet go."""


class FilterProvider(Provider):
    """Base of the filter providers."""

    @property
    def filter_configuration(self) -> Mapping[str, Any]:
        """The configuration (`--config`), as `configuration`."""
        return self.configuration

    async def start_filter(self) -> None:
        """Get ready; flows come after it has returned. An exception means that the filter cannot run."""

    async def stop_filter(self, reason: StopReason) -> None:
        """The session ends."""

    def handle_report(self, report: FilterReport) -> Awaitable[None] | None:
        """What became of a flow whose verdict asked for reports. May be a coroutine."""
        return None

    def explain(self, flow: FilterFlow) -> str | None:
        """Which rule would decide this flow, and how, in one line, without effect; for `netext explain`."""
        return None

    @final
    def _running_stage(self, what: str) -> Any:
        if self._stage is None:
            raise ProviderError(f"{what}: the filter is not running; call it after start_filter was called")
        return self._stage


class FilterDataProvider(FilterProvider):
    """Decides flows. Override `handle_new_flow`, at least.

    `grade` orders several filters: every firewall before any inspector, in the order of the command line within each.
    A flow goes through only if every filter allows it.
    """

    kind: ClassVar[str] = "filter-data"
    grade: FilterGrade = FilterGrade.FIREWALL

    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict | Awaitable[FilterNewFlowVerdict]:
        """Decide a new flow, whose first packet waits. Return soon, or pause it and resume it later."""
        return FilterNewFlowVerdict.allow()

    def handle_outbound_data(
        self, flow: FilterFlow, offset: int, data: bytes
    ) -> FilterDataVerdict | Awaitable[FilterDataVerdict]:
        """Bytes that the program sends, `offset` bytes from the start of that direction; they wait for the verdict.

        For sockets that are neither TCP nor UDP the bytes begin with Apple's four-byte attribute word.
        """
        return FilterDataVerdict.allow()

    def handle_inbound_data(
        self, flow: FilterFlow, offset: int, data: bytes
    ) -> FilterDataVerdict | Awaitable[FilterDataVerdict]:
        """The same for bytes that the program is to receive."""
        return FilterDataVerdict.allow()

    def handle_outbound_data_complete(self, flow: FilterFlow) -> FilterDataVerdict | Awaitable[FilterDataVerdict]:
        """The program has ended its direction: the last verdict about it, allow or drop."""
        return FilterDataVerdict.allow()

    def handle_inbound_data_complete(self, flow: FilterFlow) -> FilterDataVerdict | Awaitable[FilterDataVerdict]:
        """The same for the other direction."""
        return FilterDataVerdict.allow()

    def handle_remediation(self, flow: FilterFlow) -> FilterRemediationVerdict | Awaitable[FilterRemediationVerdict]:
        """The user asked for access on the block page."""
        return FilterRemediationVerdict.need_rules()

    def handle_rules_changed(self) -> Awaitable[None] | None:
        """The control provider has new rules. May be a coroutine."""
        return None

    @final
    async def apply_settings(self, settings: FilterSettings | None) -> None:
        """Put rules into force that decide without a call; None is the default: no rules, all flows are shown.

        Returns when they hold for every flow that begins from now on. Raises ConfigurationError or ProviderError.
        """
        if settings is not None and not isinstance(settings, FilterSettings):
            raise ConfigurationError(f"apply_settings: FilterSettings are needed, not {type(settings).__name__}")
        await self._running_stage("apply_settings").apply_filter_settings(settings)

    @final
    def resume_flow(self, flow: FilterFlow, verdict: FilterNewFlowVerdict | FilterDataVerdict) -> None:
        """End a pause with the verdict that the paused callback would have returned.

        Raises ProviderError when the flow is not paused (or has ended meanwhile).
        """
        self._running_stage("resume_flow").resume_flow(flow, verdict)

    @final
    def update_flow(self, flow: FilterFlow, verdict: FilterDataVerdict, direction: Direction = Direction.ANY) -> None:
        """Change the verdict of a flow at any time: allow, drop or data. A drop is for both directions."""
        self._running_stage("update_flow").update_flow(flow, verdict, direction)


class FilterControlProvider(FilterProvider):
    """Decides what data providers have no rules for, and has network and disk for it (iOS's; here for all)."""

    kind: ClassVar[str] = "filter-control"

    remediation_map: Mapping[str, Mapping[str, str]] = {}
    """{"RemediationURLs": {key: url}, "RemediationButtonTexts": {key: text}}; the URLs may hold NE_FLOW_URL,
    NE_FLOW_HOSTNAME, NE_ORGANIZATION and NE_USERNAME."""
    url_append_string_map: Mapping[str, str] = {}

    def handle_new_flow(self, flow: FilterFlow) -> FilterControlVerdict | Awaitable[FilterControlVerdict]:
        """A data provider answered "need rules"."""
        return FilterControlVerdict.drop()

    def handle_remediation(self, flow: FilterFlow) -> FilterControlVerdict | Awaitable[FilterControlVerdict]:
        """The user asked for access, and the data provider answered "need rules"."""
        return FilterControlVerdict.drop()

    @final
    def notify_rules_changed(self) -> None:
        """Have `handle_rules_changed` called in the data providers."""
        self._running_stage("notify_rules_changed").notify_rules_changed()


class Packet:
    """A packet that a packet filter keeps (NEPacket). When the last reference to it goes, it is dropped."""

    __slots__ = ("data", "direction", "identifier", "interface", "__weakref__")

    def __init__(self, identifier: int, data: bytes, direction: Direction, interface: str) -> None:
        self.identifier = identifier
        self.data = data
        """From the IP header on."""
        self.direction, self.interface = direction, interface


class FilterPacketProvider(FilterProvider):
    """Decides packets. Each costs a call into Python: for what the rules of a data provider cannot say."""

    kind: ClassVar[str] = "filter-packet"
    grade: FilterGrade = FilterGrade.FIREWALL

    def handle_packet(
        self, context: object, interface: str, direction: Direction, data: bytes
    ) -> FilterPacketVerdict | Awaitable[FilterPacketVerdict]:
        """Decide one packet, which begins with its IP header. For DELAY, call `delay_current_packet(context)` first."""
        return FilterPacketVerdict.ALLOW

    @final
    def delay_current_packet(self, context: object) -> Packet:
        """Keep the packet that `handle_packet` was called with; dropping the last reference to it drops it.

        Valid within the handler only: raises ProviderError afterwards.
        """
        packet: Packet = self._running_stage("delay_current_packet").delay_current_packet(context)
        return packet

    @final
    def allow_packet(self, packet: Packet) -> None:
        """Let a delayed packet go."""
        self._running_stage("allow_packet").allow_packet(packet)
