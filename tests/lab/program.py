"""The test's end of `agent.py`: a program inside or outside the sandbox, whose sockets a test holds in its hands."""

from __future__ import annotations

import json
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.netlab import Host, NetLab, wait_for

AGENT = str(Path(__file__).with_name("agent.py"))
PROVIDERS = Path(__file__).with_name("providers")
PATIENCE = 30.0


class RemoteSocket:
    """A socket of the program: methods of a socket, and functions of `agent.py` that take one, are called there."""

    def __init__(self, program: Program, handle: int) -> None:
        self.program, self.handle = program, handle

    def begin(self, method: str, *arguments: Any, **options: Any) -> Future[Any]:
        """Call a method and do not wait for it."""
        return self.program.begin(method, *arguments, handle=self.handle, **options)

    def accept(self) -> tuple[RemoteSocket, Any]:
        handle, name = self.begin("accept").result(PATIENCE)
        return RemoteSocket(self.program, handle), name

    def errno_of(self, method: str, *arguments: Any, **options: Any) -> int:
        """The errno of a call that fails, 0 for one that does not."""
        error = self.begin(method, *arguments, **options).exception(PATIENCE)
        assert error is None or isinstance(error, OSError)
        return error.errno or -1 if error is not None else 0

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments, **options: self.begin(method, *arguments, **options).result(PATIENCE)

    def __enter__(self) -> RemoteSocket:
        return self

    def __exit__(self, *_: object) -> None:
        if self.program.is_running:
            self.close()


class Program:
    """A running agent. `arguments` are those of `netext run`, or None to run it natively; `user` as in `NetLab`."""

    def __init__(
        self, lab: NetLab, arguments: tuple[str, ...] | None = (), *, user: bool = True, prefix: tuple[str, ...] = ()
    ) -> None:
        self._words = (sys.executable, AGENT)
        words = self._words if arguments is None else (*lab.netext("run", "--json", *arguments, "--"), *self._words)
        self.lab, self.way = lab, "native" if arguments is None else "netext"
        self._log = tempfile.NamedTemporaryFile("a")
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            lab.near.command(*prefix, *words, user=user),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, cwd="/",
        )  # fmt: skip
        self._waiting: dict[int, Future[Any]] = {}
        self._number = 0
        self._reader = threading.Thread(target=self._read, name=f"program {self.process.pid}", daemon=True)
        self._reader.start()

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def begin(self, name: str, *arguments: Any, handle: int | None = None, **options: Any) -> Future[Any]:
        """Call a function of the agent (or a method of one of its sockets) and do not wait for it."""
        assert self.process.stdin is not None
        self._number += 1
        future: Future[Any] = Future()
        self._waiting[self._number] = future
        data = pickle.dumps((self._number, name, handle, arguments, options))
        self.process.stdin.write(len(data).to_bytes(4, "big") + data)
        self.process.stdin.flush()
        return future

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a function of the agent and wait for its result."""
        return self.begin(name, *arguments, **options).result(PATIENCE)

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, timeout: float = 15) -> RemoteSocket:
        """A new socket of the program's."""
        return RemoteSocket(self, self.call("open_socket", int(family), int(kind), timeout=timeout))

    def records(self, event: str) -> list[dict[str, Any]]:
        """The records of one kind in the log."""
        text = self._said()
        lines = [line for line in text[: text.rfind("\n") + 1].splitlines() if line.startswith("{")]
        return [record for record in map(json.loads, lines) if record["event"] == event]

    def complaints(self) -> str:
        """What is in the log and is no record."""
        return "\n".join(line for line in self._said().splitlines() if not line.startswith("{"))

    def _said(self) -> str:
        """The log so far, by a file of our own: one offset for reader and writer would make each skip parts."""
        return Path(self._log.name).read_text()

    def flow(self, port: int, timeout: float = 5, event: str = "flow") -> dict[str, Any]:
        """The record of the last ended flow to a port, as soon as there is one."""

        def look() -> Any:
            return [record for record in self.records(event) if record["remote"][1] == port]

        record: dict[str, Any] = wait_for(look, timeout, f"a record of a flow to port {port}")[-1]
        return record

    def children(self) -> dict[str, int]:
        """The pids of the processes that `netext` consists of: `netext`, `keeper`, `engine`, `command`, `provider`."""
        found = {"netext": self.process.pid}  # `ip netns exec` and setpriv become the program that they start
        for pid in children_of(found["netext"]):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"network_extension.runtime.provider_host" in words:
                found["provider"] = pid
            elif AGENT.encode() in words and b"run" not in words:
                found["command"] = pid
            elif Path(f"/proc/{pid}/ns/net").exists() and _namespace(pid) != _namespace(found["netext"]):
                found["keeper"] = pid
            else:
                found["engine"] = pid
        return found

    def close(self) -> int:
        """End the agent by closing its standard input; the exit status."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            status = self.process.wait(20)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(5)
            self._reader.join(10)
            self.process.stdout.close()
            self.faults = [record["text"] for record in self.records("fault")] + self.complaints().splitlines()
            self.cut_off = [record["text"] for record in self.records("provider") if "cut off" in record["text"]]
            self._log.close()
        return status

    def _read(self) -> None:
        source = self.process.stdout
        assert source is not None
        while header := source.read(4):
            number, worked, result = pickle.loads(source.read(int.from_bytes(header, "big")))
            future = self._waiting.pop(number)
            if worked:
                future.set_result(result)
            else:
                future.set_exception(result)
        for future in self._waiting.values():
            future.set_exception(EOFError("the program has ended"))


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def children_of(pid: int) -> list[int]:
    """The child processes of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@contextmanager
def running(lab: NetLab, *arguments: str, expect_faults: bool = False, **options: Any) -> Iterator[Program]:
    """A program behind `netext run`; at its end no fault of ours may be in the log."""
    program = Program(lab, arguments, **options)
    try:
        program.call("identity")  # so that all its processes are there from now on
        yield program
    except BaseException:
        sys.stderr.write(f"{program.records('provider')}\n{program.records('fault')}\n{program.complaints()}\n")
        raise
    finally:
        program.close()
    assert expect_faults or not program.faults, program.faults


def provider(name: str, **config: object) -> tuple[str, ...]:
    """The arguments for a provider of `providers/`, with its configuration."""
    words: tuple[str, ...] = ("--provider", str(PROVIDERS / f"{name}.py"))
    for key, value in config.items():
        words += ("--config", f"{key}={json.dumps(value)}")
    return words


__all__ = ["Host", "Program", "RemoteSocket", "children_of", "provider", "running"]
