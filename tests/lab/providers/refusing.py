"""Closes each flow, before it opens, with the FlowErrorCode that its port names: port 20000 + code."""

from network_extension import FlowErrorCode, TransparentProxyProvider


class Refusing(TransparentProxyProvider):
    def handle_new_flow(self, flow):
        flow.close(FlowErrorCode(flow.remote_endpoint.port - 20000))
        return True
