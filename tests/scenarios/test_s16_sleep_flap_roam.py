"""S16: after sleep and wake, a link flap or a new address, a transparent proxy still gets every new flow.

One program runs all the time, behind one provider that watches its path. To its processes a suspended machine is a
gap in which none of them ran; SIGSTOP and SIGCONT make one. (The clock that only a real suspend stops is tested in
tests/unit.) The link goes down and up as it does under a loose cable, and the host changes its address as it does when
it roams; what a network manager would do then (the default route) is done here.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from tests.leaks import descendants
from tests.netlab import FAR4, NEAR4, NetLab, wait_for

from .runs import log_records
from .servers import Nginx

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

PORT = 8000
ROAMED4 = "198.51.100.77"

PROVIDER = """
from network_extension import Path, TransparentProxyProvider


class Watcher(TransparentProxyProvider):
    async def start_proxy(self, options):
        self.observe("default_path", self.path_changed)

    def path_changed(self, path: Path):
        self.log(f"path {path.status.name} by {','.join(path.interfaces) or 'nothing'}")

    async def sleep(self):
        self.log("sleep")

    def wake(self):
        self.log("wake")

    async def handle_new_flow(self, flow):
        remote = await flow.connect()
        await flow.relay(remote)
        return True
"""


class Browser:
    """A program that fetches a page, in a flow of its own, whenever it is told to; it runs until it is closed."""

    def __init__(self, lab: NetLab, provider: Path, *options: str) -> None:
        loop = f'while read line; do curl -s -m 20 "http://{FAR4}:{PORT}/" || echo "curl: $?"; done'
        self.fetched = 0
        self._log = tempfile.TemporaryFile("w+")
        self.process: Popen[str] = lab.start(
            "--json", "--provider", str(provider), *options, "--", "sh", "-c", loop, stdin=PIPE, stderr=self._log
        )

    def fetch(self) -> str:
        """Ask for a page, and give what came, when the flow has ended on both sides."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        self.fetched += 1
        wait_for(lambda: len(self.records("flow")) >= self.fetched, what=f"the end of flow {self.fetched}")
        return answer

    def records(self, event: str) -> list[dict[str, Any]]:
        """The records of one kind in the log so far."""
        # Not by seek and read: its place is the writers' place as well, and they would write over the beginning.
        said = os.pread(self._log.fileno(), 1 << 24, 0).decode()
        return [record for record in log_records(said) if record["event"] == event]

    def said(self) -> list[str]:
        """What the provider has said so far."""
        return [record["text"].removeprefix("Watcher: ") for record in self.records("provider-log")]

    def close(self) -> None:
        """End it."""
        with self.process:  # closes its standard input, and waits
            pass
        self._log.close()


@pytest.fixture(scope="module", autouse=True)
def web(lab: NetLab, folder: Path) -> None:
    Nginx(lab, lab.far, folder, (FAR4,), PORT, r'return 200 "$remote_addr\n";')
    (folder / "watcher.py").write_text(PROVIDER)


@pytest.fixture
def browser(lab: NetLab, folder: Path) -> Iterator[Browser]:
    """A browser whose every flow was claimed by the provider: asked at the end of each test."""
    browser = Browser(lab, folder / "watcher.py")
    try:
        assert browser.fetch() == NEAR4
        yield browser
        assert {record["by"] for record in browser.records("flow")} == {"Watcher"}
        assert not browser.records("fault")
    finally:
        browser.close()


def ip(lab: NetLab, *words: str) -> None:
    result = lab.near.run("ip", "-n", lab.near.name, *words)
    assert result.returncode == 0, result.stderr


def test_sleep(lab: NetLab, browser: Browser) -> None:
    """All processes stand still for four seconds. The gap is noticed, the provider told, and no flow is lost."""
    everything = [browser.process.pid, *(process.pid for process in descendants(browser.process.pid))]
    for pid in everything:
        os.kill(pid, signal.SIGSTOP)
    lab.far.run("sleep", "4")
    for pid in reversed(everything):
        os.kill(pid, signal.SIGCONT)
    assert browser.fetch() == NEAR4
    wait_for(lambda: browser.said()[-2:] == ["sleep", "wake"], what="the provider being told")
    assert "woke after about" in browser.records("wake")[0]["text"]
    assert browser.fetch() == NEAR4
    assert [record["state"] for record in browser.records("provider")] == ["running"]  # no restart: nobody is to blame


def test_a_link_flap(lab: NetLab, browser: Browser) -> None:
    """Down: the path is lost and new flows fail, with a reason. Up: the next flow works, and the provider is told."""
    device = lab.near_device
    ip(lab, "link", "set", device, "down")
    try:
        wait_for(lambda: browser.said()[-1] == "path UNSATISFIED by nothing", what="the path being lost")
        assert browser.fetch() == "curl: 7"  # could not connect
    finally:
        ip(lab, "link", "set", device, "up")
        ip(lab, "route", "add", "default", "via", FAR4)
    wait_for(lambda: browser.said()[-1] == f"path SATISFIED by {device}", what="the path being back")
    assert browser.fetch() == NEAR4
    outcomes = [(record["outcome"], record["error"]) for record in browser.records("flow")]
    assert outcomes == [
        ("claimed", 0),
        ("refused", 101),
        ("claimed", 0),
    ]  # 101: NETWORK_UNREACHABLE


def test_a_new_address(lab: NetLab, browser: Browser) -> None:
    """The host roams: from the next flow on, the server sees the new address."""
    change_address(lab, NEAR4, ROAMED4)
    try:
        assert browser.fetch() == ROAMED4
    finally:
        change_address(lab, ROAMED4, NEAR4)
    assert browser.fetch() == NEAR4


def change_address(lab: NetLab, before: str, after: str) -> None:
    """As a network manager does it, when another network gives another address."""
    ip(lab, "addr", "del", f"{before}/24", "dev", lab.near_device)
    ip(lab, "addr", "add", f"{after}/24", "dev", lab.near_device)
    ip(lab, "route", "replace", "default", "via", FAR4)


def test_all_of_it_again_and_again(lab: NetLab, browser: Browser) -> None:
    """Ten flaps, with a flow after each."""
    for _ in range(10):
        ip(lab, "link", "set", lab.near_device, "down")
        ip(lab, "link", "set", lab.near_device, "up")
        ip(lab, "route", "add", "default", "via", FAR4)
        assert browser.fetch() == NEAR4
    assert len(browser.records("flow")) == 11
