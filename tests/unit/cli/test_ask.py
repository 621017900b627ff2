"""`netext ask` against a socket of the test's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from network_extension import ConfigurationError
from network_extension.cli.ask import describe, parse_answer
from network_extension.cli.main import main

QUESTION: dict[str, Any] = {
    "type": "question",
    "id": "47.3",
    "program": "/usr/bin/curl",
    "arguments": ["curl", "\x1b[2J"],
    "parents": ["/bin/bash", "/usr/sbin/sshd"],
    "pid": 7,
    "uid": 0,
    "host": "www.example.com",
    "address": "192.0.2.1",
    "port": 443,
    "protocol": "tcp",
    "direction": "outbound",
    "flows": 2,
    "seconds_left": 27.4,
}


class Firewall:
    """The firewall's end: says what is open, and what becomes of answers."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answers: list[dict[str, Any]] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.near: socket.socket | None = None
        self.accepted = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            while True:
                self.near, _ = self.listener.accept()
                self.say({"type": "welcome", "pid": 47}, QUESTION, {"type": "listed"})
                self.accepted.set()
                self._talk(self.near)
        except OSError:
            return

    def _talk(self, near: socket.socket) -> None:
        with near, near.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                self.answers.append(message)
                if message["action"] == "drop":
                    self.say({"type": "error", "id": message["id"], "text": "not\x1b[31m like this"})
                else:
                    self.say({"type": "gone", "id": message["id"], "how": "answered", "by": "me"})
                    self.say({"type": "answered", "id": message["id"], "text": f"{message['action']} once"})

    def say(self, *messages: dict[str, Any]) -> None:
        assert self.near is not None
        self.near.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)


@pytest.fixture
def firewall(tmp_path: Path) -> Iterator[Firewall]:
    firewall = Firewall(tmp_path / "ask-47.sock")
    yield firewall
    firewall.close()


def test_the_open_questions(firewall: Firewall, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--socket", firewall.path, "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "47.3  curl → www.example.com:443 tcp (192.0.2.1)",
        "    /usr/bin/curl, process 7, user root (0)",
        "    curl \\x1b[2J",
        "    started by bash ← sshd",
        "    2 flows wait, 27 s left",
    ]


