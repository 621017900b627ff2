"""Functions in child processes: whatever they do, the caller goes on in time."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time

import pytest

from network_extension.errors import DatapathError, ExitCode
from network_extension.linux.isolation import TimedOut, isolated


def test_the_result_comes_back_from_another_process() -> None:
    pid, words = isolated(lambda: (os.getpid(), ["a", 1, None]), 5)
    assert pid != os.getpid()
    assert words == ["a", 1, None]


def test_what_it_changes_stays_there() -> None:
    def move() -> str:
        os.chdir("/")
        return os.getcwd()

    before = os.getcwd()
    assert isolated(move, 5) == "/"
    assert os.getcwd() == before


def test_a_long_result_comes_whole() -> None:
    assert isolated(lambda: "x" * 500_000, 5) == "x" * 500_000


def test_an_error_keeps_its_errno_and_its_exit_code() -> None:
    def refuse() -> None:
        raise DatapathError("no", errno=errno.EPERM, exit_code=ExitCode.UNAVAILABLE)

    with pytest.raises(DatapathError, match=r"^no$") as caught:
        isolated(refuse, 5)
    assert (caught.value.errno, caught.value.exit_code) == (errno.EPERM, 69)
    with pytest.raises(DatapathError, match="/nonexistent: No such file") as caught:
        isolated(lambda: os.listdir("/nonexistent"), 5)
    assert caught.value.errno == errno.ENOENT


def test_a_crash_is_an_error() -> None:
    with pytest.raises(DatapathError, match="ZeroDivisionError"):
        isolated(lambda: 1 // 0, 5)
    with pytest.raises(DatapathError, match="died"):
        isolated(lambda: os.kill(os.getpid(), signal.SIGKILL), 5)
    with pytest.raises(DatapathError, match="not JSON serializable"):
        isolated(lambda: object(), 5)


def test_a_hang_ends_at_the_limit_with_all_that_it_started() -> None:
    def hang() -> None:
        os.fork()
        threading.Event().wait()

    reader, writer = os.pipe()
    started = time.monotonic()
    with pytest.raises(TimedOut):
        isolated(hang, 0.2)
    os.close(writer)
    assert os.read(reader, 1) == b""  # the last holder of the other end is gone
    os.close(reader)
    assert time.monotonic() - started < 5
