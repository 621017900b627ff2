"""`netext urlfilter` in processes of its own, as a user starts it: what tests of several kinds ask."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

USE_CASE = "netext.url.filtering"
LIST = "blocked.example\n||ads.example^\n0.0.0.0 track.example\nhttps://site.example/bad/path\n"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Server:
    """`netext urlfilter serve` on a port of its own; it keeps its state in the database's folder."""

    def __init__(self, database: Path, *words: str) -> None:
        self.database, self._words, self.port = database, words, 0
        self.start()

    def start(self) -> None:
        words = [sys.executable, "-m", "network_extension", "urlfilter", "serve", str(self.database)]
        listen = ["--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen([*words, *listen, *self._words], stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if line.lstrip().startswith("operators"):
                break
        else:
            raise AssertionError("".join(self.said))
        found = re.search(r"http://127\.0\.0\.1:(\d+)/config", "".join(self.said))
        assert found is not None
        self.port = int(found[1])

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it; what it said meanwhile."""
        self.process.send_signal(number)
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        self.process.wait(20)
        self.process.stderr.close()
        return "".join(self.said) + said

    def restart(self, number: int = signal.SIGKILL) -> None:
        self.stop(number)
        self.start()

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()


def build(folder: Path, text: str = LIST) -> Path:
    """A list and its database in a folder; the database."""
    (folder / "list.txt").write_text(text)
    words = [sys.executable, "-m", "network_extension", "urlfilter", "build", str(folder / "list.txt")]
    done = subprocess.run([*words, "-o", str(folder / "db")], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return folder / "db"


@contextmanager
def serving(database: Path, *words: str) -> Iterator[Server]:
    """The service of a database, while the block runs."""
    server = Server(database, *words)
    try:
        yield server
    finally:
        server.stop()


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
