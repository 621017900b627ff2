"""A filter that refuses every flow."""

from network_extension import FilterDataProvider, FilterNewFlowVerdict


class BlockAll(FilterDataProvider):
    def handle_new_flow(self, flow):
        return FilterNewFlowVerdict.drop()
