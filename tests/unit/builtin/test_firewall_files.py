"""Files that are replaced in one step, and files that are watched."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from network_extension.builtin.firewall.list_cache import signature_of
from network_extension.builtin.firewall.toml_text import replace_file
from network_extension.builtin.firewall.watching import Watch


class TestReplacing:
    """The old content or the new, never half."""

    def test_a_new_file_is_ours_alone(self, tmp_path: Path) -> None:
        replace_file(str(tmp_path / "new"), b"content")
        assert (tmp_path / "new").read_bytes() == b"content"
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600

    def test_the_mode_stays(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("old")
        os.chmod(tmp_path / "old", 0o644)
        replace_file(str(tmp_path / "old"), b"new")
        assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o644

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
    def test_the_owner_stays(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("old")
        os.chown(tmp_path / "old", 1234, 1234)
        replace_file(str(tmp_path / "old"), b"new")
        assert (tmp_path / "old").stat().st_uid == 1234

    def test_a_symbolic_link_stays_one(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("old")
        (tmp_path / "link").symlink_to("file")
        replace_file(str(tmp_path / "link"), b"new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "file").read_bytes() == b"new"

    def test_nothing_is_left_of_what_fails(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(OSError):
            replace_file(str(tmp_path / "folder"), b"new")
        assert os.listdir(tmp_path) == ["folder"]


class TestWatching:
    """A change counts when two looks agree."""

    def watch(self, path: Path) -> Watch:
        watch = Watch()
        watch.start({str(path): signature_of(str(path))})
        return watch

    def test_a_file_that_stays_is_no_change(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("a")
        watch = self.watch(tmp_path / "file")
        assert not any(watch.has_changed() for _ in range(3))

    def test_a_file_that_still_grows_is_waited_for(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        watch = self.watch(tmp_path / "file")
        for length in range(1, 5):
            (tmp_path / "file").write_text("x" * length)
            assert not watch.has_changed()
        assert watch.has_changed()

    def test_another_file_of_the_same_name_and_size_and_time_is_a_change(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("a")
        watch = self.watch(tmp_path / "file")
        (tmp_path / "new").write_text("b")
        before = (tmp_path / "file").stat()
        os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
        (tmp_path / "new").rename(tmp_path / "file")
        assert [watch.has_changed() for _ in range(2)] == [False, True]

    def test_a_file_that_comes_or_goes_is_a_change(self, tmp_path: Path) -> None:
        watch = self.watch(tmp_path / "file")
        (tmp_path / "file").write_text("a")
        assert [watch.has_changed() for _ in range(2)] == [False, True]
        watch = self.watch(tmp_path / "file")
        (tmp_path / "file").unlink()
        assert [watch.has_changed() for _ in range(2)] == [False, True]

    def test_what_comes_back_in_time_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("a")
        watch = self.watch(tmp_path / "file")
        (tmp_path / "file").rename(tmp_path / "away")
        assert not watch.has_changed()
        (tmp_path / "away").rename(tmp_path / "file")
        assert [watch.has_changed() for _ in range(2)] == [False, False]
