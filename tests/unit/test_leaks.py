"""The leak check itself: it must see what is left behind, or all lab tests are worth nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.leaks import Snapshot, is_running, reap_orphans, wait_until_like

# A grandchild that nobody waits for: its parent prints its pid and dies.
ORPHAN_MAKER = """
import os, signal
pid = os.fork()
if pid == 0:
    os.close(1)  # or run() waits for its end of the pipe
    signal.pause()
print(pid, flush=True)
os._exit(0)
"""


def test_nothing_is_left_behind_by_nothing() -> None:
    before = Snapshot.take()
    assert wait_until_like(before, 0) == []


def test_an_open_descriptor_is_named() -> None:
    before = Snapshot.take()
    reader, writer = os.pipe()
    try:
        remains = wait_until_like(before, 0)
    finally:
        os.close(reader)
        os.close(writer)
    assert [line.split()[0] for line in remains] == ["descriptor", "descriptor"]
    assert "pipe:" in remains[0]
    assert wait_until_like(before, 0) == []


def test_a_child_is_named_by_its_command_line() -> None:
    before = Snapshot.take()
    with subprocess.Popen(["sleep", "60"]) as child:
        remains = wait_until_like(before, 0)
        child.kill()
    assert remains == [f"process {child.pid}: sleep 60"]


def test_an_orphan_is_found_although_its_parent_is_gone() -> None:
    before = Snapshot.take()
    made = subprocess.run([sys.executable, "-c", ORPHAN_MAKER], check=True, stdout=subprocess.PIPE, text=True)
    orphan = int(made.stdout)
    remains = wait_until_like(before, 0)
    os.kill(orphan, 9)
    assert [line.split(":")[0] for line in remains] == [f"process {orphan}"]
    assert wait_until_like(before) == []
    assert not is_running(orphan)


def test_a_child_from_before_keeps_its_status_for_its_owner() -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"], stderr=subprocess.DEVNULL) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        before = Snapshot.take()
        reap_orphans(before.processes)
    assert child.returncode == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
def test_a_namespace_that_only_a_descriptor_keeps_is_found() -> None:
    before = Snapshot.take()
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo ready; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        kept = os.open(f"/proc/{child.pid}/ns/net", os.O_RDONLY)
    try:
        remains = wait_until_like(before, 0)
    finally:
        os.close(kept)
    assert any(line.startswith("network namespace net:") for line in remains)
    assert wait_until_like(before) == []
