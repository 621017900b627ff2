from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.doctor.archives.limits import DEFAULT_LIMITS, Budget, Limits
from network_extension.doctor.archives.unpacked_folder import UnpackedFolder
from network_extension.doctor.errors import UnreadableFile

from .archive_bytes import tree


@pytest.fixture
def into(tmp_path: Path) -> UnpackedFolder:
    return made_below(tmp_path)


def made_below(path: Path, limits: Limits = DEFAULT_LIMITS) -> UnpackedFolder:
    (path / "root").mkdir()
    return UnpackedFolder(path / "root", limits, what="bad.zip")


def test_files_folders_and_links_stand_where_their_names_say(into: UnpackedFolder) -> None:
    into.folder("./")
    into.folder("./a//b/")
    into.folder("a/b")
    into.write("./a/b/tool", [b"#!", b"/bin/sh"], executable=True)
    into.write("c/d/text", [])
    into.link("a/link", "b/tool")
    into.copy("c/copy", "./a/b/tool")
    assert tree(into.root) == {
        "a": None,
        "a/b": None,
        "a/b/tool": b"#!/bin/sh",
        "a/link": "b/tool",
        "c": None,
        "c/copy": b"#!/bin/sh",
        "c/d": None,
        "c/d/text": b"",
    }
    assert (into.files, into.refused_links) == (["a/b/tool", "c/d/text", "c/copy"], [])


def test_files_are_executable_or_not_and_nothing_else(into: UnpackedFolder) -> None:
    into.write("tool", [b"x"], executable=True)
    into.write("text", [b"x"])
    into.copy("hard", "tool")
    modes = {name: stat.S_IMODE((into.root / name).stat().st_mode) for name in ("tool", "text", "hard")}
    mask = os.umask(0o077)
    os.umask(mask)
    assert modes == {"tool": 0o755 & ~mask, "text": 0o644 & ~mask, "hard": 0o755 & ~mask}
    assert (into.root / "hard").stat().st_nlink == 1


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "an absolute path"),
        ("../outside", "leads outside"),
        ("a/../../outside", "leads outside"),
        ("a/..", "leads outside"),
        ("a\0b", "NUL"),
        ("a\udcff", "not UTF-8"),
        ("a" * 1025, "a name of 1025 bytes"),
        ("ä" * 513, "a name of 1026 bytes"),
        ("a/" * 64 + "b", "nested deeper than 64"),
        ("a" * 300, "long"),  # the file system's own word
        ("", "whole archive"),
        ("./", "whole archive"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(into: UnpackedFolder, name: str, why: str) -> None:
    writers: list[Callable[[], None]] = [lambda: into.write(name, [b"x"]), lambda: into.link(name, "x")]
    for writer in writers if why != "long" else writers[:1]:
        with pytest.raises(UnreadableFile, match=why) as refused:
            writer()
        assert refused.value.what == "bad.zip" and len(str(refused.value)) < 500 and str(refused.value).isprintable()
    if why not in ("whole archive", "long"):
        with pytest.raises(UnreadableFile, match=why):
            into.folder(name)
    assert [path.name for path in into.root.parent.iterdir()] == ["root"] and tree(into.root) == {}


def test_the_deepest_name_that_is_allowed_is_written(into: UnpackedFolder) -> None:
    into.write("a/" * 63 + "b", [b"x"])
    assert (into.root / ("a/" * 63 + "b")).read_bytes() == b"x"


@pytest.mark.parametrize("first", ["file", "folder", "link", "refused"])
@pytest.mark.parametrize("second", ["file", "link", "below", "folder"])
def test_a_name_comes_once(into: UnpackedFolder, first: str, second: str) -> None:
    def put(kind: str, name: str) -> None:
        if kind == "file":
            into.write(name, [b"x"])
        elif kind == "folder":
            into.folder(name)
        elif kind == "below":
            into.write(f"{name}/more", [b"x"])
        else:
            into.link(name, "../.." if kind == "refused" else "other")

    put(first, "name")
    if first == "folder" and second in ("below", "folder"):
        put(second, "./name")
        return
    before = tree(into.root)
    with pytest.raises(UnreadableFile, match=r"comes twice|leads through the symbolic link 'name'"):
        put(second, "./name")
    assert tree(into.root) == before


@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd",
        "../..",
        "..",
        "a/../../b",
        "../root/a",
        "",
        "x\0y",
        "y" * 2000,
        "//etc",
        "up/../../x",
        "nowhere/..",
    ],
)
def test_links_that_lead_outside_are_not_made(into: UnpackedFolder, target: str) -> None:
    into.folder("a")
    into.write("up/file", [])
    into.link("evil", target)
    ((name, named),) = into.refused_links
    assert name == "evil" and named.isprintable() and len(named) <= 300
    assert not os.path.lexists(into.root / "evil")


