"""A filter that sets threads and processes of its own to work with its first flow."""

import subprocess
import threading

from network_extension import FilterDataProvider, FilterFlow, FilterNewFlowVerdict, StopReason


class Working(FilterDataProvider):
    helper: subprocess.Popen[bytes] | None = None

    def __init__(self) -> None:
        self.stopped = threading.Event()

    async def stop_filter(self, reason: StopReason) -> None:
        self.stopped.set()
        if self.helper is not None:
            self.helper.kill()
            self.helper.wait()

    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
        if self.helper is None:
            self.helper = subprocess.Popen(["sleep", "60"])
            threading.Thread(target=self.stopped.wait).start()
        return FilterNewFlowVerdict.allow()
