"""Puts open questions to everybody who asks for them on a UNIX socket, and takes the first answer.

Only root and the user that the firewall runs as may connect (SO_PEERCRED, unix(7)), beside the modes of directory and
socket. An asker that does not read is dropped; the number of askers and what they may send are bounded.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

from ...errors import ConfigurationError
from .answers import Answer
from .ask_socket import MOST_LINE, VERSION, make_directory, remove_stale

MOST_ASKERS = 16
MOST_UNREAD = 1 << 20
_BACKLOG = 16


class Asked(Protocol):
    """What the server serves."""

    def open_questions(self) -> list[dict[str, Any]]:
        """All open questions, in the form in which they are sent."""

    def answer(self, identifier: str, answer: Answer, by: str) -> str:
        """Answer a question; what became of it. Raises ConfigurationError."""


class AskServer:
    """The socket, and those who are connected."""

    def __init__(self, asked: Asked, log: Callable[[str, str], None]) -> None:
        self._asked, self._log = asked, log
        self._server: asyncio.Server | None = None
        self._askers: dict[asyncio.StreamWriter, int] = {}
        self.path = ""

    @property
    def askers(self) -> int:
        """How many are connected."""
        return len(self._askers)

    async def start(self, path: str = "") -> None:
        """Listen, on a socket of a fixed name if one is given. Raises ConfigurationError."""
        if path:
            _remove_if_stale(path)
        else:
            directory = make_directory()
            remove_stale(directory)
            path = os.path.join(directory, f"ask-{os.getpid()}.sock")
        self._server = await asyncio.start_unix_server(self._serve, sock=_bound(path), limit=MOST_LINE)
        self.path = path

    async def stop(self) -> None:
        """Let go of everybody, and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._askers):
            writer.close()
        self._server = None
        try:
            os.unlink(self.path)
        except OSError:
            pass

    def tell(self, message: dict[str, Any]) -> None:
        """Say something to all askers."""
        if self._askers:
            line = _line(message)
            for writer in list(self._askers):
                self._write(writer, line)

    def _write(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        transport = writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > MOST_UNREAD:
            self._log("an asker does not read its questions and was disconnected", "warning")
            transport.abort()
        else:
            writer.write(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            pid, uid = _peer(writer)
            if uid not in (0, os.geteuid()):
                self._write(
                    writer, _line({"type": "error", "text": "only root and the firewall's own user may answer"})
                )
                self._log(f"process {pid} of user {uid} wanted to see the questions, and may not", "warning")
            elif len(self._askers) >= MOST_ASKERS:
                self._write(writer, _line({"type": "error", "text": f"{MOST_ASKERS} askers are connected already"}))
            else:
                self._askers[writer] = uid
                await self._talk(reader, writer, f"process {pid} of user {uid}")
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # it went, or sent more than a line may hold
        finally:
            self._askers.pop(writer, None)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, who: str) -> None:
        self._write(writer, _line({"type": "welcome", "pid": os.getpid(), "version": VERSION}))
        self._write(writer, _line(self._list(writer)))
        while line := await reader.readline():
            if line.strip():
                self._write(writer, _line(self._reply(writer, line, who)))

    def _list(self, writer: asyncio.StreamWriter) -> dict[str, Any]:
        for message in self._asked.open_questions():
            self._write(writer, _line(message))
        return {"type": "listed"}

    def _reply(self, writer: asyncio.StreamWriter, line: bytes, who: str) -> dict[str, Any]:
        identifier = ""
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ConfigurationError("an object is needed")
            if message.get("type") == "list":
                return self._list(writer)
            if message.get("type") != "answer":
                raise ConfigurationError("a message of type answer or list is needed")
            identifier, *words = (_word(message, key, default) for key, default in _FIELDS)
            text = self._asked.answer(identifier, Answer.parse(*words), who)
        except (ConfigurationError, ValueError, RecursionError) as error:
            return {"type": "error", "id": identifier, "text": str(error)[:500]}
        return {"type": "answered", "id": identifier, "text": text}


_FIELDS = (("id", ""), ("action", ""), ("for", "once"), ("scope", "exact"))


def _word(message: dict[str, Any], key: str, default: str) -> str:
    value = message.get(key, default)
    if not isinstance(value, str) or len(value) > 300 or not value.isprintable():
        raise ConfigurationError(f"{key}: a short text is needed")
    return value


def _line(message: dict[str, Any]) -> bytes:
    # ASCII only, so that whatever a program has in its arguments arrives as it is, and does nothing to a terminal
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int]:
    """Process and user of the other end."""
    data = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("iII", data)
    return pid, uid


def _bound(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(path)
        os.chmod(path, 0o600)  # nobody can connect before it listens, which comes after this
        sock.listen(_BACKLOG)
    except (OSError, ValueError) as error:
        sock.close()
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"socket of questions {path}: {why}; give another by --config ask_socket=PATH"
        ) from None
    return sock


def _remove_if_stale(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return
        else:
            raise ConfigurationError(f"socket of questions {path}: another firewall listens on it")
