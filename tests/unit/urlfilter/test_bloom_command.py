"""`netext urlfilter bloom`, as it is typed."""

from __future__ import annotations

import json
import plistlib
from pathlib import Path

import pytest

from network_extension.cli.urlfilter_bloom import main
from network_extension.errors import ConfigurationError
from network_extension.urlfilter.bloom import BloomHash, Prefilter, read_prefilter
from network_extension.urlfilter.bloom_hashes import bit_indices, hash_pair
from network_extension.urlfilter.storage import StorageError

LIST = "0.0.0.0 ads.example.com\n||blocked.example/path^\n*.refused.example\n"


@pytest.fixture
def block_list(tmp_path: Path) -> Path:
    path = tmp_path / "list.txt"
    path.write_text(LIST)
    return path


@pytest.mark.parametrize("name", ["filter.plist", "filter.json", "filter.bin"])
def test_made_from_a_list_and_read_back_in_each_format(
    block_list: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / name
    assert main([str(block_list), "-o", str(output), "--seed", "7"]) == 0
    prefilter = read_prefilter(output)
    assert prefilter.item_count == 2 and "ads.example.com" in prefilter and "blocked.example/path" in prefilter
    said = capsys.readouterr()
    assert "2 rows" in said.out and prefilter.tag in said.out
    assert "list.txt:3: refused: a wildcard" in said.err


def test_a_chosen_size(block_list: Path, tmp_path: Path) -> None:
    output = tmp_path / "filter.plist"
    assert main([str(block_list), "-o", str(output), "--size", "1K"]) == 0
    assert len(read_prefilter(output).data) == 1024


def test_all_refused_lines_go_to_a_file(block_list: Path, tmp_path: Path) -> None:
    refused = tmp_path / "refused"
    main([str(block_list), "-o", str(tmp_path / "filter.plist"), "--refused", str(refused)])
    assert f"{block_list}:3: a wildcard" in refused.read_text()


def test_inspecting_and_testing(block_list: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "filter.plist")
    main([str(block_list), "-o", output, "--seed", "7"])
    assert main(["inspect", output, "--list", str(block_list), "--json"]) == 0
    said = capsys.readouterr().out
    facts = json.loads(said[said.index("{") :])
    assert facts["murmurSeed"] == 7 and "the whole list is in it" in facts["diagnosis"]
    assert main(["test", output, "https://www.blocked.example/path/deeper"]) == 0
    said = capsys.readouterr().out
    assert "1111111111  blocked.example/path\n" in said and "asks the server" in said
    assert f"h1 {hash_pair(b'blocked.example/path', 7)[0]:#010x}" in said
    assert main(["test", output, "https://other.example/"]) == 1
    assert "nobody is asked" in capsys.readouterr().out


def test_a_filter_of_the_beta_is_named_as_that(
    block_list: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(8)
    for row in (b"ads.example.com", b"blocked.example/path"):
        for index in bit_indices(*hash_pair(row, 7, BloomHash.FNV_1), 10, 64):
            data[index >> 3] |= 1 << (index & 7)
    beta = Prefilter(bytes(data), 64, 10, 7, hash=BloomHash.FNV_1)
    path = tmp_path / "beta.plist"
    path.write_bytes(
        plistlib.dumps({"bitVectorData": beta.data, "numberOfBits": 64, "numberOfHashes": 10, "murmurSeed": 7})
    )
    assert main(["inspect", str(path)]) == 1
    assert "FNV-1; --list" in capsys.readouterr().out
    assert main(["inspect", str(path), "--list", str(block_list)]) == 1
    assert "FNV-1 (multiply, then xor)" in capsys.readouterr().out


def test_an_empty_list_is_said_to_let_everything_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").write_text("")
    assert main([str(tmp_path / "empty"), "-o", str(tmp_path / "filter")]) == 0
    assert "lets every URL through" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--seed", "0"], ["--size", "big"], ["--size", "1K", "--rate", "0.1"]])
def test_options_that_cannot_be_meant(block_list: Path, tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(block_list), "-o", str(tmp_path / "filter"), *option])
    assert ended.value.code == 64


def test_files_that_are_not_there_and_disks_that_are_full(block_list: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        main([str(tmp_path / "missing"), "-o", str(tmp_path / "filter")])
    with pytest.raises(StorageError, match="missing: No such file"):
        main(["inspect", str(tmp_path / "missing")])
    with pytest.raises(StorageError, match=r"No space left.*free some space"):
        main([str(block_list), "-o", str(tmp_path / "filter"), "--refused", "/dev/full"])


def test_what_is_no_url_is_named_with_the_reason(block_list: Path, tmp_path: Path) -> None:
    main([str(block_list), "-o", str(tmp_path / "filter")])
    with pytest.raises(ConfigurationError, match=r"mailto:x@example.com: .*not mailto"):
        main(["test", str(tmp_path / "filter"), "mailto:x@example.com"])
