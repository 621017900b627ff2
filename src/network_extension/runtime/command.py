"""The command: how it gets into the sandbox, and how `netext` stands in for it towards the shell.

It is a direct child of `netext`, in its process group, so that the terminal, job control and signals treat the two as
one. Inside it has the caller's uid, directory, environment and files, and no capability, now or after any exec.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import NoReturn

from ..errors import DatapathError, ExitCode, NetworkExtensionError
from ..linux import namespaces
from ..linux.signals import Signal, restore


class CommandError(NetworkExtensionError):
    """The command cannot be run; says which and why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def find_command(name: str) -> str:
    """The path of a command, as a shell would find it. Raises CommandError with the shell's exit codes 127 and 126."""
    candidates = [name] if "/" in name else [os.path.join(folder or ".", name) for folder in os.get_exec_path()]
    seen = ""
    for path in candidates:
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            seen = seen or path
        elif "/" in name and os.path.exists(path):
            what = "is a directory" if os.path.isdir(path) else "is not a file"
            raise CommandError(f"command {path}: {what}; name a program", ExitCode.COMMAND_NOT_EXECUTABLE)
    if seen:
        raise CommandError(
            f"command {seen}: not executable; next step: chmod +x {seen}", ExitCode.COMMAND_NOT_EXECUTABLE
        )
    where = "no such file" if "/" in name else "not found in PATH"
    raise CommandError(
        f"command {name}: {where}; next step: check its spelling, or install it", ExitCode.COMMAND_NOT_FOUND
    )


class Command:
    """The running command."""

    def __init__(self, path: str, arguments: list[str], keeper: int, signal_mask: set[int]) -> None:
        """Start it in the namespaces of process `keeper`. Raises CommandError when exec fails."""
        self._path, self._arguments = path, arguments
        self.status: int | None = None
        reader, writer = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(keeper, signal_mask, writer, parent)
        os.close(writer)
        with os.fdopen(reader, "rb") as report:
            failure = report.read()
        if failure:
            os.waitpid(self.pid, 0)
            number, _, text = failure.decode().partition(":")
            raise self._failure(int(number), text)

    def _become(self, keeper: int, signal_mask: set[int], writer: int, parent: int) -> NoReturn:
        try:
            here, directory = os.open(".", os.O_PATH | os.O_CLOEXEC), _working_directory()
            enter_sandbox(keeper)
            try:
                os.chdir(directory)
            except OSError:  # it was removed, or cannot be reached from the root: who is in it stays in it
                os.fchdir(here)
            namespaces.drop_capabilities()
            restore(signal_mask)
            namespaces.process_control(namespaces.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                os.execve(self._path, self._arguments, os.environ)
        except OSError as error:
            os.write(writer, f"{error.errno}:{error}".encode())
        except DatapathError as error:
            os.write(writer, f"{-error.errno}:{error}".encode())
        except Exception as error:
            os.write(writer, f"{errno.EINVAL}:{type(error).__name__}: {error}".encode())
        finally:
            os._exit(127)

    def _failure(self, number: int, text: str) -> CommandError:
        if number == errno.ENOEXEC:
            text = "not a program that this system can run; a script needs #! in its first line"
        elif number == errno.ENOENT:
            text = "its interpreter does not exist"
        elif number < 0:
            return CommandError(f"sandbox: {text}; next step: netext doctor", ExitCode.DATAPATH)
        return CommandError(f"command {self._path}: {text}", ExitCode.COMMAND_NOT_EXECUTABLE)

    def forward(self, received: Signal) -> None:
        """Pass on a signal that somebody sent to `netext` alone."""
        if self.status is None and not received.from_terminal and received.sender != self.pid:
            try:
                os.kill(self.pid, received.number)
            except ProcessLookupError:
                pass

    def stopped(self) -> None:
        """It was stopped (Ctrl-Z, SIGSTOP): stop with it, and go on with it."""
        while (runs := _runs_when_stopped(self.pid)) is not None:
            group = os.getpgid(self.pid)
            os.kill(os.getpid(), signal.SIGSTOP)
            # We are continued. The shell continues its whole job; the command may have been stopped anew since.
            if runs == _runs_when_stopped(self.pid):
                self._go_on(group)
                return

    def _go_on(self, group: int) -> None:
        """Continue it: it has a process group of its own, or somebody continued `netext` alone."""
        if group != os.getpgrp():
            _give_terminal(group)
            os.kill(-group, signal.SIGCONT)
        else:
            os.kill(self.pid, signal.SIGCONT)


def _working_directory() -> str:
    """Its path; empty if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def enter_sandbox(keeper: int) -> None:
    """Join the namespaces of process `keeper`: user first, since that gives the right to join the others."""
    kinds = (("user", namespaces.CLONE_NEWUSER), ("net", namespaces.CLONE_NEWNET), ("mnt", namespaces.CLONE_NEWNS))
    doors = [(os.open(f"/proc/{keeper}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind) for name, kind in kinds]
    for door, kind in doors:
        namespaces.enter(door, kind)
        os.close(door)


def _runs_when_stopped(pid: int) -> int | None:
    """How often a stopped process has been put on a processor in its life; None when it is not stopped."""
    try:
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
    except OSError:
        return None
    if status["State"].split()[0] != "T":
        return None
    return int(status["voluntary_ctxt_switches"]) + int(status["nonvoluntary_ctxt_switches"])


def _give_terminal(group: int) -> None:
    """Make the command's process group the terminal's foreground group again."""
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        os.tcsetpgrp(sys.stdin.fileno(), group)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except (OSError, ValueError):
        pass  # no terminal, or not ours


def exit_as(status: int) -> int:
    """End as the command ended: its exit status is returned, its signal strikes us too."""
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    import resource

    resource.setrlimit(
        resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])
    )  # one core file is enough
    if number in signal.valid_signals():  # not so the two that glibc keeps for itself; nobody blocks those
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number
