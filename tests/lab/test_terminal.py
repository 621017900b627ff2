"""A real terminal: an interactive shell on a pseudo-terminal runs `netext run`, and keys do what they do without us."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator

import pytest

from tests.netlab import NetLab

pytestmark = pytest.mark.lab

PROMPT = "ready> "


# Commands here do not fork at the moment of the key: a shell that waits in vfork() for a child that was stopped, or
# whose child missed the signal, hangs natively too.


class Terminal:
    """An interactive bash, as nobody in `near`, and a keyboard in front of it."""

    def __init__(self, lab: NetLab) -> None:
        self.netext = " ".join(lab.netext("run", "--quiet", "--"))
        words = lab.near.command("bash", "--norc", "--noprofile", "-i", user=True)
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.environ["PS1"], os.environ["TERM"] = PROMPT, "dumb"
            os.execvp(words[0], words)
        self.seen = ""
        self.expect(re.escape(PROMPT))
        self.type("bind 'set enable-bracketed-paste off' 2>/dev/null; stty -echo\n")
        self.expect(re.escape(PROMPT))

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._descriptor, keys.encode())

    def expect(self, pattern: str, timeout: float = 8) -> re.Match[str]:
        """Read until a pattern appears; what comes after it stays for the next."""
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self._descriptor], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} did not come; seen: {self.seen!r}"
            self.seen += os.read(self._descriptor, 65536).decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found

    def run(self, command: str) -> str:
        """Type a command, wait for the prompt; what was printed."""
        self.type(command + "\n")
        return self.expect(rf"(?s)(.*?){re.escape(PROMPT)}").group(1).replace("\r\n", "\n")

    def close(self) -> None:
        """Hang up."""
        os.close(self._descriptor)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


@pytest.fixture
def terminal(lab: NetLab) -> Iterator[Terminal]:
    terminal = Terminal(lab)
    yield terminal
    terminal.close()


def test_the_command_has_the_terminal(terminal: Terminal) -> None:
    """isatty() on all three, the terminal's size, and reading from /dev/tty."""
    terminal.run("stty rows 33 cols 77")
    output = terminal.run(f"{terminal.netext} sh -c 'test -t 0 && test -t 1 && test -t 2 && stty size < /dev/tty'")
    assert output == "33 77\n"


def test_control_c_ends_the_command(terminal: Terminal) -> None:
    """The command dies of SIGINT, once, and the shell sees 130."""
    terminal.type(f"{terminal.netext} sh -c 'echo started; exec sleep 20'; echo status $?\n")
    terminal.expect("started")
    terminal.type("\x03")
    terminal.expect(re.escape(PROMPT))
    assert terminal.run("echo status $?") == "status 130\n"


def test_control_c_that_the_command_handles(terminal: Terminal) -> None:
    """A command that catches SIGINT gets exactly one, goes on, and its own exit status is what counts."""
    script = 'trap "echo caught" INT; echo started; read -t 1 line; read -t 0.3 line; echo done; exit 4'
    terminal.type(f"{terminal.netext} bash -c '{script}'\n")
    terminal.expect("started")
    terminal.type("\x03")
    output = terminal.expect(rf"(?s)(.*?){re.escape(PROMPT)}").group(1)
    assert output.count("caught") == 1
    assert "done" in output
    assert terminal.run("echo status $?") == "status 4\n"


def test_control_z_and_foreground(terminal: Terminal) -> None:
    """Ctrl-Z stops the command and `netext`: the shell prompts, `jobs` says Stopped; `fg` goes on where it was."""
    script = "while read line; do echo got $line; done; exit 6"
    terminal.type(f"{terminal.netext} sh -c '{script}'\n")
    for number in range(3):
        terminal.type(f"line {number}\n")
        terminal.expect(f"got line {number}")
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.expect(re.escape(PROMPT))
        assert "Stopped" in terminal.run("jobs")
        terminal.type("fg\n")
        terminal.expect("exit 6'\r\n")
    terminal.type("the end\n")
    terminal.expect("got the end")
    terminal.type("\x04")
    terminal.expect(re.escape(PROMPT))
    assert terminal.run("echo status $?") == "status 6\n"


def test_control_z_that_the_command_ignores(terminal: Terminal) -> None:
    """A command that ignores SIGTSTP goes on, and `netext` with it: the shell does not prompt."""
    terminal.type(f"{terminal.netext} sh -c 'trap \"\" TSTP; echo started; read line; echo got $line'\n")
    terminal.expect("started")
    terminal.type("\x1a")
    terminal.type("a line\n")
    terminal.expect("got a line")
    terminal.expect(re.escape(PROMPT))


def test_control_z_and_background(terminal: Terminal) -> None:
    """`bg` lets it run on in the background, to its end."""
    code = 'import time; print("started", flush=True); time.sleep(0.7); print("finished")'
    terminal.type(f"{terminal.netext} /usr/bin/python3 -c '{code}'\n")
    terminal.expect("started")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.run("bg")
    terminal.expect("finished")
    terminal.type("wait\n")
    terminal.expect("Done")


def test_an_interactive_shell_inside(terminal: Terminal) -> None:
    """A shell in the sandbox has job control of its own, and gives the terminal back at its end."""
    terminal.type("export PS1='inner> '\n")
    terminal.expect("inner> ")
    terminal.type(f"{terminal.netext} bash --norc --noprofile -i\n")
    terminal.expect("inner> ")
    terminal.type("cat\nbefore\n")
    terminal.expect("before")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("inner> ")
    terminal.type("fg\nafter\n")
    terminal.expect("after")
    terminal.type("\x03")
    terminal.expect("inner> ")
    terminal.type("exit 3\n")
    terminal.expect("exit\r\n")
    terminal.expect("inner> ")
    terminal.type("echo outer $?\n")
    terminal.expect("outer 3")


def test_hanging_up(terminal: Terminal, lab: NetLab) -> None:
    """The terminal goes away: the command gets SIGHUP, and all ends (the leak check sees to it)."""
    terminal.type(f"{terminal.netext} sh -c 'echo started; sleep 300'\n")
    terminal.expect("started")
