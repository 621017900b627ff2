"""Fixtures for tests of providers; loaded by pytest itself wherever the package is installed.

    def test_telemetry_is_refused(filter_harness):
        filters = filter_harness(NoTelemetry())
        assert filters.connect("curl → telemetry.example:443").state == "dropped"

`netext_run` runs a command behind a provider file, as `netext run` does; a machine that allows no user namespaces
skips such a test with the reason. `netlab` makes two hosts; without root it skips.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .clock import FakeClock
    from .filter_harness import FilterHarness
    from .netlab import NetLab
    from .packet_harness import PacketHarness
    from .proxy_harness import ProxyHarness

NOT_HERE = (69, 71, 77)
"""Exit statuses by which `netext run` says that this machine cannot do it (docs/exit-codes.md)."""


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that the test moves."""
    from .clock import FakeClock

    return FakeClock()


@pytest.fixture
def filter_harness() -> Iterator[Callable[..., FilterHarness]]:
    """Makes started `FilterHarness`es; they are stopped after the test."""
    from .filter_harness import FilterHarness

    with ExitStack() as stack:
        yield lambda *providers, **options: stack.enter_context(FilterHarness(*providers, **options))


@pytest.fixture
def packet_harness() -> Iterator[Callable[..., PacketHarness]]:
    """Makes started `PacketHarness`es; they are stopped after the test."""
    from .packet_harness import PacketHarness

    with ExitStack() as stack:
        yield lambda provider, **options: stack.enter_context(PacketHarness(provider, **options))


@pytest.fixture
def proxy_harness() -> Iterator[Callable[..., ProxyHarness]]:
    """Makes started `ProxyHarness`es; they are stopped after the test."""
    from .proxy_harness import ProxyHarness

    with ExitStack() as stack:
        yield lambda provider, **options: stack.enter_context(ProxyHarness(provider, **options))


@pytest.fixture
def netext_run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command behind provider files: `netext_run("my_filter.py", command=["curl", …])`.

    `options` go to `netext run` as they are, `timeout` is in seconds. The result has status, stdout and stderr.
    """

    def run(
        *providers: str | os.PathLike[str], command: Sequence[str], options: Sequence[str] = (), timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "network_extension", "run", *options]
        for provider in providers:
            words += ["--provider", os.fspath(provider)]
        done = subprocess.run(
            [*words, "--", *command],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode in NOT_HERE and done.stderr.startswith("netext"):
            pytest.skip(f"netext run is not possible here: {done.stderr.splitlines()[0]}")
        return done

    return run


@pytest.fixture
def netlab() -> Iterator[NetLab]:
    """Two hosts in network namespaces, joined by a cable. Needs root and iproute2."""
    if os.geteuid():
        pytest.skip("a netlab needs root")
    from .netlab import NetLab

    made = NetLab()
    try:
        yield made
    finally:
        made.close()


def pytest_configure(config: Any) -> None:
    """Say what the marks of this plugin mean."""
    config.addinivalue_line("markers", "netext: runs netext itself")
