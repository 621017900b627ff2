"""The command: found as a shell finds it, started as if nothing were there, ended as it ended.

The sandbox's namespaces are left out (lab tests have them): what is shown here is the rest of the way to exec.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from network_extension.errors import DatapathError, ExitCode
from network_extension.linux import namespaces
from network_extension.linux.signals import Signal
from network_extension.runtime import command
from network_extension.runtime.command import Command, CommandError, find_command


class Case(NamedTuple):
    """A name, a PATH, and what comes of them in `folder`: bin/tool and here can be run, plain/tool cannot."""

    name: str
    path: str
    found: str = ""
    code: int = 0
    text: str = ""


CASES = [
    Case("tool", "{0}/bin", "{0}/bin/tool"),
    Case("tool", "{0}/none:{0}/plain:{0}/bin", "{0}/bin/tool"),
    Case("tool", "{0}/folders:{0}/bin", "{0}/bin/tool"),  # a folder of that name is none
    Case("here", "{0}/bin:", "./here"),  # an empty entry is the present folder
    Case("here", "", "./here"),
    Case("./here", "{0}/bin", "./here"),
    Case("bin/tool", "", "bin/tool"),
    Case("{0}/bin/tool", "", "{0}/bin/tool"),
    Case("link", "{0}/bin", "{0}/bin/link"),
    Case("tool", "{0}/plain:{0}/none", "", 126, "{0}/plain/tool: not executable; next step: chmod +x {0}/plain/tool"),
    Case("plain/tool", "{0}/bin", "", 126, "plain/tool: not executable"),
    Case("bin/", "{0}/bin", "", 126, "bin/: is a directory"),
    Case("/dev/null", "{0}/bin", "", 126, "/dev/null: is not a file"),
    Case("tool", "{0}/none", "", 127, "tool: not found in PATH; next step: check its spelling, or install it"),
    Case("here", "{0}/bin", "", 127, "here: not found in PATH"),
    Case("bin/none", "{0}/bin", "", 127, "bin/none: no such file"),
    Case("bin/dangling", "{0}/bin", "", 127, "bin/dangling: no such file"),
    Case("dangling", "{0}/bin", "", 127, "dangling: not found in PATH"),
    Case("", "{0}/bin", "", 127, ": not found in PATH"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, mode in (("bin/tool", 0o755), ("plain/tool", 0o644), ("here", 0o755)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch(mode)
    (tmp_path / "folders" / "tool").mkdir(parents=True)
    (tmp_path / "bin" / "link").symlink_to("tool")
    (tmp_path / "bin" / "dangling").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} in {case.path}")
def test_finding(folder: Path, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    name, path, found, text = (field.format(folder) for field in (case.name, case.path, case.found, case.text))
    monkeypatch.setenv("PATH", path)
    if found:
        assert find_command(name) == found
        return
    with pytest.raises(CommandError) as caught:
        find_command(name)
    assert str(caught.value).startswith(f"command {text}")
    assert caught.value.exit_code == case.code and "\n" not in str(caught.value)


def test_without_a_path_the_systems_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert find_command("sh") in ("/bin/sh", "/usr/bin/sh")


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is started where the tests run."""
    monkeypatch.setattr(command, "enter_sandbox", lambda keeper: None)
    monkeypatch.setattr(namespaces, "drop_capabilities", lambda: None)


