"""Signals as events that tell who sent them. Each test has a process of its own, since masks belong to processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

HEAD = """
import fcntl, json, os, select, signal, sys, termios
from network_extension.linux.signals import SignalReader, restore
def say(*values):
    print(json.dumps(values), flush=True)
def wait(reader):
    assert select.select([reader], [], [], 5)[0], "no signal came"
    return reader.read()
"""


def run(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", HEAD + textwrap.dedent(code)]
    return subprocess.run(words, capture_output=True, text=True, timeout=10, check=False, **options)


def said(code: str) -> list[Any]:
    """What the code said, after it has ended well."""
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_signal_becomes_readable_and_names_its_sender() -> None:
    ((first, pid), second, none) = said(
        """
        reader = SignalReader([signal.SIGUSR1, signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGUSR1)
        say(wait(reader)[0], os.getpid())
        if (child := os.fork()) == 0:
            os.kill(os.getppid(), signal.SIGTERM)
            os._exit(0)
        (received,) = wait(reader)
        say(received.number, received.sender == child, received.from_terminal)
        os.waitpid(child, 0)
        say(*reader.read())
        """
    )
    assert first == [signal.SIGUSR1, pid, False]
    assert second == [signal.SIGTERM, True, False]
    assert none == []


def test_several_at_once_and_each_kind_once() -> None:
    """Standard signals do not queue (signal(7)): many of one kind are one."""
    ((numbers,),) = said(
        """
        reader = SignalReader([signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
        for number in [signal.SIGUSR1] * 3 + [signal.SIGHUP, signal.SIGUSR2]:
            os.kill(os.getpid(), number)
        say(sorted(received.number for received in wait(reader)))
        """
    )
    assert numbers == sorted([signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])


def test_more_than_one_read_takes() -> None:
    """Real-time signals queue: all hundred come."""
    ((count,),) = said(
        """
        reader = SignalReader([signal.SIGRTMIN])
        for _ in range(100):
            os.kill(os.getpid(), signal.SIGRTMIN)
        say(len(wait(reader)))
        """
    )
    assert count == 100


def test_what_the_kernel_sends_is_told_apart() -> None:
    ((alarm,),) = said(
        """
        reader = SignalReader([signal.SIGALRM])
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        say(wait(reader)[0])
        """
    )
    assert alarm == [signal.SIGALRM, 0, True]


def test_a_key_of_the_terminal() -> None:
    """Ctrl-C reaches the whole foreground group: whoever passes it on would send it twice."""
    master, slave = os.openpty()
    code = """
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    reader = SignalReader([signal.SIGINT])
    say("ready")
    say(wait(reader)[0])
    """
    words = [sys.executable, "-c", HEAD + textwrap.dedent(code)]
    with subprocess.Popen(words, stdin=slave, stdout=subprocess.PIPE, start_new_session=True) as process:
        os.close(slave)
        assert process.stdout
        assert json.loads(process.stdout.readline()) == ["ready"]
        os.write(master, b"\x03")
        assert json.loads(process.stdout.readline()) == [[signal.SIGINT, 0, True]]
    os.close(master)


def test_children_get_back_what_was_blocked_before() -> None:
    """The reader blocks its signals, which a command would inherit over exec."""
    done = run(
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        reader = SignalReader([signal.SIGTERM, signal.SIGUSR2])
        say(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        restore(reader.mask_before)
        say(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        os.kill(os.getpid(), signal.SIGTERM)
        """
    )
    blocked, restored = (json.loads(line)[0] for line in done.stdout.splitlines())
    assert blocked == sorted([signal.SIGTERM, signal.SIGUSR2])
    assert restored == [signal.SIGUSR2]
    assert done.returncode == -signal.SIGTERM


def test_children_get_the_default_action_of_what_python_ignores() -> None:
    """Python ignores SIGPIPE; `yes | head` ends because other programs do not."""
    code = """
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN
    restore(())
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_DFL
    reader, writer = os.pipe()
    os.close(reader)
    os.write(writer, b"x")
    """
    assert run(code).returncode == -signal.SIGPIPE


def test_its_descriptor_is_not_inherited() -> None:
    assert said("say(os.get_inheritable(SignalReader([signal.SIGUSR1]).fileno()))") == [[False]]
