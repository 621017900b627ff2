"""`netext filter` in `near`, as root, and sockets of the test's own there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.leaks import descendants, is_running
from tests.netlab import FAR4, NetLab, wait_for

PROVIDER = str(Path(__file__).with_name("providers") / "host_filter.py")
ALLOW, DROP, SILENT, PEEK_OUT, PAUSE, PEEK_IN, ALL_OUT, RAISE, NEVER, CALLS_OUT, REPORT, STUCK, KEPT, RECALL = range(
    7000, 7014
)


class RunningFilter:
    """A context manager; ends the filter, and takes away what it may have left."""

    def __init__(self, lab: NetLab, log: Path, *options: str, provider: str = PROVIDER, wait: bool = True) -> None:
        self.lab, self.log = lab, log
        spec = f"{PROVIDER}:HostFilter" if provider == PROVIDER else provider
        named = ("--provider", spec) if spec else ()
        words = lab.netext("filter", "--json", "--log", str(log), *named)
        self.process: subprocess.Popen[str] = lab.near.start(*words, *options)
        self._wait = wait

    def __enter__(self) -> RunningFilter:
        if self._wait:
            self.wait_for_event("in-force")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(15)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.lab.near.processes.remove(self.process)
        if self.tables():
            self.lab.near.run(*self.lab.netext("filter", "--remove"))

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What the log says so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        records = [json.loads(line) for line in lines if line.endswith("}")]
        return [record for record in records if kind in (None, record["event"])]

    def wait_for_event(self, kind: str, timeout: float = 15, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are as many events of a kind."""

        def found() -> list[dict[str, Any]]:
            assert self.process.poll() is None, self.errors()
            records = self.events(kind)
            return records if len(records) >= count else []

        records: list[dict[str, Any]] = wait_for(found, timeout, f"event {kind}")
        return records

    def decision(self, port: int, outcome: str = "", timeout: float = 5) -> dict[str, Any]:
        """The latest decision about flows of this port, with that outcome."""

        def found() -> list[dict[str, Any]]:
            records = [r for r in self.events("decision") if port in (r["remote"][1], r["local"][1])]
            return [r for r in records if outcome in ("", r["outcome"])]

        records: list[dict[str, Any]] = wait_for(found, timeout, f"a decision about port {port}")
        return records[-1]

    def said(self, text: str, timeout: float = 5) -> dict[str, Any]:
        """The first record whose text has this in it."""
        return next(iter(wait_for(
            lambda: [r for r in self.events() if text in str(r.get("text"))], timeout, f"a line with {text!r}"
        )))  # fmt: skip

    def errors(self) -> str:
        """What it said on standard error; ends it."""
        return self.process.communicate(timeout=10)[1]

    def tables(self) -> str:
        """The nft tables in `near`."""
        return self.lab.near.run("nft", "list", "tables").stdout.strip()

    @property
    def engine(self) -> int:
        """The pid of the engine: the child with the same command line."""
        return next(pid for pid in self._children() if b"provider_host" not in _command_line(pid))

    @property
    def provider(self) -> int:
        """The pid of the first provider."""
        return next(pid for pid in self._children() if b"provider_host" in _command_line(pid))

    def _children(self) -> list[int]:
        return [p.pid for p in descendants(self.process.pid) if is_running(p.pid)]

    def kill(self, pid: int) -> None:
        """kill -9, and see that it is gone."""
        os.kill(pid, signal.SIGKILL)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def near_socket(lab: NetLab, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> socket.socket:
    """A socket of the test's own in `near`."""
    sock: socket.socket = lab.in_host(lab.near, lambda: socket.socket(family, kind))
    sock.settimeout(5)
    return sock


def attempt(lab: NetLab, port: int, timeout: float = 3, data: bytes = b"hello", host: str = FAR4) -> str:
    """ "echoed", or the name of the error that connect(), send() or recv() ended with."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with near_socket(lab, family=family) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect((host, port))
            sock.sendall(data)
            got = b""
            while len(got) < len(data):
                part = sock.recv(65536)
                if not part:
                    return "ended"
                got += part
            return "echoed" if got == data else "garbled"
        except OSError as error:
            return type(error).__name__


def works_within(lab: NetLab, port: int, seconds: float) -> float:
    """Try until a flow works; after how many seconds it did."""
    begin = time.monotonic()
    wait_for(lambda: attempt(lab, port, 0.5) == "echoed", seconds, f"a flow to port {port}")
    return time.monotonic() - begin
