"""Provider processes: started, watched, restarted with pauses, given up, stopped. Pauses are made short for the tests.

Two stagings: `Host` is the test itself at the provider's end of the control channel, so that a test reads as a trace of
messages; with `files` the real provider host runs a provider of a few lines.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.errors import ExitCode
from network_extension.runtime import provider_supervisor
from network_extension.runtime.channel import Channel
from network_extension.runtime.provider_supervisor import ProviderProcess, ProviderSupervisor, describe_status
from network_extension.runtime.wire import MAX_MESSAGE, MessageType
from tests.unit.linux.driving import Driver, driving

M = MessageType
READY = {"name": "P", "kind": "app-proxy", "class": "P"}
NO_PID = 2**22 + 1
"""Above any pid (PID_MAX_LIMIT)."""


class Line(NamedTuple):
    """What was reported."""

    kind: str
    text: str
    details: dict[str, Any]


class Run:
    """A supervisor, and all that it says to its surroundings."""

    def __init__(
        self, driver: Driver, *specs: str, config: dict[str, Any] | None = None, hang_timeout: float = 0.0
    ) -> None:
        self.driver, self.lines, self.states = driver, list[Line](), list[tuple[int, str]]()
        self.links: dict[int, list[Channel]] = {}
        self.names: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.progress = 0
        self.engine_is_there = True
        self.supervisor = ProviderSupervisor(
            driver.reactor,
            [(spec, config or {}) for spec in specs],
            hang_timeout=hang_timeout,
            signal_mask=set(),
            report=lambda kind, text, **details: self.lines.append(Line(kind, text, details)),
            attach=self.attached,
            state_changed=lambda index, state: self.states.append((index, state)),
            engine_is_there=lambda: self.engine_is_there,
            progressed=self.progressed,
        )

    def progressed(self) -> None:
        self.progress += 1

    def attached(self, index: int, body: dict[str, Any], descriptor: int) -> None:
        self.names.append(body["name"])
        self.bodies.append(body)
        self.links.setdefault(index, []).append(Channel(socket.socket(fileno=os.dup(descriptor))))

    def __getitem__(self, index: int) -> ProviderProcess:
        return self.supervisor.providers[index]

    def start(self) -> Run:
        self.supervisor.start()
        return self

    def started(self) -> Run:
        """All providers are ready, and the command runs."""
        self.start()
        self.until(lambda: self.supervisor.all_running)
        self.supervisor.command_started = True
        return self

    def until(self, condition: Any, timeout: float = 8) -> None:
        def holds() -> object:
            self.reap()
            return condition()

        self.driver.until(holds, timeout)

    def until_line(self, text: str) -> Line:
        """Wait for the first line with a text in it."""
        self.until(lambda: any(text in line.text for line in self.lines))
        return next(line for line in self.lines if text in line.text)

    def reap(self) -> None:
        for provider in self.supervisor.providers:
            if provider.pid and provider.pid != NO_PID:
                pid, status = os.waitpid(provider.pid, os.WNOHANG)
                if pid:
                    assert self.supervisor.reaped(pid, status)

    def texts(self) -> list[str]:
        return [line.text for line in self.lines]

    def close(self) -> None:
        for provider in self.supervisor.providers:
            if provider.pid and provider.pid != NO_PID:
                os.kill(provider.pid, signal.SIGKILL)
                os.waitpid(provider.pid, 0)
            provider._close_channel()
        for channel in (channel for channels in self.links.values() for channel in channels):
            channel.close()


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


class Host:
    """The provider's end of the control channels, played by the test. No process is behind it."""

    def __init__(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.ends = run, list[Channel]()
        self.killed: list[str] = []

        def spawn(provider: ProviderProcess) -> socket.socket:
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.ends.append(Channel(theirs))
            provider.pid = NO_PID
            return mine

        monkeypatch.setattr(ProviderProcess, "_spawn", spawn)
        real_kill = ProviderProcess.kill

        def kill(provider: ProviderProcess, why: str) -> None:
            self.killed.append(why)
            real_kill(provider, why)

        monkeypatch.setattr(ProviderProcess, "kill", kill)

    def says(self, kind: MessageType, body: dict[str, Any] | None = None, fds: tuple[int, ...] = ()) -> None:
        self.ends[-1].send(kind, 0, body, fds)

    def says_bytes(self, data: bytes) -> None:
        self.ends[-1]._sock.send(data)

    def hears(self, *kinds: MessageType) -> list[dict[str, Any]]:
        """The next messages are of these types; their bodies."""
        heard: list[tuple[MessageType, dict[str, Any]]] = []

        def read() -> bool:
            for kind, _, body, fds in self.ends[-1].receive(len(kinds) - len(heard)):
                for descriptor in fds:
                    os.close(descriptor)
                heard.append((kind, body))
            return len(heard) == len(kinds)

        self.run.driver.until(read)
        assert [kind for kind, _ in heard] == list(kinds)
        return [body for _, body in heard]

    def dies(self, status: int = 0) -> None:
        """The kernel reports the death of a process that ended with a wait status."""
        self.ends[-1].close()
        assert self.run.supervisor.reaped(NO_PID, status)

    def close(self) -> None:
        for end in self.ends:
            end.close()


class Stage(NamedTuple):
    run: Run
    host: Host


@pytest.fixture
def stage(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """One provider, `spec.py:P`, with a configuration."""
    run = Run(driver, "spec.py:P", config={"key": 1})
    host = Host(run, monkeypatch)
    yield Stage(run, host)
    run.close()
    host.close()


@pytest.fixture
def running(stage: Stage) -> Stage:
    """The same, ready, with the command started."""
    stage.run.start()
    stage.host.hears(M.START)
    stage.host.says(M.READY, READY)
    stage.host.hears(M.FLOWS)
    stage.run.supervisor.command_started = True
    return stage


class TestStart:
    def test_start_ready_flows(self, stage: Stage) -> None:
        run, host = stage
        run.start()
        assert (run[0].name, run[0].state) == ("spec.py:P", "starting")
        assert host.hears(M.START) == [{"config": {"key": 1}, "options": None}]
        host.says(M.READY, READY)
        host.hears(M.FLOWS)
        assert (run[0].name, run[0].state, run.names) == ("P", "running", ["P"])
        assert run.supervisor.all_running and run.progress == 1
        details = {"provider": "P", "state": "running", "pid": NO_PID}
        assert run.lines == [("provider", f"provider P: running (pid {NO_PID}, app-proxy)", details)]

    def test_the_engine_and_the_provider_have_a_channel_of_their_own(self, stage: Stage) -> None:
        run, host = stage
        run.start()
        host.hears(M.START)
        host.says(M.READY, READY)
        run.until(lambda: run.links)
        ((kind, _, _, descriptors),) = host.ends[0].receive()[-1:]
        assert kind is M.FLOWS
        with socket.socket(fileno=descriptors[0]) as end:
            end.send(b"\x03" + bytes(8))
            assert run.links[0][0].receive() == [(M.CLAIM, 0, {}, [])]

    def test_without_an_engine_the_flows_come_later_and_with_each_new_one_again(self, stage: Stage) -> None:
        run, host = stage
        run.engine_is_there = False
        run.start()
        host.hears(M.START)
        host.says(M.READY, READY)
        run.until(lambda: run.supervisor.all_running)
        assert not run.links
        run.engine_is_there = True
        for _ in range(2):
            run.supervisor.connect_all()
            host.hears(M.FLOWS)
        assert len(run.links[0]) == 2

    def test_the_same_provider_twice_is_told_apart(self, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Run(driver, "spec.py:P", "spec.py:P")
        host = Host(run, monkeypatch)
        run.start()
        for end in host.ends:
            end.send(M.READY, 0, READY)
        run.until(lambda: run.supervisor.all_running)
        assert [provider.name for provider in run.supervisor.providers] == ["P", "P#2"]
        run.close()
        host.close()

    def test_whoever_becomes_ready_late_is_told_the_path(self, stage: Stage) -> None:
        run, host = stage
        run.start()
        host.hears(M.START)
        run.supervisor.set_path({"status": "satisfied"})
        host.says(M.READY, READY)
        assert host.hears(M.PATH, M.FLOWS) == [{"status": "satisfied"}, {}]
        run.supervisor.set_path({"status": "unsatisfied"})
        run.supervisor.tell_all(M.SLEEP)
        assert host.hears(M.PATH, M.SLEEP)[0] == {"status": "unsatisfied"}

    def test_one_that_never_gets_ready_is_ended(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(provider_supervisor, "START_TIMEOUT", 0.01)
        stage.run.start()
        stage.run.until(lambda: stage.host.killed)
        stage.host.dies(signal.SIGKILL)
        failure = stage.run.supervisor.failure
        assert str(failure) == "provider spec.py:P: did not start within 0 s before it was ready"

    def test_before_the_command_a_failure_ends_the_run(self, stage: Stage) -> None:
        run, host = stage
        run.start()
        host.says(M.START_FAILED, {"error": "spec.py: no such file", "code": 66})
        run.until(lambda: run.supervisor.failure)
        failure = run.supervisor.failure
        assert failure
        assert (str(failure), failure.exit_code, run.progress) == ("spec.py: no such file", 66, 1)
        host.dies(0)
        assert run.supervisor.failure is failure  # the first reason is the one that counts

    def test_after_it_the_next_start_may_do_better(self, running: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that is being edited: each start is an attempt, and the process is not left waiting for a word."""
        monkeypatch.setattr(provider_supervisor, "FIRST_PAUSE", 0.001)
        run, host = running
        host.dies(0)
        run.until(lambda: len(host.ends) == 2)
        host.says(M.START_FAILED, {"error": "spec.py: line 3: oops", "code": 65})
        run.until(lambda: host.killed)
        host.dies(signal.SIGKILL)
        assert run.texts()[-1] == "provider P: dead (spec.py: line 3: oops); starting it again in 0.0 s"
        assert run.supervisor.failure is None
        run.until(lambda: len(host.ends) == 3)
        host.says(M.READY, READY)
        assert (
            run.until_line("running again").text
            == f"provider P: running again after 2 failures (pid {NO_PID}, app-proxy)"
        )

    def test_no_process_to_be_had(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(provider: ProviderProcess) -> socket.socket:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(ProviderProcess, "_spawn", full)
        stage.run.start()
        text = "provider spec.py:P: cannot be started: Resource temporarily unavailable before it was ready"
        assert str(stage.run.supervisor.failure) == text


class TestRestart:
    def test_the_pause_doubles_up_to_a_limit_and_the_failures_have_one(
        self, running: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(provider_supervisor, "FIRST_PAUSE", 0.001)
        monkeypatch.setattr(provider_supervisor, "LONGEST_PAUSE", 0.004)
        run, host = running
        run.lines.clear()
        for attempt in range(1, 9):
            host.dies(3 << 8)
            if attempt < 8:
                run.until(lambda attempt=attempt: len(host.ends) == attempt + 1)
        assert [line.details.get("pause") for line in run.lines] == [0.001, 0.002, *[0.004] * 5, None]
        assert run.texts()[0] == "provider P: dead (exited with status 3); starting it again in 0.0 s"
        assert run.texts()[-1] == "provider P: dead (exited with status 3); given up after 8 failures in a row"
        assert run[0].state == "dead" and run.states == [(0, "dead")] * 8
        run.driver.quiet(0.01)
        assert len(host.ends) == 8

    def test_a_calm_life_makes_earlier_failures_forgotten(
        self, running: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(provider_supervisor, "FIRST_PAUSE", 0.001)
        monkeypatch.setattr(provider_supervisor, "CALM", 0.0)
        run, host = running
        for attempt in range(1, 12):
            host.dies(0)
            run.until(lambda attempt=attempt: len(host.ends) == attempt + 1)
        assert {line.details["pause"] for line in run.lines[1:]} == {0.001}

    def test_a_process_that_cannot_be_made_counts_as_a_failure(
        self, running: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """EMFILE, EAGAIN: no fault of the supervisor's; it goes on trying."""

        def full(provider: ProviderProcess) -> socket.socket:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(provider_supervisor, "FIRST_PAUSE", 0.001)
        monkeypatch.setattr(ProviderProcess, "_spawn", full)
        running.host.dies(0)
        line = running.run.until_line("given up")
        assert (
            line.text == "provider P: dead (cannot be started: Too many open files); given up after 8 failures in a row"
        )

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            (0, "exited with status 0"),
            (42 << 8, "exited with status 42"),
            (signal.SIGKILL, "killed by SIGKILL"),
            (signal.SIGSEGV | 0x80, "killed by SIGSEGV"),  # with a core file
            (34, "killed by SIGRTMIN"),
            (40, "killed by signal 40"),  # most real-time signals have no name
            (32, "killed by signal 32"),
        ],
    )
    def test_how_it_ended_in_words(self, status: int, words: str) -> None:
        assert describe_status(status) == words

    def test_pids_of_others_are_not_ours(self, running: Stage) -> None:
        assert not running.run.supervisor.reaped(1, 0)


class TestPings:
    def test_a_stuck_one_is_ended(self, running: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        run, host = running
        monkeypatch.setattr(provider_supervisor, "PING_INTERVAL", 0.01)
        run.supervisor.hang_timeout = 0.02
        run[0]._ping_later()
        run.until(lambda: host.killed)
        assert host.killed == ["its event loop has been stuck for 0 s"]
        assert 2 <= len(host.hears(M.PING, M.PING)) <= 5

    def test_one_that_answers_lives(self, running: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        run, host = running
        monkeypatch.setattr(provider_supervisor, "PING_INTERVAL", 0.01)
        run.supervisor.hang_timeout = 0.5
        clock, run.driver.reactor.clock = run.driver.reactor.clock, lambda: clock() * 10  # ten times as fast
        run[0].forgive()
        run[0]._ping_later()
        for _ in range(10):
            host.hears(M.PING)
            host.says(M.PONG)
        assert host.killed == []

    def test_who_slept_himself_blames_nobody(self, running: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """The laptop's lid was closed: the clock jumps between two pings."""
        run, host = running
        monkeypatch.setattr(provider_supervisor, "PING_INTERVAL", 0.01)
        run.supervisor.hang_timeout = 10.0
        run[0]._ping_later()
        clock = run.driver.reactor.clock
        run.driver.reactor.clock = lambda: clock() + 3600
        host.hears(M.PING)
        assert host.killed == []

    def test_no_time_limit_no_end(self, running: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        run, host = running
        monkeypatch.setattr(provider_supervisor, "PING_INTERVAL", 0.001)
        run[0]._ping_later()
        host.hears(*[M.PING] * 5)
        assert host.killed == []


class TestMessages:
    def test_log(self, running: Stage) -> None:
        running.host.says(M.LOG, {"level": "warning", "text": "hello"})
        line = running.run.until_line("hello")
        assert line == ("provider-log", "P: hello", {"level": "warning"})

    @pytest.mark.parametrize(
        ("kind", "body", "text"),
        [
            (M.START_FAILED, {"error": "x", "code": "66"}, "START_FAILED: code"),
            (M.START_FAILED, {"error": "x", "code": 256}, "START_FAILED: code"),
            (M.START_FAILED, {"error": 5}, "START_FAILED: error"),
            (M.STOPPED, {"cancelled": [1]}, "STOPPED: cancelled"),
            (M.CANCELLED, {"error": {}}, "CANCELLED: error"),
        ],
    )
    def test_a_wrong_field_ends_it(self, running: Stage, kind: MessageType, body: dict[str, Any], text: str) -> None:
        running.host.says(kind, body)
        running.run.until(lambda: running.host.killed)
        assert running.host.killed[0].startswith(f"sent what is not a message: {text}")

    @pytest.mark.parametrize("data", [b"x", b"\xff" + bytes(8), b"\x21" + bytes(8) + b"[]", bytes(MAX_MESSAGE + 1)])
    def test_what_is_not_a_message_ends_it(self, running: Stage, data: bytes) -> None:
        running.host.ends[-1]._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        running.host.says_bytes(data)
        running.run.until(lambda: running.host.killed)
        assert running.host.killed[0].startswith("sent what is not a message: ")

    @given(st.sampled_from(M), st.dictionaries(
        st.sampled_from(["error", "code", "text", "level", "cancelled", "class", "kind", "name"]),
        st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
        max_size=4,
    ), st.booleans())  # fmt: skip
    def test_any_message_in_any_state(self, kind: MessageType, body: dict[str, Any], ready: bool) -> None:
        """Nothing raises: the supervisor's own faults would end the run."""
        with driving() as driver, pytest.MonkeyPatch.context() as monkeypatch:
            run = Run(driver, "spec.py:P")
            host = Host(run, monkeypatch)
            run.start()
            if ready:
                host.says(M.READY, READY)
            host.says(kind, body)
            host.says(M.LOG, {"text": "the last one"})
            run.until(lambda: host.killed or "the last one" in str(run.lines))
            host.dies(0)
            assert run[0].state in ("dead", "failed", "stopped")
            assert run.supervisor.failure is None or 1 <= run.supervisor.failure.exit_code <= 255
            run.close()
            host.close()

    def test_descriptors_that_nobody_asked_for_are_closed(self, running: Stage) -> None:
        before = len(os.listdir("/proc/self/fd"))
        running.host.says(M.LOG, {"text": "with gifts"}, (0, 1, 2))
        running.run.until_line("with gifts")
        assert len(os.listdir("/proc/self/fd")) == before

    def test_ready_once_more_changes_nothing(self, running: Stage) -> None:
        running.host.says(M.READY, READY | {"class": "Q"})
        running.host.says(M.LOG, {"text": "done"})
        assert running.run.until_line("done").text == "P: done"
        assert len(running.run.links[0]) == 1

    def test_last_words_are_read(self, running: Stage) -> None:
        """What it said before it died counts, though its death is known first."""
        running.host.says(M.LOG, {"text": "my last words"})
        running.host.dies(signal.SIGABRT)
        assert running.run.texts()[1:] == [
            "P: my last words",
            "provider P: dead (killed by SIGABRT); starting it again in 0.1 s",
        ]

    def test_one_that_does_not_read_is_ended(self, running: Stage) -> None:
        run, host = running
        for _ in range(2000):
            run.supervisor.set_path({"dns": ["x" * 50_000]})
            if host.killed:
                break
        assert host.killed[0].startswith("does not read its messages: ")

    def test_what_waits_is_sent_when_there_is_room(self, running: Stage) -> None:
        run, host = running
        for number in range(40):
            run.supervisor.set_path({"number": number, "dns": ["x" * 50_000]})
        run[0].tell(M.WAKE)
        bodies = host.hears(*[M.PATH] * 40, M.WAKE)
        assert [body.get("number") for body in bodies] == [*range(40), None]


class TestStop:
    def test_stop_then_stopped(self, running: Stage) -> None:
        run, host = running
        run.supervisor.stop(0, 1.5)
        assert run[0].state == "stopping" and not run.supervisor.all_stopped
        assert host.hears(M.STOP) == [{"reason": 0, "grace": 1.5}]
        host.says(M.STOPPED, {"cancelled": 3})
        run.until(lambda: run[0].cancelled_tasks)
        host.dies(0)
        assert (run[0].state, run[0].cancelled_tasks, run.supervisor.all_stopped) == ("stopped", 3, True)
        assert run.states == [] and len(run.lines) == 1

    def test_one_that_does_not_stop_is_ended(self, running: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(provider_supervisor, "UNWIND", 0.01)
        running.run.supervisor.stop(0, 0.01)
        running.run.until(lambda: running.host.killed)
        assert running.host.killed == ["did not stop in its grace period"]

    def test_while_it_is_waiting_for_its_next_start(self, running: Stage) -> None:
        run, host = running
        host.dies(0)
        run.supervisor.stop(0, 1.0)
        assert run[0].state == "stopped" and run.supervisor.all_stopped
        run.driver.quiet(0.15)  # longer than the pause
        assert len(host.ends) == 1

    def test_while_it_starts(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A READY that crosses the STOP does not make it a running one, and its time stays limited."""
        monkeypatch.setattr(provider_supervisor, "UNWIND", 0.01)
        run, host = stage
        run.start()
        run.supervisor.stop(0, 0.01)
        host.hears(M.START, M.STOP)
        host.says(M.READY, READY)
        run.until(lambda: host.killed)
        assert run[0].state == "stopping"

    @pytest.mark.parametrize(
        ("error", "reason", "why"),
        [("ValueError: enough", 2, "cancelled itself: ValueError: enough"), (None, 0, "cancelled itself")],
    )
    def test_a_provider_ends_its_session_itself(self, running: Stage, error: str | None, reason: int, why: str) -> None:
        """Its flows get the policy of one that is stopping, then of a dead one; it is not started again."""
        run, host = running
        run.supervisor.grace = 2.5
        host.says(M.CANCELLED, {"error": error})
        host.says(M.CANCELLED, {"error": "again"})
        assert host.hears(M.STOP) == [{"reason": reason, "grace": 2.5}]
        assert run.states == [(0, "stopping")]
        assert run.texts()[1:] == [f"provider P: stopping ({why}); it is not started again"]
        host.dies(0)
        run.driver.quiet(0.15)
        assert run[0].state == "stopped" and len(host.ends) == 1
        assert run.states == [(0, "stopping"), (0, "dead")]
        run.supervisor.stop(0, 1.0)
        assert run.supervisor.all_stopped

    def test_and_ends_at_once(self, running: Stage) -> None:
        """Its death is reported before its message is read."""
        running.host.says(M.CANCELLED, {"error": None})
        running.host.dies(0)
        assert running.run[0].state == "stopped"
        running.run.driver.quiet(0.15)
        assert len(running.host.ends) == 1

    def test_before_the_command_that_ends_the_run(self, stage: Stage) -> None:
        run, host = stage
        run.start()
        host.says(M.READY, READY)
        host.says(M.CANCELLED, {"error": None})
        run.until(lambda: run.supervisor.failure)
        assert str(run.supervisor.failure) == "provider P: cancelled itself before the command started"


class Files:
    """Providers in files, run by the real provider host."""

    def __init__(self, driver: Driver, folder: Path) -> None:
        self.driver, self.folder = driver, folder
        self.runs: list[Run] = []

    def run(self, body: str, **options: Any) -> Run:
        path = self.folder / "provider.py"
        lines = ["import asyncio, os, signal, threading", "from network_extension import *"]
        lines += ["class P(TransparentProxyProvider):", "    def handle_new_flow(self, flow): return False"]
        path.write_text("\n".join([*lines, *("    " + line for line in body.splitlines())]))
        self.runs.append(Run(self.driver, str(path), **options))
        return self.runs[-1]


@pytest.fixture
def files(driver: Driver, tmp_path: Path) -> Iterator[Files]:
    files = Files(driver, tmp_path)
    yield files
    for run in files.runs:
        run.close()


class TestRealProcesses:
    def test_from_start_to_stop(self, files: Files) -> None:
        """HELLO comes to the engine; the process has a session of its own, and none of our descriptors."""
        run = files.run(
            "async def start_proxy(self, options):\n"
            "    own_session = os.getsid(0) == os.getpid()\n"
            "    self.log(f'{self.configuration[\"key\"]} {own_session} {signal.pthread_sigmask(0, ())}')\n"
            "async def stop_proxy(self, reason):\n"
            "    self.log(f'stopped: {reason.name}')",
            config={"key": "value"},
        ).started()
        assert run.until_line("value").text.endswith(": value True set()")
        run.until(lambda: (messages := run.links[0][0].receive()) and messages[0][0] is M.HELLO)
        run.supervisor.stop(1, 2.0)
        run.until(lambda: run.supervisor.all_stopped)
        assert run.texts()[-1] == "P: stopped: USER_INITIATED"
        assert run[0].state == "stopped"

    def test_a_crash_and_the_next_life(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first one dies by a signal that has no name, the second one lives."""
        monkeypatch.setattr(provider_supervisor, "FIRST_PAUSE", 0.001)
        marker = files.folder / "was here"
        run = files.run(
            "async def start_proxy(self, options):\n"
            f"    if not os.path.exists({str(marker)!r}):\n"
            f"        open({str(marker)!r}, 'w').close()\n"
            "        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), 40)"
        ).started()
        first = run[0].pid
        assert "dead (killed by signal 40)" in run.until_line("dead").text
        assert "running again after 1 failure (pid" in run.until_line("again after").text
        assert run[0].pid not in (0, first)
        assert run.states == [(0, "dead")]

    @pytest.mark.parametrize(
        ("body", "code", "text"),
        [
            ("def start_proxy(self, options): raise ValueError('no key')", 70, "ValueError: no key"),
            ("def start_proxy(self, options): os._exit(7)", 70, "exited with status 7 before it was ready"),
            ("def broken(:", 65, "not Python"),
        ],
    )
    def test_a_start_that_fails(self, files: Files, body: str, code: int, text: str) -> None:
        run = files.run(body).start()
        run.until(lambda: run.supervisor.failure)
        failure = run.supervisor.failure
        assert failure
        assert failure.exit_code == code and text in str(failure) and "\n" not in str(failure)

    def test_no_such_file(self, files: Files) -> None:
        run = Run(files.driver, "/nonexistent/provider.py").start()
        files.runs.append(run)
        run.until(lambda: run.supervisor.failure)
        assert run.supervisor.failure and run.supervisor.failure.exit_code == ExitCode.PROVIDER_NOT_FOUND

    def test_a_stuck_event_loop(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        run = files.run(
            "async def start_proxy(self, options):\n"
            "    asyncio.get_running_loop().call_later(0.01, threading.Event().wait)",
            hang_timeout=0.05,
        )
        monkeypatch.setattr(provider_supervisor, "PING_INTERVAL", 0.05)
        run.started()
        assert "its event loop has been stuck" in run.until_line("dead").text

    def test_what_is_left_after_the_grace_period_is_counted(self, files: Files) -> None:
        run = files.run(
            "async def start_proxy(self, options):\n    for _ in range(3): self.spawn(asyncio.sleep(100))"
        ).started()
        start = time.monotonic()
        run.supervisor.stop(0, 0.05)
        run.until(lambda: run.supervisor.all_stopped)
        assert run[0].cancelled_tasks == 3
        assert time.monotonic() - start < 2

    def test_one_that_will_not_stop(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(provider_supervisor, "UNWIND", 0.05)
        run = files.run("def stop_proxy(self, reason): threading.Event().wait()").started()
        run.supervisor.stop(0, 0.05)
        run.until(lambda: run.supervisor.all_stopped)
        assert run[0].cancelled_tasks == 0

    def test_cancel_proxy_with_error(self, files: Files) -> None:
        run = files.run(
            "async def start_proxy(self, options):\n"
            "    asyncio.get_running_loop().call_later(0.01, self.cancel_proxy_with_error, ValueError('enough'))\n"
            "async def stop_proxy(self, reason):\n"
            "    self.log(f'stopped: {reason.name}')",
        ).started()
        run.until(lambda: run[0].state == "stopped")
        assert [text for text in run.texts() if "running" not in text] == [
            "provider P: stopping (cancelled itself: ValueError: enough); it is not started again",
            "P: stopped: PROVIDER_FAILED",
        ]
