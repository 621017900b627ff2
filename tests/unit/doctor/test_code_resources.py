"""The seal: what it names, what it leaves out, and what is said of files that are not as it has them."""

from __future__ import annotations

import hashlib
import plistlib
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.code_resources import SealFault, SealState, read_code_resources
from network_extension.doctor.errors import UnreadableFile

from .corpus import EXTENSION, VERSIONS, app
from .damage import damaged

RULES: dict[str, Any] = {
    "^.*": True,
    r"^Info\.plist$": {"omit": True, "weight": 20.0},
    "^Frameworks/": {"nested": True, "weight": 10.0},
    r"^Resources/.*\.lproj/": {"optional": True, "weight": 1000.0},
    r"^Resources/Base\.lproj/": {"weight": 1010.0},
}


def seal(files: dict[str, Any], rules: dict[str, Any] = RULES) -> bytes:
    return plistlib.dumps({"files": {}, "files2": files, "rules": {}, "rules2": rules})


def entry(data: bytes, **more: Any) -> dict[str, Any]:
    return {"hash2": hashlib.sha256(data).digest(), **more}


@pytest.fixture
def contents(tmp_path: Path) -> Path:
    folder = tmp_path / "X.app" / "Contents"
    for name in ("MacOS/X", "Info.plist", "Resources/a.txt", "_CodeSignature/CodeResources", "CodeResources"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def faults(contents: Path, data: bytes) -> list[SealFault]:
    files = BundleFiles(contents.parent.parent)
    return read_code_resources(data).faults(files, "X.app/Contents", "X.app/Contents/MacOS/X")


GOOD = {"Resources/a.txt": entry(b"Resources/a.txt")}


@pytest.mark.parametrize("version", VERSIONS)
def test_real_seals_hold(version: str) -> None:
    files = BundleFiles(app(version))
    for folder in ("Contents", f"{EXTENSION.as_posix()}/Contents"):
        found = read_code_resources(files.read(f"{folder}/_CodeSignature/CodeResources"))
        assert found.generation == 2
        assert found.faults(files, folder, files.children(f"{folder}/MacOS")[0]) == []


def test_what_belongs_is_let_through(contents: Path) -> None:
    assert faults(contents, seal(GOOD)) == []


def test_changed_missing_and_added_files_are_named(contents: Path) -> None:
    (contents / "Resources" / "a.txt").write_bytes(b"other")
    (contents / "new.txt").write_bytes(b"")
    sealed = {**GOOD, "Resources/gone.txt": entry(b"")}
    assert faults(contents, seal(sealed)) == [
        SealFault("Resources/a.txt", SealState.CHANGED),
        SealFault("Resources/gone.txt", SealState.MISSING),
        SealFault("new.txt", SealState.ADDED),
    ]


def test_optional_files_may_be_missing_but_not_changed(contents: Path) -> None:
    sealed = {**GOOD, "Resources/de.lproj/a.strings": entry(b"", optional=True)}
    assert faults(contents, seal(sealed)) == []
    (contents / "Resources" / "de.lproj").mkdir()
    (contents / "Resources" / "de.lproj" / "a.strings").write_bytes(b"changed")
    assert [fault.state for fault in faults(contents, seal(sealed))] == [SealState.CHANGED]


def test_links_are_compared_by_what_they_name_and_never_followed(contents: Path) -> None:
    (contents / "Resources" / "link").symlink_to("a.txt")
    assert faults(contents, seal({**GOOD, "Resources/link": {"symlink": "a.txt"}})) == []
    found = faults(contents, seal({**GOOD, "Resources/link": {"symlink": "b.txt"}}))
    assert found == [SealFault("Resources/link", SealState.CHANGED)]
    # A file that has become a link to itself's old content elsewhere.
    outside = contents.parent.parent / "outside"
    outside.write_bytes(b"Resources/a.txt")
    (contents / "Resources" / "a.txt").unlink()
    (contents / "Resources" / "a.txt").symlink_to(outside)
    assert SealFault("Resources/a.txt", SealState.CHANGED) in faults(contents, seal(GOOD))


def test_new_nested_code_is_added_as_a_whole(contents: Path) -> None:
    (contents / "Frameworks" / "New.framework" / "Versions").mkdir(parents=True)
    (contents / "Frameworks" / "New.framework" / "Versions" / "a").write_bytes(b"")
    assert faults(contents, seal(GOOD)) == [SealFault("Frameworks/New.framework", SealState.ADDED)]


def test_nested_code_is_not_looked_into(contents: Path) -> None:
    (contents / "Frameworks" / "A.framework").mkdir(parents=True)
    (contents / "Frameworks" / "A.framework" / "any").write_bytes(b"")
    sealed = {**GOOD, "Frameworks/A.framework": {"cdhash": bytes(20), "requirement": "always"}}
    assert faults(contents, seal(sealed)) == []
    found = read_code_resources(seal(sealed)).nested
    assert found["Frameworks/A.framework"].requirement == "always"


def test_the_heaviest_rule_counts() -> None:
    found = read_code_resources(seal({}))
    weights = {
        path: rule.weight for path in ("a", "Info.plist", "Resources/de.lproj/x") if (rule := found.rule_for(path))
    }
    assert weights == {"a": 1.0, "Info.plist": 20.0, "Resources/de.lproj/x": 1000.0}


def test_names_with_accents_are_one_in_both_forms(contents: Path) -> None:
    (contents / "Resources" / "u\u0308.txt").write_bytes(b"x")
    assert faults(contents, seal({**GOOD, "Resources/\u00fc.txt": entry(b"x")})) == []


def test_the_first_generation_counts_where_there_is_no_second(contents: Path) -> None:
    value = hashlib.sha1(b"Resources/a.txt").digest()
    old = plistlib.dumps({"files": {"Resources/a.txt": value}, "rules": {"^Resources/": True}})
    assert faults(contents, old) == []
    (contents / "Resources" / "a.txt").write_bytes(b"other")
    assert faults(contents, old) == [SealFault("Resources/a.txt", SealState.CHANGED)]


def test_an_expression_that_would_hold_others_up_takes_no_time(contents: Path) -> None:
    (contents / ("a" * 200)).write_bytes(b"")
    started = time.monotonic()
    faults(contents, seal(GOOD, {"^(a+)+$": True, "^(a|a)*b$": True, "(.*)*x": True}))
    assert time.monotonic() - started < 2


def test_many_folders_against_many_entries_cost_no_square(contents: Path) -> None:
    for number in range(1500):
        (contents / "Frameworks" / f"{number}.framework").mkdir(parents=True)
        (contents / "Frameworks" / f"{number}.framework" / "x").write_bytes(b"")
    sealed = {f"Gone/{number}/{number}": entry(b"") for number in range(60_000)}
    started = time.monotonic()
    found = faults(contents, seal({**GOOD, **sealed}))
    assert len(found) == 61_500 and time.monotonic() - started < 8


@pytest.mark.parametrize(
    "data",
    [
        b"",
        plistlib.dumps({}),
        plistlib.dumps({"files2": {}, "rules2": []}),
        seal({"a": 1}),
        seal({"a": {"hash2": b"short"}}),
        seal({"a": {}}),
        seal({}, {"^": "yes"}),
        seal({}, {"^": {"weight": "heavy"}}),
        seal({}, {"x" * 2000: True}),
        seal({}, {f"^{number}": True for number in range(300)}),
        seal({"a/" * 3000: {"hash2": bytes(32)}}),
    ],
)
def test_what_is_no_seal_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableFile):
        read_code_resources(data)


def test_a_rule_that_is_no_expression_is_refused(contents: Path) -> None:
    with pytest.raises(UnreadableFile, match="expression"):
        faults(contents, seal({}, {"(": True}))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_the_bytes_are_one_error_comes(data: st.DataObject) -> None:
    files = BundleFiles(app("0.11.5"))
    raw = data.draw(st.binary(max_size=100) | damaged(files.read("Contents/_CodeSignature/CodeResources")))
    try:
        read_code_resources(raw).faults(files, "Contents", "Contents/MacOS/Mitmproxy Redirector")
    except UnreadableFile:
        return
