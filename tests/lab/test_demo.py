"""`netext demo`, the README's first command: for root and for anybody, and it says so when something is not so."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.runtime.demo_network import NAME, SERVER, answer_name

pytestmark = pytest.mark.lab
DEMO = [sys.executable, "-m", "network_extension", "demo"]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("ordinary", [True, False], ids=["as nobody", "as root"])
def test_every_claim_of_the_demo_holds(ordinary: bool, as_ordinary_user: list[str]) -> None:
    """Exit status 0, every claim checked, and the log lines of three runs among the output."""
    done = run([*(as_ordinary_user if ordinary else []), *DEMO])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT SO" not in done.stdout
    assert done.stdout.count("✓") == 7
    for line in ("passed by pass-through", "claimed by Rewriter", "refused by Guard", "REWRITTEN TEXT"):
        assert line in done.stdout


def test_a_demo_that_cannot_make_namespaces_says_so_in_one_line(as_ordinary_user: list[str]) -> None:
    """No user namespaces: exit status 77, one line with the next step, no traceback."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    done = run(["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *DEMO])
    assert done.returncode == 77, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "next step: " in done.stderr


@given(st.binary(max_size=600))
def test_the_demo_name_server_answers_anything_without_an_exception(query: bytes) -> None:
    """Garbage gets no answer, or one that repeats its id."""
    answer = answer_name(query)
    assert answer is None or answer[:2] == query[:2]


def test_the_demo_name_server_knows_its_name() -> None:
    """An A query for the name gets the address; other types get an empty answer, other names NXDOMAIN."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split(".")) + b"\0"
    query = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + labels
    address = bytes(int(part) for part in SERVER.split("."))
    assert (answer := answer_name(query + b"\0\1\0\1")) is not None and answer.endswith(address)
    assert (empty := answer_name(query + b"\0\x1c\0\1")) is not None and empty[6:8] == b"\0\0" and empty[3] & 15 == 0
    other = query.replace(b"web", b"wob") + b"\0\1\0\1"
    assert (unknown := answer_name(other)) is not None and unknown[3] & 15 == 3
