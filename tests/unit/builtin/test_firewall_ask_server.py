"""The socket of questions: who may connect, what is said on it, and what a bad asker can do."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from network_extension import ConfigurationError
from network_extension.builtin.firewall import ask_socket
from network_extension.builtin.firewall.answers import Answer
from network_extension.builtin.firewall.ask_server import MOST_ASKERS, AskServer

QUESTION = {"type": "question", "id": "1.1", "program": "/usr/bin/curl", "arguments": ["\x1b[31m", "ä"], "flows": 1}


class Book:
    """Questions of a test."""

    def __init__(self) -> None:
        self.questions = [QUESTION]
        self.answers: list[tuple[str, Answer]] = []
        self.log: list[str] = []

    def open_questions(self) -> list[dict[str, Any]]:
        return self.questions

    def answer(self, identifier: str, answer: Answer, by: str) -> str:
        if identifier != "1.1":
            raise ConfigurationError("not open")
        self.answers.append((identifier, answer))
        return f"{answer.action} by {by}"


class Client:
    """One asker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def hear(self) -> Any:
        line = await asyncio.wait_for(self.reader.readline(), 5)
        return json.loads(line) if line else None

    async def say(self, message: object) -> Any:
        self.writer.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")
        return await self.hear()


@asynccontextmanager
async def client(path: str) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def served(folder: Path, talk: Callable[[AskServer, Book], Awaitable[None]]) -> Book:
    """A server, and a talk with it."""

    async def run() -> Book:
        book = Book()
        server = AskServer(book, lambda text, _level: book.log.append(text))
        await server.start(str(folder / "ask.sock"))
        try:
            await talk(server, book)
        finally:
            await server.stop()
            await asyncio.sleep(0)
        return book

    return asyncio.run(run())


def test_who_connects_hears_all_open_questions_and_answers_one(tmp_path: Path) -> None:
    async def talk(server: AskServer, book: Book) -> None:
        assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600
        async with client(server.path) as me:
            assert (await me.hear())["type"] == "welcome"
            assert await me.hear() == QUESTION
            assert (await me.hear())["type"] == "listed"
            said = await me.say({"type": "answer", "id": "1.1", "action": "allow", "for": "ever", "scope": "host"})
            assert said == {
                "type": "answered",
                "id": "1.1",
                "text": f"allow by process {os.getpid()} of user {os.getuid()}",
            }

    assert served(tmp_path, talk).answers == [("1.1", Answer.parse("allow", "ever", "host"))]
    assert not (tmp_path / "ask.sock").exists()


def test_all_askers_hear_of_a_new_question(tmp_path: Path) -> None:
    async def talk(server: AskServer, book: Book) -> None:
        book.questions = []
        async with client(server.path) as first, client(server.path) as second:
            for each in (first, second):
                assert [(await each.hear())["type"] for _ in range(2)] == ["welcome", "listed"]
            server.tell(QUESTION)
            assert await first.hear() == await second.hear() == QUESTION

    served(tmp_path, talk)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"not JSON", "Expecting value"),
        (b"[" * 10_000, "maximum recursion depth exceeded"),
        (b"[]", "an object is needed"),
        ({"type": "sing"}, "a message of type answer or list is needed"),
        ({"type": "answer", "id": 3}, "id: a short text is needed"),
        ({"type": "answer", "id": "1.1"}, "answer: '' is none of allow, deny, drop"),
        ({"type": "answer", "id": "1.1", "action": "allow", "for": "a\nb"}, "for: a short text is needed"),
        ({"type": "answer", "id": "9.9", "action": "allow"}, "not open"),
    ],
)
def test_nonsense_is_answered_with_an_error(tmp_path: Path, message: object, text: str) -> None:
    async def talk(server: AskServer, book: Book) -> None:
        async with client(server.path) as me:
            for _ in range(3):
                await me.hear()
            said = await me.say(message)
            assert said["type"] == "error"
            assert said["text"].startswith(text)
            assert (await me.say({"type": "answer", "id": "1.1", "action": "deny"}))["type"] == "answered"

    served(tmp_path, talk)


