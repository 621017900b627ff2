"""Who holds a socket: real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.linux import processes
from network_extension.linux.processes import ProcessFinder, printable
from tests.netlab import wait_for

# Opens sockets, starts children that open sockets, and tells of all by one line of JSON.
PROGRAM = """
import json, os, socket, subprocess, sys
depth, width, before = (int(word) for word in sys.argv[1:4])
earlier = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(before)]
mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
words = [sys.executable, "-c", sys.argv[4], str(depth - 1), "1", "0", sys.argv[4]]
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
children = [subprocess.Popen(words, **pipes) for _ in range(width if depth else 0)]
below = [json.loads(child.stdout.readline()) for child in children]
first = os.fstat(earlier[0].fileno()).st_ino if earlier else 0
print(json.dumps([os.getpid(), os.fstat(mine.fileno()).st_ino, first, below]), flush=True)
sys.stdin.read()
for child in children:
    child.stdin.close()
    child.wait()
"""


class Tree(NamedTuple):
    pid: int
    inode: int
    earlier: int
    children: list[Tree]

    @classmethod
    def read(cls, data: Any) -> Tree:
        pid, inode, earlier, children = data
        return cls(pid, inode, earlier, [cls.read(child) for child in children])


@contextmanager
def running(depth: int = 0, width: int = 1, before: int = 0) -> Iterator[Tree]:
    words = [sys.executable, "-c", PROGRAM, str(depth), str(width), str(before), PROGRAM]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    try:
        yield Tree.read(json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


def found(finder: ProcessFinder, inode: Any) -> int | None:
    owner = finder.owner(inode)
    return owner.pid if owner else None


def test_a_single_process_is_described() -> None:
    with running() as program:
        owner = ProcessFinder(program.pid).owner(program.inode)
        assert owner is not None
        assert owner.pid == program.pid
        assert owner.uid == os.geteuid()
        assert os.path.realpath(owner.executable) == os.path.realpath(sys.executable)
        assert owner.arguments[:3] == (sys.executable, "-c", PROGRAM)
        assert owner.parents == ()
        fields = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
        assert owner.start_time == int(fields[19])


def test_the_inode_may_be_asked_for_later() -> None:
    with running() as program:
        assert found(ProcessFinder(program.pid), lambda: program.inode) == program.pid


def test_the_only_process_is_the_owner_of_a_socket_without_a_number() -> None:
    with running() as program:
        assert found(ProcessFinder(program.pid), None) == program.pid
        assert found(ProcessFinder(program.pid), 1) is None, "it could have been seen there"
    with running(1) as program:
        assert found(ProcessFinder(program.pid), None) is None


def test_every_process_of_a_tree_is_told_apart() -> None:
    with running(3, 2) as program:
        finder = ProcessFinder(program.pid)
        chain = [program, program.children[1], program.children[1].children[0]]
        chain.append(chain[-1].children[0])
        for depth, process in enumerate(chain):
            owner = finder.owner(process.inode)
            assert owner is not None
            assert owner.pid == process.pid
            assert [parent.pid for parent in owner.parents] == [above.pid for above in reversed(chain[:depth])]
        assert set(finder.tree()) >= {process.pid for process in chain}


def test_among_a_thousand_descriptors_new_and_old_ones_are_found() -> None:
    with running(before=1000) as program:
        finder = ProcessFinder(program.pid)
        assert found(finder, program.inode) == program.pid
        assert found(finder, program.earlier) == program.pid


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MAX_LINKS", 100)
    with running(before=500) as program:
        assert found(ProcessFinder(program.pid), program.earlier) is None
        assert found(ProcessFinder(program.pid), program.inode) == program.pid


def test_without_lists_of_children_the_namespace_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_children", lambda pid: iter(()))
    with running(1) as program:
        child = program.children[0]
        assert found(ProcessFinder(program.pid), child.inode) == child.pid


def test_a_daemon_is_found_although_it_has_left_the_tree() -> None:
    with running() as program, running() as other:
        owner = ProcessFinder(program.pid).owner(other.inode)
        assert owner is not None
        assert owner.pid == other.pid


EXECUTES = """
import os, socket, sys
mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mine.set_inheritable(True)
print(os.fstat(mine.fileno()).st_ino, flush=True)
for line in sys.stdin:
    os.execv(line.split()[0], line.split())
"""
SECOND = "print('there',flush=True);input()"


def test_exec_is_noticed_even_of_the_same_program() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", EXECUTES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin
    assert process.stdout
    try:
        inode, finder = int(process.stdout.readline()), ProcessFinder(process.pid)
        before = finder.owner(inode)
        assert before is not None
        assert finder.describe(process.pid) is before, "remembered"
        process.stdin.write(f"{sys.executable} -c {SECOND}\n")
        assert process.stdout.readline() == "there\n"
        after = finder.owner(inode)
        assert after is not None
        assert after.arguments == (sys.executable, "-c", SECOND)
        assert after.start_time == before.start_time
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_the_dead_are_nobody() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie
    finder = ProcessFinder(process.pid)
    assert finder.describe(process.pid) is None
    assert finder.owner(None) is None
    process.wait()
    assert finder.describe(process.pid) is None
    assert finder.owner(4711) is None
    assert finder.tree() == [process.pid]


def test_kernel_threads_are_nobody() -> None:
    if Path("/proc/2/comm").read_text() != "kthreadd\n":
        pytest.skip("no kernel threads in this namespace of processes")
    assert ProcessFinder(2).describe(2) is None


def test_a_process_that_ends_meanwhile_is_nobody() -> None:
    with running(2, 2) as program:
        finder = ProcessFinder(program.pid)
        gone = program.children[0].children[0]
        assert found(finder, gone.inode) == gone.pid
        os.kill(gone.pid, signal.SIGKILL)
        os.kill(program.children[0].pid, signal.SIGKILL)
        wait_for(lambda: found(finder, gone.inode) is None)
        assert found(finder, program.inode) == program.pid


def test_odd_names_are_shown_in_one_line(tmp_path: Path) -> None:
    copy = os.fsencode(tmp_path) + b"/\xfe\x07"
    Path(os.fsdecode(copy)).write_bytes(Path("/bin/sleep").read_bytes())
    os.chmod(copy, 0o700)
    process = subprocess.Popen([copy, b"60"])
    try:
        wait_for(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(copy))
        info = ProcessFinder(process.pid).describe(process.pid)
        assert info is not None
        assert info.executable == f"{tmp_path}/\\udcfe\\x07"
        assert info.arguments == (f"{tmp_path}/\\xfe\x07", "60")
        json.dumps(info.to_dict(), ensure_ascii=False).encode()
    finally:
        process.kill()
        process.wait()


COPIES = "import os\nwhile data := os.read(0, 9): os.write(1, data)"


def test_long_command_lines_are_cut() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COPIES, *["x" * 1000] * 100], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        info = ProcessFinder(process.pid).describe(process.pid)
        assert info is not None
        assert 60_000 < sum(map(len, info.arguments)) <= processes.MAX_ARGUMENTS


@given(st.text(alphabet=st.characters(codec=None)))
def test_printable_gives_one_printable_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_our_own_sockets_are_found_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert found(ProcessFinder(os.getpid()), os.fstat(sock.fileno()).st_ino) == os.getpid()
