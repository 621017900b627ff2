"""The asker's end of a firewall's socket."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from ..builtin.firewall.ask_socket import MOST_LINE

TIMEOUT = 5.0  # seconds for a firewall to say what it asks, or to take an answer


class Asker:
    """One connection, and the open questions of the firewall behind it."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        self._socket, self.path = sock, path
        self._received = b""
        self._replies: dict[str, dict[str, Any]] = {}
        self.questions: dict[str, dict[str, Any]] = {}
        self.has_ended = False
        self.refusal = ""

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()

    def receive(self) -> list[dict[str, Any]]:
        """What has come, at least one piece of it; `questions` is what is open after it."""
        try:
            data = self._socket.recv(MOST_LINE)
        except TimeoutError:
            return []
        except OSError:
            data = b""
        self.has_ended = not data
        *lines, self._received = (self._received + data).split(b"\n")
        messages = [message for line in lines if isinstance(message := _decoded(line), dict)]
        for message in messages:
            self._note(message)
        return messages

    def _note(self, message: dict[str, Any]) -> None:
        kind, identifier = message.get("type"), str(message.get("id", ""))
        if kind == "question":
            self.questions[identifier] = message
        elif kind == "gone":
            self.questions.pop(identifier, None)
        elif kind in ("answered", "error"):
            self._replies[identifier] = message
            if not identifier:
                self.refusal = str(message.get("text"))

    def wait_for_list(self) -> bool:
        """Receive until all open questions are there."""
        until = time.monotonic() + TIMEOUT
        while not self.has_ended and time.monotonic() < until:
            if any(message.get("type") == "listed" for message in self.receive()):
                return True
        return False

    def answer(self, identifier: str, action: str, duration: str, scope: str) -> None:
        """Send an answer."""
        message = {"type": "answer", "id": identifier, "action": action, "for": duration, "scope": scope}
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.has_ended = True

    def reply(self, identifier: str) -> dict[str, Any]:
        """What the firewall says to an answer."""
        until = time.monotonic() + TIMEOUT
        while identifier not in self._replies and not self.has_ended and time.monotonic() < until:
            self.receive()
        return self._replies.get(identifier, {"type": "error", "text": "the firewall said nothing to this answer"})


def connect(paths: list[str]) -> list[Asker]:
    """Connections to all firewalls that listen there and let us in, with their open questions."""
    found = []
    for path in paths:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT)
        try:
            sock.connect(path)
        except OSError:  # a firewall that has ended
            sock.close()
            continue
        asker = Asker(sock, path)
        if asker.wait_for_list():
            found.append(asker)
        else:
            asker.close()
    return found


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
