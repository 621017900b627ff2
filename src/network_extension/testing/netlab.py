"""A small network for tests as root: two hosts (network namespaces) joined by a veth pair, both families, real tools.

    near ── 198.51.100.1/24, 2001:db8:99::1/64 ══ 198.51.100.2/24, 2001:db8:99::2/64 ── far

Programs under test and `netext` run in `near`, as an ordinary user; servers run in `far`. Everything is taken away by
`close`, which ends only processes that this lab started.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NEAR4, FAR4, NEAR6, FAR6 = "198.51.100.1", "198.51.100.2", "2001:db8:99::1", "2001:db8:99::2"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
_numbers = itertools.count()  # several labs of one process have names of their own


class Host:
    """One namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.processes: list[subprocess.Popen[str]] = []
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")

    def command(self, *arguments: str, user: bool = False) -> list[str]:
        """The argument list that runs a program in this host; as nobody if `user`."""
        return ["ip", "netns", "exec", self.name, *(NOBODY if user else ()), *arguments]

    def run(
        self, *arguments: str, user: bool = False, timeout: float = 30, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end and capture what it says."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            self.command(*arguments, user=user), capture_output=True, text=True, timeout=timeout, check=False, **options
        )

    def start(self, *arguments: str, user: bool = False, **options: Any) -> subprocess.Popen[str]:
        """Start a program that `close` ends."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options = pipes | {"text": True} | options
        process: subprocess.Popen[str] = subprocess.Popen(self.command(*arguments, user=user), **options)
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End what was started here, and the namespace."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        _ip("netns", "del", self.name)
        shutil.rmtree(f"/etc/netns/{self.name}", ignore_errors=True)


class NetLab:
    """The two hosts and the link between them; `mtu` in bytes."""

    def __init__(self, mtu: int = 1500) -> None:
        tag = f"nl{os.getpid()}n{next(_numbers)}"
        self.near, self.far = Host(f"{tag}a"), Host(f"{tag}b")
        _ip("link", "add", f"{tag}x", "netns", self.near.name, "mtu", str(mtu), "type", "veth",
            "peer", "name", f"{tag}y", "netns", self.far.name, "mtu", str(mtu))  # fmt: skip
        for host, device, four, six in ((self.near, f"{tag}x", NEAR4, NEAR6), (self.far, f"{tag}y", FAR4, FAR6)):
            _ip("-n", host.name, "addr", "add", f"{four}/24", "dev", device)
            _ip("-n", host.name, "addr", "add", f"{six}/64", "dev", device, "nodad")
            _ip("-n", host.name, "link", "set", device, "up")
        _ip("-n", self.near.name, "route", "add", "default", "via", FAR4)
        _ip("-n", self.near.name, "route", "add", "default", "via", FAR6)
        self.near_device, self.far_device = f"{tag}x", f"{tag}y"

    def resolv_conf(self, text: str) -> None:
        """Give `near` a resolv.conf of its own (ip-netns(8))."""
        folder = Path("/etc/netns") / self.near.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(text)

    def netext(self, *arguments: str) -> list[str]:
        """The words of a `netext` command, for `near.run(..., user=True)`."""
        return [sys.executable, "-m", "network_extension", *arguments]

    def run(self, *arguments: str, timeout: float = 30, **options: Any) -> subprocess.CompletedProcess[str]:
        """`netext run …` in `near`, as nobody."""
        return self.near.run(*self.netext("run", *arguments), user=True, timeout=timeout, **options)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start `netext run …` in `near`, as nobody."""
        return self.near.start(*self.netext("run", *arguments), user=True, **options)

    def in_host(self, host: Host, action: Callable[[], Any]) -> Any:
        """Call `action` with the calling thread inside a host's namespace; sockets it makes stay there."""
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{host.name}", os.O_RDONLY)
        try:
            if libc.setns(there, 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")
            return action()
        finally:
            libc.setns(here, 0x40000000)
            os.close(here)
            os.close(there)

    def far_listener(
        self, port: int = 0, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM
    ) -> socket.socket:
        """A socket of the test's own, bound in `far` (and listening, if TCP): the test plays the server."""

        def make() -> socket.socket:
            sock = socket.socket(family, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((FAR6 if family == socket.AF_INET6 else FAR4, port))
            if kind == socket.SOCK_STREAM:
                sock.listen(4096)
            sock.settimeout(15)
            return sock

        sock: socket.socket = self.in_host(self.far, make)
        return sock

    def close(self) -> None:
        """Take both hosts away."""
        self.near.close()
        self.far.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def wait_for(condition: Callable[[], Any], timeout: float = 10, what: str = "the condition") -> Any:
    """Poll until `condition` gives something true, and return it; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        time.sleep(0.02)  # noqa: TID251 — this is the waiting tool
    return found


def python(code: str) -> Sequence[str]:
    """The words that run a piece of Python."""
    return (sys.executable, "-c", code)
