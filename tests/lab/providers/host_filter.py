"""Decides flows of the host datapath by the port that they are about."""

import asyncio
import os
import socket
import time
from typing import ClassVar

from network_extension.content_filter import FilterControlProvider, FilterDataProvider, FilterPacketProvider
from network_extension.filter_settings import FilterRule, FilterSettings
from network_extension.filter_verdicts import (
    FLOW_BYTES_MAX,
    FilterAction,
    FilterDataVerdict,
    FilterNewFlowVerdict,
    FilterPacketVerdict,
    FilterReportEvent,
)
from network_extension.rules import Direction, NetworkRule

ALLOW, DROP, SILENT, PEEK_OUT, PAUSE, PEEK_IN, ALL_OUT, RAISE, NEVER, CALLS_OUT, REPORT, STUCK, KEPT, RECALL = range(
    7000, 7014
)


PLAIN = {
    DROP: FilterNewFlowVerdict.drop(),
    SILENT: FilterNewFlowVerdict.drop(silent=True),
    PEEK_OUT: FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=16),
    PEEK_IN: FilterNewFlowVerdict.filter_data(filter_inbound=True, peek_inbound=16),
    ALL_OUT: FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX),
    PAUSE: FilterNewFlowVerdict.pause(),
    REPORT: FilterNewFlowVerdict.allow().reported(),
}


def port_of(flow):
    end = flow.remote_endpoint if flow.direction is Direction.OUTBOUND else flow.local_endpoint
    return int(end.port) if end is not None else 0


class HostFilter(FilterDataProvider):
    kept = None

    async def start_filter(self):
        if (seconds := self.configuration.get("start_seconds")) is not None:
            time.sleep(seconds)  # noqa: TID251, ASYNC251 — it stands still, and its event loop with it

    def handle_new_flow(self, flow):
        port = port_of(flow)
        if port in PLAIN:
            return PLAIN[port]
        if port == RAISE:
            raise RuntimeError("as asked")
        if port == NEVER:
            return asyncio.sleep(3600)
        if port == STUCK:
            time.sleep(3600)  # noqa: TID251 — the same
        if port == CALLS_OUT:
            with socket.create_connection((flow.remote_endpoint.host, ALLOW), 5) as own:
                self.log(f"own flow {own.getsockname()[1]} of pid {os.getpid()}")
            return FilterNewFlowVerdict.allow()
        if port == KEPT:
            self.kept = flow
        if port == RECALL:
            self.update_flow(self.kept, FilterDataVerdict.drop())
        return FilterNewFlowVerdict.allow()

    def handle_outbound_data(self, flow, offset, data):
        self.log(f"out {port_of(flow)} {offset} {data[:40]!r}")
        if b"bad" in data:
            return FilterDataVerdict.drop()
        if b"more" in data and offset < 100_000:
            return FilterDataVerdict.data(len(data), 16)
        return FilterDataVerdict.allow()

    def handle_inbound_data(self, flow, offset, data):
        self.log(f"in {port_of(flow)} {offset} {data[:40]!r}")
        return FilterDataVerdict.drop() if b"bad" in data else FilterDataVerdict.allow()

    def handle_report(self, report):
        if report.event is FilterReportEvent.FLOW_CLOSED:
            self.log(f"closed {report.bytes_inbound_count} in {report.bytes_outbound_count} out")


class PagesFilter(FilterDataProvider):
    """Everything gets the block page."""

    def handle_new_flow(self, flow):
        return FilterNewFlowVerdict.remediate("blocked")


class PagesControl(FilterControlProvider):
    remediation_map: ClassVar = {"RemediationURLs": {"blocked": "http://blocked.example/?NE_FLOW_HOSTNAME"}}


class NoLargePackets(FilterPacketProvider):
    def handle_packet(self, context, interface, direction, data):
        return FilterPacketVerdict.DROP if len(data) > 1000 else FilterPacketVerdict.ALLOW


class NoLocalEight(FilterDataProvider):
    """Loopback is asked for because of its rule, and what other rules do not name passes."""

    async def start_filter(self):
        rule = FilterRule(NetworkRule.destination_network("127.0.0.0", 8, "tcp", port=DROP), FilterAction.DROP)
        await self.apply_settings(FilterSettings([rule], FilterAction.ALLOW))
