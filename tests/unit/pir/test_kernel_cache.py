"""A user who may write nowhere gets a folder for compiled kernels that nobody else may write to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from network_extension.pir.he import kernel_cache
from network_extension.pir.he.kernel_cache import folder_for_kernels

NAME = "NUMBA_CACHE_DIR"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "")  # so that it is put back afterwards
    monkeypatch.delenv(NAME)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache, "_may_write", lambda folder: False)


def test_who_may_write_to_the_package_needs_none(tmp_path: Path) -> None:
    assert folder_for_kernels(tmp_path) is None


def test_one_that_is_named_is_kept(monkeypatch: pytest.MonkeyPatch, nowhere: None, tmp_path: Path) -> None:
    monkeypatch.setenv(NAME, "/elsewhere")
    assert folder_for_kernels(temporary=str(tmp_path)) is None


def test_a_folder_of_ones_own_which_is_found_again(nowhere: None, tmp_path: Path) -> None:
    first = folder_for_kernels(temporary=str(tmp_path))
    assert first is not None
    assert stat.S_IMODE(os.stat(first).st_mode) == 0o700 and Path(first).parent == tmp_path
    assert folder_for_kernels(temporary=str(tmp_path)) == first


@pytest.mark.parametrize("kind", ["a link", "open to others"])
def test_one_that_somebody_else_may_have_made_is_not_used(nowhere: None, tmp_path: Path, kind: str) -> None:
    taken = tmp_path / f"netext-kernels-{os.geteuid()}"
    if kind == "a link":
        taken.symlink_to(tmp_path)
    else:
        taken.mkdir()
        taken.chmod(0o777)
    assert folder_for_kernels(temporary=str(tmp_path)) not in (None, str(taken))
