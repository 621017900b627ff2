"""Every promise about streams, while a filter looks at each byte: as without us, also with a proxy behind the filter.

The filter (`providers/peeking.py`) asks for random peeks and passes random portions.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.netlab import NetLab

from . import agent, test_streams
from .program import Program, provider
from .test_streams import *  # noqa: F403
from .test_streams import connection

WAYS = {
    "pass-through": provider("peeking"),
    "relayed": (*provider("relaying"), *provider("peeking", seed=2)),  # the filter comes first nevertheless
    "carried": (*provider("peeking", seed=3), *provider("carrying")),
}


@pytest.fixture(scope="module", params=WAYS)
def program(request: pytest.FixtureRequest, lab: NetLab) -> Iterator[Program]:
    """One program for all tests of a way."""
    program = Program(lab, WAYS[request.param])
    program.way = request.param
    try:
        program.call("identity")
        yield program
    finally:
        program.close()
    assert not program.faults + program.cut_off


class TestUrgentData(  # type: ignore[no-redef]  # in place of the imported one
    test_streams.TestUrgentData
):
    """An urgent byte keeps its place in the stream while filters look, and loses its urgency."""

    def test_from_the_program(self, program: Program, lab: NetLab) -> None:
        with connection(program, lab) as (near, far):
            near.sendall(b"before")
            near.send(b"!", socket.MSG_OOB)
            near.sendall(b"after")
            assert agent.read_exactly(far, 12) == b"before!after"

    def test_to_the_program(self, program: Program, lab: NetLab) -> None:
        with connection(program, lab) as (near, far):
            far.sendall(b"before")
            far.send(b"!", socket.MSG_OOB)
            far.sendall(b"after")
            if program.way == "carried":  # the example's own socket to the server is not told to read it in line
                assert near.read_exactly(11) == b"beforeafter"
            else:
                assert near.read_exactly(12) == b"before!after"
