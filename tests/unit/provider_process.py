"""A provider process with the test as its main and its engine: real sockets, real messages, no network namespace.

A test reads as a protocol trace: `engine.send(...)` is what the engine says, `engine.expect(...)` what the provider
answers.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, Self

from network_extension.runtime.channel import Channel
from network_extension.runtime.wire import MessageType

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
LAUNCH = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from network_extension.runtime.provider_host import main; main(sys.argv[1:])"
)
PATIENCE = 10.0

Message = tuple[MessageType, int, dict[str, Any], list[int]]


class End:
    """The test's end of a channel: messages are taken in any order, the others are kept."""

    def __init__(self, sock: socket.socket) -> None:
        self.channel = Channel(sock)
        self.kept: list[Message] = []

    def send(
        self, kind: MessageType, flow: int = 0, body: dict[str, Any] | None = None, fds: tuple[int, ...] = ()
    ) -> None:
        self.channel.send(kind, flow, body, fds)

    def expect(self, kind: MessageType, flow: int | None = None, timeout: float = PATIENCE) -> Message:
        """The first message of a type (and flow) that is there or comes in time."""
        until = time.monotonic() + timeout
        while True:
            for index, message in enumerate(self.kept):
                if message[0] is kind and flow in (None, message[1]):
                    return self.kept.pop(index)
            if not self._wait(until):
                seen = [(m[0].name, m[1], m[2]) for m in self.kept]
                raise AssertionError(f"no {kind.name} for flow {flow}; eof {self.channel.eof}; there were {seen}")

    def expect_eof(self, timeout: float = PATIENCE) -> None:
        until = time.monotonic() + timeout
        while not self.channel.eof:
            assert self._wait(until), "the channel stays open"

    def quiet(self, seconds: float = 0.15) -> list[Message]:
        """All that is there, and comes within a while."""
        until = time.monotonic() + seconds
        while self._wait(until):
            pass
        found, self.kept = self.kept, []
        return found

    def _wait(self, until: float) -> bool:
        if self.channel.eof:
            return False
        left = until - time.monotonic()
        if left <= 0 or not select.select([self.channel.fileno()], [], [], left)[0]:
            return False
        self.kept += self.channel.receive()
        self.channel.flush()
        return True


class ProviderProcess:
    """`provider_host` with a provider whose source is given; use as a context manager."""

    def __init__(self, directory: Path, source: str, **config: Any) -> None:
        file = directory / "provider_under_test.py"
        file.write_text("from network_extension import *\nimport asyncio\n" + textwrap.dedent(source))
        self.config = config
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.main = End(ours)
        command = [
            sys.executable,
            "-I",
            "-c",
            LAUNCH,
            SOURCE,
            "--control-fd",
            str(theirs.fileno()),
            str(file),
        ]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        self.engine = self.new_flow_channel()

    def new_flow_channel(self) -> End:
        """Hand a new flow channel over; the test's end of it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.main.send(MessageType.FLOWS, 0, None, (theirs.fileno(),))
        theirs.close()
        return End(ours)

    def start(self, options: dict[str, Any] | None = None) -> ProviderProcess:
        """START, until READY."""
        self.main.send(MessageType.START, 0, {"config": self.config, "options": options, "name": "test"})
        self.main.expect(MessageType.READY)
        return self

    def new_flow(self, flow: int, remote: tuple[str, int], proto: str = "tcp", **more: Any) -> None:
        body = {
            "proto": proto,
            "local": ["10.0.0.2", 40000],
            "remote": list(remote),
            "host": None,
            "name_source": None,
            "process": {"pid": 4711, "start_time": 5, "uid": 1000, "executable": "/usr/bin/curl",
                        "arguments": ["curl", "-sS"], "parents": [{"pid": 1, "executable": "/sbin/init"}]},
            "interface": None,
            "deadline": 5.0,
        }  # fmt: skip
        self.engine.send(MessageType.NEW_FLOW, flow, body | more)

    def stop(self, grace: float = 5.0, reason: int = 1) -> int:
        """STOP, until STOPPED; the number of tasks that were cut off."""
        self.main.send(MessageType.STOP, 0, {"reason": reason, "grace": grace})
        body = self.main.expect(MessageType.STOPPED)[2]
        assert self.process.wait(PATIENCE) == 0
        return int(body["cancelled"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        for end in (self.main, self.engine):
            for message in end.kept:
                for fd in message[3]:
                    os.close(fd)
            end.channel.close()