def output_of(code: str, mask: set[int] | None = None, name: str = "python") -> str:
    """What a Python command prints."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    words = [name, "-c", f"import os, signal, sys\nos.write({writer}, str({code}).encode())"]
    running = Command(sys.executable, words, 0, mask or set())
    os.close(writer)
    with os.fdopen(reader) as output:
        text = output.read()
    assert os.waitpid(running.pid, 0) == (running.pid, 0)
    return text


@pytest.mark.usefixtures("no_sandbox")
class TestStart:
    def test_it_is_a_child_of_ours_in_our_group(self) -> None:
        assert output_of("[os.getppid(), os.getpgrp()]") == f"[{os.getpid()}, {os.getpgrp()}]"

    def test_it_keeps_directory_and_environment(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLOUR", "blue")
        assert output_of("[os.getcwd(), os.environ['COLOUR']]") == f"['{folder}', 'blue']"

    def test_signals_are_as_they_were(self) -> None:
        mask = {signal.SIGUSR2}
        text = output_of("[int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())]", {*map(int, mask)})
        assert text == str([int(signal.SIGUSR2)])

    def test_it_dies_with_us(self) -> None:
        """PR_SET_PDEATHSIG, as prctl(2) tells it: 2 is PR_GET_PDEATHSIG."""
        code = "(c := __import__('ctypes')).CDLL(None).prctl(2, c.byref(n := c.c_int())) or n.value"
        assert output_of(code) == str(int(signal.SIGKILL))

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (b"", "not a program that this system can run; a script needs #! in its first line"),
            (b"echo hello\n", "not a program that this system can run"),
            (b"#!/nonexistent/interpreter\n", "its interpreter does not exist"),
            (b"#!/\n", "Permission denied"),
        ],
    )
    def test_what_cannot_be_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, text: str
    ) -> None:
        pids: list[int] = []
        real_fork = os.fork

        def fork() -> int:
            pids.append(real_fork())
            return pids[-1]

        monkeypatch.setattr(os, "fork", fork)
        path = tmp_path / "program"
        path.write_bytes(content)
        path.chmod(0o755)
        with pytest.raises(CommandError) as caught:
            Command(str(path), [str(path)], 0, set())
        assert str(caught.value).startswith(f"command {path}: ") and text in str(caught.value)
        assert caught.value.exit_code == ExitCode.COMMAND_NOT_EXECUTABLE
        with pytest.raises(ChildProcessError):
            os.waitpid(pids[0], os.WNOHANG)  # the failed attempt was waited for

    def test_a_directory_that_has_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "gone"
        folder.mkdir()
        monkeypatch.chdir(folder)
        folder.rmdir()
        running = Command("/bin/true", ["true"], 0, set())
        assert os.waitpid(running.pid, 0)[1] == 0

    def test_a_sandbox_that_cannot_be_entered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbidden(keeper: int) -> None:
            raise DatapathError("enter the user namespace: Operation not permitted", errno=1)

        monkeypatch.setattr(command, "enter_sandbox", forbidden)
        with pytest.raises(CommandError) as caught:
            Command("/bin/true", ["true"], 0, set())
        text = "sandbox: enter the user namespace: Operation not permitted; next step: netext doctor"
        assert (str(caught.value), caught.value.exit_code) == (text, ExitCode.DATAPATH)

    def test_a_fault_of_ours_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command, "enter_sandbox", lambda keeper: 1 / 0)
        with pytest.raises(CommandError, match="ZeroDivisionError: division by zero"):
            Command("/bin/true", ["true"], 0, set())


@pytest.mark.usefixtures("no_sandbox")
class TestForwarding:
    @pytest.mark.parametrize(
        ("sender", "from_terminal", "arrives"),
        [(1, False, True), (0, True, False), ("itself", False, False)],
        ids=["somebody", "a key", "the command itself"],
    )
    def test_who_sent_it_matters(self, sender: int | str, from_terminal: bool, arrives: bool) -> None:
        """The terminal's keys reach the command by themselves; what it sent to us is meant for us."""
        running = Command("/bin/sleep", ["sleep", "60"], 0, set())
        running.forward(Signal(signal.SIGTERM, running.pid if sender == "itself" else int(sender), from_terminal))
        os.kill(running.pid, signal.SIGUSR1)
        _, status = os.waitpid(running.pid, 0)
        assert os.WTERMSIG(status) == (signal.SIGTERM if arrives else signal.SIGUSR1)
        running.forward(Signal(signal.SIGTERM, 1, False))  # it has gone: nobody is signalled

    def test_after_its_end_nobody_else_is_signalled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its number may be another process's by now."""
        running = Command("/bin/true", ["true"], 0, set())
        running.status = os.waitpid(running.pid, 0)[1]
        monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail("a signal was sent"))
        running.forward(Signal(signal.SIGTERM, 1, False))


EXIT_AS = """
import os, signal, sys
from network_extension.runtime.command import exit_as
child = os.fork()
if not child:
    {action}
    os._exit(7)
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM, signal.SIGINT}})
sys.exit(exit_as(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("os._exit(0)", 0),
        ("os._exit(255)", 255),
        *((f"os.kill(os.getpid(), {number})", -number) for number in (2, 9, 15, 32, 33, 34, 40)),
        ("signal.signal(2, signal.SIG_DFL); os.abort()", -signal.SIGABRT),
    ],
)
def test_we_end_as_it_ended(tmp_path: Path, action: str, status: int) -> None:
    """By the same status or the same signal, also by one that is blocked here, and that glibc keeps for itself."""
    if status == -signal.SIGINT:
        action = "signal.signal(2, signal.SIG_DFL); " + action
    words = [sys.executable, "-W", "error", "-c", EXIT_AS.format(action=action)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False, cwd=tmp_path)
    if status in (-32, -33) and done.returncode == 7:
        pytest.skip("whoever started us had this signal blocked, and glibc lets nobody unblock it")
    assert (done.returncode, done.stderr) == (status, "")
