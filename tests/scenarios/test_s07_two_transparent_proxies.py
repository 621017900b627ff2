"""S7: several vendors' proxies at once, with rules that overlap. Who gets a flow, and who says so?

Here the order is that of the `--provider` options. Of a flow that the rules of several select, the first to claim it
has it, and no other sees it. False from a transparent proxy passes it on, False from an app proxy refuses it; what
nobody takes goes on as without proxies. The log says of each flow by whom it was decided.

Vendor A carries flows as they are (`examples/pass_through.py`: all TCP), vendor B changes the bytes
(`examples/rewriting_proxy.py`: TCP to port 8000).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netlab import FAR4, NetLab

from .runs import Run, example, netext_run
from .servers import Nginx

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

CARRIES = example("pass_through")
REWRITES = example("rewriting_proxy", ports=[8000], find="lion", replace="house cat")

TRANSPARENT_FALSE = """
from network_extension import TransparentProxyProvider

class Shrugs(TransparentProxyProvider):
    def handle_new_flow(self, flow):
        return False
"""

APP_PROXY_FALSE = """
from network_extension import AppProxyProvider

class Forbids(AppProxyProvider):
    def handle_new_flow(self, flow):
        return False
"""


@pytest.fixture(scope="module", autouse=True)
def web(lab: NetLab, folder: Path) -> None:
    """The same page on two ports, of which only the first is within vendor B's rules."""
    (folder / "index.html").write_text("a lion\n")
    for port in (8000, 8001):
        Nginx(lab, lab.far, folder, (FAR4,), port, f"root {folder};")


@pytest.fixture(scope="module")
def shrugs(folder: Path) -> tuple[str, str]:
    """A transparent proxy that is asked about everything and wants nothing."""
    (folder / "shrugs.py").write_text(TRANSPARENT_FALSE)
    return ("--provider", str(folder / "shrugs.py"))


@pytest.fixture(scope="module")
def forbids(folder: Path) -> tuple[str, str]:
    """An app proxy that wants nothing either; but its False means no."""
    (folder / "forbids.py").write_text(APP_PROXY_FALSE)
    return ("--provider", str(folder / "forbids.py"))


def curl(lab: NetLab, port: int, *providers: str) -> Run:
    return netext_run(lab, *providers, "--", "curl", "-sS", f"http://{FAR4}:{port}/")


def test_the_first_in_order_changes_the_bytes(lab: NetLab) -> None:
    run = curl(lab, 8000, *REWRITES, *CARRIES)
    assert run.output == "a house cat\n"
    assert run.flows == [(8000, "claimed", "RewritingProxy")]


def test_the_other_order_leaves_them_alone(lab: NetLab) -> None:
    """The flow is claimed before the rewriting proxy is asked: one flow has one owner."""
    run = curl(lab, 8000, *CARRIES, *REWRITES)
    assert run.output == "a lion\n"
    assert run.flows == [(8000, "claimed", "PassThrough")]


def test_what_only_one_selects_is_its_own_in_any_order(lab: NetLab) -> None:
    run = curl(lab, 8001, *REWRITES, *CARRIES)
    assert run.output == "a lion\n"
    assert run.flows == [(8001, "claimed", "PassThrough")]


def test_false_passes_on_to_the_next(lab: NetLab, shrugs: tuple[str, str]) -> None:
    run = curl(lab, 8000, *shrugs, *REWRITES)
    assert run.output == "a house cat\n"
    assert run.flows == [(8000, "claimed", "RewritingProxy")]


def test_false_of_all_is_as_without_them(lab: NetLab, shrugs: tuple[str, str]) -> None:
    run = curl(lab, 8000, *shrugs)
    assert run.output == "a lion\n"
    assert run.flows == [(8000, "passed", "pass-through")]


def test_false_of_an_app_proxy_is_a_refusal(lab: NetLab, forbids: tuple[str, str]) -> None:
    """connect() fails with ECONNREFUSED; the transparent proxy behind it is not asked."""
    run = curl(lab, 8000, *forbids, *CARRIES)
    assert run.status == 7  # curl: failed to connect
    assert "Connection refused" in run.log or "Couldn't connect" in run.log
    assert run.flows == [(8000, "refused", "Forbids")]


def test_three_in_order(lab: NetLab, shrugs: tuple[str, str], forbids: tuple[str, str]) -> None:
    """Port 8000 is taken before the app proxy is asked, port 8001 comes as far as that."""
    providers = (*shrugs, *REWRITES, *forbids)
    assert curl(lab, 8000, *providers).flows == [(8000, "claimed", "RewritingProxy")]
    assert curl(lab, 8001, *providers).flows == [(8001, "refused", "Forbids")]


def test_the_same_proxy_twice_is_told_apart(lab: NetLab, shrugs: tuple[str, str]) -> None:
    """Each provider has a process, a name and a configuration of its own."""
    other = example("rewriting_proxy", ports=[8001], find="lion", replace="tiger")
    run = curl(lab, 8001, *REWRITES, *other)
    assert run.output == "a tiger\n"
    assert run.flows == [(8001, "claimed", "RewritingProxy#2")]


def test_the_line_for_people_tells_it_too(lab: NetLab) -> None:
    run = netext_run(lab, *CARRIES, *REWRITES, "--", "curl", "-sS", f"http://{FAR4}:8000/", log="")
    assert f" → {FAR4}:8000 tcp  claimed by PassThrough  ↑" in run.log
