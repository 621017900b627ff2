"""Looks at the first bytes until the host name is known; drops what is blocked, or answers it with a page."""

from network_extension import FLOW_BYTES_MAX, FilterDataProvider, FilterDataVerdict, FilterNewFlowVerdict


class ByName(FilterDataProvider):
    def handle_new_flow(self, flow):
        return FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX)

    def handle_outbound_data(self, flow, offset, data):
        if flow.host_name_source not in ("tls", "http"):
            return FilterDataVerdict.data(0, len(data) + 1)
        if self.configuration.get("page"):
            return FilterDataVerdict.remediate("page", "button")
        blocked = flow.remote_hostname == self.configuration["blocked"]
        return FilterDataVerdict.drop() if blocked else FilterDataVerdict.allow()
