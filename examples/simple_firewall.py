"""The smallest useful content filter: it refuses some names and ports, and lets everything else pass.

    netext run --provider examples/simple_firewall.py -- curl -sS https://www.example.org/
    sudo netext filter --provider examples/simple_firewall.py

Without configuration it refuses telemetry.example and all names below it (reserved by RFC 2606: nobody misses them),
and TCP port 23, telnet. Configuration: --config 'hosts=["ads.example.com"]' --config 'ports=[23, 25]'
"""

from __future__ import annotations

from network_extension import (
    FLOW_BYTES_MAX,
    FilterDataProvider,
    FilterDataVerdict,
    FilterFlow,
    FilterNewFlowVerdict,
    FilterReport,
    FilterReportEvent,
)


class SimpleFirewall(FilterDataProvider):
    """Decides most flows when they begin, and those without a name by their first bytes."""

    async def start_filter(self) -> None:
        """Read the configuration."""
        self.hosts = tuple(self.configuration.get("hosts", ["telemetry.example"]))
        self.ports = frozenset(self.configuration.get("ports", [23]))

    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
        """A name that is refused, a port that is refused, or one that may still turn out to be."""
        if self.is_refused(flow):
            return FilterNewFlowVerdict.drop().reported()
        if flow.remote_hostname is None:  # nobody asked DNS: the name comes with TLS, QUIC or HTTP, if at all
            return FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX)
        return FilterNewFlowVerdict.allow()

    def handle_outbound_data(self, flow: FilterFlow, offset: int, data: bytes) -> FilterDataVerdict:
        """The runtime has looked for a name in these bytes already."""
        return FilterDataVerdict.drop() if self.is_refused(flow) else FilterDataVerdict.allow()

    def is_refused(self, flow: FilterFlow) -> bool:
        """By port, by name, or by a domain above the name."""
        if flow.remote_endpoint and flow.remote_endpoint.port in self.ports:
            return True
        name = flow.remote_hostname or ""
        return any(name == host or name.endswith("." + host) for host in self.hosts)

    def handle_report(self, report: FilterReport) -> None:
        """A verdict that asked to be reported was applied (and later, that its flow is over)."""
        if report.event is FilterReportEvent.NEW_FLOW:
            self.log(f"refused {report.flow!r}")
