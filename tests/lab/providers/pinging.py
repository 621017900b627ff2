"""Looks at echo requests and replies, each with its attribute word and IP header."""

from network_extension import FLOW_BYTES_MAX, FilterDataProvider, FilterDataVerdict, FilterNewFlowVerdict


class Pinging(FilterDataProvider):
    def handle_new_flow(self, flow):
        self.log(f"{flow.socket_protocol} {flow.remote_endpoint.host}")
        if self.configuration.get("drop"):
            return FilterNewFlowVerdict.drop()
        return FilterNewFlowVerdict.filter_data(
            filter_inbound=True, peek_inbound=FLOW_BYTES_MAX, filter_outbound=True, peek_outbound=FLOW_BYTES_MAX
        )

    def handle_outbound_data(self, flow, offset, data):
        return self.seen("out", data)

    def handle_inbound_data(self, flow, offset, data):
        return self.seen("in", data)

    def seen(self, way, data):
        self.log(f"{way} {int.from_bytes(data[:4], 'little')} {data[4] >> 4 in (4, 6)}")
        return FilterDataVerdict.data(len(data), FLOW_BYTES_MAX)
