"""What the lab tests share: the network, and one program in four places.

`program` is the same program run natively, behind `netext` without a provider, behind a provider that claims each flow
and relays it, and behind one that reads and writes the bytes itself. A test that takes it shows that there is no
difference.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netlab import NetLab, acquainted_lab

from .program import Program, provider

WAYS: dict[str, tuple[str, ...] | None] = {
    "native": None,
    "pass-through": (),
    "relayed": provider("relaying"),
    "carried": provider("carrying"),
}


@pytest.fixture(scope="session")
def lab() -> Iterator[NetLab]:
    """Two hosts for all lab tests of this run."""
    with acquainted_lab() as lab:
        yield lab


@pytest.fixture(scope="module", params=WAYS)
def program(request: pytest.FixtureRequest, lab: NetLab) -> Iterator[Program]:
    """One program for all tests of a module and a way."""
    program = Program(lab, WAYS[request.param])
    program.way = request.param
    try:
        assert program.call("identity")["uid"] == (65534, 65534, 65534)
        yield program
    finally:
        program.close()
    assert not program.faults + program.cut_off


@pytest.fixture
def way(program: Program) -> str:
    """Which of the four."""
    return program.way
