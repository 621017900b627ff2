"""`netext new`: what it writes passes its own tests, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from network_extension import ConfigurationError
from network_extension.cli.main import main
from network_extension.cli.new import class_name, write
from network_extension.cli.new_templates import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_passes(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", kind, "my_first", "--in", str(tmp_path)]) == 0
    assert "Next: cd" in capsys.readouterr().out
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        words, cwd=tmp_path / "my_first", capture_output=True, text=True, timeout=50, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["", "my-filter", "1st", "a/b", "..", "class", "a b"])
def test_names_that_no_module_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no name for a Python module"):
        write("filter", name, str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "why"), [("socket", "hide the module"), ("pytest", "hide"), ("test_me", "for tests")])
def test_names_that_would_break_its_own_test(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=why):
        write("filter", name, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        write("filter", "mine", str(tmp_path))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["kept"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        write("filter", "mine", str(tmp_path / "nowhere"))


@pytest.mark.parametrize(("name", "expected"), [("my_filter", "MyFilter"), ("x", "X"), ("_", "Provider")])
def test_class_names(name: str, expected: str) -> None:
    assert class_name(name) == expected
