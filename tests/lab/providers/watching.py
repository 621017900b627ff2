"""Lets everything pass, and counts two words in what comes in."""

from network_extension import FLOW_BYTES_MAX, FilterDataProvider, FilterDataVerdict, FilterNewFlowVerdict


class Watching(FilterDataProvider):
    async def start_filter(self):
        self.asked, self.got = b"", b""

    def handle_new_flow(self, flow):
        return FilterNewFlowVerdict.filter_data(
            filter_inbound=True, peek_inbound=FLOW_BYTES_MAX, filter_outbound=True, peek_outbound=FLOW_BYTES_MAX
        )

    def handle_outbound_data(self, flow, offset, data):
        self.asked += data
        return FilterDataVerdict.data(len(data), FLOW_BYTES_MAX)

    def handle_inbound_data(self, flow, offset, data):
        self.got += data
        return FilterDataVerdict.data(len(data), FLOW_BYTES_MAX)

    async def stop_filter(self, reason):
        line = self.asked.partition(b"\r\n")[0].decode()
        self.log(f"{line}, house cat: {self.got.count(b'house cat')}, lion: {self.got.count(b'lion ')}")
