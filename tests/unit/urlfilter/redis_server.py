"""A Redis of the test's own: on a socket in the test's directory, ended with the test."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from network_extension.testing.netlab import wait_for


class RedisServer:
    """`start` and `stop` as often as a test likes; what Redis has acknowledged stays on disk between them."""

    def __init__(self, directory: Path) -> None:
        """`directory` has a short name: the path of a socket has 107 characters at most."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("no redis-server: it is in scripts/debian-packages.txt")
        self._program = program
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"

    def start(self) -> None:
        """Returns when it listens."""
        options = ["--port", "0", "--unixsocket", "redis.sock", "--appendonly", "yes", "--save", "", "--dir", "."]
        self._process = subprocess.Popen(
            [self._program, *options], cwd=self._directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, what="redis-server's socket")

    def stop(self) -> None:
        """Kill it without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asking:
            try:
                asking.connect(str(self.socket))
                asking.sendall(b"PING\r\n")
                return asking.recv(64) == b"+PONG\r\n"
            except OSError:
                return False
