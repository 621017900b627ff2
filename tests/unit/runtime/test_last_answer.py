"""What a connected program gets from a flow that a filter has dropped: a page and an orderly close, or silence."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from network_extension.runtime import last_answer
from network_extension.runtime.last_answer import LastAnswer
from tests.unit.linux.driving import Driver, driving
from tests.unit.linux.test_splice import connection


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


def read(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return b""


def test_a_page_arrives_whole_and_the_end_after_it(driver: Driver) -> None:
    """More than the socket takes at once; what the program still sends is thrown away, and makes no reset."""
    program, ours = connection()
    page, ended, got = bytes(range(256)) * 20000, list[LastAnswer](), bytearray()
    LastAnswer(driver.reactor, ours, page, ended.append)
    program.send(b"GET / HTTP/1.1\r\n\r\n" * 100)

    def all_of_it() -> bool:
        got.extend(read(program))
        return len(got) == len(page)

    driver.until(all_of_it)
    driver.until(lambda: program.recv(1) == b"")
    assert got == page and not ended
    program.close()
    driver.until(lambda: ended)


def test_silence_until_the_program_closes(driver: Driver) -> None:
    program, ours = connection()
    ended = list[LastAnswer]()
    LastAnswer(driver.reactor, ours, None, ended.append)
    program.send(b"hello?")
    driver.quiet()
    assert not ended and read(program) == b""
    program.close()
    driver.until(lambda: ended)


def test_a_program_that_never_closes_is_not_waited_for(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_answer, "LONGEST_PAGE", 0.02)
    program, ours = connection()
    ended = list[LastAnswer]()
    LastAnswer(driver.reactor, ours, b"page", ended.append)
    driver.until(lambda: ended)
    assert ours.fileno() < 0
    program.close()


def test_a_program_that_resets(driver: Driver) -> None:
    program, ours = connection()
    ended = list[LastAnswer]()
    LastAnswer(driver.reactor, ours, bytes(10_000_000), ended.append)
    program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    program.close()
    driver.until(lambda: ended)
