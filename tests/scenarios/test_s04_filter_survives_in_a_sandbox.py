"""S4, in `netext run`: a filter that stalls, crashes, sleeps or roams is noticed and explained, and over in a second.

One program runs all the time. Whatever happens to the filter, its host or its engine, the program has network by the
policy, no flow is stuck, and afterwards the filter sees every new flow again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leaks import descendants
from tests.netlab import FAR4, NEAR4, NetLab, wait_for

from .servers import Nginx
from .test_s16_sleep_flap_roam import PORT, ROAMED4, Browser, change_address, ip

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

FILTER = """
import os
from network_extension import FilterDataProvider, FilterNewFlowVerdict

class Guard(FilterDataProvider):
    def handle_new_flow(self, flow):
        self.log(f"flow to {flow.remote_endpoint}")
        try:
            order = open(self.configuration["orders"]).read()
        except OSError:
            order = ""
        while order == "stall":
            pass
        if order == "crash":
            os._exit(3)
        return FilterNewFlowVerdict.allow()
"""


class FilteredBrowser(Browser):
    """A browser behind the filter, whose orders are in a file."""

    def __init__(self, lab: NetLab, folder: Path, policy: str) -> None:
        self.orders = folder / "orders"
        self.order("")
        self.is_open = policy == "open"
        super().__init__(
            lab, folder / "guard.py", "--config", f"orders={self.orders}",
            "--policy", policy, "--deadline", "0.3", "--hang-timeout", "0.3",
        )  # fmt: skip

    def order(self, word: str) -> None:
        """What the filter does with the next flow."""
        self.orders.write_text(word)
        self.orders.chmod(0o644)

    @property
    def pid(self) -> int:
        """The filter's process now."""
        pid: int = [record["pid"] for record in self.records("provider") if "pid" in record][-1]
        return pid

    def is_seen(self) -> bool:
        """Whether the filter decides a new flow."""
        self.fetch()
        return str(self.records("flow")[-1].get("allowed_by", "")).startswith("Guard: handle_new_flow")


@pytest.fixture(scope="module", autouse=True)
def web(lab: NetLab, folder: Path) -> None:
    Nginx(lab, lab.far, folder, (FAR4,), PORT, r'return 200 "$remote_addr\n";')
    (folder / "guard.py").write_text(FILTER)


@pytest.fixture(params=["open", "closed"])
def browser(request: pytest.FixtureRequest, lab: NetLab, folder: Path) -> Iterator[FilteredBrowser]:
    """A browser whose flows the filter sees, before and after."""
    browser = FilteredBrowser(lab, folder, request.param)
    try:
        assert browser.is_seen()
        yield browser
        browser.order("")
        wait_for(browser.is_seen, 5, "the filter seeing flows again")
        assert not browser.records("fault")
    finally:
        browser.close()


@pytest.mark.parametrize("order", ["stall", "crash"])
def test_a_filter_that_stalls_or_crashes(browser: FilteredBrowser, order: str) -> None:
    """The flow gets its policy within a second, and the log says which and why."""
    browser.order(order)
    began = time.monotonic()
    answer = browser.fetch()
    assert time.monotonic() - began < 1.5
    record = browser.records("flow")[-1]
    is_open = browser.is_open
    assert answer == (NEAR4 if is_open else "curl: 7")
    told = record["allowed_by"] if is_open else record["reason"]
    assert ("did not decide in time" if order == "stall" else "has died") in told
    assert f"policy {'open' if is_open else 'closed'}" in told


@pytest.mark.parametrize("process", ["filter", "engine"])
def test_a_process_is_killed(browser: FilteredBrowser, process: str) -> None:
    """With no flow on its way: the next one is seen, as soon as the process is back."""
    if process == "filter":
        os.kill(browser.pid, signal.SIGKILL)
    else:
        os.kill(engine_of(browser), signal.SIGKILL)
    wait_for(browser.is_seen, 3, "the filter seeing flows again")


def engine_of(browser: FilteredBrowser) -> int:
    """The engine: a fork of `netext` in the host's network that runs no provider and no command."""
    main = browser.process.pid
    home = Path(f"/proc/{main}/ns/net").readlink()
    line = Path(f"/proc/{main}/cmdline").read_bytes()
    for process in descendants(main):
        folder = Path(f"/proc/{process.pid}")
        if (folder / "cmdline").read_bytes() == line and (folder / "ns/net").readlink() == home:
            return process.pid
    raise AssertionError("no engine")


def test_sleep(lab: NetLab, browser: FilteredBrowser) -> None:
    """All processes stand still for four seconds: nobody is to blame, and the next flow is seen."""
    everything = [browser.process.pid, *(process.pid for process in descendants(browser.process.pid))]
    for pid in everything:
        os.kill(pid, signal.SIGSTOP)
    lab.far.run("sleep", "4")
    for pid in reversed(everything):
        os.kill(pid, signal.SIGCONT)
    assert browser.is_seen()
    assert "dead" not in [record["state"] for record in browser.records("provider")]


def test_a_link_flap_and_a_new_address(lab: NetLab, browser: FilteredBrowser) -> None:
    """The link goes down and comes back with another address: each flow is seen, and the last ones work."""
    device = lab.near_device
    ip(lab, "link", "set", device, "down")
    assert browser.fetch() == "curl: 7"
    ip(lab, "link", "set", device, "up")
    ip(lab, "route", "add", "default", "via", FAR4)
    wait_for(lambda: browser.fetch() == NEAR4, 5, "the network")
    change_address(lab, NEAR4, ROAMED4)
    try:
        wait_for(lambda: browser.fetch() == ROAMED4, 5, "the new address")
        assert all(record["allowed_by"].startswith("Guard: ") for record in browser.records("flow"))
    finally:
        change_address(lab, ROAMED4, NEAR4)
