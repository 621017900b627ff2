"""The lab of our tests is the public one, `network_extension.testing.netlab`, and what they share beside it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from network_extension.testing.netlab import FAR4, FAR6, NEAR4, NEAR6, NOBODY, Host, NetLab, python, wait_for

REPOSITORY = Path(__file__).resolve().parent.parent

__all__ = [
    "FAR4",
    "FAR6",
    "NEAR4",
    "NEAR6",
    "NOBODY",
    "REPOSITORY",
    "Host",
    "NetLab",
    "acquainted_lab",
    "open_folder",
    "python",
    "wait_for",
]


@contextmanager
def acquainted_lab() -> Iterator[NetLab]:
    """Two hosts that know each other already: no test waits for neighbour discovery."""
    lab = NetLab()
    try:
        for host in (FAR4, FAR6):
            lab.near.run("ping", "-c", "1", "-i", "0.2", "-W", "3", host)
        yield lab
    finally:
        lab.close()


@contextmanager
def open_folder(mode: int = 0o755) -> Iterator[Path]:
    """A folder that an ordinary user can read; pytest's own are root's alone, and our programs run as nobody."""
    path = Path(tempfile.mkdtemp(prefix="netext-test-", dir="/tmp"))
    try:
        path.chmod(mode)
        yield path
    finally:
        shutil.rmtree(path)