def test_links_within_the_folder_are_made(into: UnpackedFolder) -> None:
    into.folder("F.framework/Versions/A/Resources")
    into.link("F.framework/Versions/Current", "A")
    into.link("F.framework/Resources", "Versions/Current/Resources")
    into.link("F.framework/Versions/A/Up", "../../Versions/Current/../A")
    into.link("F.framework/not yet", "later/on")
    into.link("F.framework/root", "../")
    assert into.refused_links == []
    assert (into.root / "F.framework/Resources").resolve() == into.root.resolve() / "F.framework/Versions/A/Resources"


def test_two_links_that_lead_outside_together_are_not_both_made(into: UnpackedFolder) -> None:
    into.folder("a/b/c")
    into.link("a/b/c/up", "../../..")  # the root itself
    into.link("out", "a/b/c/up/..")
    into.link("far", "a/b/c/up/../../etc")
    into.link("a/deep", "b/c/up/a/b/../../..")
    assert [name for name, _ in into.refused_links] == ["out", "far", "a/deep"]


def test_a_link_that_comes_later_cannot_turn_an_earlier_one_outside(into: UnpackedFolder) -> None:
    into.folder("p/q")
    into.link("p/q/first", "x/../../../harmless")  # by its letters within the root
    into.link("p/q/x", "../..")  # as well; with both, `first` would lead to the folder above
    assert into.refused_links == [("p/q/first", "x/../../../harmless")]


def test_links_that_lead_to_themselves_are_not_made(into: UnpackedFolder) -> None:
    into.link("a", "b/more")
    into.link("b", "./a")
    into.link("itself", "itself//x")
    assert [name for name, _ in into.refused_links] == ["b", "itself"]


names = st.lists(st.sampled_from(["a", "b", "c", "..", ".", ""]), min_size=1, max_size=5).map("/".join)


@settings(max_examples=300, deadline=None)
@given(links=st.lists(st.tuples(names, names), max_size=8))
def test_no_set_of_links_leads_outside(links: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    into = made_below(tmp_path_factory.mktemp("links"))
    for name, target in links:
        try:
            into.link(name, target)
        except UnreadableFile:
            pass
    root = into.root.resolve()
    for path in root.rglob("*"):
        try:
            path.stat()
        except OSError as error:
            if error.errno == errno.ELOOP:  # in a circle, which the system does not follow, and `resolve` not well
                continue
        assert path.resolve().is_relative_to(root), links


def test_a_hard_link_is_to_a_file_that_was_written(into: UnpackedFolder) -> None:
    into.write("file", [b"x"])
    into.link("link", "file")
    for other in ("link", "nothing", "../x", "/etc/passwd", "."):
        with pytest.raises(UnreadableFile):
            into.copy("copy", other)
    with pytest.raises(UnreadableFile, match="comes twice"):
        into.copy("link", "file")


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(entries=4), "more than 4 files"),
        (Limits(file=99), "'e': more than 99 bytes"),
        (Limits(total=250), "more than 250 bytes"),
    ],
)
def test_what_is_too_much_is_refused(tmp_path: Path, limits: Limits, why: str) -> None:
    into = made_below(tmp_path, limits)
    into.write("a/b", [b"x" * 80])
    into.write("c", [b"x" * 80])
    with pytest.raises(UnreadableFile, match=why):
        into.write("d", [b"x" * 80])
        into.write("e", [b"x" * 50] * 2)
    assert sum(len(found or b"") for found in tree(into.root).values()) <= 300


def test_the_ratio_holds_over_all_archives_of_one_budget(tmp_path: Path) -> None:
    limits = Limits(ratio=2, allowance=10)
    budget = Budget(limits, 100)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    UnpackedFolder(tmp_path / "one", limits, budget=budget).write("a", [b"x" * 200])
    with pytest.raises(UnreadableFile, match="more than 210 bytes"):
        UnpackedFolder(tmp_path / "two", limits, budget=budget).write("a", [b"x" * 11])


def test_attributes_that_macos_keeps_as_files_are_left_out(into: UnpackedFolder) -> None:
    double = b"\x00\x05\x16\x07" + bytes(60)
    into.write("a/._Info.plist", [double[:1], double[1:3], double[3:]])
    into.write("._not one", [b"text"])
    into.write("._short", [b"\x00"])
    into.folder("__MACOSX/")
    into.write("__MACOSX/a/Info.plist", [double])
    into.link("__MACOSX/link", "/etc")
    assert tree(into.root) == {"._not one": b"text", "._short": b"\x00"}
    assert len(into.left_out) == 2 and "AppleDouble" in into.left_out[0]


def test_the_file_system_s_own_refusal_is_told(into: UnpackedFolder) -> None:
    into.root.rmdir()
    with pytest.raises(UnreadableFile, match="No such file"):
        into.write("file", [b"x"])
