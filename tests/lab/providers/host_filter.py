"""Decides flows of the host datapath by the port that they are about."""

import asyncio
import os
import socket
import time

from network_extension.content_filter import FilterDataProvider
from network_extension.filter_verdicts import (
    FLOW_BYTES_MAX,
    FilterDataVerdict,
    FilterNewFlowVerdict,
    FilterReportEvent,
)
from network_extension.rules import Direction

ALLOW, DROP, SILENT, PEEK_OUT, PAUSE, PEEK_IN, ALL_OUT, RAISE, NEVER, CALLS_OUT, REPORT, STUCK = range(7000, 7012)


def port_of(flow):
    end = flow.remote_endpoint if flow.direction is Direction.OUTBOUND else flow.local_endpoint
    return int(end.port) if end is not None else 0


class HostFilter(FilterDataProvider):
    async def start_filter(self):
        if (seconds := self.configuration.get("start_seconds")) is not None:
            time.sleep(seconds)  # noqa: TID251, ASYNC251 — it stands still, and its event loop with it

    def handle_new_flow(self, flow):
        port = port_of(flow)
        if port == DROP:
            return FilterNewFlowVerdict.drop()
        if port == SILENT:
            return FilterNewFlowVerdict.drop(silent=True)
        if port == PEEK_OUT:
            return FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=16)
        if port == PEEK_IN:
            return FilterNewFlowVerdict.filter_data(filter_inbound=True, peek_inbound=16)
        if port == ALL_OUT:
            return FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX)
        if port == PAUSE:
            return FilterNewFlowVerdict.pause()
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
        if port == REPORT:
            return FilterNewFlowVerdict.allow().reported()
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
