"""An app proxy that wants nothing: each of its flows is refused."""

from network_extension import AppProxyProvider


class RefusingAll(AppProxyProvider):
    def handle_new_flow(self, flow):
        return False
