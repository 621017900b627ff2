"""What scenarios share: a network of their own, and a folder that an ordinary user can read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netlab import FAR4, FAR6, NetLab


@pytest.fixture(scope="module")
def lab() -> Iterator[NetLab]:
    """Two hosts; one pair for each scenario, because some of them change it."""
    lab = NetLab()
    for address in (FAR4, FAR6):  # both ends know each other from now on: no test waits for neighbour discovery
        lab.near.run("ping", "-c", "1", "-i", "0.2", "-W", "3", address)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for files of servers and providers; pytest's own are root's alone, and our programs run as nobody."""
    path = Path(tempfile.mkdtemp(prefix="netext-scenario-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
