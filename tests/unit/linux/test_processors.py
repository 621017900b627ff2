"""Processors and processes, as this machine's kernel tells of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from network_extension.linux.processors import (
    allowed_processors,
    children,
    is_alone,
    process_time,
    processor_times,
    run_on,
)

GONE = 2**22 + 1  # above any pid_max
ALL = allowed_processors()
several = pytest.mark.skipif(len(ALL) < 2, reason="this machine has one processor")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that waits."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_work_takes_time_of_a_processor() -> None:
    before, own = sum(processor_times().values()), process_time(os.getpid())
    deadline = time.process_time() + 0.2
    while time.process_time() < deadline:
        pass
    assert process_time(os.getpid()) - own >= 0.15
    assert sum(processor_times().values()) - before >= 0.1
    assert set(ALL) <= set(processor_times())


def test_where_nothing_can_be_read() -> None:
    assert process_time(GONE) == 0.0
    assert is_alone(GONE, 1)
    assert children(GONE) == []
    run_on(GONE, ALL, instead_of=[ALL])


def test_threads_and_children(sleeper: subprocess.Popen[bytes]) -> None:
    assert is_alone(sleeper.pid, 1)
    assert sleeper.pid in children(os.getpid())
    assert not is_alone(os.getpid(), 64)  # it has a child
    code = "import os, threading; threading.Thread(target=input).start(); print(os.getpid(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as two:
        assert two.stdout is not None
        two.stdout.readline()
        assert (is_alone(two.pid, 1), is_alone(two.pid, 2)) == (False, True)
        two.kill()


@several
def test_processes_are_moved_and_let_go(sleeper: subprocess.Popen[bytes]) -> None:
    one, another = frozenset({min(ALL)}), frozenset({max(ALL)})
    run_on(sleeper.pid, one, instead_of=[ALL])
    assert os.sched_getaffinity(sleeper.pid) == one
    run_on(sleeper.pid, another, instead_of=[ALL, one])
    assert os.sched_getaffinity(sleeper.pid) == another
    run_on(sleeper.pid, ALL, instead_of=[ALL, another])
    assert os.sched_getaffinity(sleeper.pid) == ALL


@several
def test_what_somebody_else_has_chosen_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    os.sched_setaffinity(sleeper.pid, {min(ALL)})
    run_on(sleeper.pid, frozenset({max(ALL)}), instead_of=[ALL])
    assert os.sched_getaffinity(sleeper.pid) == {min(ALL)}
