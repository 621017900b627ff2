"""One filter for each network namespace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from network_extension.errors import DatapathError
from network_extension.runtime import host_filter_lock
from network_extension.runtime.host_filter_lock import HostFilterLock


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own."""
    monkeypatch.setattr(host_filter_lock, "FOLDER", str(tmp_path / "netext"))
    return tmp_path / "netext"


def test_a_second_one_names_the_first(folder: Path) -> None:
    lock = HostFilterLock()
    with pytest.raises(DatapathError, match=f"pid {os.getpid()}.*kill {os.getpid()}"):
        HostFilterLock()
    lock.release()
    assert not list(folder.iterdir())
    HostFilterLock().release()


def test_what_killed_ones_left_is_swept(folder: Path) -> None:
    folder.mkdir()
    (folder / "filter-1.lock").write_text("12345")
    (folder / "other").write_text("not ours")
    lock = HostFilterLock()
    assert len(list(folder.iterdir())) == 2
    lock.release()
    assert [path.name for path in folder.iterdir()] == ["other"]


def test_a_folder_that_cannot_be_made(folder: Path) -> None:
    folder.write_text("a file in its place")
    with pytest.raises(DatapathError, match=r"lock: "):
        HostFilterLock()
