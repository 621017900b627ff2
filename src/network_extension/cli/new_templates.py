"""What `netext new` writes. `@name@`, `@class@` and `@kind@` are filled in."""

from __future__ import annotations

KINDS = ("filter", "app-proxy", "transparent-proxy")

_FILTER = '''"""A content filter: refuses some hosts, looks for a word in plain HTTP, lets the rest pass."""

from __future__ import annotations

from network_extension import (
    FLOW_BYTES_MAX,
    FilterDataProvider,
    FilterDataVerdict,
    FilterFlow,
    FilterNewFlowVerdict,
)


class @class@(FilterDataProvider):
    """`--config 'blocked=["ads.example"]'` names the hosts that are refused, with all that is beneath them."""

    async def start_filter(self) -> None:
        """Called once, before any flow comes."""
        self.blocked = tuple(self.filter_configuration.get("blocked", ["ads.example"]))
        self.log(f"refusing {', '.join(self.blocked)}")

    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
        """Called for each flow, whose first packet waits for the answer."""
        if self.is_blocked(flow.remote_hostname):
            return FilterNewFlowVerdict.drop().reported()
        if flow.remote_endpoint and flow.remote_endpoint.port == 80:
            return FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX)
        return FilterNewFlowVerdict.allow()

    def handle_outbound_data(self, flow: FilterFlow, offset: int, data: bytes) -> FilterDataVerdict:
        """Called with the first bytes that the program sends; from here the kernel carries what is allowed."""
        if b"X-Telemetry:" in data or self.is_blocked(flow.remote_hostname):
            return FilterDataVerdict.drop()
        return FilterDataVerdict.allow()

    def is_blocked(self, host: str | None) -> bool:
        """Whether a host is one of the blocked ones, or beneath one."""
        return host is not None and any(host == name or host.endswith("." + name) for name in self.blocked)
'''

_FILTER_TEST = '''"""@class@ in memory (no privilege, no network), and once behind the real `netext run`."""

from __future__ import annotations

import sys

from @name@ import @class@


def test_a_blocked_host_is_refused(filter_harness):
    filters = filter_harness(@class@(), configuration={"blocked": ["ads.example"]})
    assert filters.connect("curl → www.ads.example:443").state == "dropped"
    assert filters.transcript == """
        >> new flow curl → www.ads.example:443 tcp
        << drop
        -- refused
    """


def test_other_hosts_pass(filter_harness):
    filters = filter_harness(@class@())
    assert filters.connect("curl → example.com:443").state == "allowed"


def test_plain_http_is_looked_at_first(filter_harness):
    filters = filter_harness(@class@())
    flow = filters.connect("curl → example.com:80")
    flow.send(b"GET / HTTP/1.1\\r\\nHost: example.com\\r\\n\\r\\n")
    assert (flow.state, flow.sent[:5]) == ("allowed", b"GET /")


def test_a_request_with_telemetry_is_reset(filter_harness):
    filters = filter_harness(@class@())
    flow = filters.connect("curl → example.com:80")
    flow.send(b"GET / HTTP/1.1\\r\\nHost: example.com\\r\\nX-Telemetry: 1\\r\\n\\r\\n")
    assert (flow.state, flow.sent) == ("dropped", b"")


def test_behind_netext_run(netext_run):
    done = netext_run("@name@.py", command=[sys.executable, "-c", "print('the command runs')"])
    assert done.stdout == "the command runs\\n", done.stderr
'''

_APP_PROXY = '''"""An app proxy: every flow of the program goes where this says."""

from __future__ import annotations

from network_extension import AppProxyFlow, AppProxyProvider


class @class@(AppProxyProvider):
    """`--config via=HOST:PORT` sends all TCP flows there; without it they go where the program wanted."""

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """Called for each flow: the program's connect() waits until the flow is opened."""
        host, _, port = str(self.configuration.get("via", "")).rpartition(":")
        remote = await flow.connect(host, int(port)) if host else await flow.connect()
        result = await flow.relay(remote)  # opens the flow; from here the kernel moves the bytes
        self.log(f"{flow.remote_hostname or flow.remote_endpoint.host}: {result.bytes_out} out, {result.bytes_in} in")
        return True
'''

