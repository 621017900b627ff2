"""Block lists of all kinds, and what becomes of each line; lists that are no lists."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.urlfilter import block_list, block_list_lines
from network_extension.urlfilter.block_list import ListError, Refusal, compile_list
from network_extension.urlfilter.block_list_kernels import scan_lines
from network_extension.urlfilter.block_list_lines import PathCase, read_line
from network_extension.urlfilter.url_forms import SYSTEMS, candidates, row_of

Write = Callable[[bytes | str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_list(content: bytes | str) -> Path:
        path = tmp_path / f"list{len(list(tmp_path.iterdir()))}.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_list


def rows_of(*paths: Path, case: PathCase = PathCase.BOTH) -> list[str]:
    with compile_list(paths, case=case) as compiled:
        rows = list(compiled.rows())
        assert compiled.row_count == len(rows) == len(set(rows))
        return sorted(rows)


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("ads.example.com", ("ads.example.com",)),
        ("  Ads.Example.COM.  ", ("ads.example.com",)),
        (".ads.example.com", ("ads.example.com",)),
        ("ads.example.com # why", ("ads.example.com",)),
        ("0.0.0.0 ads.example.com", ("ads.example.com",)),
        ("127.0.0.1\tads.example.com other.example.net # both", ("ads.example.com", "other.example.net")),
        ("::1 localhost ip6-localhost", ()),
        ("127.0.0.1 localhost.localdomain", ()),
        (":: ads.example.com", ("ads.example.com",)),
        ("||ads.example.com^", ("ads.example.com",)),
        ("||www.ads.example.com^$all", ("ads.example.com",)),
        ("||ads.example.com", ("ads.example.com",)),
        ("||example.com/ads/", ("example.com/ads",)),
        ("||example.com/ads^$important", ("example.com/ads",)),
        ("|https://example.com/ads", ("example.com/ads",)),
        ("https://www.example.com/a/b/?id=1#f", ("example.com/a/b?id=1#f",)),
        ("http://example.com:8080/", ("example.com:8080",)),
        ("example.com/Path", ("example.com/Path", "example.com/path")),
        ("https://example.com/watch?v=a^b", ("example.com/watch?v=a^b",)),
        ("bücher.example", ("xn--bcher-kva.example",)),
        ("192.0.2.7", ("192.0.2.7",)),
        ("http://[2001:db8::1]/x", ("[2001:db8::1]/x",)),
        ("# a comment", ()),
        ("## headline", ()),
        ("#### ----", ()),
        ("#====", ()),
        ("#@author", ()),
        ("! Title: list", ()),
        ("[Adblock Plus 2.0]", ()),
        ("", ()),
    ],
)
def test_lines_that_are_understood(line: str, rows: tuple[str, ...]) -> None:
    read = read_line(line.encode())
    assert (read.rows, read.refused, read.exceptions) == (rows, "", ())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("*.example.com", block_list_lines.WILDCARD),
        ("||example.*^", block_list_lines.WILDCARD),
        ("||example.com^*/ads", block_list_lines.WILDCARD),
        ("||example.com^ads", block_list_lines.WILDCARD),
        ("example.com##.banner", block_list_lines.COSMETIC),
        ("##.banner", block_list_lines.COSMETIC),
        ("example.com#@#.banner", block_list_lines.COSMETIC),
        ("example.com#?#div:has(> .ad)", block_list_lines.COSMETIC),
        (r"/ads\d+\.js/", block_list_lines.EXPRESSION),
        ("/banner/ads", block_list_lines.ANYWHERE),
        ("&ad_box=", block_list_lines.ANYWHERE),
        ("-banner-ads.", block_list_lines.ANYWHERE),
        ("@@ads.js", block_list_lines.ANYWHERE),
        ("|example.com", block_list_lines.ANYWHERE),
        ("||example.com/ads|", block_list_lines.END_ANCHOR),
        ("||example.com^$third-party", "the option third-party: the filter knows a URL only, not what asked for it"),
        (
            "||example.com^$all,domain=a|b",
            "the option domain: the filter knows a URL only, not what asked for it",
        ),
        ("com", block_list_lines.SINGLE_LABEL),
        ("0.0.0.0 com", block_list_lines.SINGLE_LABEL),
        ("192.168.1.5 printer.example.com", block_list_lines.MAPPING),
        ("two words", "there is a space in it, and no address before that"),
        ("ftp://example.com/", "the filter sees http, https, ws and wss, not ftp"),
        ("exam!ple.com", "its host has a character that no host name has, or a hyphen at an end of a label"),
        ("a\x07b.example", block_list_lines.CONTROL),
    ],
)
def test_lines_that_the_filter_cannot_express_are_refused_with_the_reason(line: str, reason: str) -> None:
    read = read_line(line.encode())
    assert (read.refused, read.rows) == (reason, ())


def test_paths_with_capitals_become_what_the_devices_test() -> None:
    line = b"example.com/Path"
    assert read_line(line, PathCase.KEEP).rows == ("example.com/Path",)
    assert read_line(line, PathCase.LOWER).rows == ("example.com/path",)
    for system in SYSTEMS:
        assert set(read_line(line).rows) & set(candidates("https://www.example.com/Path", system))


def test_equal_rows_from_several_lists_are_there_once(write: Write) -> None:
    hosts = write("0.0.0.0 ads.example.com\n0.0.0.0 www.ads.example.com\n")
    adblock = write("||ads.example.com^\n||b.example.com^\n")
    urls = write("https://ads.example.com/\nHTTP://ADS.example.com\n")
    with compile_list([hosts, adblock, urls]) as compiled:
        assert sorted(compiled.rows()) == ["ads.example.com", "b.example.com"]
        assert (compiled.line_count, compiled.duplicate_count) == (6, 4)


def test_refused_lines_are_reported_with_list_line_and_reason(write: Write) -> None:
    path = write(b"good.example\n\n*.bad.example\n# comment\n\xff\xfe.example\nlast##.ad")
    told: list[Refusal] = []
    with compile_list([path], on_refusal=told.append) as compiled:
        assert list(compiled.rows()) == ["good.example"]
        assert compiled.refusals == told
        assert [(each.line, each.reason) for each in told] == [
            (3, block_list_lines.WILDCARD),
            (5, block_list_lines.NOT_UTF_8),
            (6, block_list_lines.COSMETIC),
        ]
        assert told[1].text == "\\xff\\xfe.example" and told[0].path == str(path)
        assert compiled.refused[block_list_lines.WILDCARD] == 1


def test_refusals_without_end_are_counted_and_not_kept(write: Write) -> None:
    path = write("*.example\n" * 5000)
    with compile_list([path]) as compiled:
        assert len(compiled.refusals) == block_list.KEPT_REFUSALS
        assert compiled.refused.total() == 5000


def test_an_exception_leaves_out_its_row_and_all_beneath(write: Write) -> None:
    path = write(
        "||a.example.com^\n||sub.a.example.com/x^\n||b.example.com/ads/x^\n||b.example.com/other\n"
        "@@||a.example.com^\n@@||b.example.com/ads^\n"
    )
    with compile_list([path]) as compiled:
        assert list(compiled.rows()) == ["b.example.com/other"]
        assert not compiled.refusals


def test_an_exception_from_a_rule_above_is_refused(write: Write) -> None:
    path = write("||example.com^\n||sub.good.example.com^\n@@||good.example.com^\n@@||example.org^$third-party\n")
    with compile_list([path]) as compiled:
        assert list(compiled.rows()) == ["example.com"]
        exception, option = sorted(compiled.refusals, key=lambda refusal: refusal.line)
        assert exception.line == 3 and "only block" in exception.reason and "beneath example.com" in exception.text
        assert option.line == 4 and "third-party" in option.reason


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (gzip.compress(b"example.com\n"), "gzip"),
        (b"PK\x03\x04xx", "zip"),
        ("example.com\n".encode("utf-16"), "UTF-16"),
        (b"\x7fELF\0\0\0", "binary"),
    ],
)
def test_files_that_are_no_text_are_refused_whole(write: Write, content: bytes, named: str) -> None:
    with pytest.raises(ListError, match=named):
        compile_list([write(content)])


@pytest.mark.parametrize("content", ["", "\n\n", "# only this", "\ufeff"])
def test_empty_lists_give_no_rows(write: Write, content: str) -> None:
    assert rows_of(write(content)) == []


def test_a_byte_order_mark_carriage_returns_and_a_missing_last_newline(write: Write) -> None:
    assert rows_of(write("\ufeffa.example\r\nb.example\r\nc.example")) == ["a.example", "b.example", "c.example"]


def test_a_line_without_end_is_refused_and_not_held(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_list, "_BLOCK", 4096)
    path = write("a.example\n" + "x" * 100_000 + "\nb.example\n" + "y" * 100_000)
    with compile_list([path]) as compiled:
        assert sorted(compiled.rows()) == ["a.example", "b.example"]
        assert [(refusal.line, refusal.reason) for refusal in compiled.refusals] == [
            (2, block_list_lines.TOO_LONG),
            (4, block_list_lines.TOO_LONG),
        ]


def test_a_list_larger_than_memory_goes_through_many_files(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_list, "_BLOCK", 1024)
    monkeypatch.setattr(block_list, "_PART_BYTES", 2048)
    lines = [f"0.0.0.0 host{number % 1500}.example" for number in range(3000)]
    assert rows_of(write("\n".join(lines))) == sorted(f"host{number}.example" for number in range(1500))


def test_a_list_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        compile_list([tmp_path / "missing"])


HOST = st.from_regex(r"[a-z0-9_-]{1,6}(\.[a-z0-9_-]{1,6}){0,3}", fullmatch=True)
REST = st.sampled_from(["", "/", "/a", "/a/b", "/a//b", "/../a", "/a.js", "/.a", "/A", "?q", "#f", ":80", "^", "/a~-_"])
LEAD = st.sampled_from(["", "0.0.0.0 ", "127.0.0.1\t", "||", "https://", "http://", "www.", " ", "xn--", "@@||", "# "])
TRAIL = st.sampled_from(["", "^", " ", "\r", " # c", "^$all", "."])
LINE = st.builds(lambda lead, host, rest, trail: lead + host + rest + trail, LEAD, HOST, REST, TRAIL)


@given(st.lists(LINE | st.text("abc.|^/#! ", max_size=12), max_size=20))
def test_the_quick_way_says_what_the_thorough_one_says(lines: list[str]) -> None:
    block = "".join(f"{line}\n" for line in lines).encode()
    starts, ends, _, _, slow_numbers = scan_lines(np.frombuffer(block, np.uint8), len(lines))
    quick_rows = [block[start:end].decode() for start, end in zip(starts, ends, strict=True)]
    is_slow = set(slow_numbers.tolist())
    thorough = [read_line(line.encode()) for number, line in enumerate(lines) if number not in is_slow]
    assert quick_rows == [row for line in thorough for row in line.rows]
    assert not any(line.refused or line.exceptions for line in thorough)


def test_the_quick_way_takes_what_most_lists_are_made_of() -> None:
    block = b"a.example\n0.0.0.0 a.example\n||a.example^\nhttps://a.example/b/c\n# x\n\n"
    assert len(scan_lines(np.frombuffer(block, np.uint8), 6)[0]) == 4
    assert len(scan_lines(np.frombuffer(block, np.uint8), 6)[2]) == 0


@given(st.binary(max_size=80))
def test_fuzz_any_line_is_read_or_refused(data: bytes) -> None:
    for prefix in (b"", b"||", b"@@||", b"0.0.0.0 ", b"https://", b"a.example/"):
        line = read_line(prefix + data)
        for row in line.rows + line.exceptions:
            assert row_of(row) == row
            assert row.isascii() and "\n" not in row
