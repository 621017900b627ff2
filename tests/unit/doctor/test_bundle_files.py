"""Folders that somebody else made: nothing outside of them is read, and nothing that blocks is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from network_extension.doctor import bundle_files
from network_extension.doctor.bundle_files import BundleFiles, EntryKind
from network_extension.doctor.errors import UnreadableFile


def test_everything_below_the_root_is_listed(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"12345")
    (tmp_path / "a").write_bytes(b"")
    files = BundleFiles(tmp_path)
    assert list(files.below("")) == ["a", "b", "b/c"]
    assert files.children("b") == ["b/c"] and files.children("none") == []
    assert files.is_folder("") and files.is_folder("b") and files.is_file("b/c")
    assert files.kind("none") is None
    assert files.read("b/c") == b"12345" and files.head("b/c", 2) == b"12"
    assert files.digest("b/c", "sha1").hex() == "8cb2237d0679ca88db6464eac60da96345513964"


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    root = tmp_path / "X.app"
    root.mkdir()
    (root / "file").symlink_to(secret)
    (root / "folder").symlink_to(tmp_path)
    files = BundleFiles(root)
    assert set(files.entries) == {"file", "folder"}
    assert files.entries["file"].kind is EntryKind.LINK and files.entries["file"].target == str(secret)
    for path in ("file", "folder/secret", "../secret"):
        with pytest.raises(UnreadableFile, match="no regular file"):
            files.read(path)


def test_a_file_that_becomes_a_link_meanwhile_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "X.app"
    root.mkdir()
    (root / "file").write_bytes(b"plain")
    files = BundleFiles(root)
    (root / "file").unlink()
    (root / "file").symlink_to(tmp_path / "secret")
    with pytest.raises(UnreadableFile):
        files.read("file")
    (root / "file").unlink()
    os.mkfifo(root / "file")
    with pytest.raises(UnreadableFile, match="no regular file"):
        files.read("file")


def test_pipes_are_listed_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    files = BundleFiles(tmp_path)
    assert files.kind("pipe") is EntryKind.OTHER
    with pytest.raises(UnreadableFile):
        files.read("pipe")


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    with pytest.raises(UnreadableFile, match="11 bytes"):
        BundleFiles(tmp_path).read("a", 10)
    monkeypatch.setattr(bundle_files, "MAX_ENTRIES", 3)
    for name in "bcde":
        (tmp_path / name).mkdir()
    with pytest.raises(UnreadableFile, match="more than 3"):
        BundleFiles(tmp_path)


def test_a_folder_that_is_too_deep_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_files, "MAX_DEPTH", 3)
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    with pytest.raises(UnreadableFile, match="deeper"):
        BundleFiles(tmp_path)


def test_one_file_comes_without_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    files = BundleFiles.of_file(tmp_path / "a")
    assert set(files.entries) == {"a"} and files.read("a") == b"1"