_APP_PROXY_TEST = '''"""@class@ in memory (no privilege, no network), and once behind the real `netext run`."""

from __future__ import annotations

import errno
import sys

from @name@ import @class@


def test_bytes_go_both_ways(proxy_harness):
    proxy = proxy_harness(@class@())
    program = proxy.connect("curl → example.com:80")
    program.send(b"ping")
    far = proxy.far_side("example.com", 80)
    assert far.received == b"ping"
    far.send(b"pong")
    assert program.received == b"pong"


def test_another_way(proxy_harness):
    proxy = proxy_harness(@class@(), configuration={"via": "proxy.example:3128"})
    proxy.connect("curl → example.com:80")
    assert proxy.far_side("proxy.example", 3128)


def test_the_program_learns_why_it_cannot_connect(proxy_harness):
    proxy = proxy_harness(@class@())
    proxy.refuse("example.com", 80)
    assert proxy.connect("curl → example.com:80").error == errno.ECONNREFUSED


def test_behind_netext_run(netext_run):
    done = netext_run("@name@.py", command=[sys.executable, "-c", "print('the command runs')"])
    assert done.stdout == "the command runs\\n", done.stderr
'''

_TRANSPARENT = '''"""A transparent proxy: takes the flows that its rules name, and leaves the others alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from network_extension import (
    AppProxyFlow,
    NetworkRule,
    TransparentProxyNetworkSettings,
    TransparentProxyProvider,
)


class @class@(TransparentProxyProvider):
    """Takes HTTP to example.com and everything beneath it."""

    async def start_proxy(self, options: Mapping[str, Any] | None) -> None:
        """Called once: say which flows are wanted."""
        rules = [NetworkRule.destination_host("example.com", "tcp", port=80)]
        await self.set_tunnel_network_settings(TransparentProxyNetworkSettings(rules))

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """Called for each flow that the rules name. False passes it on untouched."""
        if flow.metadata.source_app_signing_identifier == "wget":
            return False
        await flow.relay(await flow.connect())
        return True
'''

_TRANSPARENT_TEST = '''"""@class@ in memory (no privilege, no network), and once behind the real `netext run`."""

from __future__ import annotations

import sys

from @name@ import @class@


def test_its_flows_are_relayed(proxy_harness):
    proxy = proxy_harness(@class@())
    program = proxy.connect("curl → www.example.com:80")
    program.send(b"ping")
    assert proxy.far_side("www.example.com", 80).received == b"ping"


def test_wget_is_left_alone(proxy_harness):
    proxy = proxy_harness(@class@())
    assert proxy.connect("wget → www.example.com:80").state == "passed"


def test_others_are_not_even_asked_for(proxy_harness):
    proxy = proxy_harness(@class@())
    proxy.transcript.clear()
    assert proxy.connect("curl → example.org:80").state == "passed"
    assert proxy.transcript == """
        >> new flow curl → example.org:80
        -- passed on (not in its rules)
    """


def test_behind_netext_run(netext_run):
    done = netext_run("@name@.py", command=[sys.executable, "-c", "print('the command runs')"])
    assert done.stdout == "the command runs\\n", done.stderr
'''

_README = """\
# @name@

    pytest                                             # in memory, then behind the real thing
    netext run --provider @name@.py -- curl -sS http://example.com/
"""
_README_FILTER = _README + "    sudo netext filter --provider @name@.py            # this machine, in the foreground\n"

FILES = {
    "filter": {"@name@.py": _FILTER, "test_@name@.py": _FILTER_TEST, "README.md": _README_FILTER},
    "app-proxy": {"@name@.py": _APP_PROXY, "test_@name@.py": _APP_PROXY_TEST, "README.md": _README},
    "transparent-proxy": {"@name@.py": _TRANSPARENT, "test_@name@.py": _TRANSPARENT_TEST, "README.md": _README},
}
