"""What scenarios share: a network of their own, and a folder that an ordinary user can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netlab import NetLab, acquainted_lab, open_folder


@pytest.fixture(scope="module")
def lab() -> Iterator[NetLab]:
    """Two hosts; one pair for each scenario, because some of them change it."""
    with acquainted_lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for files of servers and providers; pytest's own are root's alone, and our programs run as nobody."""
    with open_folder() as path:
        yield path
