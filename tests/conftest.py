"""What all tests share: who may run which, the ordinary user, and the leak check after every lab test."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator

import pytest

from . import leaks

NOBODY = 65534


def pytest_configure(config: pytest.Config) -> None:
    """Adopt what a killed program leaves behind, so that the leak check finds it among our children."""
    leaks.become_subreaper()
    if not os.access(".hypothesis" if os.path.exists(".hypothesis") else ".", os.W_OK):  # somebody else's checkout
        os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", f"{tempfile.gettempdir()}/hypothesis-{os.geteuid()}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lab tests need root, to lay out networks; what they test then runs as an ordinary user."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.skip(reason="lays out network namespaces: run `make lab` as root"))


def pytest_collection_finish() -> None:
    """Leave what all test modules hold out of later collections: the leak check makes two for each lab test, and each
    took 0.15 s over these objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every lab test, this machine must be as it was before it.

    Fixtures of a wider scope than the test belong to "before": pytest makes them first. So does what a fixture of the
    test undoes at its end, because this fixture is the first of the test's own to be made, and the last to end.
    """
    if request.node.get_closest_marker("lab") is None:
        yield
        return
    before = leaks.Snapshot.take()
    yield
    if remains := leaks.wait_until_like(before):
        pytest.fail("left behind by the test:\n" + "\n".join(remains), pytrace=False)


@pytest.fixture(scope="session")
def as_ordinary_user() -> list[str]:
    """The start of a command line that runs the rest without any privilege: as nobody, if the suite is root."""
    if os.geteuid() != 0:
        return []
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]
    return ["setpriv", *user, "env", "HOME=/nonexistent", "USER=nobody", "LOGNAME=nobody"]