def test_the_open_questions_for_programs(firewall: Firewall, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--socket", firewall.path, "--list", "--json"]) == 0
    (question,) = json.loads(capsys.readouterr().out)
    assert question == {key: value for key, value in QUESTION.items() if key != "type"}


@pytest.mark.parametrize("identifier", ["47.3", "3"])
def test_an_answer(firewall: Firewall, capsys: pytest.CaptureFixture[str], identifier: str) -> None:
    words = ("--answer", identifier, "allow", "--for", "15m", "--scope", "domain")
    assert main(["ask", "--socket", firewall.path, *words]) == 0
    assert capsys.readouterr().out == "allow once\n"
    assert firewall.answers == [
        {"type": "answer", "id": "47.3", "action": "allow", "for": "15m", "scope": "domain"},
    ]


def test_an_answer_that_is_not_taken(firewall: Firewall, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--socket", firewall.path, "--answer", "3", "drop"]) == 1
    assert capsys.readouterr().err == "not\\x1b[31m like this\n"


def test_a_question_that_is_not_open(firewall: Firewall, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--socket", firewall.path, "--answer", "9", "allow"]) == 1
    assert "no open question 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--answer", "3"), 64),
        (("allow",), 64),
        (("--answer", "3", "maybe"), 64),
        (("--answer", "3", "allow", "--for", "soon"), 78),
        (("--answer", "3", "allow", "--scope", "all"), 78),
    ],
)
def test_words_that_are_no_answer(words: tuple[str, ...], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        found = main(["ask", *words])
    except SystemExit as ended:
        found = int(ended.code or 0)
    assert found == status
    assert capsys.readouterr().err.count("\n") == 1


def test_no_firewall(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--socket", str(tmp_path / "none.sock")]) == 69
    assert "no firewall that asks is running" in capsys.readouterr().err


def test_it_finds_the_socket_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "netext").mkdir()
    firewall = Firewall(tmp_path / "netext/ask-47.sock")
    try:
        assert main(["ask", "--list"]) == 0
        assert "47.3  curl" in capsys.readouterr().out
    finally:
        firewall.close()


class Terminal:
    """`netext ask` in a process of its own."""

    def __init__(self, firewall: Firewall, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "network_extension", "ask", "--socket", firewall.path, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        firewall.accepted.wait(10)

    def until(self, text: str) -> str:
        """What it says up to the line with `text`."""
        assert self.process.stdout is not None
        said = ""
        while text not in said:
            line = self.process.stdout.readline()
            assert line, said
            said += line
        return said

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def close(self) -> int:
        try:
            self.process.communicate(timeout=10)
        finally:
            self.process.kill()
        return self.process.returncode


def test_a_talk(firewall: Firewall) -> None:
    """Help, nonsense, an answer, the next question, its end by another's answer, and leaving."""
    terminal = Terminal(firewall)
    terminal.until("domain (example.com)")
    terminal.type("?")
    terminal.until("skip: the next question")
    terminal.type("perhaps")
    terminal.until("answer: 'perhaps' is none of allow, deny, drop")
    terminal.type("drop")
    terminal.until("not taken: not\\x1b[31m like this")
    terminal.type("a ever domain")
    terminal.until("allow once")
    assert firewall.answers[-1] == {
        "type": "answer", "id": "47.3", "action": "allow", "for": "ever", "scope": "domain",
    }  # fmt: skip
    terminal.type("allow")
    terminal.until("nothing is asked at the moment")
    firewall.say({**QUESTION, "id": "47.4"})
    terminal.until("47.4  curl")
    firewall.say({"type": "gone", "id": "47.4", "how": "unanswered", "by": "deny"})
    terminal.until("47.4: unanswered, deny")
    terminal.type("quit")
    assert terminal.close() == 0


def test_skipping_and_answering_by_number(firewall: Firewall) -> None:
    terminal = Terminal(firewall)
    terminal.until("domain (example.com)")
    firewall.say({**QUESTION, "id": "47.4"})
    terminal.type("skip")
    terminal.until("47.4  curl")
    terminal.type("3 deny run")
    terminal.until("deny once")
    assert firewall.answers[-1]["id"] == "47.3"
    terminal.type("q")
    assert terminal.close() == 0


def test_events_for_programs(firewall: Firewall) -> None:
    terminal = Terminal(firewall, "--json")
    assert json.loads(terminal.until("\n")) == QUESTION
    firewall.say({"type": "gone", "id": "47.3", "how": "answered", "by": "me"})
    assert json.loads(terminal.until("\n"))["type"] == "gone"
    assert firewall.near is not None
    firewall.near.shutdown(socket.SHUT_RDWR)
    assert terminal.close() == 0


def test_the_firewall_stops(firewall: Firewall) -> None:
    terminal = Terminal(firewall)
    terminal.until("domain (example.com)")
    assert firewall.near is not None
    firewall.near.shutdown(socket.SHUT_RDWR)
    terminal.until("The firewall has stopped.")
    assert terminal.close() == 0


def test_a_question_with_nothing_known_is_shown() -> None:
    assert "an unknown program → ? tcp" in describe({"id": "1.1", "protocol": "tcp", "direction": "outbound"})


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("allow", ("allow", "once", "exact")),
        ("deny for ever", ("deny", "ever", "exact")),
        ("drop host 2h", ("drop", "2h", "host")),
        ("allow domain=example.co.uk run", ("allow", "run", "domain=example.co.uk")),
    ],
)
def test_words_in_any_order(text: str, answer: tuple[str, str, str]) -> None:
    assert parse_answer(text.split()) == answer


def test_words_that_mean_nothing() -> None:
    with pytest.raises(ConfigurationError):
        parse_answer(["allow", "tomorrow"])
