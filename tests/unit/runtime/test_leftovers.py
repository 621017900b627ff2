"""What a command left running is ended: real children stand for the sandbox's processes, with short times."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from network_extension.runtime import leftovers
from network_extension.runtime.leftovers import Leftovers, signal_all
from tests.unit.linux.driving import Driver, driving

LINK, KEEPER = "net:[4711]", 99
NO_PID = 2**22 + 1


def child(code: str = "") -> subprocess.Popen[bytes]:
    """A process that waits; it has run `code` before."""
    words = [sys.executable, "-S", "-E", "-c", f"import signal, sys\n{code}\nprint(flush=True)\nsignal.pause()"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    return process


STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


class Stage:
    """The sandbox's processes, and what was reported."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.children: list[subprocess.Popen[bytes]] = []
        self.immortal: list[int] = []
        self.reports: list[tuple[str, str, list[int]]] = []
        self.ended: list[float] = []

    def inside(self, link: str, besides: tuple[int, ...]) -> list[int]:
        assert (link, besides) == (LINK, (KEEPER,))
        return self.immortal + [process.pid for process in self.children if process.poll() is None]

    def end(self) -> float:
        """Seconds until all was over."""
        start = time.monotonic()
        Leftovers(
            self.driver.reactor,
            LINK,
            KEEPER,
            lambda kind, text, pids: self.reports.append((kind, text, pids)),
            lambda: self.ended.append(time.monotonic() - start),
        ).end()
        self.driver.until(lambda: self.ended)
        self.driver.quiet(0.02)
        assert len(self.ended) == 1
        return self.ended[0]

    def close(self) -> None:
        for process in self.children:
            process.kill()
            process.communicate()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with driving() as driver:
        stage = Stage(driver)
        monkeypatch.setattr(leftovers, "processes_inside", stage.inside)
        monkeypatch.setattr(leftovers, "GRACE", 0.1)
        monkeypatch.setattr(leftovers, "KILL_WAIT", 0.1)
        monkeypatch.setattr(leftovers, "STEP", 0.002)
        yield stage
        stage.close()


def test_nothing_was_left(stage: Stage) -> None:
    stage.end()
    assert stage.reports == []


def test_sigterm_is_enough(stage: Stage) -> None:
    stage.children = [child(), child()]
    pids = [process.pid for process in stage.children]
    stage.end()
    assert [process.returncode for process in stage.children] == [-signal.SIGTERM] * 2
    text = "ending 2 processes that the command left in the sandbox (SIGTERM)"
    assert stage.reports == [("leftover", text, pids)]


def test_one_that_ignores_it_gets_sigkill(stage: Stage) -> None:
    stage.children = [child(), child(STUBBORN)]
    assert stage.end() >= 0.1
    assert [process.returncode for process in stage.children] == [-signal.SIGTERM, -signal.SIGKILL]
    assert [text for _, text, _ in stage.reports] == [
        "ending 2 processes that the command left in the sandbox (SIGTERM)",
        "ending 1 process that the command left in the sandbox (SIGKILL)",
    ]


def test_one_that_ends_in_its_own_time_is_not_killed(stage: Stage) -> None:
    """It cleans up first, within the grace period."""
    tidy = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))"
    stage.children = [child(tidy)]
    stage.end()
    assert stage.children[0].returncode == 5 and len(stage.reports) == 1


def test_one_that_nothing_ends_does_not_hold_us(stage: Stage) -> None:
    """In the kernel's hands (state D): the wait is bounded."""
    stage.immortal = [NO_PID]
    assert stage.end() >= 0.2
    assert len(stage.reports) == 2


def test_signals_to_those_that_have_gone_are_passed_over() -> None:
    process = child()
    signal_all([NO_PID, process.pid, NO_PID], signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM
