"""Files that are there whole or not at all, whoever else writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from network_extension.pir.errors import DatabaseError
from network_extension.pir.replacing import replacing


def test_two_writers_of_one_process_each_write_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as first:
        first.write(b"first" * 1000)
        first.flush()
        with replacing(path) as second:
            second.write(b"second" * 1000)
        assert path.read_bytes() == b"second" * 1000
        first.write(b"first")
        first.flush()
        assert path.read_bytes() == b"second" * 1000
    assert path.read_bytes() == b"first" * 1001
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_whatever_ends_the_block_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(DatabaseError, match="No such file or directory; nothing was changed"),
        replacing(tmp_path / "none" / "file"),
    ):
        pass
