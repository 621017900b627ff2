"""Who made a flow: plain data and back, and the digest of a program's file."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import FlowMetadata, ParentProcess, Path, PathStatus, ProcessInfo
from network_extension.metadata import executable_digest

CURL = ProcessInfo(7, 8, 1000, "/usr/bin/curl", ("curl", "-sS"), (ParentProcess(1, "/sbin/init"),))


def test_a_process_as_plain_data_and_back() -> None:
    assert ProcessInfo.from_dict(CURL.to_dict()) == CURL


@pytest.mark.parametrize(
    "data", [{}, {"pid": -1}, {"pid": True, "arguments": 5, "parents": [3, {"pid": "x"}]}, {"executable": 3}]
)
def test_odd_data_stays_at_the_defaults(data: dict[str, Any]) -> None:
    process = ProcessInfo.from_dict(data)
    assert (process.pid, process.executable, process.arguments) == (0, "", ())


def test_identity() -> None:
    metadata = FlowMetadata(CURL, "dns")
    assert metadata.source_app_signing_identifier == "curl"
    assert metadata.source_app_audit_token == (7, 8, 1000)
    unknown = FlowMetadata()
    assert (unknown.source_app_signing_identifier, unknown.source_app_audit_token) == ("", None)
    assert unknown.source_app_unique_identifier == b""


def test_the_digest_is_of_the_running_file() -> None:
    executable = os.readlink("/proc/self/exe")
    with open(executable, "rb") as file:
        expected = hashlib.sha256(file.read()).digest()
    for pid in (os.getpid(), 2**22):  # the second is nobody: its path is read
        assert executable_digest(ProcessInfo(pid, executable=executable)) == expected
    assert executable_digest(ProcessInfo(2**22, executable="/nonexistent")) == b""


@given(
    st.builds(
        Path,
        st.sampled_from(list(PathStatus)),
        st.lists(st.text(max_size=5), max_size=3).map(tuple),
        st.booleans(),
        st.booleans(),
        st.lists(st.text(max_size=5), max_size=3).map(tuple),
        st.booleans(),
        st.booleans(),
    )
)
def test_a_path_as_plain_data_and_back(path: Path) -> None:
    assert Path.from_dict(path.to_dict()) == path


@pytest.mark.parametrize("data", [{}, {"status": 7}, {"status": "odd", "interfaces": "eth0", "ipv4": 1, "dns": [3]}])
def test_an_odd_path_is_an_invalid_one(data: dict[str, Any]) -> None:
    assert Path.from_dict(data) == Path()
