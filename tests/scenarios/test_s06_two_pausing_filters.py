"""S6: two vendors' filters both pause the same flows, and a device is paired over ports that change each time.

Both filters must let a flow go before it begins; neither's pause makes the other lose it, whoever answers first. What
may pass is said by program, not by address: the ports are dynamic, and addresses would be too broad.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.netlab import FAR4, NetLab, python

from .runs import Run, netext_run

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

VENDOR = '''
"""Pauses each flow and thinks `think` seconds; lets through what the program named `program` does."""
import asyncio
from network_extension import FilterDataProvider, FilterGrade, FilterNewFlowVerdict

class {name}(FilterDataProvider):
    grade = FilterGrade.{grade}

    def handle_new_flow(self, flow):
        known = flow.source_app_identifier == self.configuration["program"]
        verdict = FilterNewFlowVerdict.allow() if known else FilterNewFlowVerdict.drop()
        asyncio.get_running_loop().call_later(self.configuration["think"], self.resume_flow, flow, verdict)
        self.log(f"paused {{flow.remote_endpoint}}")
        return FilterNewFlowVerdict.pause()
'''
PAIRING = """
import socket, sys
control = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
for line in control.makefile():
    with socket.create_connection((sys.argv[1], int(line)), 20) as channel:
        channel.sendall(b"pair")
        print(channel.recv(100).decode())
"""
CHANNELS = 3


@pytest.fixture
def vendors(folder: Path) -> Path:
    """The two filters' files."""
    for name, grade in (("VendorOne", "FIREWALL"), ("VendorTwo", "FIREWALL"), ("VendorThree", "INSPECTOR")):
        (folder / f"{name}.py").write_text(VENDOR.format(name=name, grade=grade))
    return folder


@pytest.fixture
def device(lab: NetLab) -> Iterator[int]:
    """A device: it names a fresh port for each channel, and answers there."""
    with lab.far_listener() as control, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            with control.accept()[0] as session:
                for _ in range(CHANNELS):
                    with lab.far_listener() as channel:
                        session.sendall(f"{channel.getsockname()[1]}\n".encode())
                        with channel.accept()[0] as paired:
                            paired.sendall(paired.recv(100) + b"ed")

        serving = pool.submit(serve)
        yield control.getsockname()[1]
        control.shutdown(socket.SHUT_RDWR)
        serving.exception(10)


def vendor(folder: Path, name: str, think: float, program: str = "python3") -> tuple[str, ...]:
    """The words for one filter."""
    return ("--provider", str(folder / f"{name}.py"), "--config", f"program={program}", "--config", f"think={think}")


def pair(lab: NetLab, port: int, *filters: str) -> Run:
    return netext_run(lab, *filters, "--", *python(PAIRING), FAR4, str(port))


def program_name() -> str:
    """What filters call our interpreter: the name of its executable."""
    return Path(python("")[0]).resolve().name


@pytest.mark.parametrize(("one", "two"), [(0.1, 0.3), (0.3, 0.1), (0.2, 0.2)])
def test_each_channel_waits_for_both(lab: NetLab, vendors: Path, device: int, one: float, two: float) -> None:
    filters = vendor(vendors, "VendorOne", one, program_name()) + vendor(vendors, "VendorTwo", two, program_name())
    run = pair(lab, device, *filters)
    assert run.output.split() == ["paired"] * CHANNELS
    paused = [record["text"].partition(":")[0] for record in run.records("provider-log")]
    assert paused == ["VendorOne", "VendorTwo"] * (CHANNELS + 1)  # one after the other, each once for each flow
    assert all(record["seconds"] > one + two for record in run.records("flow"))


def test_either_can_forbid_it(lab: NetLab, vendors: Path, device: int) -> None:
    for first, second, by in ((program_name(), "nothing", "VendorTwo"), ("nothing", program_name(), "VendorOne")):
        filters = vendor(vendors, "VendorOne", 0.05, first) + vendor(vendors, "VendorTwo", 0.05, second)
        run = pair(lab, device, *filters)
        assert "ConnectionRefusedError" in run.log
        assert run.flows == [(device, "dropped", by)]


def test_firewalls_are_asked_before_inspectors(lab: NetLab, vendors: Path, device: int) -> None:
    """Whatever their places on the command line."""
    filters = vendor(vendors, "VendorThree", 0.05, program_name()) + vendor(vendors, "VendorOne", 0.05, program_name())
    run = pair(lab, device, *filters)
    paused = [record["text"].partition(":")[0] for record in run.records("provider-log")]
    assert run.output.split() == ["paired"] * CHANNELS and paused[:2] == ["VendorOne", "VendorThree"]
