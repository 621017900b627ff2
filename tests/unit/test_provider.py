"""The provider base without any process: Apple's numbers, what it refuses, and what it does before it runs."""

from __future__ import annotations

import asyncio

import pytest

from network_extension import (
    AppProxyProvider,
    NetworkRule,
    NetworkSettingsError,
    PathStatus,
    Provider,
    StopReason,
    TransparentProxyNetworkSettings,
    TransparentProxyProvider,
    TunnelNetworkSettings,
)

APPLE = [
    "none",
    "userInitiated",
    "providerFailed",
    "noNetworkAvailable",
    "unrecoverableNetworkChange",
    "providerDisabled",
    "authenticationCanceled",
    "configurationFailed",
    "idleTimeout",
    "configurationDisabled",
    "configurationRemoved",
    "superseded",
    "userLogout",
    "userSwitch",
    "connectionFailed",
    "sleep",
    "appUpdate",
    "internalError",
]


def test_stop_reasons_are_apples() -> None:
    assert [reason.name.replace("_", "").lower() for reason in StopReason] == [name.lower() for name in APPLE]
    assert [int(reason) for reason in StopReason] == list(range(18))
    assert [int(status) for status in PathStatus] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("provider", "settings", "text"),
    [
        (AppProxyProvider(), TransparentProxyNetworkSettings(), "network rules are for transparent proxies"),
        (TransparentProxyProvider(), TunnelNetworkSettings(), "needs TransparentProxyNetworkSettings"),
        (
            TransparentProxyProvider(),
            TransparentProxyNetworkSettings([NetworkRule.remote_and_local(direction="inbound")]),
            "included_network_rules",
        ),
        (TransparentProxyProvider(), None, "the provider is not running"),
    ],
)
def test_settings_that_are_not_accepted(
    provider: AppProxyProvider, settings: TunnelNetworkSettings | None, text: str
) -> None:
    with pytest.raises(NetworkSettingsError, match=text):
        asyncio.run(provider.set_tunnel_network_settings(settings))


def test_a_provider_that_does_not_run() -> None:
    provider = Provider()
    provider.log("to nobody")
    assert asyncio.run(provider.display_message("hello")) is False
    with pytest.raises(ValueError, match="cannot be observed"):
        provider.observe("colour", print)
    seen: list[object] = []
    end = provider.observe("configuration", seen.append)
    provider._change("configuration", {"a": 1})
    end()
    end()
    provider._change("configuration", {"a": 2})
    assert seen == [{"a": 1}]
