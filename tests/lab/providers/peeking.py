"""Looks at every byte both ways, in portions of random sizes, and passes other random portions of what it saw.

Short messages are passed whole, so that who sends one still receives one.
"""

from random import Random

from network_extension import FLOW_BYTES_MAX, FilterDataProvider, FilterDataVerdict, FilterNewFlowVerdict

SHORT = 1000


class Peeking(FilterDataProvider):
    async def start_filter(self):
        self.random = Random(self.configuration.get("seed", 1))
        self.most = self.configuration.get("most", 20000)
        self.seen = {}

    def size(self):
        return self.random.choice((1, FLOW_BYTES_MAX, 100, self.random.randint(1, self.most)))

    def handle_new_flow(self, flow):
        return FilterNewFlowVerdict.filter_data(
            filter_inbound=True, peek_inbound=FLOW_BYTES_MAX, filter_outbound=True, peek_outbound=FLOW_BYTES_MAX
        )

    def handle_outbound_data(self, flow, offset, data):
        if len(data) <= SHORT:
            return FilterDataVerdict.data(len(data), FLOW_BYTES_MAX)
        return FilterDataVerdict.data(self.random.randint(len(data) // 2, 2 * len(data)), self.size())

    handle_inbound_data = handle_outbound_data
