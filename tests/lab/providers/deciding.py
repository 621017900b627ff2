"""A content filter that does what the destination's port tells it; ports that are not listed here are allowed.

`grade` is `firewall` or `inspector`. What it sees is written to the log, so that a test can read it.
"""

import asyncio
import os

from network_extension import (
    FLOW_BYTES_MAX,
    Direction,
    FilterDataProvider,
    FilterDataVerdict,
    FilterGrade,
    FilterNewFlowVerdict,
    FilterReportFrequency,
)

ALL = FLOW_BYTES_MAX
DROP, SILENT, PAUSE, NEVER, RAISE, NONSENSE, EXIT, HANG = range(2001, 2009)
WORD, REPORT, LATE_LOOK, LATE_DROP, PAUSE_DATA, COMPLETE, SILENT_WORD, DROP_END, STATISTICS = range(2011, 2020)
NEVER_DATA, RAISE_DATA, EXIT_DATA, PASS_AHEAD, HELLO, STUCK = range(2021, 2027)
AWFUL = b"forbidden"

allow, drop, filter_data = FilterNewFlowVerdict.allow, FilterNewFlowVerdict.drop, FilterNewFlowVerdict.filter_data
BOTH = {"filter_inbound": True, "filter_outbound": True}


class Deciding(FilterDataProvider):
    async def start_filter(self):
        self.grade = FilterGrade[self.configuration.get("grade", "firewall").upper()]
        self.pause = self.configuration.get("pause", 0.5)

    def handle_new_flow(self, flow):
        port = flow.remote_endpoint.port
        self.log(
            f"new {flow.direction.name} {flow.socket_protocol} {flow.remote_endpoint} {flow.source_app_identifier}"
        )
        if port == HANG:
            while True:  # the whole process hangs
                pass
        if port == NEVER:
            return asyncio.sleep(3600)
        if port == PAUSE:
            asyncio.get_running_loop().call_later(self.pause, self.resume_flow, flow, allow())
            return FilterNewFlowVerdict.pause()
        if port == RAISE:
            raise RuntimeError("as the test wants it")
        if port == EXIT:
            os._exit(3)
        if port in (LATE_LOOK, LATE_DROP):
            loop, verdict = asyncio.get_running_loop(), FilterDataVerdict.data(0, ALL)
            verdict = verdict if port == LATE_LOOK else FilterDataVerdict.drop()
            loop.call_later(self.pause, self.update_flow, flow, verdict, Direction.OUTBOUND)
        return {
            DROP: drop(),
            SILENT: drop(silent=True),
            NONSENSE: 17,
            REPORT: allow().reported(),
            STATISTICS: allow().with_statistics(FilterReportFrequency.HIGH),
            LATE_LOOK: allow().reported(),
            LATE_DROP: allow().reported(),
            HELLO: filter_data(filter_outbound=True, peek_outbound=ALL),
            STUCK: filter_data(filter_outbound=True, peek_outbound=10),
            COMPLETE: filter_data(**BOTH, peek_inbound=ALL, peek_outbound=ALL),
            PASS_AHEAD: filter_data(filter_outbound=True, peek_outbound=4),
        }.get(port, filter_data(filter_outbound=True, peek_outbound=ALL) if port in range(2011, 2027) else allow())

    async def handle_outbound_data(self, flow, offset, data):
        port = flow.remote_endpoint.port
        text = data if len(data) < 40 else f"{len(data)} bytes"
        self.log(f"out {offset} {text} {flow.remote_hostname} {flow.host_name_source}")
        if port in (WORD, SILENT_WORD) and AWFUL in data:
            return FilterDataVerdict.drop(silent=port == SILENT_WORD)
        if port == PAUSE_DATA:
            asyncio.get_running_loop().call_later(self.pause, self.resume_flow, flow, FilterDataVerdict.allow())
            return FilterDataVerdict.pause()
        if port == NEVER_DATA:
            await asyncio.sleep(3600)
        if port == RAISE_DATA:
            raise RuntimeError("as the test wants it")
        if port == EXIT_DATA:
            os._exit(3)
        if port == STUCK:
            return FilterDataVerdict.data(0, 20)
        if port == PASS_AHEAD:
            return FilterDataVerdict.data(10, 4) if offset < 20 else FilterDataVerdict.allow()
        if port == HELLO:
            return FilterDataVerdict.allow() if flow.remote_hostname else FilterDataVerdict.data(0, len(data) + 1)
        return FilterDataVerdict.data(len(data), ALL)

    def handle_inbound_data(self, flow, offset, data):
        self.log(f"in {offset} {data[:40]}")
        return FilterDataVerdict.data(len(data), ALL)

    def handle_outbound_data_complete(self, flow):
        self.log("out complete")
        return FilterDataVerdict.drop() if flow.remote_endpoint.port == DROP_END else FilterDataVerdict.allow()

    def handle_inbound_data_complete(self, flow):
        self.log("in complete")
        return FilterDataVerdict.allow()

    def handle_report(self, report):
        counts = report.bytes_outbound_count, report.bytes_inbound_count
        self.log(f"report {report.event.name} {report.action.name} {counts[0]} {counts[1]}")