def test_a_line_without_end_ends_the_connection(tmp_path: Path) -> None:
    async def talk(server: AskServer, book: Book) -> None:
        async with client(server.path) as me:
            for _ in range(3):
                await me.hear()
            me.writer.write(b"x" * 200_000)
            assert await me.hear() is None

    served(tmp_path, talk)


def test_more_askers_than_there_is_room_for_are_told(tmp_path: Path) -> None:
    async def talk(server: AskServer, book: Book) -> None:
        waiting = [await asyncio.open_unix_connection(server.path) for _ in range(MOST_ASKERS)]
        for reader, _ in waiting:
            await reader.readline()
        async with client(server.path) as late:
            assert (await late.hear())["text"] == f"{MOST_ASKERS} askers are connected already"
        for _, writer in waiting:
            writer.close()
            await writer.wait_closed()

    served(tmp_path, talk)


def test_who_does_not_read_is_let_go(tmp_path: Path) -> None:
    async def talk(server: AskServer, book: Book) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server.path)
        for _ in range(100):
            await asyncio.sleep(0)
            if server.askers:
                break
        for _ in range(100):
            server.tell({"type": "question", "id": "x" * 50_000})
        for _ in range(10):
            await asyncio.sleep(0)
        assert server.askers == 0
        sock.close()

    assert any("does not read" in line for line in served(tmp_path, talk).log)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_may_not_connect() -> None:
    async def talk(server: AskServer, book: Book) -> None:
        os.chmod(server.path, 0o666)
        code = f"import socket; s = socket.socket(1); s.connect({server.path!r}); print(s.recv(999).decode())"
        user = ("/usr/bin/setpriv", "--reuid=65534", "--clear-groups")
        python = await asyncio.create_subprocess_exec(
            *user, "/usr/bin/python3", "-c", code, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await python.communicate()
        assert "only root and the firewall's own user may answer" in output.decode()

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        assert any("of user 65534 wanted to see the questions" in line for line in served(Path(folder), talk).log)


def test_a_stale_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "ask.sock"))
    stale.close()

    async def talk(server: AskServer, book: Book) -> None:
        with pytest.raises(ConfigurationError, match="another firewall listens on it"):
            await AskServer(book, lambda _text, _level: None).start(server.path)

    served(tmp_path, talk)


def test_a_path_that_cannot_be_is_told(tmp_path: Path) -> None:
    async def start() -> None:
        await AskServer(Book(), lambda _text, _level: None).start(str(tmp_path / ("x" * 200)))

    with pytest.raises(ConfigurationError, match="give another by --config ask_socket=PATH"):
        asyncio.run(start())


class TestPlaces:
    """Where sockets are."""

    def test_the_runtime_directory_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        directory = ask_socket.make_directory()
        assert directory == f"{tmp_path}/netext"
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700

    def test_a_directory_that_others_may_enter_is_closed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        (tmp_path / "netext").mkdir(0o777)
        os.chmod(tmp_path / "netext", 0o777)
        assert stat.S_IMODE(os.stat(ask_socket.make_directory()).st_mode) == 0o700

    def test_stale_sockets_are_removed_and_living_ones_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        directory = ask_socket.make_directory()
        stale, living = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        stale.bind(f"{directory}/ask-1.sock")
        stale.close()
        living.bind(f"{directory}/ask-2.sock")
        living.listen()
        Path(directory, "other.sock").touch()
        assert f"{directory}/ask-1.sock" in ask_socket.find_sockets()
        assert ask_socket.remove_stale(directory) == [f"{directory}/ask-2.sock"]
        assert f"{directory}/ask-1.sock" not in ask_socket.find_sockets()
        assert Path(directory, "other.sock").exists()
        living.close()
