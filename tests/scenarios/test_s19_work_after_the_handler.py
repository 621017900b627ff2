"""S19: does work that an extension has started survive its completion handler?

Here it does. What a provider starts with `self.spawn(...)` goes on when the callback that started it has returned, and
when the provider is stopped it is awaited for the grace period (`--grace`, 5 s unless given). Then it is cancelled,
which it can notice, and the log says how much was cut off.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netlab import FAR4, NetLab

from .runs import Run, netext_run
from .servers import Nginx

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

PROVIDER = """
import asyncio
from pathlib import Path

from network_extension import TransparentProxyProvider


class Accountant(TransparentProxyProvider):
    async def handle_new_flow(self, flow):
        with await flow.connect() as remote:
            result = await flow.relay(remote)
        self.spawn(self.write_report(flow, result))
        return True  # the handler has completed; the report takes its time

    async def stop_proxy(self, reason):
        self.log(f"stop_proxy: {reason.name}")

    async def write_report(self, flow, result):
        report = Path(self.configuration["report"])
        try:
            await asyncio.sleep(self.configuration["seconds"])
            report.write_text(f"{flow.remote_endpoint}: {result.bytes_in} bytes")
        except asyncio.CancelledError:
            report.write_text("cut off")
            raise
"""


@pytest.fixture(scope="module", autouse=True)
def web(lab: NetLab, folder: Path) -> None:
    Nginx(lab, lab.far, folder, (FAR4,), 8000, "return 200 hello;")
    folder.chmod(0o777)  # reports are written by nobody
    (folder / "accountant.py").write_text(PROVIDER)


def run_accountant(lab: NetLab, folder: Path, name: str, seconds: float, *options: str) -> tuple[Run, str]:
    report = folder / name
    provider = (
        "--provider",
        str(folder / "accountant.py"),
        "--config",
        f"seconds={seconds}",
        "--config",
        f"report={report}",
    )
    run = netext_run(lab, *options, *provider, "--", "curl", "-sS", f"http://{FAR4}:8000/")
    assert (run.status, run.output) == (0, "hello")
    return run, report.read_text() if report.exists() else "nothing"


def test_started_work_is_awaited(lab: NetLab, folder: Path) -> None:
    """The report needs half a second; the command, and with it the session, ends long before."""
    run, report = run_accountant(lab, folder, "awaited", 0.5)
    assert report.startswith(f"{FAR4}:8000: ")
    assert "Accountant: stop_proxy: NONE" in [record["text"] for record in run.records("provider-log")]
    assert not [record for record in run.records("provider") if "cancelled" in record]


def test_what_takes_longer_than_the_grace_period_is_cut_off(lab: NetLab, folder: Path) -> None:
    """It is told (CancelledError), and so is the user, by one line."""
    run, report = run_accountant(lab, folder, "cut", 600, "--grace", "0.5")
    assert report == "cut off"
    cut = [record for record in run.records("provider") if "cancelled" in record]
    assert [record["text"] for record in cut] == ["provider Accountant: 1 task cut off after the grace period"]


def test_no_grace_at_all(lab: NetLab, folder: Path) -> None:
    """`--grace 0`: at once, and still told."""
    run, report = run_accountant(lab, folder, "none", 600, "--grace", "0")
    assert report == "cut off"
    assert any("cut off" in record["text"] for record in run.records("provider"))
