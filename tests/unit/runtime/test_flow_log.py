"""What a user reads: exact lines, exact JSON, and that nothing from outside can make two lines of one."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.errors import ConfigurationError, FlowErrorCode
from network_extension.metadata import ParentProcess, ProcessInfo
from network_extension.runtime.flow_log import (
    FlowLog,
    destination_text,
    duration_text,
    flow_record,
    open_log,
    size_text,
)
from network_extension.runtime.intercepted import UDP, InterceptedFlow

from .staging import PROGRAM, SERVER

CURL = ProcessInfo(4711, 5, 1000, "/usr/bin/curl", ("curl", "-u", "me:secret"), (ParentProcess(1, "/sbin/init"),))
STAMP = re.compile(r"^netext \d\d:\d\d:\d\d ")


def flow(**more: Any) -> InterceptedFlow:
    """A TCP flow of curl to example.com:443 that began at 100.0."""
    made = InterceptedFlow(7, (6, PROGRAM, 40000, SERVER, 443), b"", None, 100.0)  # type: ignore[arg-type]
    facts = {"process": CURL, "host": "example.com", "outcome": "claimed", "by": "Rewriter", "bytes_out": 74}
    for name, value in (facts | {"bytes_in": 1234} | more).items():
        setattr(made, name, value)
    return made


class Reader:
    """Logs in one mode, into a pipe of which the test reads."""

    def __init__(self, mode: str) -> None:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK)
        self.log = FlowLog(mode, self.writer, lambda: 1_700_000_000.123456789)

    def text(self) -> str:
        try:
            return os.read(self.reader, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def lines(self) -> list[str]:
        """The lines since, without their time stamps."""
        lines = self.text().split("\n")
        assert lines.pop() == ""
        assert all(map(STAMP.match, lines))
        return [STAMP.sub("", line) for line in lines]

    def objects(self) -> list[dict[str, Any]]:
        """The JSON Lines since, without their time stamps."""
        found = [json.loads(line) for line in self.text().splitlines()]
        assert [entry.pop("time") for entry in found] == [1_700_000_000.123457] * len(found)
        return found

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture(params=["lines"])
def reader(request: pytest.FixtureRequest) -> Iterator[Reader]:
    reader = Reader(request.param)
    yield reader
    reader.close()


def mode(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("reader", [name], indirect=True)


class TestLines:
    @pytest.mark.parametrize(
        ("facts", "line"),
        [
            ({}, "curl[4711] → example.com:443 tcp  claimed by Rewriter  ↑74 B ↓1.2 KiB 31 ms"),
            ({"process": None}, "? → example.com:443 tcp  claimed by Rewriter  ↑74 B ↓1.2 KiB 31 ms"),
            (
                {"host": None, "outcome": "passed", "by": "pass-through", "reason": "nobody claimed it"},
                "curl[4711] → 192.0.2.1:443 tcp  passed by pass-through  ↑74 B ↓1.2 KiB 31 ms  (nobody claimed it)",
            ),
            (
                {"outcome": "refused", "by": "policy", "reason": "G has died; policy closed", "bytes_in": 0},
                "curl[4711] → example.com:443 tcp  refused by policy  ↑74 B ↓0 B 31 ms  (G has died; policy closed)",
            ),
            (
                {"outcome": "gone", "by": "", "key": (UDP, PROGRAM, 1, bytes(15) + b"\2", 53), "host": None},
                "curl[4711] → [::2]:53 udp  gone  ↑74 B ↓1.2 KiB 31 ms",
            ),
        ],
        ids=["claimed", "unknown program", "passed", "refused", "udp"],
    )
    def test_a_flow(self, reader: Reader, facts: dict[str, Any], line: str) -> None:
        reader.log.flow(flow(**facts), 100.031)
        assert reader.lines() == [line]

    def test_a_decision_is_not_told_before_the_end(self, reader: Reader) -> None:
        reader.log.opened(flow())
        assert reader.text() == ""

    def test_an_event(self, reader: Reader) -> None:
        reader.log.event("provider", "provider P: running", provider="P", pid=5)
        assert reader.lines() == ["provider P: running"]

    def test_a_traceback_of_a_provider_stays_readable_and_is_never_taken_for_lines_of_ours(
        self, reader: Reader
    ) -> None:
        reader.log.event("provider-log", "P: it raised\nTraceback:\n  File x\nnetext 12:00:00 all is well\n")
        assert reader.lines() == [
            "P: it raised",
            "  | Traceback:",
            "  |   File x",
            "  | netext 12:00:00 all is well",
        ]

    def test_the_summary(self, reader: Reader) -> None:
        for outcome in ("claimed", "passed", "claimed"):
            reader.log.flow(flow(outcome=outcome), 101.0)
        reader.text()
        reader.log.summary(2.04, 5)
        assert reader.lines() == ["3 flows (2 claimed, 1 passed), 222 B out, 3.6 KiB in, 5 DNS queries, 2.0 s"]

    def test_without_flows_there_is_none(self, reader: Reader) -> None:
        reader.log.summary(1.0, 3)
        assert reader.text() == ""

    def test_one_flow(self, reader: Reader) -> None:
        reader.log.flow(flow(), 101.0)
        reader.text()
        reader.log.summary(1.0, 0)
        assert reader.lines() == ["1 flow (1 claimed), 74 B out, 1.2 KiB in, 0 DNS queries, 1.0 s"]


RECORD = {
    "id": 7,
    "protocol": "tcp",
    "process": {
        "pid": 4711,
        "start_time": 5,
        "uid": 1000,
        "executable": "/usr/bin/curl",
        "parents": [{"pid": 1, "executable": "/sbin/init"}],
    },
    "local": ["192.0.0.2", 40000],
    "remote": ["192.0.2.1", 443],
    "host": "example.com",
    "outcome": "claimed",
    "by": "Rewriter",
    "reason": "",
    "error": 0,
    "out": 74,
    "in": 1234,
    "seconds": 0.031,
}


@mode("json")
class TestJson:
    def test_a_flow_is_told_when_it_is_decided_and_when_it_ends(self, reader: Reader) -> None:
        reader.log.opened(flow())
        reader.log.flow(flow(), 100.031)
        decision, end = reader.objects()
        assert decision == RECORD | {"event": "decision", "seconds": 0.0}
        assert end == RECORD | {"event": "flow"}

    def test_arguments_are_not_told(self, reader: Reader) -> None:
        """Command lines hold passwords, and logs are passed around."""
        reader.log.flow(flow(), 101.0)
        assert "secret" not in reader.text()

    def test_errors_are_numbers(self, reader: Reader) -> None:
        reader.log.flow(flow(error=FlowErrorCode.REFUSED, process=None), 101.0)
        (record,) = reader.objects()
        assert record["error"] == 6 and record["process"] is None

    def test_events_and_the_summary(self, reader: Reader) -> None:
        reader.log.event("provider", "provider P: dead", provider="P", state="dead")
        reader.log.flow(flow(), 101.0)
        reader.log.summary(2.0, 5)
        event, _, summary = reader.objects()
        assert event == {"event": "provider", "text": "provider P: dead", "provider": "P", "state": "dead"}
        totals = {"flows": 1, "outcomes": {"claimed": 1}, "out": 74, "in": 1234, "queries": 5}
        assert summary == {"event": "summary"} | totals


@mode("quiet")
def test_quiet_is_quiet(reader: Reader) -> None:
    reader.log.opened(flow())
    reader.log.flow(flow(), 101.0)
    reader.log.event("fault", "something is wrong")
    reader.log.summary(1.0, 1)
    assert reader.text() == ""


texts = st.text(st.characters(codec=None), max_size=12)  # half characters too: names of files may hold any byte


@given(texts, texts, texts, texts)
def test_any_names(host: str, reason: str, by: str, program: str) -> None:
    """One flow is one line, and no terminal takes any of it for a command."""
    facts = {"host": host, "reason": reason, "by": by, "process": ProcessInfo(1, executable=f"/{program}")}
    for name in ("lines", "json"):
        reader = Reader(name)
        reader.log.flow(flow(**facts), 101.0)
        text = reader.text()
        assert text.count("\n") == 1 and text[:-1].isprintable()
        if name == "json":
            record = json.loads(text)
            assert (record["host"], record["reason"], record["by"]) == (host, reason, by)
        reader.close()


class TestDescriptor:
    def test_a_log_that_nobody_reads_stops_nothing(self, reader: Reader) -> None:
        os.close(reader.reader)
        reader.log.flow(flow(), 101.0)
        reader.reader = os.open(os.devnull, os.O_RDONLY)
        assert reader.log.totals == {"claimed": 1}

    def test_nor_does_one_that_nobody_reads_just_now(self, reader: Reader) -> None:
        for _ in range(1000):
            reader.log.flow(flow(), 101.0)
        assert reader.log.totals == {"claimed": 1000}

    def test_standard_error_unless_there_is_a_file(self) -> None:
        assert open_log(None) == 2

    def test_a_file_is_emptied_appended_to_and_private(self, tmp_path: Path) -> None:
        path = tmp_path / "flows.log"
        path.write_text("of yesterday\n")
        path.unlink()
        descriptors = [open_log(str(path)) for _ in range(2)]
        for descriptor in descriptors:
            FlowLog("lines", descriptor).event("x", "hello")
            assert not os.get_inheritable(descriptor)
            os.close(descriptor)
        assert path.read_text().count("hello\n") == 2
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        os.close(open_log(str(path)))
        assert path.read_text() == ""

    @pytest.mark.parametrize(
        ("path", "text"),
        [("/nonexistent/log", "No such file or directory"), ("/", "Is a directory"), ("/proc/version/x", "Not a dir")],
    )
    def test_one_that_cannot_be_written(self, path: str, text: str) -> None:
        with pytest.raises(ConfigurationError, match=f"--log {path}: {text}"):
            open_log(path)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**2, "1.0 MiB"),
        (20 << 20, "20.0 MiB"),
        (1024**3 - 1, "1.0 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (1024**5, "1024.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0314, "31 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (3.44, "3.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (125.4, "2 min 5 s"),
        (7200.0, "120 min 0 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("host", "server", "text"),
    [
        ("example.com", SERVER, "example.com:443"),
        (None, SERVER, "192.0.2.1:443"),
        (None, bytes(15) + b"\1", "[::1]:443"),
    ],
)
def test_destinations(host: str | None, server: bytes, text: str) -> None:
    assert destination_text(flow(host=host, key=(6, PROGRAM, 40000, server, 443))) == text


def test_a_record_is_plain_data() -> None:
    assert json.loads(json.dumps(flow_record(flow(), 0.031))) == RECORD


def test_a_flow_that_nobody_has_decided_says_so() -> None:
    reader = Reader("lines")
    reader.log.flow(flow(outcome="", by="", reason="the sandbox ended"), 100.5)
    reader.log.summary(1.0, 0)
    text = reader.text()
    reader.close()
    assert "undecided" in text.split("\n")[0] and "1 flow (1 undecided)" in text
