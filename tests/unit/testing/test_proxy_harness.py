"""Proxies in memory: the harness plays program, network and far side."""

from __future__ import annotations

import asyncio
import errno

import pytest

from network_extension import (
    AppProxyFlow,
    AppProxyProvider,
    FlowErrorCode,
    NetworkRule,
    TCPFlow,
    TransparentProxyNetworkSettings,
    TransparentProxyProvider,
)
from network_extension.testing import ProxyHarness


class Relays(AppProxyProvider):
    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        await flow.relay(await flow.connect())
        return True


class Shouts(TransparentProxyProvider):
    """Reads and writes in Python."""

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        assert isinstance(flow, TCPFlow)
        if flow.remote_endpoint.port != 80:
            return False
        await flow.open()
        async for chunk in flow:
            await flow.write(chunk.upper())
        flow.close()
        return True


def test_bytes_go_both_ways_through_a_relay() -> None:
    with ProxyHarness(Relays()) as proxy:
        program = proxy.connect("curl → example.com:80")
        program.send(b"ping")
        far = proxy.far_side("example.com", 80)
        assert far.received == b"ping"
        far.send(b"pong")
        assert program.received == b"pong"
        program.end()
        far.end()
        assert program.state == "closed"
        assert (
            proxy.transcript
            == """
            >> new flow curl → example.com:80
            << claim
                << connect example.com:80
            << open and relay
            -- closed
        """
        )


def test_a_proxy_that_reads_and_writes_itself() -> None:
    with ProxyHarness(Shouts()) as proxy:
        program = proxy.connect("curl → example.com:80")
        program.send(b"quiet")
        assert program.received == b"QUIET"
        program.end()
        assert (program.received, program.state) == (b"QUIET", "closed")


def test_false_means_what_the_kind_of_proxy_says() -> None:
    with ProxyHarness(Shouts()) as proxy:
        assert proxy.connect("curl → example.com:443").state == "passed"

    class Refuses(AppProxyProvider):
        def handle_new_flow(self, flow: AppProxyFlow) -> bool:
            return False

    with ProxyHarness(Refuses()) as proxy:
        program = proxy.connect("curl → example.com:443")
        assert (program.state, program.error) == ("refused", errno.ECONNREFUSED)


def test_a_far_side_that_cannot_be_reached() -> None:
    with ProxyHarness(Relays()) as proxy:
        proxy.refuse("example.com", 80, FlowErrorCode.HOST_UNREACHABLE)
        program = proxy.connect("curl → example.com:80")
        assert (program.state, program.error) == ("refused", errno.EHOSTUNREACH)


def test_rules_decide_what_is_offered() -> None:
    class OnlyOneHost(TransparentProxyProvider):
        async def start_proxy(self, options: object) -> None:
            rules = [NetworkRule.destination_host("example.com")]
            await self.set_tunnel_network_settings(TransparentProxyNetworkSettings(included_network_rules=rules))

        def handle_new_flow(self, flow: AppProxyFlow) -> bool:
            raise AssertionError("must not be asked")

    with ProxyHarness(OnlyOneHost()) as proxy:
        assert proxy.connect("curl → example.org:80").state == "passed"


def test_sleeping_costs_no_time() -> None:
    class Slow(AppProxyProvider):
        async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
            await asyncio.sleep(3600)
            await flow.open()
            return True

    with ProxyHarness(Slow()) as proxy:
        program = proxy.connect("curl → example.com:80")
        assert program.state == "held"
        proxy.advance(3599)
        assert program.state == "held"
        proxy.advance(1)
        assert program.state == "open"


def test_a_fault_in_a_provider_fails_the_test() -> None:
    class Wrong(AppProxyProvider):
        def handle_new_flow(self, flow: AppProxyFlow) -> bool:
            return "yes"  # type: ignore[return-value]

    with ProxyHarness(Wrong()) as proxy, pytest.raises(TypeError, match="returned str"):
        proxy.connect("curl → example.com:80")
