"""`netext urlfilter gateway` or `relay` in a process of its own, on a port of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Self


class Command:
    """Started when it is entered, with `--json`; ended when it is left."""

    def __init__(self, name: str, *words: str) -> None:
        command = [sys.executable, "-m", "network_extension", "urlfilter", name, "--listen", "127.0.0.1:0", "--json"]
        self.process = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.told: dict[str, str] = {}
        self._said = ""
        self._is_told_to_end = False

    def __enter__(self) -> Self:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.end()
        self.told = json.loads(line)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait_for_event(self, name: str) -> None:
        """Read its log up to an event."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said += line
            if json.loads(line)["event"] == name:
                return
        raise AssertionError(f"it ended without {name}: {self._said}")

    def terminate(self) -> None:
        """SIGTERM, once: a second one does not wait for what was begun."""
        if not self._is_told_to_end and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self._is_told_to_end = True

    def end(self) -> str:
        """SIGTERM, if it was not sent, and wait for its end; its log."""
        assert self.process.stdout is not None and self.process.stderr is not None
        if not self.process.stderr.closed:
            self.terminate()
            self._said += self.process.stderr.read()
            self.process.wait(20)
            self.process.stdout.close()
            self.process.stderr.close()
        return self._said
