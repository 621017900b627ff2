"""Every promise about datagrams, while a filter looks at each: as without us, also with a proxy behind the filter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netlab import NetLab

from .program import Program, provider
from .test_datagrams import *  # noqa: F403

WAYS = {
    "pass-through": provider("peeking"),
    "relayed": (*provider("relaying"), *provider("peeking", seed=2)),
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
