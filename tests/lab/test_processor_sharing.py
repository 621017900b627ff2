"""`netext filter` keeps its engine and its providers together on one processor, as long as that is good for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from network_extension.linux.processors import allowed_processors, children
from tests.netlab import NetLab, wait_for

from .host_filter import ALLOW, RunningFilter, attempt

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(len(allowed_processors()) < 2, reason="this machine has one processor"),
]
WORKING = f"{Path(__file__).with_name('providers') / 'working.py'}:Working"


def held(pids: list[int]) -> set[frozenset[int]]:
    """The processors of all threads of these processes."""
    tasks = [int(name) for pid in pids for name in os.listdir(f"/proc/{pid}/task")]
    return {frozenset(os.sched_getaffinity(task)) for task in tasks}


def test_together_until_the_provider_has_processes_of_its_own(lab: NetLab, tmp_path: Path) -> None:
    with RunningFilter(lab, tmp_path / "log", provider=WORKING) as running:
        pids = [running.engine, running.provider]
        (together,) = wait_for(lambda: held(pids) if len(held(pids)) == 1 else None, 5, "one set of processors")
        assert len(together) == 1
        assert os.sched_getaffinity(running.process.pid) == allowed_processors(), "who supervises is not held"
        attempt(lab, ALLOW)
        (helper,) = wait_for(lambda: children(running.provider), 5, "a process of the provider's own")
        everywhere = {allowed_processors()}
        wait_for(lambda: held([*pids, helper]) == everywhere, 6, "all of them to run anywhere")


def test_a_new_provider_joins_the_engine(lab: NetLab, tmp_path: Path) -> None:
    with RunningFilter(lab, tmp_path / "log") as running:
        wait_for(lambda: len(held([running.engine])) == 1, 5, "the engine's processor")
        running.kill(running.provider)
        running.said("running again")
        wait_for(lambda: held([running.provider]) == held([running.engine]), 6, "it to join the engine")
